"""Training sequences and their batches."""

from collections import Counter

import numpy as np
import pytest

from kinrec.trainer.windows import END_BATCH, Windows, choose_batch_events


def numbered(make_histories, lengths):
    """Histories in which every event has an item of its own: its place in the log."""
    places = iter(range(sum(lengths)))
    return make_histories([[next(places) for _ in range(length)] for length in lengths])


@pytest.mark.parametrize("window", [2, 3, 7, 100])
def test_every_event_but_a_first_is_predicted_once_from_the_one_before(make_histories, window):
    """Over an epoch each event is one target, its input being the event before it."""
    histories = numbered(make_histories, [1, 2, 3, 4, 8, 15, 16, 0, 23, 1])
    windows = Windows(histories, window, 16)
    pairs = Counter()
    for items, _, _, targets, mask in windows.batches(np.random.default_rng(0)):
        pairs.update(zip(items[mask].tolist(), targets[mask].tolist(), strict=True))
    firsts = set(histories.offsets[:-1].tolist())
    expected = {(place - 1, place) for place in range(len(histories.items)) if place not in firsts}
    assert set(pairs) == expected
    assert set(pairs.values()) == {1}


def test_sequences_carry_types_and_gaps_and_are_padded_at_the_end(make_histories):
    """Places past a sequence's end are masked, and those before hold its own events."""
    histories = make_histories(
        [[5, 6, 7], [8, 9]], types=[[1, 2, 3], [1, 1]], times=[[0.0, 3.0, 10.0], [0.0, 1.0]]
    )
    ((items, types, gaps, targets, mask),) = Windows(histories, 50, 1_000).batches(
        np.random.default_rng(0)
    )
    order = np.argsort(mask.sum(1).numpy())
    assert mask[order].tolist() == [[True, False], [True, True]]
    assert items[order][mask[order]].tolist() == [8, 5, 6]
    assert targets[order][mask[order]].tolist() == [9, 6, 7]
    assert types[order][mask[order]].tolist() == [1, 1, 2]
    # The first gap is unknown, the second is 1 + floor(log2(1 + 3 s)).
    assert gaps[order][mask[order]].tolist() == [0, 0, 3]


def test_batches_are_drawn_by_the_generator_alone(make_histories):
    """The same seed gives the same batches again, another seed gives others."""
    windows = Windows(numbered(make_histories, list(range(2, 40))), 10, 32)

    def draw(seed):
        return [batch[0].tolist() for batch in windows.batches(np.random.default_rng(seed))]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_steps_are_the_batches_of_an_epoch(make_histories):
    """The number of steps, by which the learning rate is planned, is that of the batches."""
    for lengths in ([2], [5] * 100, list(range(1, 60)), [500, 2, 2, 2]):
        windows = Windows(numbered(make_histories, lengths), 10, 64)
        assert len(list(windows.batches(np.random.default_rng(0)))) == windows.steps


def test_no_pairs_give_no_batches(make_histories):
    """Histories of single events are nothing to learn from, and no error."""
    windows = Windows(numbered(make_histories, [1, 1, 0]), 10, 64)
    assert list(windows.batches(np.random.default_rng(0))) == []


def test_ends_are_the_last_events_of_each_user_once(make_histories):
    """Every user asked for comes once, with the last events up to the limit and where they end."""
    lengths = [1 + place % 9 for place in range(END_BATCH + 50)]
    histories = numbered(make_histories, lengths)
    users = np.arange(0, len(lengths), 1, dtype=np.int64)[::-1].copy()
    found = {}
    for chosen, (items, _, _, last) in Windows.ends(histories, users, 4):
        for place, row, end in zip(chosen.tolist(), items.tolist(), last.tolist(), strict=True):
            assert users[place] not in found
            found[int(users[place])] = row[: end + 1]
    expected = {user: histories.user(user, 4).items.tolist() for user in range(len(lengths))}
    assert found == expected


@pytest.mark.parametrize(
    ("lengths", "events"),
    [
        ([7] * 20_000, 512),  # 80 sequences of 6
        ([11] * 20_000, 800),
        ([120] * 2_000, 1_024),
        ([11] * 800, 125),  # a small log: 64 steps
        ([2] * 30, 64),
        ([1, 0], 64),
    ],
)
def test_events_per_step_are_chosen_by_the_log(lengths, events):
    """Steps have about as many sequences, and a small log has smaller ones."""
    assert choose_batch_events(np.array(lengths), 50) == events
