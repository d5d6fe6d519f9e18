"""What a call can ask for beside whom and how many, from the engine over the trained bundle."""

import re
from collections import Counter

import numpy as np
import pytest

from kinrec.engine import (
    AnyOf,
    CategoryCap,
    EngineError,
    Event,
    InvalidFieldError,
    NumberRange,
    Options,
    Query,
    UnknownItemError,
)
from kinrec.engine.blend import Person
from kinrec.engine.mixture import Scope, mix
from kinrec.engine.reasons import find_reasons
from kinrec.engine.steps import finish


@pytest.fixture
def events(history_of, users):
    """What somebody did."""
    return history_of(users[3])[:12]


@pytest.fixture
def ranking(engine, events):
    """All items in the order in which they are recommended."""
    return engine.recommend(events=events, limit=1_000).item_ids


@pytest.fixture
def some(model):
    """A tenth of the items."""
    return [model.items.key(number) for number in range(0, len(model.items), 10)]


def test_a_filtered_answer_is_the_whole_one_without_the_others(engine, events, ranking, some):
    """What is allowed stands in the order and with the scores that it has among all."""
    whole = engine.recommend(events=events, limit=1_000)
    scores = dict(zip(whole.item_ids, whole.scores, strict=True))
    filtered = engine.recommend(events=events, limit=1_000, options=Options(allow_item_ids=some))
    assert filtered.item_ids == [item for item in ranking if item in some]
    assert filtered.scores == pytest.approx([scores[item] for item in filtered.item_ids], rel=1e-4)
    assert filtered.allowed == len(some)
    assert whole.allowed is None


def test_a_filtered_answer_is_filled(engine, model, events):
    """There are as many items as are asked for while so many are allowed and not seen."""
    seen = {event.item_id for event in events}
    least = np.argsort(model.popularity._popularity, kind="stable")[:40]
    allowed = [model.items.key(number) for number in least.tolist()]
    left = [item for item in allowed if item not in seen]
    answer = engine.recommend(
        events=events, limit=len(left), include_seen=False, options=Options(allow_item_ids=allowed)
    )
    assert sorted(answer.item_ids) == sorted(left)


def test_a_filter_that_leaves_nothing_says_so(engine, events):
    """The list is empty and the count is zero."""
    for options in (
        Options(allow_item_ids=["no such item"], reasons=True),
        Options(min_score=1e6, reasons=True),
    ):
        answer = engine.recommend(events=events, options=options)
        assert (answer.item_ids, answer.reasons) == ([], [])
        assert not answer.more
    assert engine.recommend(events=events, options=Options(allow_item_ids=["?"])).allowed == 0


def test_a_newcomer_gets_the_popular_of_what_is_allowed(engine, some):
    """Nothing usable is known, so the most popular of the allowed items come in their order."""
    stranger = [Event("no such item")]
    popular = engine.recommend(events=stranger, limit=1_000).item_ids
    answer = engine.recommend(events=stranger, limit=10, options=Options(allow_item_ids=some))
    assert answer.item_ids == [item for item in popular if item in some][:10]
    assert answer.basis.value == "popular"


def test_no_score_is_below_the_least(engine, events):
    """What scores less is left out, and nothing else."""
    whole = engine.recommend(events=events, limit=50)
    least = whole.scores[20]
    answer = engine.recommend(events=events, limit=50, options=Options(min_score=least))
    assert answer.item_ids == whole.item_ids[: len(answer.item_ids)]
    assert 20 <= len(answer.item_ids) <= 22


def test_diversity_makes_the_items_of_a_list_less_alike(engine, model, users):
    """The mean cosine of a list's items falls as the diversity grows, over many people."""
    vectors = model.item_vectors / np.linalg.norm(model.item_vectors, axis=1, keepdims=True)

    def alike(user, diversity):
        answer = engine.recommend(user_id=user, options=Options(diversity=diversity))
        units = vectors[[model.items.get(item) for item in answer.item_ids]]
        return (units @ units.T)[np.triu_indices(10, 1)].mean()

    found = [
        float(np.mean([alike(user, diversity) for user in users[:40]]))
        for diversity in (0.0, 0.1, 0.3, 1.0)
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1] + 0.1


