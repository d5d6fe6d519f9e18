"""The whole way: a trained bundle, the real server, and both clients, who find what was planted."""

import asyncio
import csv
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kinrec.client import (
    AnyOf,
    AsyncClient,
    AttributeKind,
    Basis,
    CategoryCap,
    Client,
    Event,
    Health,
    InvalidRequestError,
    NumberRange,
    Options,
    PageTokenError,
    Query,
    UnknownItemError,
    UnknownUserError,
)
from kinrec.engine import Engine
from kinrec.trainer.sample import make_sample

KINREC = Path(sys.executable).with_name("kinrec")
UNKNOWN = [Event("an item that no one knows", "view")]


@pytest.fixture(scope="module")
def served(bundle_store):
    """A served bundle: its process and address; ended as an operator would, if a test did not."""
    command = [KINREC, "serve", bundle_store, "--port", "0", "--drain-wait", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        line = process.stdout.readline()
        assert line.startswith("kinrec: serving shop "), line
        yield process, line.split()[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture
def client(served):
    """A client of the server."""
    with Client(served[1], timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def truth():
    """What was planted in the sample that the bundle is trained on."""
    return make_sample(users=300, items=200, seed=7).truth


def test_the_model_describes_itself(client, bundle_store):
    """The server tells the bundle's name, version and sizes."""
    model, engine = client.get_model(), Engine.load(bundle_store)
    assert (model.name, model.version) == ("shop", engine.version)
    assert (model.user_count, model.item_count, model.vector_size) == (300, 200, 32)
    assert set(model.event_types) == {"view", "cart", "buy"}
    assert client.health() is Health.SERVING


def test_a_session_is_answered_as_the_whole_history(client, served):
    """Event by event through a session of either client: the answer to all events at once."""
    events = [Event(f"i{number * 7 % 200}", "view", 1e9 + 60.0 * number) for number in range(20)]
    whole = client.recommend(events, limit=20)
    session = client.session()
    for event in events:
        carried = session.recommend([event], limit=20)

    async def step_by_step():
        async with AsyncClient(served[1], timeout=30) as another:
            session = another.session()
            for start in range(0, 20, 5):
                answer = await session.recommend(events[start : start + 5], limit=20)
            return answer

    for found in (carried, asyncio.run(step_by_step())):
        assert found.recommendations == whole.recommendations
        assert found.state == whole.state


def test_a_session_is_answered_by_replicas_that_cannot_read_each_others_states(
    client, served, bundle_store
):
    """Replicas without a common key cost a repeated call; the caller gets its answers all the same."""
    events = [Event(f"i{number}", "view") for number in range(6)]
    expected = client.recommend(events, limit=20)
    command = [KINREC, "serve", bundle_store, "--port", "0", "--drain-wait", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            other = process.stdout.readline().split()[-1]
            with Client(f"ipv4:{served[1]},{other}", timeout=30) as both:
                session = both.session()
                found = [session.recommend([event], limit=20) for event in events]
        finally:
            process.terminate()
    assert found[-1].recommendations == expected.recommendations
    # Spread over both, some calls came to the one that had not given the state.
    assert any(answer.event_report.received > 1 for answer in found)


def test_a_known_user(client):
    """A user id alone gets a vector, similar users and titled recommendations."""
    encoded = client.encode_sequence(user_id="u1")
    assert encoded.known_user
    assert len(encoded.vector) == 32
    similar = client.similar_users(user_id="u1", limit=5)
    assert len(similar.similar_users) == 5
    assert "u1" not in {user.user_id for user in similar.similar_users}
    answer = client.recommend(user_id="u1", limit=10)
    assert len({one.item_id for one in answer.recommendations}) == 10
    assert all(one.title.endswith(f" {one.item_id[1:]}") for one in answer.recommendations)
    scores = [one.score for one in answer.recommendations]
    assert scores == sorted(scores, reverse=True)
    assert answer.basis is Basis.PERSONAL
    assert answer.model_version == encoded.model_version == client.get_model().version


def test_an_unseen_person(client):
    """Events alone are enough; what was seen is recommended or not, as it is asked for."""
    events = [Event("i3", "view", 1_750_000_000), Event("i8", "buy", 1_750_000_060), *UNKNOWN]
    answer = client.recommend(events, limit=200, include_seen=False)
    assert not answer.known_user
    assert answer.basis is Basis.PERSONAL
    report = answer.event_report
    assert (report.received, report.used, report.unknown_item) == (3, 2, 1)
    found = {one.item_id for one in answer.recommendations}
    assert len(found) == 198
    assert not found & {"i3", "i8"}
    again = client.recommend(events, limit=200, include_seen=True, exclude_item_ids=["i3"])
    assert {one.item_id for one in again.recommendations} - found == {"i8"}
    assert len(client.similar_users(events, limit=3).similar_users) == 3
    assert len(client.encode_sequence(events).vector) == 32


def test_a_known_user_and_what_came_since(client):
    """New events come after the stored history and change every answer."""
    since = [Event("i150", "buy"), Event("i151", "view")]
    for ask in (client.encode_sequence, client.similar_users, client.recommend):
        both, stored, new = ask(since, user_id="u2"), ask(user_id="u2"), ask(since)
        assert both.known_user
        answers = [getattr(answer, _content(answer)) for answer in (both, stored, new)]
        assert answers[0] != answers[1]
        assert answers[0] != answers[2]
    answer = client.recommend(since, user_id="u2", limit=200, include_seen=False)
    assert not {"i150", "i151"} & {one.item_id for one in answer.recommendations}


def _content(answer):
    """Name the field that holds what was asked for."""
    return next(
        name for name in ("vector", "similar_users", "recommendations") if hasattr(answer, name)
    )


def test_someone_of_whom_nothing_is_known(client):
    """Unknown items alone lead to the popular ones, and a user nobody knows is an error."""
    answer = client.recommend(UNKNOWN, limit=5)
    assert answer.basis is Basis.POPULAR
    assert len(answer.recommendations) == 5
    assert client.encode_sequence(UNKNOWN).vector == ()
    with pytest.raises(UnknownUserError):
        client.recommend(user_id="nobody")


def test_the_asynchronous_client_gets_the_same_answers(served, client):
    """Many calls at once on one loop give what the blocking client gets one by one."""
    users = [f"u{number}" for number in range(1, 21)]

    async def ask_all():
        async with AsyncClient(served[1], timeout=30) as other:
            asked = [other.recommend(user_id=user, limit=5) for user in users]
            asked += [other.similar_users(UNKNOWN, user_id="u1")]
            asked += [other.encode_sequence([Event("i1")])]
            return await asyncio.gather(*asked)

    *recommended, similar, encoded = asyncio.run(ask_all())
    assert recommended == [client.recommend(user_id=user, limit=5) for user in users]
    assert similar == client.similar_users(UNKNOWN, user_id="u1")
    assert encoded.vector == pytest.approx(client.encode_sequence([Event("i1")]).vector, abs=1e-5)


@pytest.fixture(scope="module")
def items(sample_dir):
    """The items that the bundle is trained on, by their ids: the columns of their file."""
    with (sample_dir / "items.csv").open(encoding="utf-8") as file:
        return {row["item_id"]: row for row in csv.DictReader(file)}


def test_filters_caps_and_reasons(client, items):
    """What is recommended meets all that was asked, is filled to the limit, and says why."""
    kinds = {one.name: one.kind for one in client.get_model().attributes}
    assert kinds["category"] is AttributeKind.TEXT
    assert kinds["price"] is AttributeKind.NUMBER
    wanted = sorted({row["category"] for row in items.values()})[:3]
    conditions = [AnyOf("category", wanted), NumberRange("price", min=20)]
    allowed = [
        item_id
        for item_id, row in items.items()
        if row["category"] in wanted and float(row["price"]) >= 20
    ]
    options = Options(conditions=conditions, category_cap=CategoryCap("category", 4), reasons=True)
    answer = client.recommend(user_id="u1", limit=12, include_seen=True, options=options)
    assert answer.allowed_item_count == len(allowed)
    found = [one.item_id for one in answer.recommendations]
    assert set(found) <= set(allowed)
    counts = Counter(items[item_id]["category"] for item_id in found)
    assert max(counts.values()) <= 4
    for one in answer.recommendations:
        assert sum(part.share for part in one.reason.sources) == pytest.approx(1, abs=1e-4)
        assert len(one.reason.own_items) <= 3
    listed = client.recommend(user_id="u1", options=Options(allow_item_ids=found[:2]))
    assert {one.item_id for one in listed.recommendations} <= set(found[:2])
    assert listed.allowed_item_count == 2
    with pytest.raises(InvalidRequestError, match=r"conditions\[0\]\.attribute: 'colour' is none"):
        client.recommend(user_id="u1", options=Options(conditions=[AnyOf("colour", ["red"])]))


def test_diversity_changes_the_list(client):
    """The best item stays first, and others come in."""
    plain = client.recommend(user_id="u1", limit=20)
    varied = client.recommend(user_id="u1", limit=20, options=Options(diversity=0.9))
    assert varied.recommendations[0] == plain.recommendations[0]
    assert varied.recommendations != plain.recommendations


def test_pages_are_parts_of_one_list(client):
    """Page after page gives the list, of a client and of a session, and a token is good for its request."""
    whole = client.recommend(user_id="u1", limit=30).recommendations

    def pages(ask, **person):
        options, found = Options(), []
        while len(found) < 30:
            page = ask(**person, limit=10, options=options)
            found += page.recommendations
            options = replace(options, page_token=page.next_page_token)
        return tuple(one.item_id for one in found), options

    ids = tuple(one.item_id for one in whole)
    # Each page searches as deep as the first, which need not be as deep as the whole list does.
    found, options = pages(client.recommend, user_id="u1")
    assert found[:10] == ids[:10]
    assert len(set(found)) == 30
    session = client.session(user_id="u1")
    assert pages(session.recommend)[0] == found
    assert session.recommend([Event("i7", "view")]).event_report.used == 1
    with pytest.raises(PageTokenError):
        client.recommend(user_id="u2", limit=10, options=options)


def test_a_batch_is_answered_as_its_queries_alone(served, client):
    """Each in its place, by either client, and what fails alone fails in its place."""
    options = Options(diversity=0.5, reasons=True)
    queries = [
        Query(user_id="u1", limit=5),
        Query([Event("i7", "view")], limit=3, options=options),
        Query(user_id="nobody"),
        Query(UNKNOWN),
    ]

    async def both():
        async with AsyncClient(served[1], timeout=30) as other:
            return await asyncio.gather(
                other.batch_recommend(queries), other.batch_encode(queries[:3])
            )

    found, vectors = asyncio.run(both())
    alone = (
        client.recommend(user_id="u1", limit=5),
        client.recommend([Event("i7", "view")], limit=3, options=options),
    )
    for first, second, third, fourth in (found, client.batch_recommend(queries)):
        for many, one in zip((first, second), alone, strict=True):
            scores = {item.item_id: item.score for item in one.recommendations}
            # Sequences that are encoded together differ from those alone by what rounding gives.
            assert {item.item_id: item.score for item in many.recommendations} == pytest.approx(
                scores, rel=1e-4
            )
        assert second.recommendations[0].reason.sources
        assert isinstance(third, UnknownUserError)
        assert fourth.basis is Basis.POPULAR
    encoded = client.encode_sequence(user_id="u1")
    assert vectors[0].vector == pytest.approx(encoded.vector, abs=1e-5)
    assert vectors[1].known_user is False
    assert isinstance(vectors[2], UnknownUserError)
    with pytest.raises(InvalidRequestError, match="requests: at most 256"):
        client.batch_recommend([Query(user_id="u1")] * 257)


def test_a_stream_is_answered_as_a_session(served, client):
    """Message after message by either client; the state at the end is that of all events."""
    events = [Event(f"i{number * 7 % 200}", "view", 1e9 + 60.0 * number) for number in range(8)]
    whole = client.recommend(events, user_id="u1", limit=10)

    async def stream_of_the_other():
        async with (
            AsyncClient(served[1], timeout=30) as other,
            other.recommend_stream(events[:4], user_id="u1", limit=10) as stream,
        ):
            answer = await stream.send(events[4:])
        return answer, stream.state

    with client.recommend_stream(user_id="u1", limit=10) as stream:
        for event in events:
            answer = stream.send([event])
        with pytest.raises(InvalidRequestError, match=r"events\[0\]\.item_id"):
            stream.send([Event("")])
        assert stream.send([]).recommendations == answer.recommendations
    for found, state in ((answer, stream.state), asyncio.run(stream_of_the_other())):
        assert found.recommendations == whole.recommendations
        assert client.recommend(state=state, limit=10).recommendations == whole.recommendations


def test_ranking_and_similar_items(client):
    """Given items come in the order of recommendations; items like one are found, and none like nothing."""
    listed = [one.item_id for one in client.recommend(user_id="u1", limit=5).recommendations]
    ranking = client.rank([*reversed(listed), "?"], user_id="u1")
    assert [one.item_id for one in ranking.recommendations] == listed
    assert ranking.unknown_item_ids == ("?",)
    similar = client.similar_items("i7", limit=5).similar_items
    assert len(similar) == 5
    assert "i7" not in {one.item_id for one in similar}
    with pytest.raises(UnknownItemError):
        client.similar_items("?")


def test_what_similar_users_share(client):
    """Shared items are named as far as they are asked for, and more effort loses no one."""
    exact = client.similar_users(user_id="u1", limit=5, shared_items=2, exact=True)
    assert any(user.shared_item_ids for user in exact.similar_users)
    assert all(len(user.shared_item_ids) <= 2 for user in exact.similar_users)
    found = client.similar_users(user_id="u1", limit=5, search_effort=100).similar_users
    assert [user.user_id for user in found] == [user.user_id for user in exact.similar_users]


def test_planted_tastes_are_found(client, truth):
    """Of unseen items, those recommended are of liked categories far more often than popular ones."""
    category = dict(zip(truth.item_ids, truth.item_category.tolist(), strict=True))
    popular = [one.item_id for one in client.recommend(UNKNOWN, limit=200).recommendations]
    personal_hits = popular_hits = 0
    for user, user_id in enumerate(truth.user_ids):
        liked = truth.tastes[user, 1] > 0
        answer = client.recommend(user_id=user_id, limit=200)
        unseen = [one.item_id for one in answer.recommendations]
        personal_hits += sum(liked[category[item]] for item in unseen[:10])
        rest = set(unseen)
        popular_unseen = [item for item in popular if item in rest]
        popular_hits += sum(liked[category[item]] for item in popular_unseen[:10])
    assert personal_hits > 1.8 * popular_hits, (personal_hits, popular_hits)


def test_planted_successors_are_found(client, truth):
    """After one view of an item its successor is among the first ten; by chance 1 in 20 were."""
    hits = asked = 0
    for item, successor in enumerate(truth.successor.tolist()):
        if successor >= 0:
            answer = client.recommend([Event(truth.item_ids[item], "view")], limit=10)
            hits += truth.item_ids[successor] in {one.item_id for one in answer.recommendations}
            asked += 1
    assert asked > 100
    assert hits > 0.6 * asked, (hits, asked)


def test_the_server_drains_and_ends_well(bundle_store):
    """SIGTERM ends a server that has answered with exit code 0 and without a traceback."""
    command = [KINREC, "serve", bundle_store, "--port", "0", "--drain-wait", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        address = process.stdout.readline().split()[-1]
        with Client(address, timeout=30) as client:
            assert client.recommend(user_id="u1").recommendations
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in errors
