"""The events of a request by column, in a third of the time that it takes to look at each.

A message that Python looks at is an object that is made anew, and each of its fields is looked up by
name. So the bytes are read once more, as another type: in it ``events`` is not repeated, and a decoder
joins what comes again in a field that is not. The fields of the one event that this gives are repeated,
and hold what all events have there.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

_FIELD = "events"


def join_events(request: Message) -> Any:  # noqa: ANN401 - of a type that is made here
    """Give one event with all that the events of a request have, each field a list.

    What is read is written anew from what was read before, so an event puts one entry in a list or none:
    a list as long as there are events is in their order, of a shorter one nobody knows whose its entries
    are. (Unless the bytes have a packed list of numbers where the type has a number. Whoever makes up
    such a request gets the times that it made up.)

    Args:
        request: A message with events.
    """
    return _joined_type(request.DESCRIPTOR).FromString(request.SerializeToString()).events


@functools.cache
def _joined_type(kind: Descriptor) -> Any:  # noqa: ANN401 - a class of messages
    file = FileDescriptorProto(name="joined.proto", syntax="proto3")
    events = kind.fields_by_name[_FIELD]
    whole = DescriptorProto(name="Joined", field=[_single(file, events)])
    file.message_type.append(whole)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(whole.name))


def _single(file: FileDescriptorProto, field: FieldDescriptor) -> FieldDescriptorProto:
    """Give a field of one message, and add its type, whose fields are repeated if they are no messages."""
    kind = cast("Descriptor", field.message_type)
    fields = [
        _repeated(part) if part.message_type is None else _single(file, part)
        for part in kind.fields
    ]
    file.message_type.append(DescriptorProto(name=kind.name, field=fields))
    return FieldDescriptorProto(
        name=field.name,
        number=field.number,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=f".{kind.name}",
    )


def _repeated(field: FieldDescriptor) -> FieldDescriptorProto:
    return FieldDescriptorProto(
        name=field.name,
        number=field.number,
        label=FieldDescriptorProto.LABEL_REPEATED,
        type=cast("FieldDescriptorProto.Type.ValueType", field.type),
    )