def test_pages_are_the_parts_of_one_list(engine, events, ranking):
    """Each page goes on behind the one before, and the last says that nothing follows."""
    for skip in (0, 5, 20):
        options = Options(skip=skip, depth=5)
        page = engine.recommend(events=events, limit=5, options=options)
        assert page.item_ids == ranking[skip : skip + 5]
        assert page.more
    end = engine.recommend(events=events, limit=10, options=Options(skip=len(ranking) - 3, depth=5))
    assert (end.item_ids, end.more) == (ranking[-3:], False)


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.9])
def test_no_item_is_on_two_pages(engine, history_of, users, diversity):
    """Pages of ten together are one list without repeats, for a stranger and for people in the log."""
    for events in ([Event("no such item")], history_of(users[5])[:7]):
        shown = []
        for page in range(8):
            options = Options(diversity=diversity, skip=10 * page, depth=10)
            shown += engine.recommend(events=events, limit=10, options=options).item_ids
        assert len(set(shown)) == len(shown) == 80
        options = Options(diversity=diversity, depth=10)
        assert shown == engine.recommend(events=events, limit=80, options=options).item_ids


def test_other_weights_are_another_ranking(engine):
    """A page of the one is none of the other; the states are of the same model."""
    other, third = (engine.with_weights({"popularity": weight}) for weight in (1.0, 2.0))
    assert other.fingerprint == engine.fingerprint
    assert len({engine.ranking, other.ranking, third.ranking}) == 3
    assert other.ranking == engine.with_weights({"popularity": 1.0}).ranking


def test_reasons_add_up(engine, events):
    """Every item has one; the shares of the sources sum to one, and so do those of all own items."""
    answer = engine.recommend(events=events, limit=20, options=Options(reasons=True))
    assert len(answer.reasons) == 20
    own = {event.item_id for event in events}
    for reason in answer.reasons:
        assert sum(reason.sources.values()) == pytest.approx(1.0)
        assert all(share > 0.0 for share in reason.sources.values())
        assert len(reason.neighbours) <= 5
        assert reason.voters >= len(reason.neighbours)
        assert [cosine for _, cosine in reason.neighbours] == sorted(
            (cosine for _, cosine in reason.neighbours), reverse=True
        )
        assert {item for item, _ in reason.events} <= own
        assert sum(share for _, share in reason.events) <= 1.0 + 1e-6
    assert engine.recommend(events=events).reasons == []


def test_the_voters_of_a_reason_did_something_with_the_item(model, users):
    """Each neighbour named is the nearest that has the item among its last events; all are counted."""
    person = Person.stored(model, model.encoder, model.users.get(users[3]))
    weights = {"similar_users": 1.0}
    discount = np.ones(len(model.items), np.float32)
    scope = Scope(None, np.zeros(0, np.int64), 10, 10)
    mixture = finish(mix(model, person, weights, scope, discount))
    items, _ = mixture.best(15)
    neighbours, cosines = person.neighbours(model.manifest.blend.neighbours)
    for item, reason in zip(
        items.tolist(), find_reasons(model, person, weights, mixture, items), strict=True
    ):
        voters = [
            (model.users.key(user), pytest.approx(cosine, abs=1e-6))
            for user, cosine in zip(neighbours.tolist(), cosines.tolist(), strict=True)
            if cosine > 0.0 and item in model.histories.user(user).items[-20:]
        ]
        assert reason.neighbours == voters[:5]
        assert reason.voters == len(voters)
        assert reason.sources["similar_users"] > 0.99


def test_a_newcomer_is_told_that_items_are_popular(engine):
    """Nothing else speaks for them."""
    answer = engine.recommend(events=[Event("no such item")], options=Options(reasons=True))
    for reason in answer.reasons:
        assert reason.sources == {"popularity": pytest.approx(1.0)}
        assert (reason.voters, reason.neighbours, reason.events) == (0, [], [])


