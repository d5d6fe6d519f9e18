"""The evaluation measures what the engine serves, on events that its model has not seen."""

import json
import shutil

import numpy as np
import pytest

from kinrec.cli import main
from kinrec.engine import Engine, Event
from kinrec.engine.model import Model
from kinrec.engine.store import find_bundle
from kinrec.trainer.errors import DataError
from kinrec.trainer.evaluation import CUTOFFS, evaluate, find_cases, measure


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
    kinds = ["", *(kind.name for kind in full.manifest.event_spec.event_types)]
    hits, gains, recommended, repeats = [], [], set(), 0
    for user in range(len(full.users)):
        history = full.histories.user(user)
        *before, since, target = history.items.tolist()
        if target in (*before, since):
            repeats += 1
            continue
        event = Event(full.items.key(since), kinds[history.event_types[-2]], history.times[-2])
        answer = engine.recommend(user_id=full.users.key(user), events=[event], limit=20)
        seen = {full.items.key(item) for item in (*before, since)}
        assert not seen & set(answer.item_ids)
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


def test_the_model_that_is_measured_has_not_seen_the_last_two_events(bundle):
    """The bundle inside holds everyone's history without the last two events."""
    full, inner = Model.open(bundle), Model.open(bundle / "evaluation")
    assert (inner.histories.lengths == full.histories.lengths - 2).all()
    assert inner.manifest.version == full.manifest.version


def test_results_are_written_beside_the_baselines(bundle, evaluation):
    """evaluation.json has every measure of every method, and is what was returned."""
    result, told = evaluation
    report = json.loads((bundle / "evaluation.json").read_text("utf-8"))
    assert report == result.as_dict()
    assert list(report["methods"]) == [
        "kinrec",
        "popularity",
        "item-kNN",
        "user-kNN",
        "transitions",
    ]
    names = {
        f"{name}@{k}" for name in ("HR", "Recall", "Precision", "NDCG", "MRR") for k in CUTOFFS
    }
    for measures in report["methods"].values():
        assert set(measures) == names | {"Coverage@10"}
        assert all(0.0 <= value <= 1.0 for value in measures.values())
    for method in report["methods"]:
        assert (method, result.people, result.people) in told


def test_the_planted_structure_is_found(evaluation):
    """After a few epochs kinrec is far ahead of popularity on the sample."""
    ndcg = {one.method: one.measures["NDCG@10"] for one in evaluation[0].results}
    assert ndcg["kinrec"] > 3 * ndcg["popularity"]
    assert ndcg["transitions"] > 3 * ndcg["popularity"]


def test_the_bundle_still_serves_after_its_evaluation(bundle, evaluation):
    """The results lie beside the verified files and change nothing of them."""
    assert Engine.load(bundle).version == evaluation[0].version


def test_long_histories_are_cases_too(make_histories):
    """Whose history is longer than what is kept of it is evaluated on its last event."""
    whole = make_histories([list(range(9)), [0, 1, 2], [3, 4]])
    cases = find_cases(whole.last(4), include_seen=False)
    assert cases.users.tolist() == [0, 1]
    assert cases.targets.tolist() == [8, 2]
    assert cases.histories.user(0).items.tolist() == [5, 6, 7]


def test_repeats_are_left_out_only_where_seen_items_are(make_histories):
    """A last item from the history cannot be recommended, unless seen items are."""
    histories = make_histories([[0, 1, 0], [0, 1, 2]])
    strict = find_cases(histories, include_seen=False)
    assert (strict.users.tolist(), strict.repeats) == ([1], 1)
    free = find_cases(histories, include_seen=True)
    assert (free.users.tolist(), free.repeats) == ([0, 1], 0)


def test_nobody_to_ask_about_is_an_error(make_histories):
    """Without anyone of three events there is nothing to measure."""
    with pytest.raises(DataError, match="nobody has three events"):
        find_cases(make_histories([[0, 1], [2]]), include_seen=False)


def test_measures_are_means_over_people():
    """One hit at the second place of three people gives a third of its gain."""
    measures = measure([[4, 2], [4], []], np.array([2, 3, 4]), items=8)
    assert measures["HR@5"] == pytest.approx(1 / 3)
    assert measures["MRR@5"] == pytest.approx(1 / 6)
    assert measures["NDCG@20"] == pytest.approx(1 / np.log2(3) / 3)
    assert measures["Coverage@10"] == pytest.approx(2 / 8)


def test_the_command_prints_a_table_within_80_columns(bundle, capsys):
    """Every method has a line with its measures, and no name of a column is cut."""
    assert main(["evaluate", str(bundle)]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if line.startswith("method"))
    assert header.split()[1:] == [
        "HR@5",
        "HR@10",
        "HR@20",
        "Precision@10",
        "NDCG@10",
        "MRR@10",
        "Coverage@10",
    ]
    assert len(header) <= 80
    assert any(line.startswith("kinrec ") for line in lines)


def test_the_command_refuses_a_store_without_bundles(tmp_path, capsys):
    """One line that says so, and exit code 2."""
    assert main(["evaluate", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line
