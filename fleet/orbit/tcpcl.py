"""The messages of TCPCLv4, and their bytes.

Source: RFC 9174 sections 4 (contact, session) and 5 (transfers).
"""

import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from fleet.orbit.eid import Eid
from fleet.orbit.errors import BundleError

MAGIC: Final = b"dtn!"
VERSION: Final = 4
CAN_TLS: Final = 0x01
CONTACT_BYTES: Final = 6

END: Final = 0x01
START: Final = 0x02
REPLY: Final = 0x01
CRITICAL: Final = 0x01
TRANSFER_LENGTH: Final = 0x0001
MOST_EXTENSION_BYTES: Final = 4096
"""Longer lists of extension items are refused: one is known, of 13 bytes."""


class MessageType(IntEnum):
    """The first byte of a message."""

    XFER_SEGMENT = 1
    XFER_ACK = 2
    XFER_REFUSE = 3
    KEEPALIVE = 4
    SESS_TERM = 5
    MSG_REJECT = 6
    SESS_INIT = 7


class Refusal(IntEnum):
    """Why a transfer is refused."""

    UNKNOWN = 0
    COMPLETED = 1
    NO_RESOURCES = 2
    RETRANSMIT = 3
    NOT_ACCEPTABLE = 4
    EXTENSION_FAILURE = 5
    SESSION_TERMINATING = 6


class Rejection(IntEnum):
    """Why a message is rejected."""

    TYPE_UNKNOWN = 1
    UNSUPPORTED = 2
    UNEXPECTED = 3


class Ending(IntEnum):
    """Why a session ends."""

    UNKNOWN = 0
    IDLE = 1
    VERSION = 2
    BUSY = 3
    CONTACT_FAILURE = 4
    NO_RESOURCES = 5


class SessionError(BundleError):
    """Root of what goes wrong between two nodes; nothing half-sent counts as sent."""


class ProtocolError(SessionError):
    """The peer says what no node may say here."""

    def __init__(self, message: str, rejection: Rejection | None = None, header: int = 0) -> None:
        super().__init__(message)
        self.rejection, self.header = rejection, header


def unexpected(peer: Eid, kind: MessageType, what: str) -> ProtocolError:
    """Return what to raise for a message that may not come at this point."""
    return ProtocolError(f"{peer} sent {what}", Rejection.UNEXPECTED, kind)


def name_of(kind: type[Refusal] | type[Rejection] | type[Ending], reason: int) -> str:
    """Return a reason in words; its number where it is not known here."""
    try:
        return kind(reason).name.lower().replace("_", " ")
    except ValueError:
        return f"reason {reason}"


Read = Callable[[int], Awaitable[bytes]]
"""Reads exactly so many bytes."""


@dataclass(frozen=True, slots=True)
class Item:
    """An extension item."""

    kind: int
    value: bytes
    flags: int = 0

    def to_bytes(self) -> bytes:
        """Return the item with its head."""
        return struct.pack(">BHH", self.flags, self.kind, len(self.value)) + self.value


