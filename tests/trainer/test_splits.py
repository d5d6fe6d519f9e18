"""A log is cut so that nothing of the future is known before it."""

import math

import numpy as np
import pytest

from kinrec.bundle.v1 import manifest_pb2
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.errors import ConfigError, DataError
from kinrec.trainer.splits import Split, find_cases, hold_out

TEMPORAL = Split("temporal", 100.0, 200.0)


@pytest.fixture
def log(make_histories):
    """Five people; times below 100 are for training, from 100 for validation, from 200 the test."""
    return make_histories(
        [[0, 1, 2, 3, 3, 0], [4, 5, 6], [1, 2], [7, 8], [2, 3, 2]],
        times=[
            [10, 20, 110, 200, 210, 220],  # in all three periods
            [120, 130, 250],  # no history for training
            [30, 40],  # nothing later
            [210, 220],  # in the test alone
            [50, 60, 230],  # only repeats its history in the test
        ],
    )


def rows(histories):
    """Give the items of each history."""
    return [histories.user(user).items.tolist() for user in range(len(histories))]


def test_the_temporal_training_part_ends_before_the_validation_slice(log):
    """Only events before the first cut are left, of everyone."""
    training_part, _ = hold_out(log, TEMPORAL)
    assert rows(training_part) == [[0, 1], [], [1, 2], [], [2, 3]]
    assert training_part.times.max() < 100


def test_the_temporal_targets_are_the_first_items_of_the_slice(log):
    """Validation has those with a history, and no event of the test period."""
    _, targets = hold_out(log, TEMPORAL)
    assert (targets.users.tolist(), targets.items.tolist()) == ([0], [2])


def test_the_first_five_events_of_a_slice_are_asked_about_in_turn(make_histories):
    """Each is asked about with all that came before it, in the slice too, which the model has not."""
    histories = make_histories([[0, 1, *range(2, 10)], [3]], times=[[*range(10)], [12]])
    training_part, targets = hold_out(histories, Split("temporal", 2.0, 11.0))
    assert rows(training_part)[0] == [0, 1]
    assert (targets.users.tolist(), targets.items.tolist()) == ([0] * 5, [2, 3, 4, 5, 6])
    assert rows(targets.queries)[::4] == [[0, 1], [0, 1, 2, 3, 4, 5]]


def test_temporal_cases_ask_for_the_distinct_new_items_of_the_test_period(log):
    """The query is all before the test; who has nothing before or nothing new is counted."""
    cases = find_cases(log, TEMPORAL, include_seen=False)
    assert cases.users.tolist() == [0, 1]
    assert rows(cases.queries) == [[0, 1, 2], [4, 5]]
    assert cases.since.tolist() == [1, 2]
    assert cases.offsets.tolist() == [0, 1, 2]
    assert cases.targets.tolist() == [3, 6]
    assert (cases.too_short, cases.repeats) == (1, 1)


def test_temporal_cases_with_seen_items(log):
    """Where seen items are recommended they are targets too."""
    cases = find_cases(log, TEMPORAL, include_seen=True)
    assert cases.users.tolist() == [0, 1, 4]
    assert cases.relevant.tolist() == [2, 1, 1]
    assert cases.targets.tolist() == [0, 3, 6, 2]
    assert (cases.too_short, cases.repeats) == (1, 0)


def test_leave_one_out_takes_two_events_of_those_with_three(make_histories):
    """The last two are gone from the training part, and the first of them is the target."""
    histories = make_histories([[0, 1, 2, 3], [4, 5], [6, 7, 8], [9]])
    training_part, targets = hold_out(histories)
    assert rows(training_part) == [[0, 1], [4, 5], [6], [9]]
    assert (targets.users.tolist(), targets.items.tolist()) == ([0, 2], [2, 7])


def test_who_is_validated_on_is_asked_with_events_the_model_has_not_seen(make_histories):
    """Of long enough histories further events are held out, one for every ten, and asked about too."""
    histories = make_histories([list(range(person, person + 25)) for person in range(10)])
    training_part, targets = hold_out(histories)
    assert training_part.lengths.tolist() == [21] * 10
    # The second-last event is asked about, and then the one before it.
    assert targets.users.tolist() == [person for person in range(10) for _ in range(2)]
    assert targets.items[:4].tolist() == [23, 22, 24, 23]
    assert [query[-1] for query in rows(targets.queries)][:4] == [22, 21, 23, 22]
    assert targets.queries.lengths[:2].tolist() == [23, 22]  # the model knows 21
    cases = find_cases(histories, Split(), include_seen=False)
    assert cases.since.tolist() == [1] * 10
    assert Split().training_part(histories).lengths.tolist() == [23] * 10


def test_no_more_than_a_tenth_of_all_events_is_further_held_out(make_histories):
    """Where all have few events, some have one held out, spread over the log, and all are asked."""
    histories = make_histories([list(range(person, person + 6)) for person in range(50)])
    training_part, targets = hold_out(histories)
    shorter = np.flatnonzero(training_part.lengths == 3)
    assert len(shorter) == 30
    assert np.diff(shorter).max() == 2
    assert targets.users.tolist() == list(range(50))  # too few have one to validate on them alone


def test_those_with_further_events_are_enough_where_they_are_many(make_histories):
    """Where enough events are held out so, nobody else is validated on."""
    histories = make_histories([[*range(19)]] * 1_000 + [[1, 2, 3]] * 50)
    _, targets = hold_out(histories)
    assert len(targets.users) == 1_000
    assert set(targets.queries.lengths.tolist()) == {17}
    histories = make_histories([[*range(90)]] * 1_000 + [[1, 2, 3]] * 50)
    _, targets = hold_out(histories)
    assert np.bincount(targets.users).tolist() == [5] * 1_000


