"""Stores: which bundle is opened."""

import shutil

import pytest

from kinrec.engine import BundleError, Engine
from kinrec.engine.store import find_bundle, list_versions, verify_bundle


@pytest.fixture
def store(bundle, tmp_path):
    """A store with three versions, one that is being written and one that was never finished."""
    store = tmp_path / "shop"
    for version in ("20260101T000000Z", "20260301T000000Z", "20260201T000000Z", ".x.writing"):
        (store / version).mkdir(parents=True)
        shutil.copy(bundle / "manifest.json", store / version)
    (store / "20260401T000000Z").mkdir()
    (store / "notes.txt").write_text("not a version")
    return store


def test_the_newest_complete_version(store):
    """Of a store the newest version with a manifest is opened; unfinished ones are not seen."""
    assert find_bundle(store) == store / "20260301T000000Z"
    assert list_versions(store) == ["20260101T000000Z", "20260201T000000Z", "20260301T000000Z"]


def test_a_given_version(store):
    """A version is opened by its name."""
    assert find_bundle(store, "20260101T000000Z") == store / "20260101T000000Z"


@pytest.mark.parametrize(
    "version",
    [
        "../shop/20260101T000000Z",
        "..",
        ".",
        "",
        "20260101T000000Z/",
        "./20260101T000000Z",
        ".x.writing",
        "20260401T000000Z",
        "notes.txt",
        "*",
        "20270101T000000Z",
        "a\0b",
    ],
)
def test_a_name_that_is_no_version(store, version):
    """Only the name of a complete version opens one: no path, no pattern, no unfinished one."""
    (store.parent / "manifest.json").write_text("{}")

    with pytest.raises(BundleError, match="has no complete version"):
        find_bundle(store, version)


def test_a_bundle_itself(bundle):
    """The directory of a bundle opens that bundle."""
    assert find_bundle(bundle) == bundle


def test_nothing_there(tmp_path):
    """A path that is missing, a file, or an empty store says so in one line."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")

    with pytest.raises(BundleError, match="empty: holds no complete bundle"):
        find_bundle(tmp_path / "empty")
    for name, rule in (("missing", "no such directory"), ("file", "is no directory")):
        with pytest.raises(BundleError, match=f"{name}: {rule}"):
            find_bundle(tmp_path / name)


def test_a_trained_bundle_is_whole(bundle):
    """What the trainer wrote passes its own checks and is named as its directory."""
    manifest = verify_bundle(bundle)

    assert manifest.version == bundle.name
    assert manifest.name == bundle.parent.name


def test_the_engine_opens_a_store(bundle_store, bundle):
    """A store and a version lead to the same engine as the bundle."""
    assert Engine.load(bundle_store).version == bundle.name
    assert Engine.load(str(bundle_store), bundle.name).version == bundle.name
