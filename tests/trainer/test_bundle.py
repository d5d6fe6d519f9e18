"""A bundle appears whole or not at all, and says of itself what is in it."""

import contextlib
import dataclasses
import datetime as dt
import hashlib
import json
import resource

import numpy as np
import pytest

from kinrec.bundle.v1.manifest_pb2 import EventSpec, EventType
from kinrec.engine import AnyOf, BundleError, Engine, Event, NumberRange
from kinrec.engine.columns import NumberColumn, TextColumn
from kinrec.engine.ids import IdMap
from kinrec.engine.model import Model
from kinrec.engine.store import list_versions
from kinrec.trainer.bundle import event_spec, finish, new_version, write_model
from kinrec.trainer.cleaning import Substitutes
from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.errors import OutputError
from kinrec.trainer.fit import Fit, Task
from kinrec.trainer.statistics import BACKWARD, count_transitions
from kinrec.trainer.weights import WEIGHTS

TIME = dt.datetime(2025, 1, 2, tzinfo=dt.UTC)


@contextlib.contextmanager
def full_disk(size):
    """Let no file of this process grow past some bytes; what is written past them is an error.

    Only around the call in question: the report of the tests may be a file as well.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def ring_store(tmp_path, ring_log, encoder, tiny_config):
    """Where a store would be, and a call that writes a version of the ring into it."""
    store = tmp_path / "store"
    return store, lambda: write(store, ring_log, encoder, tiny_config)


@pytest.fixture
def encoder(ring, tiny_config, watcher):
    """An encoder trained on the ring."""
    return Fit(Task(ring, 16, 1, None), tiny_config).run(watcher, lambda _: None)


def write(store, log, encoder, config, version="v1"):
    """Write a version into a store."""
    with new_version(store, version) as directory:
        manifest = write_model(directory, log, log.histories, encoder, config)
        finish(directory, manifest, name="ring", version=version, time=TIME, config=config)
    return store / version


def test_the_engine_answers_from_what_is_written(tmp_path, ring_log, encoder, tiny_config):
    """The bundle loads, recommends the next of the ring with its title, and knows its users."""
    engine = Engine.load(write(tmp_path / "store", ring_log, encoder, tiny_config))
    assert (engine.name, engine.version) == ("ring", "v1")
    assert (engine.manifest.user_count, engine.manifest.item_count) == (60, 16)
    answer = engine.recommend(events=[Event(f"i{number}") for number in (3, 4, 5)], limit=3)
    assert answer.item_ids[0] == "i6"
    assert answer.titles[0] == "Title 6"
    user = ring_log.histories.user(ring_log.users.get("u5")).items
    known = engine.recommend(user_id="u5", limit=1)
    assert known.item_ids == [ring_log.items.key(int(user[-1] + 1) % 16)]
    similar = engine.similar_users(user_id="u5", limit=5)
    assert "u5" not in similar.user_ids
    assert similar.similarities == sorted(similar.similarities, reverse=True)


def test_attributes_are_written(tmp_path, ring_log, encoder, tiny_config):
    """Each attribute has files of its own, whatever its name, and the engine finds items by it."""
    columns = {
        "../size\n": NumberColumn(np.arange(16.0)),
        "colour": TextColumn.build([["red"], ["red", "blue"], *[[]] * 14]),
    }
    log = dataclasses.replace(ring_log, attributes=columns)
    path = write(tmp_path / "store", log, encoder, tiny_config)
    Engine.load(path)
    model = Model.open(path)
    wanted = [NumberRange("../size\n", 1.0), AnyOf("colour", ("red",))]
    assert np.flatnonzero(model.attributes.mask(wanted)).tolist() == [1]
    assert model.attributes.values("colour", 1) == ["red", "blue"]
    assert [spec.item_count for spec in model.manifest.attributes] == [16, 2]


def test_the_manifest_tells_what_was_done(tmp_path, ring_log, encoder, tiny_config):
    """Configuration, libraries, time, parity and every file are in it."""
    path = write(tmp_path / "store", ring_log, encoder, tiny_config)
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    assert manifest["training_config"] == tiny_config.as_dict()
    assert manifest["create_time"] == "2025-01-02T00:00:00Z"
    assert {"torch", "onnxruntime", "annoy", "kinrec"} <= set(manifest["library_versions"])
    assert manifest["parity"]["max_abs_diff"] <= manifest["parity"]["tolerance"]
    files = {entry.name for entry in path.iterdir()} - {"manifest.json"}
    assert set(manifest["files"]) == files
    for name, file in manifest["files"].items():
        assert int(file["size"]) == (path / name).stat().st_size
    assert not [name for name in files if name.endswith((".pkl", ".pt"))]


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer"])
def test_every_encoder_goes_on_from_a_state(tmp_path, ring_log, tiny_config, watcher, kind):
    """In parts the same bits as whole; a Transformer takes its last events from the state again."""
    config = dataclasses.replace(tiny_config, encoder=kind, epochs=1, max_history=30, window=6)
    fit = Fit(Task(ring_log.histories, 16, 1, None), config)
    path = write(tmp_path / "store", ring_log, fit.run(watcher, lambda _: None), config)
    engine, model = Engine.load(path), Model.open(path)
    assert model.encoder.carries_state == (kind != "transformer")
    events = [Event(f"i{number * 5 % 16}", "", 60.0 * number) for number in range(25)]
    for user in ("", "u5"):
        whole = engine.recommend(user_id=user, events=events, limit=16)
        part = engine.recommend(user_id=user, events=events[:9])
        for place in range(9, 25):
            part = engine.recommend(events=[events[place]], state=part.state, limit=16)
        assert (part.item_ids, part.scores) == (whole.item_ids, whole.scores)
        assert part.state == whole.state


def test_sessions_end_what_the_model_sees(tmp_path, ring_log, tiny_config, watcher):
    """With sessions, nobody is encoded by more than the latest, and nothing follows across one."""
    histories = ring_log.histories
    half = np.tile(np.repeat([0.0, 1e6], 5), 60)  # each walk of ten pauses in the middle
    log = dataclasses.replace(
        ring_log, histories=dataclasses.replace(histories, times=histories.times + half)
    )
    config = dataclasses.replace(tiny_config, cleaning=CleaningConfig(session_gap=1e5))
    fit = Fit(Task(log.histories, 16, 1, None), config)
    path = write(tmp_path / "store", log, fit.run(watcher, lambda _: None), config)
    engine, model = Engine.load(path), Model.open(path)
    assert engine.manifest.event_spec.session_gap == 1e5

    long, short = (
        [Event(log.items.key(item), "", time) for item, time in zip(items, times, strict=True)]
        for items, times in (([0, 1, 2, 9], [0.0, 1.0, 2.0, 2e5]), ([9], [2e5]))
    )
    np.testing.assert_array_equal(
        engine.encode(events=long).vector, engine.encode(events=short).vector
    )
    assert not np.array_equal(
        engine.encode(events=long[:3]).vector, engine.encode(events=long[2:3]).vector
    )
    for user in range(3):
        own = model.histories.user(user)
        events = [
            Event(log.items.key(item), "", time)
            for item, time in zip(own.items.tolist(), own.times.tolist(), strict=True)
        ]
        for known in (events, events[5:]):
            np.testing.assert_allclose(
                engine.encode(events=known).vector, model.user_vectors[user], atol=1e-6
            )
    across = count_transitions(log.histories, 16, 10, backward=BACKWARD)
    within = count_transitions(log.histories.sessions(1e5), 16, 10, backward=BACKWARD)
    assert len(within.items) < len(across.items)
    np.testing.assert_array_equal(model.transitions.offsets, within.offsets)


def test_the_engine_is_told_all_that_it_repeats(ring_log):
    """Every rule of the cleaning that is for requests too stands in the manifest."""
    cleaning = CleaningConfig(
        missing_type="drop",
        missing_value="mean",
        known_types=("buy", "view"),
        min_value=2.5,
        min_value_types=("view",),
        repeat_window=30.0,
        once_types=("like",),
        drop_immediate_repeats=False,
        session_gap=1_800.0,
        type_weight=(("view", 0.5),),
    )
    log = dataclasses.replace(
        ring_log,
        event_types=("view", "buy"),
        given_weights=cleaning.type_weight,
        substitutes=Substitutes(value=3.5),
    )
    assert event_spec(log, TrainConfig(cleaning=cleaning, max_history=90)) == EventSpec(
        event_types=[EventType(name="view", weight=0.5), EventType(name="buy", weight=5.0)],
        max_history=90,
        repeat_window=30.0,
        once_types=["like"],
        known_types=["buy", "view"],
        min_value=2.5,
        min_value_types=["view"],
        drop_missing_type=True,
        missing_value=3.5,
        session_gap=1_800.0,
    )
    off = event_spec(ring_log, TrainConfig())
    assert off == EventSpec(drop_immediate_repeats=True, max_history=2_000)


def test_the_same_log_and_seed_give_the_same_bytes(tmp_path, ring_log, encoder, tiny_config):
    """Two bundles of one training differ in no byte."""
    paths = [write(tmp_path / name, ring_log, encoder, tiny_config) for name in "ab"]
    for first in paths[0].iterdir():
        assert first.read_bytes() == (paths[1] / first.name).read_bytes(), first.name


def test_no_arrays_need_pickle(tmp_path, ring_log, encoder, tiny_config):
    """Every array of a bundle loads with pickle forbidden."""
    path = write(tmp_path / "store", ring_log, encoder, tiny_config)
    for file in path.glob("*.npy"):
        np.load(file, allow_pickle=False)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("broken"), ValueError),
        (BundleError("broken"), BundleError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), OutputError),
    ],
)
def test_an_error_on_the_way_leaves_nothing(tmp_path, error, expected):
    """Whatever goes wrong while a version is written, the store has neither it nor a part of it."""
    store = tmp_path / "store"

    def fail_on_the_way():
        with new_version(store, "v1") as directory:
            (directory / "manifest.json").write_text("{}")
            assert list_versions(store) == []
            raise error

    with pytest.raises(expected):
        fail_on_the_way()
    assert list(store.iterdir()) == []


def test_a_version_appears_in_one_step(tmp_path):
    """Before the end it is not among the versions, after it is whole."""
    store = tmp_path / "store"
    with new_version(store, "v1") as directory:
        (directory / "manifest.json").write_text("{}")
        assert not (store / "v1").exists()
    assert list_versions(store) == ["v1"]
    assert [entry.name for entry in store.iterdir()] == ["v1"]


def test_what_a_killed_training_left_is_removed(tmp_path):
    """The next training removes a half-written version, but not one that is still written."""
    store = tmp_path / "store"
    (store / ".v1.writing" / "evaluation").mkdir(parents=True)
    with new_version(store, "v2") as directory:
        (directory / "manifest.json").write_text("{}")
        with new_version(store, "v3") as other:
            (other / "manifest.json").write_text("{}")
    assert sorted(entry.name for entry in store.iterdir()) == ["v2", "v3"]


@pytest.mark.parametrize("size", [100, 400, 1_000, 3_000])
def test_a_full_disk_gives_one_line_and_nothing_half_written(ring_store, size):
    """Whichever file it is that does not fit, the error names the store and the store stays empty."""
    store, write_version = ring_store
    with full_disk(size), pytest.raises(OutputError) as caught:
        write_version()
    text = str(caught.value)
    assert text.startswith(f"{store}: cannot be written: ")
    assert "\n" not in text
    assert list(store.iterdir()) == []


def test_ids_that_do_not_fit_on_the_disk_are_an_error_too(
    ring_store, ring_log, encoder, tiny_config
):
    """The writer of the id maps, which knows nothing of the system's errors, is no exception."""
    store, write_version = ring_store
    largest_before = (write_version() / WEIGHTS).stat().st_size
    ids = [hashlib.shake_256(b"%d" % number).hexdigest(250) for number in range(60)]
    log = dataclasses.replace(ring_log, users=IdMap.build(ids))
    with full_disk(largest_before + 1_000), pytest.raises(OutputError, match="disk may be full"):
        write(store, log, encoder, tiny_config, version="v2")
    assert list_versions(store) == ["v1"]


def test_a_file_in_the_place_of_the_store_is_named(tmp_path):
    """A store that cannot be made is an error that says where and why."""
    store = tmp_path / "store"
    store.write_text("in the way")
    rule = "store: cannot be written: Not a directory"
    with pytest.raises(OutputError, match=rule), new_version(store, "v1"):
        pytest.fail("there is nowhere to write")
    assert store.read_text() == "in the way"
