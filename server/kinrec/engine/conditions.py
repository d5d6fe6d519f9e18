"""What a request can ask of the attributes of the items that it wants."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Items that have at least one of some values.

    Attributes:
        attribute: The name of an attribute of texts.
        values: At least one; one that no item has matches nothing.
    """

    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Items that have every one of some values.

    Attributes:
        attribute: The name of an attribute of texts.
        values: At least one; with one that no item has, nothing matches.
    """

    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """Items that have none of some values, and those that have no value at all.

    Attributes:
        attribute: The name of an attribute of texts.
        values: At least one.
    """

    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Items with a number in a range; all that have a number if there is no bound.

    Attributes:
        attribute: The name of an attribute of numbers.
        min: The least number, itself included; None for no bound.
        max: The greatest number, itself included; None for no bound.
    """

    attribute: str
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Items with a time in a period; all that have a time if there is no bound.

    Attributes:
        attribute: The name of an attribute of times.
        start: Seconds since 1970 UTC, itself included; None for no bound.
        end: Seconds since 1970 UTC, itself not included; None for no bound.
    """

    attribute: str
    start: float | None = None
    end: float | None = None


Condition = AnyOf | AllOf | NoneOf | NumberRange | TimeRange
