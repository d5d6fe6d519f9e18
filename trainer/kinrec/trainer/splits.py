"""Splits a log: what a model may learn from, what it is validated on and what it is tested on.

Leave-one-out takes the last two events of everyone. For the search further ones are taken of those who
are validated on: they are then asked with events that the model has not seen, as everyone is in the
test, and as people are whom a service asks about. Its training part reaches as far in time as the log, so it
measures how well a history is continued. The temporal split cuts the whole log at two times, so nothing that is known
before the cut, of no person and of no item, comes from after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine.histories import Histories
from kinrec.engine.sources import ranges
from kinrec.trainer.config import LEAVE_ONE_OUT, TEMPORAL
from kinrec.trainer.errors import ConfigError, DataError
from kinrec.trainer.times import format_time, parse_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.trainer.config import TrainConfig

HELD_OUT = 2

# Of whom further events are held out: whoever still has two to learn from, one for every ten events up
# to five, but not too many of all events, and no more than it takes to learn which source is right
# when. Fewer than so many are not enough alone.
MIN_EVENTS_FOR_FURTHER = 5
EVENTS_FOR_ONE_MORE = 10
MOST_OF_ONE = 5
MOST_FURTHER = 20_000
SHARE_OF_FURTHER = 0.1
ENOUGH_FURTHER = 900


@dataclass(frozen=True, slots=True)
class Targets:
    """Held-out items to validate on.

    Attributes:
        users: int64, (n,), numbers of users with at least one event in the training part; one can be
            asked about several times.
        items: int64, (n,), the item each did next.
        queries: All that each one did before, (n histories).
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    queries: Histories

    def sample(self, most: int, seed: int) -> Targets:
        """Take at most ``most`` of them at random."""
        if len(self.users) <= most:
            return self
        chosen = np.random.default_rng(seed).choice(len(self.users), most, replace=False)
        chosen.sort()
        return Targets(self.users[chosen], self.items[chosen], select(self.queries, chosen))


