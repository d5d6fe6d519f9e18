"""`kinrec call` as a process, against a real server."""

import json
import os
import signal
import subprocess
import sys

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kinrec.v1 import recommender_pb2 as pb

from .conftest import Refusal, rich_details

REASON = pb.Reason(
    sources=[
        pb.SourceShare(source=pb.SOURCE_SEQUENCE, share=0.75),
        pb.SourceShare(source=pb.SOURCE_SIMILAR_USERS, share=0.25),
    ],
    voter_count=7,
    voters=[pb.Voter(pseudonym="3f2a", similarity=0.5), pb.Voter(pseudonym="77", similarity=0.25)],
    own_items=[pb.OwnItem(item_id="i3", share=1)],
)
RECOMMENDED = pb.RecommendResponse(
    recommendations=[
        pb.Recommendation(item_id="i9", score=0.75, title="Grüner Tee"),
        pb.Recommendation(item_id="item-with-a-long-id", score=0.5, title="\x1b[31mRed\nTea"),
    ],
    basis=pb.BASIS_PERSONAL,
    model_version="v1",
    known_user=True,
    event_report=pb.EventReport(received=2, used=1, unknown_item=1),
)


@pytest.fixture
def call(server):
    """Run `kinrec call` against the server to its end."""

    def run(*arguments, target=server.address, stdin="", **environment):
        return subprocess.run(
            [sys.executable, "-m", "kinrec.cli", "call", *arguments, "--target", target],
            capture_output=True,
            input=stdin,
            encoding="utf-8",
            timeout=60,
            check=False,
            env={**os.environ, **environment},
        )

    return run


def sent(server, kind):
    """The one request that the server got."""
    ((_, data),) = server.calls
    return kind.FromString(data)


def failed(done, code):
    """The one line on standard error with which a call failed."""
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    return line


def test_recommend_as_a_table(server, call):
    """Items stand in aligned columns, without what would colour the terminal, above a summary."""
    server.script = [RECOMMENDED]
    done = call("recommend", "--user", "u42", PYTHONUTF8="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "   item                 score   title",
        "1  i9                   0.7500  Grüner Tee",
        "2  item-with-a-long-id  0.5000  \ufffd[31mRed\ufffdTea",
        "",
        "model v1; known user; basis personal; events: 2 received, 1 used, 1 unknown item",
    ]


def test_a_terminal_that_cannot_show_a_title(server, call):
    """A title outside of the terminal's character set is escaped, not an error."""
    server.script = [RECOMMENDED]
    done = call("recommend", "--user", "u42", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Gr\\xfcner Tee" in done.stdout


def test_recommend_sends_every_argument(server, call):
    """Each argument arrives in its field; events of the file come before those typed."""
    server.script = [RECOMMENDED]
    lines = (
        '{"item_id": "a:b", "event_type": "view", "timestamp": 1.5, "value": 2, "user_id": "u"}\n'
        '\n{"item_id": "c", "event_type": null, "timestamp": "2026-01-01T00:00:00Z"}\n'
    )
    done = call(
        *("recommend", "--user", "u42", "--limit", "3", "--include-seen", "--exclude", "x", "y"),
        *("--exclude", "z", "--events", "-"),
        *("--event", "i7", "--event", "i8:buy", "--event", "i9::2026-01-01T01:00:00+01:00"),
        stdin=lines,
    )
    assert done.returncode == 0, done.stderr
    new_year = Timestamp(seconds=1_767_225_600)
    assert sent(server, pb.RecommendRequest) == pb.RecommendRequest(
        user_id="u42",
        events=[
            pb.Event(
                item_id="a:b",
                event_type="view",
                time=Timestamp(seconds=1, nanos=500_000_000),
                value=2,
            ),
            pb.Event(item_id="c", time=new_year),
            pb.Event(item_id="i7"),
            pb.Event(item_id="i8", event_type="buy"),
            pb.Event(item_id="i9", time=new_year),
        ],
        limit=3,
        include_seen=True,
        exclude_item_ids=["x", "y", "z"],
    )


def test_recommend_as_json(server, call):
    """With --json there is one line with the fields of the result."""
    server.script = [RECOMMENDED]
    done = call("recommend", "--user", "u42", "--json")
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    first = {"item_id": "i9", "score": 0.75, "title": "Grüner Tee", "reason": None}
    assert answer["recommendations"][0] == first
    assert (answer["basis"], answer["known_user"]) == ("personal", True)
    assert answer["event_report"]["unknown_item"] == 1


def test_reasons_stand_below_each_item(server, call):
    """What is known of a reason is told in indented lines; how many items were allowed, in the summary."""
    items = [
        pb.Recommendation(item_id="i9", score=0.75, title="Tea", reason=REASON),
        pb.Recommendation(item_id="i8", score=0.5, reason=pb.Reason()),
    ]
    server.script = [
        pb.RecommendResponse(recommendations=items, allowed_item_count=2, variant="control")
    ]
    done = call("recommend", "--user", "u42", "--reasons", "--allow", "i8", "i9")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:6] == [
        "   item  score   title",
        "1  i9    0.7500  Tea",
        "     sequence 75%, similar users 25%",
        "     own items: i3 100%",
        "     7 similar users: 3f2a 0.50, 77 0.25",
        "2  i8    0.5000",
    ]
    assert "; 2 items allowed; variant control; " in done.stdout
    request = sent(server, pb.RecommendRequest)
    assert request == pb.RecommendRequest(user_id="u42", reasons=True, allow_item_ids=["i8", "i9"])


