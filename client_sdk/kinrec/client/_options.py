"""What a call for recommendations can ask for beside the person: plain values, checked when sent."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from kinrec.client._checks import iterable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from kinrec.client._types import Event


def _keep_tuples(of: object, **what: str) -> None:
    """Keep the named fields as tuples, so that an iterator can be sent more than once."""
    for name, kind in what.items():
        values: Iterable[Any] = getattr(of, name)
        object.__setattr__(of, name, tuple(iterable(values, name, kind)))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Items that have at least one of some texts.

    Attributes:
        attribute: The name of an attribute of texts; `Model.attributes` has the names.
        values: The texts, 1 to 1,000; kept as a tuple.

    Raises:
        InvalidRequestError: `values` is a string, or cannot be iterated.

    Example:
        >>> AnyOf("category", ["tea", "herbs"])
        AnyOf(attribute='category', values=('tea', 'herbs'))
    """

    attribute: str
    values: Iterable[str]

    def __post_init__(self) -> None:
        _keep_tuples(self, values="texts")


@dataclass(frozen=True, slots=True)
class AllOf:
    """Items that have every one of some texts.

    Attributes:
        attribute: The name of an attribute of texts.
        values: The texts, 1 to 1,000; kept as a tuple.

    Raises:
        InvalidRequestError: `values` is a string, or cannot be iterated.
    """

    attribute: str
    values: Iterable[str]

    def __post_init__(self) -> None:
        _keep_tuples(self, values="texts")


@dataclass(frozen=True, slots=True)
class NoneOf:
    """Items that have none of some texts, and those without any.

    Attributes:
        attribute: The name of an attribute of texts.
        values: The texts, 1 to 1,000; kept as a tuple.

    Raises:
        InvalidRequestError: `values` is a string, or cannot be iterated.
    """

    attribute: str
    values: Iterable[str]

    def __post_init__(self) -> None:
        _keep_tuples(self, values="texts")


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Items with a number in a range; all that have a number if there is no bound.

    Attributes:
        attribute: The name of an attribute of numbers.
        min: The least, itself included; None for no bound.
        max: The greatest, itself included; None for no bound.
    """

    attribute: str
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Items with a time in a period; all that have a time if there is no bound.

    Attributes:
        attribute: The name of an attribute of times.
        start: The first moment: a datetime with a time zone, or unix seconds; None for no bound.
        end: The first moment that is too late, likewise; None for no bound.
    """

    attribute: str
    start: datetime | float | None = None
    end: datetime | float | None = None


Condition = AnyOf | AllOf | NoneOf | NumberRange | TimeRange
"""A condition on an attribute of items."""


@dataclass(frozen=True, slots=True)
class CategoryCap:
    """At most so many items of one category.

    Attributes:
        attribute: The name of an attribute of texts. An item of several counts for each of them.
        limit: How many items of one, 1 to 1,000.
    """

    attribute: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What most calls for recommendations leave as it is.

    Attributes:
        allow_item_ids: The only items that may be recommended, at most 10,000; empty for all. Ids that
            the model does not know are ignored.
        conditions: On the items' attributes, at most 20; all must hold. An answer is filled to its
            limit while enough items meet them; where fewer do, it is short.
        min_score: The least score that is recommended.
        diversity: From 0, the best scores, to 1, items as little like those before them as can be. At
            0.3 lists grow varied at a small cost. Above 0 the scores need not fall along the list.
        category_cap: How many items of one category at most; None for any number. An answer is short
            where all that is left is of categories that are full.
        reasons: Whether to say why each item is recommended.
        search_effort: How many times as wide as usual approximate indexes are searched, 1 to 100. The
            wider, the fewer are missed, and the longer it takes.
        exact: Whether indexes compare every vector, so that none is missed.
        page_token: The `next_page_token` of an earlier answer, to go on behind it. All else must be as
            it was, but for `limit`. Pages end at 1,000 items in all.

    Raises:
        InvalidRequestError: A field with several values is a string, or cannot be iterated.

    Example:
        >>> options = Options(
        ...     conditions=[AnyOf("category", ["tea", "herbs"]), NumberRange("price", max=20)],
        ...     diversity=0.3,
        ...     reasons=True,
        ... )
        >>> answer = client.recommend(user_id="u1", limit=5, options=options)
        >>> len(answer.recommendations) <= answer.allowed_item_count
        True
    """

    allow_item_ids: Iterable[str] = ()
    conditions: Iterable[Condition] = ()
    min_score: float = 0.0
    diversity: float = 0.0
    category_cap: CategoryCap | None = None
    reasons: bool = False
    search_effort: int = 1
    exact: bool = False
    page_token: str = ""

    def __post_init__(self) -> None:
        _keep_tuples(self, allow_item_ids="item ids", conditions="conditions")


PLAIN = Options()


@dataclass(frozen=True, slots=True)
class Query:
    """One of the questions of a batch; see `Client.recommend`.

    Attributes:
        events: What the person did, oldest first.
        user_id: A known user, whose stored history comes before `events` if there is no state.
        state: What the last answer about the person gave, to send only what came since.
        limit: The number of items to return; None for the service's default.
        include_seen: Whether items of the person's own history may be recommended; None for the
            model's default.
        exclude_item_ids: Items that must not be recommended.
        options: What else is asked for.

    Raises:
        InvalidRequestError: A field with several values is a string, or cannot be iterated.

    Example:
        >>> query = Query([Event("i7", "view")], limit=3)
        >>> client.batch_recommend([query]) == [client.recommend([Event("i7", "view")], limit=3)]
        True
    """

    events: Iterable[Event] = ()
    _: KW_ONLY
    user_id: str | None = None
    state: bytes = field(default=b"", repr=False)
    limit: int | None = None
    include_seen: bool | None = None
    exclude_item_ids: Iterable[str] = ()
    options: Options = PLAIN

    def __post_init__(self) -> None:
        _keep_tuples(self, events="events", exclude_item_ids="item ids")
