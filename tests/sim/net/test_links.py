"""The emulated link: its laws without a clock, and real sockets through its process."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.net.link_channel import Channel
from sim.net.link_profiles import PROFILES, Bursts, Epochs, Outage, Profile, Way
from sim.net.link_tcp import END, MSS_BYTES, Flow, Timeline
from sim.net.links import Link, LinkDownError, UnknownLinkError

FREE = Way(delay_s=0.01)


def plain(up: Way = FREE, down: Way = FREE, **more: object) -> Profile:
    return Profile(name="plain", up=up, down=down, **more)  # type: ignore[arg-type]


class Stream:
    """A TCP flow from one end to the other in virtual time."""

    def __init__(self, profile: Profile, seed: int = 0) -> None:
        self.line, self.got, self.at_s = Timeline(), b"", []
        self.up, self.down = Channel(profile.up, profile, seed), Channel(profile.down, profile, 99)
        self.flow = Flow(self.line, self.up, self.down, self.take)
        self.flow.open(0.02)

    def take(self, data: bytes) -> None:
        self.got += data if data != END else b"."
        self.at_s.append(self.line.now_s)


def test_a_packet_takes_its_delay_and_its_turn() -> None:
    way = Way(delay_s=0.01, rate_bps=8_000.0)  # a byte takes a millisecond
    channel = Channel(way, plain(way), 0)
    assert channel.send(1.0, 5) == pytest.approx(1.015)
    assert channel.send(1.0, 5) == pytest.approx(1.020)
    assert channel.send(2.0, 5) == pytest.approx(2.015)


def test_a_full_queue_loses_what_comes_then() -> None:
    way = Way(delay_s=0.0, rate_bps=8_000.0, queue_bytes=250)
    channel = Channel(way, plain(way), 0)
    fates = [channel.send(0.0, 100) for _ in range(4)]
    assert [f is None for f in fates] == [False, False, True, True]
    assert channel.counts.lost_queue == 2


def test_the_same_seed_gives_the_same_fate_and_another_seed_another() -> None:
    def fates(seed: int) -> list[float | None]:
        channel = Channel(PROFILES["lte"].up, PROFILES["lte"], seed)
        return [channel.send(i * 0.004, 1_200) for i in range(3_000)]

    assert fates(3) == fates(3)
    assert fates(3) != fates(4)


def test_loss_comes_in_bursts_and_has_the_declared_share() -> None:
    way = Way(delay_s=0.0, loss=Bursts(ratio=0.02, burst_s=0.02, bad_ratio=0.7))
    channel = Channel(way, plain(way), 5)
    lost = np.array([channel.send(i * 0.002, 100) is None for i in range(400_000)])
    assert lost.mean() == pytest.approx(0.02, rel=0.1)
    after_a_loss = lost[1:][lost[:-1]].mean()
    assert after_a_loss > 20 * lost.mean()


def test_packets_keep_their_order_under_jitter() -> None:
    way = Way(delay_s=0.02, jitter_s=0.01)
    channel = Channel(way, plain(way), 1)
    arrivals = [channel.send(i * 0.001, 100) for i in range(2_000)]
    assert arrivals == sorted(arrivals)
    taken = np.array(arrivals) - np.arange(2_000) * 0.001
    assert taken.mean() == pytest.approx(0.02, abs=0.01)


def test_packets_wait_at_the_ends_of_a_satellite_epoch() -> None:
    channel = Channel(FREE, plain(epochs=Epochs()), 0)
    waits = {t: (channel.send(t, 100) or 0.0) - t - 0.01 for t in (0.0, 0.1, 7.0, 14.95, 15.0)}
    expected = {0.0: 0.140, 0.1: 0.040, 7.0: 0.0, 14.95: 0.05, 15.0: 0.140}
    assert waits == pytest.approx(expected, abs=1e-9)


def test_an_outage_loses_all_and_comes_back() -> None:
    profile = plain(outages=(Outage(start_s=1.0, length_s=0.5, every_s=10.0),))
    channel = Channel(FREE, profile, 0)
    assert [channel.send(t, 9) is None for t in (0.9, 1.2, 1.6, 11.2, 12.0)] == [0, 1, 0, 1, 0]


def test_a_stream_comes_whole_and_in_order_through_loss() -> None:
    lossy, repaired = replace(FREE, rate_bps=20e6, loss=Bursts(ratio=0.05)), 0
    data = os.urandom(400_000)
    for seed in range(5):
        stream = Stream(plain(lossy, lossy), seed)
        stream.flow.write(data)
        stream.flow.close()
        stream.line.run_until(60.0)
        assert stream.got == data + b"."
        assert stream.flow.backlog_bytes == 0
        repaired += stream.flow.repaired
    assert repaired > 20


def test_the_first_window_is_ten_segments_and_doubles() -> None:
    stream = Stream(plain())
    stream.flow.write(b"x" * (70 * MSS_BYTES))
    stream.line.run_until(1.0)
    trips = np.round((np.array(stream.at_s) - 0.01) / 0.02).astype(int)
    assert np.bincount(trips).tolist() == [10, 20, 40]


def test_a_last_segment_that_is_lost_costs_a_probe_not_a_second() -> None:
    profile = plain(outages=(Outage(start_s=0.0, length_s=0.005),))
    stream = Stream(profile)
    stream.flow.write(b"x")
    stream.line.run_until(5.0)
    assert stream.got == b"x"
    assert 0.2 < stream.at_s[0] < 0.3  # two trips and the delayed acknowledgement's 200 ms, at most


def test_a_stream_fills_the_rate_and_no_more() -> None:
    way = Way(delay_s=0.01, rate_bps=20e6, queue_bytes=100_000)
    stream = Stream(plain(way))
    stream.flow.write(b"x" * 5_000_000)
    stream.line.run_until(20.0)
    assert len(stream.got) == 5_000_000
    assert 0.85 * 20e6 < 5_000_000 * 8 / stream.at_s[-1] < 20e6


@contextmanager
def echo() -> Iterator[tuple[str, int]]:
    door = socket.create_server(("127.0.0.1", 0))

    def answer(sock: socket.socket) -> None:
        with sock:
            while data := sock.recv(65536):
                sock.sendall(data)

    def accept() -> None:
        while True:
            try:
                sock, _ = door.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with door:
        yield door.getsockname()


def exchange(sock: socket.socket, data: bytes) -> float:
    start = time.monotonic()
    sock.sendall(data)
    got = b""
    while len(got) < len(data):
        more = sock.recv(65536)
        assert more, "the other end hung up"
        got += more
    assert got == data
    return time.monotonic() - start


def test_real_sockets_meet_the_declared_delay() -> None:
    with echo() as upstream, Link(plain(), upstream) as link:
        start = time.monotonic()
        sock = socket.create_connection((link.host, link.port), timeout=10.0)
        exchange(sock, b"hello")
        first = time.monotonic() - start
        again = [exchange(sock, b"hello") for _ in range(20)]
        sock.close()
        assert first >= 0.04  # the handshake is a trip of its own
        assert min(again) >= 0.0199
        assert link.stats()["up"]["packets"] > 20


def test_a_cut_link_is_silent_and_mended_it_goes_on() -> None:
    with echo() as upstream, Link(plain(), upstream) as link:
        sock = socket.create_connection((link.host, link.port), timeout=10.0)
        exchange(sock, b"before")
        link.cut()
        sock.sendall(b"meanwhile")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        late = socket.create_connection((link.host, link.port), timeout=0.3)
        late.sendall(b"x")
        with pytest.raises(TimeoutError):
            late.recv(100)
        link.mend()
        sock.settimeout(10.0)
        assert sock.recv(100) == b"meanwhile"
        late.settimeout(10.0)
        assert late.recv(100) == b"x"


def test_ends_and_half_ends_of_a_stream_travel() -> None:
    with echo() as upstream, Link("lte", upstream, seed=3) as link:
        sock = socket.create_connection((link.host, link.port), timeout=20.0)
        data = os.urandom(300_000)
        threading.Thread(
            target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)), daemon=True
        ).start()
        got = b""
        while more := sock.recv(65536):
            got += more
        assert got == data


def test_a_dead_server_is_a_reset_not_a_silence() -> None:
    door = socket.create_server(("127.0.0.1", 0))
    port = door.getsockname()[1]
    door.close()
    with Link(plain(), ("127.0.0.1", port)) as link:
        sock = socket.create_connection((link.host, link.port), timeout=5.0)
        sock.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            sock.recv(10)


def test_datagrams_are_lost_as_declared_and_the_others_come_in_order() -> None:
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.bind(("127.0.0.1", 0))
    door.settimeout(0.5)
    lossy = replace(FREE, loss=Bursts(ratio=0.3, burst_s=0.01, bad_ratio=0.9))
    with door, Link(plain(lossy), door.getsockname(), kind="udp", seed=2) as link:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for i in range(250):  # what the receiver's kernel holds
            sender.sendto(i.to_bytes(4, "big"), (link.host, link.port))
            time.sleep(0.001)
        time.sleep(0.1)
        lost = link.stats()["up"]["lost_burst"]
        came = [door.recvfrom(100) for _ in range(250 - lost)]
        numbers, peer = [int.from_bytes(data, "big") for data, _ in came], came[0][1]
        assert numbers == sorted(numbers)
        assert lost > 10
        door.sendto(b"back", peer)
        sender.settimeout(2.0)
        assert sender.recv(100) == b"back"


def test_unknown_links_and_dead_ones_are_refused_by_name() -> None:
    with pytest.raises(UnknownLinkError, match="5g-sa"):
        Link("dial-up", ("127.0.0.1", 1))
    with pytest.raises(LinkDownError, match="with statement"):
        Link("lte", ("127.0.0.1", 1)).cut()
    with Link("lte", ("127.0.0.1", 1)) as link:
        assert link._process is not None
        os.kill(link._process.pid, signal.SIGKILL)
        with pytest.raises(LinkDownError, match="gone"):
            link.cut()
    with Link("lte", ("127.0.0.1", 1)) as link, pytest.raises(LinkDownError, match="listen"):
        Link("lte", ("127.0.0.1", 1), port=link.port).__enter__()


def test_every_profile_says_where_it_is_from() -> None:
    assert set(PROFILES) == {"cabinet", "5g-sa", "lte", "wifi-depot", "leo-dense", "leo-sparse"}
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert len(profile.source) > 40
    assert PROFILES["5g-sa"].assumed


def test_a_peer_that_breaks_off_full_does_not_make_the_relay_spin() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Link("wifi-depot", server.getsockname()) as link,
    ):
        client = socket.create_connection((link.host, link.port))
        far, _ = server.accept()
        far.setblocking(False)
        client.sendall(b"go")
        client.shutdown(socket.SHUT_WR)  # has said all, and never reads
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            try:
                far.send(bytes(1 << 16))
            except BlockingIOError:
                time.sleep(0.01)
        link.cut()  # so that no word of the break gets through
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        assert link._process is not None
        before_s = processor_s(link._process.pid)
        time.sleep(1.0)
        assert processor_s(link._process.pid) - before_s < 0.5
        far.close()


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