def test_leave_one_out_counts_those_with_too_few_events(make_histories):
    """Whoever has fewer than three events is not asked about and not forgotten."""
    cases = find_cases(make_histories([[0, 1], [2], [3, 4, 5]]), Split(), include_seen=False)
    assert (cases.users.tolist(), cases.too_short, cases.repeats) == ([2], 2, 0)
    assert (rows(cases.queries), cases.targets.tolist()) == ([[3, 4]], [5])
    assert cases.since.tolist() == [1]


def test_long_histories_are_cases_too(make_histories):
    """Whose history is longer than what is kept of it is evaluated on its last event."""
    whole = make_histories([list(range(9)), [0, 1, 2], [3, 4]])
    cases = find_cases(whole.last(4), Split(), include_seen=False)
    assert cases.users.tolist() == [0, 1]
    assert cases.targets.tolist() == [8, 2]
    assert cases.queries.user(0).items.tolist() == [5, 6, 7]


def test_repeats_are_left_out_only_where_seen_items_are(make_histories):
    """A last item from the history cannot be recommended, unless seen items are."""
    histories = make_histories([[0, 1, 0], [0, 1, 2]])
    strict = find_cases(histories, Split(), include_seen=False)
    assert (strict.users.tolist(), strict.repeats) == ([1], 1)
    free = find_cases(histories, Split(), include_seen=True)
    assert (free.users.tolist(), free.repeats) == ([0, 1], 0)


def test_nobody_to_ask_about_is_an_error(make_histories):
    """Without anyone to measure on there is nothing to measure."""
    histories = make_histories([[0, 1], [2]])
    with pytest.raises(DataError, match="nobody has three events"):
        find_cases(histories, Split(), include_seen=False)
    with pytest.raises(DataError, match="nobody with events before the test"):
        find_cases(histories, Split("temporal", 1e6, 2e6), include_seen=False)


def one_person_a_day(make_histories):
    """Give ten people of two events each, the times 0 to 19."""
    return make_histories([[0, 1]] * 10, times=[[2.0 * user, 2.0 * user + 1] for user in range(10)])


def test_the_share_of_the_test_is_also_that_of_the_validation(make_histories):
    """Of 20 events a fifth is four for the test, four before them and twelve to train on."""
    log = one_person_a_day(make_histories)
    split = Split.choose(log, TrainConfig(split="temporal", test_share=0.2))
    assert split == Split("temporal", 12.0, 16.0)
    training_part, _ = hold_out(log, split)
    assert len(training_part.items) == 12


def test_the_test_can_begin_at_a_time(make_histories):
    """Its validation slice has as many events as come from that time on."""
    log = one_person_a_day(make_histories)
    config = TrainConfig(split="temporal", test_from="17")
    assert Split.choose(log, config) == Split("temporal", 14.0, 17.0)
    config = TrainConfig(split="temporal", test_from="1970-01-01T00:00:17")
    assert Split.choose(log, config) == Split("temporal", 14.0, 17.0)


def test_events_at_the_time_of_the_cut_stay_together(make_histories):
    """What has the time of the cut is all for the test, however many events that are."""
    log = make_histories(
        [[0, 1, 2, 3], [3, 4, 5, 6], [0, 1]], times=[[1, 2, 3, 5], [1, 2, 5, 5], [0, 0.5]]
    )
    split = Split.choose(log, TrainConfig(split="temporal", test_share=0.2))
    assert split == Split("temporal", 2.0, 5.0)
    assert [part.tolist() for part in split.counts(log)] == [[2, 1, 0], [1, 2, 0]]


@pytest.mark.parametrize("time", ["-5", "0", "20", "2031-01-01"])
def test_a_test_outside_of_the_log_is_refused(make_histories, time):
    """The error names the setting, its value and from when to when the log is."""
    log = one_person_a_day(make_histories)
    with pytest.raises(ConfigError, match=f"^test_from = '{time}': must be within the log, 1970-"):
        Split.choose(log, TrainConfig(split="temporal", test_from=time))


def test_a_split_that_leaves_nothing_to_train_on_is_refused(make_histories):
    """At least one person must have two events before the validation slice."""
    log = make_histories([[0, 1], [1, 2]], times=[[0, 10], [5, 11]])
    with pytest.raises(DataError, match="leaves nobody with two events to train on"):
        Split.choose(log, TrainConfig(split="temporal", test_share=0.25))


def test_a_manifest_keeps_the_split():
    """What is read is what was written; a manifest without one is of leave-one-out."""
    message = manifest_pb2.Manifest(split=TEMPORAL.message())
    assert Split.of(message) == TEMPORAL
    for manifest in (manifest_pb2.Manifest(split=Split().message()), manifest_pb2.Manifest()):
        split = Split.of(manifest)
        assert split.method == "leave-one-out"
        assert math.isnan(split.test_start)


def test_no_event_is_in_two_parts(make_histories):
    """Training, validation and test together are the log, on any log and cut."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(0, 9, 40)
    times = [np.sort(rng.integers(0, 50, length)).astype(float).tolist() for length in lengths]
    log = make_histories([[0] * len(row) for row in times], times=times)
    for split in (Split(), Split("temporal", 20.0, 35.0)):
        training_part = split.training_part(log)
        validation, test = split.counts(log)
        assert (training_part.lengths + validation + test == log.lengths).all()
