"""The blocks of a bundle: the primary one, and all that follow it.

Source: RFC 9171 sections 4.2 and 4.3; errata 8043 (zeros in the CRC's value, not in its head).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Final, Self

from fleet.orbit import cbor
from fleet.orbit.cbor import items, octets, uint
from fleet.orbit.crc import CrcKind, checksum
from fleet.orbit.eid import Eid
from fleet.orbit.errors import (
    BlockNumberError,
    CrcMismatchError,
    FlagConflictError,
    HopLimitError,
    MalformedBundleError,
    VersionError,
)

VERSION: Final = 7
PAYLOAD_NUMBER: Final = 1
PRIMARY_NUMBER: Final = 0


class BundleFlags(IntFlag):
    """Bundle processing control flags; bits without a name are kept and mean nothing."""

    FRAGMENT = 0x1
    ADMINISTRATIVE = 0x2
    WHOLE = 0x4
    """Must not be fragmented."""
    ACKNOWLEDGE = 0x20
    REPORT_TIME = 0x40
    REPORT_RECEPTION = 0x4000
    REPORT_FORWARDING = 0x10000
    REPORT_DELIVERY = 0x20000
    REPORT_DELETION = 0x40000


REPORTS: Final = (
    BundleFlags.REPORT_RECEPTION
    | BundleFlags.REPORT_FORWARDING
    | BundleFlags.REPORT_DELIVERY
    | BundleFlags.REPORT_DELETION
)


class BlockFlags(IntFlag):
    """Block processing control flags."""

    REPLICATE = 0x1
    """Goes into every fragment."""
    REPORT_UNKNOWN = 0x2
    DELETE_BUNDLE_IF_UNKNOWN = 0x4
    DISCARD_IF_UNKNOWN = 0x10


NO_BUNDLE_FLAGS: Final = BundleFlags(0)
NO_BLOCK_FLAGS: Final = BlockFlags(0)


class BlockType(IntEnum):
    """The types of block that are understood here."""

    PAYLOAD = 1
    PREVIOUS_NODE = 6
    BUNDLE_AGE = 7
    HOP_COUNT = 10
    INTEGRITY = 11
    CONFIDENTIALITY = 12


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """When a bundle was created: ms since 2000-01-01 UTC (0: its node has no clock), and which."""

    dtn_ms: int
    sequence: int

    def __post_init__(self) -> None:
        uint(self.dtn_ms, "creation time")
        uint(self.sequence, "sequence number")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fragment's bytes stand in the whole application data unit."""

    offset_bytes: int
    total_bytes: int

    def __post_init__(self) -> None:
        uint(self.offset_bytes, "fragment offset")
        uint(self.total_bytes, "total length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Primary:
    """The primary block.

    Args:
        destination, source, report_to: who it is for, from, and who hears of it.
        created, lifetime_ms: it is of no use to anybody after both together.
        place: of a fragment; None of a whole bundle.
    """

    destination: Eid
    source: Eid
    created: Timestamp
    lifetime_ms: int
    report_to: Eid = Eid.NONE
    flags: BundleFlags = NO_BUNDLE_FLAGS
    crc: CrcKind = CrcKind.CASTAGNOLI
    place: Place | None = None

    def __post_init__(self) -> None:
        uint(self.lifetime_ms, "lifetime")
        flags, silent = self.flags, not self.flags & REPORTS
        if bool(flags & BundleFlags.FRAGMENT) != (self.place is not None):
            raise FlagConflictError("the flag FRAGMENT and a fragment's place go together")
        if flags & BundleFlags.FRAGMENT and flags & BundleFlags.WHOLE:
            raise FlagConflictError("a fragment of a bundle that must not be fragmented")
        if flags & BundleFlags.ADMINISTRATIVE and not silent:
            raise FlagConflictError("an administrative record that asks for status reports")
        if self.source.is_none and not (flags & BundleFlags.WHOLE and silent):
            raise FlagConflictError(
                "a bundle from dtn:none must be whole and ask for no report (RFC 9171 4.2.3)"
            )

    def to_bytes(self) -> bytes:
        """Return the block with its checksum."""
        fields = [
            *(VERSION, int(self.flags), int(self.crc), self.destination.to_item()),
            *(self.source.to_item(), self.report_to.to_item()),
            *([self.created.dtn_ms, self.created.sequence], self.lifetime_ms),
        ]
        if self.place:
            fields += [self.place.offset_bytes, self.place.total_bytes]
        return _summed(fields, self.crc)

    @classmethod
    def from_item(cls, item: Any) -> Self:
        """Read the block from decoded CBOR and check its checksum.

        Raises:
            BundleError: as named in `fleet.orbit.errors`.
        """
        name = "primary block"
        fields = items(item, name, 8, 9, 10, 11)
        if uint(fields[0], "version") != VERSION:
            raise VersionError(f"bundle protocol version {fields[0]}, expected {VERSION}")
        flags, crc = BundleFlags(uint(fields[1], "bundle flags")), _crc_kind(fields[2], name)
        place = None
        items(item, name, 8 + 2 * bool(flags & BundleFlags.FRAGMENT) + bool(crc))
        if flags & BundleFlags.FRAGMENT:
            place = Place(fields[8], fields[9])
        found = cls(
            flags=flags,
            crc=crc,
            destination=Eid.from_item(fields[3], "destination"),
            source=Eid.from_item(fields[4], "source"),
            report_to=Eid.from_item(fields[5], "report-to"),
            created=Timestamp(*items(fields[6], "creation timestamp", 2)),
            lifetime_ms=fields[7],
            place=place,
        )
        if crc:
            _check(fields[-1], found.to_bytes(), crc, name)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A canonical block: payload or extension.

    Args:
        kind: a BlockType, or the number of one that is not known here.
        number: names it in its bundle; the payload's is 1.
        data: the block-type-specific data.
    """

    kind: int
    number: int
    data: bytes
    flags: BlockFlags = NO_BLOCK_FLAGS
    crc: CrcKind = CrcKind.CASTAGNOLI

    def __post_init__(self) -> None:
        if (self.kind == BlockType.PAYLOAD) != (self.number == PAYLOAD_NUMBER):
            raise BlockNumberError(
                f"block of type {self.kind} has number {self.number}; number 1 is the payload's"
            )
        if self.number == PRIMARY_NUMBER:
            raise BlockNumberError("a block of number 0, which is the primary block's")

    def header(self) -> bytes:
        """Return type, number and flags as BPSec covers them (RFC 9173 section 3.7)."""
        return b"".join(map(cbor.dumps, (int(self.kind), self.number, int(self.flags))))

    def to_bytes(self) -> bytes:
        """Return the block with its checksum."""
        fields = [int(self.kind), self.number, int(self.flags), int(self.crc), self.data]
        return _summed(fields, self.crc)

    @classmethod
    def from_item(cls, item: Any) -> Self:
        """Read a block from decoded CBOR and check its checksum.

        Raises:
            BundleError: as named in `fleet.orbit.errors`.
        """
        fields = items(item, "block", 5, 6)
        number = uint(fields[1], "block number")
        name = f"block {number}"
        crc = _crc_kind(fields[3], name)
        items(item, name, 5 + bool(crc))
        found = cls(
            kind=uint(fields[0], f"{name}: type"),
            number=number,
            flags=BlockFlags(uint(fields[2], f"{name}: flags")),
            crc=crc,
            data=octets(fields[4], f"{name}: data"),
        )
        if crc:
            _check(fields[5], found.to_bytes(), crc, name)
        return found


def previous_node(number: int, node: Eid) -> Block:
    """Return the block that says which node forwarded the bundle."""
    return Block(kind=BlockType.PREVIOUS_NODE, number=number, data=cbor.dumps(node.to_item()))


def bundle_age(number: int, age_ms: int) -> Block:
    """Return the block that says how old the bundle is."""
    return Block(
        kind=BlockType.BUNDLE_AGE,
        number=number,
        data=cbor.dumps(age_ms),
        flags=BlockFlags.REPLICATE,
    )


def hop_count(number: int, limit: int, hops: int = 0) -> Block:
    """Return the block that counts hops, of `limit` 1..255."""
    if not 1 <= limit <= 255:
        raise HopLimitError(f"hop limit {limit}, expected 1..255")
    return Block(
        kind=BlockType.HOP_COUNT,
        number=number,
        data=cbor.dumps([limit, hops]),
        flags=BlockFlags.REPLICATE,
    )


def read_previous_node(block: Block) -> Eid:
    """Return which node forwarded the bundle."""
    return Eid.from_item(cbor.loads(block.data, "previous node block"), "previous node")


def read_age_ms(block: Block) -> int:
    """Return how old the bundle was when it was sent, ms."""
    return uint(cbor.loads(block.data, "bundle age block"), "bundle age")


def read_hops(block: Block) -> tuple[int, int]:
    """Return the limit of hops, and the hops so far."""
    limit, hops = items(cbor.loads(block.data, "hop count block"), "hop count", 2)
    if not 1 <= uint(limit, "hop limit") <= 255:
        raise MalformedBundleError(f"hop limit {limit}, expected 1..255")
    return limit, uint(hops, "hop count")


READERS: Final[Mapping[int, Any]] = {
    BlockType.PREVIOUS_NODE: read_previous_node,
    BlockType.BUNDLE_AGE: read_age_ms,
    BlockType.HOP_COUNT: read_hops,
}
"""Extension blocks that a bundle has at most one of, and what reads each."""


def _crc_kind(item: Any, name: str) -> CrcKind:
    return CrcKind(uint(item, f"{name}: CRC type", most=max(CrcKind)))


def _summed(fields: list[Any], crc: CrcKind) -> bytes:
    if not crc:
        return cbor.dumps(fields)
    data = cbor.dumps([*fields, bytes(crc.size_bytes)])
    return data[: -crc.size_bytes] + checksum(crc, data)


def _check(item: Any, written: bytes, crc: CrcKind, name: str) -> None:
    found = octets(item, f"{name}: CRC")
    if found != written[-crc.size_bytes :]:
        raise CrcMismatchError(
            f"{name}: CRC is {found.hex()}, its bytes give {written[-crc.size_bytes :].hex()}"
        )
