"""Streams, batches, pages, filters, reasons, rankings: what the servicer adds to the engine's answers."""

import itertools

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kinrec.engine import (
    AllOf,
    AnyOf,
    CategoryCap,
    NoneOf,
    NumberRange,
    Options,
    StaleStateError,
    TimeRange,
    UnknownItemError,
)
from kinrec.v1 import recommender_pb2 as pb

PERSON = {"user_id": "u1"}


def reason_of(error):
    """Give the reason of a failed call."""
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            return next(
                name.removeprefix("ERROR_REASON_")
                for name in pb.ErrorReason.keys()  # noqa: SIM118 - an enum is no dict
                if name.removeprefix("ERROR_REASON_").encode() in value
            )
    return None


def test_every_option_reaches_the_engine(stub, engine):
    """What a request asks for is what the engine is asked for."""
    stub.Recommend(
        pb.RecommendRequest(
            user_id="u1",
            allow_item_ids=["i1", "i2"],
            conditions=[
                pb.Condition(attribute="a", any_of=pb.TextValues(values=["x", "y"])),
                pb.Condition(attribute="b", all_of=pb.TextValues(values=["x"])),
                pb.Condition(attribute="c", none_of=pb.TextValues(values=["z"])),
                pb.Condition(attribute="d", number_range=pb.NumberRange(max=2.5)),
                pb.Condition(
                    attribute="e",
                    time_range=pb.TimeRange(start=Timestamp(seconds=9, nanos=500_000_000)),
                ),
            ],
            min_score=0.5,
            diversity=0.25,
            category_cap=pb.CategoryCap(attribute="a", limit=2),
            reasons=True,
            search_effort=3,
            exact=True,
        )
    )
    assert engine.asked[0]["options"] == Options(
        allow_item_ids=("i1", "i2"),
        conditions=(
            AnyOf("a", ("x", "y")),
            AllOf("b", ("x",)),
            NoneOf("c", ("z",)),
            NumberRange("d", None, 2.5),
            TimeRange("e", 9.5, None),
        ),
        min_score=0.5,
        diversity=0.25,
        category_cap=CategoryCap("a", 2),
        reasons=True,
        search_effort=3,
        exact=True,
    )


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        (pb.Condition(attribute="a"), "conditions[0]"),
        (
            pb.Condition(attribute="a", time_range=pb.TimeRange(end=Timestamp(nanos=-1))),
            "conditions[0].time_range.end",
        ),
    ],
)
def test_a_condition_without_meaning_is_refused_by_name(stub, condition, field):
    """A condition without a rule, or with a time that is none, names its field."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(pb.RecommendRequest(user_id="u1", conditions=[condition]))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(f"{field}: ")


def test_reasons_tell_of_enough_voters_and_by_another_name(stub):
    """Seven voters are told of, by pseudonyms that stay the same; two are not."""
    request = pb.RecommendRequest(user_id="u1", reasons=True)
    first, second = stub.Recommend(request).recommendations
    assert [(one.source, one.share) for one in first.reason.sources] == [
        (pb.SOURCE_SEQUENCE, 0.75),
        (pb.SOURCE_TRANSITIONS, 0.25),
    ]
    assert first.reason.voter_count == 7
    (voter,) = first.reason.voters
    assert voter.similarity == 0.5  # rounded, so that it tells nobody who it is
    assert len(voter.pseudonym) == 24
    assert voter.pseudonym != "u9"
    assert [(one.item_id, one.share) for one in first.reason.own_items] == [("i3", 1.0)]
    assert (second.reason.voter_count, len(second.reason.voters)) == (0, 0)
    again = stub.Recommend(request).recommendations[0]
    assert again.reason.voters[0].pseudonym == voter.pseudonym
    assert (
        not stub.Recommend(pb.RecommendRequest(user_id="u1")).recommendations[0].HasField("reason")
    )


def test_no_voters_are_told_of_where_the_policy_says_so(engine, start_server, open_channel):
    """With min_voters 0 nobody is."""
    from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub  # noqa: PLC0415

    stub = RecommenderServiceStub(open_channel(start_server(engine, min_voters=0)))
    first, _ = stub.Recommend(pb.RecommendRequest(user_id="u1", reasons=True)).recommendations
    assert (first.reason.voter_count, len(first.reason.voters)) == (0, 0)
    assert first.reason.sources


def test_how_many_items_a_filter_leaves_is_told(stub):
    """The count is set where there is a filter, and only there."""
    assert (
        stub.Recommend(pb.RecommendRequest(**PERSON, allow_item_ids=["i1"])).allowed_item_count == 2
    )
    assert not stub.Recommend(pb.RecommendRequest(**PERSON)).HasField("allowed_item_count")


def test_a_page_token_leads_behind_the_page_before(stub, engine):
    """It carries how many items came before, and the limit of the first page."""
    request = pb.RecommendRequest(user_id="u1", limit=2, diversity=0.5)
    token = stub.Recommend(request).next_page_token
    request.page_token = token
    request.limit = 7
    assert stub.Recommend(request).next_page_token == ""  # this engine has no more
    assert engine.asked[1]["options"] == Options(diversity=0.5, skip=2, depth=2)
    assert engine.asked[1]["limit"] == 7


def test_a_page_token_is_good_for_its_request_alone(stub, engine):
    """Changed, cut, of another request, or a state in its place, it is refused."""
    request = pb.RecommendRequest(user_id="u1", limit=2)
    answer = stub.Recommend(request)
    token = answer.next_page_token
    flipped = ("0" if token[-1] != "0" else "1").join([token[:-1], ""])
    for bad in (flipped, token[:-2], "zz", "é", answer.state.hex()):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Recommend(pb.RecommendRequest(user_id="u1", limit=2, page_token=bad))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(caught.value) == "PAGE_TOKEN_INVALID"
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(pb.RecommendRequest(user_id="u2", limit=2, page_token=token))
    assert reason_of(caught.value) == "PAGE_TOKEN_INVALID"
    engine.fingerprint = b"another".ljust(16)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(pb.RecommendRequest(user_id="u1", limit=2, page_token=token))
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == "PAGE_TOKEN_STALE"


def test_pages_end_at_the_thousandth_item(stub, engine):
    """A page reaches no further than all pages may, and then none follows."""
    request = pb.RecommendRequest(user_id="u1", limit=2)
    request.page_token = stub.Recommend(request).next_page_token
    request.limit = 1_000
    assert stub.Recommend(request).next_page_token == ""
    assert engine.asked[1]["limit"] == 998


def test_a_batch_answers_each_in_order(stub, engine):
    """What fails alone fails in its place, and the others are answered."""
    answer = stub.BatchRecommend(
        pb.BatchRecommendRequest(
            requests=[
                pb.RecommendRequest(user_id="u1"),
                pb.RecommendRequest(user_id="u2", state=b"made up"),
                pb.RecommendRequest(user_id="u3", page_token="ab"),  # noqa: S106 - no secret
                pb.RecommendRequest(user_id="u4", limit=3),
            ]
        )
    )
    first, second, third, fourth = answer.results
    assert [item.item_id for item in first.response.recommendations] == ["i1", "i2"]
    assert first.response.model_version == "v1"
    assert first.response.state
    assert second.failure.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert (second.failure.reason, second.failure.field) == (pb.ERROR_REASON_STATE_INVALID, "state")
    assert third.failure.reason == pb.ERROR_REASON_PAGE_TOKEN_INVALID
    assert fourth.HasField("response")
    assert [asked["user_id"] for asked in engine.asked] == ["u1", "u4"]


def test_a_batch_tells_what_the_engine_refuses(stub, engine):
    """An error of the engine is the failure of its request, not of the call."""
    engine.failure = StaleStateError()
    request = pb.BatchEncodeRequest(requests=[pb.EncodeSequenceRequest(user_id="u1")])
    (result,) = stub.BatchEncode(request).results
    assert result.failure.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert result.failure.reason == pb.ERROR_REASON_STATE_STALE
    engine.failure = None
    (result,) = stub.BatchEncode(request).results
    assert list(result.response.vector) == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("requests", "rule"),
    [
        ([pb.RecommendRequest(user_id="u")] * 257, "at most 256 are allowed, got 257"),
        (
            [pb.RecommendRequest(events=[pb.Event(item_id="i")] * 2_000)] * 11,
            "the events may be 20000 in all, are 22000",
        ),
        (
            [pb.RecommendRequest(user_id="u", limit=1_000)] * 21,
            "the limits may be 20000 in all, are 21000",
        ),
    ],
)
def test_a_batch_has_limits(stub, requests, rule):
    """So many requests, events and results in all."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.BatchRecommend(pb.BatchRecommendRequest(requests=requests))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == f"requests: {rule}"


