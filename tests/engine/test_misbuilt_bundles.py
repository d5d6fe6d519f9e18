"""Bundles whose checksums fit and whose files do not: arrays, id maps and graphs."""

import numpy as np
import pytest

from kinrec.engine.ids import IdMap
from kinrec.engine.model import Model


def test_the_copy_loads(copy):
    """What the other tests change loads before, and with its checksums made anew."""
    copy.seal()

    assert copy.load_apart() == (0, "")


def array_of(name, change):
    """Replace an array by what ``change`` makes of it."""

    def apply(copy):
        array = np.load(copy.path / name)
        np.save(copy.path / name, change(array))

    return name, apply


def put(place, value):
    """Set one element."""

    def change(array):
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "apply"),
    [
        array_of("user_factors.npy", lambda a: a[:-1]),
        array_of("user_factors.npy", lambda a: a[:, :-1]),
        array_of("user_factors.npy", lambda a: a.ravel()),
        array_of("user_factors.npy", lambda a: a.astype(np.float64)),
        array_of("user_factors.npy", lambda a: a.astype(">f4")),
        array_of("user_factors.npy", put((3, 1), np.nan)),
        array_of("user_factors.npy", put((3, 1), -np.inf)),
        array_of("user_vectors.npy", lambda a: a[:, :-1]),
        array_of("user_vectors.npy", put((9, 0), np.nan)),
        array_of("item_factors.npy", put((9, 0), np.inf)),
        array_of("item_factors.npy", lambda a: a[:, :-1]),
        array_of("interest_factors.npy", lambda a: a[:-1]),
        array_of("interest_factors.npy", put((0, 0), np.nan)),
        array_of("item_weights.npy", lambda a: a[:-1]),
        array_of("item_weights.npy", put(2, np.nan)),
        array_of("popularity.npy", lambda a: a[:, np.newaxis]),
        array_of("popularity.npy", put(2, np.nan)),
        array_of("history_items.npy", put(5, 200)),
        array_of("history_items.npy", put(5, -1)),
        array_of("history_items.npy", lambda a: a[:-1]),
        array_of("history_items.npy", lambda a: a.astype(np.int64)),
        array_of("history_items.npy", lambda a: a.astype(np.float32)),
        array_of("history_items.npy", lambda a: a[:0]),
        array_of("history_event_types.npy", put(5, 4)),
        array_of("history_event_types.npy", lambda a: a[:-1]),
        array_of("history_times.npy", lambda a: a[:-1]),
        array_of("history_offsets.npy", lambda a: a[:-1]),
        array_of("history_offsets.npy", put(0, 1)),
        array_of("history_offsets.npy", put(-1, 10**12)),
        array_of("history_offsets.npy", put(7, 10**12)),
        array_of("history_offsets.npy", put(7, -3)),
        array_of("transition_items.npy", put(0, 200)),
        array_of("transition_items.npy", put(0, -1)),
        array_of("transition_weights.npy", put(0, np.nan)),
        array_of("transition_weights.npy", lambda a: a[:-1]),
        array_of("transition_offsets.npy", put(4, 10**12)),
        array_of("transition_evidence.npy", put((0, 1), np.nan)),
        array_of("transition_evidence.npy", lambda a: a[:, :2]),
        array_of("transition_evidence.npy", lambda a: a[:-1]),
        array_of("title_offsets.npy", put(4, 10**12)),
        array_of("title_offsets.npy", lambda a: a[:-1]),
        array_of("titles.npy", lambda a: a[:-1]),
        array_of("attribute_0_codes.npy", put(5, 99)),
        array_of("attribute_0_codes.npy", put(5, -1)),
        array_of("attribute_0_codes.npy", lambda a: a[:-1]),
        array_of("attribute_0_codes.npy", lambda a: (a + 1) % 16),
        array_of("attribute_0_offsets.npy", put(5, 10**12)),
        array_of("attribute_0_offsets.npy", lambda a: a[:-1]),
        array_of("attribute_0_item_offsets.npy", put(1, 10**12)),
        array_of("attribute_0_item_offsets.npy", lambda a: a[:-1]),
        array_of("attribute_0_items.npy", put(5, 200)),
        array_of("attribute_0_items.npy", lambda a: a[::-1]),
        array_of("attribute_0_items.npy", lambda a: a.astype(np.int64)),
        array_of("attribute_2.npy", put(5, np.inf)),
        array_of("attribute_2.npy", lambda a: a[:-1]),
        array_of("attribute_2.npy", lambda a: a.astype(np.float32)),
    ],
)
def test_an_array_that_does_not_fit(copy, name, apply):
    """An array of another shape or type, or with numbers out of range, is named, not served."""
    apply(copy)
    copy.seal()

    told = copy.refusal().removeprefix(f"{copy.path}/")

    # Of two arrays that do not fit each other, such as items and their offsets, either is named.
    assert told[:5] == name[:5]


