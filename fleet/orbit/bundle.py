"""A bundle: its bytes and back, when it dies, and what a node changes on the way.

Source: RFC 9171 (Bundle Protocol Version 7).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from fleet.orbit import blocks, cbor
from fleet.orbit.blocks import (
    NO_BUNDLE_FLAGS,
    PAYLOAD_NUMBER,
    PRIMARY_NUMBER,
    READERS,
    Block,
    BlockFlags,
    BlockType,
    BundleFlags,
    Primary,
    Timestamp,
)
from fleet.orbit.eid import Eid
from fleet.orbit.errors import (
    BlockNumberError,
    BlockOrderError,
    FragmentConflictError,
    HopLimitError,
    MalformedBundleError,
    MissingAgeError,
    MissingCrcError,
    OversizeError,
)

DTN_EPOCH_UTC_NS: Final = 946_684_800 * 10**9
"""2000-01-01T00:00:00Z, from which bundles count."""

KNOWN: Final = frozenset(int(kind) for kind in BlockType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a decoder takes.

    Args:
        size_bytes, blocks: most of each.
        complete: ask for what RFC 9171 says every bundle has: a CRC or integrity block over the
            primary block, and an age where the source has no clock. The examples of RFC 9173
            lack both.
    """

    size_bytes: int = 64 << 20
    blocks: int = 64
    complete: bool = True


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A primary block and the blocks after it, the payload last."""

    primary: Primary
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        numbers = [block.number for block in self.blocks]
        for number in numbers:
            if numbers.count(number) > 1:
                raise BlockNumberError(f"two blocks of number {number}")
        if not self.blocks or self.blocks[-1].kind != BlockType.PAYLOAD:
            raise BlockOrderError("the last block is not the payload")
        kinds = [block.kind for block in self.blocks]
        for kind in READERS:
            if kinds.count(kind) > 1:
                raise BlockOrderError(f"{kinds.count(kind)} blocks of type {kind}, expected one")
        place = self.primary.place
        if place and place.offset_bytes + len(self.payload) > place.total_bytes:
            raise FragmentConflictError(
                f"bytes {place.offset_bytes}..{place.offset_bytes + len(self.payload)} of a unit "
                f"of {place.total_bytes}"
            )

    @property
    def payload(self) -> bytes:
        """Return the payload's bytes."""
        return self.blocks[-1].data

    @property
    def id(self) -> str:
        """Return the name of the bundle, or of the fragment: no two have the same."""
        place = self.primary.place
        if place is None:
            return self.whole_id
        return f"{self.whole_id}/{place.offset_bytes}+{len(self.payload)}"

    @property
    def whole_id(self) -> str:
        """Return the name that all fragments of one bundle share, and the bundle itself."""
        created = self.primary.created
        return f"{self.primary.source}/{created.dtn_ms}-{created.sequence}"

    @property
    def age_ms(self) -> int | None:
        """Return how old it was when it was sent; None when it does not say."""
        block = self.block(BlockType.BUNDLE_AGE)
        return None if block is None else blocks.read_age_ms(block)

    def block(self, kind: int) -> Block | None:
        """Return the first block of a type."""
        return next((block for block in self.blocks if block.kind == kind), None)

    def numbered(self, number: int) -> Block | None:
        """Return the block of a number."""
        return next((block for block in self.blocks if block.number == number), None)

    def free_number(self) -> int:
        """Return the least number from 2 that no block has."""
        taken = {block.number for block in self.blocks}
        return next(n for n in range(2, len(taken) + 3) if n not in taken)

    def put(self, *changed: Block) -> "Bundle":
        """Return the bundle with blocks in place of those of the same number, or before the
        payload where there are none."""
        new = {block.number: block for block in changed}
        kept = [new.pop(block.number, block) for block in self.blocks]
        return replace(self, blocks=(*kept[:-1], *new.values(), kept[-1]))

    def without(self, numbers: Iterable[int]) -> "Bundle":
        """Return the bundle without some blocks."""
        gone = set(numbers)
        return replace(self, blocks=tuple(b for b in self.blocks if b.number not in gone))


def create(
    source: Eid,
    destination: Eid,
    payload: bytes,
    *,
    created: Timestamp,
    lifetime_ms: int,
    report_to: Eid | None = None,
    flags: BundleFlags = NO_BUNDLE_FLAGS,
    hop_limit: int = 64,
) -> Bundle:
    """Return a new bundle.

    Args:
        created: of `dtn_ms(clock.utc_ns())` and a number that its source never gave before for
            that millisecond; time 0 from a node without a clock, which adds an age of 0.
        lifetime_ms: from creation.
        report_to: who hears of it; None: its source.
    """
    primary = Primary(
        source=source,
        destination=destination,
        report_to=source if report_to is None else report_to,
        created=created,
        lifetime_ms=lifetime_ms,
        flags=flags,
    )
    found = [blocks.hop_count(2, hop_limit)]
    if not created.dtn_ms:
        found.append(blocks.bundle_age(3, 0))
    last = Block(kind=BlockType.PAYLOAD, number=PAYLOAD_NUMBER, data=payload)
    return Bundle(primary, (*found, last))


def encode(bundle: Bundle) -> bytes:
    """Return the bytes of a bundle, each checksum made anew."""
    found = (bundle.primary.to_bytes(), *(block.to_bytes() for block in bundle.blocks))
    return b"".join((b"\x9f", *found, b"\xff"))


