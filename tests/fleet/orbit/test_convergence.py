"""Bundles go over real sockets whole or not at all, to the node that is meant and no other."""

import asyncio
import os
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bundle_parts import CAR, HOME, RELAY, clip

from fleet.orbit.bundle import decode, encode
from fleet.orbit.convergence import SessionRefusedError, Tcpcl
from fleet.orbit.eid import Eid
from fleet.orbit.node_identity import NodeIdentityError, NodeTls, issue
from fleet.orbit.tcpcl import (
    CRITICAL,
    END,
    START,
    Ack,
    Ending,
    Item,
    Keepalive,
    Message,
    Refusal,
    Refuse,
    Reject,
    Rejection,
    Segment,
    SessInit,
    Terminate,
    contact,
    read_message,
)
from fleet.orbit.transfers import (
    SessionEndedError,
    SessionLimits,
    TransferLostError,
    TransferRefusedError,
)
from vehicle.contracts.home import Home

QUICK = SessionLimits(handshake_s=10.0, ack_s=10.0)
ROOT = Path(__file__).parents[3]
Kept = list[tuple[bytes, Eid]]


def node(name: Eid, kept: Kept | None = None, **options: object) -> Tcpcl:
    async def keep(data: bytes, peer: Eid) -> None:
        if kept is not None:
            kept.append((data, peer))

    return Tcpcl(name, keep, **{"limits": QUICK, **options})


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[Eid, NodeTls]:
    root = tmp_path_factory.mktemp("home")
    for name in (CAR, RELAY):
        issue(Home(root / "run"), name, root / str(name.node))
    return {name: NodeTls.at(root / str(name.node)) for name in (CAR, RELAY)}


