"""`kinrec call`: ask a server."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kinrec.client import Health, KinrecError, Model, SimilarItemsResult, StateError
from kinrec.client.commands import _arguments, _show
from kinrec.client.commands._arguments import (
    StateFileError,
    add_filters,
    add_limit,
    add_page_token,
    add_person,
    add_reasons,
    add_recommending,
    add_search,
    events_of,
    keep_state,
    options_of,
    state_of,
)
from kinrec.client.commands._events import (
    LineError,
    LinesFileError,
    event_of,
    read_each,
)
from kinrec.client.commands._queries import batches_of, query_of
from kinrec.client.commands.connection import (
    TOKEN_VARIABLE,
    ConnectionFlagError,
    connection_of,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from kinrec.client import (
        Client,
        EncodeSequenceResult,
        Event,
        RankResult,
        RecommendResult,
        RecommendStream,
        SimilarUsersResult,
    )
    from kinrec.client.commands._show import Answer

_FAILED = 1
_BAD_USAGE = 2

_BATCH_HELP = (
    "a file with a query per line, - for standard input: a JSON object with user_id, events, state, limit, "
    "include_seen, exclude_item_ids, allow_item_ids, conditions, min_score, diversity, category_cap, "
    "reasons, search_effort, exact and page_token, all of them optional. Events are as in --events of the "
    'other questions, a state is in base64, a condition is {"attribute": ..., "any_of": [...]}, likewise '
    'all_of and none_of, or has min and max, or start and end, a category cap is {"attribute": ..., '
    '"limit": ...}'
)
_STREAM_HELP = (
    "a file with an event per line, or a list of events, each sent as it is read and answered by a line; "
    "- for standard input, which is the default. Without --user, --event and --state the first line opens "
    "the stream, and ends it if it cannot"
)


@dataclass(frozen=True, slots=True)
class _Question:
    """What can be asked.

    Attributes:
        help: In one line.
        add_arguments: Adds the arguments that it takes beside the common ones.
        ask: Asks it and shows what comes back. Returns the exit code.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    ask: Callable[[Client, argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    questions = parser.add_subparsers(title="questions", metavar="QUESTION", required=True)
    for name, question in _QUESTIONS.items():
        sub = questions.add_parser(name, help=question.help, description=question.help)
        sub.set_defaults(question=name)
        _arguments.add_common(sub)
        question.add_arguments(sub)


def run(args: argparse.Namespace) -> int:
    """Ask and show the answer.

    Returns:
        0; 1 if the call failed, or one of a batch or a stream, or the server is not serving; 2 if it
        could not be sent. With one line on standard error for what ended it.
    """
    try:
        with connection_of(args).open(args.target, args.timeout) as client:
            return _QUESTIONS[args.question].ask(client, args)
    except (ConnectionFlagError, LinesFileError, StateFileError) as error:
        return _refuse(args, error, _BAD_USAGE)
    except _StateNotKeptError as error:
        return _refuse(args, error.__cause__ or error, _FAILED)
    except StateError as error:
        hint = f"{error}; remove {args.state} to begin anew"
        return _refuse(args, error, _FAILED, hint)
    except KinrecError as error:
        # Without a status it was not sent.
        return _refuse(args, error, _FAILED if error.code else _BAD_USAGE, _hinted(error))


class _StateNotKeptError(Exception):
    """The answer was shown, and the state that came with it could not be written."""


def _hinted(error: KinrecError) -> str:
    """The text of an error; with the flags for it, where it is of an attribute or of a token that is missing."""
    if error.reason == "TOKEN_MISSING":
        return f"{error.message.partition(';')[0]}; give --token-file or {TOKEN_VARIABLE}"
    for violation in error.violations:
        if violation.field.startswith("conditions[") and violation.field.endswith(".attribute"):
            return f"{error}; {_arguments.KINDS_HELP}"
    return str(error)


def _refuse(args: argparse.Namespace, error: BaseException, code: int, text: str = "") -> int:
    if args.json:
        sys.stderr.write(_show.error_as_json(error, text))
    else:
        sys.stderr.write(f"kinrec call {args.question}: {text or error}\n")
    return code


def _show_answer(args: argparse.Namespace, answer: Answer) -> int:
    sys.stdout.write(_show.as_json(answer) if args.json else _show.as_text(answer))
    if not isinstance(answer, (Model, Health, SimilarItemsResult)):
        _keep(args, answer.state)
    return _FAILED if isinstance(answer, Health) and answer is not Health.SERVING else 0


def _keep(args: argparse.Namespace, state: bytes) -> None:
    try:
        keep_state(args, state)
    except StateFileError as error:
        raise _StateNotKeptError from error


def _answering(
    ask: Callable[[Client, argparse.Namespace], Answer],
) -> Callable[[Client, argparse.Namespace], int]:
    """Ask a question that has one answer, and show it."""
    return lambda client, args: _show_answer(args, ask(client, args))


def _add_nothing(_parser: argparse.ArgumentParser) -> None:
    """A question about the server takes no person."""


def _add_similar_users(parser: argparse.ArgumentParser) -> None:
    add_person(parser)
    add_limit(parser)
    parser.add_argument(
        "--shared",
        type=int,
        default=0,
        metavar="N",
        help="name so many of the items that both did something with, 0 to 100 (%(default)s)",
    )
    add_search(parser)


def _add_recommend(parser: argparse.ArgumentParser) -> None:
    add_person(parser)
    add_recommending(parser)
    add_page_token(parser)


def _add_rank(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("items", nargs="+", metavar="ITEM", help="the items")
    add_person(parser)
    add_reasons(parser)


def _add_similar_items(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("item", metavar="ITEM", help="the item")
    add_limit(parser)
    add_filters(parser)


def _add_batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queries", metavar="FILE", help=_BATCH_HELP)
    parser.add_argument(
        "--encode",
        action="store_true",
        help="ask for vectors; of each query user_id, events and state are looked at",
    )
    parser.add_argument(
        "--with-state",
        action="store_true",
        help="write each person's state too, some kilobytes in base64, for a later query of the person",
    )
    parser.description = (
        "What will many people want next? One line of JSON for each query, in their order, with the "
        'answer or {"error": ...}, also for a line that cannot be read. Ends with 1 if there is an error '
        "among them."
    )


def _add_stream(parser: argparse.ArgumentParser) -> None:
    add_person(parser, events=False)
    parser.add_argument("--events", default="-", metavar="FILE", help=_STREAM_HELP)
    add_recommending(parser)
    parser.description = (
        "What will a person want next, after every event? Prints a line when the stream is open, and one "
        "more for each line of events: item ids, the best first, and behind a tab what became of the events; "
        "with --json the whole answer. A line that cannot be read, or whose events break a rule, is answered "
        "by a line with the error, and the exit code is 1 at the end."
    )


def _encode(client: Client, args: argparse.Namespace) -> EncodeSequenceResult:
    return client.encode_sequence(events_of(args), user_id=args.user, state=state_of(args))


def _similar_users(client: Client, args: argparse.Namespace) -> SimilarUsersResult:
    return client.similar_users(
        events_of(args),
        user_id=args.user,
        state=state_of(args),
        limit=args.limit,
        shared_items=args.shared,
        search_effort=args.search_effort,
        exact=args.exact,
    )


def _recommend(client: Client, args: argparse.Namespace) -> RecommendResult:
    return client.recommend(
        events_of(args),
        user_id=args.user,
        state=state_of(args),
        limit=args.limit,
        include_seen=args.include_seen,
        exclude_item_ids=args.exclude,
        options=options_of(args),
    )


def _rank(client: Client, args: argparse.Namespace) -> RankResult:
    return client.rank(
        args.items,
        events_of(args),
        user_id=args.user,
        state=state_of(args),
        reasons=args.reasons,
    )


def _similar_items(client: Client, args: argparse.Namespace) -> SimilarItemsResult:
    return client.similar_items(
        args.item, limit=args.limit, allow_item_ids=args.allow, conditions=args.conditions
    )


def _batch(client: Client, args: argparse.Namespace) -> int:
    ask = client.batch_encode if args.encode else client.batch_recommend
    code = 0
    for batch in batches_of(read_each(args.queries, query_of)):
        queries = [query for query in batch if not isinstance(query, LineError)]
        answers = iter(ask(queries) if queries else ())
        for query in batch:
            result = query if isinstance(query, LineError) else next(answers)
            if isinstance(result, KinrecError | LineError):
                sys.stdout.write(_show.error_as_json(result))
                code = _FAILED
            else:
                sys.stdout.write(_show.as_json(result, with_state=args.with_state))
    return code


def _stream(client: Client, args: argparse.Namespace) -> int:
    lines = read_each(args.events, _events_of_line)
    opening, state = args.event, state_of(args)
    if not (args.user or opening or state):
        first = next(lines, [])
        if isinstance(first, LineError):
            raise first
        opening = first
    with client.recommend_stream(
        opening,
        user_id=args.user,
        state=state,
        limit=args.limit,
        include_seen=args.include_seen,
        exclude_item_ids=args.exclude,
        options=options_of(args),
    ) as stream:
        code = _follow(stream, lines, args)
    _keep(args, stream.state)
    return code


def _follow(
    stream: RecommendStream, lines: Iterator[list[Event] | LineError], args: argparse.Namespace
) -> int:
    """Show the first answer, send line after line, and show what comes back."""
    code = 0
    _show_line(args, stream.first)
    for events in lines:
        if isinstance(events, LineError):
            _show_line(args, events)
            code = _FAILED
            continue
        try:
            _show_line(args, stream.send(events))
        except KinrecError as error:
            if not stream.is_open:
                raise
            _show_line(args, error)
            code = _FAILED
    return code


def _show_line(args: argparse.Namespace, answer: RecommendResult | KinrecError | LineError) -> None:
    if isinstance(answer, KinrecError | LineError):
        line = _show.error_as_json(answer) if args.json else f"error: {answer}\n"
    else:
        line = _show.as_json(answer) if args.json else _show.as_line(answer)
    sys.stdout.write(line)
    sys.stdout.flush()


def _events_of_line(value: object) -> list[Event]:
    return [event_of(row) for row in (value if isinstance(value, list) else [value])]


def _health(client: Client, _args: argparse.Namespace) -> Health:
    return client.health()


def _model(client: Client, _args: argparse.Namespace) -> Model:
    return client.get_model()


_QUESTIONS = {
    "encode": _Question(
        "What does a behaviour sequence say about a person?", add_person, _answering(_encode)
    ),
    "similar-users": _Question(
        "Who behaves alike?", _add_similar_users, _answering(_similar_users)
    ),
    "recommend": _Question("What will a person want next?", _add_recommend, _answering(_recommend)),
    "stream": _Question("What will a person want next, after every event?", _add_stream, _stream),
    "batch": _Question("What will many people want next?", _add_batch, _batch),
    "rank": _Question(
        "Which of these items will a person want most?", _add_rank, _answering(_rank)
    ),
    "similar-items": _Question(
        "Which items are like this one?", _add_similar_items, _answering(_similar_items)
    ),
    "health": _Question("Does the server take calls?", _add_nothing, _answering(_health)),
    "model": _Question("Which model answers?", _add_nothing, _answering(_model)),
}
