"""Where the states of a recurrent encoder lie in a person's, which are one row of numbers."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from kinrec.engine._errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from kinrec.bundle.v1 import manifest_pb2

EVENT_INPUTS = ("items", "event_types", "gaps", "lengths")


class EncoderStates:
    """The states of an encoder: its own, (layers, batch, size) each, and a row of all per person.

    Args:
        shapes: The layers and the size of each, by its name; empty for an encoder that carries none.

    Attributes:
        length: How many numbers those of a person are.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]]) -> None:
        ends = list(accumulate((layers * size for layers, size in shapes.values()), initial=0))
        self.length = ends[-1]
        self._parts = [
            (name, slice(start, end), layers, size)
            for (name, (layers, size)), start, end in zip(
                shapes.items(), ends[:-1], ends[1:], strict=True
            )
        ]

    def __contains__(self, name: str) -> bool:
        return any(name == its for its, *_ in self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def views(self, row: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Give the states of one person, (layers, 1, size) each, in the memory of the row."""
        return {
            name: row[part].reshape(layers, 1, size) for name, part, layers, size in self._parts
        }

    def from_rows(self, rows: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Give the states, (layers, len(rows), size) each, of the people of at least one row."""
        together = np.stack(rows)
        return {
            name: np.ascontiguousarray(
                together[:, part].reshape(len(rows), layers, size).swapaxes(0, 1)
            )
            for name, part, layers, size in self._parts
        }

    def to_rows(self, states: Iterable[NDArray[np.float32]], count: int) -> NDArray[np.float32]:
        """Give the rows, (count, length), of the states, (layers, count, size) each, in their order."""
        of_each = [state.swapaxes(0, 1).reshape(count, -1) for state in states]
        return np.concatenate(of_each, axis=1) if of_each else np.zeros((count, 0), np.float32)


def states_of(name: str, spec: manifest_pb2.Encoder) -> EncoderStates:
    """Give the states that an encoder takes: its inputs that are not of the events.

    Args:
        name: Of its file, for errors.
        spec: What the manifest says of it.

    Raises:
        BundleError: For an input that is neither, and for what does not fit together.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for tensor in spec.inputs:
        if tensor.name in EVENT_INPUTS:
            continue
        match list(tensor.dims):
            case [layers, "batch", size] if layers.isdecimal() and size.isdecimal():
                shapes[tensor.name] = (int(layers), int(size))
            case _:
                raise BundleError(
                    f"{name}: its input {tensor.name!r} is neither of the events nor a state"
                )
    if spec.carries_state != bool(shapes):
        raise BundleError(
            f"{name}: the manifest's carries_state is {spec.carries_state}, "
            f"but {len(shapes)} of the inputs are states"
        )
    if spec.max_length < 0:
        raise BundleError(f"{name}: max_length must be zero or more, is {spec.max_length}")
    if spec.max_length and shapes:
        raise BundleError(f"{name}: an encoder that carries state takes any number of events")
    return EncoderStates(shapes)