def run(scene: Callable[[], Awaitable[object]]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(60):
            await scene()

    asyncio.run(timed())


async def counted(tcpcl: Tcpcl) -> dict[str, int]:
    """Return what a node counted, once there is something."""
    while not tcpcl.counts:
        await asyncio.sleep(0.01)
    return dict(tcpcl.counts)


class Peer:
    """A node that says what a test wants it to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, *messages: Message | bytes) -> None:
        for message in messages:
            self.writer.write(message if isinstance(message, bytes) else message.to_bytes())

    async def hear(self) -> Message:
        while isinstance(found := await read_message(self.reader.readexactly, 1 << 30), Keepalive):
            pass
        return found


@asynccontextmanager
async def peer_of(tcpcl: Tcpcl, init: SessInit | None = None) -> AsyncIterator[Peer]:
    """Connect a scripted peer to a listening node, and shake hands."""
    async with tcpcl.listen("127.0.0.1") as door:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", door.port))
        peer.say(contact(tls=False), init or SessInit(0, 1 << 20, 1 << 30, "ipn:3.0"))
        assert await peer.reader.readexactly(6) == contact(tls=False)
        try:
            yield peer
        finally:
            peer.writer.close()


@pytest.mark.parametrize("secure", [False, True])
def test_bundles_go_both_ways_and_large_ones_in_segments(
    secure: bool, identities: dict[Eid, NodeTls]
) -> None:
    up, down = Kept(), Kept()
    large = encode(clip(os.urandom(3 << 20)))
    data = [encode(clip(b"small")), large, b"", encode(clip(b"last"))]

    async def scene() -> None:
        car = node(CAR, down, tls=identities[CAR] if secure else None)
        relay = node(RELAY, up, tls=identities[RELAY] if secure else None)
        async with (
            relay.listen("127.0.0.1") as door,
            car.connect("127.0.0.1", door.port, expect=RELAY) as session,
        ):
            assert session.peer == RELAY.node
            [back] = door.sessions
            await asyncio.gather(
                *(session.send(each) for each in data), *(back.send(each) for each in data)
            )
        assert up == [(each, CAR.node) for each in data]
        assert down == [(each, RELAY.node) for each in data]
        assert relay.counts == {"received": 4, "sent": 4}

    run(scene)


def test_a_bundle_counts_as_sent_when_it_is_kept_and_not_before() -> None:
    async def scene() -> None:
        may, kept = asyncio.Event(), Kept()

        async def keep(data: bytes, peer: Eid) -> None:
            await may.wait()
            kept.append((data, peer))

        async with (
            Tcpcl(RELAY, keep, limits=QUICK).listen("127.0.0.1") as door,
            node(CAR).connect("127.0.0.1", door.port) as session,
        ):
            sending = asyncio.create_task(session.send(b"bundle"))
            await asyncio.sleep(0.05)
            assert not sending.done()
            may.set()
            await sending
            assert kept

    run(scene)


def test_a_bundle_that_nobody_wants_is_refused_by_name_and_the_session_goes_on() -> None:
    kept = Kept()

    async def keep(data: bytes, peer: Eid) -> None:
        kept.append((encode(decode(data)), peer))
        if len(data) > 10_000:
            raise TransferRefusedError("store is full", Refusal.NO_RESOURCES)

    async def scene() -> None:
        relay = Tcpcl(RELAY, keep, limits=QUICK)
        async with (
            relay.listen("127.0.0.1") as door,
            node(CAR).connect("127.0.0.1", door.port) as session,
        ):
            with pytest.raises(TransferRefusedError, match="not acceptable"):
                await session.send(b"no bundle")
            with pytest.raises(TransferRefusedError, match="no resources") as refusal:
                await session.send(encode(clip(bytes(20_000))))
            assert refusal.value.reason == Refusal.NO_RESOURCES
            await session.send(encode(clip()))
        assert relay.counts["MalformedBundleError"] == relay.counts["TransferRefusedError"] == 1
        assert len(kept) == 2

    run(scene)


def test_a_bundle_larger_than_the_peer_takes_is_not_even_begun() -> None:
    async def scene() -> None:
        small = SessionLimits(transfer_bytes=100)
        async with (
            node(RELAY, limits=small).listen("127.0.0.1") as door,
            node(CAR).connect("127.0.0.1", door.port) as session,
        ):
            with pytest.raises(TransferRefusedError, match="takes 100; fragment it"):
                await session.send(bytes(101))
            await session.send(bytes(100))

    run(scene)


KILLED = """
import asyncio, sys
sys.path[:0] = [{root!r}, {tests!r}]
from bundle_parts import RELAY
from fleet.orbit.convergence import Tcpcl
async def keep(data, peer):
    print("kept", flush=True)
async def main():
    async with Tcpcl(RELAY, keep).listen("127.0.0.1") as door:
        print(door.port, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_a_receiver_killed_within_a_transfer_leaves_its_sender_knowing() -> None:
    code = KILLED.format(root=str(ROOT), tests=str(ROOT / "tests"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())

        async def scene() -> None:
            async with node(CAR).connect("127.0.0.1", port) as session:
                sending = asyncio.create_task(session.send(bytes(60 << 20)))
                await asyncio.sleep(0.02)
                os.kill(child.pid, signal.SIGKILL)
                with pytest.raises(TransferLostError, match=r"acknowledged \d+ of 62914560 bytes"):
                    await sending
                with pytest.raises(SessionEndedError, match="connect again"):
                    await session.send(b"next")

        run(scene)
        assert child.stdout.read() == ""


def test_a_sender_that_goes_within_a_transfer_leaves_nothing() -> None:
    kept = Kept()

    async def scene() -> None:
        async with peer_of(relay := node(RELAY, kept)) as peer:
            peer.say(Segment(START, 0, bytes(5_000)))
            assert isinstance(await peer.hear(), SessInit)
            assert await peer.hear() == Ack(START, 0, 5_000)
            peer.writer.transport.abort()
            await asyncio.sleep(0.05)
        assert kept == []
        assert relay.counts["received"] == 0

    run(scene)


def test_a_send_given_up_half_way_ends_the_session() -> None:
    async def scene() -> None:
        async with (
            node(RELAY).listen("127.0.0.1") as door,
            node(CAR).connect("127.0.0.1", door.port) as session,
        ):
            sending = asyncio.create_task(session.send(bytes(60 << 20)))
            await asyncio.sleep(0.02)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert not session.is_open

    run(scene)


def length(value: int) -> Item:
    return Item(1, struct.pack(">Q", value))


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ([Segment(START, 0, b"x", (length(1 << 40),))], Refusal.NO_RESOURCES),
        ([Segment(START | END, 0, b"x", (length(2),))], Refusal.NOT_ACCEPTABLE),
        ([Segment(START, 0, b"xyz", (length(2),))], Refusal.NOT_ACCEPTABLE),
        ([Segment(START, 0, b"x", (length(2), length(2)))], Refusal.EXTENSION_FAILURE),
        ([Segment(START, 0, b"x", (Item(1, b"short"),))], Refusal.EXTENSION_FAILURE),
        ([Segment(START, 0, b"x", (Item(99, b"", CRITICAL),))], Refusal.EXTENSION_FAILURE),
    ],
)
def test_a_transfer_that_cannot_be_is_refused_and_the_next_one_taken(
    segments: list[Segment], reason: Refusal
) -> None:
    kept = Kept()

    async def scene() -> None:
        async with peer_of(node(RELAY, kept)) as peer:
            rest = [Segment(0, 0, b"under way")] if not segments[0].flags & END else []
            peer.say(*segments, *rest, Segment(START | END, 1, b"good", (Item(99, b"?"),)))
            assert isinstance(await peer.hear(), SessInit)
            assert await peer.hear() == Refuse(reason, 0)
            assert await peer.hear() == Ack(START | END, 1, 4)
        assert kept == [(b"good", RELAY.node)]

    run(scene)


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        (b"\x2a", Reject(Rejection.TYPE_UNKNOWN, 0x2A)),
        (Segment(0, 7, b"x"), Reject(Rejection.UNEXPECTED, 1)),
        (Segment(START, 0, b"x").to_bytes() * 2, Reject(Rejection.UNEXPECTED, 1)),
        (Ack(END, 5, 9), Reject(Rejection.UNEXPECTED, 2)),
        (SessInit(0, 9, 9, "ipn:3.0"), Reject(Rejection.UNEXPECTED, 7)),
        (struct.pack(">BBQIQ", 1, 3, 0, 0, 1 << 62), Reject(Rejection.UNSUPPORTED, 1)),
        (struct.pack(">BBQI", 1, 3, 0, 1 << 31), Terminate(0, Ending.UNKNOWN)),
        (struct.pack(">BBQI", 1, 3, 0, 3) + b"abc", Terminate(0, Ending.UNKNOWN)),
    ],
)
def test_a_message_that_may_not_be_ends_the_session_by_name(
    wrong: Message | bytes, answer: Message
) -> None:
    kept = Kept()

    async def scene() -> None:
        async with peer_of(relay := node(RELAY, kept)) as peer:
            peer.say(wrong)
            assert isinstance(await peer.hear(), SessInit)
            while isinstance(found := await peer.hear(), Ack):
                pass
            assert found == answer
        assert relay.counts["ProtocolError"] == 1
        assert kept == []

    run(scene)


