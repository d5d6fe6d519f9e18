"""The arguments of `kinrec call` that several questions take, and what is made of them."""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kinrec.client import (
    AllOf,
    AnyOf,
    CategoryCap,
    InvalidRequestError,
    NoneOf,
    NumberRange,
    Options,
    TimeRange,
)
from kinrec.client.commands._events import event_of, parse_event, parse_time, read_lines
from kinrec.client.commands.connection import add_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinrec.client import Condition, Event

_T = TypeVar("_T")

_EVENT_HELP = (
    "something the person did, oldest first; repeatable. TYPE ends at the second colon and TIME is "
    "the rest: unix seconds or ISO 8601 with a time zone. For an item id with a colon use --events"
)
_EVENTS_HELP = (
    'a file with an event per line, {"item_id": ..., "event_type": ..., "timestamp": ..., "value": '
    "...}, all but the first optional, before those of --event; - is standard input"
)
_STATE_HELP = (
    "a file that carries the person's state from call to call: read if it is there, then written anew; "
    "with it, give only the events that came since"
)
KINDS_HELP = (
    "--where, --where-all and --where-not are for text, --min and --max for numbers, --after and --before "
    "for times; kinrec call model lists the attributes"
)
_CONDITIONS_HELP = (
    "What items must be like, by their attributes; all that is given must hold. ATTR is a name that "
    "kinrec call model lists, up to the first =. Texts stand between commas, or in a JSON list: "
    """--where 'genre=["War, civil"]'. A TIME is unix seconds or ISO 8601 with a time zone."""
)


class StateFileError(Exception):
    """The file of a state cannot be read or written. The text is one line that names it."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"--state {path}: {error.strerror}")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what every question takes."""
    parser.add_argument(
        "--target", default="localhost:50051", metavar="HOST:PORT", help="(%(default)s)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="for the whole call, with repeats; of a stream, for each answer (%(default)s)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one line of JSON, an error too, on standard error",
    )
    add_connection(parser)


