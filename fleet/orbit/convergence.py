"""How bundles go from node to node: TCPCLv4 over TCP, with TLS where the node has an identity.

Source: RFC 9174 sections 3 and 4 (contact, TLS, session negotiation).
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fleet.orbit.eid import Eid
from fleet.orbit.errors import EidError
from fleet.orbit.node_identity import NodeIdentityError, NodeTls, node_of
from fleet.orbit.session import BROKEN, CLOSING_S, Agreed, OnBundle, Session
from fleet.orbit.tcpcl import (
    CAN_TLS,
    CONTACT_BYTES,
    CRITICAL,
    MAGIC,
    VERSION,
    Ending,
    ProtocolError,
    SessInit,
    SessionError,
    Terminate,
    contact,
    name_of,
    read_message,
)
from fleet.orbit.transfers import SessionLimits

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class SessionRefusedError(SessionError):
    """No session came about; says what the peer answered."""


@dataclass(slots=True)
class Listener:
    """An open door.

    Args:
        port: where it listens.
        sessions: those that came in and last.
    """

    port: int
    sessions: set[Session] = field(default_factory=set)


class Tcpcl:
    """A node's way of speaking to others.

    Args:
        node: its ID.
        on_bundle: keeps what peers send, see `fleet.orbit.session.OnBundle`.
        tls: its identity; with it no peer without TLS, and none whose certificate is not of the
            node that it says it is, gets a session. None only inside one machine.
    """

    def __init__(
        self,
        node: Eid,
        on_bundle: OnBundle,
        *,
        tls: NodeTls | None = None,
        limits: SessionLimits | None = None,
    ) -> None:
        if tls is not None and tls.node != node.node:
            raise NodeIdentityError(f"node {node.node} with the certificate of {tls.node}")
        self.node = node.node
        self.counts: Counter[str] = Counter()
        """Bundles sent and received; refusals by name."""
        self._on_bundle, self._tls = on_bundle, tls
        self._limits = limits or SessionLimits()
        self._opening = 0

    @asynccontextmanager
    async def listen(self, host: str, port: int = 0) -> AsyncIterator[Listener]:
        """Take sessions until the block ends; port 0 takes a free one."""
        door, running = Listener(port), set[asyncio.Task[None]]()

        def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._welcome(reader, writer, door))
            running.add(task)
            task.add_done_callback(running.discard)

        server = await asyncio.start_server(greet, host, port)
        door.port = server.sockets[0].getsockname()[1]
        try:
            yield door
        finally:
            server.close()
            await asyncio.gather(*(session.close() for session in tuple(door.sessions)))
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    @asynccontextmanager
    async def connect(
        self, host: str, port: int, *, expect: Eid | None = None
    ) -> AsyncIterator[Session]:
        """Open a session, and close it when the block ends.

        Args:
            expect: the node that must be there; None: any that has a certificate of this home.
        Raises:
            SessionRefusedError: nobody listens, or no session came about; says why.
            NodeIdentityError: another node is there than is expected, or than it says it is.
        """
        try:
            async with asyncio.timeout(self._limits.handshake_s):
                streams = await asyncio.open_connection(host, port)
                session = await self._open(streams, active=True, expect=expect)
        except TimeoutError as error:
            raise SessionRefusedError(
                f"{host}:{port}: no session in {self._limits.handshake_s} s"
            ) from error
        except BROKEN as error:
            raise SessionRefusedError(f"{host}:{port}: {error or type(error).__name__}") from error
        task = asyncio.create_task(session.run())
        try:
            yield session
        finally:
            await session.close()
            await asyncio.wait((task,), timeout=CLOSING_S)
            task.cancel()
            [ended] = await asyncio.gather(task, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended  # a fault of ours, in `on_bundle`

    async def _welcome(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, door: Listener
    ) -> None:
        """Take one connection that came in; what is wrong with it is counted."""
        self._opening += 1
        try:
            if self._opening > self._limits.sessions:
                raise SessionRefusedError("too many that have no session yet")
            async with asyncio.timeout(self._limits.handshake_s):
                session = await self._open((reader, writer), active=False, door=door)
        except (SessionError, TimeoutError, *BROKEN) as error:
            self.counts[type(error).__name__] += 1
            writer.transport.abort()
            return
        finally:
            self._opening -= 1
        door.sessions.add(session)
        try:
            await session.run()
        finally:
            door.sessions.discard(session)

    async def _open(
        self,
        streams: Streams,
        *,
        active: bool,
        expect: Eid | None = None,
        door: Listener | None = None,
    ) -> Session:
        """Say who is here and hear who is there; return the session that both agree on."""
        reader, writer = streams
        try:
            await self._secure(streams, active=active)
            if active:
                writer.write(self._introduction())
            told = await read_message(reader.readexactly, 0)
            if isinstance(told, Terminate):
                raise SessionRefusedError(
                    f"the peer wants no session: {name_of(Ending, told.reason)}"
                )
            if not isinstance(told, SessInit):
                raise ProtocolError(f"{type(told).__name__} before SESS_INIT")
            agreed = self._agree(told, writer.get_extra_info("ssl_object"), expect)
            if door is not None and len(door.sessions) >= self._limits.sessions:
                writer.write(Terminate(0, Ending.BUSY).to_bytes())
                await writer.drain()
                raise SessionRefusedError(f"{agreed.peer}: {self._limits.sessions} sessions here")
            if not active:
                writer.write(self._introduction())
            await writer.drain()
        except (ProtocolError, NodeIdentityError):
            writer.write(Terminate(0, Ending.CONTACT_FAILURE).to_bytes())
            writer.close()
            raise
        except BaseException:
            writer.close()
            raise
        return Session(reader, writer, agreed, self._limits, self._on_bundle, self.counts)

    async def _secure(self, streams: Streams, *, active: bool) -> None:
        """Exchange contact headers, and go over to TLS where this node has an identity."""
        reader, writer = streams
        guarded = self._tls is not None
        if active:
            writer.write(contact(tls=guarded))
        header = await (_contact_alone(reader) if guarded else reader.readexactly(CONTACT_BYTES))
        if header[:4] != MAGIC:
            raise SessionRefusedError(f"it says {header.hex()}, expected a TCPCL contact header")
        if not active:
            writer.write(contact(tls=guarded))
        if header[4] != VERSION:
            writer.write(Terminate(0, Ending.VERSION).to_bytes())
            raise SessionRefusedError(f"TCPCL version {header[4]}, expected {VERSION}")
        if self._tls is None:
            return
        if not header[5] & CAN_TLS:
            raise NodeIdentityError("the peer speaks no TLS; issue it an identity")
        # Nothing awaits between the header and here, so no byte of TLS is read in the clear.
        await writer.start_tls(self._tls.client if active else self._tls.server)

    def _agree(self, told: SessInit, tls: ssl.SSLObject | None, expect: Eid | None) -> Agreed:
        """Return what counts for both.

        Raises:
            NodeIdentityError: the peer is not who it says, or not who is expected.
            ProtocolError: it asks for what is not known here.
        """
        try:
            peer = Eid.parse(told.node_id)
        except EidError as error:
            raise ProtocolError(f"SESS_INIT: {error}") from error
        if tls is not None:
            certified = node_of(tls.getpeercert(binary_form=True) or b"")
            if certified != peer:
                raise NodeIdentityError(f"a node says it is {peer}, its certificate: {certified}")
        if expect is not None and peer != expect.node:
            raise NodeIdentityError(f"{peer} is there, expected {expect.node}")
        if unknown := [item.kind for item in told.items if item.flags & CRITICAL]:
            raise ProtocolError(f"SESS_INIT: critical extension {unknown} is not known here")
        if told.segment_bytes < 1:
            raise ProtocolError("SESS_INIT: segments of no bytes")
        return Agreed(
            peer=peer,
            keepalive_s=min(told.keepalive_s, self._limits.keepalive_s),
            segment_bytes=min(told.segment_bytes, self._limits.segment_bytes),
            transfer_bytes=told.transfer_bytes,
        )

    def _introduction(self) -> bytes:
        limits = self._limits
        sizes = (limits.segment_bytes, limits.transfer_bytes)
        return SessInit(limits.keepalive_s, *sizes, str(self.node)).to_bytes()


async def _contact_alone(reader: asyncio.StreamReader) -> bytes:
    """Return the peer's contact header.

    Nothing may follow it before TLS: who sits between could put a message there, and it would be
    read as the peer's own.
    """
    header = b""
    while len(header) < CONTACT_BYTES:
        part = await reader.read(4 * CONTACT_BYTES)
        if not part:
            raise EOFError("it closed the connection")
        header += part
    if len(header) > CONTACT_BYTES:
        raise SessionRefusedError(f"it says {header.hex()}, expected a TCPCL contact header alone")
    return header
