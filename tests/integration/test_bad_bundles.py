"""Bundles that are not what the trainer wrote: none is loaded, and no server starts with one."""

import json
import shutil
import subprocess
import sys

import pytest

from kinrec.engine import BundleError, Engine
from kinrec.engine.store import find_bundle


@pytest.fixture(scope="module")
def whole(bundle_store):
    """The trained bundle; not to be changed."""
    return find_bundle(bundle_store)


@pytest.fixture
def bundle(whole, tmp_path):
    """A copy of the trained bundle to damage."""
    copy = tmp_path / "shop" / whole.name
    shutil.copytree(whole, copy, ignore=shutil.ignore_patterns("evaluation"))
    return copy


def edit(bundle, change):
    """Change the manifest, as JSON."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


def refusal(bundle):
    """Load in this process and give the one line of the refusal."""
    with pytest.raises(BundleError) as raised:
        Engine.load(bundle)
    text = str(raised.value)
    assert "\n" not in text
    return text


# Damage, found by the checksums.


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


def make_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, flip, lengthen, empty, remove, make_folder])
@pytest.mark.parametrize("name", ["encoder.onnx", "user_factors.npy", "items.marisa", "titles.npy"])
def test_a_damaged_file(bundle, name, damage):
    """A file that is missing, cut, longer or one bit off is named."""
    damage(bundle / name)

    assert str(bundle / name) in refusal(bundle)


def test_every_file_is_verified(bundle):
    """One bit off in any file of the bundle is found."""
    names = sorted(path.name for path in bundle.iterdir() if path.name != "manifest.json")
    assert len(names) > 15
    for name in names:
        kept = (bundle / name).read_bytes()
        flip(bundle / name)
        assert name in refusal(bundle)
        (bundle / name).write_bytes(kept)
    Engine.load(bundle)


def test_swapped_files(bundle):
    """Two files of the same size under each other's names are found."""
    one, other = bundle / "user_factors.npy", bundle / "user_vectors.npy"
    assert one.stat().st_size == other.stat().st_size
    one.rename(bundle / "x")
    other.rename(one)
    (bundle / "x").rename(other)

    assert "user_factors.npy: its SHA-256" in refusal(bundle)


# The manifest.


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe{}",
        b'{"files": []}',
        b'{"format_version": "one"}',
        b"[" * 100_000,
        b'{"files": {"users.marisa": {"size": "many"}}}',
    ],
)
def test_a_manifest_that_is_none(bundle, content):
    """What is not a manifest is refused, whatever it is instead."""
    (bundle / "manifest.json").write_bytes(content)

    assert str(bundle / "manifest.json") in refusal(bundle)


@pytest.mark.parametrize("version", [0, 2, -1])
def test_another_format_version(bundle, version):
    """A bundle of another format is refused and both versions are named."""
    edit(bundle, lambda manifest: manifest.update(format_version=version))

    assert f"format version {version}, this engine reads version 1" in refusal(bundle)


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("format_version", "format version 0"),
        ("name", "name is empty"),
        ("version", "version is empty"),
        ("files", "does not name the file"),
        ("user_count", "user_count must be above zero"),
        ("item_count", "item_count must be above zero"),
        ("encoder", "encoder.vector_size must be above zero"),
        ("event_spec", "event_spec.max_history must be above zero"),
        ("factorization", "factorization.factors must be above zero"),
        ("user_index", "user_index.neighbours must be above zero"),
        ("item_index", "item_index.neighbours must be above zero"),
        ("blend", "blend.neighbours must be above zero"),
    ],
)
def test_a_missing_key(bundle, key, rule):
    """A manifest that lacks what the engine needs is refused; the key is named."""
    edit(bundle, lambda manifest: manifest.pop(key))

    assert f"manifest.json: {'is of ' if key == 'format_version' else ''}{rule}" in refusal(bundle)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("blend", "vote_half_life", 0),
        ("blend", "vote_half_life", "NaN"),
        ("blend", "transition_half_life", -1),
        ("blend", "candidates", 0),
        ("blend", "history_half_life", 0),
        ("blend", "mixes", []),
        ("blend", "mixes", [{"min_events": 2, "weights": {"sequence": 1}}]),
        ("blend", "mixes", [{"min_events": 1}, {"min_events": 1}]),
        ("blend", "mixes", [{"min_events": 1, "weights": {"sequence": "NaN"}}]),
        ("blend", "mixes", [{"min_events": 1, "weights_with_seen": {"sequence": -0.5}}]),
        ("blend", "mixes", [{"min_events": 1, "weights": {"oracle": 1}}]),
        ("factorization", "half_life", "Infinity"),
        ("factorization", "alpha", "NaN"),
        ("factorization", "confidence", -1),
        ("factorization", "fold_in", 0),
        ("factorization", "fold_in", "FOLD_IN_OF_A_LATER_VERSION"),
        ("factorization", "fold_in", "FOLD_IN_LEAST_SQUARES"),  # without regularization
        ("event_spec", "max_history", -5),
        ("event_spec", "session_gap", -1),
        ("event_spec", "repeat_window", "NaN"),
        ("event_spec", "event_types", [{"name": "view", "weight": "Infinity"}]),
    ],
)
def test_a_number_out_of_range(bundle, part, key, value):
    """Numbers that would make every answer wrong are refused."""
    edit(bundle, lambda manifest: manifest[part].update({key: value}))

    assert "manifest.json" in refusal(bundle)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "..", "", "a\nb", "a\0b"])
def test_a_name_that_is_no_file_name(bundle, name):
    """A manifest cannot name files elsewhere."""
    (bundle.parent / "outside").write_text("")
    edit(bundle, lambda manifest: manifest["files"].update({name: {"size": "0", "sha256": ""}}))

    assert "is not a plain file name" in refusal(bundle)


def test_a_file_that_is_not_named(bundle):
    """The engine opens no file that the manifest does not name."""
    edit(bundle, lambda manifest: manifest["files"].pop("title_offsets.npy"))
    assert "does not name the file title_offsets.npy" in refusal(bundle)

    edit(bundle, lambda manifest: manifest["files"].pop("users.marisa"))
    assert "does not name the file" in refusal(bundle)


# The real server.


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda bundle: flip(bundle / "user_factors.npy"), "user_factors.npy: its SHA-256"),
        (lambda bundle: remove(bundle / "encoder.onnx"), "encoder.onnx: No such file"),
        (lambda bundle: edit(bundle, lambda m: m.update(format_version=2)), "format version 2"),
        (lambda bundle: edit(bundle, lambda m: m["user_index"].update(dims=7)), "of 7 dims"),
    ],
)
def test_the_server_refuses_to_start(bundle, damage, rule):
    """The server ends with code 2 and one line that names the file; nothing is served."""
    damage(bundle)

    done = subprocess.run(
        [sys.executable, "-m", "kinrec.cli", "serve", bundle.parent, "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("kinrec serve: ")
    assert done.stderr.count("\n") == 1
    assert rule in done.stderr
