"""The run over one event: taken only for graphs of which it gives the bits of a usual one."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from kinrec.engine.encoder_states import EncoderStates
from kinrec.engine.one_event import one_event_of

SIZE = 4


def session_of(*, hands_on, dtype=TensorProto.FLOAT):
    """A graph that gives twice its state as the vector, and the state as it is or one more."""
    state = ["batch", SIZE]
    after = "h0" if hands_on else "hn"
    nodes = [
        helper.make_node("Add", ["h0", "h0"], ["twice"]),
        helper.make_node("Squeeze", ["twice", "first"], ["squeezed"]),
        helper.make_node("Cast", ["squeezed"], ["vectors"], to=dtype),
    ]
    if not hands_on:
        nodes.append(helper.make_node("Add", ["h0", "one"], ["hn"]))
    graph = helper.make_graph(
        nodes,
        "encoder",
        [
            helper.make_tensor_value_info("items", TensorProto.INT64, ["batch", "time"]),
            helper.make_tensor_value_info("h0", TensorProto.FLOAT, [1, *state]),
        ],
        [
            helper.make_tensor_value_info("vectors", dtype, state),
            helper.make_tensor_value_info(after, TensorProto.FLOAT, [1, *state]),
        ],
        [
            helper.make_tensor("first", TensorProto.INT64, [1], [0]),
            helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        ],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(built)
    return ort.InferenceSession(built.SerializeToString()), ["vectors", after]


def test_an_event_goes_on_from_the_states_that_are_given():
    """Run after run, each with what it was given; what came out before stays as it was."""
    session, outputs = session_of(hands_on=False)
    one_event = one_event_of(session, EncoderStates({"h0": (1, SIZE)}), outputs)
    assert one_event is not None
    states = np.arange(SIZE, dtype=np.float32)
    found = [one_event.run(3, 0, 0, states)]
    vector, after = found[0]
    found.append(one_event.run(3, 0, 0, after))
    assert vector.tolist() == [0, 2, 4, 6]
    assert after.tolist() == [1, 2, 3, 4]
    assert found[1][0].tolist() == [2, 4, 6, 8]


@pytest.mark.parametrize(
    "odd", [{"hands_on": True}, {"hands_on": False, "dtype": TensorProto.DOUBLE}]
)
def test_a_graph_of_which_it_gives_something_else_has_usual_runs(odd):
    """As one whose state comes out as it went in, which is not written to the memory it is to be in."""
    session, outputs = session_of(**odd)
    assert one_event_of(session, EncoderStates({"h0": (1, SIZE)}), outputs) is None


def test_an_encoder_without_states_has_usual_runs():
    """It looks at all events anyway."""
    session, outputs = session_of(hands_on=False)
    assert one_event_of(session, EncoderStates({}), outputs[:1]) is None


def test_a_trained_encoder_has_it(model):
    """So that the tests of the encoder are tests of it."""
    assert model.encoder._one_event is not None