def test_an_empty_batch_is_answered_by_an_empty_one(stub):
    """Nothing is asked, so nothing is answered."""
    assert not stub.BatchRecommend(pb.BatchRecommendRequest()).results


def test_a_ranking_names_what_is_unknown(stub, engine):
    """Known items come in order, with the state; unknown ones by id."""
    answer = stub.Rank(pb.RankRequest(user_id="u1", item_ids=["i2", "?"], reasons=True))
    assert [item.item_id for item in answer.recommendations] == ["i2"]
    assert list(answer.unknown_item_ids) == ["?"]
    assert (answer.model_version, answer.known_user) == ("v1", True)
    assert answer.basis == pb.BASIS_PERSONAL
    assert answer.state
    assert engine.asked[0]["reasons"] is True


def test_similar_items(stub, engine):
    """Items with their similarity, and an unknown item as not found."""
    answer = stub.SimilarItems(pb.SimilarItemsRequest(item_id="i1", allow_item_ids=["i2"]))
    (item,) = answer.similar_items
    assert (item.item_id, item.similarity, item.title) == ("i2", 0.5, "Two")
    assert (answer.allowed_item_count, answer.model_version) == (3, "v1")
    assert (engine.asked[0]["limit"], engine.asked[0]["allow"]) == (10, ["i2"])
    engine.failure = UnknownItemError()
    with pytest.raises(grpc.RpcError) as caught:
        stub.SimilarItems(pb.SimilarItemsRequest(item_id="i1"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert reason_of(caught.value) == "UNKNOWN_ITEM"


def test_shared_items_come_beside_each_user(stub):
    """They are asked for by a number."""
    first, second = stub.SimilarUsers(
        pb.SimilarUsersRequest(user_id="u1", shared_items=3)
    ).similar_users
    assert list(first.shared_item_ids) == ["i1"]
    assert not second.shared_item_ids


def start(**fields):
    """Give the first message of a stream."""
    return pb.RecommendStreamRequest(start=pb.RecommendRequest(**fields))


def events(*item_ids):
    """Give a later message."""
    listed = pb.EventList(events=[pb.Event(item_id=item_id) for item_id in item_ids])
    return pb.RecommendStreamRequest(events=listed)


def test_a_stream_answers_every_message_and_hands_over_the_state(stub, engine):
    """Each message of events is asked about from the state before; the state comes last."""
    messages = [start(user_id="u1", limit=3), events("i1"), events("i2", "i3")]
    *answers, last = stub.RecommendStream(iter(messages))
    assert len(answers) == 3
    for answer in answers:
        assert [item.item_id for item in answer.response.recommendations] == ["i1", "i2"]
        assert stub.Recommend(pb.RecommendRequest(state=answer.response.state)).recommendations
        assert not answer.response.next_page_token
    engine.asked = [asked for asked in engine.asked if asked["user_id"]]
    assert [asked["state"] for asked in engine.asked] == [b"", engine.state, engine.state]
    assert [[one.item_id for one in asked["events"]] for asked in engine.asked] == [
        [],
        ["i1"],
        ["i2", "i3"],
    ]
    assert {asked["limit"] for asked in engine.asked} == {3}
    assert stub.Recommend(pb.RecommendRequest(state=last.end.state)).recommendations


def test_a_stream_goes_on_after_events_that_break_a_rule(stub):
    """They are answered by a failure and not applied."""
    bad = pb.EventList(events=[pb.Event(item_id="i", time=Timestamp(nanos=-1))])
    messages = [start(user_id="u1"), pb.RecommendStreamRequest(events=bad), events("i1")]
    answers = list(stub.RecommendStream(iter(messages)))
    parts = [answer.WhichOneof("part") for answer in answers]
    assert parts == ["response", "failure", "response", "end"]
    assert answers[1].failure.field == "events.events[0].time"


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([events("i1")], "start"),
        ([pb.RecommendStreamRequest()], "start"),
        ([start(user_id="u1"), start(user_id="u1")], "events"),
        ([start(conditions=[pb.Condition(attribute="a")])], "start.conditions[0]"),
        ([start(user_id="u1", page_token="ab")], "start.page_token"),  # noqa: S106 - no secret
    ],
)
def test_a_stream_in_disorder_is_refused(stub, messages, field):
    """The first message asks, the others bring events."""
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.RecommendStream(iter(messages)))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(f"{field}: ")


