"""Sample data: a made-up shop whose structure is known, to try kinrec with and to test it by.

What is planted, and so can be found again: categories with popular and rare items, people with
tastes for one to three categories that drift, items that are likely to be followed by a certain
other, carts and purchases after views, and dirt in known numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from kinrec.engine import MAX_ID_BYTES
from kinrec.trainer._sample_walk import TasteWalk
from kinrec.trainer.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

EVENTS_FILE = "events.csv"
ITEMS_FILE = "items.csv"

# Each with its department and its usual price. Neighbours go together: what is bought in one category
# leads to the next.
_CATEGORIES = (
    ("Trail Running Shoes", "Sports", 110),
    ("Water Bottle", "Sports", 20),
    ("Backpack", "Outdoor", 90),
    ("Tent", "Outdoor", 240),
    ("Smartphone", "Electronics", 600),
    ("Phone Case", "Electronics", 25),
    ("Headphones", "Electronics", 150),
    ("Turntable", "Music", 300),
    ("Record", "Music", 28),
    ("Espresso Machine", "Kitchen", 450),
    ("Coffee Beans", "Kitchen", 16),
    ("Cookbook", "Books", 32),
    ("Novel", "Books", 14),
    ("Reading Lamp", "Home", 60),
    ("Notebook", "Stationery", 9),
    ("Fountain Pen", "Stationery", 48),
)
_MAKERS = ("Alder", "Birch", "Cove", "Delta", "Ember", "Fjord", "Grove", "Harbor", "Iris", "Juno")

_LEAST_USERS, _LEAST_ITEMS = 10, 2 * len(_CATEGORIES)
_FIRST_SECOND = 1_736_121_600  # 2025-01-06 00:00:00 UTC
_DAYS = 120
_LATEST_JOIN = 0.6  # share of the days within which everyone has begun

_SHORTEST, _LONGEST, _MEAN_LENGTH, _LENGTH_SPREAD = 3, 300, 25.0, 0.9
_SESSION_ENDS = 0.2  # after each event
_SHORTEST_GAP, _LONGEST_GAP = 30, 600  # seconds between the events of a session
_MOST_TASTES = 3
_WITH_SUCCESSOR = 0.7
_PRICE_SPREAD = 0.3

_DIRT_SHARES = {
    "missing_ids": 0.01,
    "missing_timestamps": 0.002,
    "long_ids": 0.0005,
    "exact_duplicates": 0.01,
    "immediate_repeats": 0.02,
}


@dataclass(frozen=True, slots=True)
class SampleTruth:
    """What was planted.

    Attributes:
        user_ids: The users, whose numbers are the places here.
        item_ids: The items, whose numbers are the places here.
        categories: The categories' names.
        item_category: (items,) int64, the number of each item's category.
        item_popularity: (items,) float64, each item's share of its category's events, leaving
            successions aside.
        successor: (items,) int64, the number of the item that is likely to come next; -1 for none.
        tastes: (users, 2, categories) float64, the shares of the categories when a user begins and
            ends, each summing to 1.
        dirt: The number of events that each step of the cleaning removes, by its name.
    """

    user_ids: list[str]
    item_ids: list[str]
    categories: list[str]
    item_category: NDArray[np.int64]
    item_popularity: NDArray[np.float64]
    successor: NDArray[np.int64]
    tastes: NDArray[np.float64]
    dirt: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SampleData:
    """Sample events and items.

    Attributes:
        events: ``user_id``, ``item_id``, ``event_type`` and ``timestamp`` (ISO 8601), as a log
            would have them: in order of time, dirt included.
        items: ``item_id``, ``title``, ``category``, ``department`` and ``price``.
        truth: What was planted.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    truth: SampleTruth


