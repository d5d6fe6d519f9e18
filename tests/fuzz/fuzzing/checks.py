"""What holds for every call, however hostile."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from fuzzing.documented import STATUS_OF
from fuzzing.service import DEADLINE
from kinrec.server.config import MAX_REQUEST_BYTES
from kinrec.server.from_wire import DEFAULT_LIMIT
from kinrec.server.parts import MAX_PARTS
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from fuzzing.service import Call, Outcome

_LONGEST_TEXT = 1_000  # characters: a text names a rule, it does not repeat a request
_INNER = re.compile(
    r"Traceback|File \"|\.py\b|object at 0x|<class|<function|\b0x[0-9a-f]{6,}"
    r"|/(?:usr|home|root|tmp|opt|var|work|proc|lib)/"
    r"|\b\w*(?:Error|Exception|Warning)\b|Exception calling|Exception iterating"
    r"|numpy|onnx|annoy|protobuf|kinrec\.(?:engine|server)|site-packages"
)
_TOO_MANY = f"a request has at most {MAX_PARTS:,} parts"
GONE = "the server is gone"
_STATUSES = {code.value[0]: code.name for code in grpc.StatusCode}
_FAULTS = {  # never an answer to a call that was let through, documented or not
    grpc.StatusCode.INTERNAL: "the service failed",
    grpc.StatusCode.UNKNOWN: "an exception escaped",
    grpc.StatusCode.UNAVAILABLE: GONE,
    grpc.StatusCode.DEADLINE_EXCEEDED: "the call hangs",
    grpc.StatusCode.UNIMPLEMENTED: "nobody implements the method",
    grpc.StatusCode.CANCELLED: "the call was cancelled",
}


class Violation(AssertionError):  # noqa: N818 - what is violated is ours, not the program's
    """A call after which something does not hold that must.

    Attributes:
        what: What does not hold.
        call: The call.
        outcome: What it came to.
    """

    def __init__(self, what: str, call: Call, outcome: Outcome) -> None:
        self.what, self.call, self.outcome = what, call, outcome
        super().__init__(f"{what}\n{outcome.code.name}: {outcome.text}\n{call!r}")


def check(call: Call, outcome: Outcome) -> None:
    """See that a call ended as it may.

    Raises:
        Violation: It did not.
    """
    for what in _problems(call, outcome):
        raise Violation(what, call, outcome)


def _problems(call: Call, outcome: Outcome) -> Iterator[str]:
    if outcome.seconds >= DEADLINE:
        yield f"the call took {outcome.seconds:.0f} s"
    is_stream = call.method.client_streaming  # may end before the request at fault
    is_too_large = any(len(payload) > MAX_REQUEST_BYTES for payload in call.payloads)
    is_cut_off = is_too_large and _is_cut_off(outcome)
    is_refused = is_cut_off or outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    if outcome.code in _FAULTS and not is_cut_off:
        yield _FAULTS[outcome.code]
    if is_too_large and (is_refused or not is_stream):
        if not is_refused:
            yield "a request beyond the limit of bytes was taken"
    elif outcome.code is not grpc.StatusCode.OK:
        yield from _error_problems(call, outcome)
    elif not is_stream:
        (request,) = call.requests()
        if request is None:
            yield "bytes that are no message were answered"
        elif not call.method.server_streaming:
            yield from _pair_problems(request, outcome.answers[0])
    for answer in outcome.answers:
        yield from _answer_problems(call, answer)


def _is_cut_off(outcome: Outcome) -> bool:
    """Whether the connection ended under a call.

    gRPC refuses a message that is too large without reading it. If the connection is then due to
    end for its age, closing it with bytes unread makes the kernel reset it, and the status that
    was sent is lost. Had the server gone with it, the next call would not reach it: there is one
    process.
    """
    is_unavailable = outcome.code is grpc.StatusCode.UNAVAILABLE
    return is_unavailable and outcome.text.startswith("Stream removed")


# Errors.


def _error_problems(call: Call, outcome: Outcome) -> Iterator[str]:
    if len(outcome.text) > _LONGEST_TEXT or not outcome.text:
        yield f"the text has {len(outcome.text):,} characters"
    try:
        details = Status.FromString(outcome.details).details
    except DecodeError:
        yield "the details are no google.rpc.Status"
        return
    info, bad_request = ErrorInfo(), BadRequest()
    for detail in details:
        detail.Unpack(info) or detail.Unpack(bad_request)
    if info.domain != "kinrec":
        yield f"the domain is {info.domain!r}"
    if STATUS_OF.get(info.reason) != outcome.code.name:
        yield f"{outcome.code.name} with the reason {info.reason!r} is not documented"
    texts = [outcome.text, *info.metadata.values()]
    if outcome.code is grpc.StatusCode.INVALID_ARGUMENT:
        texts += [violation.description for violation in bad_request.field_violations]
        yield from _bad_request_problems(call, info.reason, bad_request)
    yield from _inner_problems(call, texts)


def _bad_request_problems(call: Call, reason: str, bad_request: BadRequest) -> Iterator[str]:
    if not bad_request.field_violations:
        yield "no field is named"
    is_malformed = reason == "MALFORMED_MESSAGE"
    # Which is found before it is known whether the bytes are a message.
    has_too_many = any(_TOO_MANY in one.description for one in bad_request.field_violations)
    is_known = has_too_many or call.method.client_streaming
    if is_malformed != (None in call.requests()) and not is_known:
        yield f"the bytes are {'' if is_malformed else 'not '}a message, the reason is {reason}"
    for violation in bad_request.field_violations:
        if not violation.description:
            yield "no rule is named"
        if not is_malformed and not _is_path(violation.field, call.method.input_type):
            yield f"{violation.field!r} is no field of the request"


def _is_path(path: str, descriptor: Descriptor) -> bool:
    """Whether a path such as ``events[3].time`` leads to a field.

    It may begin within a message of the request that has it all, as the start of a stream has.
    """
    inner = [
        one.message_type for one in descriptor.fields if one.message_type and not one.is_repeated
    ]
    return any(_leads(path, begin) for begin in (descriptor, *inner))


def _leads(path: str, descriptor: Descriptor | None) -> bool:
    for step in path.split("."):
        matched = re.fullmatch(r"(\w+)(\[\d+\])?", step)
        one = matched and descriptor and descriptor.fields_by_name.get(matched[1])
        if not one or (matched[2] and not one.is_repeated):
            return False
        descriptor = one.message_type
    return True


def _inner_problems(call: Call, texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for found in _INNER.findall(text):
            # What the caller sent may be told back.
            if not any(found.encode() in payload for payload in call.payloads):
                yield f"the text shows {found!r} from inside"


# Answers.


def _answer_problems(call: Call, message: Message) -> Iterator[str]:
    """What holds for a message of an answer by itself."""
    if isinstance(message, pb.EventReport):
        yield from _report_problems(message)
    if isinstance(message, pb.Failure):
        yield from _failure_problems(call, message)
    for field, value in message.ListFields():
        if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
            if not all(map(math.isfinite, value if field.is_repeated else [value])):
                yield f"{field.full_name} is not finite"
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            if field.is_repeated:
                yield from _repeated_problems(field, value)
            for part in value if field.is_repeated else [value]:
                yield from _answer_problems(call, part)


def _repeated_problems(field: FieldDescriptor, parts: list[Message]) -> Iterator[str]:
    for name in ("item_id", "user_id"):
        if name in field.message_type.fields_by_name:
            ids = [getattr(part, name) for part in parts]
            if len(ids) != len(set(ids)) or "" in ids:
                yield f"{field.full_name} has an {name} twice, or an empty one"


def _failure_problems(call: Call, failure: pb.Failure) -> Iterator[str]:
    """What holds for a failure within an answer."""
    reason = pb.ErrorReason.Name(failure.reason).removeprefix("ERROR_REASON_")
    status = _STATUSES.get(failure.code)
    if reason == "INTERNAL":
        yield "the service failed for a part of the request"
    if STATUS_OF.get(reason) != status:
        yield f"a failure with {status} and the reason {reason!r} is not documented"
    asked = call.method.input_type
    # Of a batch the path is that of the one request, of a stream that of the message.
    parts = [one.message_type for one in asked.fields if one.message_type]
    if call.method.client_streaming:
        parts = [asked]
    if status == "INVALID_ARGUMENT" and not any(_leads(failure.field, part) for part in parts):
        yield f"a failure names {failure.field!r}, which is no field of what it answers"
    if not 0 < len(failure.message) <= _LONGEST_TEXT:
        yield f"the text of a failure has {len(failure.message):,} characters"
    yield from _inner_problems(call, [failure.message])


def _report_problems(report: pb.EventReport) -> Iterator[str]:
    ends = ("used", "unknown_item", "repeated", "truncated", "dropped")
    if report.received != sum(getattr(report, name) for name in ends):
        yield "the event report does not add up"
    if max(report.unknown_event_type, report.late) > report.used:
        yield "the event report has more unknown types or late events than it has used ones"
    if any(value < 0 for _, value in report.ListFields()):
        yield "the event report has a number below zero"


def _pair_problems(request: Message, answer: Message) -> Iterator[str]:
    """What holds for a request and its answer, where they have the fields for it."""
    asked, told = request.DESCRIPTOR.fields_by_name, answer.DESCRIPTOR.fields_by_name
    if "requests" in asked and "results" in told:
        yield from _batch_problems(request, answer)
    if "limit" in asked:
        limit = request.limit or DEFAULT_LIMIT
        for field, value in answer.ListFields():
            is_list = field.is_repeated and field.message_type is not None
            if is_list and len(value) > limit:
                yield f"{field.name} has {len(value)} elements, {limit} are the limit"
    if (
        "events" in asked
        and "event_report" in told
        and answer.event_report.received != len(request.events)
    ):
        yield f"{answer.event_report.received} events were received, {len(request.events)} sent"
    if "recommendations" in told:
        yield from _recommended_problems(request, [one.item_id for one in answer.recommendations])


def _recommended_problems(request: Message, item_ids: list[str]) -> Iterator[str]:
    """What holds for the items recommended, or ranked."""
    asked = request.DESCRIPTOR.fields_by_name
    if "exclude_item_ids" in asked and not set(item_ids).isdisjoint(request.exclude_item_ids):
        yield "an excluded item is recommended"
    for name in ("allow_item_ids", "item_ids"):
        only = set(getattr(request, name)) if name in asked else set()
        if only and not only.issuperset(item_ids):
            yield f"an item is recommended that is none of {name}"


def _batch_problems(request: Message, answer: Message) -> Iterator[str]:
    if len(answer.results) != len(request.requests):
        yield f"{len(answer.results)} results for {len(request.requests)} requests"
    for one, result in zip(request.requests, answer.results, strict=False):
        if result.HasField("response"):
            yield from _pair_problems(one, result.response)
