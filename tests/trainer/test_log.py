"""The log in the model's numbers."""

import narwhals as nw
import polars as pl
import pytest

from kinrec.trainer.cleaning import clean_events
from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.doubts import find_doubts
from kinrec.trainer.errors import DataError
from kinrec.trainer.log import MAX_EVENT_TYPES, build_log, type_weight, with_titles


def cleaned(rows):
    """Clean (user, item, type, time) rows, none of which cleaning removes."""
    users, items, types, times = zip(*rows, strict=True)
    frame = pl.LazyFrame(
        {
            "user_id": users,
            "item_id": items,
            "event_type": pl.Series(types, dtype=pl.String),
            "timestamp": pl.Series(times, dtype=pl.Float64),
            "value": pl.Series([None] * len(rows), dtype=pl.Float64),
            "input_order": range(len(rows)),
        }
    )
    return clean_events(nw.from_native(frame), CleaningConfig())


def rows_of(users=4, items=6):
    """Give each user every item, viewed in turn; one is bought."""
    rows = [
        (f"u{user}", f"i{(item + user) % items}", "view", 100.0 * item)
        for user in range(users)
        for item in range(items)
    ]
    return [*rows, ("u1", "i0", "buy", 10_000.0)]


def test_events_come_back_by_user_and_time_whatever_their_order_in_the_file():
    """Numbers and codes lead back to the ids, types and times of the rows."""
    rows = rows_of()
    log = build_log(cleaned(rows[::-1]), CleaningConfig())
    names = ["", *log.event_types]
    found = [
        (log.users.key(user), log.items.key(item), names[kind], time)
        for user in range(len(log.users))
        for item, kind, time in zip(
            log.histories.user(user).items.tolist(),
            log.histories.user(user).event_types.tolist(),
            log.histories.user(user).times.tolist(),
            strict=True,
        )
    ]
    assert sorted(found) == sorted(rows)
    for user in range(len(log.users)):
        times = log.histories.user(user).times
        assert (times[1:] > times[:-1]).all()


def test_types_are_coded_by_frequency_and_weighted_by_name():
    """The most frequent type has code 1; a purchase counts more than a view; no type counts 1."""
    log = build_log(cleaned([*rows_of(), ("u2", "i1", None, 20_000.0)]), CleaningConfig())
    assert log.event_types == ("view", "buy")
    assert log.type_weights.tolist() == [1.0, 1.0, 5.0]
    last = log.histories.user(log.users.get("u2")).event_types[-1]
    assert last == 0


@pytest.mark.parametrize(
    ("name", "weight"),
    [("Add-To-Cart", 3.0), (" PURCHASE ", 5.0), ("rating", 2.0), ("view", 1.0), ("xyz", 1.0)],
)
def test_type_weights_know_spellings(name, weight):
    """Case, blanks around and hyphens do not matter; a name that says nothing weighs as a view."""
    assert type_weight(name) == weight


def test_given_weights_go_before_those_by_name():
    """A weight that was given counts; a type that was not goes by its name."""
    config = CleaningConfig(type_weight=(("view", 0.25), ("wave", 9.0)))
    assert build_log(cleaned(rows_of()), config).type_weights.tolist() == [1.0, 0.25, 5.0]


def test_sessions_of_single_events_are_refused():
    """With a pause between any two events nothing follows anything; the error names the setting."""
    config = CleaningConfig(session_gap=99.0)
    with pytest.raises(DataError, match="session_gap = 99 no session has two events"):
        build_log(cleaned(rows_of()), config)
    build_log(cleaned(rows_of()), CleaningConfig(session_gap=100.0))


def test_too_little_data_names_the_step_that_took_it():
    """Where cleaning left too little, the error says which step removed most."""
    frame = cleaned([*rows_of(), *[("u1", "i0", "buy", 10_000.0)] * 9]).frame
    few = clean_events(frame, CleaningConfig(known_types=("buy",)))
    with pytest.raises(DataError, match=r"too small.*; unknown_types removed most"):
        build_log(few, CleaningConfig())


