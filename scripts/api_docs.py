"""Writes docs/api.md from the comments in the protos: sabledocs reads them, a template lays them out.

Run by generate-protos.sh, in the environment of the generators: sabledocs takes an older protobuf too.
By itself it writes pages of HTML; its model of the protos fits a template for Markdown as well.
"""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sabledocs.comments_parser import CommentsParser
from sabledocs.proto_descriptor_parser import parse_proto_descriptor
from sabledocs.sable_config import MemberOrdering, SableConfig

if TYPE_CHECKING:
    from sabledocs.proto_model import Enum, Message, Package, Service

REASONS = "ErrorReason"
LABELS = ("Status", "What to do", "SDK")


def main() -> None:
    """Read the descriptor set given first, and write the page to the file given second."""
    descriptors, page = Path(sys.argv[1]), Path(sys.argv[2])
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - it writes Markdown, from our own comments
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cell": cell,
        "sentence": first_sentence,
        "labelled": labelled,
        "title": title,
    }
    text = environment.get_template("api.md.j2").render(contents(descriptors))
    page.write_text(text, encoding="utf-8")


def contents(descriptors: Path) -> dict[str, object]:
    """What the template lays out."""
    package = read(descriptors)
    calls = call_messages(package.services, package.messages)
    shown = {name for messages in calls.values() for name in messages}
    others = [m for m in package.messages if m.full_name not in shown and not m.is_map_entry]
    enums: list[Enum] = [enum for enum in package.enums if enum.name != REASONS]
    (reasons,) = (enum for enum in package.enums if enum.name == REASONS)
    return {
        "services": package.services,
        "streams": streams(descriptors),
        "call_messages": calls,
        "other_messages": others,
        "enums": enums,
        "reasons": reasons,
        "anchors": {
            item.full_name: title(item).lower().replace(".", "")
            for item in (*package.messages, *package.enums)
        },
    }


def read(descriptors: Path) -> Package:
    """Read the one package of a descriptor set."""
    config = SableConfig("")
    config.input_descriptor_file = str(descriptors)
    config.member_ordering = MemberOrdering.PRESERVE_ORIGINAL
    config.comments_parser = CommentsParser()
    (package,) = parse_proto_descriptor(config).packages
    for item in everything(package):
        item.description = re.sub(r"(?m)^ ", "", item.description)  # the blank after the slashes
    return package


def everything(package: Package) -> list[object]:
    """All that has a comment."""
    items = [*package.services, *package.messages, *package.enums]
    for service in package.services:
        items += service.methods
    for message in package.messages:
        items += message.fields
    for enum in package.enums:
        items += enum.values
    return items


def streams(descriptors: Path) -> dict[str, dict[str, str]]:
    """Of each call what stands before its request and its response; sabledocs leaves it out."""
    files = FileDescriptorSet.FromString(descriptors.read_bytes()).file
    return {
        call.name: {
            "request": "stream " if call.client_streaming else "",
            "response": "stream " if call.server_streaming else "",
        }
        for file in files
        for service in file.service
        for call in service.method
    }


def call_messages(
    services: list[Service], messages: list[Message]
) -> dict[str, dict[str, Message]]:
    """Of each call the request and the response, by name, that no call before it has."""
    left = {message.full_name: message for message in messages}
    found: dict[str, dict[str, Message]] = {}
    for call in (call for service in services for call in service.methods):
        names = dict.fromkeys((call.request.full_type, call.response.full_type))
        found[call.name] = {name: left.pop(name) for name in names if name in left}
    return found


def title(item: Message | Enum) -> str:
    """Give the name, after that of the message that it stands in, if any."""
    outer = f"{title(item.parent_message)}." if item.parent_message else ""
    return f"{outer}{item.name}"


def cell(text: str) -> str:
    """Make one cell of a table of a comment."""
    return " ".join(text.split()).replace("|", r"\|")


def first_sentence(text: str) -> str:
    """Give the first sentence of a comment."""
    return re.split(r"(?<=\.)\s", cell(text), maxsplit=1)[0]


def labelled(text: str) -> dict[str, str]:
    """Take the comment of a reason apart: what it means, and what stands after each label.

    Raises:
        ValueError: A label is missing.
    """
    meaning, *rest = re.split(rf"(?m)^({'|'.join(LABELS)}):", text)
    parts = dict(zip(rest[::2], map(cell, rest[1::2]), strict=True))
    missing = [label for label in LABELS if not parts.get(label)]
    if missing:
        raise ValueError(f"the comment {cell(text)!r} has no {' and no '.join(missing)}")
    parts = {label: part[0].upper() + part[1:] for label, part in parts.items()}
    return {**parts, "": cell(meaning), "Status": parts["Status"].rstrip(".")}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # sabledocs says what it does
        main()
