"""Runs a recurrent encoder on one event, as a call does that carries a state and says what is new.

To make the inputs and outputs of a run, and to have onnxruntime look at them, takes as long as one event
does. So they lie in memory that it is told of once.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnxruntime as ort
    from numpy.typing import NDArray

    from kinrec.engine.encoder_states import EncoderStates


class OneEvent:
    """A run over one event of one person, in memory of its own. See ``one_event_of``.

    Args:
        session: The graph.
        states: Those of the encoder.
        outputs: The names of what comes out: the vectors, then a state for each that goes in.

    Attributes:
        inputs: The memory of what goes in, by its name.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        states: EncoderStates,
        outputs: Sequence[str],
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._is_taken = threading.Lock()
        self._item, self._event_type, self._gap = (np.zeros((1, 1), np.int64) for _ in range(3))
        self._vector_size = session.get_outputs()[0].shape[-1]
        self._before = np.zeros(states.length, np.float32)
        self._after = np.zeros(self._vector_size + states.length, np.float32)
        self._length = np.ones(1, np.int32)
        memory: dict[str, NDArray[np.generic]] = {
            "items": self._item,
            "event_types": self._event_type,
            "gaps": self._gap,
            "lengths": self._length,
            **states.views(self._before),
        }
        self.inputs = {node.name: memory[node.name] for node in session.get_inputs()}
        for name, its in self.inputs.items():
            _bind(self._binding.bind_input, name, its)
        vectors, rest = np.split(self._after, [self._vector_size])
        after = [vectors[np.newaxis], *states.views(rest).values()]
        for name, its in zip(outputs, after, strict=True):
            _bind(self._binding.bind_output, name, its)

    def run(
        self, item: int, event_type: int, gap: int, states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Run the encoder.

        Args:
            item: The number of the item.
            event_type: The code of the type.
            gap: The code of the time since the event before.
            states: Those after the event before, one after the other.

        Returns:
            The vector, (vector_size,), and the states, likewise, with the bits of a usual run; None if
            another thread runs it.
        """
        if not self._is_taken.acquire(blocking=False):
            return None
        try:
            self._item[0, 0], self._event_type[0, 0], self._gap[0, 0] = item, event_type, gap
            self._before[:] = states
            self._session.run_with_iobinding(self._binding)
            after = self._after.copy()
            return after[: self._vector_size], after[self._vector_size :]
        finally:
            self._is_taken.release()


def one_event_of(
    session: ort.InferenceSession, states: EncoderStates, outputs: Sequence[str]
) -> OneEvent | None:
    """Give the run over one event, tried once.

    Args:
        session: See ``OneEvent``.
        states: See there.
        outputs: See there.

    Returns:
        None for an encoder without states, and for a graph of which it gives other bits than a usual
        run, or none: then every run is a usual one.
    """
    if not states:
        return None
    before = np.full(states.length, 0.5, np.float32)
    try:
        found = OneEvent(session, states, outputs)
        tried = found.run(0, 0, 0, before)
        usual = session.run(outputs, found.inputs)
    except Exception:  # noqa: BLE001 - onnxruntime's have no class in common
        return None
    if tried is None:
        return None
    is_same = np.array_equal(
        np.concatenate(tried), np.concatenate([np.ravel(one) for one in usual])
    )
    return found if is_same else None


def _bind(bind: Callable[..., None], name: str, memory: NDArray[np.generic]) -> None:
    bind(name, "cpu", 0, memory.dtype.type, memory.shape, memory.ctypes.data)