def test_reasons_as_json(server, call):
    """JSON has all of a reason by name."""
    item = pb.Recommendation(item_id="i9", reason=REASON)
    server.script = [pb.RecommendResponse(recommendations=[item])]
    answer = json.loads(call("recommend", "--user", "u", "--reasons", "--json").stdout)
    reason = answer["recommendations"][0]["reason"]
    assert reason["sources"][1] == {"source": "similar users", "share": 0.25}
    assert reason["voters"][0] == {"pseudonym": "3f2a", "similarity": 0.5}


def test_the_next_page_is_told(server, call):
    """The token is shown as it has to be typed, and sent."""
    answer = pb.RecommendResponse()
    answer.next_page_token = "abc"  # noqa: S105 - no secret
    server.script = [answer]
    done = call("recommend", "--user", "u", "--page-token", "xyz")
    assert done.stdout.splitlines()[-1] == "more: --page-token abc"
    assert sent(server, pb.RecommendRequest).page_token == "xyz"  # noqa: S105 - no secret


def test_recommend_sends_every_option(server, call):
    """Conditions of all kinds, in the order typed, and all that is asked for beside them."""
    server.script = [RECOMMENDED]
    done = call(
        *("recommend", "--user", "u", "--where", "genre=war,drama", "--where-all", "a=x"),
        *("--where-not", 'genre=["War, civil", "b=c"]', "--min", "price=2", "--max", "price=9.5"),
        *("--after", "since=2026-01-01T00:00:00Z", "--before", "since=1767225601.5"),
        *("--min-score", "0.5", "--diversity", "0.25", "--cap", "genre=2"),
        *("--search-effort", "3", "--exact"),
    )
    assert done.returncode == 0, done.stderr
    start, end = Timestamp(seconds=1_767_225_600), Timestamp(seconds=1_767_225_601)
    end.nanos = 500_000_000
    assert sent(server, pb.RecommendRequest) == pb.RecommendRequest(
        user_id="u",
        conditions=[
            pb.Condition(attribute="genre", any_of=pb.TextValues(values=["war", "drama"])),
            pb.Condition(attribute="a", all_of=pb.TextValues(values=["x"])),
            pb.Condition(attribute="genre", none_of=pb.TextValues(values=["War, civil", "b=c"])),
            pb.Condition(attribute="price", number_range=pb.NumberRange(min=2)),
            pb.Condition(attribute="price", number_range=pb.NumberRange(max=9.5)),
            pb.Condition(attribute="since", time_range=pb.TimeRange(start=start)),
            pb.Condition(attribute="since", time_range=pb.TimeRange(end=end)),
        ],
        min_score=0.5,
        diversity=0.25,
        category_cap=pb.CategoryCap(attribute="genre", limit=2),
        search_effort=3,
        exact=True,
    )


