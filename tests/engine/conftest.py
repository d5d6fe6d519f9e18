"""The trained sample bundle, opened as a whole and as its parts."""

import pytest

from kinrec.engine import Engine
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
