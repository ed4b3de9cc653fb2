"""What comes to a node of the relay from outside: bundles, and the messages that bring them."""

import contextlib
from collections.abc import Callable
from dataclasses import replace

from bundle_parts import CAR, RELAY, clip, rich

from fleet.orbit.asb import SecurityData
from fleet.orbit.blocks import BlockFlags, BlockType, BundleFlags, Timestamp
from fleet.orbit.bundle import Bundle, Limits, decode, encode, forwarded, heed_unknown, left_ms
from fleet.orbit.crc import CrcKind
from fleet.orbit.fragment import fragment, reassemble
from fleet.orbit.security import add_bib, decrypt_bcb, encrypt_bcb, verify_bib
from fleet.orbit.status import Event, StatusReport, report_on
from fleet.orbit.tcpcl import Ack, Item, Reject, Segment, SessInit, Terminate, read_message
from fleet.orbit.transfers import Receiver, segments
from vehicle.contracts.wire import RefusedError

KEY = bytes(range(32))
ANY = Limits(size_bytes=1 << 20, complete=False)
LATER = Timestamp(847_000_060_000, 1)


def bundle(data: bytes) -> None:
    """Read a bundle, and do with it what nodes do; what is taken keeps its bytes."""
    try:
        found = decode(data, ANY)
    except RefusedError:
        return
    assert encode(found) == data
    steps: list[Callable[[], object]] = [
        lambda: heed_unknown(found),
        lambda: left_ms(found, LATER.dtn_ms),
        lambda: decode(encode(forwarded(found, RELAY, held_ms=7)), ANY),
        lambda: verify_bib(found, KEY),
        lambda: decrypt_bcb(found, KEY),
        lambda: add_bib(found, KEY, source=CAR),
        lambda: encrypt_bcb(found, KEY, source=CAR),
        lambda: StatusReport.from_bytes(found.payload),
        lambda: report_on(found, Event.DELETED, RELAY, created=LATER),
        lambda: _cut(found),
    ]
    for step in steps:
        with contextlib.suppress(RefusedError):
            step()
    for block in found.blocks:
        if block.kind in (BlockType.INTEGRITY, BlockType.CONFIDENTIALITY):
            with contextlib.suppress(RefusedError):
                assert SecurityData.from_bytes(block.data, block.kind).to_bytes() == block.data


def session(data: bytes) -> None:
    """Read messages one after the other; what is taken keeps its bytes, transfers stay bounded."""
    at, receiver = 0, Receiver(RELAY.node, 1_000)

    async def read(count: int) -> bytes:
        nonlocal at
        if at + count > len(data):
            raise EOFError
        at += count
        return data[at - count : at]

    with contextlib.suppress(RefusedError, EOFError):
        while True:
            start = at
            reading = read_message(read, 1 << 16)
            try:
                reading.send(None)
            except StopIteration as done:
                message = done.value
            assert message.to_bytes() == data[start:at]
            if isinstance(message, Segment):
                answer = receiver.take(message, ending=False)
                if isinstance(answer, bytes):
                    assert len(answer) <= 1_000
                    receiver.kept(message, answer)


def seeds(name: str) -> list[bytes]:
    """Return whole examples of what a target reads."""
    if name == "session":
        init = SessInit(15, 1 << 16, 1 << 20, "ipn:3.0", (Item(9, b"?"),))
        said = [init, *segments(0, bytes(90), 40), Ack(1, 0, 90), Reject(3, 1), Terminate(0, 1)]
        return [b"".join(message.to_bytes() for message in said)]
    asking = BundleFlags.REPORT_DELETION | BundleFlags.REPORT_TIME
    report = report_on(clip(flags=asking), Event.DELETED, RELAY, created=LATER)
    assert report is not None
    signed = add_bib(clip(), KEY, source=CAR)
    sealed = encrypt_bcb(signed, KEY, source=CAR, wrap=True)
    odd = rich(bytes(40))
    whole = [odd, report, signed, sealed, *fragment(clip(bytes(300)), 250)]
    bare = [odd.put(replace(odd.blocks[2], flags=BlockFlags(0x16))), *whole]
    return [encode(b) for b in whole] + [encode(_without_sums(b)) for b in bare]


TARGETS: dict[str, Callable[[bytes], None]] = {"bundle": bundle, "session": session}


def _cut(found: Bundle) -> None:
    parts = fragment(found, max(len(encode(found)) - 1, 1))
    if found.primary.place is None:
        whole = reassemble(parts)
        assert whole.payload == found.payload
        assert whole.primary == found.primary


def _without_sums(whole: Bundle) -> Bundle:
    """Return the bundle without checksums, so that damage gets past them."""
    blocks = tuple(replace(block, crc=CrcKind.NONE) for block in whole.blocks)
    return Bundle(replace(whole.primary, crc=CrcKind.NONE), blocks)
