"""A bundle in pieces, and whole again.

Source: RFC 9171 sections 5.8 (fragmentation) and 5.9 (reassembly).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from fleet.orbit import cbor
from fleet.orbit.blocks import (
    Block,
    BlockFlags,
    BlockType,
    BundleFlags,
    Place,
    read_age_ms,
    read_hops,
)
from fleet.orbit.bundle import Bundle, encode
from fleet.orbit.errors import (
    ForeignFragmentError,
    FragmentConflictError,
    IncompleteError,
    NotFragmentableError,
)

EVERYWHERE: Final = (BlockType.PREVIOUS_NODE, BlockType.BUNDLE_AGE, BlockType.HOP_COUNT)
"""Without these no fragment can be forwarded, or die, by itself."""

LENGTH_BYTES: Final = 9
"""Longest head of a CBOR number or byte string."""


def fragment(bundle: Bundle, max_bytes: int) -> list[Bundle]:
    """Return the bundle in fragments of at most `max_bytes` as encoded; itself when it fits.

    Raises:
        NotFragmentableError: it must stay whole, or even a byte of it needs more room.
    """
    if len(encode(bundle)) <= max_bytes:
        return [bundle]
    _require_fragmentable(bundle)
    place = bundle.primary.place or Place(0, len(bundle.payload))
    found, start = [], 0
    while start < len(bundle.payload):
        empty = _piece(bundle, place, start, start)
        room = max_bytes - len(encode(empty)) - 2 * LENGTH_BYTES
        if room < 1:
            raise NotFragmentableError(
                f"{bundle.id}: blocks take {len(encode(empty))} bytes of {max_bytes}; allow more"
            )
        end = min(start + room, len(bundle.payload))
        found.append(_piece(bundle, place, start, end))
        start = end
    return found


def reassemble(fragments: Sequence[Bundle]) -> Bundle:
    """Return the bundle that its fragments make; they may overlap and come twice, in any order.

    Raises:
        ForeignFragmentError: one is no fragment, or of another bundle.
        FragmentConflictError: two say different bytes for one place.
        IncompleteError: bytes are missing; says which.
    """
    total = _require_kin(fragments)
    if holes := gaps(fragments):
        at, end = holes[0]
        raise IncompleteError(
            f"{fragments[0].whole_id}: bytes {at}..{end} of {total} are missing "
            f"({len(holes)} gaps); wait for more fragments"
        )
    data = bytearray(total)
    written = 0
    for part in sorted(fragments, key=_offset):
        at, payload = _offset(part), part.payload
        known = max(0, min(written - at, len(payload)))
        if data[at : at + known] != payload[:known]:
            raise FragmentConflictError(f"{part.id}: other bytes than an overlapping fragment")
        data[at : at + len(payload)] = payload
        written = max(written, at + len(payload))
    first = min(fragments, key=_offset)
    primary = replace(first.primary, flags=first.primary.flags & ~BundleFlags.FRAGMENT, place=None)
    last = replace(first.blocks[-1], data=bytes(data))
    whole = Bundle(primary, (*first.blocks[:-1], last))
    return whole.put(*_oldest(whole, fragments))


def gaps(fragments: Sequence[Bundle]) -> list[tuple[int, int]]:
    """Return which bytes of the unit no fragment has, as (start, end).

    Raises:
        ForeignFragmentError: one is no fragment, or of another bundle.
    """
    total = _require_kin(fragments)
    found, written = [], 0
    for part in sorted(fragments, key=_offset):
        if _offset(part) > written:
            found.append((written, _offset(part)))
        written = max(written, _offset(part) + len(part.payload))
    return [*found, (written, total)] if written < total else found


def _offset(part: Bundle) -> int:
    return part.primary.place.offset_bytes if part.primary.place else 0


def _require_fragmentable(bundle: Bundle) -> None:
    if bundle.primary.flags & BundleFlags.WHOLE:
        raise NotFragmentableError(f"{bundle.id}: its source says it must not be fragmented")
    if not bundle.primary.crc:
        raise NotFragmentableError(
            f"{bundle.id}: its primary block has no CRC, only an integrity block, which goes into "
            "one fragment; the others would have neither"
        )


def _piece(bundle: Bundle, place: Place, start: int, end: int) -> Bundle:
    """Return bytes start..end of the payload as a fragment; the first has all other blocks."""
    primary = replace(
        bundle.primary,
        flags=bundle.primary.flags | BundleFlags.FRAGMENT,
        place=Place(place.offset_bytes + start, place.total_bytes),
    )
    *others, last = bundle.blocks
    kept = [
        b for b in others if not start or b.flags & BlockFlags.REPLICATE or b.kind in EVERYWHERE
    ]
    return Bundle(primary, (*kept, replace(last, data=last.data[start:end])))


def _require_kin(fragments: Sequence[Bundle]) -> int:
    """Return the length of the unit that all fragments are of."""
    if not fragments:
        raise ForeignFragmentError("no fragment at all")
    first = fragments[0]
    for part in fragments:
        if part.primary.place is None or first.primary.place is None:
            raise ForeignFragmentError(f"{part.id} and {first.id}: not both are fragments")
        if replace(part.primary, place=first.primary.place) != first.primary:
            raise ForeignFragmentError(f"{part.id} and {first.id} are of two bundles")
        if part.primary.place.total_bytes != first.primary.place.total_bytes:
            raise ForeignFragmentError(f"{part.id} and {first.id} are of units of two lengths")
    assert first.primary.place is not None
    return first.primary.place.total_bytes


def _oldest(whole: Bundle, fragments: Iterable[Bundle]) -> list[Block]:
    """Return the blocks of age and hops with the most that any fragment has seen."""
    changed = []
    ages = [a for p in fragments if (a := p.block(BlockType.BUNDLE_AGE)) is not None]
    if (age := whole.block(BlockType.BUNDLE_AGE)) is not None:
        changed.append(replace(age, data=cbor.dumps(max(map(read_age_ms, ages)))))
    counts = [h for p in fragments if (h := p.block(BlockType.HOP_COUNT)) is not None]
    if (hops := whole.block(BlockType.HOP_COUNT)) is not None:
        most = max(read_hops(count)[1] for count in counts)
        changed.append(replace(hops, data=cbor.dumps([read_hops(hops)[0], most])))
    return changed
