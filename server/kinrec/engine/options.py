"""What a call for recommendations asks for, and the rules of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kinrec.engine._errors import InvalidFieldError
from kinrec.engine._limits import MAX_LIMIT, MAX_SEARCH_EFFORT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinrec.engine._types import Event
    from kinrec.engine.conditions import Condition


@dataclass(frozen=True, slots=True)
class CategoryCap:
    """At most so many items of any one value of an attribute.

    Attributes:
        attribute: The name of an attribute of texts. An item of several values counts for each, one
            of none for none.
        limit: 1 to ``MAX_LIMIT``.
    """

    attribute: str
    limit: int


@dataclass(frozen=True, slots=True)
class Options:
    """What most calls leave as it is.

    Attributes:
        allow_item_ids: The only items that may be recommended, at most ``MAX_LISTED_ITEMS``; empty
            for all. Ids that the model does not know are ignored.
        conditions: On the items' attributes; all must hold.
        min_score: The least blended score.
        diversity: 0 for the best scores, towards 1 for items the less like those before them: maximal
            marginal relevance (Carbonell & Goldstein, SIGIR 1998) on the cosine of item embeddings.
        category_cap: How many items of one category at most; None for any number.
        reasons: Whether to say why each item is recommended.
        search_effort: How many times as wide as usual approximate indexes search, 1 to
            ``MAX_SEARCH_EFFORT``.
        exact: Whether indexes compare every vector.
        skip: How many of the best to leave out, because an earlier page had them.
        depth: The limit of the first page, from which all later ones follow; 0 for this one's.
    """

    allow_item_ids: Sequence[str] = ()
    conditions: Sequence[Condition] = ()
    min_score: float = 0.0
    diversity: float = 0.0
    category_cap: CategoryCap | None = None
    reasons: bool = False
    search_effort: int = 1
    exact: bool = False
    skip: int = 0
    depth: int = 0

    def check(self) -> None:
        """Raise InvalidFieldError unless every number is in its range."""
        _check_range("min_score", self.min_score, 0.0, 1e9)
        _check_range("diversity", self.diversity, 0.0, 1.0)
        _check_range("search_effort", self.search_effort, 1, MAX_SEARCH_EFFORT)
        _check_range("skip", self.skip, 0, MAX_LIMIT)
        _check_range("depth", self.depth, 0, MAX_LIMIT)
        if self.category_cap is not None:
            _check_range("category_cap.limit", self.category_cap.limit, 1, MAX_LIMIT)


PLAIN = Options()


@dataclass(slots=True)  # as an answer is
class Query:
    """One of many calls for recommendations; see ``Engine.recommend``."""

    user_id: str = ""
    events: Sequence[Event] = ()
    state: bytes = field(default=b"", repr=False)
    limit: int = 10
    include_seen: bool | None = None
    exclude_item_ids: Sequence[str] = ()
    options: Options = PLAIN


def check_limit(limit: int) -> None:
    """Raise InvalidFieldError unless so many results may be asked for."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidFieldError("limit", f"must be from 1 to {MAX_LIMIT}, is {limit}")


def _check_range(name: str, value: float, least: float, most: float) -> None:
    """Refuse what is out of range; not-a-number is."""
    if not least <= value <= most:
        raise InvalidFieldError(name, f"must be from {least:g} to {most:g}, is {value:g}")
