"""The examples in README.md run as they stand, against a real server."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
CALLS = [
    line
    for language, code in BLOCKS
    if language == "sh"
    for line in code.splitlines()
    if line.startswith(("kinrec call", "grpcurl", "kinrec inspect", "kinrec evaluate"))
]


def test_there_are_examples():
    """The patterns above find the examples."""
    assert len(PYTHON) == 3
    assert len(CALLS) == 8


@pytest.mark.parametrize("code", PYTHON)
def test_python_examples_run(code, address, bundle_store):
    """Each Python example ends without an error and prints something."""
    code = code.replace("localhost:50051", address).replace("models/shop", str(bundle_store))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("line", CALLS)
def test_commands_run(line, address, bundle_store, tmp_path):
    """Each command that reads a store or calls a server ends well and prints something."""
    line = line.replace("localhost:50051", address).replace("models/shop", str(bundle_store))
    program, *arguments = shlex.split(line)
    done = subprocess.run(
        [BIN / program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
