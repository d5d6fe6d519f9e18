"""Sample data: what is planted can be found again."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest

from kinrec.cli import main
from kinrec.trainer.cleaning import clean_events
from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.errors import ConfigError, OutputError
from kinrec.trainer.reading import EventColumns, ItemColumns, read_events, read_items
from kinrec.trainer.sample import make_sample, write_sample


@pytest.fixture(scope="module")
def sample():
    return make_sample(users=1000, items=320, seed=7)


@pytest.fixture(scope="module")
def cleaned(sample, tmp_path_factory):
    events, _ = write_sample(sample, tmp_path_factory.mktemp("sample"))
    return clean_events(read_events([events], EventColumns()), CleaningConfig())


@pytest.fixture(scope="module")
def histories(sample, cleaned):
    """The numbers of the items and the types of each user's events, in order."""
    place = {item: number for number, item in enumerate(sample.truth.item_ids)}
    histories = defaultdict(list)
    for user, item, event_type in (
        cleaned.frame.collect().select("user_id", "item_id", "event_type").rows()
    ):
        histories[user].append((place[item], event_type))
    return histories


@pytest.mark.parametrize("size", [(10, 32), (1000, 320)])
@pytest.mark.parametrize("seed", [0, 7])
def test_cleaning_removes_the_planted_dirt_and_nothing_else(tmp_path, size, seed):
    """Every step removes as many events as were planted for it, so that the clean log is left."""
    users, items = size
    sample = make_sample(users=users, items=items, seed=seed)
    events, _ = write_sample(sample, tmp_path)
    cleaned = clean_events(read_events([events], EventColumns()), CleaningConfig())
    assert {step.name: step.removed for step in cleaned.steps} == sample.truth.dirt
    assert min(sample.truth.dirt.values()) >= 2
    assert set(cleaned.frame.collect()["item_id"]) <= set(sample.truth.item_ids)


def test_lengths(sample, cleaned):
    """Every user has at least 3 events, and about 25 on average, most of them fewer."""
    lengths = cleaned.frame.collect().to_native().group_by("user_id").len()["len"]
    assert len(lengths) == len(sample.truth.user_ids)
    assert lengths.min() >= 3
    assert 20 < lengths.mean() < 30
    assert lengths.median() < lengths.mean()


def test_times(cleaned):
    """The events of a user come at growing times within 120 days of a fixed day, in sessions."""
    events = cleaned.frame.collect().to_native()
    first = 1_736_121_600
    assert first <= events["timestamp"].min()
    assert events["timestamp"].max() < first + 121 * 86_400
    gaps = events.select(pl.col("timestamp").diff().over("user_id")).to_series().drop_nulls()
    assert gaps.min() > 0
    assert 0.7 < (gaps < 600).mean() < 0.9


def test_log_is_in_order_of_time(sample):
    """The log reads as one that was written while things happened."""
    assert sample.events["timestamp"].drop_nulls().is_sorted()


def test_successions_are_found(sample, histories):
    """The most frequent next item of most items with a successor is that successor."""
    followers = defaultdict(Counter)
    for history in histories.values():
        views = [item for item, event_type in history if event_type == "view"]
        for item, following in itertools.pairwise(views):
            followers[item][following] += 1
    truth = sample.truth.successor
    found = [
        followers[item].most_common(1)[0][0] == truth[item]
        for item in np.flatnonzero(truth >= 0)
        if followers[item].total() >= 20
    ]
    assert len(found) > 100
    assert np.mean(found) > 0.95
    assert 0.6 < np.mean(truth >= 0) < 0.8


def test_tastes_and_their_drift_are_found(sample, histories):
    """The categories in a user's early and late events are those of the taste at that time."""
    truth = sample.truth
    matches = []
    for number, user in enumerate(truth.user_ids):
        before, after = truth.tastes[number]
        gained = np.flatnonzero((before == 0) & (after > 0))
        views = [item for item, event_type in histories[user] if event_type == "view"]
        if len(gained) and len(views) >= 30:
            third = len(views) // 3
            categories = truth.item_category[views]
            matches.append(
                [(part == gained[0]).mean() for part in (categories[:third], categories[-third:])]
            )
    assert len(matches) > 30
    early, late = np.mean(matches, axis=0)
    assert late > 2 * early
    assert np.allclose(truth.tastes.sum(axis=2), 1)
    assert set((truth.tastes[:, 0] > 0).sum(axis=1)) == {1, 2, 3}


