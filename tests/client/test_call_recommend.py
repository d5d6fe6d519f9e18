"""`kinrec call recommend`, `rank` and `similar-items` as processes, against a real server."""

import json

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kinrec.v1 import recommender_pb2 as pb

from .conftest import RECOMMENDED, Refusal, failed, rich_details, sent

REASON = pb.Reason(
    sources=[
        pb.SourceShare(source=pb.SOURCE_SEQUENCE, share=0.75),
        pb.SourceShare(source=pb.SOURCE_SIMILAR_USERS, share=0.25),
    ],
    voter_count=7,
    voters=[pb.Voter(pseudonym="3f2a", similarity=0.5), pb.Voter(pseudonym="77", similarity=0.25)],
    own_items=[pb.OwnItem(item_id="i3", share=1)],
)


def test_recommend_as_a_table(server, call):
    """Items stand in aligned columns, without what would colour the terminal, above a summary."""
    server.script = [RECOMMENDED]
    done = call("recommend", "--user", "u42", PYTHONUTF8="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "   item                 score  title",
        "1  i9                   0.75   Grüner Tee",
        "2  item-with-a-long-id  0.5    \ufffd[31mRed\ufffdTea",
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
        "   item  score  title",
        "1  i9    0.75   Tea",
        "     sequence 75%, similar users 25%",
        "     own items: i3 100%",
        "     7 similar users: 3f2a 0.50, 77 0.25",
        "2  i8    0.5",
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


@pytest.mark.parametrize("question", [("recommend", "--user", "u"), ("similar-items", "i")])
def test_an_attribute_at_fault(server, call, question):
    """The server's words are followed by the flags that there are for each kind of attribute."""
    field, rule = (
        "conditions[0].attribute",
        "must be an attribute of text, 'price' is one of numbers",
    )
    details = rich_details("INVALID_FIELD", (field, rule))
    server.script = [Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {rule}", details)]
    line = failed(call(*question, "--where", "price=5"), 1)
    assert line.startswith(f"kinrec call {question[0]}: {field}: {rule}; --where, --where-all and ")
    assert "--min and --max for numbers" in line
    details = rich_details("INVALID_FIELD", ("conditions[0].number_range.max", "must be finite"))
    server.script = [Refusal(grpc.StatusCode.INVALID_ARGUMENT, "bad", details)]
    assert failed(call(*question, "--max", "price=inf"), 1) == f"kinrec call {question[0]}: bad"


def test_conditions_that_no_item_meets(server, call):
    """It is said in the place of the items, of a page and of similar items."""
    server.script = [pb.RecommendResponse(allowed_item_count=0)]
    done = call("recommend", "--user", "u", "--min", "price=5", "--max", "price=4")
    assert (done.returncode, done.stderr) == (0, "")
    first, blank, footer = done.stdout.splitlines()
    assert (first, blank) == ("no item meets all the conditions", "")
    assert "; 0 items allowed; " in footer
    server.script = [pb.SimilarItemsResponse(allowed_item_count=0)]
    lines = call("similar-items", "i", "--where", "a=x", "--where", "a=y").stdout.splitlines()
    assert lines[0] == "no item meets all the conditions"
    server.script = [pb.RecommendResponse(allowed_item_count=2)]
    lines = call("recommend", "--user", "u", "--where", "a=x").stdout.splitlines()
    assert lines[0].split() == ["item", "score", "title"]


def test_the_help_says_how_conditions_go_together(call):
    """Values of one flag are alternatives, and every flag must hold."""
    told = " ".join(call("recommend", "--help").stdout.split())
    assert "items that have at least one of these texts; repeatable, and then all must hold" in told


def test_rank(server, call):
    """The items come in order, with those that the model does not know below."""
    items = [pb.Recommendation(item_id="i2", score=1, reason=REASON)]
    server.script = [pb.RankResponse(recommendations=items, unknown_item_ids=["x", "y"])]
    done = call("rank", "i1", "i2", "--user", "u", "--event", "i7", "--reasons")
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["1", "i2", "1"]
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