@dataclass(frozen=True, slots=True)
class Split:
    """Where a log is cut.

    Attributes:
        method: ``LEAVE_ONE_OUT`` or ``TEMPORAL``.
        validation_start: Temporal: the time of the first event for validation, seconds since 1970.
        test_start: Temporal: the time of the first event for the test, seconds since 1970.
    """

    method: str = LEAVE_ONE_OUT
    validation_start: float = math.nan
    test_start: float = math.nan

    @classmethod
    def choose(cls, histories: Histories, config: TrainConfig) -> Split:
        """Find the cuts that a configuration asks for.

        Args:
            histories: The whole log.
            config: Uses split, test_from and test_share.

        Raises:
            ConfigError: The test period would not begin within the log.
            DataError: Too little is left to train on.
        """
        if config.split == LEAVE_ONE_OUT:
            return cls()
        times = np.sort(histories.times)
        if config.test_from:
            test_start = parse_time("test_from", config.test_from)
            if not times[0] < test_start <= times[-1]:
                span = f"{format_time(times[0])} to {format_time(times[-1])}"
                raise ConfigError("test_from", config.test_from, f"must be within the log, {span}")
        else:
            test_start = float(times[int(len(times) * (1.0 - config.test_share))])
        before = int(np.searchsorted(times, test_start))
        validation_start = float(times[max(0, 2 * before - len(times))])
        split = cls(TEMPORAL, validation_start, test_start)
        if not (split.training_part(histories).lengths > 1).any():
            raise DataError(
                f"the temporal split at {format_time(validation_start)} and "
                f"{format_time(test_start)} leaves nobody with two events to train on; "
                "a smaller test_share or a later test_from leaves more"
            )
        return split

    @classmethod
    def of(cls, manifest: manifest_pb2.Manifest) -> Split:
        """Read a bundle's split; bundles from before there was a choice are leave-one-out."""
        split = manifest.split
        if split.method != TEMPORAL:
            return cls()
        return cls(TEMPORAL, split.validation_start, split.test_start)

    def message(self) -> manifest_pb2.Split:
        """Give what the manifest says of it."""
        if self.method == LEAVE_ONE_OUT:
            return manifest_pb2.Split(method=LEAVE_ONE_OUT)
        return manifest_pb2.Split(
            method=TEMPORAL, validation_start=self.validation_start, test_start=self.test_start
        )

    def training_part(self, histories: Histories) -> Histories:
        """Give what comes before the validation and the test: what a model to be tested may know."""
        validation, test = self.counts(histories)
        return histories.without_last(validation + test)

    def counts(self, histories: Histories) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count each one's events that are for validation and for the test.

        The last events are for the test, those before them for validation, the rest for training.

        Returns:
            Two of int64, (users,).
        """
        if self.method == LEAVE_ONE_OUT:
            counts = (histories.lengths > HELD_OUT).astype(np.int64)
            return counts, counts
        later = _count_from(histories, self.validation_start)
        test = _count_from(histories, self.test_start)
        return later - test, test


def _count_further(histories: Histories) -> NDArray[np.int64]:
    """Say how many further events of each one are held out, (users,): the same in the same log."""
    lengths = histories.lengths
    counts = np.clip(lengths // EVENTS_FOR_ONE_MORE, 1, MOST_OF_ONE)
    counts[lengths < MIN_EVENTS_FOR_FURTHER] = 0
    wanted = min(MOST_FURTHER, int(SHARE_OF_FURTHER * len(histories.items)))
    able = np.flatnonzero(counts)
    if counts.sum() > wanted:
        kept = int(len(able) * wanted / counts.sum())
        is_kept = np.zeros(len(counts), np.bool_)
        is_kept[able[np.linspace(0, len(able), kept, endpoint=False).astype(np.int64)]] = True
        counts[~is_kept] = 0
    return counts


def _count_from(histories: Histories, start: float) -> NDArray[np.int64]:
    is_later = np.concatenate([[0], np.cumsum(histories.times >= start)])
    return np.asarray(np.diff(is_later[histories.offsets]), np.int64)


def hold_out(histories: Histories, split: Split | None = None) -> tuple[Histories, Targets]:
    """Give what the search learns from and what it is validated on.

    Args:
        histories: The whole log.
        split: Where to cut; leave-one-out if None.

    Returns:
        The split's training part, leave-one-out without further events of some; and whom to validate
        on, with a history in it. Leave-one-out: those of whom further events are held out, once for
        each, always with one before it that the training part has not; if they are few, everyone.
        Temporal: everyone, on the first five events. What is for the test is looked at by no training.
    """
    split = split or Split()
    validation, test = split.counts(histories)
    later = test + validation
    training_part = histories.without_last(later)
    is_asked = (validation > 0) & (training_part.lengths > 0)
    if split.method == LEAVE_ONE_OUT:
        times_asked, step = is_asked.astype(np.int64), 1
        further = _count_further(histories)
        training_part = histories.without_last(later + further)
        if further.sum() >= ENOUGH_FURTHER:
            times_asked = further
        else:
            times_asked = np.maximum(times_asked, further)
    else:
        times_asked, step = np.where(is_asked, np.minimum(validation, MOST_OF_ONE), 0), -1
    users = np.repeat(np.arange(len(histories)), times_asked)
    # One's first question is the first event held out of everyone, the next the one before it or, in a
    # period, after it.
    first = np.cumsum(times_asked) - times_asked
    after = later[users] + step * (np.arange(len(users)) - np.repeat(first, times_asked))
    items = histories.items[histories.offsets[users + 1] - after].astype(np.int64)
    asked = select(histories, users).without_last(after)
    return training_part, Targets(users, items, asked)


@dataclass(frozen=True, slots=True)
class Cases:
    """Who is asked about in the test, and what should be recommended.

    Attributes:
        users: int64, (n,).
        queries: All that each one did before the test, (n people).
        since: How many of those events, the last ones, the model has not seen, int64, (n,).
        targets: What each one did in the test: the distinct items of person p are
            ``targets[offsets[p]:offsets[p + 1]]``, int64.
        offsets: int64, (n + 1,).
        include_seen: Whether items of the history are recommended, and are targets.
        too_short: People left out because nothing of theirs is before the test, or, leave-one-out,
            because they have fewer than three events.
        repeats: People left out because all they did in the test was in their history, and items of
            the history are not recommended.
    """

    users: NDArray[np.int64]
    queries: Histories
    since: NDArray[np.int64]
    targets: NDArray[np.int64]
    offsets: NDArray[np.int64]
    include_seen: bool
    too_short: int
    repeats: int

    def __len__(self) -> int:
        return len(self.users)

    @property
    def known(self) -> int:
        """The number of targets that are in the history, over all people."""
        wanted = [slice(*span) for span in zip(self.offsets[:-1], self.offsets[1:], strict=True)]
        return sum(
            int(np.isin(self.targets[span], self.queries.user(person).items).sum())
            for person, span in enumerate(wanted)
        )

    @property
    def relevant(self) -> NDArray[np.int64]:
        """The number of targets of each person, (n,)."""
        return np.diff(self.offsets)


def find_cases(full: Histories, split: Split, *, include_seen: bool) -> Cases:
    """Find the test cases of a log.

    Args:
        full: All events; of long histories the last.
        split: Where it was cut.
        include_seen: Whether items of the history are recommended. If not, an item of the history
            cannot be, by no method, and is no target.

    Raises:
        DataError: There is nobody to ask about.
    """
    validation, test = split.counts(full)
    before = full.without_last(test)
    asked = np.flatnonzero((test > 0) & (before.lengths > 0))
    # Leave-one-out would ask about everyone, the temporal split about those active in the test.
    wanted = len(full) if split.method == LEAVE_ONE_OUT else int((test > 0).sum())
    targets = [_targets(full, before, user, include_seen=include_seen) for user in asked.tolist()]
    sizes = np.array([len(items) for items in targets], np.int64)
    users = asked[sizes > 0]
    if not len(users):
        raise DataError(_NOBODY[split.method])
    return Cases(
        users=users,
        queries=select(before, users),
        since=np.minimum(validation[users], before.lengths[users]),
        targets=np.concatenate(targets),
        offsets=np.concatenate([[0], np.cumsum(sizes[sizes > 0])]),
        include_seen=include_seen,
        too_short=wanted - len(asked),
        repeats=len(asked) - len(users),
    )


_NOBODY = {
    LEAVE_ONE_OUT: "nobody has three events, so none could be held out to evaluate on",
    TEMPORAL: "nobody with events before the test period did anything new in it",
}


def _targets(
    full: Histories, before: Histories, user: int, *, include_seen: bool
) -> NDArray[np.int64]:
    history = before.user(user).items
    items = np.unique(full.user(user).items[len(history) :])
    if not include_seen:
        items = items[~np.isin(items, history)]
    return items.astype(np.int64)


def select(histories: Histories, users: NDArray[np.int64]) -> Histories:
    """Give the histories of some users, in their order."""
    lengths = histories.lengths[users]
    places = ranges(histories.offsets[users], lengths)
    return Histories(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        histories.items[places],
        histories.event_types[places],
        histories.times[places],
    )
