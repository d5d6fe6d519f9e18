"""Real event logs are read and cleaned as what they are known to be. They are not part of the project."""

from pathlib import Path

import pytest

from kinrec.trainer.cleaning import clean_events
from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.reading import EventColumns, ItemColumns, read_events, read_items

DATA = Path(__file__).parents[2].parent / "shared" / "data"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real event logs are not on this machine"),
]


@pytest.mark.parametrize(
    ("name", "users", "items", "events", "types"),
    [
        ("movielens-100k", 943, 1_682, 100_000, {"rating"}),
        ("retailrocket", 2_174, 29_905, 97_381, {"view", "cart", "buy"}),
    ],
)
def test_a_real_log_is_read_whole(name, users, items, events, types):
    """Users, items and events are as many as published, and cleaning finds all of them usable."""
    frame = read_events([DATA / f"{name}.events.parquet"], EventColumns())
    cleaned = clean_events(frame, CleaningConfig(drop_immediate_repeats=False))
    found = cleaned.frame.collect()
    assert len(found) == events
    assert (found["user_id"].n_unique(), found["item_id"].n_unique()) == (users, items)
    assert sum(step.removed for step in cleaned.steps) == 0
    assert set(found["event_type"].unique().to_list()) == types
    # Between 1990 and 2025 in seconds: neither milliseconds nor days were taken for them.
    assert 6.3e8 < found["timestamp"].min() < found["timestamp"].max() < 1.8e9


def test_the_items_of_a_real_log_have_titles():
    """Every film of the log is in the list of items, with a title."""
    items = read_items([DATA / "movielens-100k.items.parquet"], ItemColumns()).collect()
    events = read_events([DATA / "movielens-100k.events.parquet"], EventColumns()).collect()
    assert set(events["item_id"].to_list()) <= set(items["item_id"].to_list())
    titles = items["title"].to_list()
    assert sum(bool(title) for title in titles) > 0.99 * len(titles)
