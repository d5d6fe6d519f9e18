"""What is kept of an unfinished training."""

import dataclasses
import resource

import pytest
import torch

from kinrec.engine.ids import IdMap
from kinrec.trainer.checkpoint import Checkpoints, fingerprint
from kinrec.trainer.errors import OutputError
from kinrec.trainer.fit import Fit, Task


@pytest.fixture
def state(ring, tiny_config):
    """The state of a fit that has not run."""
    return Fit(Task(ring, 16, 1, None), tiny_config).state()


def test_what_is_saved_is_loaded_by_the_next_run(tmp_path, ring_log, tiny_config, state):
    """Every phase comes back, with the same weights, through a file without pickled objects."""
    saved = Checkpoints(tmp_path, ring_log, tiny_config)
    saved.save("search", state)
    saved.save("final", state | {"history": [(1, 0.5, 0.25, 0.001)]})
    loaded = Checkpoints(tmp_path, ring_log, tiny_config)
    assert loaded.get("search") is None
    assert loaded.load()
    assert loaded.get("search")["history"] == []
    assert loaded.get("final")["history"] == [(1, 0.5, 0.25, 0.001)]
    for name, tensor in state["model"].items():
        assert torch.equal(loaded.get("final")["model"][name], tensor)


def test_clear_leaves_nothing(tmp_path, ring_log, tiny_config, state):
    """After a finished training the store has no trace of it, and clearing twice is no error."""
    checkpoints = Checkpoints(tmp_path, ring_log, tiny_config)
    checkpoints.save("search", state)
    assert list(tmp_path.iterdir())
    checkpoints.clear()
    checkpoints.clear()
    assert not list(tmp_path.iterdir())
    assert not checkpoints.load()


def test_another_log_or_configuration_has_another_file(tmp_path, ring_log, tiny_config, state):
    """A training never goes on from one of other settings, events or item ids."""
    Checkpoints(tmp_path, ring_log, tiny_config).save("search", state)
    histories = ring_log.histories
    later = dataclasses.replace(histories, times=histories.times + 1)
    others = [
        (ring_log, dataclasses.replace(tiny_config, seed=7)),
        (ring_log, dataclasses.replace(tiny_config, encoder="gru")),
        (dataclasses.replace(ring_log, histories=later), tiny_config),
        (
            dataclasses.replace(ring_log, items=IdMap.build(f"j{number}" for number in range(16))),
            tiny_config,
        ),
    ]
    for log, config in others:
        assert not Checkpoints(tmp_path, log, config).load()
    names = {fingerprint(log, config) for log, config in [(ring_log, tiny_config), *others]}
    assert len(names) == 5


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_file_is_said_to_be_damaged(tmp_path, ring_log, tiny_config, state, share):
    """A file that is cut short gives one line that says how to go on without it."""
    Checkpoints(tmp_path, ring_log, tiny_config).save("search", state)
    (file,) = (tmp_path / ".training").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(OutputError, match=r"is damaged; without --resume") as caught:
        Checkpoints(tmp_path, ring_log, tiny_config).load()
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_checkpoint_from_before(tmp_path, ring_log, tiny_config, state):
    """A state that cannot be written is one line, and the file of the epoch before stays whole."""
    checkpoints = Checkpoints(tmp_path, ring_log, tiny_config)
    checkpoints.save("search", state)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        with pytest.raises(OutputError, match=r"checkpoint cannot be written: .*full"):
            checkpoints.save("search", state | {"history": [(1, 0.5, 0.25, 0.001)]})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(list((tmp_path / ".training").iterdir())) == 1
    loaded = Checkpoints(tmp_path, ring_log, tiny_config)
    assert loaded.load()
    assert loaded.get("search")["history"] == []