def decode(data: bytes, limits: Limits = LIMITS) -> Bundle:
    """Read a bundle; what is taken gives the same bytes when it is encoded.

    Raises:
        BundleError: one of `fleet.orbit.errors` for whatever is wrong with it.
    """
    if len(data) > limits.size_bytes:
        raise OversizeError(f"{len(data)} bytes, expected {limits.size_bytes} at most")
    if data[:1] != b"\x9f":
        raise MalformedBundleError(
            f"begins with {data[:1].hex() or 'nothing'}, expected 9f: an array of indefinite length"
        )
    found = cbor.items(cbor.loads_any(data, "bundle"), "bundle")
    if len(found) > limits.blocks:
        raise OversizeError(f"{len(found)} blocks, expected {limits.blocks} at most")
    if len(found) < 2:
        raise BlockOrderError(f"{len(found)} blocks, expected a primary block and a payload")
    bundle = Bundle(Primary.from_item(found[0]), tuple(map(Block.from_item, found[1:])))
    cbor.require_form(data, encode(bundle), "bundle")
    hidden = _encrypted(bundle)
    for block in bundle.blocks:
        if block.kind in READERS and block.number not in hidden:
            READERS[block.kind](block)
    if limits.complete:
        _require_complete(bundle, hidden)
    return bundle


def dtn_ms(utc_ns: int) -> int:
    """Return DTN time: ms since 2000-01-01 UTC, without leap seconds."""
    return max(0, utc_ns - DTN_EPOCH_UTC_NS) // 10**6


def utc_ns(time_ms: int) -> int:
    """Return nanoseconds since 1970 in UTC of a DTN time."""
    return time_ms * 10**6 + DTN_EPOCH_UTC_NS


def left_ms(bundle: Bundle, now_ms: int | None, held_ms: int = 0) -> int:
    """Return how long a bundle still lives, ms; 0 or less: it is expired.

    Args:
        now_ms: DTN time; None at a node without a clock.
        held_ms: how long this node has had it, by its monotonic clock.
    Raises:
        MissingAgeError: neither clock nor age says how old it is.
    """
    primary, age_ms = bundle.primary, bundle.age_ms
    if primary.created.dtn_ms and now_ms is not None:
        return primary.created.dtn_ms + primary.lifetime_ms - now_ms
    if age_ms is None:
        raise MissingAgeError(f"{bundle.id}: no clock here or at its source, and no age in it")
    return primary.lifetime_ms - age_ms - held_ms


def forwarded(bundle: Bundle, node: Eid, held_ms: int) -> Bundle:
    """Return the bundle as a node sends it on: one hop more, older, and from this node.

    Args:
        node: this node's ID.
        held_ms: how long this node has had it.
    Raises:
        HopLimitError: it may go no further.
    """
    changed = []
    if (hops := bundle.block(BlockType.HOP_COUNT)) is not None:
        limit, count = blocks.read_hops(hops)
        if count >= limit:
            raise HopLimitError(f"{bundle.id}: {count} hops of {limit}")
        changed.append(replace(hops, data=cbor.dumps([limit, count + 1])))
    if (age := bundle.block(BlockType.BUNDLE_AGE)) is not None:
        older_ms = min(blocks.read_age_ms(age) + held_ms, cbor.MAX_UINT)
        changed.append(replace(age, data=cbor.dumps(older_ms)))
    before = bundle.block(BlockType.PREVIOUS_NODE)
    number = bundle.free_number() if before is None else before.number
    return bundle.put(*changed, blocks.previous_node(number, node))


def heed_unknown(bundle: Bundle, known: Iterable[int] = KNOWN) -> tuple[Bundle | None, bool]:
    """Do what blocks of unknown types ask for (RFC 9171 section 5.6).

    Returns:
        the bundle without those that are to be discarded, None when it must be deleted; and
        whether a report of reception with "block unsupported" is asked for.
    """
    understood = set(known)
    unknown = [block for block in bundle.blocks if block.kind not in understood]
    report = any(block.flags & BlockFlags.REPORT_UNKNOWN for block in unknown)
    if any(block.flags & BlockFlags.DELETE_BUNDLE_IF_UNKNOWN for block in unknown):
        return None, report
    gone = [b.number for b in unknown if b.flags & BlockFlags.DISCARD_IF_UNKNOWN]
    return bundle.without(gone), report


def security_targets(block: Block) -> tuple[int, ...]:
    """Return which blocks a security block covers: the first value of its data."""
    found = cbor.loads_sequence(block.data, f"security block {block.number}")
    if not found:
        raise MalformedBundleError(f"security block {block.number} is empty")
    targets = cbor.items(found[0], f"security block {block.number}: targets")
    return tuple(cbor.uint(target, "security target") for target in targets)


def _encrypted(bundle: Bundle) -> set[int]:
    covers = [b for b in bundle.blocks if b.kind == BlockType.CONFIDENTIALITY]
    return {number for block in covers for number in security_targets(block)}


def _require_complete(bundle: Bundle, hidden: set[int]) -> None:
    primary = bundle.primary
    if not primary.crc:
        guards = [block for block in bundle.blocks if block.kind == BlockType.INTEGRITY]
        if not any(g.number in hidden or PRIMARY_NUMBER in security_targets(g) for g in guards):
            raise MissingCrcError("primary block without a CRC or an integrity block over it")
    if not primary.created.dtn_ms and bundle.block(BlockType.BUNDLE_AGE) is None:
        raise MissingAgeError("created at time 0, by a node without a clock, but says no age")
