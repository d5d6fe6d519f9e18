"""Runs the exported encoder, over one history or several."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.engine._errors import BundleError
from kinrec.engine._onnxruntime import ort
from kinrec.engine.encoder_states import EVENT_INPUTS, states_of
from kinrec.engine.events import UNKNOWN_GAP, History, gap_code, gap_codes
from kinrec.engine.one_event import one_event_of
from kinrec.engine.stages import listener

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kinrec.bundle.v1 import manifest_pb2
    from kinrec.engine.encoder_states import EncoderStates
    from kinrec.engine.one_event import OneEvent

MAX_BATCH = 32

# Events of a run, padding included, after which its memory is kept: what a larger one took is given
# back, which otherwise would stay for good.
_MOST_KEPT = 2 * 1024


class Start(NamedTuple):
    """What came before the events to encode.

    Attributes:
        states: Those of the encoder after it, see ``Encoded``.
        time: Of its last event.
    """

    states: NDArray[np.float32]
    time: float


class Encoded(NamedTuple):
    """What events were encoded to.

    Attributes:
        vector: The interest vector after the last event, float32, (vector_size,).
        states: What a recurrent encoder carries to the next event, float32, one state after the other,
            each (layers, size) in C order; of length 0 if it carries none.
    """

    vector: NDArray[np.float32]
    states: NDArray[np.float32]


class Encoder:
    """The exported encoder. Safe to call from many threads.

    Every call has at least one event per history: onnxruntime ends the process on an empty batch
    and gives wrong values for an empty sequence.
    """

    def __init__(self, path: Path, spec: manifest_pb2.Encoder) -> None:
        options = ort.SessionOptions()
        # One thread that never spins: servers scale by processes. What a run takes is kept for the
        # next, for to get it anew page by page costs a tenth of the run; but see _MOST_KEPT.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        except Exception as error:
            raise BundleError(f"{path.name}: onnxruntime cannot load it") from error
        _check_graph(path.name, self._session, spec)
        names = [tensor.name for tensor in spec.inputs]
        self._unused = [name for name in EVENT_INPUTS if name not in names]
        self._states = states_of(path.name, spec)
        self._no_states = np.zeros(self._states.length, np.float32)
        self._max_length = spec.max_length or None
        self._outputs = ["vectors", *_state_outputs(path.name, spec, self._states)]
        self._one_event = one_event_of(self._session, self._states, self._outputs)
        # The slice of the events that the graph takes: all of them, or the last.
        self._visible = slice(-self._max_length if self._max_length else None, None)
        self._giving_back = ort.RunOptions()
        self._giving_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    @property
    def carries_state(self) -> bool:
        """Whether a start can stand for the events before."""
        return bool(self._states)

    def share_a_run(self, one: History, other: History) -> bool:
        """Whether a run over both costs little more than over one, and changes the bits of neither.

        Padding changes no bit of a recurrent encoder; of another it may.
        """
        if not self._states:
            return self._length(one) == self._length(other)
        first, second = len(one.items), len(other.items)
        return first <= 2 * second and second <= 2 * first

    def _length(self, history: History) -> int:
        return min(len(history), self._max_length or len(history))

    @property
    def state_length(self) -> int:
        """How many numbers the states of a person are."""
        return self._states.length

    def run(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """Encode at least one history, each of at least one event.

        Returns:
            float32, (histories, vector_size).
        """
        vectors, *_ = self._run(histories, [None] * len(histories), ["vectors"])
        return vectors

    def encode(self, history: History, start: Start | None = None) -> Encoded:
        """Encode at least one event, which may follow a start; see ``run_from``."""
        if self._one_event is not None and len(history.items) == 1:
            encoded = self._run_one_event(self._one_event, history, start)
            if encoded is not None:
                return encoded
        (encoded,) = self.run_from([history], [start])
        return encoded

    def _run_one_event(
        self, one_event: OneEvent, history: History, start: Start | None
    ) -> Encoded | None:
        gap, states = UNKNOWN_GAP, self._no_states
        if start is not None:
            gap, states = gap_code(float(history.times[0]) - start.time), start.states
        found = one_event.run(history.items[0], history.event_types[0], gap, states)
        if found is None:
            return None
        listener.get().note_batch(1)
        return Encoded(*found)

    def run_from(
        self, histories: Sequence[History], starts: Sequence[Start | None]
    ) -> list[Encoded]:
        """Encode what follows each start, with the states at the end.

        The bits are those of one run over the events before the start and these.

        Args:
            histories: At least one, each of at least one event.
            starts: What came before each; None for nothing, and for an encoder without states.
        """
        vectors, *states = self._run(histories, starts, self._outputs)
        rows = self._states.to_rows(states, len(vectors))
        return [Encoded(vector, its) for vector, its in zip(vectors, rows, strict=True)]

    def _run(
        self,
        histories: Sequence[History],
        starts: Sequence[Start | None],
        outputs: list[str],
    ) -> list[NDArray[np.float32]]:
        listener.get().note_batch(len(histories))
        visible = self._visible
        if len(histories) == 1:  # the usual call, with nothing to pad
            (history,) = histories
            items = history.items[np.newaxis, visible].astype(np.int64)
            types = history.event_types[np.newaxis, visible].astype(np.int64)
            gaps = _gaps(history, starts[0])[np.newaxis, visible]
            lengths = np.array([items.shape[1]], np.int32)
        else:
            lengths, items, types, gaps = _pad(histories, starts, visible)
        states = self._feed_of(starts)
        feed = {"items": items, "event_types": types, "gaps": gaps, "lengths": lengths, **states}
        for name in self._unused:
            del feed[name]
        how = self._giving_back if items.size > _MOST_KEPT else None
        found: list[NDArray[np.float32]] = self._session.run(outputs, feed, how)
        return found

    def _feed_of(self, starts: Sequence[Start | None]) -> dict[str, NDArray[np.float32]]:
        """Give the states before the events, (layers, batch, size) each: zeros where nothing was."""
        before = [self._no_states if start is None else start.states for start in starts]
        if len(before) == 1:  # views, nothing to put together
            return self._states.views(before[0])
        return self._states.from_rows(before)


def _gaps(history: History, start: Start | None) -> NDArray[np.int64]:
    """Give the gap code of each event, of the first since the start."""
    if start is None:
        return gap_codes(history.times)
    if len(history) == 1:  # the usual event that goes on from a state
        return np.array([gap_code(float(history.times[0]) - start.time)])
    return gap_codes(np.concatenate([[start.time], history.times]))[1:]


def _all_gaps(
    histories: Sequence[History], starts: Sequence[Start | None]
) -> list[NDArray[np.int64]]:
    """Give the gap codes of each history; see ``_gaps``. A pass over all costs little more than one."""
    times: list[NDArray[np.float64]] = []
    for history, start in zip(histories, starts, strict=True):
        times += [np.array([np.nan if start is None else start.time]), history.times]
    codes = gap_codes(np.concatenate(times))
    ends = accumulate(len(history) + 1 for history in histories)
    return [codes[end - len(history) : end] for history, end in zip(histories, ends, strict=True)]


def _pad(
    histories: Sequence[History], starts: Sequence[Start | None], visible: slice
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Give the lengths, (batch,), and the items, types and gaps, (batch, time), padded with 0."""
    items = [history.items[visible] for history in histories]
    types = [history.event_types[visible] for history in histories]
    # Cut after the codes are made: the first event that is left came after another.
    gaps = [codes[visible] for codes in _all_gaps(histories, starts)]
    lengths = np.array([len(row) for row in items], np.int32)
    is_event = np.arange(lengths.max()) < lengths[:, np.newaxis]
    return lengths, _padded(items, is_event), _padded(types, is_event), _padded(gaps, is_event)


