"""`kinrec inspect`: the manifest for people, and as JSON for programs."""

import datetime as dt
import json

import pytest

from kinrec.cli import main


@pytest.fixture
def shown(bundle, capsys, monkeypatch):
    """What the command prints of the trained bundle, each line with single spaces."""
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["inspect", str(bundle)]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_it_says_what_the_model_is_and_how_it_was_held_out(shown, engine):
    """Sizes, the split and the default for seen items stand in the first table."""
    manifest = engine.manifest
    assert "all checksums right" in shown[0]
    assert f"items {manifest.item_count:,}" in shown
    assert "held out leave-one-out" in shown
    included = manifest.event_spec.include_seen_default
    assert f"by default seen items {'included' if included else 'left out'}" in shown


def test_it_says_what_each_source_is_worth(shown, engine):
    """Sources with a weight come with what the others reach without them, the rest as not asked."""
    validation = engine.manifest.validation
    without = validation.without_source_ndcg_at_10
    (title,) = (line for line in shown if line.startswith("NDCG@10 of the blend"))
    assert f"{validation.blend_ndcg_at_10:.4f} on {validation.people:,} held-out events" in title
    for source, alone in validation.source_ndcg_at_10.items():
        rest = f"the others without it {without[source]:.4f}" if source in without else "not asked"
        assert f"{source} alone {alone:.4f}, {rest}" in shown


def test_it_says_what_is_known_of_items(shown, engine):
    """Each attribute has its kind, its values and how many items have one."""
    price = engine.manifest.attributes[2]
    assert "category text, 16 values, of 200 of 200 items" in shown
    assert (
        f"price numbers, {price.value_count} values from {price.least:g} to {price.greatest:g}, "
        "of 200 of 200 items"
    ) in shown


def test_times_are_shown_as_such(copy, capsys):
    """The range of an attribute of times is in UTC."""

    def change(manifest):
        manifest["attributes"][2].update(kind="KIND_TIME", least=0, greatest=1e15, value_count="1")

    copy.edit(change)
    assert main(["inspect", str(copy.path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "times, 1 value from 1970-01-01T00:00:00+00:00 to 1000000000000000 s" in text


def test_a_temporal_split_comes_with_its_times(copy, capsys):
    """The starts of both periods are shown as times."""
    validation, test = (dt.datetime(2024, month, 1, tzinfo=dt.UTC).timestamp() for month in (5, 6))
    split = {"method": "temporal", "validation_start": validation, "test_start": test}
    copy.edit(lambda manifest: manifest.update(split=split))
    assert main(["inspect", str(copy.path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "temporal, validation from 2024-05-01T00:00:00+00:00" in text
    assert "test from 2024-06-01T00:00:00+00:00" in text


def test_a_program_gets_json(bundle, engine, capsys):
    """With --json it is one document with the names of the manifest."""
    assert main(["inspect", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == engine.version


def test_a_damaged_bundle_is_refused_in_one_line(copy, capsys):
    """A file that is not what was written is named, and the exit code is 2."""
    (copy.path / "encoder.onnx").write_bytes(b"")
    assert main(["inspect", str(copy.path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "encoder.onnx" in line