def test_rank(server, call):
    """The items come in order, with those that the model does not know below."""
    items = [pb.Recommendation(item_id="i2", score=1, reason=REASON)]
    server.script = [pb.RankResponse(recommendations=items, unknown_item_ids=["x", "y"])]
    done = call("rank", "i1", "i2", "--user", "u", "--event", "i7", "--reasons")
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["1", "i2", "1.0000"]
    assert lines[2] == "     sequence 75%, similar users 25%"
    assert "unknown items: x, y" in lines
    assert sent(server, pb.RankRequest) == pb.RankRequest(
        user_id="u", events=[pb.Event(item_id="i7")], item_ids=["i1", "i2"], reasons=True
    )


def test_similar_items(server, call):
    """Items are shown with their similarity, and conditions are sent."""
    items = [pb.SimilarItem(item_id="i2", similarity=0.5, title="Two")]
    server.script = [pb.SimilarItemsResponse(similar_items=items, allowed_item_count=3)]
    done = call("similar-items", "i1", "--limit", "2", "--where", "a=x", "--allow", "i2")
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["1", "i2", "0.5000", "Two"]
    assert lines[-1].endswith("; 3 items allowed")
    request = sent(server, pb.SimilarItemsRequest)
    assert (request.item_id, request.limit, list(request.allow_item_ids)) == ("i1", 2, ["i2"])
    assert request.conditions[0].any_of.values == ["x"]
    assert json.loads(call("similar-items", "i1", "--json").stdout)["allowed_item_count"] == 3


QUERIES = """\
{"user_id": "u1", "limit": 3, "diversity": 0.5, "page_token": null}

{"events": [{"item_id": "i7", "event_type": "view", "timestamp": 1.5}], "state": "c3RhdGU=",
"include_seen": false, "exclude_item_ids": ["i1"], "allow_item_ids": ["i2"], "min_score": 0.5,
"conditions": [{"attribute": "a", "any_of": ["x"]}, {"attribute": "b", "all_of": ["y"]},
{"attribute": "c", "none_of": ["z"]}, {"attribute": "d", "min": 1, "max": null},
{"attribute": "e", "start": "2026-01-01T00:00:00Z", "end": 1767225601}],
"category_cap": {"attribute": "a", "limit": 2}, "reasons": true, "search_effort": 3, "exact": true}
{"user_id": 7}
""".replace(",\n", ", ")


def test_batch(server, call):
    """A line of JSON for each query, in order; an error among them is a line too, and the code is 1."""
    failure = pb.Failure(code=5, reason=pb.ERROR_REASON_UNKNOWN_USER, message="user_id: not known")
    results = [pb.RecommendResult(response=RECOMMENDED), pb.RecommendResult(failure=failure)]
    server.script = [pb.BatchRecommendResponse(results=results)]
    done = call("batch", "-", stdin=QUERIES)
    assert (done.returncode, done.stderr) == (1, "")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first["recommendations"][0]["item_id"] == "i9"
    assert second["error"] == {
        "message": "user_id: not known",
        "code": "NOT_FOUND",
        "reason": "UNKNOWN_USER",
        "violations": [],
    }
    rule = {"field": "user_id", "rule": "must be a string, not int"}
    assert (third["error"]["code"], third["error"]["violations"]) == (None, [rule])
    times = pb.TimeRange(
        start=Timestamp(seconds=1_767_225_600), end=Timestamp(seconds=1_767_225_601)
    )
    viewed = pb.Event(item_id="i7", event_type="view", time=Timestamp(seconds=1, nanos=500_000_000))
    assert list(sent(server, pb.BatchRecommendRequest).requests) == [
        pb.RecommendRequest(user_id="u1", limit=3, diversity=0.5),
        pb.RecommendRequest(
            events=[viewed],
            state=b"state",
            include_seen=False,
            exclude_item_ids=["i1"],
            allow_item_ids=["i2"],
            min_score=0.5,
            conditions=[
                pb.Condition(attribute="a", any_of=pb.TextValues(values=["x"])),
                pb.Condition(attribute="b", all_of=pb.TextValues(values=["y"])),
                pb.Condition(attribute="c", none_of=pb.TextValues(values=["z"])),
                pb.Condition(attribute="d", number_range=pb.NumberRange(min=1)),
                pb.Condition(attribute="e", time_range=times),
            ],
            category_cap=pb.CategoryCap(attribute="a", limit=2),
            reasons=True,
            search_effort=3,
            exact=True,
        ),
    ]