def add_person(parser: argparse.ArgumentParser, *, events: bool = True) -> None:
    """Add what says who the person is.

    Args:
        parser: Where to.
        events: Whether to take a file of events.
    """
    parser.add_argument("--user", metavar="ID", help="a known user, whose history comes first")
    parser.add_argument(
        "--event",
        type=_typed(parse_event),
        action="append",
        default=[],
        metavar="ITEM[:TYPE[:TIME]]",
        help=_EVENT_HELP,
    )
    if events:
        parser.add_argument("--events", metavar="FILE", help=_EVENTS_HELP)
    parser.add_argument("--state", type=Path, metavar="FILE", help=_STATE_HELP)


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Add how many answers are wanted."""
    parser.add_argument("--limit", type=int, metavar="N", help="how many (default: the server's)")


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add which items may be answered with."""
    parser.add_argument(
        "--allow",
        action="extend",
        nargs="+",
        default=[],
        metavar="ITEM",
        help="the only items that may be; repeatable",
    )
    group = parser.add_argument_group("conditions", _CONDITIONS_HELP)
    for flag, metavar, read, text in (
        (
            "--where",
            "ATTR=A[,B]",
            partial(_texts, AnyOf),
            "items that have at least one of these texts",
        ),
        ("--where-all", "ATTR=A[,B]", partial(_texts, AllOf), "items that have all of them"),
        ("--where-not", "ATTR=A[,B]", partial(_texts, NoneOf), "items that have none of them"),
        ("--min", "ATTR=NUMBER", partial(_number, "min"), "items with so great a number"),
        ("--max", "ATTR=NUMBER", partial(_number, "max"), "items with so small a number"),
        ("--after", "ATTR=TIME", partial(_time, "start"), "items with this time or a later one"),
        ("--before", "ATTR=TIME", partial(_time, "end"), "items with an earlier time"),
    ):
        group.add_argument(
            flag,
            dest="conditions",
            type=_typed(read),
            action="append",
            default=[],
            metavar=metavar,
            help=f"{text}; repeatable, and then all must hold",
        )


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add how thoroughly indexes are searched."""
    parser.add_argument(
        "--search-effort",
        type=int,
        default=1,
        metavar="N",
        help="how many times as wide as usual approximate indexes are searched, 1 to 100 (%(default)s)",
    )
    parser.add_argument(
        "--exact", action="store_true", help="compare every vector, so that none is missed"
    )


def add_reasons(parser: argparse.ArgumentParser) -> None:
    """Add whether to say why."""
    parser.add_argument("--reasons", action="store_true", help="say why below each item")


def add_recommending(parser: argparse.ArgumentParser) -> None:
    """Add what is asked for in recommendations."""
    add_limit(parser)
    parser.add_argument(
        "--include-seen",
        action=argparse.BooleanOptionalAction,
        help="whether to recommend items of the person's own history (default: the model's)",
    )
    parser.add_argument(
        "--exclude",
        action="extend",
        nargs="+",
        default=[],
        metavar="ITEM",
        help="items that must not be recommended; repeatable",
    )
    add_filters(parser)
    parser.add_argument(
        "--min-score", type=float, default=0.0, metavar="SCORE", help="the least (%(default)s)"
    )
    parser.add_argument(
        "--diversity",
        type=float,
        default=0.0,
        metavar="D",
        help="from 0, the best scores, to 1, items as little alike as can be (%(default)s)",
    )
    parser.add_argument(
        "--cap",
        type=_typed(_cap),
        metavar="ATTR=N",
        help="at most N items of any one text of the attribute",
    )
    add_reasons(parser)
    add_search(parser)


def add_page_token(parser: argparse.ArgumentParser) -> None:
    """Add where to go on."""
    parser.add_argument(
        "--page-token",
        default="",
        metavar="TOKEN",
        help="go on behind an earlier answer; all else but --limit as it was; with --state without the "
        "events, which its file holds by now",
    )


def events_of(args: argparse.Namespace) -> list[Event]:
    """The events of the file, and then those that were typed.

    Raises:
        LinesFileError: The file cannot be read.
    """
    return [*(read_lines(args.events, event_of) if args.events else ()), *args.event]


def options_of(args: argparse.Namespace) -> Options:
    """What is asked for beside the person."""
    return Options(
        allow_item_ids=args.allow,
        conditions=args.conditions,
        min_score=args.min_score,
        diversity=args.diversity,
        category_cap=args.cap,
        reasons=args.reasons,
        search_effort=args.search_effort,
        exact=args.exact,
        page_token=getattr(args, "page_token", ""),
    )


def state_of(args: argparse.Namespace) -> bytes:
    """The state of the call before, if there is one.

    Raises:
        StateFileError: Its file cannot be read.
    """
    try:
        return args.state.read_bytes() if args.state and args.state.exists() else b""
    except OSError as error:
        raise StateFileError(args.state, error) from error


def keep_state(args: argparse.Namespace, state: bytes) -> None:
    """Write the state for the next call, whole or not at all, if a file for it is given.

    Raises:
        StateFileError: It cannot be written.
    """
    path = args.state
    if path:
        try:
            partial_path = path.with_name(f".{path.name}.{os.getpid()}")
            partial_path.write_bytes(state)
            partial_path.replace(path)
        except OSError as error:
            raise StateFileError(path, error) from error


def _typed(read: Callable[[str], _T]) -> Callable[[str], _T]:
    """Read an argument so that the command line says what is wrong with it."""

    def typed(text: str) -> _T:
        try:
            return read(text)
        except (ValueError, InvalidRequestError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return typed


def _split(text: str) -> tuple[str, str]:
    attribute, equals, value = text.partition("=")
    if not (attribute and equals and value):
        raise ValueError(f"must be ATTR=VALUE, not {text!r}")
    return attribute, value


def _texts(kind: Callable[[str, list[str]], Condition], text: str) -> Condition:
    attribute, value = _split(text)
    if not value.startswith("["):
        return kind(attribute, value.split(","))
    try:
        values = json.loads(value)
    except ValueError as error:
        raise ValueError(f"not a JSON list: {value!r}") from error
    return kind(attribute, values)


def _number(bound: str, text: str) -> NumberRange:
    attribute, value = _split(text)
    try:
        return NumberRange(attribute, **{bound: float(value)})
    except ValueError as error:
        raise ValueError(f"not a number: {value!r}") from error


def _time(bound: str, text: str) -> TimeRange:
    attribute, value = _split(text)
    return TimeRange(attribute, **{bound: parse_time(value)})


def _cap(text: str) -> CategoryCap:
    attribute, value = _split(text)
    try:
        return CategoryCap(attribute, int(value))
    except ValueError as error:
        raise ValueError(f"not a whole number: {value!r}") from error