def test_both_nodes_part_in_peace() -> None:
    kept = Kept()

    async def scene() -> None:
        async with peer_of(node(RELAY, kept)) as peer:
            assert isinstance(await peer.hear(), SessInit)
            peer.say(Segment(START, 0, b"half"), Terminate(0, Ending.UNKNOWN))
            assert await peer.hear() == Ack(START, 0, 4)
            assert await peer.hear() == Terminate(1, Ending.UNKNOWN)
            peer.say(Segment(END, 0, b"done"))
            assert await peer.hear() == Ack(END, 0, 8)
            assert await peer.reader.read() == b""
        assert kept == [(b"halfdone", RELAY.node)]

    run(scene)


def test_an_idle_or_silent_session_ends() -> None:
    async def scene() -> None:
        idle = SessionLimits(idle_s=0.05)
        async with peer_of(node(RELAY, limits=idle)) as peer:
            assert isinstance(await peer.hear(), SessInit)
            assert await peer.hear() == Terminate(0, Ending.IDLE)
        init = SessInit(1, 1 << 20, 1 << 30, "ipn:3.0")
        async with peer_of(relay := node(RELAY), init) as peer:
            assert isinstance(await peer.hear(), SessInit)
            assert await read_message(peer.reader.readexactly, 0) == Keepalive()
            await peer.reader.read()
        assert relay.counts == {"SilentPeer": 1}

    run(scene)


