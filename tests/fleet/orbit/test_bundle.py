"""A bundle is read back as it was written, lives as long as it says, and changes as it travels."""

import pytest
from bundle_parts import CAR, EIDS, HOME, NOW, RELAY, bundles, clip, rich
from hypothesis import given

from fleet.orbit import blocks
from fleet.orbit.blocks import Block, BlockFlags, BlockType, Timestamp
from fleet.orbit.bundle import (
    Bundle,
    create,
    decode,
    dtn_ms,
    encode,
    forwarded,
    heed_unknown,
    left_ms,
    utc_ns,
)
from fleet.orbit.crc import CrcKind, checksum
from fleet.orbit.eid import Eid
from fleet.orbit.errors import EidError, HopLimitError, MissingAgeError


def test_checksums_are_those_of_the_catalogue() -> None:
    assert checksum(CrcKind.X25, b"123456789").hex() == "906e"
    assert checksum(CrcKind.CASTAGNOLI, b"123456789").hex() == "e3069283"
    assert checksum(CrcKind.CASTAGNOLI, bytes(32)).hex() == "8a9136aa"  # RFC 9260 and iSCSI's
    assert checksum(CrcKind.NONE, b"1") == b""


@given(bundles())
def test_a_bundle_is_read_back_and_gives_the_same_bytes(bundle: Bundle) -> None:
    data = encode(bundle)
    assert decode(data) == bundle
    assert encode(decode(data)) == data


@given(EIDS)
def test_an_endpoint_is_read_back_from_text_and_from_cbor(eid: Eid) -> None:
    assert Eid.parse(str(eid)) == eid
    assert Eid.from_item(eid.to_item(), "eid") == eid
    assert eid.node.node == eid.node


@pytest.mark.parametrize(
    "text",
    [
        *("", "ipn:", "ipn:1", "ipn:1.2.3", "ipn:01.2", "ipn:-1.2", "ipn:1.18446744073709551616"),
        *("dtn:", "dtn:home", "dtn://", "dtn:///x", "dtn://a b/c", "dtn://home", "dtn://h/\x7f\n"),
        *("http://home/", "dtn:NONE", "home", "ipn:1.2\n", "dtn://h/é"),
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(EidError):
        Eid.parse(text)


def test_an_endpoint_knows_its_node_and_service() -> None:
    assert (str(CAR.node), CAR.service, str(CAR.at(7))) == ("ipn:12.0", "1", "ipn:12.7")
    assert (str(HOME.node), HOME.service) == ("dtn://home/", "clips")
    assert str(HOME.at("advice")) == "dtn://home/advice"
    assert Eid.NONE.is_none
    assert Eid.parse("ipn:0.0").is_none
    assert HOME.is_singleton
    assert not Eid.parse("dtn://home/~all").is_singleton


def test_dtn_time_counts_milliseconds_from_the_year_2000() -> None:
    assert utc_ns(0) == 946_684_800_000_000_000
    assert dtn_ms(utc_ns(637_418_478_000)) == 637_418_478_000
    assert dtn_ms(0) == 0  # a clock that stands before the epoch is none


def test_a_bundle_dies_when_its_lifetime_is_over() -> None:
    bundle = clip(lifetime_ms=1_000)
    assert left_ms(bundle, NOW.dtn_ms) == 1_000
    assert left_ms(bundle, NOW.dtn_ms + 1_000) == 0
    assert left_ms(bundle, NOW.dtn_ms + 1_001) == -1


def test_a_node_without_a_clock_counts_age() -> None:
    bundle = create(CAR, HOME, b"", created=Timestamp(0, 1), lifetime_ms=1_000)
    moved = forwarded(bundle, RELAY, held_ms=400)
    assert moved.age_ms == 400
    assert left_ms(moved, None, held_ms=500) == 100
    assert left_ms(moved, NOW.dtn_ms, held_ms=500) == 100  # a clock here does not help: created 0
    with pytest.raises(MissingAgeError):
        left_ms(clip(), None)


def test_forwarding_counts_hops_and_says_from_whom() -> None:
    once = forwarded(clip(hop_limit=2), RELAY, held_ms=5)
    twice = forwarded(once, CAR.node, held_ms=5)
    block = twice.block(BlockType.PREVIOUS_NODE)
    assert block is not None
    assert blocks.read_previous_node(block) == CAR.node
    assert decode(encode(twice)) == twice
    with pytest.raises(HopLimitError, match="2 hops of 2"):
        forwarded(twice, RELAY, held_ms=0)


def test_an_age_past_all_counting_stays_a_number() -> None:
    bundle = clip(created=Timestamp(0, 1)).put(blocks.bundle_age(3, 2**64 - 2))
    assert forwarded(bundle, RELAY, held_ms=10).age_ms == 2**64 - 1


@pytest.mark.parametrize("flag", list(BlockFlags))
def test_blocks_of_unknown_types_get_what_they_ask_for(flag: BlockFlags) -> None:
    odd = Block(kind=193, number=8, data=b"?", flags=flag)
    kept, report = heed_unknown(clip().put(odd))
    assert report == (flag is BlockFlags.REPORT_UNKNOWN)
    if flag is BlockFlags.DELETE_BUNDLE_IF_UNKNOWN:
        assert kept is None
    else:
        assert kept is not None
        assert (kept.numbered(8) is None) == (flag is BlockFlags.DISCARD_IF_UNKNOWN)


def test_names_of_bundles_and_fragments_differ() -> None:
    assert rich().id == "ipn:12.1/0-3"
    assert clip().id == clip().whole_id == "ipn:12.1/847000000000-7"
