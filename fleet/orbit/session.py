"""One TCPCLv4 session between two nodes: transfers both ways until one of them has enough.

A bundle counts as sent when the peer says that it has all of it *and has kept it*: the last
acknowledgement leaves only after `on_bundle` returned. A peer that dies before that leaves nothing
here, and its sender knows.

Source: RFC 9174 sections 4.7 to 6.
"""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fleet.orbit.eid import Eid
from fleet.orbit.tcpcl import (
    END,
    REPLY,
    Ack,
    Ending,
    Keepalive,
    Message,
    MessageType,
    ProtocolError,
    Refusal,
    Refuse,
    Reject,
    Rejection,
    Segment,
    SessionError,
    Terminate,
    name_of,
    read_message,
    unexpected,
)
from fleet.orbit.transfers import (
    Receiver,
    SessionEndedError,
    SessionLimits,
    TransferLostError,
    TransferRefusedError,
    segments,
)
from vehicle.contracts.wire import RefusedError

CLOSING_S: Final = 1.0
MOST_UNREAD_BYTES: Final = 8 << 20
"""Answers that a peer does not read: it is not there for them."""

BROKEN: Final = (ConnectionError, EOFError, ssl.SSLError, OSError)
"""What reading and writing raise when the other side is gone."""


OnBundle = Callable[[bytes, Eid], Awaitable[None]]
"""Keeps a bundle that a peer sent, for good, before it returns; raises a RefusedError if not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What both nodes said at the start of a session."""

    peer: Eid
    keepalive_s: int
    segment_bytes: int
    transfer_bytes: int


@dataclass(slots=True)
class _Outgoing:
    total_bytes: int
    done: asyncio.Future[None]
    sent_bytes: int = 0
    acked_bytes: int = 0
    moved_s: float = 0.0


