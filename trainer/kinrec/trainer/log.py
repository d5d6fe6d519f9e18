"""The cleaned log in the model's numbers: id maps, event types and everyone's history."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kinrec.engine.histories import Histories
from kinrec.engine.ids import IdMap
from kinrec.trainer.cleaning import NO_SUBSTITUTES, CleaningStep, Substitutes, blame
from kinrec.trainer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import narwhals as nw
    from numpy.typing import NDArray

    from kinrec.engine.columns import Column
    from kinrec.trainer.cleaning import CleanedEvents
    from kinrec.trainer.cleaning_config import CleaningConfig

MIN_EVENTS = 20
MIN_USERS = 2
MIN_ITEMS = 3
MAX_EVENT_TYPES = 254

# How much an event counts when the log does not say: the further it leads to the goal, the more.
_TYPE_WEIGHTS = {
    1.0: ("view", "click", "browse", "open", "play", "listen", "impression", "read", "visit"),
    2.0: ("like", "favorite", "favourite", "save", "bookmark", "follow", "wishlist", "rating"),
    3.0: ("cart", "add_to_cart", "addtocart", "comment", "share", "review", "enrol", "enroll"),
    5.0: ("buy", "purchase", "order", "transaction", "submit", "complete", "book", "subscribe"),
}
_WEIGHT_OF_TYPE = {name: weight for weight, names in _TYPE_WEIGHTS.items() for name in names}


@dataclass(frozen=True, slots=True)
class EventLog:
    """A cleaned log.

    Attributes:
        users: User ids and numbers.
        items: Item ids and numbers.
        event_types: Names by frequency; the code of a type is its place plus one.
        histories: Everyone's history, oldest first.
        cleaning: What each step of the cleaning removed.
        titles: The title of each item, empty where unknown; None without an items file.
        given_weights: The weights of event types that do not go by their name.
        substitutes: What requests get in the place of missing entries.
        attributes: What else is known of each item, by name.
        notes: What was not taken from the items, and why.
    """

    users: IdMap
    items: IdMap
    event_types: tuple[str, ...]
    histories: Histories
    cleaning: tuple[CleaningStep, ...]
    titles: list[str] | None = None
    given_weights: tuple[tuple[str, float], ...] = ()
    substitutes: Substitutes = NO_SUBSTITUTES
    attributes: Mapping[str, Column] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def type_weights(self) -> NDArray[np.float32]:
        """The weight of each type by code, (types + 1,)."""
        given = dict(self.given_weights)
        weights = (given.get(name, type_weight(name)) for name in self.event_types)
        return np.array([1.0, *weights], np.float32)


def type_weight(name: str) -> float:
    """Give the weight of an event type by its name, relative to a view's 1."""
    return _WEIGHT_OF_TYPE.get(name.strip().lower().replace("-", "_"), 1.0)


def build_log(cleaned: CleanedEvents, config: CleaningConfig) -> EventLog:
    """Number the events of a cleaned frame, if there are enough to train on.

    Args:
        cleaned: The events.
        config: How they were cleaned.

    Raises:
        DataError: There is too little to train on.
    """
    log = number_events(cleaned, config)
    _check_size(log, config.session_gap)
    return log


def number_events(cleaned: CleanedEvents, config: CleaningConfig) -> EventLog:
    """Number the users, items and event types of a cleaned frame; see build_log."""
    frame = cleaned.frame.collect()
    users = IdMap.build(frame["user_id"].unique().to_list())
    items = IdMap.build(frame["item_id"].unique().to_list())
    user_numbers = _numbers(frame["user_id"], users)
    # Cleaning ordered each user's events; the users themselves go by number.
    order = np.argsort(user_numbers, kind="stable")
    names = _type_names(frame["event_type"])
    codes = {name: code for code, name in enumerate(names, start=1)}
    types = [codes.get(name, 0) for name in frame["event_type"].to_list()]
    histories = Histories(
        np.concatenate([[0], np.cumsum(np.bincount(user_numbers, minlength=len(users)))]),
        _numbers(frame["item_id"], items).astype(np.int32)[order],
        np.array(types, np.uint8)[order],
        frame["timestamp"].to_numpy().astype(np.float64)[order],
    )
    return EventLog(
        users,
        items,
        names,
        histories,
        cleaned.steps,
        given_weights=config.type_weight,
        substitutes=cleaned.substitutes,
    )


def _check_size(log: EventLog, session_gap: float) -> None:
    """Raise DataError where there is too little to train on."""
    histories = log.histories
    for what, found, least in (
        ("events", len(histories.items), MIN_EVENTS),
        ("users", len(log.users), MIN_USERS),
        ("items", len(log.items), MIN_ITEMS),
    ):
        if found < least:
            raise DataError(
                f"too small to train on: {found} {what} after cleaning, at least {least} are needed"
                f"{blame(log.cleaning)}"
            )
    if histories.lengths.max() < 2:
        raise DataError(
            f"too small to train on: no user has two events after cleaning{blame(log.cleaning)}"
        )
    if histories.sessions(session_gap).lengths.max() < 2:
        raise DataError(
            f"too small to train on: with session_gap = {session_gap:g} no session has two events"
        )


def _numbers(ids: nw.Series[Any], id_map: IdMap) -> NDArray[np.int64]:
    return np.array([id_map.get(key) for key in ids.to_list()], np.int64)


def _type_names(types: nw.Series[Any]) -> tuple[str, ...]:
    names, counts = np.unique(
        np.array([name for name in types.to_list() if name], dtype=object).astype(str),
        return_counts=True,
    )
    order = np.lexsort((names, -counts))
    return tuple(str(name) for name in names[order][:MAX_EVENT_TYPES])


def with_titles(log: EventLog, items: nw.LazyFrame[Any], missing: str = "") -> EventLog:
    """Add the titles of an items frame; items that no event names are left out.

    Args:
        log: The log.
        items: As ``read_items`` gives them.
        missing: The title of items that have none.
    """
    titles = [""] * len(log.items)
    frame = items.select("item_id", "title").collect()
    unused, described = 0, set[int]()
    for item_id, title in zip(frame["item_id"].to_list(), frame["title"].to_list(), strict=True):
        number = log.items.get(item_id) if item_id else None
        if number is None:
            unused += 1
            continue
        described.add(number)
        if title:
            titles[number] = title
    if unused and unused < len(frame):
        note = (
            f"{unused:,} of {len(frame):,} items have no event that is left: nobody is shown them"
        )
        log = replace(log, notes=(*log.notes, note))
    if described and (without := len(titles) - len(described)):
        note = (
            f"{without:,} of {len(titles):,} items of the events are not among the items: they have "
            f"neither title nor attributes"
        )
        log = replace(log, notes=(*log.notes, note))
    if not missing:
        return replace(log, titles=titles)
    step = CleaningStep("missing_titles", 0, len(log.histories.items), titles.count(""))
    titles = [title or missing for title in titles]
    return replace(log, titles=titles, cleaning=(*log.cleaning, step))
