"""Bundles as transfers: cut into segments, and put together from them, without touching a socket.

Source: RFC 9174 section 5.2.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from fleet.orbit.eid import Eid
from fleet.orbit.tcpcl import (
    CRITICAL,
    END,
    START,
    TRANSFER_LENGTH,
    Ack,
    Item,
    MessageType,
    Refusal,
    Refuse,
    Segment,
    SessionError,
    unexpected,
)


class TransferLostError(SessionError):
    """The session ended before the peer had the whole bundle; send it again."""


class TransferRefusedError(SessionError):
    """The peer does not want this bundle; `on_bundle` raises it to say so."""

    def __init__(self, message: str, reason: Refusal | int = Refusal.NOT_ACCEPTABLE) -> None:
        super().__init__(message)
        self.reason = reason


class SessionEndedError(SessionError):
    """No transfer can begin: the session is over, or ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """What a node takes, and how long it waits.

    Args:
        transfer_bytes, segment_bytes: most in one; the peer's own limits count as well.
        sessions: most at a time; more are told that the node is busy.
        keepalive_s: most silence that is asked for; twice the silence agreed on ends a session.
        idle_s: a session without a transfer ends after it.
        handshake_s: from connection to session.
        ack_s: most time in which nothing of a bundle is sent or acknowledged.
    """

    transfer_bytes: int = 64 << 20
    segment_bytes: int = 64 << 10
    sessions: int = 32
    keepalive_s: int = 15
    idle_s: float = 300.0
    handshake_s: float = 10.0
    ack_s: float = 60.0


def segments(transfer: int, data: bytes, size_bytes: int) -> Iterator[Segment]:
    """Return a bundle in segments; the first of several says how long the whole is."""
    for start in range(0, len(data) or 1, size_bytes):
        flags = (0 if start else START) | (END if start + size_bytes >= len(data) else 0)
        items = (Item(TRANSFER_LENGTH, struct.pack(">Q", len(data))),) if flags == START else ()
        yield Segment(flags, transfer, data[start : start + size_bytes], items)


@dataclass(slots=True)
class _Begun:
    transfer: int
    total_bytes: int | None = None
    data: bytearray = field(default_factory=bytearray)


class Receiver:
    """What a peer sends: at most one transfer at a time, whole or not at all."""

    def __init__(self, peer: Eid, most_bytes: int) -> None:
        self._peer, self._most_bytes = peer, most_bytes
        self._begun: _Begun | None = None
        self._refused: set[int] = set()

    @property
    def is_busy(self) -> bool:
        """Return whether a transfer is under way."""
        return self._begun is not None

    def take(self, segment: Segment, *, ending: bool) -> Ack | Refuse | bytes | None:
        """Take a segment.

        Args:
            ending: this node said that the session ends, so none may begin.
        Returns:
            what to answer; the whole bundle when it is there; None after a refusal.
        Raises:
            ProtocolError: a segment that may not come here.
        """
        if segment.flags & START:
            if self._begun is not None:
                raise unexpected(self._peer, MessageType.XFER_SEGMENT, "a transfer in another")
            self._begun = _Begun(segment.transfer)
            self._refused.discard(segment.transfer)
            if (refusal := self._judge(self._begun, segment, ending)) is not None:
                return self.refuse(segment, refusal)
        elif segment.transfer in self._refused:  # was under way when it was refused
            if segment.flags & END:
                self._refused.discard(segment.transfer)
            return None
        begun = self._begun
        if begun is None or begun.transfer != segment.transfer:
            raise unexpected(self._peer, MessageType.XFER_SEGMENT, "a segment of no transfer")
        begun.data += segment.data
        most = self._most_bytes if begun.total_bytes is None else begun.total_bytes
        short = segment.flags & END and begun.total_bytes not in (None, len(begun.data))
        if len(begun.data) > most or short:
            return self.refuse(segment, Refusal.NOT_ACCEPTABLE)
        if segment.flags & END:
            return bytes(begun.data)
        return Ack(segment.flags, segment.transfer, len(begun.data))

    def kept(self, segment: Segment, data: bytes) -> Ack:
        """Return the last acknowledgement: the bundle is kept."""
        self._begun = None
        return Ack(segment.flags, segment.transfer, len(data))

    def refuse(self, segment: Segment, reason: int) -> Refuse:
        """Forget the transfer; what of it is still under way is let pass."""
        self._begun = None
        if not segment.flags & END:
            self._refused = {segment.transfer}
        return Refuse(reason, segment.transfer)

    def forget(self) -> None:
        """Forget what is not whole."""
        self._begun = None

    def _judge(self, begun: _Begun, segment: Segment, ending: bool) -> Refusal | None:
        """Return why a transfer may not begin."""
        if ending:
            return Refusal.SESSION_TERMINATING
        for item in segment.items:
            if item.kind == TRANSFER_LENGTH:
                if len(item.value) != 8 or begun.total_bytes is not None:
                    return Refusal.EXTENSION_FAILURE
                begun.total_bytes = int.from_bytes(item.value)
            elif item.flags & CRITICAL:
                return Refusal.EXTENSION_FAILURE
        return Refusal.NO_RESOURCES if (begun.total_bytes or 0) > self._most_bytes else None
