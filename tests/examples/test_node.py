"""The Node client of examples/node, with the versions of its lock file, before a real server."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kinrec.client import Client, Event

ROOT = Path(__file__).parents[2]
EVENTS = [Event(item, "view") for item in ("i7", "i9", "i11")]


@pytest.fixture(scope="module")
def main(tmp_path_factory):
    """The program, in a copy of the example with what it depends on."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    root = tmp_path_factory.mktemp("node")
    example = root / "examples" / "node"
    shutil.copytree(
        ROOT / "examples" / "node", example, ignore=shutil.ignore_patterns("node_modules")
    )
    shutil.copytree(ROOT / "protos", root / "protos")
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(
        command, cwd=example, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return example / "main.js"


def test_what_it_prints(main, address):
    """It carries a state, recommends as the SDK does, and reads why calls fail."""
    done = subprocess.run(
        ["node", main, address], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Client(address) as client:
        model = client.get_model()
        items = client.recommend(EVENTS, limit=3).recommendations
    assert done.stdout.splitlines() == [
        f"model {model.name} {model.version}",
        "one event and the state give what all events give",
        *(f"{item.item_id} {item.score:.4f} {item.title}" for item in items),
        "INVALID_ARGUMENT STATE_INVALID; state: must be as an answer of this service gave it",
        "BASIS_PERSONAL",
        "NOT_FOUND UNKNOWN_USER",
        "INVALID_ARGUMENT INVALID_FIELD; limit: must be from 1 to 1000, is -1",
    ]
