"""Whatever is wrong with a bundle has a name."""

import struct
from dataclasses import replace

import pytest
from bundle_parts import CAR, HOME, NOW, bundles, clip, rich
from hypothesis import given
from hypothesis import strategies as st

from fleet.orbit import cbor, errors
from fleet.orbit.blocks import Block, BundleFlags, Place, Primary, Timestamp
from fleet.orbit.bundle import Bundle, Limits, decode, encode
from fleet.orbit.crc import CrcKind
from fleet.orbit.eid import Eid
from vehicle.contracts.wire import RefusedError

DATA = encode(clip())
PRIMARY = clip().primary.to_bytes()
REST = b"".join(block.to_bytes() for block in clip().blocks)
LAST = clip().blocks[-1]


def bare(**changed: object) -> bytes:
    """Return the bytes of a primary block without a checksum, one field another."""
    fields = {
        **{"version": 7, "flags": 0, "crc": 0, "to": HOME.to_item(), "from": CAR.to_item()},
        **{"report": CAR.to_item(), "created": [5, 1], "lifetime": 1000, **changed},
    }
    return cbor.dumps(list(fields.values()))


def block(*fields: object) -> bytes:
    return cbor.dumps(list(fields))


def bundle(*parts: bytes) -> bytes:
    return b"\x9f" + b"".join(parts) + b"\xff"


