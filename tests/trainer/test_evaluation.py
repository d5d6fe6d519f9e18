"""The evaluation measures what the engine serves, on events that its model has not seen."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from kinrec.cli import main
from kinrec.engine import Engine, Event
from kinrec.engine.model import Model
from kinrec.engine.store import find_bundle, read_manifest
from kinrec.trainer.asking import ask_engine
from kinrec.trainer.baselines import METHODS
from kinrec.trainer.evaluation import evaluate
from kinrec.trainer.measuring import KINREC
from kinrec.trainer.splits import Split, find_cases


@pytest.fixture(scope="module")
def bundle(bundle_store, tmp_path_factory):
    """A copy of the trained bundle, to write the results into."""
    source = find_bundle(bundle_store)
    return shutil.copytree(source, tmp_path_factory.mktemp("evaluated") / source.name)


@pytest.fixture(scope="module")
def evaluation(bundle):
    """The evaluation of the bundle, and what its ticker was told."""
    told = []
    result = evaluate(bundle, None, lambda *progress: told.append(progress))
    return result, told


def test_the_numbers_are_those_of_the_engines_own_answers(bundle, evaluation):
    """Asking the engine in the bundle by hand about everyone gives the same measures."""
    result, _ = evaluation
    full, engine = Model.open(bundle), Engine.load(bundle / "evaluation")
    known = Model.open(bundle / "evaluation").histories.lengths.tolist()
    kinds = ["", *(kind.name for kind in full.manifest.event_spec.event_types)]
    include_seen = full.manifest.event_spec.include_seen_default
    hits, gains, recommended, repeats = [], [], set(), 0
    for user in range(len(full.users)):
        history = full.histories.user(user)
        *before, target = history.items.tolist()
        if not include_seen and target in before:
            repeats += 1
            continue
        events = [
            Event(
                full.items.key(history.items[place]),
                kinds[history.event_types[place]],
                history.times[place],
            )
            for place in range(known[user], len(history) - 1)
        ]
        answer = engine.recommend(user_id=full.users.key(user), events=events, limit=20)
        seen = {full.items.key(item) for item in before}
        assert include_seen or not seen & set(answer.item_ids)
        assert len(answer.item_ids) == 20
        ten = answer.item_ids[:10]
        recommended.update(ten)
        wanted = full.items.key(target)
        hits.append(wanted in ten)
        gains.append(1 / np.log2(ten.index(wanted) + 2) if wanted in ten else 0.0)
    assert (result.people, result.repeats) == (len(hits), repeats)
    measures = result.results[0].measures
    assert measures["HR@10"] == measures["Recall@10"] == pytest.approx(np.mean(hits))
    assert measures["Precision@10"] == pytest.approx(np.mean(hits) / 10)
    assert measures["NDCG@10"] == pytest.approx(np.mean(gains))
    assert measures["Coverage@10"] == pytest.approx(len(recommended) / len(full.items))


def test_no_event_is_left_out_for_a_value_that_the_bundle_does_not_hold(bundle, tmp_path):
    """Where events without a value, or with a low one, are dropped, those of the log had a good one."""
    picky = shutil.copytree(bundle, tmp_path / bundle.name)
    for manifest in (picky / "manifest.json", picky / "evaluation" / "manifest.json"):
        document = json.loads(manifest.read_text("utf-8"))
        document["event_spec"] |= {"drop_missing_value": True, "min_value": 3.0}
        manifest.write_text(json.dumps(document), "utf-8")

    def lists_of(path):
        full, engine = Model.open(path), Engine.load(path / "evaluation")
        cases = find_cases(full.histories, Split.of(full.manifest), include_seen=True)
        assert cases.since.sum() > 0
        return ask_engine(engine, full, cases, KINREC, lambda *_: None)

    np.testing.assert_array_equal(lists_of(picky), lists_of(bundle))


def test_the_model_that_is_measured_has_not_seen_the_last_two_events(bundle):
    """The bundle inside knows everyone's history without the last two events, and nothing less."""
    full, inner = Model.open(bundle), Model.open(bundle / "evaluation")
    held_out = full.histories.lengths - inner.histories.lengths
    assert set(held_out.tolist()) == {2}
    assert inner.manifest.version == full.manifest.version