def test_batch_encode(server, call, tmp_path):
    """With --encode vectors are asked for."""
    path = tmp_path / "people.jsonl"
    path.write_text('{"user_id": "u1"}\n')
    result = pb.EncodeResult(response=pb.EncodeSequenceResponse(vector=[1, 2]))
    server.script = [pb.BatchEncodeResponse(results=[result])]
    done = call("batch", path, "--encode")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["vector"] == [1, 2]


def test_a_long_file_is_sent_in_batches(server, call):
    """As many queries, events and results go together as the service takes."""
    lines = ['{"user_id": "u"}\n'] * 300
    lines += ['{"user_id": "u", "limit": 1000}\n'] * 21
    many = json.dumps([{"item_id": "i"}] * 2_000)
    lines += [f'{{"events": {many}}}\n'] * 11
    sizes = [256, 44 + 19, 2 + 10, 1]
    server.script = [
        pb.BatchRecommendResponse(results=[pb.RecommendResult(response=RECOMMENDED)] * size)
        for size in sizes
    ]
    done = call("batch", "-", "--timeout", "20", stdin="".join(lines))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == sum(sizes)
    found = [len(pb.BatchRecommendRequest.FromString(data).requests) for _, data in server.calls]
    assert found == sizes


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[]", "a query must be a JSON object, not list"),
        ('{"user": "u"}', "a query has no 'user', but user_id, events, "),
        ('{"events": {}}', "events must be a list"),
        ('{"events": ["i7"]}', "must be a JSON object with an item_id"),
        ('{"state": "?"}', "state must be in base64"),
        ('{"state": 7}', "state must be in base64"),
        ('{"exclude_item_ids": "i7"}', "exclude_item_ids: must be a sequence of item ids, not str"),
        ('{"conditions": {}}', "conditions must be a list"),
        ('{"conditions": [{"attribute": "a", "anyof": []}]}', "a condition has no 'anyof'"),
        ('{"conditions": [{"attribute": "a"}]}', "must have an attribute and one of any_of, "),
        ('{"conditions": [{"min": 1}]}', "must have an attribute and one of any_of, "),
        (
            '{"conditions": [{"attribute": "a", "min": 1, "any_of": ["x"]}]}',
            "must have an attribute and one of any_of, ",
        ),
        (
            '{"conditions": [{"attribute": "a", "any_of": "x"}]}',
            "values: must be a sequence of texts",
        ),
        ('{"conditions": [{"attribute": "a", "start": "soon"}]}', "not a time: 'soon'"),
        ('{"category_cap": {"attribute": "a"}}', "must have an attribute and a limit"),
    ],
)
def test_a_bad_file_of_queries(server, call, line, words):
    """It ends with 2 and one line that names the place, before anything is sent."""
    text = failed(call("batch", "-", stdin='{"user_id": "u"}\n' + line), 2)
    assert text.startswith("kinrec call batch: standard input, line 2: ")
    assert words in text
    assert server.calls == []


def stream_of(*versions):
    """Give the answers of a stream, each with an item of its own, and its end."""
    answers = [
        pb.RecommendStreamResponse(
            response=pb.RecommendResponse(
                recommendations=[pb.Recommendation(item_id=version), pb.Recommendation(item_id="z")]
            )
        )
        for version in versions
    ]
    return [*answers, pb.RecommendStreamResponse(end=pb.StreamEnd(state=b"state"))]


def test_stream(server, call, tmp_path):
    """A line of items when it is open, and one for each line of events; the state is kept at the end."""
    server.script = stream_of("v1", "v2", "v3")
    path = tmp_path / "me.state"
    lines = '{"item_id": "a"}\n[{"item_id": "b"}, {"item_id": "c"}]\n'
    arguments = ("--user", "u", "--limit", "2", "--diversity", "0.5", "--state", path)
    done = call("stream", *arguments, stdin=lines)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["v1  z", "v2  z", "v3  z"]
    assert path.read_bytes() == b"state"
    start, one, two, _ = (pb.RecommendStreamRequest.FromString(data) for _, data in server.calls)
    assert start.start == pb.RecommendRequest(user_id="u", limit=2, diversity=0.5)
    assert [event.item_id for event in one.events.events] == ["a"]
    assert [event.item_id for event in two.events.events] == ["b", "c"]