def test_popularity_is_skewed(sample, histories):
    """Within a category the views of items that succeed no other follow the popularity."""
    truth = sample.truth
    counts = np.zeros(len(truth.item_ids))
    for history in histories.values():
        for item, event_type in history:
            counts[item] += event_type == "view"
    is_no_successor = ~np.isin(np.arange(len(counts)), truth.successor)
    correlations = [
        np.corrcoef(counts[members], truth.item_popularity[members])[0, 1]
        for members in (
            np.flatnonzero((truth.item_category == category) & is_no_successor)
            for category in range(len(truth.categories))
        )
    ]
    assert np.mean(correlations) > 0.9


def test_carts_and_purchases_follow_views(histories):
    """A cart comes right after a view of the item, and a purchase right after a cart."""
    counts = Counter()
    for history in histories.values():
        assert history[0][1] == "view"
        for (item, before), (following, event_type) in itertools.pairwise(history):
            counts[event_type] += 1
            if event_type != "view":
                assert (item, before) == (following, {"cart": "view", "buy": "cart"}[event_type])
    assert counts["view"] > counts["cart"] > counts["buy"] > 0


def test_sequences_tell_more_than_popularity(histories):
    """The last new item is among the likely next ones far more often than among the popular."""
    known, target = {}, {}
    for user, history in histories.items():
        items = list(dict.fromkeys(item for item, _ in history))
        known[user], target[user] = items[:-1], items[-1]
    popular = Counter(item for items in known.values() for item in items)
    followers = defaultdict(Counter)
    for items in known.values():
        for item, following in itertools.pairwise(items):
            followers[item][following] += 1

    def hit_rate(scores_of):
        hits = 0
        for user, items in known.items():
            scores = scores_of(items)
            ranked = sorted(scores, key=lambda item: (-scores[item], item))
            new = [item for item in ranked if item not in items]
            hits += target[user] in new[:10]
        return hits / len(known)

    by_popularity = hit_rate(lambda _: popular)
    by_sequence = hit_rate(lambda items: followers[items[-1]] if items else popular)
    assert by_sequence > 3 * by_popularity


def test_items_can_be_read_by_people(sample, tmp_path):
    """Every item has its own title, which tells its category."""
    _, path = write_sample(sample, tmp_path)
    rows = read_items([path], ItemColumns()).collect().to_native().to_dicts()
    assert [row["item_id"] for row in rows] == sample.truth.item_ids
    assert len({row["title"] for row in rows}) == len(rows)
    for row, category in zip(rows, sample.truth.item_category, strict=True):
        assert row["category"] == sample.truth.categories[category]
        assert row["category"] in row["title"]
        assert float(row["price"]) > 0.0


def test_same_seed_same_bytes(tmp_path):
    """The same arguments write the same bytes, another seed others."""
    written = []
    for place, seed in enumerate((7, 7, 8)):
        paths = write_sample(make_sample(users=50, items=64, seed=seed), tmp_path / str(place))
        written.append([path.read_bytes() for path in paths])
    first, again, other = written
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


@pytest.mark.parametrize("key", ["users", "items", "seed"])
def test_arguments_are_checked(key):
    """A shop that is too small to hold what is planted is refused."""
    with pytest.raises(ConfigError, match=rf"^{key} = -1: must be at least "):
        make_sample(**{"users": 10, "items": 32, "seed": 0, key: -1})


def test_files_are_not_overwritten(tmp_path):
    """Files that are there are kept, unless they are to be replaced."""
    sample = make_sample(users=10, items=32, seed=0)
    (tmp_path / "items.csv").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"items\.csv: is there already"):
        write_sample(sample, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["items.csv"]
    assert (tmp_path / "items.csv").read_text(encoding="utf-8") == "mine"
    write_sample(sample, tmp_path, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.csv", "items.csv"]


def test_folder_that_cannot_be_made(tmp_path):
    """A folder within a file is an OutputError that says why."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    sample = make_sample(users=10, items=32, seed=0)
    with pytest.raises(OutputError, match=r"cannot be written: \w+"):
        write_sample(sample, tmp_path / "file" / "folder")


def test_command(tmp_path, capsys):
    """The command writes the files and says where they are; again it refuses in one line."""
    arguments = ["sample-data", "--users", "10", "--items", "32", "--out", str(tmp_path / "s")]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = len((tmp_path / "s" / "events.csv").read_text(encoding="utf-8").splitlines()) - 1
    assert lines == [
        f"{tmp_path}/s/events.csv: {rows} events",
        f"{tmp_path}/s/items.csv: 32 items",
    ]
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        f"kinrec sample-data: {tmp_path}/s/events.csv: is there already; --force replaces it\n"
    )
    assert main([*arguments, "--force"]) == 0