def test_results_are_written_beside_the_baselines(bundle, evaluation):
    """evaluation.json has every measure of every method, and is what was returned."""
    result, told = evaluation
    report = json.loads((bundle / "evaluation.json").read_text("utf-8"))
    assert report == json.loads(json.dumps(result.as_dict()))
    assert list(report["methods"]) == [KINREC, *(grid[0].name for grid in METHODS)]
    accuracy = {
        f"{name}@{k}"
        for name in ("HR", "Precision", "Recall", "NDCG", "MRR", "MAP")
        for k in (5, 10, 20)
    }
    means = accuracy | {"Novelty@10", "ILD@10"}
    for name, method in report["methods"].items():
        assert set(method["measures"]) == means | {"Coverage@10", "Gini@10"}
        assert all(0.0 <= method["measures"][measure] <= 1.0 for measure in accuracy)
        assert set(method["intervals"]) == means
        for measure, (lower, upper) in method["intervals"].items():
            assert lower - 1e-9 <= method["measures"][measure] <= upper + 1e-9
        assert set(method["differences"]) == (means if name != KINREC else set())
        assert (name, result.people, result.people) in told


def test_differences_are_kinrec_less_the_baseline(evaluation):
    """The mean difference is that of the means, and lies in its interval."""
    results = evaluation[0].results
    for result in results[1:]:
        for name, difference in result.differences.items():
            expected = results[0].measures[name] - result.measures[name]
            assert difference.mean == pytest.approx(expected, abs=1e-12)
            assert difference.interval[0] <= difference.mean <= difference.interval[1]


def test_the_buckets_of_history_length_make_up_the_whole(evaluation):
    """Everyone is in one bucket, and the means of the buckets weighed by people are the mean."""
    result, _ = evaluation
    assert sum(result.people_by_length.values()) == result.people
    for one in result.results:
        assert list(one.by_length) == list(result.people_by_length)
        for name in ("Recall@10", "NDCG@5", "Novelty@10"):
            total = sum(
                people * one.by_length[bucket][name]
                for bucket, people in result.people_by_length.items()
            )
            assert total / result.people == pytest.approx(one.measures[name])


def test_an_evaluation_is_the_same_every_time(bundle, evaluation):
    """With all its random draws, all numbers are those of the first run."""
    again = evaluate(bundle, None, lambda *_: None)
    assert again == evaluation[0]


def test_the_planted_structure_is_found(evaluation):
    """After a few epochs kinrec is far ahead of popularity on the sample, and surely so."""
    result, _ = evaluation
    ndcg = {one.method: one.measures["NDCG@10"] for one in result.results}
    assert ndcg["kinrec"] > 3 * ndcg["popularity"]
    assert ndcg["transitions"] > 3 * ndcg["popularity"]
    assert result.result("popularity").differences["NDCG@10"].interval[0] > 0.0


def test_the_bundle_still_serves_after_its_evaluation(bundle, evaluation):
    """The results lie beside the verified files and change nothing of them."""
    assert Engine.load(bundle).version == evaluation[0].version