def test_more_types_than_codes_leave_the_rarest_unspecified():
    """A type beyond the 254 most frequent gets code 0, and no code runs over."""
    rows = rows_of()
    for place in range(MAX_EVENT_TYPES):
        for user in range(1 if place == 0 else 2):
            rows.append((f"u{user}", f"i{place % 6}", f"kind{place}", 50_000.0 + place))
    log = build_log(cleaned(rows), CleaningConfig())
    assert len(log.event_types) == MAX_EVENT_TYPES
    # Views are many and every kind but the first comes twice.
    assert not {"buy", "kind0"} & set(log.event_types)
    assert log.histories.event_types.max() == MAX_EVENT_TYPES
    assert (log.histories.event_types == 0).sum() == 2


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        (rows_of()[:19], "19 events after cleaning, at least 20"),
        (rows_of(users=1, items=30)[:25], "1 users after cleaning, at least 2"),
        (
            [(f"u{n % 4}", f"i{n // 4 % 2}", "view", float(n)) for n in range(24)],
            "2 items after cleaning, at least 3",
        ),
        ([(f"u{n}", f"i{n % 5}", "view", float(n)) for n in range(25)], "no user has two events"),
    ],
)
def test_too_little_data_is_refused(rows, rule):
    """The error says what there is too little of, and how much is needed."""
    with pytest.raises(DataError, match="too small to train on") as caught:
        build_log(cleaned(rows), CleaningConfig())
    assert rule in str(caught.value)


def test_titles_belong_to_the_items_of_the_log():
    """A title goes to its item; items without one or without events get none."""
    log = build_log(cleaned(rows_of()), CleaningConfig())
    frame = pl.LazyFrame({"item_id": ["i3", "i5", "ghost", "i1"], "title": ["C", None, "G", "A"]})
    titles = with_titles(log, nw.from_native(frame)).titles
    found = {log.items.key(number): title for number, title in enumerate(titles)}
    assert found == {"i0": "", "i1": "A", "i2": "", "i3": "C", "i4": "", "i5": ""}
    assert log.titles is None


def test_items_that_nobody_touched_are_counted():
    """Nobody is shown them, so it is said how many they are."""
    log = build_log(cleaned(rows_of()), CleaningConfig())
    item_ids = [*map(log.items.key, range(len(log.items))), "ghost"]
    rows = {"item_id": item_ids, "title": ["A"] * len(item_ids)}
    found = find_doubts(with_titles(log, nw.from_native(pl.LazyFrame(rows))), CleaningConfig())
    assert found == ["1 of 7 items have no event that is left: nobody is shown them"]


def test_items_of_which_nothing_is_said_are_counted():
    """They are recommended without a title, so it is said how many they are."""
    log = build_log(cleaned(rows_of()), CleaningConfig())
    frame = pl.LazyFrame({"item_id": ["i3", "i5"], "title": ["C", None]})
    found = find_doubts(with_titles(log, nw.from_native(frame)), CleaningConfig())
    assert found == [
        "4 of 6 items of the events are not among the items: they have neither title nor attributes"
    ]


def test_what_is_probably_a_mistake_is_said():
    """Titles that reach no item and types that no event has are named, with what there is."""
    log = build_log(cleaned(rows_of()), CleaningConfig())
    frame = pl.LazyFrame({"item_id": ["ghost"], "title": ["G"]})
    config = CleaningConfig(type_weight=(("bought", 8.0), ("buy", 8.0)), once_types=("Buy",))
    titles, weights, once = find_doubts(with_titles(log, nw.from_native(frame)), config)
    assert "title_column" in titles
    assert "'i0'" in titles
    assert weights == "type_weight: no event is of type bought; there are view, buy"
    assert once == "once_types: no event is of type Buy; there are view, buy"
    assert find_doubts(log, CleaningConfig(known_types=("view", "buy"))) == []


def test_a_clock_that_was_wrong_and_a_robot_are_pointed_out():
    """A few times far from all others, and one user with most of a log, are probably mistakes."""
    year = 1_750_000_000.0
    rows = [
        (f"u{user}", f"i{item}", "view", year + 3_600.0 * item + user)
        for user in range(40)
        for item in range(30)
    ]
    assert find_doubts(build_log(cleaned(rows), CleaningConfig()), CleaningConfig()) == []
    rows += [("robot", f"i{step % 30}", "view", year + step) for step in range(1_500)]
    rows.append(("u0", "i29", "view", 0.0))
    times, robot = find_doubts(build_log(cleaned(rows), CleaningConfig()), CleaningConfig())
    assert times.startswith("events reach from 1970-01-01 00:00 to 2025-06-16 ")
    assert "earliest_time and latest_time leave them out" in times
    assert robot == (
        "user 'robot' alone has 1,500 of 2,701 events; if it is a robot, max_events_per_hour leaves it out"
    )


def test_titles_that_are_missing_can_be_filled_in():
    """Items without a title get the given one, and the report counts them."""
    log = build_log(cleaned(rows_of()), CleaningConfig())
    frame = pl.LazyFrame({"item_id": ["i3", "i5"], "title": ["C", None]})
    filled = with_titles(log, nw.from_native(frame), "untitled")
    assert sorted(filled.titles) == ["C", *["untitled"] * 5]
    assert filled.cleaning[:-1] == log.cleaning
    step = filled.cleaning[-1]
    assert (step.name, step.removed, step.filled) == ("missing_titles", 0, 5)
    assert step.left == len(log.histories.items)
