"""`roadloop bench links`: does the emulator do what it says? Delay, rate, loss, punctuality."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from sim.net.link_channel import Channel
from sim.net.link_profiles import PROFILES, Bursts, Profile, Way
from sim.net.links import Link
from vehicle.contracts.bench import Bench, percentiles

Told = Callable[[float], None]

TRIPS: Final = 1_000
AT_ONCE: Final = 10
"""Connections that make trips side by side, or a thousand of 50 ms would take a minute."""

PACKET_EVERY_S: Final = 0.004
_WORD: Final = 64


def links_bench(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure the emulator by itself; `frames`: round trips; `bundle` plays no part."""
    bench = Bench(name="links")
    _trips(bench, "empty link", Way(delay_s=0.0), frames, at_once=1)
    progress(0.2)
    late_ms = _trips(bench, "25 ms each way", Way(delay_s=0.025), frames, at_once=AT_ONCE)
    bench.rows.append({"row": "release later than due", "ms": percentiles(late_ms)})
    progress(0.5)
    for name, way, size in (
        ("20 Mbit/s, 10 ms", Way(delay_s=0.01, rate_bps=20e6), 3_000 * frames),
        ("no limit, 25 ms", Way(delay_s=0.025), 50_000 * frames),
    ):
        got = _throughput_mbit_s(Profile(name=name, up=way, down=Way(delay_s=way.delay_s)), size)
        bench.rows.append({"row": f"TCP, {name}", "mbit_per_s": round(got, 2), "bytes": size})
    progress(0.8)
    for name in ("lte", "leo-dense"):
        _loss(bench, PROFILES[name], float(frames))
    progress(0.9)
    _datagrams(bench, 2 * frames)
    return bench


def _trips(bench: Bench, name: str, way: Way, count: int, *, at_once: int) -> np.ndarray:
    """Add round trips of small words; return by how much the relay was late, ms."""
    with _echo() as upstream, Link(Profile(name=name, up=way, down=way), upstream) as link:
        took_s: list[float] = []

        def go() -> None:
            with _connected(link) as sock:
                _trip(sock)  # the handshake rides on the first
                mine = [_trip(sock) for _ in range(-(-count // at_once))]
            took_s.extend(mine)

        threads = [threading.Thread(target=go) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        late_ms = np.array(link.stats()["late_s"]) * 1e3
        row = {"row": f"round trip, {name}", "ms": percentiles(np.array(took_s) * 1e3)}
        bench.rows.append({**row, "declared_ms": 2e3 * way.delay_s, "relay": link.scheduling})
    return late_ms


def _throughput_mbit_s(profile: Profile, size: int) -> float:
    with (
        socket.create_server(("127.0.0.1", 0)) as door,
        Link(profile, door.getsockname()) as link,
        _connected(link) as sock,
    ):
        threading.Thread(target=sock.sendall, args=(bytes(size),), daemon=True).start()
        sink, _ = door.accept()
        left, start_s = size, 0.0
        with sink:
            while left:
                left -= len(sink.recv(1 << 18))
                start_s = start_s or time.monotonic()
        return size * 8e-6 / (time.monotonic() - start_s)


def _loss(bench: Bench, profile: Profile, long_s: float) -> None:
    """Add share and bursts of the loss of one direction over `long_s`, without a clock."""
    loss = profile.up.loss
    assert loss is not None
    channel = Channel(profile.up, profile, seed=1)
    times_s = np.arange(0.0, long_s, PACKET_EVERY_S).tolist()
    lost = np.array([channel.send(t, 100) is None for t in times_s])
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], lost, [0]]))))[::2]
    bench.rows.append(
        {
            "row": f"loss, {profile.name}, a packet each 4 ms for {long_s:g} s",
            "n": lost.size,
            "lost_ratio": round(float(lost.mean()), 5),
            "declared_ratio": loss.ratio,
            "mean_run_packets": round(float(runs.mean()), 2) if runs.size else 0.0,
        }
    )


def _datagrams(bench: Bench, count: int) -> None:
    """Add what became of real datagrams: those that were lost, and no others, did not come."""
    way = Way(delay_s=0.01, loss=Bursts(ratio=0.05))
    came = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 0))
        door.settimeout(0.5)
        profile = Profile(name="datagrams", up=way, down=Way(delay_s=0.01))
        with Link(profile, door.getsockname(), kind="udp", seed=3) as link:
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            thread = threading.Thread(target=_send, args=(sender, link, count))
            thread.start()
            try:
                while True:
                    door.recv(2_048)
                    came += 1
            except TimeoutError:
                pass
            thread.join()
            lost = link.stats()["up"]["lost_burst"]
    bench.rows.append(
        {
            "row": "datagrams, 5 % lost in bursts",
            "n": count,
            "lost_by_link": lost,
            "came": came,
            "unaccounted": count - lost - came,
        }
    )


def _send(sock: socket.socket, link: Link, count: int) -> None:
    for _ in range(count):
        sock.sendto(bytes(_WORD), (link.host, link.port))
        time.sleep(0.001)


@contextmanager
def _echo() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as door:

        def answer(sock: socket.socket) -> None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with sock:
                while data := sock.recv(65_536):
                    sock.sendall(data)

        def accept() -> None:
            while True:
                try:
                    sock, _ = door.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield door.getsockname()


def _connected(link: Link) -> socket.socket:
    sock = socket.create_connection((link.host, link.port), timeout=30.0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _trip(sock: socket.socket) -> float:
    start_s, left = time.monotonic(), _WORD
    sock.sendall(bytes(_WORD))
    while left:
        left -= len(sock.recv(_WORD))
    return time.monotonic() - start_s