def test_a_peer_that_acknowledges_nothing_is_given_up() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(contact(tls=False) + SessInit(0, 1 << 20, 1 << 30, "ipn:3.0").to_bytes())
        while await reader.read(1 << 16):
            pass

    async def scene() -> None:
        limits = SessionLimits(ack_s=0.1, handshake_s=1.0)
        async with await asyncio.start_server(deaf, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with node(CAR, limits=limits).connect("127.0.0.1", port) as session:
                with pytest.raises(TransferLostError, match=r"no acknowledgement in 0\.1 s"):
                    await session.send(b"hello?")

    run(scene)


def test_a_slow_peer_is_waited_for_as_long_as_it_moves() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(6)
        writer.write(contact(tls=False) + SessInit(0, 1, 1 << 30, "ipn:3.0").to_bytes())
        assert isinstance(await read_message(reader.readexactly, 1), SessInit)
        for count in range(1, 6):
            segment = await read_message(reader.readexactly, 1)
            assert isinstance(segment, Segment)
            await asyncio.sleep(0.25)
            writer.write(Ack(segment.flags, 0, count).to_bytes())
        writer.close()

    async def scene() -> None:
        limits = SessionLimits(ack_s=1.0)
        async with await asyncio.start_server(slow, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with node(CAR, limits=limits).connect("127.0.0.1", port) as session:
                await session.send(b"12345")

    run(scene)


def test_a_fault_in_keeping_is_not_hidden() -> None:
    async def keep(data: bytes, peer: Eid) -> None:
        raise ZeroDivisionError

    async def scene() -> None:
        async with (
            node(RELAY).listen("127.0.0.1") as door,
            Tcpcl(CAR, keep).connect("127.0.0.1", door.port),
        ):
            [back] = door.sessions
            with pytest.raises(TransferLostError):
                await back.send(b"bundle")

    with pytest.raises(ZeroDivisionError):
        run(scene)


def test_more_sessions_than_there_is_room_for_are_told_so() -> None:
    async def scene() -> None:
        one = SessionLimits(sessions=1)
        async with (
            node(RELAY, limits=one).listen("127.0.0.1") as door,
            node(CAR).connect("127.0.0.1", door.port) as session,
        ):
            await session.send(b"first")
            with pytest.raises(SessionRefusedError, match="busy"):
                async with node(HOME).connect("127.0.0.1", door.port):
                    pass
            await session.send(b"still here")

    run(scene)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "SessionRefusedError"),
        (b"dtn!\x03\x00", "SessionRefusedError"),
        (contact(tls=False) + bytes(20), "ProtocolError"),
        (contact(tls=False) + SessInit(0, 1, 1, "http://x").to_bytes(), "ProtocolError"),
        (contact(tls=False) + SessInit(0, 0, 1, "ipn:3.0").to_bytes(), "ProtocolError"),
        (
            contact(tls=False) + SessInit(0, 1, 1, "ipn:3.0", (Item(9, b"", 1),)).to_bytes(),
            "ProtocolError",
        ),
        (contact(tls=False), "TimeoutError"),
        (b"dtn", "TimeoutError"),
    ],
)
def test_whoever_speaks_no_tcpcl_gets_no_session(said: bytes, name: str) -> None:
    async def scene() -> None:
        relay = node(
            RELAY, limits=SessionLimits(handshake_s=0.1) if name == "TimeoutError" else QUICK
        )
        async with relay.listen("127.0.0.1") as door:
            _, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(said[:6])
            await asyncio.sleep(0.02)
            writer.write(said[6:])
            assert await counted(relay) == {name: 1}
            assert not door.sessions
            writer.close()

    run(scene)


def test_nobody_is_there() -> None:
    async def scene() -> None:
        async with node(RELAY).listen("127.0.0.1") as door:
            port = door.port
        with pytest.raises(SessionRefusedError):
            async with node(CAR).connect("127.0.0.1", port):
                pass

    run(scene)


def test_a_node_is_known_by_its_certificate(identities: dict[Eid, NodeTls], tmp_path: Path) -> None:
    issue(Home(tmp_path / "other"), CAR, tmp_path / "stranger")
    stranger = NodeTls.at(tmp_path / "stranger")

    async def scene() -> None:
        relay = node(RELAY, tls=identities[RELAY])
        async with relay.listen("127.0.0.1") as door:
            at = ("127.0.0.1", door.port)
            with pytest.raises(NodeIdentityError, match=r"ipn:3\.0 is there, expected ipn:9\.0"):
                async with node(CAR, tls=identities[CAR]).connect(*at, expect=Eid.parse("ipn:9.1")):
                    pass
            liar = node(CAR, tls=identities[CAR])
            liar.node = Eid.parse("ipn:9.0")
            with pytest.raises(SessionRefusedError, match="contact failure"):
                async with liar.connect(*at):
                    pass
            assert relay.counts["NodeIdentityError"] == 1
            with pytest.raises(SessionRefusedError):
                async with node(CAR, tls=stranger).connect(*at):
                    pass
            with pytest.raises(SessionRefusedError):
                async with node(CAR).connect(*at):
                    pass
            assert not door.sessions
        async with node(RELAY).listen("127.0.0.1") as door:
            with pytest.raises(NodeIdentityError, match="no TLS"):
                async with node(CAR, tls=identities[CAR]).connect("127.0.0.1", door.port):
                    pass

    run(scene)
    with pytest.raises(NodeIdentityError):
        node(RELAY, tls=identities[CAR])


def test_what_is_said_before_tls_is_not_heard(identities: dict[Eid, NodeTls]) -> None:
    async def scene() -> None:
        relay = node(RELAY, tls=identities[RELAY])
        async with relay.listen("127.0.0.1") as door:
            _, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(contact(tls=True) + SessInit(0, 1, 1, "ipn:12.0").to_bytes())
            assert await counted(relay) == {"SessionRefusedError": 1}
            writer.close()

    run(scene)


def test_an_identity_that_cannot_be_used_says_why(
    tmp_path: Path, identities: dict[Eid, NodeTls]
) -> None:
    with pytest.raises(NodeIdentityError, match="issue it anew"):
        NodeTls.at(tmp_path)
    home = Home(tmp_path / "run")
    issue(home, CAR, tmp_path / "node")
    issue(home, CAR, tmp_path / "node")  # anew, in place
    assert NodeTls.at(tmp_path / "node").node == CAR.node
    assert (tmp_path / "node" / "node.key").stat().st_mode & 0o077 == 0