def test_an_array_of_objects_is_not_unpickled(copy, tmp_path):
    """A file that would run code when it is read as a pickle does not run it."""
    mark = tmp_path / "ran"

    class Runs:
        def __reduce__(self):
            return mark.write_text, ("",)

    np.save(copy.path / "popularity.npy", np.array([Runs()] * 200, dtype=object), allow_pickle=True)
    copy.seal()

    assert "popularity.npy: is not an array that can be mapped" in copy.refusal()
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x05\x00hello", b"PK"])
def test_what_is_not_an_array(copy, content):
    """Other bytes in the place of an array are refused."""
    (copy.path / "item_weights.npy").write_bytes(content)
    copy.seal()

    assert "item_weights.npy: is not an array that can be mapped" in copy.refusal()


def test_a_header_that_claims_more_than_there_is(copy):
    """An array whose header promises more numbers than the file holds is refused."""
    path = copy.path / "user_vectors.npy"
    path.write_bytes(path.read_bytes()[:-4])
    copy.seal()

    assert "user_vectors.npy: is not an array that can be mapped" in copy.refusal()


def test_an_archive_of_arrays(copy):
    """A .npz under the name of a .npy is refused."""
    with (copy.path / "item_weights.npy").open("wb") as stream:
        np.savez(stream, a=np.zeros(3))
    copy.seal()

    assert "item_weights.npy: is not an array that can be mapped" in copy.refusal()


@pytest.mark.parametrize("content", [b"", b"We love Marisa.", b"x" * 5000])
def test_what_is_not_an_id_map(copy, content):
    """Other bytes in the place of an id map are refused, by name."""
    (copy.path / "users.marisa").write_bytes(content)
    copy.seal()

    code, text = copy.load_apart()

    assert code == 1
    assert text == f"refused: {copy.path / 'users.marisa'}: is not an id map"


def test_ids_of_another_bundle(copy):
    """An id map with another number of ids is refused."""
    IdMap.build([f"i{number}" for number in range(199)]).save(copy.path / "items.marisa")
    copy.seal()

    assert "items.marisa: has 199 ids, the manifest says 200" in copy.refusal()


def test_what_is_not_a_graph(copy):
    """Other bytes in the place of the encoder are refused, without onnxruntime's many lines."""
    (copy.path / "encoder.onnx").write_bytes(b"not a graph")
    copy.seal()

    code, text = copy.load_apart()

    assert (code, text) == (1, "refused: encoder.onnx: is not a graph in ONNX")


def test_an_encoder_with_other_inputs(copy):
    """A graph whose inputs are not those that the manifest names is refused."""
    copy.edit(lambda manifest: manifest["encoder"]["inputs"][0].update(dtype="int32"))

    assert "encoder.onnx: its inputs and outputs are not those" in copy.refusal()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"carries_state": False}, "carries_state is False, but 2 of the inputs are states"),
        ({"max_length": -1}, "max_length must be zero or more, is -1"),
    ],
)
def test_an_encoder_that_is_not_what_the_manifest_says(copy, change, words):
    """States that are not announced, and a length that cannot be, are refused."""
    copy.edit(lambda manifest: manifest["encoder"].update(change))

    assert f"encoder.onnx: {words}" in copy.refusal().replace("the manifest's ", "")


def test_the_values_of_another_attribute(copy):
    """The values of an attribute that are no id map, or are others, are refused by name."""
    path = copy.path / "attribute_0.marisa"
    IdMap.build(["a", "b"]).save(path)
    copy.seal()
    assert f"{path}: has 2 values, the manifest says 16" in copy.refusal()

    path.write_bytes(b"x" * 5000)
    copy.seal()
    assert copy.load_apart() == (1, f"refused: {path}: is not an id map")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda specs: specs[1].update(name="category"), "names 'category' twice"),
        (lambda specs: specs[1].pop("name"), "names '' twice, or not at all"),
        (lambda specs: specs[1].pop("kind"), "the attribute 'department' is of no known kind"),
        (lambda specs: specs.append({"name": "x", "kind": "KIND_TIME"}), "file attribute_3.npy"),
        (lambda specs: specs[2].update(kind="KIND_TEXT"), "file attribute_2.marisa"),
    ],
)
def test_attributes_that_the_manifest_does_not_describe(copy, change, words):
    """Attributes without a name, kind or files of their own are refused."""
    copy.edit(lambda manifest: change(manifest["attributes"]))

    assert words in copy.refusal()


def test_a_bundle_without_attributes(copy):
    """A bundle as it was written before there were attributes loads, and knows none."""
    for path in copy.path.glob("attribute_*"):
        path.unlink()
    copy.edit(lambda manifest: manifest.pop("attributes"))
    copy.seal()

    assert copy.load_apart() == (0, "")
    assert Model.open(copy.path).attributes.names == []
