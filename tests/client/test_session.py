"""A session sends what is new, and mends a refused state without its caller noticing."""

import asyncio

import grpc
import pytest

from kinrec.client import (
    AsyncClient,
    Client,
    Event,
    InvalidRequestError,
    Options,
    PageTokenError,
    StateError,
)
from kinrec.v1 import recommender_pb2 as pb

from .conftest import Refusal, rich_details

STALE = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "gone", rich_details("STATE_STALE"))
INVALID = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "changed", rich_details("STATE_INVALID"))


@pytest.fixture(params=["sync", "async"])
def run(request, server):
    """Make calls of one session in a row: `run([("recommend", events, {}), ...], user_id=...)`.

    Gives each call's answer or the error it raised. Every test that runs by it holds for both clients.
    """

    def outcome(error):
        if not isinstance(error, (StateError, InvalidRequestError, PageTokenError)):
            raise error
        return error

    def run_sync(calls, **settings):
        found = []
        with Client(server.address) as client:
            session = client.session(**settings)
            for method, events, more in calls:
                try:
                    found.append(getattr(session, method)(events, **more))
                except Exception as error:  # noqa: BLE001
                    found.append(outcome(error))
        return found

    async def run_async(calls, **settings):
        found = []
        async with AsyncClient(server.address) as client:
            session = client.session(**settings)
            for method, events, more in calls:
                try:
                    found.append(await getattr(session, method)(events, **more))
                except Exception as error:  # noqa: BLE001
                    found.append(outcome(error))
        return found

    if request.param == "sync":
        return run_sync
    return lambda calls, **settings: asyncio.run(run_async(calls, **settings))


def answers(*states, **more):
    """Give answers that carry states."""
    return [pb.RecommendResponse(state=state, **more) for state in states]


def sent(server):
    """What each request held: the items, the state and the user."""
    requests = [pb.RecommendRequest.FromString(data) for _, data in server.calls]
    return [
        ("".join(event.item_id for event in request.events), request.state, request.user_id)
        for request in requests
    ]


def asking(*parts):
    """Ask for recommendations after each part, whose letters are items."""
    return [("recommend", [Event(letter) for letter in part], {}) for part in parts]


def test_only_what_is_new_is_sent(server, run):
    """Each request holds the events since the last answer, and the state of that answer."""
    server.script = answers(b"1", b"2", b"3")
    found = run(asking("ab", "c", ""), user_id="u")
    assert sent(server) == [("ab", b"", "u"), ("c", b"1", "u"), ("", b"2", "u")]
    assert [answer.state for answer in found] == [b"1", b"2", b"3"]


def test_all_calls_share_the_state(server, run):
    """Encoding, similar users and recommendations go on from one another, with their own arguments."""
    server.script = [
        pb.EncodeSequenceResponse(state=b"1"),
        pb.SimilarUsersResponse(state=b"2"),
        pb.RecommendResponse(state=b"3"),
        pb.RankResponse(state=b"4"),
    ]
    more = {"limit": 3, "include_seen": False, "exclude_item_ids": iter("xy")}
    more["options"] = Options(diversity=0.5)
    run(
        [
            ("encode_sequence", [Event("a")], {}),
            ("similar_users", [Event("b")], {"limit": 7, "shared_items": 2, "exact": True}),
            ("recommend", [Event("c")], more),
            ("rank", iter("xy"), {"events": [Event("d")], "reasons": True}),
        ]
    )
    (_, encode), (_, similar), (_, recommend), (_, rank) = server.calls
    assert pb.EncodeSequenceRequest.FromString(encode).state == b""
    found = pb.SimilarUsersRequest.FromString(similar)
    assert (found.state, found.limit) == (b"1", 7)
    assert (found.shared_items, found.exact) == (2, True)
    assert pb.RecommendRequest.FromString(recommend) == pb.RecommendRequest(
        events=[pb.Event(item_id="c")],
        state=b"2",
        limit=3,
        include_seen=False,
        exclude_item_ids=["x", "y"],
        diversity=0.5,
    )
    assert pb.RankRequest.FromString(rank) == pb.RankRequest(
        events=[pb.Event(item_id="d")], state=b"3", item_ids=["x", "y"], reasons=True
    )