def test_an_item_alone_in_the_history_is_the_whole_reason(engine, model):
    """Of one event everything that the history gives comes from it."""
    item_id = model.items.key(5)
    answer = engine.recommend(events=[Event(item_id)], limit=5, options=Options(reasons=True))
    for reason in answer.reasons:
        assert reason.events == [(item_id, pytest.approx(1.0))]


def test_a_follower_has_its_events_as_a_reason_though_it_is_like_none_of_them(model, users):
    """Of an item whose embedding points away from all of the history the transitions are to be told."""
    weights, scope = (
        {"transitions": 0.5, "sequence": 0.5},
        Scope(None, np.zeros(0, np.int64), 10, 0),
    )
    seen = 0
    for user in users[:40]:
        person = Person.stored(model, model.encoder, model.users.get(user))
        mixture = finish(mix(model, person, weights, scope))
        vectors, own = model.item_vectors, person.history.items[-20:]
        is_unlike = ((vectors[own] @ vectors[mixture.items].T) <= 0.0).all(axis=0)
        items = mixture.items[is_unlike]
        for reason in find_reasons(model, person, weights, mixture, items):
            if "transitions" in reason.sources:
                assert reason.events
                seen += 1
    assert seen


def test_a_ranking_is_the_order_of_the_recommendations(engine, events, some):
    """Given items come in the order in which they would be recommended, seen ones among them."""
    given = [*some[::-1], "no such item", some[0], "nor this"]
    answer = engine.rank(given, events=events)
    whole = engine.recommend(events=events, limit=1_000, include_seen=True).item_ids
    assert answer.recommendations.item_ids == [item for item in whole if item in some]
    assert len(answer.recommendations.item_ids) == len(some)
    assert answer.unknown_item_ids == ["no such item", "nor this"]


@pytest.mark.parametrize("item_ids", [[], ["i"] * 1_001, ["x" * 513], [""]])
def test_a_ranking_of_too_few_or_too_many_is_refused(engine, events, item_ids):
    """The field is named."""
    with pytest.raises(InvalidFieldError, match=r"^item_ids"):
        engine.rank(item_ids, events=events)


