"""The trained sample bundle, copied to be changed and verified, and the commands run in this process."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from kinrec.cli import main
from kinrec.engine.store import find_bundle


@dataclass(frozen=True)
class BundleCopy:
    """A copy of a bundle.

    Attributes:
        path: Its directory.
    """

    path: Path

    def seal(self):
        """Make the manifest's sizes and checksums fit the files as they are."""
        path = self.path / "manifest.json"
        manifest = json.loads(path.read_text("utf-8"))
        for name, file in manifest["files"].items():
            data = (self.path / name).read_bytes()
            file.update(size=str(len(data)), sha256=hashlib.sha256(data).hexdigest())
        path.write_text(json.dumps(manifest), "utf-8")

    def result(self):
        """What the last verification wrote."""
        return json.loads((self.path / "parity.json").read_text("utf-8"))

    def failed(self):
        """The names of the ways that did not pass in the last verification."""
        return {
            (row["way"], "carried" if row["carried"] else row["at_once"])
            for row in self.result()["rows"]
            if not row["passed"]
        }


@pytest.fixture
def copy(bundle_store, tmp_path):
    """A copy of the trained bundle to change."""
    bundle = find_bundle(bundle_store)
    path = tmp_path / "shop" / bundle.name
    shutil.copytree(bundle, path, ignore=shutil.ignore_patterns("evaluation", "*.json"))
    shutil.copy(bundle / "manifest.json", path)
    return BundleCopy(path)


@pytest.fixture
def verify(monkeypatch, capsys):
    """Runs `kinrec verify` in this process and gives the exit code and what was printed."""
    # Here so that what the command sets itself does not outlive the test.
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(*arguments, people=2):
        code = main(["verify", "--people", str(people), *map(str, arguments)])
        return code, *capsys.readouterr()

    return run
