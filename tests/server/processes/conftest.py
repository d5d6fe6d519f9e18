"""A store of one version, and `kinrec serve` over it."""

import os
import subprocess

import pytest

from kinrec.engine.store import find_bundle

from .serving import FIRST, KINREC, make_version


@pytest.fixture
def trained(bundle_store):
    """The bundle that the versions are made of."""
    return find_bundle(bundle_store)


@pytest.fixture
def store(trained, tmp_path):
    """A store of one version."""
    store = tmp_path / "shop"
    store.mkdir()
    make_version(trained, store, FIRST)
    return store


@pytest.fixture
def serve(store, tmp_path):
    """Start `kinrec serve`; return the process and its address once it is ready."""
    processes = []
    log = (tmp_path / "log").open("w+")

    def start(*flags, of=store):
        command = [KINREC, "serve", of, "--port", "0", "--drain-wait", "0", *flags]
        environment = os.environ | {"KINREC_STATE_KEY": "k" * 32}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        processes.append(process)
        line = process.stdout.readline()
        assert line.startswith("kinrec: serving "), (tmp_path / "log").read_text()
        return process, line.split()[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate(timeout=10)
    log.close()