def test_a_stream_without_messages_ends(stub):
    """Nothing is asked, so nothing is answered."""
    assert list(stub.RecommendStream(iter([]))) == []


def test_more_streams_than_are_taken_are_refused_and_calls_go_on(
    engine, start_server, open_channel
):
    """The stream that is too much is told so; a place that is given back is taken again."""
    from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub  # noqa: PLC0415

    stub = RecommenderServiceStub(open_channel(start_server(engine, max_streams=2, concurrency=1)))
    done = [False, False]

    def talk(number):
        yield start(user_id="u1")
        while not done[number]:
            yield events("i1")

    streams = [stub.RecommendStream(talk(number)) for number in range(2)]
    for stream in streams:
        next(stream)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.RecommendStream(iter([start(user_id="u1")])))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "2 streams are open already, no more are taken"
    assert stub.Recommend(pb.RecommendRequest(user_id="u1"), timeout=10).recommendations
    done[:] = [True, True]
    for stream in streams:
        assert list(stream)[-1].HasField("end")
    for _ in itertools.repeat(None, 3):
        assert len(list(stub.RecommendStream(iter([start(user_id="u1")])))) == 2


def test_a_cancelled_stream_gives_its_place_back(engine, start_server, open_channel):
    """Nothing is logged as a failure, and the place is free for the next."""
    from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub  # noqa: PLC0415

    stub = RecommenderServiceStub(open_channel(start_server(engine, max_streams=1)))

    def endless():
        yield start(user_id="u1")
        while True:
            yield events("i1")

    for _ in range(3):
        stream = stub.RecommendStream(endless())
        next(stream)
        stream.cancel()
        for _ in range(200):
            try:
                assert list(stub.RecommendStream(iter([start(user_id="u1")])))[-1].HasField("end")
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
            else:
                break
        else:
            pytest.fail("the place was not given back")