def test_stream_of_nobody(server, call, tmp_path):
    """Without a person the first line opens it; with --json each line is the whole answer."""
    server.script = stream_of("v1", "v2")
    path = tmp_path / "clicks.jsonl"
    path.write_text('{"item_id": "a"}\n{"item_id": "b"}\n')
    done = call("stream", "--events", path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line)["recommendations"][0]["item_id"] for line in done.stdout.splitlines()]
    assert found == ["v1", "v2"]
    start = pb.RecommendStreamRequest.FromString(server.calls[0][1]).start
    assert [event.item_id for event in start.events] == ["a"]


def test_stream_with_events_that_break_a_rule(server, call):
    """Their line is the error, those after them are answered, and the code is 1."""
    told = pb.Failure(code=3, reason=1, message="events: bad", field="events")
    script = stream_of("v1", "v2")
    server.script = [script[0], pb.RecommendStreamResponse(failure=told), *script[1:]]
    lines = '{"item_id": "a"}\n{"item_id": "b"}\n'
    done = call("stream", "--user", "u", stdin=lines)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == ["v1  z", "error: events: bad", "v2  z"]


def test_a_stream_that_breaks(server, call, tmp_path):
    """It ends with 1 and one line, and no state is written."""
    refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "gone", rich_details("UNAVAILABLE"))
    server.script = [*stream_of("v1")[:1], refusal]
    path = tmp_path / "me.state"
    done = call("stream", "--user", "u", "--state", path, stdin='{"item_id": "a"}\n')
    assert (done.returncode, done.stdout) == (1, "v1  z\n")
    assert done.stderr == (
        "kinrec call stream: gone; the stream has ended; its state is that of its last answer\n"
    )
    assert not path.exists()


