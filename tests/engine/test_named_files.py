"""Nothing of a bundle is read that its manifest does not name."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kinrec.engine import Engine

# Prints what a process opens and maps of a directory while it loads and answers from a bundle.
_WATCH = """
import json, os, sys
directory, opened = os.path.realpath(sys.argv[1]), set()

def note(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        opened.add(os.path.realpath(arguments[0]))

from kinrec.engine import Engine, Event
sys.addaudithook(note)
engine = Engine.load(directory)
engine.recommend(events=[Event("i7")])
engine.similar_users(events=[Event("i7")])
with open("/proc/self/maps") as maps:
    opened.update(line.split(None, 5)[-1].strip() for line in maps if directory in line)
print(json.dumps([os.path.relpath(one, directory) for one in opened if one.startswith(directory)]))
"""


def test_only_named_files_are_opened(copy):
    """Others that lie in the bundle, among them arrays that would run code, are not looked at."""
    named = set(json.loads((copy.path / "manifest.json").read_text("utf-8"))["files"])
    for name in ("sitecustomize.py", "encoder.onnx.data", "extra.npy", "config.json"):
        (copy.path / name).write_text("not of the bundle")
    done = subprocess.run(
        [sys.executable, "-c", _WATCH, copy.path],
        capture_output=True, text=True, timeout=60, check=False, cwd=copy.path.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    opened = set(json.loads(done.stdout))
    assert opened <= named | {"manifest.json"}
    assert {"encoder.onnx", "item_embeddings.npy", "manifest.json", "users.marisa"} <= opened


def test_files_that_are_there_and_not_named_are_not_read(copy):
    """Titles that the manifest does not name are no titles."""

    def forget(manifest):
        for name in ("titles.npy", "title_offsets.npy"):
            del manifest["files"][name]

    copy.edit(forget)
    answer = Engine.load(copy.path).recommend(user_id="u1", limit=3)
    assert answer.titles == ["", "", ""]


def external(name, array, location):
    """A tensor whose numbers are elsewhere."""
    tensor = TensorProto(
        name=name,
        data_type=TensorProto.FLOAT,
        dims=array.shape,
        data_location=TensorProto.EXTERNAL,
    )
    tensor.external_data.add(key="location", value=location)
    return tensor


def in_the_graph(model, location):
    """A weight."""
    weight = next(one for one in model.graph.initializer if one.name == "projection")
    array = numpy_helper.to_array(weight)
    weight.CopyFrom(external(weight.name, array, location))
    return array


def in_an_attribute(model, location):
    """The value of a constant."""
    array = np.zeros(4, np.float32)
    node = helper.make_node("Constant", [], ["aside"], value=external("aside", array, location))
    model.graph.node.append(node)
    return array


def in_a_branch(model, location):
    """A weight of a graph within the graph."""
    array = np.zeros(4, np.float32)
    output = helper.make_tensor_value_info("within", TensorProto.FLOAT, [4])
    branch = helper.make_graph([], "branch", [], [output], [external("within", array, location)])
    always = helper.make_node("Constant", [], ["always"], value=helper.make_tensor("t", 9, [], [1]))
    either = helper.make_node("If", ["always"], ["aside"], then_branch=branch, else_branch=branch)
    model.graph.node.extend([always, either])
    return array


@pytest.mark.parametrize("put", [in_the_graph, in_an_attribute, in_a_branch])
@pytest.mark.parametrize("location", ["weights.bin", "./item_embeddings.npy", "../outside.bin"])
def test_a_graph_that_refers_to_another_file(copy, put, location):
    """Onnxruntime would read it; the bundle is refused, and the file is named."""
    path = copy.path / "encoder.onnx"
    model = onnx.load(path, load_external_data=False)
    array = put(model, location)
    path.write_bytes(model.SerializeToString())
    copy.seal()
    other = Path(copy.path, location)
    if not other.exists():
        other.write_bytes(array.tobytes())
    assert f"encoder.onnx: refers to {location!r}, which the manifest does not" in copy.refusal()


def test_a_graph_that_refers_to_a_place_in_memory(copy):
    """What onnxruntime writes for itself, and would take for an address, is no file either."""
    path = copy.path / "encoder.onnx"
    model = onnx.load(path, load_external_data=False)
    in_the_graph(model, "*/_ORT_MEM_ADDR_/*")
    path.write_bytes(model.SerializeToString())
    copy.seal()
    assert "refers to '*/_ORT_MEM_ADDR_/*'" in copy.refusal()


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("room", ["client_sdk", "server", "trainer"])
def test_nothing_is_unpickled(room):
    """No array is let hold objects, no file of torch is read but as weights, and pickle reads nothing."""
    for path in (ROOT / room / "kinrec").rglob("*.py"):
        text = path.read_text("utf-8")
        assert "allow_pickle=True" not in text, path
        assert "pickle.load" not in text, path
        assert text.count("torch.load(") == text.count("weights_only=True"), path
