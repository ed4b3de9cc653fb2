"""Bundles for tests: one that has everything, and strategies that make any."""

from hypothesis import strategies as st

from fleet.orbit.blocks import (
    PAYLOAD_NUMBER,
    Block,
    BlockFlags,
    BlockType,
    BundleFlags,
    Place,
    Primary,
    Timestamp,
    bundle_age,
    hop_count,
    previous_node,
)
from fleet.orbit.bundle import Bundle, create
from fleet.orbit.crc import CrcKind
from fleet.orbit.eid import DTN, IPN, Eid

CAR, HOME, RELAY = map(Eid.parse, ("ipn:12.1", "dtn://home/clips", "ipn:3.0"))
NOW = Timestamp(847_000_000_000, 7)
UINTS = st.integers(0, 2**64 - 1)
NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True)
EIDS = st.one_of(
    st.just(Eid.NONE),
    st.builds(lambda a, b: Eid(IPN, (a, b)), UINTS, UINTS),
    st.builds(lambda a, b: Eid(DTN, f"//{a}/{b}"), NAMES, NAMES | st.just("") | st.just("~all")),
)
CRCS = st.sampled_from((CrcKind.X25, CrcKind.CASTAGNOLI))


def clip(payload: bytes = b"Ready to generate a 32-byte payload", **more: object) -> Bundle:
    """Return a bundle from the car to home."""
    options = {"created": NOW, "lifetime_ms": 86_400_000, **more}
    return create(CAR, HOME, payload, **options)


def rich(payload: bytes = bytes(range(256))) -> Bundle:
    """Return a bundle with every kind of block, and one of a kind that nobody knows."""
    bundle = clip(payload, created=Timestamp(0, 3))
    odd = Block(kind=200, number=9, data=b"\x00odd", flags=BlockFlags(0x80), crc=CrcKind.X25)
    return bundle.put(previous_node(7, RELAY), odd)


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    """Return any bundle that may be."""
    payload, source = draw(st.binary(max_size=300)), draw(EIDS)
    flags = BundleFlags(draw(st.sampled_from((0, 0x40, 0x20, 0x74060, 1 << 30))))
    place = draw(st.none() | st.builds(Place, st.integers(0, 999), st.integers(2000, 2**63)))
    if source.is_none:
        flags, place = BundleFlags.WHOLE, None
    if place is not None:
        flags |= BundleFlags.FRAGMENT
    primary = Primary(
        destination=draw(EIDS),
        source=source,
        report_to=draw(EIDS),
        created=Timestamp(draw(UINTS), draw(UINTS)),
        lifetime_ms=draw(UINTS),
        flags=flags,
        crc=draw(CRCS),
        place=place,
    )
    extra = [bundle_age(2, draw(UINTS))]
    if draw(st.booleans()):
        extra.append(hop_count(5, draw(st.integers(1, 255)), draw(st.integers(0, 300))))
    if draw(st.booleans()):
        extra.append(previous_node(900, draw(EIDS)))
    for number in draw(st.lists(st.integers(1000, 2**64 - 1), max_size=3, unique=True)):
        kind, flag = draw(st.integers(192, 255)), BlockFlags(draw(st.integers(0, 255)))
        data, crc = draw(st.binary(max_size=40)), draw(st.sampled_from(CrcKind))
        extra.append(Block(kind=kind, number=number, data=data, flags=flag, crc=crc))
    last = Block(kind=BlockType.PAYLOAD, number=PAYLOAD_NUMBER, data=payload, crc=draw(CRCS))
    return Bundle(primary, (*draw(st.permutations(extra)), last))