def test_the_command_prints_tables_within_80_columns(bundle, capsys):
    """The verdict comes first, and every method has its measures, intervals and differences."""
    assert main(["evaluate", str(bundle)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert "kinrec" in lines[0]
    assert max(map(len, lines[:-1])) <= 80
    first, second = (line.split() for line in lines if line.startswith("method"))
    assert first[1:] == ["HR@10", "Precision@10", "Recall@10", "NDCG@10", "MRR@10", "MAP@10"]
    assert second[-4:] == ["Coverage", "Gini", "Novelty", "ILD"]
    for name in (KINREC, *(grid[0].name for grid in METHODS)):
        assert sum(line.startswith(f"{name} ") for line in lines) >= 2
    text = " ".join(out.split())
    assert "of 300 people find what they went on to do" in text
    assert "NDCG@10 of kinrec less that of each method" in text
    assert "have fewer than three events" in text


def test_the_command_refuses_a_store_without_bundles(tmp_path, capsys):
    """One line that says so, and exit code 2."""
    assert main(["evaluate", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line


@pytest.fixture(scope="module")
def two_futures(tmp_path_factory):
    """Two bundles of logs that differ only in what was done in the test period."""
    rng = np.random.default_rng(8)
    starts = [*rng.integers(0, 1_000, 56), 1_400, 1_450, 1_500, 1_550]  # the last in the test only
    lengths = rng.integers(2, 14, 60)
    rows = [
        (f"u{user}", int(start) + 40 * place + user / 100)
        for user, (start, length) in enumerate(zip(starts, lengths, strict=True))
        for place in range(length)
    ]
    events = pl.DataFrame(rows, ["user_id", "timestamp"], orient="row").sort("timestamp")
    start = int(0.9 * len(events)) + 1
    items = [f"i{item}" for item in rng.integers(0, 12, len(events))]
    other = [*items[:start], *np.roll(items[start:], 7)]
    bundles = []
    for name, column in (("one", items), ("other", other)):
        directory = tmp_path_factory.mktemp(name)
        log = directory / "events.csv"
        events.with_columns(pl.Series("item_id", column)).write_csv(log)
        command = ["train", "--events", str(log), "--out", str(directory / "shop")]
        command += ["--split", "temporal", "--test-share", "0.1", "--no-drop-immediate-repeats"]
        command += ["--epochs", "1", "--vector-size", "8", "--hidden-size", "8", "--factors", "8"]
        assert main(command) == 0
        bundles.append(find_bundle(directory / "shop"))
    return bundles


def test_nothing_of_the_test_period_is_known_before_it(two_futures):
    """Whatever people do in the test period, the model that is asked about it is the same."""
    manifests = [read_manifest(bundle / "evaluation") for bundle in two_futures]
    first, second = ({name: file.sha256 for name, file in m.files.items()} for m in manifests)
    assert first == second
    outer = [read_manifest(bundle).files["history_items.npy"].sha256 for bundle in two_futures]
    assert outer[0] != outer[1]


def test_nothing_of_the_validation_slice_is_in_the_model(two_futures):
    """Histories end before it, and items that come later only are unknown to all counts."""
    split = read_manifest(two_futures[0]).split
    assert split.method == "temporal"
    inner = Model.open(two_futures[0] / "evaluation")
    assert inner.histories.times.max() < split.validation_start < split.test_start
    known = np.isin(np.arange(len(inner.items)), inner.histories.items)
    popularity = np.load(two_futures[0] / "evaluation" / "popularity.npy")
    assert (popularity > 0).tolist() == known.tolist()
    assert known[inner.transitions.items].all()


def test_the_temporal_split_is_evaluated_on_all_that_people_did_after_it(two_futures):
    """The bundle says how it was split; asking its engine by hand gives the same Recall."""
    bundle = two_futures[0]
    result = evaluate(bundle, None, lambda *_: None)
    full, engine = Model.open(bundle), Engine.load(bundle / "evaluation")
    split = full.manifest.split
    assert (result.split, result.test_start) == ("temporal", split.test_start)
    kinds = ["", *(kind.name for kind in full.manifest.event_spec.event_types)]
    recalls, counts = [], {"nothing before": 0, "nothing new": 0}
    for user in range(len(full.users)):
        history = full.histories.user(user)
        is_test = history.times >= split.test_start
        is_since = (history.times >= split.validation_start) & ~is_test
        wanted = set(history.items[is_test]) - set(history.items[~is_test])
        if is_test.any() and is_test.all():
            counts["nothing before"] += 1
        elif is_test.any() and not wanted:
            counts["nothing new"] += 1
        elif is_test.any():
            events = [
                Event(full.items.key(item), kinds[kind], time)
                for item, kind, time in zip(
                    history.items[is_since].tolist(),
                    history.event_types[is_since].tolist(),
                    history.times[is_since].tolist(),
                    strict=True,
                )
            ]
            found = engine.recommend(user_id=full.users.key(user), events=events, limit=20)
            numbers = {full.items.get(item_id) for item_id in found.item_ids[:10]}
            recalls.append(len(numbers & wanted) / len(wanted))
    assert result.people == len(recalls)
    assert (result.too_short, result.repeats) == tuple(counts.values())
    assert min(counts.values()) > 0
    assert result.targets > result.people
    assert result.result(KINREC).measures["Recall@10"] == pytest.approx(np.mean(recalls))
