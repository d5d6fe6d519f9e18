"""Bundles whose checksums fit and whose forest does not, loaded by processes that may not crash."""

import numpy as np
import pytest
from annoy import AnnoyIndex


def write_forest(copy, vectors, name="users"):
    """Give the bundle a forest over some vectors in the place of a scan over its own."""
    forest = AnnoyIndex(vectors.shape[1], "angular")
    forest.set_seed(1)
    for number, vector in enumerate(vectors.tolist()):
        forest.add_item(number, vector)
    forest.build(10, n_jobs=1)
    forest.save(str(copy.path / f"{name}.annoy"))
    changes = {"kind": "KIND_ANNOY", "trees": 10, "search_k": 600}
    copy.edit(lambda manifest: manifest[f"{name[:-1]}_index"].update(changes))


@pytest.fixture
def factors(copy):
    """The user factors of the bundle, (300, 32)."""
    return np.load(copy.path / "user_factors.npy")


def test_a_forest_that_fits(copy, factors):
    """A bundle with a forest over its own vectors loads and answers."""
    write_forest(copy, factors)
    copy.seal()

    assert copy.load_apart() == (0, "")


@pytest.mark.parametrize(
    "change",
    [
        lambda vectors: vectors[:, :16],
        lambda vectors: vectors[:, :31],
        lambda vectors: np.hstack([vectors, vectors[:, :1]]),
        lambda vectors: np.hstack([vectors, vectors]),
        lambda vectors: np.hstack([vectors, vectors, vectors[:, :12]]),  # two nodes' size
        lambda vectors: np.hstack([vectors, vectors])[:150],
        lambda vectors: vectors[:-1],
        lambda vectors: np.vstack([vectors, vectors]),
        lambda vectors: vectors[::-1],
        lambda vectors: -vectors,
    ],
)
def test_a_forest_that_does_not_fit(copy, factors, change):
    """A forest of another dimension, number or order of vectors is refused before any query."""
    write_forest(copy, np.ascontiguousarray(change(factors)))
    copy.seal()

    code, text = copy.load_apart()

    assert code == 1
    assert text.startswith("refused: users.annoy: ")
    assert "\n" not in text


@pytest.mark.parametrize(
    "content",
    [
        lambda data: data[:0],
        lambda data: data[: len(data) // 2],
        lambda data: data[: 140 * 100],
        lambda data: data[-140 * 10 :],
        lambda data: bytes(len(data)),
        lambda data: b"\xff" * len(data),
        lambda data: np.random.default_rng(1).bytes(len(data)),
        lambda data: data[:1],
    ],
)
def test_bytes_that_are_not_the_forest(copy, factors, content):
    """A forest that was cut, or is none, is refused though its checksum fits."""
    write_forest(copy, factors)
    path = copy.path / "users.annoy"
    path.write_bytes(content(path.read_bytes()))
    copy.seal()

    code, text = copy.load_apart()

    assert code == 1
    assert text.startswith("refused: users.annoy: ")


def test_a_forest_that_the_manifest_does_not_name(copy, factors):
    """A forest without a checksum is not opened."""
    write_forest(copy, factors)

    assert "manifest.json: does not name the file users.annoy" in copy.refusal()


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("dims", 31, "the manifest says 300 vectors of 31 dims, there are 300 of 32"),
        ("count", "299", "the manifest says 299 vectors of 32 dims, there are 300 of 32"),
        ("recall", 0.2, "recall 0.200 is below 0.900"),
        ("kind", "KIND_UNSPECIFIED", "names no kind of index"),
    ],
)
def test_an_index_that_the_manifest_tells_otherwise(copy, key, value, rule):
    """An index that is not as the manifest says, or finds too few neighbours, is refused."""
    copy.edit(lambda manifest: manifest["user_index"].update({key: value}))

    assert rule in copy.refusal()
