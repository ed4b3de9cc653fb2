"""The words of µD3TN's Application Agent Protocol 2, as protobuf classes built from a table.

Numbers and names are µD3TN's, so that its own tools work at our door. Fields from 100 on are ours:
its protocol leaves lifetime, urgency and residency to the daemon's configuration, and its tools
pass over fields that they do not know.

Source: aap2.proto of ud3tn-utils 0.15.2 (BSD-3-Clause or Apache-2.0).
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from vehicle.contracts.wire import RefusedError

MAGIC: Final = b"\x2f"
MAX_MESSAGE: Final = 64 << 10
MAX_VARINT: Final = 5

SUCCESS, ACK, ERROR, INVALID_REQUEST, UNAUTHORIZED = 1, 2, 8, 10, 12
"""Of ResponseStatus."""

NORMAL, BPDU, STATUS_REPORT = 0, 1, 3
"""Of BundleADUFlags."""

_Field = tuple[str, int, str]
_MESSAGES: Final[dict[str, tuple[_Field, ...]]] = {
    "Welcome": (("node_id", 1, "string"),),
    "ConnectionConfig": (
        ("is_subscriber", 1, "bool"),
        ("auth_type", 2, "uint32"),
        ("secret", 3, "string"),
        ("endpoint_id", 4, "string"),
        ("keepalive_seconds", 5, "uint32"),
    ),
    "BundleADU": (
        ("src_eid", 1, "string"),
        ("dst_eid", 2, "string"),
        ("creation_timestamp_ms", 3, "uint64"),
        ("sequence_number", 4, "uint64"),
        ("payload_length", 5, "uint64"),
        ("adu_flags", 6, "uint32*"),
        ("report_to_eid", 7, "string"),
        ("lifetime_ms", 100, "uint64"),
        ("priority", 101, "uint32"),
        ("lands_in", 102, "string*"),
        ("hops", 103, "uint32"),
        ("secured", 104, "bool"),
        ("reports", 105, "uint32"),
    ),
    "Keepalive": (),
    "AAPMessage": (
        ("welcome", 1, "Welcome"),
        ("config", 2, "ConnectionConfig"),
        ("adu", 3, "BundleADU"),
        ("keepalive", 6, "Keepalive"),
    ),
    "AAPResponse": (
        ("response_status", 1, "uint32"),
        ("reason", 100, "string"),
        ("bundle_id", 101, "string"),
    ),
}
"""Enumerations stand as numbers: the same bytes."""

_TYPES: Final = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "uint32": descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
}


class DoorError(RefusedError):
    """What was said at the door is no AAP 2.0, or was refused."""


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="roadloop/aap2.proto", package="roadloop.aap2", syntax="proto3"
    )
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        if message_name == "AAPMessage":
            message.oneof_decl.add(name="msg")
        for name, number, spec in fields:
            field = message.field.add(name=name, number=number)
            kind = spec.rstrip("*")
            field.label = field.LABEL_REPEATED if spec.endswith("*") else field.LABEL_OPTIONAL
            if kind in _TYPES:
                field.type = _TYPES[kind]
            else:
                field.type, field.type_name = field.TYPE_MESSAGE, f".roadloop.aap2.{kind}"
            if message_name == "AAPMessage":
                field.oneof_index = 0
    return file


_POOL: Final = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def _class(name: str) -> Any:
    found = _POOL.FindMessageTypeByName(f"roadloop.aap2.{name}")
    return message_factory.GetMessageClass(found)


AAPMessage: Final = _class("AAPMessage")
AAPResponse: Final = _class("AAPResponse")
BundleADU: Final = _class("BundleADU")


def framed(message: Message) -> bytes:
    """Return a message behind its length."""
    data = bytes(message.SerializeToString())
    length, head = len(data), bytearray()
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + data


def parsed(kind: Any, data: bytes) -> Any:
    """Return a message of a kind from its bytes.

    Raises:
        DoorError: they are none.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise DoorError(f"not an AAP 2.0 message: {error}") from error


class Length:
    """Reads the length before a message, byte by byte."""

    def __init__(self) -> None:
        self._value, self._count = 0, 0

    def take(self, byte: int) -> int | None:
        """Return the length once its last byte came.

        Raises:
            DoorError: too long.
        """
        self._value |= (byte & 0x7F) << (7 * self._count)
        self._count += 1
        if byte & 0x80:
            if self._count >= MAX_VARINT:
                raise DoorError("the length of a message has over five bytes")
            return None
        if self._value > MAX_MESSAGE:
            raise DoorError(f"a message of {self._value} bytes, expected {MAX_MESSAGE} at most")
        return self._value
