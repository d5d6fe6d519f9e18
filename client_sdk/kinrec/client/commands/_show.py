"""Answers as text for people and as JSON for programs."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, fields
from datetime import datetime
from enum import Enum
from functools import singledispatch
from typing import TYPE_CHECKING

from kinrec.client import (
    EncodeSequenceResult,
    Health,
    Model,
    RecommendResult,
    SimilarUsersResult,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinrec.client import EventReport

    Answer = EncodeSequenceResult | SimilarUsersResult | RecommendResult | Model | Health

_COLUMNS = 8  # numbers of a vector on a line


def as_json(answer: Answer) -> str:
    """The answer as one line of JSON, with the names of the result's fields; bytes are in base64."""
    row = {"status": answer} if isinstance(answer, Health) else asdict(answer)
    return json.dumps(row, default=_plain) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"no JSON for {type(value).__name__}")


@singledispatch
def as_text(answer: Answer) -> str:
    """The answer as lines that a person reads."""
    raise TypeError(f"no text for {type(answer).__name__}")


@as_text.register
def _(answer: Health) -> str:
    return f"{answer.value}\n"


@as_text.register
def _(answer: Model) -> str:
    rows = []
    for field in fields(answer):
        value = getattr(answer, field.name)
        if isinstance(value, tuple):
            value = ", ".join(value)
        rows.append((field.name.replace("_", " "), "" if value is None else str(value)))
    return _table(rows)


@as_text.register
def _(answer: EncodeSequenceResult) -> str:
    numbers = [f"{number:9.5f}" for number in answer.vector]
    lines = [
        "".join(numbers[start : start + _COLUMNS]) + "\n"
        for start in range(0, len(numbers), _COLUMNS)
    ]
    return ("".join(lines) or "no vector: no event could be used\n") + _footer(answer)


@as_text.register
def _(answer: SimilarUsersResult) -> str:
    rows = [("", "user", "similarity")]
    for place, user in enumerate(answer.similar_users, start=1):
        rows.append((str(place), user.user_id, f"{user.similarity:.4f}"))
    return _table(rows) + _footer(answer)


@as_text.register
def _(answer: RecommendResult) -> str:
    rows = [("", "item", "score", "title")]
    for place, item in enumerate(answer.recommendations, start=1):
        rows.append((str(place), item.item_id, f"{item.score:.4f}", item.title))
    return _table(rows) + _footer(answer, f"basis {answer.basis.value}")


def _footer(answer: EncodeSequenceResult | SimilarUsersResult | RecommendResult, *more: str) -> str:
    user = "known user" if answer.known_user else "no known user"
    if answer.send_history:
        more = (*more, "by the model before: better send the history than the state")
    parts = (f"model {_printable(answer.model_version)}", user, *more, _events(answer.event_report))
    return f"\n{'; '.join(parts)}\n"


def _events(report: EventReport) -> str:
    """The counts that are not zero."""
    counts = [
        f"{count} {name.replace('_', ' ')}" for name, count in asdict(report).items() if count
    ]
    return f"events: {', '.join(counts) or 'none'}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """The rows with their columns under each other."""
    cells = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _printable(text: str) -> str:
    """The text without what would move the cursor or colour the terminal."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
