"""The engine's errors.

EngineError
├── BundleError         a bundle cannot be used; the text is one line that names the file
├── NoSubjectError      neither a user id nor an event nor a state was given
├── UnknownItemError    the item id of a question about an item is not known
├── UnknownUserError    the user id is not known and neither events nor a state were given
├── InvalidStateError   a carried state is not one
├── StaleStateError     a carried state is of another bundle
└── InvalidFieldError   a field of the request breaks its rule
"""

from __future__ import annotations


class EngineError(Exception):
    """The root of all errors that the engine raises on purpose."""


class BundleError(EngineError):
    """A bundle cannot be used. The text is one line that names the file and what is wrong."""


class NoSubjectError(EngineError):
    """Neither a user id nor an event nor a state was given."""

    def __init__(self) -> None:
        super().__init__("user_id, events, state: at least one of the three must be given")


class UnknownUserError(EngineError):
    """The user id is not known to the model and neither events nor a state were given."""

    def __init__(self) -> None:
        super().__init__("user_id: not known to the model; send the person's events")


class UnknownItemError(EngineError):
    """The item that is asked about is not known to the model."""

    def __init__(self) -> None:
        super().__init__("item_id: not known to the model")


class InvalidStateError(EngineError):
    """A carried state is not one that this service gave."""

    def __init__(self) -> None:
        super().__init__("state: is none that this service gave; send the history again")


class StaleStateError(EngineError):
    """A carried state is of a bundle that does not answer here."""

    def __init__(self) -> None:
        super().__init__("state: is of a model that does not answer here; send the history again")


class InvalidFieldError(EngineError):
    """A field of the request breaks its rule.

    Attributes:
        field: The path of the field, e.g. ``events[3].value``.
        rule: What is wrong, e.g. ``must be finite``.
    """

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule
