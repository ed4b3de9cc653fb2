"""The process of an emulated link: real sockets on both sides, the link between them.

`python -m sim.net.link_relay` reads its setup from the first line of stdin, prints its port, then
obeys the words cut, mend and stats, one a line; it ends with its stdin. `sim.net.links.Link` speaks
to it.
"""

import array
import ctypes
import errno
import json
import os
import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Literal

from sim.net.link_channel import Channel
from sim.net.link_profiles import Profile
from sim.net.link_tcp import END, HEADER_BYTES, Flow, Handshake, Timeline
from vehicle.clock import SystemClock
from vehicle.contracts import wire

_PR_SET_TIMERSLACK: Final = 29
_FIFO_PRIORITY: Final = 10
"""Under the frame loop's 50: a link that is late must not make the car late."""

_READ_BYTES: Final = 64 << 10
_MTU_BYTES: Final = 1_472
_DATAGRAM_HEADER_BYTES: Final = 28
_LATE_KEPT: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What the process is told. `upstream` is host and port; `start_s`: age of the link."""

    SCHEMA: ClassVar[str] = "link/1"
    profile: Profile
    host: str
    port: int
    upstream_host: str
    upstream_port: int
    kind: Literal["tcp", "udp"] = "tcp"
    seed: int = 0
    start_s: float = 0.0


class _Side:
    """One socket of a connection: what it still has to send, and whether it may be read."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.out = bytearray()
        self.flow: Flow | None = None
        self.read_end = self.write_end = self.ending = False

    @property
    def wants_read(self) -> bool:
        return not self.read_end and (self.flow is None or self.flow.has_room)

    def deliver(self, data: bytes) -> None:
        if data == END:
            self.ending = True
        else:
            self.out += data

    def flush(self) -> None:
        """Send what can be sent; raises OSError when the peer is gone."""
        while self.out:
            try:
                del self.out[: self.sock.send(self.out)]
            except BlockingIOError:
                return
        if self.ending and not self.write_end:
            self.write_end = True
            self.sock.shutdown(socket.SHUT_WR)


class _Connection:
    """A TCP connection through the link."""

    def __init__(self, relay: "Relay", client: socket.socket) -> None:
        self._relay = relay
        self.client, self.server = _Side(client), None
        line, up, down = relay.line, relay.up, relay.down
        self.up = Flow(line, up, down, self._to_server)
        self.down = Flow(line, down, up, self.client.deliver)
        self.client.flow = self.up
        self._handshake = Handshake(line, up, down, self._reach_server, self._established)
        self.gone = False

    def sides(self) -> "list[_Side]":
        return [s for s in (self.client, self.server) if s is not None]

    def _reach_server(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(self._relay.upstream)
        self.server = _Side(sock)
        self.server.flow = self.down

    def _established(self, rtt_s: float | None) -> None:
        line = self._relay.line
        self.up.open(rtt_s)
        arrival_s = self._relay.up.send(line.now_s, HEADER_BYTES)
        if arrival_s is not None:
            line.at(arrival_s, lambda: self.down.open(rtt_s))

    def _to_server(self, data: bytes) -> None:
        self.down.open()
        if self.server is not None:
            self.server.deliver(data)

    def read(self, side: _Side) -> None:
        """Carry what came in on `side`."""
        assert side.flow is not None
        try:
            data = side.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        if data:
            side.flow.write(data)
        else:
            side.read_end = True
            side.flow.close()

    def reset(self, side: _Side) -> None:
        """`side` broke: tell the other one, as soon as the link lets the word through."""
        self._handshake.stop()
        side.read_end = side.write_end = True
        channel = self._relay.up if side is self.client else self._relay.down
        line = self._relay.line
        arrival_s = channel.send(line.now_s, HEADER_BYTES)
        if arrival_s is None:
            line.at(line.now_s + 1.0, lambda: self.reset(side))
        else:
            line.at(arrival_s, self._drop)

    def _drop(self) -> None:
        self.gone = True

    @property
    def over(self) -> bool:
        return self.gone or (len(self.sides()) == 2 and all(s.write_end for s in self.sides()))

    def close(self) -> None:
        self._handshake.stop()
        self.up.stop()
        self.down.stop()
        for side in self.sides():
            if self.gone:  # so that the peer sees a reset, not an end
                with suppress(OSError):
                    linger = b"\x01\0\0\0\0\0\0\0"
                    side.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            side.sock.close()


class Relay:
    """Both channels, the timeline and all connections of one link."""

    def __init__(self, setup: Setup) -> None:
        self._clock, self._setup = SystemClock(), setup
        self._zero_ns = self._clock.mono_ns() - round(setup.start_s * 1e9)
        self.line = Timeline()
        self.up = Channel(setup.profile.up, setup.profile, 2 * setup.seed)
        self.down = Channel(setup.profile.down, setup.profile, 2 * setup.seed + 1)
        self.upstream = (setup.upstream_host, setup.upstream_port)
        self._connections: list[_Connection] = []
        self._closed_repairs = 0
        self._peers: dict[tuple[str, int], socket.socket] = {}
        self._late_s = array.array("d")
        kind = socket.SOCK_STREAM if setup.kind == "tcp" else socket.SOCK_DGRAM
        self._door = socket.socket(socket.AF_INET, kind)
        if setup.kind == "tcp":
            self._door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._door.bind((setup.host, setup.port))
        if setup.kind == "tcp":
            self._door.listen(128)
        self._door.setblocking(False)
        self.port = int(self._door.getsockname()[1])

    def now_s(self) -> float:
        """Return the age of the link."""
        return (self._clock.mono_ns() - self._zero_ns) * 1e-9

    def run(self) -> None:
        """Carry and obey until stdin ends."""
        os.set_blocking(0, False)
        words = b""
        while True:
            readers, writers = self._watched()
            wait_s = None if self.line.next_s is None else max(self.line.next_s - self.now_s(), 0.0)
            ready, _, _ = select.select([0, *readers], writers, [], wait_s)
            self._advance()
            for sock in ready:
                if sock == 0:
                    read = os.read(0, 4096)
                    if not read:
                        return
                    *lines, words = (words + read).split(b"\n")
                    for line in lines:
                        print(json.dumps(self._obey(line.decode())), flush=True)
                else:
                    readers[sock]()
            self._flush()

    def _advance(self) -> None:
        now_s, due_s = self.now_s(), self.line.next_s
        if due_s is not None and due_s <= now_s and len(self._late_s) < _LATE_KEPT:
            self._late_s.append(now_s - due_s)
        self.line.run_until(now_s)

    def _obey(self, word: str) -> dict[str, Any]:
        if word in ("cut", "mend"):
            self.up.cut = self.down.cut = word == "cut"
            return {"done": word, "at_s": self.now_s()}
        return self.stats()

    def stats(self) -> dict[str, Any]:
        """Return what the link did so far."""
        alive = sum(c.up.repaired + c.down.repaired for c in self._connections)
        return {
            "age_s": self.now_s(),
            "up": asdict(self.up.counts),
            "down": asdict(self.down.counts),
            "repaired": self._closed_repairs + alive,
            "late_s": sorted(self._late_s),
        }

    def _watched(self) -> tuple[dict[Any, Callable[[], None]], list[Any]]:
        if self._setup.kind == "udp":
            reads: dict[Any, Callable[[], None]] = {self._door: self._read_datagrams}
            for peer, sock in self._peers.items():
                reads[sock] = lambda sock=sock, peer=peer: self._read_answers(sock, peer)
            return reads, []
        reads, writes = {self._door: self._accept}, []
        for connection in self._connections:
            for side in connection.sides():
                if side.wants_read:
                    reads[side.sock] = lambda c=connection, s=side: self._read(c, s)
                if side.out:
                    writes.append(side.sock)
        return reads, writes

    # streams

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            client, _ = self._door.accept()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(_Connection(self, client))

    def _read(self, connection: _Connection, side: _Side) -> None:
        try:
            connection.read(side)
        except OSError:
            connection.reset(side)

    def _flush(self) -> None:
        for connection in self._connections:
            for side in connection.sides():
                try:
                    if side.out or side.ending:
                        side.flush()
                except OSError as error:
                    if error.errno != errno.ENOTCONN:  # else still connecting
                        side.out.clear()
                        if not side.write_end:
                            connection.reset(side)
        for connection in [c for c in self._connections if c.over]:
            self._closed_repairs += connection.up.repaired + connection.down.repaired
            connection.close()
            self._connections.remove(connection)

    # datagrams

    def _read_datagrams(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            data, peer = self._door.recvfrom(_READ_BYTES)
            if peer not in self._peers:
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.setblocking(False)
                sock.connect(self.upstream)
                self._peers[peer] = sock
            self._carry(self.up, data, self._peers[peer].send)

    def _read_answers(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        with suppress(BlockingIOError, ConnectionError):
            data = sock.recv(_READ_BYTES)
            self._carry(self.down, data, lambda d: self._door.sendto(d, peer))

    def _carry(self, channel: Channel, data: bytes, give: Callable[[bytes], Any]) -> None:
        """Send one datagram, in as many packets as it needs; one lost packet loses it."""
        arrivals = [
            channel.send(
                self.line.now_s, min(_MTU_BYTES, len(data) - begin) + _DATAGRAM_HEADER_BYTES
            )
            for begin in range(0, max(len(data), 1), _MTU_BYTES)
        ]
        whole = [a for a in arrivals if a is not None]
        if len(whole) == len(arrivals):

            def arrive() -> None:
                with suppress(OSError):
                    give(data)

            self.line.at(max(whole), arrive)


def _be_punctual() -> str:
    """Ask for timers to the microsecond and for the real-time class; say what could be had."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1_000, 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_FIFO_PRIORITY))
    except OSError as error:
        return f"best effort: {error.strerror}"
    return "SCHED_FIFO"


def main() -> None:
    """Run the relay that stdin's first line describes."""
    setup = wire.from_bytes(Setup, sys.stdin.buffer.readline())
    try:
        relay = Relay(setup)
    except OSError as error:
        print(json.dumps({"error": f"{setup.host}:{setup.port}: {error.strerror}"}), flush=True)
        return
    print(json.dumps({"port": relay.port, "class": _be_punctual()}), flush=True)
    relay.run()


if __name__ == "__main__":
    main()