def test_similar_items_by_the_cosine(engine, model, some):
    """They come in the order of the cosine of the embeddings, without the item itself."""
    item = 7
    vectors = model.item_vectors / np.linalg.norm(model.item_vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors[item]
    cosines[item] = -2.0
    answer = engine.similar_items(model.items.key(item), limit=9)
    truth = np.argsort(-cosines, kind="stable")[:9]
    assert answer.similarities == pytest.approx(cosines[truth].tolist(), abs=1e-5)
    assert set(answer.item_ids) == {model.items.key(number) for number in truth.tolist()}
    filtered = engine.similar_items(model.items.key(item), allow_item_ids=some)
    assert set(filtered.item_ids) <= set(some)
    assert filtered.allowed == len(some)
    with pytest.raises(UnknownItemError):
        engine.similar_items("no such item")
    with pytest.raises(InvalidFieldError, match="item_id: must not be empty"):
        engine.similar_items("")


def test_shared_items_are_those_that_both_have(engine, model, events):
    """The person's last come first, and no more than are asked for."""
    own = list(dict.fromkeys(event.item_id for event in reversed(events)))
    answer = engine.similar_users(events=events, limit=20, shared_items=3)
    for user_id, shared in zip(answer.user_ids, answer.shared_item_ids, strict=True):
        theirs = model.histories.user(model.users.get(user_id)).items.tolist()
        assert shared == [item for item in own if model.items.get(item) in theirs][:3]
    assert any(answer.shared_item_ids)
    assert engine.similar_users(events=events).shared_item_ids == []


def test_many_are_answered_as_one_by_one(engine, users, history_of, events):
    """Everyone gets the answer, or the error, of a call alone; vectors and states bit for bit."""
    state = engine.encode(events=events).state
    queries = [
        Query(user_id=users[0]),
        Query(events=events, limit=3),
        Query(),
        Query(state=state, events=[Event(events[0].item_id, "buy")]),
        Query(user_id="no such user"),
        Query(events=[Event("no such item")]),
        Query(user_id=users[1], events=events[:1], options=Options(reasons=True, diversity=0.3)),
        *(Query(events=history_of(user)[: 3 + place]) for place, user in enumerate(users[:40])),
        Query(events=events, limit=0),
    ]
    answers = engine.recommend_many(queries)

    def ask(query):
        return engine.recommend_for(query, lambda alone: alone)

    for query, answer in zip(queries, answers, strict=True):
        if isinstance(answer, EngineError):
            with pytest.raises(type(answer), match=re.escape(str(answer))):
                ask(query)
        else:
            alone = ask(query)
            assert answer.scores == pytest.approx(alone.scores, rel=1e-4)
            assert set(answer.item_ids) == set(alone.item_ids)
            assert (answer.state, answer.event_report) == (alone.state, alone.event_report)
            assert (answer.basis, answer.known_user) == (alone.basis, alone.known_user)
    assert [place for place, one in enumerate(answers) if isinstance(one, EngineError)] == [
        2,
        4,
        47,
    ]
    vectors = engine.encode_many(queries)
    for query, encoding in zip(queries[7:-1], vectors[7:-1], strict=True):
        alone = engine.encode(events=query.events)
        assert alone.vector.tobytes() == encoding.vector.tobytes()
        assert alone.state == encoding.state


def test_too_many_queries_are_refused(engine):
    """The limit is named."""
    for ask in (engine.recommend_many, engine.encode_many):
        with pytest.raises(InvalidFieldError, match="requests: at most 256 are allowed, got 257"):
            ask([Query(user_id="u")] * 257)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (Options(min_score=-1.0), "min_score"),
        (Options(min_score=float("nan")), "min_score"),
        (Options(diversity=1.5), "diversity"),
        (Options(diversity=float("nan")), "diversity"),
        (Options(search_effort=0), "search_effort"),
        (Options(search_effort=101), "search_effort"),
        (Options(category_cap=CategoryCap("no such attribute", 0)), "category_cap.limit"),
        (Options(category_cap=CategoryCap("no such attribute", 2)), "category_cap.attribute"),
        (Options(allow_item_ids=["x"] * 10_001), "allow_item_ids"),
        (Options(allow_item_ids=["x" * 513]), "allow_item_ids[0]"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(engine, events, options, field):
    """The error names the field and its rule."""
    with pytest.raises(InvalidFieldError) as caught:
        engine.recommend(events=events, options=options)
    assert caught.value.field == field


def test_conditions_and_a_cap_by_category(engine, model, events):
    """Only items that meet the conditions come, no category more often than the cap, and the list is full."""
    attributes = model.attributes
    categories = {attributes.values("category", item)[0] for item in range(len(model.items))}
    wanted = tuple(sorted(categories)[:4])
    options = Options(
        conditions=[AnyOf("category", wanted), NumberRange("price", max=1e6)],
        category_cap=CategoryCap("category", 3),
    )
    answer = engine.recommend(events=events, limit=12, include_seen=True, options=options)
    found = [attributes.values("category", model.items.get(item))[0] for item in answer.item_ids]
    assert sorted(Counter(found).values()) == [3, 3, 3, 3]
    assert not answer.more
    assert answer.allowed == sum(
        attributes.values("category", item)[0] in wanted for item in range(len(model.items))
    )
    twelve = engine.recommend(events=events, limit=11, include_seen=True, options=options)
    assert (twelve.item_ids, twelve.more) == (answer.item_ids[:11], True)


def test_an_unknown_attribute_is_refused_by_name(engine, events):
    """The error says where it stands, and which there are."""
    conditions = [AnyOf("no such", ("x",))]
    for ask in (
        lambda: engine.recommend(events=events, options=Options(conditions=conditions)),
        lambda: engine.similar_items("i7", conditions=conditions),
    ):
        with pytest.raises(InvalidFieldError) as caught:
            ask()
        assert caught.value.field == "conditions[0].attribute"
        assert "category" in caught.value.rule