@dataclass(frozen=True, slots=True)
class SessInit:
    """What a node says of itself at the start.

    Args:
        keepalive_s: most seconds of silence it wants; 0: any.
        segment_bytes, transfer_bytes: most that it takes in one.
    """

    keepalive_s: int
    segment_bytes: int
    transfer_bytes: int
    node_id: str
    items: tuple[Item, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the message."""
        name, items = self.node_id.encode(), b"".join(item.to_bytes() for item in self.items)
        head = (MessageType.SESS_INIT, self.keepalive_s, self.segment_bytes, self.transfer_bytes)
        return (
            struct.pack(">BHQQH", *head, len(name)) + name + struct.pack(">I", len(items)) + items
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a transfer."""

    flags: int
    transfer: int
    data: bytes = field(repr=False)
    items: tuple[Item, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the message."""
        head = struct.pack(">BBQ", MessageType.XFER_SEGMENT, self.flags, self.transfer)
        items = b"".join(item.to_bytes() for item in self.items)
        listed = struct.pack(">I", len(items)) + items if self.flags & START else b""
        return b"".join((head, listed, struct.pack(">Q", len(self.data)), self.data))


@dataclass(frozen=True, slots=True)
class Ack:
    """So many bytes of a transfer are here; with END: all, and they are kept."""

    flags: int
    transfer: int
    length_bytes: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        head = (MessageType.XFER_ACK, self.flags, self.transfer, self.length_bytes)
        return struct.pack(">BBQQ", *head)


@dataclass(frozen=True, slots=True)
class Refuse:
    """A transfer is not wanted."""

    reason: int
    transfer: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return struct.pack(">BBQ", MessageType.XFER_REFUSE, self.reason, self.transfer)


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Nothing, on purpose."""

    def to_bytes(self) -> bytes:
        """Return the message."""
        return bytes([MessageType.KEEPALIVE])


@dataclass(frozen=True, slots=True)
class Terminate:
    """No new transfer from here on."""

    flags: int
    reason: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return bytes([MessageType.SESS_TERM, self.flags, self.reason])


@dataclass(frozen=True, slots=True)
class Reject:
    """A message was not understood."""

    reason: int
    header: int

    def to_bytes(self) -> bytes:
        """Return the message."""
        return bytes([MessageType.MSG_REJECT, self.reason, self.header])


Message = SessInit | Segment | Ack | Refuse | Keepalive | Terminate | Reject


def contact(*, tls: bool) -> bytes:
    """Return the first six bytes of a session."""
    return MAGIC + bytes([VERSION, CAN_TLS if tls else 0])


async def read_message(read: Read, most_bytes: int) -> Message:
    """Read one message.

    Args:
        most_bytes: the longest segment that is taken.
    Raises:
        ProtocolError: none that may be; what follows on the connection has no meaning.
    """
    kind = (await read(1))[0]
    match kind:
        case MessageType.XFER_SEGMENT:
            return await _read_segment(read, most_bytes)
        case MessageType.XFER_ACK:
            return Ack(*struct.unpack(">BQQ", await read(17)))
        case MessageType.XFER_REFUSE:
            return Refuse(*struct.unpack(">BQ", await read(9)))
        case MessageType.KEEPALIVE:
            return Keepalive()
        case MessageType.SESS_TERM:
            return Terminate(*await read(2))
        case MessageType.MSG_REJECT:
            return Reject(*await read(2))
        case MessageType.SESS_INIT:
            return await _read_init(read)
    raise ProtocolError(f"message of type {kind}, expected 1..7", Rejection.TYPE_UNKNOWN, kind)


async def _read_segment(read: Read, most_bytes: int) -> Segment:
    flags, transfer = struct.unpack(">BQ", await read(9))
    items = await _read_items(read) if flags & START else ()
    (length,) = struct.unpack(">Q", await read(8))
    if length > most_bytes:
        raise ProtocolError(
            f"segment of {length} bytes, {most_bytes} were announced as the most",
            *(Rejection.UNSUPPORTED, MessageType.XFER_SEGMENT),
        )
    return Segment(flags, transfer, await read(length), items)


async def _read_init(read: Read) -> SessInit:
    keepalive_s, segment_bytes, transfer_bytes, length = struct.unpack(">HQQH", await read(20))
    try:
        node_id = (await read(length)).decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"node ID is no UTF-8 ({error})") from error
    items = await _read_items(read)
    return SessInit(keepalive_s, segment_bytes, transfer_bytes, node_id, items)


async def _read_items(read: Read) -> tuple[Item, ...]:
    (length,) = struct.unpack(">I", await read(4))
    if length > MOST_EXTENSION_BYTES:
        raise ProtocolError(f"{length} bytes of extension items, most are {MOST_EXTENSION_BYTES}")
    data, found = await read(length), []
    while data:
        if len(data) < 5 or len(data) < 5 + struct.unpack(">H", data[3:5])[0]:
            raise ProtocolError(f"extension items end within one, {len(data)} bytes are left")
        flags, kind, size = struct.unpack(">BHH", data[:5])
        found.append(Item(kind, data[5 : 5 + size], flags))
        data = data[5 + size :]
    return tuple(found)
