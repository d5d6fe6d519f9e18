"""`kinrec call`: ask a server."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kinrec.client import Client, Health, KinrecError, Model, StateError
from kinrec.client.commands import _show
from kinrec.client.commands._events import EventsFileError, parse_event, read_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinrec.client import (
        EncodeSequenceResult,
        Event,
        RecommendResult,
        SimilarUsersResult,
    )

    Answer = EncodeSequenceResult | SimilarUsersResult | RecommendResult | Model | Health

_FAILED = 1
_BAD_USAGE = 2

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


@dataclass(frozen=True, slots=True)
class _Question:
    """What can be asked.

    Attributes:
        help: In one line.
        add_arguments: Adds the arguments that it takes beside the common ones.
        ask: Asks it.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    ask: Callable[[Client, argparse.Namespace], Answer]


class StateFileError(Exception):
    """The file of a state cannot be read or written. The text is one line that names it."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"--state {path}: {error.strerror}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    questions = parser.add_subparsers(title="questions", metavar="QUESTION", required=True)
    for name, question in _QUESTIONS.items():
        sub = questions.add_parser(name, help=question.help, description=question.help)
        sub.set_defaults(question=name)
        _add_common(sub)
        question.add_arguments(sub)


def run(args: argparse.Namespace) -> int:
    """Ask and show the answer.

    Returns:
        0; 1 if the call failed or the server is not serving; 2 if it could not be sent. With one
        line on standard error for each failure.
    """
    try:
        with Client(args.target, timeout=args.timeout) as client:
            answer = _QUESTIONS[args.question].ask(client, args)
    except (EventsFileError, StateFileError) as error:
        return _refuse(args.question, error, _BAD_USAGE)
    except StateError as error:
        hint = f"{error}; remove {args.state} to begin anew"
        return _refuse(args.question, hint, _FAILED)
    except KinrecError as error:
        # Without a status it was not sent.
        return _refuse(args.question, error, _FAILED if error.code else _BAD_USAGE)
    sys.stdout.write(_show.as_json(answer) if args.json else _show.as_text(answer))
    try:
        _keep_state(args, answer)
    except StateFileError as error:
        return _refuse(args.question, error, _FAILED)
    return _FAILED if isinstance(answer, Health) and answer is not Health.SERVING else 0


def _state(args: argparse.Namespace) -> bytes:
    """Read the state of the call before, if there is one."""
    try:
        return args.state.read_bytes() if args.state and args.state.exists() else b""
    except OSError as error:
        raise StateFileError(args.state, error) from error


def _keep_state(args: argparse.Namespace, answer: Answer) -> None:
    path = getattr(args, "state", None)
    if path and not isinstance(answer, (Model, Health)):
        try:
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            partial.write_bytes(answer.state)
            partial.replace(path)
        except OSError as error:
            raise StateFileError(path, error) from error


def _refuse(question: str, error: Exception | str, code: int) -> int:
    sys.stderr.write(f"kinrec call {question}: {error}\n")
    return code


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target", default="localhost:50051", metavar="HOST:PORT", help="(%(default)s)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="for the whole call, with repeats (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def _add_nothing(_parser: argparse.ArgumentParser) -> None:
    """A question about the server takes no person."""


def _add_person(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", metavar="ID", help="a known user, whose history comes first")
    parser.add_argument(
        "--event",
        type=_event,
        action="append",
        default=[],
        metavar="ITEM[:TYPE[:TIME]]",
        help=_EVENT_HELP,
    )
    parser.add_argument("--events", metavar="FILE", help=_EVENTS_HELP)
    parser.add_argument("--state", type=Path, metavar="FILE", help=_STATE_HELP)


def _add_person_and_limit(parser: argparse.ArgumentParser) -> None:
    _add_person(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="how many (default: the server's)")


def _add_person_and_items(parser: argparse.ArgumentParser) -> None:
    _add_person_and_limit(parser)
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


def _event(text: str) -> Event:
    try:
        return parse_event(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _events(args: argparse.Namespace) -> list[Event]:
    return [*(read_events(args.events) if args.events else ()), *args.event]


def _encode(client: Client, args: argparse.Namespace) -> EncodeSequenceResult:
    return client.encode_sequence(_events(args), user_id=args.user, state=_state(args))


def _similar_users(client: Client, args: argparse.Namespace) -> SimilarUsersResult:
    return client.similar_users(
        _events(args), user_id=args.user, state=_state(args), limit=args.limit
    )


def _recommend(client: Client, args: argparse.Namespace) -> RecommendResult:
    return client.recommend(
        _events(args),
        user_id=args.user,
        state=_state(args),
        limit=args.limit,
        include_seen=args.include_seen,
        exclude_item_ids=args.exclude,
    )


def _health(client: Client, _args: argparse.Namespace) -> Health:
    return client.health()


def _model(client: Client, _args: argparse.Namespace) -> Model:
    return client.get_model()


_QUESTIONS = {
    "encode": _Question("What does a behaviour sequence say about a person?", _add_person, _encode),
    "similar-users": _Question("Who behaves alike?", _add_person_and_limit, _similar_users),
    "recommend": _Question("What will a person want next?", _add_person_and_items, _recommend),
    "health": _Question("Does the server take calls?", _add_nothing, _health),
    "model": _Question("Which model answers?", _add_nothing, _model),
}