def page(events=()):
    """Ask for the next page."""
    return ("recommend", events, {"options": Options(page_token="t"), "limit": 3})  # noqa: S106 - no secret


def test_a_page_is_asked_for_as_the_one_before(server, run):
    """It has the events and the state of the last recommendations, and the session stands where it did."""
    server.script = [
        *answers(b"1", b"2"),
        pb.SimilarUsersResponse(state=b"3"),
        *answers(b"2", b"2", b"4"),
    ]
    similar = ("similar_users", [Event("c")], {})
    run([*asking("a", "b"), similar, page(), page(), *asking("d")], user_id="u")
    calls = sent(server)
    del calls[2]  # another kind of request
    assert calls == [("a", b"", "u"), ("b", b"1", "u"), *[("b", b"1", "u")] * 2, ("d", b"3", "u")]
    requests = [pb.RecommendRequest.FromString(data) for _, data in server.calls]
    assert (requests[3].page_token, requests[3].limit) == ("t", 3)


def test_new_events_have_no_place_on_a_page(server, run):
    """They would change what it is a page of."""
    server.script = answers(b"1")
    _, found = run([*asking("a"), page([Event("b")])])
    assert found.message == "events: must be empty with a page token"
    assert len(server.calls) == 1


def test_a_page_of_a_model_that_is_gone_is_not_asked_for_twice(server, run):
    """The first page has to be asked for again, which is the caller's to do."""
    stale = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "gone", rich_details("PAGE_TOKEN_STALE"))
    server.script = [*answers(b"1"), stale, STALE, STALE, *answers(b"2")]
    found = run([*asking("a"), page(), page(), *asking("b")])
    assert [type(answer) for answer in found[1:3]] == [PageTokenError, StateError]
    assert sent(server)[3:] == [("b", b"1", ""), ("ab", b"", "")]


def test_a_string_is_no_list_of_items(server, run):
    """It is refused, not taken for the items that its letters are."""
    found = run(
        [("rank", "xy", {}), ("recommend", [], {"exclude_item_ids": "xy"}), ("recommend", "xy", {})]
    )
    assert [error.violations[0].field for error in found] == [
        "item_ids",
        "exclude_item_ids",
        "events",
    ]
    assert not server.calls


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("settings", "has_lost"), [({}, False), ({"keep": 1}, True), ({"state": b"1"}, True)]
)
def test_it_says_when_older_events_are_forgotten(server, kind, settings, has_lost):
    """A state was refused that knew of more than the session keeps, or of one before it."""

    async def ask():
        client = kind(server.address)
        session = client.session(**settings)
        for letter, refusals in (("a", []), ("b", []), ("c", [STALE])):
            assert not session.has_lost_history
            server.script = [*refusals, *answers(b"1")]
            asked = session.recommend([Event(letter)])
            if kind is AsyncClient:
                await asked
        await client.close() if kind is AsyncClient else client.close()
        return session.has_lost_history

    assert asyncio.run(ask()) == has_lost


@pytest.mark.parametrize("refusal", [STALE, INVALID])
def test_a_refused_state_is_mended_within_the_call(server, run, refusal):
    """The history is sent again without the state, once, and the caller gets an answer."""
    server.script = [*answers(b"1", b"2"), refusal, *answers(b"3", b"4")]
    found = run(asking("a", "b", "c", "d"))
    assert sent(server)[2:] == [("c", b"2", ""), ("abc", b"", ""), ("d", b"3", "")]
    assert [answer.state for answer in found] == [b"1", b"2", b"3", b"4"]


