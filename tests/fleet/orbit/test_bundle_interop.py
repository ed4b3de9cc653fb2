"""Others read our bundles and sessions, and we read theirs: pyd3tn both ways, Wireshark's eye."""

import asyncio
import json
import os
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_parts import CAR, RELAY, clip
from interop_parts import interop

from fleet.orbit.blocks import BlockType, BundleFlags, Timestamp, read_age_ms, read_hops
from fleet.orbit.bundle import Bundle, decode, encode, forwarded
from fleet.orbit.convergence import Tcpcl
from fleet.orbit.crc import CrcKind
from fleet.orbit.eid import Eid
from fleet.orbit.fragment import fragment
from fleet.orbit.security import add_bib, encrypt_bcb
from fleet.orbit.status import Event, Reason, StatusReport, report_on
from fleet.orbit.transfers import SessionLimits

PEER = Path(__file__).parent / "pyd3tn_peer.py"
LATER = Timestamp(847_000_060_000, 1)
ASKING = BundleFlags.REPORT_DELIVERY | BundleFlags.REPORT_TIME


def ours() -> list[Bundle]:
    """Return bundles of every kind that does without BPSec."""
    whole = clip(os.urandom(2_000), flags=ASKING)
    report = report_on(whole, Event.DELIVERED, RELAY, created=LATER, reason=Reason.NONE)
    assert report is not None
    part = fragment(whole, 900)[1]
    told = report_on(part, Event.DELIVERED, RELAY, created=LATER)
    assert told is not None
    aged = forwarded(clip(b"aged", created=Timestamp(0, 9)), RELAY, held_ms=700)
    x25 = Bundle(
        replace(aged.primary, crc=CrcKind.X25),
        tuple(replace(block, crc=CrcKind.X25) for block in aged.blocks),
    )
    return [clip(), whole, part, aged, x25, report, told]


def test_an_independent_codec_reads_our_bundles(tmp_path: Path) -> None:
    bundles = ours()
    (tmp_path / "bundles.json").write_text(json.dumps([encode(b).hex() for b in bundles]))
    told = json.loads(interop(PEER, "read", tmp_path / "bundles.json"))
    for bundle, said in zip(bundles, told, strict=True):
        primary = bundle.primary
        assert all(said["sums"])
        assert said["payload"] == bundle.payload.hex()
        assert (said["source"], said["destination"]) == (
            str(primary.source),
            str(primary.destination),
        )
        assert said["created"] == [primary.created.dtn_ms, primary.created.sequence]
        assert (said["lifetime"], said["flags"]) == (primary.lifetime_ms, int(primary.flags))
        if primary.place is not None:
            assert said["place"] == [primary.place.offset_bytes, primary.place.total_bytes]
        written = [primary.to_bytes(), *(block.to_bytes() for block in bundle.blocks)]
        assert sorted(said["blocks"]) == sorted(block.hex() for block in written)
    created = [847_000_000_000, 7]
    assert told[-2]["report"] == [False, True, False, 0, created, None, None]
    assert told[-1]["report"][5:] == [
        bundles[2].primary.place.offset_bytes,
        len(bundles[2].payload),
    ]


def test_we_read_the_bundles_of_an_independent_codec() -> None:
    told = json.loads(interop(PEER, "write"))
    assert len(told) == 10
    for said in told:
        bundle = decode(bytes.fromhex(said["bundle"]))
        primary = bundle.primary
        assert encode(bundle).hex() == said["bundle"]
        assert (str(primary.source), str(primary.report_to)) == (said["source"], said["report_to"])
        assert bundle.payload.hex() == said["payload"]
        if (hops := bundle.block(BlockType.HOP_COUNT)) is not None:
            assert read_hops(hops) == (30, 2)
        if (age := bundle.block(BlockType.BUNDLE_AGE)) is not None:
            assert read_age_ms(age) == 1_234_000  # it takes seconds, and writes ms
    assert bundle.primary.flags & BundleFlags.ADMINISTRATIVE
    report = StatusReport.from_bytes(bundle.payload)
    assert list(report.events) == [Event.DELIVERED]
    assert report.source == Eid.parse("ipn:12.1")


