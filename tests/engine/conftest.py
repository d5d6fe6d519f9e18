"""The trained sample bundle: opened, opened in parts, and copied to be changed."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kinrec.engine import BundleError, Engine, Event
from kinrec.engine.model import Model
from kinrec.engine.store import find_bundle


@pytest.fixture(scope="session")
def bundle(bundle_store):
    """The directory of the trained bundle."""
    return find_bundle(bundle_store)


@pytest.fixture(scope="session")
def engine(bundle):
    """An engine over the trained bundle."""
    return Engine.load(bundle)


@pytest.fixture(scope="session")
def model(bundle):
    """The parts of the trained bundle."""
    return Model.open(bundle)


@pytest.fixture(scope="session")
def history_of(model):
    """Gives the stored history of a user as the events of a request."""
    names = ["", *(kind.name for kind in model.manifest.event_spec.event_types)]

    def events(user_id):
        history = model.histories.user(model.users.get(user_id))
        return [
            Event(model.items.key(item), names[code], time)
            for item, code, time in zip(
                history.items.tolist(),
                history.event_types.tolist(),
                history.times.tolist(),
                strict=True,
            )
        ]

    return events


@pytest.fixture(scope="session")
def users(model):
    """The ids of all users."""
    return [model.users.key(number) for number in range(len(model.users))]


_LOAD = """
import sys
from kinrec.engine import BundleError, Engine, Event
try:
    engine = Engine.load(sys.argv[1])
except BundleError as error:
    sys.exit(f"refused: {error}")
engine.recommend(events=[Event("i7")])
engine.similar_users(events=[Event("i7")])
"""


@dataclass(frozen=True)
class BundleCopy:
    """A copy of the trained bundle, to be changed and then loaded.

    Attributes:
        path: Its directory.
    """

    path: Path

    def edit(self, change):
        """Change the manifest, as JSON."""
        path = self.path / "manifest.json"
        manifest = json.loads(path.read_text("utf-8"))
        change(manifest)
        path.write_text(json.dumps(manifest), "utf-8")

    def seal(self):
        """Make the manifest's sizes and checksums fit the files as they are."""
        files = {
            path.name: {
                "size": str(path.stat().st_size),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in self.path.iterdir()
            if path.name != "manifest.json"
        }
        self.edit(lambda manifest: manifest.update(files=files))

    def refusal(self):
        """Load in this process and give the one line of the refusal."""
        with pytest.raises(BundleError) as raised:
            Engine.load(self.path)
        text = str(raised.value)
        assert "\n" not in text
        return text

    def load_apart(self):
        """Load and answer in a process of its own, for a crash to be a failure of one test.

        Returns:
            The exit code, 1 for a refusal, and what was said on standard error.
        """
        done = subprocess.run(
            [sys.executable, "-c", _LOAD, self.path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr.strip()


@pytest.fixture
def copy(bundle, tmp_path):
    """A copy of the trained bundle to change."""
    path = tmp_path / "shop" / bundle.name
    shutil.copytree(bundle, path, ignore=shutil.ignore_patterns("evaluation"))
    return BundleCopy(path)
