"""A person's states: one row of numbers, in which each state of the encoder has its place."""

import numpy as np

from kinrec.engine.encoder_states import EncoderStates

SHAPES = {"h0": (2, 3), "c0": (1, 4)}


def row(first):
    return np.arange(first, first + 10, dtype=np.float32)


def test_each_state_has_its_place_after_the_one_before():
    """In the order in which they are named, layer by layer."""
    states = EncoderStates(SHAPES)

    views = states.views(row(0))

    assert states.length == 10
    assert views["h0"].tolist() == [[[0, 1, 2]], [[3, 4, 5]]]
    assert views["c0"].tolist() == [[[6, 7, 8, 9]]]


def test_a_view_is_the_memory_of_the_row():
    """So that what is bound to the one is given by the other."""
    its = row(0)

    EncoderStates(SHAPES).views(its)["c0"][0, 0, 0] = 100

    assert its[6] == 100


def test_rows_of_several_people_come_back_as_they_were():
    """Each person keeps their own numbers, and each state has the shape that the graph takes."""
    states = EncoderStates(SHAPES)
    rows = [row(0), row(20), row(40)]

    found = states.from_rows(rows)

    assert found["h0"].shape == (2, 3, 3)
    assert found["c0"].shape == (1, 3, 4)
    assert found["c0"][0, 1].tolist() == [26, 27, 28, 29]
    assert all(its.flags.c_contiguous for its in found.values())
    assert np.array_equal(states.to_rows(found.values(), 3), rows)


def test_an_encoder_without_states_has_rows_of_no_numbers():
    """One for each person all the same."""
    states = EncoderStates({})

    assert states.length == 0
    assert states.from_rows([np.zeros(0, np.float32)] * 2) == {}
    assert states.to_rows([], 2).shape == (2, 0)
