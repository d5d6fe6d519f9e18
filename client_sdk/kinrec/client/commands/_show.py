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
    KinrecError,
    Model,
    PersonResult,
    RankResult,
    RecommendResult,
    SimilarItemsResult,
    SimilarUsersResult,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinrec.client import EventReport, Reason, Recommendation

    Answer = PersonResult | SimilarItemsResult | Model | Health

_COLUMNS = 8  # numbers of a vector on a line
_NONE_ALLOWED = "no item meets all the conditions"


def as_json(answer: Answer, *, with_state: bool = True) -> str:
    """The answer as one line of JSON, with the names of the result's fields; bytes are in base64."""
    row = {"status": answer} if isinstance(answer, Health) else asdict(answer)
    if not with_state:
        row.pop("state", None)
    return json.dumps(row, default=_plain) + "\n"


def error_as_json(error: BaseException, text: str = "") -> str:
    """An error as one line of JSON; without a status, a reason or violations if it is none of a call.

    Args:
        error: The error.
        text: What to say instead of its own text.
    """
    known = error if isinstance(error, KinrecError) else KinrecError(str(error))
    row: dict[str, object] = {
        "message": text or known.message,
        "code": known.code.name if known.code else None,
        "reason": known.reason,
        "violations": [asdict(violation) for violation in known.violations],
    }
    if known.retry_delay is not None:
        row["retry_delay"] = known.retry_delay
    return json.dumps({"error": row}) + "\n"


def as_line(answer: RecommendResult) -> str:
    """The ids of the recommended items on one line, and behind a tab what became of the events."""
    ids = "  ".join(_printable(item.item_id) for item in answer.recommendations)
    why = f"; {_NONE_ALLOWED}" if answer.allowed_item_count == 0 else ""
    return f"{ids}\t{_events(answer.event_report)}{why}\n"


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
        if field.name == "attributes":
            value = [f"{attribute.name} ({attribute.kind.value})" for attribute in value]
        if isinstance(value, (tuple, list)):
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
    shares = any(user.shared_item_ids for user in answer.similar_users)
    rows = [("", "user", "similarity", "shared items" if shares else "")]
    for place, user in enumerate(answer.similar_users, start=1):
        shared = ", ".join(user.shared_item_ids)
        rows.append((str(place), user.user_id, f"{user.similarity:.4f}", shared))
    return _table(rows) + _footer(answer)


@as_text.register
def _(answer: RecommendResult) -> str:
    more = [f"basis {answer.basis.value}", *_allowed(answer.allowed_item_count)]
    items = _unless_none(answer.allowed_item_count, _items(answer.recommendations))
    text = items + _footer(answer, *more)
    token = answer.next_page_token
    return f"{text}more: --page-token {_printable(token)}\n" if token else text


@as_text.register
def _(answer: RankResult) -> str:
    text = _items(answer.recommendations)
    if answer.unknown_item_ids:
        text += f"\nunknown items: {_printable(', '.join(answer.unknown_item_ids))}\n"
    return text + _footer(answer, f"basis {answer.basis.value}")


@as_text.register
def _(answer: SimilarItemsResult) -> str:
    rows = [("", "item", "similarity", "title")]
    for place, item in enumerate(answer.similar_items, start=1):
        rows.append((str(place), item.item_id, f"{item.similarity:.4f}", item.title))
    parts = (f"model {_printable(answer.model_version)}", *_allowed(answer.allowed_item_count))
    return f"{_unless_none(answer.allowed_item_count, _table(rows))}\n{'; '.join(parts)}\n"


def _items(items: Sequence[Recommendation]) -> str:
    """A table of items, with the reasons below each that has them."""
    rows = [("", "item", "score", "title")]
    for place, item in enumerate(items, start=1):
        rows.append((str(place), item.item_id, f"{item.score:.3g}", item.title))
    heading, *lines = _table(rows).splitlines(keepends=True)
    reasons = (_reason(item.reason) if item.reason else "" for item in items)
    return heading + "".join(line + reason for line, reason in zip(lines, reasons, strict=True))


def _reason(reason: Reason) -> str:
    """Why an item is recommended, in indented lines."""
    lines = [", ".join(f"{one.source.value} {one.share:.0%}" for one in reason.sources)]
    if reason.own_items:
        lines.append(
            "own items: " + ", ".join(f"{one.item_id} {one.share:.0%}" for one in reason.own_items)
        )
    if reason.voter_count:
        nearest = ", ".join(f"{one.pseudonym} {one.similarity:.2f}" for one in reason.voters)
        lines.append(f"{reason.voter_count} similar users: {nearest}")
    return "".join(f"     {_printable(line)}\n" for line in lines if line)


def _unless_none(allowed: int | None, items: str) -> str:
    """A table of items, or why it is empty."""
    return f"{_NONE_ALLOWED}\n" if allowed == 0 else items


def _allowed(count: int | None) -> list[str]:
    return [] if count is None else [f"{count} items allowed"]


def _footer(answer: PersonResult, *more: str) -> str:
    user = "known user" if answer.known_user else "no known user"
    if answer.variant:
        more = (*more, f"variant {_printable(answer.variant)}")
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