def test_a_service_that_refuses_every_state_is_not_asked_for_ever(server, run):
    """A second refusal is the caller's, and the events of that call are not taken."""
    server.script = [*answers(b"1"), STALE, STALE, *answers(b"2")]
    found = run(asking("a", "b", "c"))
    assert isinstance(found[1], StateError)
    assert found[1].reason == "STATE_STALE"
    assert sent(server)[-1] == ("ac", b"", "")


def test_the_model_before_is_left_at_the_next_call(server, run):
    """When the service says to send the history, the next call does."""
    server.script = [*answers(b"1"), *answers(b"2", send_history=True), *answers(b"3")]
    run(asking("a", "b", "c"))
    assert sent(server) == [("a", b"", ""), ("b", b"1", ""), ("abc", b"", "")]


def test_a_state_that_knows_more_than_is_kept_is_not_left(server, run):
    """Where the history is longer than what is kept, the model before goes on answering."""
    server.script = [*answers(b"1"), *answers(b"2", send_history=True), *answers(b"3")]
    run(asking("abc", "d", "e"), keep=2)
    assert sent(server) == [("abc", b"", ""), ("d", b"1", ""), ("e", b"2", "")]


def test_a_refusal_that_cannot_be_mended_is_the_callers(server, run):
    """Without anything to send instead of the state, its refusal is raised."""
    server.script = [STALE]
    (found,) = run(asking(""), state=b"old")
    assert isinstance(found, StateError)
    assert sent(server) == [("", b"old", "")]


def test_a_session_goes_on_from_the_state_of_another(server, run):
    """A state given at the start is sent with the first call; refused, the new events are sent alone."""
    server.script = [STALE, *answers(b"2", send_history=True), *answers(b"3")]
    run(asking("a", "b"), state=b"1")
    assert sent(server) == [("a", b"1", ""), ("a", b"", ""), ("b", b"2", "")]


def test_calls_of_an_async_session_take_turns(server):
    """Begun together, each goes on from the answer of the one before; no event is lost."""
    server.script = answers(b"1", b"2", b"3")

    async def together():
        async with AsyncClient(server.address) as client:
            session = client.session()
            await asyncio.gather(*(session.recommend([Event(letter)]) for letter in "abc"))
            return session.state

    assert asyncio.run(together()) == b"3"
    assert sent(server) == [("a", b"", ""), ("b", b"1", ""), ("c", b"2", "")]


def test_events_of_a_failed_call_are_not_taken(server, run):
    """They can be given again, and are not sent twice."""
    bad = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "bad", rich_details("INVALID_FIELD"))
    server.script = [*answers(b"1"), bad, *answers(b"2"), STALE, *answers(b"3")]
    found = run(asking("a", "b", "b", "c"))
    assert isinstance(found[1], InvalidRequestError)
    assert sent(server)[1:] == [("b", b"1", ""), ("b", b"1", ""), ("c", b"2", ""), ("abc", b"", "")]


def test_a_session_keeps_so_many_events(server, run):
    """Of a long history the last are sent again; what is new is always sent whole."""
    server.script = [*answers(b"1"), STALE, *answers(b"2"), STALE, *answers(b"3")]
    run(asking("abcdef", "gh", "ijklm"), keep=3)
    assert [part for part, state, _ in sent(server) if not state] == ["abcdef", "defgh", "fghijklm"]


@pytest.mark.parametrize("keep", [-1, 2_001, 3.5, True])
def test_how_many_to_keep_has_a_range(server, keep):
    """More than a request may have is refused at once."""
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidRequestError, match="keep: must be an integer from 0 to 2000"):
            kind(server.address).session(keep=keep)


def test_a_state_that_is_no_bytes_is_refused(server, ask):
    """A string, as JSON has it, is named before anything is sent."""
    with pytest.raises(InvalidRequestError, match="state: must be bytes, not str"):
        ask("recommend", state="AAAA")
    assert not server.calls