def dissected(capture: Path, port: int) -> str:
    """Return every field that Wireshark finds in a capture, and what it thinks of it.

    Its warnings say nothing: it has them for good bundles too ("Unknown type code").
    """
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed here (apt install tshark)")
    words = ["tshark", "-2", "-r", capture, "-d", f"tcp.port=={port},tcpcl", "-V"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pcap(path: Path, said: list[tuple[bool, bytes]], port: int) -> None:
    """Write what two nodes said, in order, as TCP packets of a capture."""
    records, numbers = [], [1000, 5000]
    for up, data in [(True, b""), (False, b""), *said]:
        for start in range(0, len(data) or 1, 1400):
            part = data[start : start + 1400]
            ports = (40_000, port) if up else (port, 40_000)
            flags = 0x18 if part else (0x02 if up else 0x12)
            mine, other = numbers if up else reversed(numbers)
            tcp = struct.pack(">HHIIBBHHH", *ports, mine, other, 5 << 4, flags, 65535, 0, 0)
            numbers[0 if up else 1] += len(part) or 1
            hosts = (b"\x0a\0\0\1", b"\x0a\0\0\2") if up else (b"\x0a\0\0\2", b"\x0a\0\0\1")
            size = 20 + len(tcp) + len(part)
            ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, 1, 0, 64, 6, 0, *hosts)
            packet = ip + tcp + part
            at = len(records)
            records.append(struct.pack("<IIII", at, 0, len(packet), len(packet)) + packet)
    path.write_bytes(
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 16, 101) + b"".join(records)
    )


async def overheard(bundles: list[bytes]) -> list[tuple[bool, bytes]]:
    """Return what two nodes say to each other while one sends bundles, heard by a relay between."""
    said: list[tuple[bool, bytes]] = []

    async def keep(data: bytes, peer: Eid) -> None:
        decode(data)

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", door.port)

        async def pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter, up: bool) -> None:
            while data := await source.read(1 << 16):
                said.append((up, data))
                to.write(data)
            to.close()

        await asyncio.gather(pass_on(reader, far_writer, True), pass_on(far_reader, writer, False))

    limits = SessionLimits(segment_bytes=1_000)
    tap = await asyncio.start_server(between, "127.0.0.1", 0)
    port = tap.sockets[0].getsockname()[1]
    async with (
        Tcpcl(RELAY, keep).listen("127.0.0.1") as door,
        tap,
        Tcpcl(CAR, keep, limits=limits).connect("127.0.0.1", port) as session,
    ):
        for data in bundles:
            await session.send(data)
    return said


def secured() -> list[Bundle]:
    """Return bundles with every kind of security block."""
    key = bytes(range(32))
    signed = add_bib(clip(bytes(200)), key, source=CAR, targets=(0, 1))
    sealed = encrypt_bcb(clip(bytes(200)), key, source=CAR)
    both = encrypt_bcb(add_bib(clip(), key, source=CAR), key, source=CAR, wrap=True)
    return [signed, sealed, both]


def test_wireshark_finds_nothing_wrong_with_a_session_of_ours(tmp_path: Path) -> None:
    bundles = [*ours(), *secured()]
    said = asyncio.run(overheard([encode(bundle) for bundle in bundles]))
    pcap(tmp_path / "session.pcap", said, 4556)
    seen = dissected(tmp_path / "session.pcap", 4556)
    assert "Malformed" not in seen
    assert "CRC Status: Bad" not in seen
    sums = sum(bool(b.primary.crc) + sum(bool(x.crc) for x in b.blocks) for b in bundles)
    assert seen.count("CRC Status: Good") == sums
    for message in ("SESS_INIT", "XFER_SEGMENT", "XFER_ACK", "SESS_TERM"):
        assert message in seen
    assert "Expert Info (Error" not in seen
    assert "Node ID Data (UTF8): ipn:12.0" in seen
    for block in ("Block Integrity", "Block Confidentiality", "Hop Count", "Bundle Age"):
        assert block in seen, block


def test_wireshark_sees_a_flipped_bit(tmp_path: Path) -> None:
    whole = encode(clip())
    said = asyncio.run(overheard([whole]))
    forged = [(up, data.replace(b"Ready", b"Reedy")) for up, data in said]
    pcap(tmp_path / "session.pcap", forged, 4556)
    assert dissected(tmp_path / "session.pcap", 4556).count("CRC Status: Bad") == 1
