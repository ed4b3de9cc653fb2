"""Which blocks BPSec may cover, and which it covers already.

Source: RFC 9172 sections 3.7 to 3.9 and 5.2.
"""

from collections.abc import Sequence

from fleet.orbit.asb import SecurityData
from fleet.orbit.blocks import PRIMARY_NUMBER, Block, BlockType, BundleFlags
from fleet.orbit.bundle import Bundle
from fleet.orbit.errors import SecurityTargetError


def hidden_numbers(bundle: Bundle) -> set[int]:
    """Return which blocks are encrypted."""
    covers = [b for b in bundle.blocks if b.kind == BlockType.CONFIDENTIALITY]
    return {t for b in covers for t in SecurityData.from_bytes(b.data, b.kind).targets}


def guards_of(bundle: Bundle) -> dict[int, set[int]]:
    """Return which blocks each BIB that can be read holds, by the BIB's number."""
    hidden = hidden_numbers(bundle)
    guards = [b for b in bundle.blocks if b.kind == BlockType.INTEGRITY and b.number not in hidden]
    return {b.number: set(SecurityData.from_bytes(b.data, b.kind).targets) for b in guards}


def block_of(bundle: Bundle, number: int) -> Block:
    """Return the block of a number that a security block names."""
    found = bundle.numbered(number)
    if found is None:
        raise SecurityTargetError(f"{bundle.id} has no block {number}")
    return found


def require_targets(bundle: Bundle, targets: Sequence[int], kind: BlockType) -> None:
    """Refuse targets that a security block of type `kind` may not cover.

    Raises:
        SecurityTargetError: says which, and why.
    """
    if bundle.primary.flags & BundleFlags.FRAGMENT:
        raise SecurityTargetError(f"{bundle.id} is a fragment; protect it before it is cut")
    if not targets or len(set(targets)) != len(targets):
        raise SecurityTargetError(f"targets {tuple(targets)}, expected one or more, once each")
    hidden = hidden_numbers(bundle)
    held = guards_of(bundle)
    for target in targets:
        if target in hidden:
            raise SecurityTargetError(f"{bundle.id}: block {target} is encrypted already")
        if kind is BlockType.INTEGRITY:
            _require_signable(bundle, target, held)
        else:
            _require_sealable(bundle, target, held, set(targets))


def _require_signable(bundle: Bundle, target: int, held: dict[int, set[int]]) -> None:
    if any(target in numbers for numbers in held.values()):
        raise SecurityTargetError(f"{bundle.id}: block {target} has a BIB already")
    if target == PRIMARY_NUMBER:
        return
    if block_of(bundle, target).kind in (BlockType.INTEGRITY, BlockType.CONFIDENTIALITY):
        raise SecurityTargetError(f"{bundle.id}: block {target} is a security block")


def _require_sealable(
    bundle: Bundle, target: int, held: dict[int, set[int]], sealed: set[int]
) -> None:
    if target == PRIMARY_NUMBER:
        raise SecurityTargetError("the primary block cannot be encrypted: nodes must read it")
    if block_of(bundle, target).kind == BlockType.CONFIDENTIALITY:
        raise SecurityTargetError(f"{bundle.id}: block {target} is a BCB")
    for guard, numbers in held.items():
        if target in numbers and not (guard in sealed and numbers <= sealed):
            raise SecurityTargetError(
                f"{bundle.id}: BIB {guard} holds {sorted(numbers)}; encrypt all of them with it, "
                "or give each a BIB of its own (RFC 9172 section 3.9)"
            )
