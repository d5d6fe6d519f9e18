"""CPU time per call of the server beside the sum of its parts, measured in one run on one core.

Compare ratios within one run: the times depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from load import Asked, Cost, measure
from parts import (
    BATCH,
    CARRIED,
    ENCODER,
    EVENTS,
    FACTORS,
    ITEMS,
    STEP,
    USERS,
    carried_us,
    engine_us,
    of_annoy,
    parts_us,
)
from processes import Cores, Server, serve
from rich.console import Console
from rich.table import Table

from kinrec.bundle.v1.manifest_pb2 import Attribute
from kinrec.engine import Engine, Event, NoneOf, Options
from kinrec.engine.blend import Mixes
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from kinrec.bundle.v1.manifest_pb2 import Manifest

BIN = Path(sys.executable).parent
ECHO = Path(__file__).with_name("echo.py")
ECHO_THREADS = 24
SERVICE = "kinrec.v1.RecommenderService"
CARRY_ON = f"state and event {EVENTS}"  # how the names of the questions end that have a state
PLAIN = f"Recommend, {EVENTS} events"
FIRST_TIME = 1_750_000_000  # of the events, in seconds since 1970


@dataclass(frozen=True, slots=True)
class Question:
    """A request that is measured.

    Attributes:
        name: How it is shown.
        method: The method, of the recommender and of the echo.
        request: The serialized request.
        parts: The parts that an answer takes at the least, besides an empty call.
        people: How many people it asks about: its cost is given for each.
    """

    name: str
    method: str
    request: bytes
    parts: tuple[str, ...]
    people: int = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """What the servers cost.

    Attributes:
        start: How the real server started, in words.
        questions: What was asked.
        real: The cost of each question by the number of callers.
        echo: The cost of an empty call of the same sizes, likewise.
    """

    start: str
    questions: list[Question]
    real: dict[int, list[Cost]]
    echo: dict[int, list[Cost]]


def main() -> None:
    """Measure and print."""
    args = _arguments()
    limit_numpy_threads()
    console = Console(width=120)
    store = args.store or sample_store(console)
    cores = Cores.choose()
    os.sched_setaffinity(0, {cores.server})
    engine = Engine.load(store)
    item_ids, user_id = known_ids(engine)
    events = [
        Event(item_ids[i % len(item_ids)], "", FIRST_TIME + 60.0 * i) for i in range(CARRIED[-1])
    ]
    history = events[:EVENTS]
    console.print(
        f"{engine.name} {engine.version}: {engine.manifest.user_count:,} users, "
        f"{engine.manifest.item_count:,} items; server on core {cores.server}, "
        f"load on {sorted(cores.load)}; {args.callers} callers"
    )
    options = refined_options(engine)
    console.print(_engine_table(*engine_us(engine, history, user_id, options)))
    console.print(_carried_table(carried_us(engine, events)))
    if args.engine_only:
        return
    asked = _asked_parts(engine.manifest)
    refined = refined_request(options)
    parts = parts_us(bundle_of(store, engine), engine.manifest)
    del engine
    console.print(parts_table(parts))
    questions = questions_of(history, user_id, asked, refined)
    wanted = [question for question in questions if question.name.startswith(tuple(args.only))]
    if not wanted:
        sys.exit(f"--only: none of: {', '.join(question.name for question in questions)}")
    measured = _measure_servers(store, wanted, questions[0].request, cores, args)
    console.print(measured.start)
    for callers, costs in measured.real.items():
        title = f"Calls, {callers} caller{'s' * (callers > 1)}"
        console.print(_calls_table(title, measured.questions, costs, measured.echo[callers], parts))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, help="a store (default: a sample that is trained)")
    parser.add_argument("--calls", type=int, default=400, help="calls of a turn (%(default)s)")
    parser.add_argument("--repeats", type=int, default=25, help="turns of each call (%(default)s)")
    parser.add_argument("--callers", type=int, default=64, help="callers at once (%(default)s)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        metavar="NAME",
        help="measure only the calls whose names begin so, e.g. EncodeSequence (default: all)",
    )
    parser.add_argument("--engine-only", action="store_true", help="only the engine, in process")
    return parser.parse_args()


def limit_numpy_threads() -> None:
    """Start again with one thread for numpy, as the server has; numpy asks when it is imported."""
    limit = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if any(os.environ.get(name) != count for name, count in limit.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | limit)  # noqa: S606


def sample_store(console: Console) -> Path:
    """Train a small model through the public commands, once."""
    cache = Path(tempfile.gettempdir()) / f"kinrec-benchmark-{os.getuid()}"
    store = cache / "sample"
    if not any(store.glob("*/manifest.json")):
        console.print(f"training a sample model in {cache}")
        data = cache / "data"
        command = ["sample-data", "--users", "2000", "--items", "1000", "--seed", "7"]
        subprocess.run([BIN / "kinrec", *command, "--out", data, "--force"], check=True)
        files = ["--events", data / "events.csv", "--items", data / "items.csv"]
        subprocess.run([BIN / "kinrec", "train", *files, "--out", store], check=True)
    return store


def bundle_of(store: Path, engine: Engine) -> Path:
    """Where the bundle is that an engine was loaded from: a version of the store, or itself."""
    return store if (store / "manifest.json").exists() else store / engine.version


def known_ids(engine: Engine) -> tuple[list[str], str]:
    """The popular items, and a user who likes them."""
    nothing = Event("\N{NO ENTRY SIGN} not an item")
    item_ids = engine.recommend(events=[nothing], limit=EVENTS).item_ids
    events = [Event(item_id) for item_id in item_ids]
    return item_ids, engine.similar_users(events=events, limit=1).user_ids[0]


def _asked_parts(manifest: Manifest) -> list[str]:
    """The indexes that recommending for a person of so many events takes."""
    include_seen = manifest.event_spec.include_seen_default
    weights = Mixes(manifest.blend).of(EVENTS, include_seen=include_seen)
    parts = {"similar_users": USERS, "sequence": ITEMS, "factors": FACTORS}
    return [part for source, part in parts.items() if source in weights]


def refined_options(engine: Engine) -> Options:
    """What a call can ask for beside the events: a filter that most items pass, and all the rest."""
    for attribute in engine.manifest.attributes:
        if attribute.kind == Attribute.KIND_TEXT:
            condition = NoneOf(attribute.name, ("\N{NO ENTRY SIGN} not a value",))
            return Options(conditions=(condition,), diversity=0.3, reasons=True)
    allowed = tuple(engine.item_ids(0, 1_000))
    return Options(allow_item_ids=allowed, diversity=0.3, reasons=True)


def refined_request(options: Options) -> pb.RecommendRequest:
    """Give the request for that."""
    request = pb.RecommendRequest(
        allow_item_ids=options.allow_item_ids, diversity=options.diversity, reasons=options.reasons
    )
    for condition in options.conditions:
        values = pb.TextValues(values=condition.values)
        request.conditions.add(attribute=condition.attribute, none_of=values)
    return request


def questions_of(
    events: list[Event], user_id: str, asked: list[str], refined: pb.RecommendRequest
) -> list[Question]:
    """What is asked of each RPC about a person with some events."""
    messages = [
        pb.Event(item_id=event.item_id, time=Timestamp(seconds=int(event.time or 0)))
        for event in events
    ]

    def question(name: str, request: Message, *parts: str) -> Question:
        method = type(request).__name__.removesuffix("Request")
        return Question(name, method, request.SerializeToString(), parts)

    def of_many(name: str, request: Message) -> Question:
        return dataclasses.replace(question(name, request), people=BATCH)

    encode = pb.EncodeSequenceRequest(events=messages)
    similar = pb.SimilarUsersRequest(events=messages)
    recommend = pb.RecommendRequest(events=messages)
    known = pb.RecommendRequest(user_id=user_id)
    refined.events.extend(messages)
    rank = pb.RankRequest(events=messages, item_ids=[event.item_id for event in events])
    similar_items = pb.SimilarItemsRequest(item_id=events[0].item_id)
    each = [messages[place % EVENTS :] + messages[: place % EVENTS] for place in range(BATCH)]
    encode_all = pb.BatchEncodeRequest(
        requests=[pb.EncodeSequenceRequest(events=its) for its in each]
    )
    recommend_all = pb.BatchRecommendRequest(
        requests=[pb.RecommendRequest(events=its) for its in each]
    )
    encode_next = pb.EncodeSequenceRequest(events=messages[-1:])
    recommend_next = pb.RecommendRequest(events=messages[-1:])
    in_batch = f"of {BATCH}, {EVENTS} events, each"
    # Those that are compared with each other are neighbours: a machine changes its speed within seconds.
    # The states are the server's own to give: they are added when there is one.
    return [
        question("EncodeSequence, 50 events", encode, ENCODER),
        question(f"EncodeSequence, {CARRY_ON}", encode_next, STEP),
        of_many(f"BatchEncode {in_batch}", encode_all),
        question("SimilarUsers, 50 events", similar, ENCODER, USERS),
        question("SimilarItems", similar_items, ITEMS),
        question(f"Rank of {EVENTS} items, {EVENTS} events", rank, ENCODER, *asked),
        question("Recommend, known user", known, *asked),
        question("Recommend, filter, diversity, reasons", refined, ENCODER, *asked),
        question(PLAIN, recommend, ENCODER, *asked),
        question(f"Recommend, {CARRY_ON}", recommend_next, STEP, *asked),
        of_many(f"BatchRecommend {in_batch}", recommend_all),
    ]


def _measure_servers(
    store: Path, questions: list[Question], whole: bytes, cores: Cores, args: argparse.Namespace
) -> Measured:
    """Measure the real server and an echo of the same sizes by turns, alone and under load."""
    command = [BIN / "kinrec", "serve", store, "--port", "0", "--drain-wait", "0"]
    command += ["--workers", "1", "--max-wait", "60"]
    with serve(command, cores) as server:
        resident = server.resident_mib()
        questions = with_state(server, questions, whole)
        sizes = [f"Q{i}={answer_size(server, q)}" for i, q in enumerate(questions)]
        with serve([sys.executable, ECHO, "--threads", str(ECHO_THREADS), *sizes], cores) as empty:
            asked: list[Asked] = []
            for i, q in enumerate(questions):
                for of, method in (
                    (server, f"/{SERVICE}/{q.method}"),
                    (empty, f"/kinrec.benchmark.Echo/Q{i}"),
                ):
                    asked.append(Asked(of, method, q.request, q.people))
            costs = {
                callers: measure(asked, callers, args.calls, args.repeats)
                for callers in sorted({1, args.callers})
            }
        start = (
            f"ready {server.ready_seconds:.2f} s after the start; resident {resident:.0f} MiB, "
            f"{server.resident_mib():.0f} MiB after the load"
        )
    real = {callers: found[::2] for callers, found in costs.items()}
    echo = {callers: found[1::2] for callers, found in costs.items()}
    return Measured(start, questions, real, echo)


def with_state(server: Server, questions: list[Question], whole: bytes) -> list[Question]:
    """Let those that are to have a state go on from the one after all events but their own.

    Args:
        server: Gives the state.
        questions: Of which some are to have one.
        whole: A request to encode all events.
    """
    before = pb.EncodeSequenceRequest.FromString(whole)
    del before.events[-1]
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/EncodeSequence")
        answer = pb.EncodeSequenceResponse.FromString(call(before.SerializeToString(), timeout=60))
    found: list[Question] = []
    for question in questions:
        request = getattr(pb, f"{question.method}Request").FromString(question.request)
        if question.name.endswith(CARRY_ON):
            request.state = answer.state
        found.append(dataclasses.replace(question, request=request.SerializeToString()))
    return found


def answer_size(server: Server, question: Question) -> int:
    """How many bytes a server answers with."""
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_stream(f"/{SERVICE}/{question.method}")  # which one answer is as well
        return sum(len(answer) for answer in call(question.request, timeout=60))


def _engine_table(costs: dict[str, float], shares: dict[str, float]) -> Table:
    table = Table("in process", title="Engine, 1 caller", title_justify="left")
    table.add_column("CPU µs", justify="right")
    table.add_column("of the plain call", justify="right")
    for name, cost in costs.items():
        table.add_row(name, f"{cost:,.0f}", f"{shares[name]:.2f}" if name in shares else "")
    return table


def _carried_table(costs: dict[int, tuple[float, float]]) -> Table:
    table = Table("event", title="Recommend, engine, CPU µs", title_justify="left")
    for column in ("from the state", "from all events", "ratio"):
        table.add_column(column, justify="right")
    for count, (carried, whole) in costs.items():
        table.add_row(f"{count:,}", f"{carried:,.0f}", f"{whole:,.0f}", f"{carried / whole:.2f}")
    return table


def parts_table(parts: dict[str, float]) -> Table:
    """Show what ``parts_us`` measured."""
    table = Table("alone", title="Parts", title_justify="left")
    table.add_column("CPU µs", justify="right")
    for name, cost in parts.items():
        table.add_row(_IN_WORDS.get(name, name), f"{cost:,.0f}")
    return table


_IN_WORDS = {ENCODER: f"onnxruntime, {EVENTS} events", STEP: "onnxruntime, 1 event"}


def _calls_table(
    title: str,
    questions: list[Question],
    costs: list[Cost],
    echoes: list[Cost],
    parts: dict[str, float],
) -> Table:
    table = Table("call", title=title, title_justify="left")
    for column in (
        "CPU µs",
        "empty µs",
        "parts µs",
        "ratio",
        "with Annoy",
        "ratio",
        "of plain",
        "p50 ms",
        "p99 ms",
    ):
        table.add_column(column, justify="right")
    plain = next(
        (cost for pair, cost in zip(questions, costs, strict=True) if pair.name == PLAIN), None
    )
    for question, cost, echo in zip(questions, costs, echoes, strict=True):
        total = echo.cpu_us + sum(parts[name] for name in question.parts)
        forests = [of_annoy(name) for name in question.parts]
        with_annoy = echo.cpu_us + sum(
            parts.get(forest, parts[name])
            for forest, name in zip(forests, question.parts, strict=True)
        )
        table.add_row(
            question.name,
            f"{cost.cpu_us:,.0f}",
            f"{echo.cpu_us:,.0f}",
            *_beside(question, cost, total),
            *_beside(question, cost, with_annoy),
            _of_plain(question, cost, plain),
            f"{cost.p50_ms:.2f}",
            f"{cost.p99_ms:.2f}",
        )
    return table


def _of_plain(question: Question, cost: Cost, plain: Cost | None) -> str:
    """How many times the cost of a plain recommendation that of another kind is."""
    if plain is None or question.name == PLAIN or "Recommend" not in question.method:
        return ""
    return f"{cost.beside(plain):.2f}"


def _beside(question: Question, cost: Cost, parts_us: float) -> tuple[str, str]:
    """The sum of the parts, and the cost beside it; nothing of a batch, which shares its parts."""
    if question.people > 1:
        return "", ""
    return f"{parts_us:,.0f}", f"{cost.cpu_us / parts_us:.2f}"


if __name__ == "__main__":
    main()