def make_sample(users: int, items: int, seed: int) -> SampleData:
    """Make up a shop. The same arguments give the same data.

    Args:
        users: The number of users, each with 25 events on average. At least 10.
        items: The number of items. At least 32.
        seed: Which of the possible shops. At least 0.

    Raises:
        ConfigError: An argument is too small.
    """
    for key, value, least in (
        ("users", users, _LEAST_USERS),
        ("items", items, _LEAST_ITEMS),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ConfigError(key, value, f"must be at least {least}")
    rng = np.random.default_rng(seed)
    item_category = rng.permutation(np.arange(items) % len(_CATEGORIES))
    popularity = _popularity(item_category)
    successor = _successors(item_category, rng)
    tastes = _tastes(users, rng)
    walk = TasteWalk(item_category, popularity, successor, rng)
    clean = _events(walk, tastes, rng)
    events, dirt = _soil(clean, rng)
    truth = SampleTruth(
        user_ids=[f"u{number}" for number in range(1, users + 1)],
        item_ids=[f"i{number}" for number in range(1, items + 1)],
        categories=[name for name, *_ in _CATEGORIES],
        item_category=item_category,
        item_popularity=popularity,
        successor=successor,
        tastes=tastes,
        dirt=dirt,
    )
    return SampleData(events, _items(item_category, seed), truth)


def write_sample(sample: SampleData, directory: Path, *, force: bool = False) -> tuple[Path, Path]:
    """Write ``events.csv`` and ``items.csv`` into a directory, which is made if it is not there.

    Args:
        sample: What to write.
        directory: Where to.
        force: Whether to replace files that are there.

    Returns:
        The two files.

    Raises:
        OutputError: A file is there already, or cannot be written.
    """
    paths = directory / EVENTS_FILE, directory / ITEMS_FILE
    for path in paths:
        if path.exists() and not force:
            raise OutputError(path, "is there already; --force replaces it")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, frame in zip(paths, (sample.events, sample.items), strict=True):
            unfinished = path.with_name(f"{path.name}.unfinished")
            frame.write_csv(unfinished)
            unfinished.replace(path)
    except OSError as error:
        raise OutputError(directory, f"cannot be written: {error.strerror or error}") from error
    return paths


def _popularity(item_category: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the items of each category shares by Zipf's law, the first the greatest."""
    popularity = np.empty(len(item_category))
    for category in range(len(_CATEGORIES)):
        members = np.flatnonzero(item_category == category)
        shares = 1.0 / np.arange(1, len(members) + 1)
        popularity[members] = shares / shares.sum()
    return popularity


def _successors(item_category: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Pick for most items one of the next category, popular or not."""
    successor = np.full(len(item_category), -1, dtype=np.int64)
    for item in np.flatnonzero(rng.random(len(item_category)) < _WITH_SUCCESSOR):
        following = (item_category[item] + 1) % len(_CATEGORIES)
        successor[item] = rng.choice(np.flatnonzero(item_category == following))
    return successor


def _tastes(users: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw tastes; half the users give up one category for another as time passes."""
    tastes = np.zeros((users, 2, len(_CATEGORIES)))
    for taste in tastes:
        count = rng.integers(1, _MOST_TASTES + 1)
        *liked, other = rng.choice(len(_CATEGORIES), size=count + 1, replace=False)
        taste[0, liked] = rng.dirichlet(np.full(count, 2.0))
        taste[1] = taste[0]
        if rng.random() < 0.5:
            taste[1, other], taste[1, liked[0]] = taste[0, liked[0]], 0.0
    return tastes


def _events(walk: TasteWalk, tastes: NDArray[np.float64], rng: np.random.Generator) -> pl.DataFrame:
    """Let every user walk through the shop.

    Returns:
        ``user_id``, ``item_id``, ``event_type`` and ``second``, in which a user's events differ.
    """
    users, items, types, seconds = [], [], [], []
    spread = _LENGTH_SPREAD
    location = np.log(_MEAN_LENGTH - _SHORTEST) - spread**2 / 2
    lengths = _SHORTEST + rng.lognormal(location, spread, len(tastes)).astype(np.int64)
    for user, length in enumerate(np.minimum(lengths, _LONGEST).tolist()):
        steps = walk.history(tastes[user], length)
        users += [f"u{user + 1}"] * length
        items += [f"i{item + 1}" for item, _ in steps]
        types += [event_type for _, event_type in steps]
        seconds.append(_seconds(length, rng))
    columns = {"user_id": users, "item_id": items, "event_type": types}
    return pl.DataFrame({**columns, "second": np.concatenate(seconds)})


def _seconds(length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw growing times in sessions, which are spread over the days since the user began."""
    session = np.cumsum(rng.random(length) < _SESSION_ENDS)
    last = _DAYS * 86_400
    starts = np.sort(rng.integers(rng.integers(int(last * _LATEST_JOIN)), last, session[-1] + 1))
    gaps = rng.integers(_SHORTEST_GAP, _LONGEST_GAP, length)
    since_first = np.cumsum(gaps)
    # A session that would begin before the one before has ended begins right after it.
    return _FIRST_SECOND + since_first + np.maximum.accumulate(starts[session] - since_first)


def _soil(clean: pl.DataFrame, rng: np.random.Generator) -> tuple[pl.DataFrame, dict[str, int]]:
    """Add dirt and count it, each kind made of copies of clean events.

    Returns:
        The events with ``timestamp`` in the place of ``second``, in order of time; the counts.
    """
    shares = _DIRT_SHARES.items()
    dirt = {kind: max(2, round(len(clean) * share)) for kind, share in shares}
    copies = {
        kind: clean[np.sort(rng.choice(len(clean), count, replace=False))]
        for kind, count in dirt.items()
    }
    number = pl.int_range(pl.len())
    blank = pl.when(number % 3 == 0).then(pl.lit("  "))  # else null
    copies["missing_ids"] = copies["missing_ids"].with_columns(
        user_id=pl.when(number % 2 == 0).then(blank).otherwise("user_id"),
        item_id=pl.when(number % 2 == 1).then(blank).otherwise("item_id"),
    )
    copies["long_ids"] = copies["long_ids"].with_columns(
        item_id=pl.lit("x" * MAX_ID_BYTES) + pl.col("item_id")
    )
    # Sooner than any next event of the same user.
    late = pl.Series(rng.integers(1, _SHORTEST_GAP, dirt["immediate_repeats"]))
    copies["immediate_repeats"] = copies["immediate_repeats"].with_columns(
        second=pl.col("second") + late
    )
    time = pl.from_epoch("second").dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("timestamp")
    rows = {"": clean, **copies}
    log = pl.concat(
        [
            part.with_columns(
                pl.lit(None, pl.String).alias("timestamp") if kind == "missing_timestamps" else time
            )
            for kind, part in rows.items()
        ]
    )
    return log.sort("second", maintain_order=True).drop("second"), dirt


def _items(item_category: NDArray[np.int64], seed: int) -> pl.DataFrame:
    numbers = range(1, len(item_category) + 1)
    kinds = [_CATEGORIES[category] for category in item_category]
    titles = [
        f"{_MAKERS[number % len(_MAKERS)]} {kind} {number}"
        for number, (kind, *_) in zip(numbers, kinds, strict=True)
    ]
    usual = np.array([price for *_, price in kinds])
    # Numbers of their own, so that the events do not depend on them.
    spread = np.random.default_rng([seed, 1]).lognormal(0.0, _PRICE_SPREAD, len(usual))
    return pl.DataFrame(
        {
            "item_id": [f"i{number}" for number in numbers],
            "title": titles,
            "category": [kind for kind, *_ in kinds],
            "department": [department for _, department, _ in kinds],
            "price": np.round(usual * spread, 2),
        }
    )