def _padded(rows: Sequence[NDArray[np.integer]], is_event: NDArray[np.bool_]) -> NDArray[np.int64]:
    padded = np.zeros(is_event.shape, np.int64)
    padded[is_event] = np.concatenate(rows)
    return padded


def _state_outputs(name: str, spec: manifest_pb2.Encoder, states: EncoderStates) -> list[str]:
    """Give the outputs that hold the states after the events, in the order of the inputs."""
    outputs = [tensor.name for tensor in spec.outputs]
    inputs = [tensor for tensor in spec.inputs if tensor.name in states]
    dims = [list(tensor.dims) for tensor in inputs]
    if outputs[:1] != ["vectors"] or [list(tensor.dims) for tensor in spec.outputs[1:]] != dims:
        raise BundleError(
            f"{name}: its outputs must be vectors and then a state like each of the inputs"
        )
    return outputs[1:]


def _check_graph(name: str, session: ort.InferenceSession, spec: manifest_pb2.Encoder) -> None:
    found = [
        (node.name, node.type, [str(dim) for dim in node.shape])
        for node in (*session.get_inputs(), *session.get_outputs())
    ]
    named = [
        (tensor.name, f"tensor({tensor.dtype})", list(tensor.dims))
        for tensor in (*spec.inputs, *spec.outputs)
    ]
    if found != named:
        raise BundleError(f"{name}: its inputs and outputs are not those the manifest names")