def test_a_line_of_a_stream_is_answered_before_the_next_is_read(server):
    """Who types the events sees what each of them changes."""
    server.script = stream_of("v1", "v2", "v3")
    command = [sys.executable, "-m", "kinrec.cli", "call", "stream", "--user", "u"]
    with subprocess.Popen(
        [*command, "--target", server.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout.readline() == "v1  z\n"
        for version in ("v2", "v3"):
            process.stdin.write('{"item_id": "a"}\n')
            process.stdin.flush()
            assert process.stdout.readline() == f"{version}  z\n"
        process.stdin.close()
        assert process.wait(30) == 0


def test_errors_as_json(server, call, tmp_path):
    """With --json what ends a call is one line of JSON on standard error, of whatever kind."""
    details = rich_details("INVALID_FIELD", ("limit", "must be small"))
    text = "limit: must be small"
    server.script = [Refusal(grpc.StatusCode.INVALID_ARGUMENT, text, details)]
    line = failed(call("recommend", "--user", "u", "--json"), 1)
    assert json.loads(line) == {
        "error": {
            "message": text,
            "code": "INVALID_ARGUMENT",
            "reason": "INVALID_FIELD",
            "violations": [{"field": "limit", "rule": "must be small"}],
        }
    }
    line = failed(call("recommend", "--events", tmp_path / "none", "--json"), 2)
    assert json.loads(line)["error"] == {
        "message": f"{tmp_path / 'none'}: No such file or directory",
        "code": None,
        "reason": "",
        "violations": [],
    }
    server.script = [
        Refusal(grpc.StatusCode.FAILED_PRECONDITION, "gone", rich_details("STATE_STALE"))
    ]
    (tmp_path / "state").write_bytes(b"old")
    line = failed(call("rank", "i1", "--state", tmp_path / "state", "--json"), 1)
    error = json.loads(line)["error"]
    assert error["message"] == f"gone; remove {tmp_path / 'state'} to begin anew"
    assert error["reason"] == "STATE_STALE"


def test_encode(server, call):
    """The vector is shown eight numbers to a line."""
    server.script = [pb.EncodeSequenceResponse(vector=range(9), model_version="v1")]
    done = call("encode", "--event", "i7:view")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [float(number) for line in lines[:2] for number in line.split()] == list(range(9))
    assert lines[3] == "model v1; no known user; events: none"
    assert sent(server, pb.EncodeSequenceRequest).events[0].event_type == "view"


def test_encode_without_a_usable_event(server, call):
    """That there is no vector is said, and the report says why."""
    report = pb.EventReport(received=1, unknown_item=1)
    server.script = [pb.EncodeSequenceResponse(model_version="v1", event_report=report)]
    lines = call("encode", "--event", "ghost").stdout.splitlines()
    assert lines[0] == "no vector: no event could be used"
    assert lines[2].endswith("events: 1 received, 1 unknown item")


def test_similar_users(server, call):
    """Users are shown with their similarity, and with what they share if that is asked for."""
    users = [pb.SimilarUser(user_id="u1", similarity=0.5)]
    server.script = [pb.SimilarUsersResponse(similar_users=users)]
    done = call("similar-users", "--user", "u42", "--limit", "1")
    assert done.stdout.splitlines()[1].split() == ["1", "u1", "0.5000"]
    assert done.stdout.splitlines()[0].split() == ["user", "similarity"]
    assert sent(server, pb.SimilarUsersRequest).limit == 1
    users[0].shared_item_ids.extend(["i1", "i2"])
    server.script = [pb.SimilarUsersResponse(similar_users=users)]
    done = call(
        "similar-users", "--user", "u42", "--shared", "2", "--search-effort", "3", "--exact"
    )
    assert done.stdout.splitlines()[0].split() == ["user", "similarity", "shared", "items"]
    assert done.stdout.splitlines()[1].split() == ["1", "u1", "0.5000", "i1,", "i2"]
    request = pb.SimilarUsersRequest.FromString(server.calls[-1][1])
    assert (request.shared_items, request.search_effort, request.exact) == (2, 3, True)


def test_model(server, call):
    """The description of the model is shown field by field, and as JSON."""
    server.script = [
        pb.GetModelResponse(
            name="shop",
            create_time=Timestamp(seconds=1_767_225_600),
            event_types=["view", "buy"],
            attributes=[
                pb.Attribute(name="brand", kind=pb.Attribute.KIND_TEXT),
                pb.Attribute(name="price", kind=pb.Attribute.KIND_NUMBER),
            ],
        )
    ]
    lines = dict(line.split("  ", 1) for line in call("model").stdout.splitlines() if "  " in line)
    assert lines["event types"].strip() == "view, buy"
    assert lines["attributes"].strip() == "brand (text), price (number)"
    assert json.loads(call("model", "--json").stdout)["create_time"] == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("data", "text", "code"), [(b"\x08\x01", "serving", 0), (b"\x08\x02", "not serving", 1)]
)
def test_health(server, call, data, text, code):
    """The exit code says whether the server takes calls."""
    server.script = [data]
    done = call("health")
    assert (done.stdout, done.returncode) == (f"{text}\n", code)


def test_a_refused_call(server, call):
    """A call that the server refuses ends with 1 and the server's own words."""
    server.script = [
        Refusal(grpc.StatusCode.NOT_FOUND, "user_id: not known", rich_details("UNKNOWN_USER"))
    ]
    line = failed(call("recommend", "--user", "nobody"), 1)
    assert line == "kinrec call recommend: user_id: not known"


def test_nobody_listens(call):
    """A server that is not there ends the call with 1."""
    line = failed(call("health", target="127.0.0.1:1"), 1)
    assert line == "kinrec call health: no server could be reached at 127.0.0.1:1"


def test_no_answer_in_time(server, call):
    """A timeout ends the call with 1."""
    server.gate.clear()
    line = failed(call("model", "--timeout", "0.2"), 1)
    assert line == "kinrec call model: no answer within 0.2 s"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--event", ":view"], "the item id is missing"),
        (["--event", "i::yesterday"], "not a time: 'yesterday'"),
        (["--event", "i::2026-01-01T00:00:00"], "a time needs a time zone"),
        (["--event", "i::nan"], "events[0].time"),
        (["--limit", "0"], "limit: must be from 1 to 1000, not 0"),
        (["--where", "genre"], "must be ATTR=VALUE, not 'genre'"),
        (["--where", "=war"], "must be ATTR=VALUE"),
        (["--where-not", 'genre=["war"'], "not a JSON list"),
        (["--min", "price=cheap"], "argument --min: not a number: 'cheap'"),
        (["--after", "since=soon"], "not a time: 'soon'"),
        (["--cap", "genre=1.5"], "not a whole number: '1.5'"),
        (["--search-effort", "0"], "search_effort: must be from 1 to 100, not 0"),
        (["--timeout", "-1"], "timeout: must be a positive number"),
        (["--events", "no-such-file"], "no-such-file: No such file or directory"),
    ],
)
def test_bad_usage(server, call, arguments, words):
    """What cannot be sent ends with 2 and one line that names it, and is not sent."""
    assert words in failed(call("recommend", *arguments), 2)
    assert server.calls == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"item_id": "i"}\n{"item_id": ', "line 2: not JSON"),
        (b'["i"]', "line 1: must be a JSON object with an item_id"),
        (b'{"item": "i"}', "line 1: must be a JSON object with an item_id"),
        (b'{"item_id": "i", "timestamp": "soon"}', "line 1: not a time: 'soon'"),
        (b'{"item_id": 7}', "events[0].item_id: must be a string, not int"),
        (b"\xff\xfe", "not UTF-8 text"),
    ],
)
def test_a_bad_file_of_events(call, tmp_path, text, words):
    """A file that cannot be read ends with 2 and one line that names the place."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(text)
    assert words in failed(call("recommend", "--events", str(path)), 2)


def test_ctrl_c(server):
    """Ctrl-C during a call ends it with 130 and without a word."""
    server.gate.clear()
    command = [sys.executable, "-m", "kinrec.cli", "call", "model", "--timeout", "30"]
    process = subprocess.Popen(
        [*command, "--target", server.address], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert server.entered.wait(30)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (130, b"", b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone(server, unbuffered):
    """When the reader of standard output has gone, the command ends with 141 and without a word."""
    server.script = [RECOMMENDED]
    command = [sys.executable, "-m", "kinrec.cli", "call", "recommend", "--user", "u"]
    with subprocess.Popen(
        [*command, "--target", server.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


def test_a_state_is_carried_by_a_file(server, call, tmp_path):
    """The file of --state is written after a call and sent with the next; JSON has it in base64."""
    path = tmp_path / "me.state"
    server.script = [pb.RecommendResponse(state=b"\0one"), pb.EncodeSequenceResponse(state=b"two")]
    assert call("recommend", "--event", "i1", "--state", path).returncode == 0
    assert path.read_bytes() == b"\0one"
    done = call("encode", "--event", "i2", "--state", path, "--json")
    assert json.loads(done.stdout)["state"] == "dHdv"
    assert path.read_bytes() == b"two"
    requests = [data for _, data in server.calls]
    assert pb.RecommendRequest.FromString(requests[0]).state == b""
    assert pb.EncodeSequenceRequest.FromString(requests[1]).state == b"\0one"


def test_a_state_that_cannot_be_kept_is_named(server, call, tmp_path):
    """A folder that is not there is one line; a refused state says what to do."""
    server.script = [pb.RecommendResponse(state=b"one")]
    path = tmp_path / "none" / "me.state"
    done = call("recommend", "--event", "i1", "--state", path)
    assert (done.returncode, "basis" in done.stdout) == (
        1,
        True,
    )  # the answer is shown all the same
    assert done.stderr == f"kinrec call recommend: --state {path}: No such file or directory\n"
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "gone", rich_details("STATE_STALE"))
    server.script = [refusal]
    (tmp_path / "me.state").write_bytes(b"old")
    line = failed(call("recommend", "--event", "i1", "--state", tmp_path / "me.state"), 1)
    assert line == f"kinrec call recommend: gone; remove {tmp_path / 'me.state'} to begin anew"
    assert (tmp_path / "me.state").read_bytes() == b"old"