class Session:
    """A session that both nodes agreed on; `run` reads until it ends."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        agreed: Agreed,
        limits: SessionLimits,
        on_bundle: OnBundle,
        counts: Counter[str],
    ) -> None:
        self.peer = agreed.peer
        self._reader, self._writer = reader, writer
        self._agreed, self._limits = agreed, limits
        self._on_bundle, self._counts = on_bundle, counts
        self._sending = asyncio.Lock()
        self._outgoing: dict[int, _Outgoing] = {}
        self._incoming = Receiver(agreed.peer, limits.transfer_bytes)
        self._next = 0
        self._said_end = False
        self._heard_end = False
        self._active_s = self._now()
        self._over = asyncio.Event()
        self._why = "the session is over"

    @property
    def is_open(self) -> bool:
        """Return whether a transfer can begin."""
        return not (self._said_end or self._heard_end or self._over.is_set())

    async def send(self, data: bytes) -> None:
        """Send a bundle; return when the peer has kept all of it.

        Raises:
            SessionEndedError: none can begin.
            TransferRefusedError: the peer does not want it, or it is larger than it takes.
            TransferLostError: the session ended, or the peer was silent; it may or may not have
                the bundle, so send it again.
        """
        if not self.is_open:
            raise SessionEndedError(f"{self.peer}: {self._why}; connect again")
        if len(data) > self._agreed.transfer_bytes:
            raise TransferRefusedError(
                f"{len(data)} bytes, {self.peer} takes {self._agreed.transfer_bytes}; fragment it"
            )
        transfer, self._next = self._next, self._next + 1
        outgoing = _Outgoing(len(data), asyncio.get_running_loop().create_future())
        self._outgoing[transfer] = outgoing
        try:
            async with self._sending:
                await self._send_segments(transfer, outgoing, data)
            await self._settled(outgoing)
        except TimeoutError as error:
            raise self._lost(outgoing, f"no acknowledgement in {self._limits.ack_s} s") from error
        except BROKEN as error:
            raise self._lost(outgoing, str(error)) from error
        finally:
            outgoing.done.cancel()
            del self._outgoing[transfer]
            self._leave_when_done()

    async def close(self, reason: Ending = Ending.UNKNOWN) -> None:
        """End the session: transfers under way end first, no new ones begin."""
        with contextlib.suppress(*BROKEN, TimeoutError):
            self._say_end(reason)
            async with asyncio.timeout(self._limits.handshake_s):
                await self._over.wait()
        self._stop("closed here")

    async def run(self) -> None:
        """Read what the peer says until the session ends."""
        beat = asyncio.create_task(self._beat())
        try:
            while not self._over.is_set():
                await self._heed(await read_message(self._exactly, self._limits.segment_bytes))
                self._leave_when_done()
        except ProtocolError as error:
            self._counts[type(error).__name__] += 1
            with contextlib.suppress(*BROKEN):
                if error.rejection is not None:
                    self._answer(Reject(error.rejection, error.header))
                self._say_end(Ending.UNKNOWN)
            self._stop(str(error))
        except TimeoutError:
            self._counts["SilentPeer"] += 1
            self._stop(f"silent for {2 * self._agreed.keepalive_s} s")
        except BROKEN as error:
            self._stop(f"the peer is gone ({error or type(error).__name__})")
        finally:
            self._stop("the session was stopped")
            beat.cancel()
            try:
                async with asyncio.timeout(CLOSING_S):
                    await self._writer.wait_closed()
            except BROKEN:
                self._writer.transport.abort()

    async def _send_segments(self, transfer: int, outgoing: _Outgoing, data: bytes) -> None:
        """Write all segments; stop where the peer refuses or the session ends."""
        size = self._agreed.segment_bytes
        try:
            for segment in segments(transfer, data, size):
                if outgoing.done.done():
                    return
                outgoing.sent_bytes += len(segment.data)
                self._writer.write(segment.to_bytes())
                async with asyncio.timeout(self._limits.ack_s):
                    await self._writer.drain()
                self._active_s = outgoing.moved_s = self._now()
        except BaseException:  # half a transfer has no end but the session's, cancelled or not
            self._stop("sending stopped within a bundle")
            raise

    async def _settled(self, outgoing: _Outgoing) -> None:
        """Wait for the last acknowledgement, as long as others arrive on the way to it."""
        while not outgoing.done.done():
            left_s = outgoing.moved_s + self._limits.ack_s - self._now()
            if left_s <= 0.0:
                raise TimeoutError
            await asyncio.wait((outgoing.done,), timeout=left_s)
        await outgoing.done

    async def _heed(self, message: Message) -> None:
        match message:
            case Segment():
                self._active_s = self._now()
                await self._take(message)
            case Ack():
                self._active_s = self._now()
                self._acknowledged(message)
            case Refuse():
                self._told_refused(message)
            case Terminate():
                self._heard_end = True
                self._why = f"the peer ended it ({name_of(Ending, message.reason)})"
                if not message.flags & REPLY:
                    self._say_end(message.reason, REPLY)
            case Reject():
                self._counts["MessageRejected"] += 1
                if message.header == MessageType.XFER_SEGMENT:
                    why = f"the peer rejected it ({name_of(Rejection, message.reason)})"
                    raise ProtocolError(f"{self.peer}: a segment: {why}")
            case Keepalive():
                pass
            case _:
                raise unexpected(self.peer, MessageType.SESS_INIT, "a second SESS_INIT")

    async def _take(self, segment: Segment) -> None:
        """Take a segment; the last one only when the bundle is kept."""
        answer = self._incoming.take(segment, ending=self._said_end)
        if isinstance(answer, bytes):
            answer = await self._keep(segment, answer)
        if isinstance(answer, Refuse):
            self._counts[f"refused: {name_of(Refusal, answer.reason)}"] += 1
        if answer is not None:
            self._answer(answer)

    async def _keep(self, segment: Segment, data: bytes) -> Ack | Refuse:
        try:
            await self._on_bundle(data, self.peer)
        except RefusedError as error:
            self._counts[type(error).__name__] += 1
            return self._incoming.refuse(segment, getattr(error, "reason", Refusal.NOT_ACCEPTABLE))
        self._counts["received"] += 1
        return self._incoming.kept(segment, data)

    def _acknowledged(self, ack: Ack) -> None:
        outgoing = self._outgoing.get(ack.transfer)
        if outgoing is None:
            if ack.transfer < self._next:
                return  # given up here before the peer was done
            raise unexpected(self.peer, MessageType.XFER_ACK, "an acknowledgement of no transfer")
        if not outgoing.acked_bytes <= ack.length_bytes <= outgoing.sent_bytes:
            raise unexpected(
                self.peer, MessageType.XFER_ACK, "an acknowledgement of more than was sent"
            )
        outgoing.acked_bytes, outgoing.moved_s = ack.length_bytes, self._now()
        if ack.flags & END and ack.length_bytes == outgoing.total_bytes:
            self._counts["sent"] += 1
            _settle(outgoing, None)

    def _told_refused(self, refuse: Refuse) -> None:
        outgoing = self._outgoing.get(refuse.transfer)
        if outgoing is None:
            return
        if refuse.reason == Refusal.COMPLETED:  # it had the bundle before
            _settle(outgoing, None)
            return
        reason = name_of(Refusal, refuse.reason)
        _settle(outgoing, TransferRefusedError(f"{self.peer} refused it: {reason}", refuse.reason))

    async def _beat(self) -> None:
        """Say that this node is there; end a session that nobody uses."""
        every_s = self._agreed.keepalive_s or self._limits.idle_s
        with contextlib.suppress(*BROKEN):
            while not self._over.is_set():
                await asyncio.sleep(min(every_s, self._limits.idle_s))
                if self._agreed.keepalive_s:
                    self._answer(Keepalive())
                busy = self._outgoing or self._incoming.is_busy
                if not busy and self._now() - self._active_s > self._limits.idle_s:
                    self._why = "idle"
                    self._say_end(Ending.IDLE)
                    self._active_s = self._now()

    async def _exactly(self, count: int) -> bytes:
        """Read `count` bytes; raise TimeoutError when none come for twice the agreed silence."""
        silence_s = 2 * self._agreed.keepalive_s or None
        parts: list[bytes] = []
        while count:
            async with asyncio.timeout(silence_s):
                part = await self._reader.read(count)
            if not part:
                raise EOFError("it closed the connection")
            parts.append(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _say_end(self, reason: int, flags: int = 0) -> None:
        if not self._said_end and not self._over.is_set():
            self._said_end = True
            self._answer(Terminate(flags, reason))

    def _leave_when_done(self) -> None:
        """Close the connection once both said the end and no transfer is under way."""
        if self._said_end and self._heard_end and not (self._outgoing or self._incoming.is_busy):
            self._stop(self._why)

    def _stop(self, why: str) -> None:
        """End at once: what is not acknowledged is lost, what is not whole is forgotten."""
        if self._over.is_set():
            return
        self._over.set()
        self._why = why
        self._incoming.forget()
        for outgoing in self._outgoing.values():
            _settle(outgoing, self._lost(outgoing, why))
        self._writer.close()

    def _lost(self, outgoing: _Outgoing, why: str) -> TransferLostError:
        return TransferLostError(
            f"{self.peer} acknowledged {outgoing.acked_bytes} of {outgoing.total_bytes} bytes, "
            f"then: {why}; send it again"
        )

    def _answer(self, message: Message) -> None:
        """Write without waiting, so that reading goes on; stop for a peer that never reads."""
        self._writer.write(message.to_bytes())
        if self._writer.transport.get_write_buffer_size() > MOST_UNREAD_BYTES:
            self._stop(f"the peer leaves {MOST_UNREAD_BYTES} bytes unread")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _settle(outgoing: _Outgoing, error: SessionError | None) -> None:
    if outgoing.done.done():
        return
    if error is None:
        outgoing.done.set_result(None)
    else:
        outgoing.done.set_exception(error)
        outgoing.done.exception()  # seen: `send` may have raised another already
