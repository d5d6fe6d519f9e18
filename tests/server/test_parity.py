"""`kinrec serve --require-parity`: only a bundle that `kinrec verify` has passed is served."""

import json
import logging
import shutil
import subprocess
import sys
import time

import pytest

from kinrec.engine import BundleError
from kinrec.engine.store import find_bundle, fingerprint
from kinrec.server.config import ServerConfig
from kinrec.server.parity import PARITY, require_parity
from kinrec.server.processes.loading import Loader, Served
from kinrec.server.states import StateKeys

KINREC = (sys.executable, "-m", "kinrec.cli")
PRINT = b"f" * 16


@pytest.fixture
def bundle(bundle_store, tmp_path):
    """A copy of the trained bundle in a store of its own."""
    trained = find_bundle(bundle_store)
    copy = tmp_path / "shop" / trained.name
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("evaluation", PARITY))
    return copy


def refusal(bundle, *, said):
    """Write what a verification says and give the one line of the refusal."""
    (bundle / PARITY).write_bytes(said)
    with pytest.raises(BundleError) as raised:
        require_parity(bundle, PRINT)
    return str(raised.value)


def test_what_has_passed_is_taken(tmp_path):
    """The result of the same bundle says so; what else it says does not matter."""
    found = {"fingerprint": PRINT.hex(), "passed": True, "rows": []}
    (tmp_path / PARITY).write_text(json.dumps(found))
    require_parity(tmp_path, PRINT)


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ({"fingerprint": PRINT.hex(), "passed": False}, "says that the bundle did not pass"),
        ({"fingerprint": "00" * 16, "passed": True}, "is of another bundle"),
        ({"fingerprint": PRINT.hex(), "passed": 1}, "is not what 'kinrec verify' writes"),
        ({"passed": True}, "is not what 'kinrec verify' writes"),
        ([], "is not what 'kinrec verify' writes"),
    ],
)
def test_what_has_not_passed_is_refused(tmp_path, said, rule):
    """The flag, the file and the reason are in one line."""
    line = refusal(tmp_path, said=json.dumps(said).encode())
    assert line == f"--require-parity: {tmp_path / PARITY}: {rule}"


@pytest.mark.parametrize("said", [b"", b"{", b"\xff", b"[" * 100_000, b'{"passed": tr'])
def test_a_damaged_result_is_refused(tmp_path, said):
    """What is not JSON is no result."""
    assert refusal(tmp_path, said=said).endswith("is not what 'kinrec verify' writes")


def test_a_missing_result_is_refused(tmp_path):
    """It says what writes the file; something else in its place is named too."""
    with pytest.raises(BundleError, match=r"parity.json: is not there; 'kinrec verify' writes it$"):
        require_parity(tmp_path, PRINT)
    (tmp_path / PARITY).mkdir()
    with pytest.raises(BundleError, match=r"parity.json: Is a directory$"):
        require_parity(tmp_path, PRINT)


def test_the_server_does_not_start_with_a_bundle_that_was_not_verified(bundle):
    """Exit code 2 and one line; without the flag the same bundle is served."""
    command = [*KINREC, "serve", bundle.parent, "--port", "0"]
    done = subprocess.run(
        [*command, "--require-parity"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    path = bundle / PARITY
    assert done.stderr == (
        f"kinrec serve: --require-parity: {path}: is not there; 'kinrec verify' writes it\n"
    )

    path.write_text(json.dumps({"fingerprint": fingerprint(bundle).hex(), "passed": True}))
    command += ["--require-parity", "--drain-wait", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        line = process.stdout.readline()
        process.terminate()
    assert line.startswith(b"kinrec: serving shop ")
    assert process.returncode == 0


def test_the_version_before_is_held_to_it_too(bundle, caplog):
    """One that has not passed answers no states, and the log says why."""
    older = bundle.with_name("20010101T000000Z")
    shutil.copytree(bundle, older)
    path = older / "manifest.json"
    path.write_text(path.read_text("utf-8").replace(bundle.name, older.name), "utf-8")
    state = b"kst1" + fingerprint(older) + bytes(16)
    config = ServerConfig(require_parity=True, state_keys=StateKeys([b"k" * 32]))
    served = Served(bundle, older, time.time() + 60)
    (bundle / PARITY).write_text(
        json.dumps({"fingerprint": fingerprint(bundle).hex(), "passed": True})
    )

    with caplog.at_level(logging.WARNING):
        engines = Loader(bundle.parent, config).load(served)
    assert engines.of(state).engine is engines.current
    assert f"--require-parity: {older / PARITY}: is not there" in caplog.text

    found = {"fingerprint": fingerprint(older).hex(), "passed": True}
    (older / PARITY).write_text(json.dumps(found))
    engines = Loader(bundle.parent, config).load(served)
    assert engines.of(state).engine.version == older.name
