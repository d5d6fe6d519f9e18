"""`kinrec call batch` and `kinrec call stream` as processes, against a real server."""

import json
import subprocess
import sys

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kinrec.v1 import recommender_pb2 as pb

from .conftest import RECOMMENDED, Refusal, failed, rich_details, sent

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
        ('{"user": "u"}', "a query has no field 'user'; its fields are user_id, events, "),
        ('{"events": {}}', "events must be a list"),
        ('{"events": ["i7"]}', "must be a JSON object with an item_id"),
        ('{"state": "?"}', "state must be in base64"),
        ('{"state": 7}', "state must be in base64"),
        ('{"exclude_item_ids": "i7"}', "exclude_item_ids: must be a sequence of item ids, not str"),
        ('{"conditions": {}}', "conditions must be a list"),
        ('{"conditions": [{"attribute": "a", "anyof": []}]}', "a condition has no field 'anyof'"),
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
def test_a_query_that_cannot_be_read(server, call, line, words):
    """Its line is the error, which names the place; the others are asked, and the code is 1."""
    server.script = [
        pb.BatchRecommendResponse(results=[pb.RecommendResult(response=RECOMMENDED)] * 2)
    ]
    done = call("batch", "-", stdin=f'{{"user_id": "u"}}\n{line}\n{{"user_id": "v"}}\n')
    assert (done.returncode, done.stderr) == (1, "")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first == third
    assert first["recommendations"][0]["item_id"] == "i9"
    assert second["error"]["message"].startswith("standard input, line 2: ")
    assert words in second["error"]["message"]
    asked = sent(server, pb.BatchRecommendRequest).requests
    assert [request.user_id for request in asked] == ["u", "v"]


def test_a_batch_without_a_query_that_can_be_read(server, call, tmp_path):
    """Nothing is sent; a file that is not there ends it with 2."""
    done = call("batch", "-", stdin="{\n}\n")
    assert (done.returncode, done.stderr) == (1, "")
    messages = [json.loads(line)["error"]["message"] for line in done.stdout.splitlines()]
    assert messages == [f"standard input, line {line}: not JSON" for line in (1, 2)]
    assert server.calls == []
    words = "No such file or directory"
    assert failed(call("batch", tmp_path / "none"), 2).endswith(words)


@pytest.mark.parametrize("flags", [(), ("--encode",)])
def test_states_of_a_batch(server, call, flags):
    """They are written if that is asked for, in base64 as a query takes them."""
    one = pb.RecommendResult(response=pb.RecommendResponse(state=b"state"))
    server.script = [pb.BatchRecommendResponse(results=[one])]
    if flags:
        encoded = pb.EncodeResult(response=pb.EncodeSequenceResponse(state=b"state"))
        server.script = [pb.BatchEncodeResponse(results=[encoded])]
    line = '{"user_id": "u"}\n'
    assert "state" not in json.loads(call("batch", "-", *flags, stdin=line).stdout)
    done = call("batch", "-", "--with-state", *flags, stdin=line)
    assert json.loads(done.stdout)["state"] == "c3RhdGU="


BECAME = "events: 2 received, 1 used, 1 unknown item"


def stream_of(*versions):
    """Give the answers of a stream, each with an item of its own, and its end."""
    answers = [
        pb.RecommendStreamResponse(
            response=pb.RecommendResponse(
                recommendations=[
                    pb.Recommendation(item_id=version),
                    pb.Recommendation(item_id="z"),
                ],
                event_report=pb.EventReport(received=2, used=1, unknown_item=1),
            )
        )
        for version in versions
    ]
    return [*answers, pb.RecommendStreamResponse(end=pb.StreamEnd(state=b"state"))]


def test_stream(server, call, tmp_path):
    """A line when it is open, and one for each line of events; the state is kept at the end."""
    server.script = stream_of("v1", "v2", "v3")
    path = tmp_path / "me.state"
    lines = '{"item_id": "a"}\n[{"item_id": "b"}, {"item_id": "c"}]\n'
    arguments = ("--user", "u", "--limit", "2", "--diversity", "0.5", "--state", path)
    done = call("stream", *arguments, stdin=lines)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{version}  z\t{BECAME}" for version in ("v1", "v2", "v3")]
    assert path.read_bytes() == b"state"
    start, one, two, _ = (pb.RecommendStreamRequest.FromString(data) for _, data in server.calls)
    assert start.start == pb.RecommendRequest(user_id="u", limit=2, diversity=0.5)
    assert [event.item_id for event in one.events.events] == ["a"]
    assert [event.item_id for event in two.events.events] == ["b", "c"]


def test_a_stream_of_which_no_item_meets_the_conditions(server, call):
    """Its lines say so behind what became of the events."""
    answer = pb.RecommendResponse(allowed_item_count=0)
    server.script = [pb.RecommendStreamResponse(response=answer), *stream_of()]
    done = call("stream", "--user", "u", "--min", "price=5", "--max", "price=4")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "\tevents: none; no item meets all the conditions\n"


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
    assert done.stdout.splitlines() == [
        f"v1  z\t{BECAME}",
        "error: events: bad",
        f"v2  z\t{BECAME}",
    ]


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_stream_with_lines_that_cannot_be_read(server, call, tmp_path, flags):
    """Each is answered by the error, those after it are sent, and the code is 1."""
    server.script = stream_of("v1", "v2")
    path = tmp_path / "clicks.jsonl"
    path.write_bytes(b'click\n\n{"item_id": "\xff"}\n{"item": "a"}\n{"item_id": "b"}\n')
    state = tmp_path / "me.state"
    done = call("stream", "--user", "u", "--events", path, "--state", state, *flags)
    assert (done.returncode, done.stderr) == (1, "")
    first, *errors, last = done.stdout.splitlines()
    if flags:
        errors = [f"error: {json.loads(line)['error']['message']}" for line in errors]
    assert errors == [
        f"error: {path}, line 1: not JSON",
        f"error: {path}, line 3: not UTF-8 text",
        f"error: {path}, line 4: must be a JSON object with an item_id",
    ]
    assert ("v1" in first, "v2" in last) == (True, True)
    assert len(server.calls) == 3
    assert state.read_bytes() == b"state"


def test_a_stream_that_cannot_be_opened(server, call):
    """A first line that cannot be read, where it opens the stream, ends it with 2."""
    line = failed(call("stream", stdin='click\n{"item_id": "b"}\n'), 2)
    assert line == "kinrec call stream: standard input, line 1: not JSON"
    assert server.calls == []


def test_a_stream_that_breaks(server, call, tmp_path):
    """It ends with 1 and one line, and no state is written."""
    refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "gone", rich_details("UNAVAILABLE"))
    server.script = [*stream_of("v1")[:1], refusal]
    path = tmp_path / "me.state"
    done = call("stream", "--user", "u", "--state", path, stdin='{"item_id": "a"}\n')
    assert (done.returncode, done.stdout) == (1, f"v1  z\t{BECAME}\n")
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
        assert process.stdout.readline() == f"v1  z\t{BECAME}\n"
        for version in ("v2", "v3"):
            process.stdin.write('{"item_id": "a"}\n')
            process.stdin.flush()
            assert process.stdout.readline() == f"{version}  z\t{BECAME}\n"
        process.stdin.close()
        assert process.wait(30) == 0