PAYLOAD = block(1, 1, 0, 0, b"x")
MALFORMED = {
    "nothing": b"",
    "a number": b"\x07",
    "an array of known length": b"\x84" + PRIMARY + REST,
    "no end": DATA[:-1],
    "a map": bundle(b"\xa0", PAYLOAD),
    "a tag that builds a number of gigabytes": bundle(bytes.fromhex("c5821b0000007fffffffff01")),
    "a big number": bundle(bare(), b"\xc2\x49" + b"\x01" * 9),
    "deep nesting": b"\x9f" + b"\x81" * 100_000,
    "an array of 2^63": b"\x9f\x9b" + struct.pack(">Q", 2**63 - 1),
    "a string of 2^63": bundle(bare(), b"\x85\x01\x01\x00\x00\x5b" + struct.pack(">Q", 2**63 - 1)),
    "a string of 2 GB": bundle(bare(), b"\x85\x01\x01\x00\x00\x5a\x7f\xff\xff\xff"),
    "text as payload": bundle(bare(), block(1, 1, 0, 0, "x")),
    "a payload that is cut": bundle(bare(), PAYLOAD[:-1]),
    "a float as lifetime": bundle(bare(lifetime=1000.0), PAYLOAD),
    "true as lifetime": bundle(bare(lifetime=True), PAYLOAD),
    "a negative lifetime": bundle(bare(lifetime=-1), PAYLOAD),
    "null as destination": bundle(bare(to=None), PAYLOAD),
    "three parts of ipn": bundle(bare(to=[2, [1, 2, 3]]), PAYLOAD),
    "true as scheme": bundle(bare(to=[True, 0]), PAYLOAD),
    "2.0 as scheme": bundle(bare(to=[2.0, [1, 2]]), PAYLOAD),
    "a timestamp of one": bundle(bare(created=[5]), PAYLOAD),
    "an unknown checksum": bundle(bare(crc=3), PAYLOAD),
    "a checksum without one": bundle(bare(crc=1), PAYLOAD),
    "a place without the flag": bundle(bare(offset=0, total=1), PAYLOAD),
    "the flag without a place": bundle(bare(flags=1), PAYLOAD),
    "a block of four": bundle(bare(), block(1, 1, 0, 0)),
    "a block of seven": bundle(bare(), block(1, 1, 0, 1, b"x", b"ab", 0)),
    "an age that is text": bundle(bare(), block(7, 2, 0, 0, b"\x61a"), PAYLOAD),
    "an age that is nothing": bundle(bare(), block(7, 2, 0, 0, b""), PAYLOAD),
    "a hop limit of 0": bundle(bare(), block(10, 2, 0, 0, b"\x82\x00\x00"), PAYLOAD),
    "an empty security block": bundle(bare(), block(12, 2, 0, 0, b""), PAYLOAD),
}
NAMED = {
    "another version": (bundle(bare(version=6), PAYLOAD), errors.VersionError),
    "an unknown scheme": (bundle(bare(to=[3, "x"]), PAYLOAD), errors.EidError),
    "a dtn name that is none": (bundle(bare(to=[1, "home"]), PAYLOAD), errors.EidError),
    "none as text": (bundle(bare(to=[1, "none"]), PAYLOAD), errors.EidError),
    "no checksum": (bundle(bare(), PAYLOAD), errors.MissingCrcError),
    "no payload": (bundle(PRIMARY), errors.BlockOrderError),
    "two payloads": (bundle(PRIMARY, PAYLOAD, PAYLOAD), errors.BlockNumberError),
    "a payload in the middle": (
        bundle(PRIMARY, PAYLOAD, block(200, 2, 0, 0, b"")),
        errors.BlockOrderError,
    ),
    "a payload of number 2": (bundle(PRIMARY, block(1, 2, 0, 0, b"x")), errors.BlockNumberError),
    "another block of number 1": (
        bundle(PRIMARY, block(200, 1, 0, 0, b"x"), PAYLOAD),
        errors.BlockNumberError,
    ),
    "a block of number 0": (
        bundle(PRIMARY, block(200, 0, 0, 0, b"x"), PAYLOAD),
        errors.BlockNumberError,
    ),
    "two blocks of one number": (
        bundle(PRIMARY, block(200, 2, 0, 0, b""), block(201, 2, 0, 0, b""), PAYLOAD),
        errors.BlockNumberError,
    ),
    "two ages": (
        bundle(PRIMARY, block(7, 2, 0, 0, b"\x01"), block(7, 3, 0, 0, b"\x01"), PAYLOAD),
        errors.BlockOrderError,
    ),
    "bytes after the end": (DATA + b"\x00", errors.TrailingBytesError),
    "a bundle after the end": (DATA + DATA, errors.TrailingBytesError),
    "bytes after an age": (
        bundle(PRIMARY, block(7, 2, 0, 0, b"\x01\x02"), PAYLOAD),
        errors.TrailingBytesError,
    ),
    "a number longer than it need be": (
        bundle(bare().replace(b"\x07", b"\x18\x07", 1), PAYLOAD),
        errors.NotCanonicalError,
    ),
    "a payload of indefinite length": (
        bundle(PRIMARY, b"\x85\x01\x01\x00\x00\x5f\x41x\xff"),
        errors.NotCanonicalError,
    ),
    "a block of indefinite length": (
        bundle(PRIMARY, b"\x9f\x01\x01\x00\x00\x41x\xff"),
        errors.NotCanonicalError,
    ),
    "from nobody, but in pieces": (
        bundle(bare(**{"from": [1, 0]}), PAYLOAD),
        errors.FlagConflictError,
    ),
    "a record that asks for reports": (
        bundle(bare(flags=0x4002), PAYLOAD),
        errors.FlagConflictError,
    ),
    "a piece of what must stay whole": (
        bundle(bare(flags=5, offset=0, total=1), PAYLOAD),
        errors.FlagConflictError,
    ),
    "a piece beyond the end": (
        bundle(bare(flags=1, offset=5, total=5), PAYLOAD),
        errors.FragmentConflictError,
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_bundle_is_refused(name: str) -> None:
    with pytest.raises(errors.MalformedBundleError):
        decode(MALFORMED[name])


@pytest.mark.parametrize("name", NAMED)
def test_what_breaks_a_rule_is_refused_by_its_name(name: str) -> None:
    data, expected = NAMED[name]
    with pytest.raises(expected):
        decode(data)


def test_the_largest_bundle_and_the_most_blocks_are_bounded() -> None:
    with pytest.raises(errors.OversizeError, match="bytes"):
        decode(DATA, Limits(size_bytes=len(DATA) - 1))
    with pytest.raises(errors.OversizeError, match="blocks"):
        decode(DATA, Limits(blocks=2))


def test_a_bundle_from_a_node_without_a_clock_says_how_old_it_is() -> None:
    bare_one = Bundle(replace(clip().primary, created=Timestamp(0, 1)), (LAST,))
    with pytest.raises(errors.MissingAgeError):
        decode(encode(bare_one))
    assert decode(encode(bare_one), Limits(complete=False)) == bare_one


@pytest.mark.parametrize("crc", [CrcKind.X25, CrcKind.CASTAGNOLI])
def test_each_bit_of_each_block_is_held_by_its_checksum(crc: CrcKind) -> None:
    whole = rich(b"payload")
    parts = tuple(replace(part, crc=crc) for part in whole.blocks)
    data = encode(Bundle(replace(whole.primary, crc=crc), parts))
    for at in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(errors.BundleError):
            decode(bytes(damaged))


def test_a_damaged_payload_is_refused_for_its_checksum() -> None:
    damaged = DATA.replace(b"Ready", b"ready")
    with pytest.raises(errors.CrcMismatchError, match="block 1"):
        decode(damaged)
    with pytest.raises(errors.CrcMismatchError, match="primary"):
        decode(DATA.replace(b"home", b"hame"))


@given(bundles(), st.data())
def test_bundles_cut_or_spliced_are_refused_by_name(one: Bundle, data: st.DataObject) -> None:
    whole = bytearray(encode(one))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    try:
        found = decode(bytes(whole))
    except RefusedError:
        return
    assert encode(found) == whole


def test_a_primary_block_checks_itself_at_birth() -> None:
    with pytest.raises(errors.FlagConflictError):
        Primary(destination=HOME, source=Eid.NONE, created=NOW, lifetime_ms=1)
    with pytest.raises(errors.FlagConflictError):
        Primary(destination=HOME, source=CAR, created=NOW, lifetime_ms=1, place=Place(0, 1))
    with pytest.raises(errors.FlagConflictError):
        replace(clip().primary, flags=BundleFlags.FRAGMENT)
    with pytest.raises(errors.MalformedBundleError):
        replace(clip().primary, lifetime_ms=2**64)
    with pytest.raises(errors.BlockOrderError):
        Bundle(clip().primary, (Block(kind=200, number=2, data=b""),))
