"""The door for applications: who may send as a service of this node, and who takes what came.

A bundle that came for a service stays in the store until an application says that it has it; an
application that dies between gets it again, and knows it by its name.

Source: µD3TN, AAP 2.0 (see `fleet.orbit.aap2`).
"""

import asyncio
import contextlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from fleet.orbit import aap2
from fleet.orbit.aap2 import AAPMessage, AAPResponse, DoorError
from fleet.orbit.blocks import NO_BUNDLE_FLAGS, REPORTS, BlockType, BundleFlags, read_hops
from fleet.orbit.bundle import Bundle
from fleet.orbit.carriage import PRIORITIES, Carriage
from fleet.orbit.eid import Eid
from vehicle.contracts.wire import RefusedError

DEFAULT_LIFETIME_MS: Final = 86_400_000
SILENCE_S: Final = 30.0
"""How long an application may take to answer, s of real time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What an application sends.

    Args:
        source, target: endpoints; `report_to` hears of it.
        flags: which reports are asked for; may not be fragmented; ...
        lands_in: countries whose ground stations may have it; empty: all.
    """

    source: Eid
    target: Eid
    payload: bytes
    lifetime_ms: int = DEFAULT_LIFETIME_MS
    priority: int = 1
    lands_in: tuple[str, ...] = ()
    report_to: Eid | None = None
    flags: BundleFlags = NO_BUNDLE_FLAGS


class Post(Protocol):
    """What the door needs of the node behind it."""

    eid: Eid

    def submit(self, letter: Letter) -> str:
        """Take a letter into the store and return its bundle's name; raise RefusedError."""

    async def next_for(self, eid: Eid) -> tuple[str, Bundle, bool]:
        """Return the next bundle for an endpoint: name in the store, itself, whether its sender
        is proven."""

    def taken(self, id: str) -> None:
        """Let go of a bundle that an application has."""

    def given_back(self, id: str) -> None:
        """Hand a bundle out again: the application that had it is gone."""


class Door:
    """Serves applications on one socket.

    Args:
        post: the node behind.
        max_bytes: of one payload.
    """

    def __init__(self, post: Post, max_bytes: int) -> None:
        self._post, self._max_bytes = post, max_bytes
        self._secrets: dict[Eid, list[str]] = {}
        self._subscribed: set[Eid] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self.on_refused: Callable[[RefusedError], None] = lambda error: None

    async def open(self, address: str) -> str:
        """Listen on a path (a unix socket, for this user alone) or on HOST:PORT; return it."""
        host, colon, port = address.rpartition(":")
        if colon and port.isdigit():
            server = await asyncio.start_server(self._come_in, host, int(port))
            address = f"{host}:{server.sockets[0].getsockname()[1]}"
        else:
            Path(address).unlink(missing_ok=True)
            server = await asyncio.start_unix_server(self._come_in, address)
            os.chmod(address, 0o600)
        self._servers.append(server)
        return address

    async def close(self) -> None:
        """Close the door and send everybody home."""
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _come_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._talk(_Line(reader, writer))
        except RefusedError as error:
            self.on_refused(error)
            with contextlib.suppress(OSError):
                writer.write(aap2.framed(_answer(aap2.INVALID_REQUEST, error)))
                await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError):
            pass  # the application is gone; what it had not taken stays here
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _talk(self, line: "_Line") -> None:
        line.say(AAPMessage(welcome={"node_id": str(self._post.eid)}), magic=True)
        message = await line.hear(AAPMessage, SILENCE_S)
        if message.WhichOneof("msg") != "config":
            raise DoorError("the first message must be a ConnectionConfig")
        config = message.config
        eid = self._own(config.endpoint_id)
        known = self._secrets.setdefault(eid, [])
        if known and not hmac.compare_digest(known[0].encode(), config.secret.encode()):
            line.say(_answer(aap2.UNAUTHORIZED, f"{eid} is registered with another secret"))
            return
        known.append(config.secret)
        try:
            if config.is_subscriber and eid in self._subscribed:
                raise DoorError(f"{eid} has a subscriber")
            line.say(AAPResponse(response_status=aap2.SUCCESS))
            await (self._hand_out if config.is_subscriber else self._take_in)(line, eid)
        finally:
            known.pop()

    def _own(self, text: str) -> Eid:
        """Return an endpoint that an application may have here."""
        eid = Eid.parse(text)
        if eid.node != self._post.eid:
            raise DoorError(f"{eid} is no endpoint of {self._post.eid}")
        if eid == self._post.eid:
            raise DoorError(f"{eid} is the node's own; take another service number")
        return eid

    async def _take_in(self, line: "_Line", eid: Eid) -> None:
        while True:
            message = await line.hear(AAPMessage, None)
            kind = message.WhichOneof("msg")
            if kind == "keepalive":
                line.say(AAPResponse(response_status=aap2.ACK))
                continue
            if kind != "adu":
                raise DoorError(f"a message {kind!r} from who sends, expected an ADU")
            adu = message.adu
            if adu.payload_length > self._max_bytes:
                raise DoorError(
                    f"payload of {adu.payload_length} bytes, expected {self._max_bytes} at most"
                )
            payload = await line.read(adu.payload_length)
            try:
                answer = AAPResponse(
                    response_status=aap2.SUCCESS,
                    bundle_id=self._post.submit(_letter(adu, eid, payload)),
                )
            except RefusedError as error:
                self.on_refused(error)
                answer = _answer(aap2.ERROR, error)
            line.say(answer)

    async def _hand_out(self, line: "_Line", eid: Eid) -> None:
        self._subscribed.add(eid)
        gone, name = asyncio.create_task(line.closed()), ""
        coming: asyncio.Task[tuple[str, Bundle, bool]] | None = None
        try:
            while True:
                coming = asyncio.create_task(self._post.next_for(eid))
                await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    return
                name, bundle, proven = coming.result()
                if gone.done():
                    return
                line.say(AAPMessage(adu=_adu(bundle, proven)), bundle.payload)
                await line.drain()
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
                answer = await line.hear(AAPResponse, SILENCE_S)
                if answer.response_status != aap2.SUCCESS:
                    return
                self._post.taken(name)
                name = ""
                gone = asyncio.create_task(line.closed())
        finally:
            for task in (gone, coming):
                if task is not None:
                    task.cancel()
            self._subscribed.discard(eid)
            if name:
                self._post.given_back(name)


class _Line:
    """One application's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._early = b""

    def say(self, message: Any, payload: bytes = b"", *, magic: bool = False) -> None:
        self._writer.write((aap2.MAGIC if magic else b"") + aap2.framed(message) + payload)

    async def drain(self) -> None:
        await self._writer.drain()

    async def hear(self, kind: Any, timeout_s: float | None) -> Any:
        async with asyncio.timeout(timeout_s):
            length, reading = None, aap2.Length()
            while length is None:
                length = reading.take((await self.read(1))[0])
            return aap2.parsed(kind, await self.read(length))

    async def read(self, count: int) -> bytes:
        early, self._early = self._early[:count], self._early[count:]
        return early + await self._reader.readexactly(count - len(early))

    async def closed(self) -> None:
        """Return when the application hangs up, or says something."""
        self._early += await self._reader.read(1)


def _answer(status: int, reason: RefusedError | str) -> Any:
    named = isinstance(reason, RefusedError)
    text = f"{type(reason).__name__}: {reason}" if named else str(reason)
    return AAPResponse(response_status=status, reason=text)


def _letter(adu: Any, eid: Eid, payload: bytes) -> Letter:
    """Return what an application's headers ask for."""
    if adu.src_eid and Eid.parse(adu.src_eid) != eid:
        raise DoorError(f"source {adu.src_eid!r:.80}, but {eid} is registered here")
    if set(adu.adu_flags) - {aap2.NORMAL}:
        raise DoorError(f"flags {list(adu.adu_flags)} are not taken, only normal bundles")
    if adu.priority > max(PRIORITIES) + 1:
        raise DoorError(f"priority {adu.priority - 1}, expected 0..2")
    reports = BundleFlags(adu.reports) & REPORTS
    if adu.report_to_eid and not reports:
        reports = REPORTS
    return Letter(
        source=eid,
        target=Eid.parse(adu.dst_eid),
        payload=payload,
        lifetime_ms=adu.lifetime_ms or DEFAULT_LIFETIME_MS,
        priority=adu.priority - 1 if adu.priority else 1,
        lands_in=tuple(sorted(adu.lands_in)),
        report_to=Eid.parse(adu.report_to_eid) if adu.report_to_eid else None,
        flags=reports,
    )


def _adu(bundle: Bundle, proven: bool) -> Any:
    primary, hops = bundle.primary, bundle.block(BlockType.HOP_COUNT)
    admin = bool(primary.flags & BundleFlags.ADMINISTRATIVE)
    carriage = Carriage.of(bundle)
    return aap2.BundleADU(
        src_eid=str(primary.source),
        dst_eid=str(primary.destination),
        creation_timestamp_ms=primary.created.dtn_ms,
        sequence_number=primary.created.sequence,
        payload_length=len(bundle.payload),
        adu_flags=[aap2.STATUS_REPORT if admin else aap2.NORMAL],
        lifetime_ms=primary.lifetime_ms,
        priority=carriage.priority + 1,
        lands_in=carriage.lands_in,
        hops=read_hops(hops)[1] if hops else 0,
        secured=proven,
    )
