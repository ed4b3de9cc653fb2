"""Bundles that nobody changed, and payloads that nobody else reads: BPSec.

A BIB holds HMACs over blocks, a BCB encrypts them; both stay right over any number of hops, while
blocks that nodes change on the way (hops, age, previous node) stay outside.

Source: RFC 9172 (BPSec); RFC 9173 (BIB-HMAC-SHA2 and BCB-AES-GCM); RFC 3394 (AES key wrap).
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hmac, keywrap
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet.orbit import cbor
from fleet.orbit.asb import AES_GCM, EVERYTHING, HMAC_SHA2, Scope, SecurityData, Value
from fleet.orbit.blocks import (
    NO_BLOCK_FLAGS,
    PAYLOAD_NUMBER,
    PRIMARY_NUMBER,
    Block,
    BlockFlags,
    BlockType,
)
from fleet.orbit.bundle import Bundle
from fleet.orbit.crc import CrcKind
from fleet.orbit.eid import Eid
from fleet.orbit.errors import NoSecurityError, SecurityBlockError, TamperedError
from fleet.orbit.security_rules import block_of, guards_of, hidden_numbers, require_targets

IV_BYTES: Final = 12
TAG_BYTES: Final = 16
RESULT: Final = 1
"""The HMAC of a BIB, the tag of a BCB."""

_BIB_SHA, _BIB_WRAPPED, _BIB_SCOPE = 1, 2, 3
_BCB_IV, _BCB_AES, _BCB_WRAPPED, _BCB_SCOPE = 1, 2, 3, 4


class Sha(IntEnum):
    """Variants of BIB-HMAC-SHA2."""

    HMAC_256 = 5
    HMAC_384 = 6
    HMAC_512 = 7


HASHES: Final[dict[int, type[hashes.SHA256] | type[hashes.SHA384] | type[hashes.SHA512]]] = {
    Sha.HMAC_256: hashes.SHA256,
    Sha.HMAC_384: hashes.SHA384,
    Sha.HMAC_512: hashes.SHA512,
}
AES: Final = {1: 16, 3: 32}
"""Variants of BCB-AES-GCM, and the length of their keys."""

LEAST_KEY_BYTES: Final = 16


def add_bib(
    bundle: Bundle,
    key: bytes,
    *,
    source: Eid,
    targets: Sequence[int] = (PAYLOAD_NUMBER,),
    sha: Sha = Sha.HMAC_384,
    scope: Scope = EVERYTHING,
    wrap: bool = False,
    number: int | None = None,
) -> Bundle:
    """Return the bundle with a block that holds an HMAC over each target.

    Args:
        key: shared with whoever checks; with `wrap`, the key that wraps a new one.
        source: whose key it is.
        targets: numbers of blocks; 0 is the primary block, which loses its CRC to it.
        number: of the new block; None: the least that is free.
    Raises:
        SecurityTargetError: a target may not be protected this way.
    """
    require_targets(bundle, targets, BlockType.INTEGRITY)
    bundle, number = _bare(bundle, targets), number or bundle.free_number()
    used, wrapped = _new_key(key, HASHES[sha].digest_size) if wrap else (_keyed(key), None)
    parameters: dict[int, Value] = {_BIB_SHA: int(sha)}
    if wrapped is not None:
        parameters[_BIB_WRAPPED] = wrapped
    parameters[_BIB_SCOPE] = int(scope)
    guard = Block(
        kind=BlockType.INTEGRITY, number=number, data=b"", flags=NO_BLOCK_FLAGS, crc=CrcKind.NONE
    )
    results = []
    for target in targets:
        mac = hmac.HMAC(used, HASHES[sha]())
        mac.update(_covered(bundle, guard, target, scope) + _content(bundle, target))
        results.append({RESULT: mac.finalize()})
    data = SecurityData(
        targets=tuple(targets),
        context=HMAC_SHA2,
        source=source,
        parameters=parameters,
        results=tuple(results),
    )
    return _insert(bundle, replace(guard, data=data.to_bytes()))


def verify_bib(
    bundle: Bundle,
    key: bytes,
    *,
    source: Eid | None = None,
    number: int | None = None,
    required: Sequence[int] = (PAYLOAD_NUMBER,),
) -> tuple[int, ...]:
    """Check every BIB of the bundle, or of one source or number; return which blocks they hold.

    Args:
        required: blocks that must be held, so that taking a BIB away helps nobody.
    Raises:
        NoSecurityError: there is none, or none over a block that is required.
        TamperedError: a block was changed, or the key is another.
        SecurityBlockError: a BIB is malformed, or still encrypted.
    """
    held: list[int] = []
    for guard, data in _found(bundle, BlockType.INTEGRITY, source, number):
        sha = data.number(_BIB_SHA, Sha.HMAC_384, *HASHES)
        scope = Scope(data.number(_BIB_SCOPE, EVERYTHING, *range(8)))
        wrapped = data.octets(_BIB_WRAPPED)
        used = _unwrap(key, wrapped) if wrapped is not None else _keyed(key)
        for target, results in zip(data.targets, data.results, strict=True):
            mac = hmac.HMAC(used, HASHES[sha]())
            mac.update(_covered(bundle, guard, target, scope) + _content(bundle, target))
            try:
                mac.verify(results.get(RESULT, b""))
            except InvalidSignature as error:
                raise TamperedError(
                    f"{bundle.id}: block {target} is not what {data.source} signed, or the key is "
                    "another; drop the bundle"
                ) from error
        held += data.targets
    if missing := set(required) - set(held):
        raise NoSecurityError(f"{bundle.id}: no BIB holds block {sorted(missing)}; drop the bundle")
    return tuple(held)


def encrypt_bcb(
    bundle: Bundle,
    key: bytes,
    *,
    source: Eid,
    targets: Sequence[int] = (PAYLOAD_NUMBER,),
    scope: Scope = EVERYTHING,
    wrap: bool = False,
) -> Bundle:
    """Return the bundle with its targets encrypted, each by a BCB with an IV of its own.

    One BCB over several targets would use one IV with one key for all of them, as the fourth
    example of RFC 9173 does: then who knows one plaintext reads the other. A BIB that holds
    nothing but targets is encrypted with them (RFC 9172 section 3.9).

    Args:
        key: of 16 or 32 bytes; with `wrap`, the key that wraps new ones of its length.
    Raises:
        SecurityTargetError: a target may not be protected this way.
    """
    guards = [n for n, held in guards_of(bundle).items() if held & set(targets)]
    whole = [*guards, *(target for target in targets if target not in guards)]
    require_targets(bundle, whole, BlockType.CONFIDENTIALITY)
    for target in whole:
        bundle = seal(bundle, key, source=source, targets=(target,), scope=scope, wrap=wrap)
    return bundle


def seal(
    bundle: Bundle,
    key: bytes,
    *,
    source: Eid,
    targets: Sequence[int],
    scope: Scope = EVERYTHING,
    wrap: bool = False,
    iv: bytes | None = None,
    content_key: bytes | None = None,
    number: int | None = None,
) -> Bundle:
    """Return the bundle with all targets under one BCB, unchecked; `encrypt_bcb` is what to call.

    Args:
        iv, content_key, number: given by examples; None: new ones.
    """
    bundle, number = _bare(bundle, targets), number or bundle.free_number()
    used, wrapped = _new_key(key, len(key), content_key) if wrap else (key, None)
    variant = _variant(used)
    iv = os.urandom(IV_BYTES) if iv is None else iv
    parameters: dict[int, Value] = {_BCB_IV: iv, _BCB_AES: variant}
    if wrapped is not None:
        parameters[_BCB_WRAPPED] = wrapped
    parameters[_BCB_SCOPE] = int(scope)
    flags = BlockFlags.REPLICATE if PAYLOAD_NUMBER in targets else NO_BLOCK_FLAGS
    cover = Block(
        kind=BlockType.CONFIDENTIALITY, number=number, data=b"", flags=flags, crc=CrcKind.NONE
    )
    results, sealed = [], []
    for target in targets:
        block = block_of(bundle, target)
        secret = AESGCM(used).encrypt(iv, block.data, _covered(bundle, cover, target, scope))
        results.append({RESULT: secret[-TAG_BYTES:]})
        sealed.append(replace(block, data=secret[:-TAG_BYTES]))
    data = SecurityData(
        targets=tuple(targets),
        context=AES_GCM,
        source=source,
        parameters=parameters,
        results=tuple(results),
    )
    return _insert(bundle.put(*sealed), replace(cover, data=data.to_bytes()))


def decrypt_bcb(
    bundle: Bundle, key: bytes, *, source: Eid | None = None, number: int | None = None
) -> Bundle:
    """Return the bundle without its BCBs, or those of one source or number, and in the clear.

    Raises:
        NoSecurityError: there is none.
        TamperedError: a block was changed, or the key is another.
        SecurityBlockError: a BCB is malformed.
    """
    for cover, data in _found(bundle, BlockType.CONFIDENTIALITY, source, number):
        variant = data.number(_BCB_AES, 3, *AES)
        scope = Scope(data.number(_BCB_SCOPE, EVERYTHING, *range(8)))
        iv, wrapped = data.octets(_BCB_IV), data.octets(_BCB_WRAPPED)
        used = key if wrapped is None else _unwrap(key, wrapped)
        if _variant(used) != variant:
            raise TamperedError(f"{bundle.id}: encrypted by AES variant {variant}, the key is not")
        if iv is None or not 8 <= len(iv) <= 16:
            raise SecurityBlockError(f"BCB {cover.number}: IV is {iv!r:.40}, expected 8..16 bytes")
        opened = []
        for target, results in zip(data.targets, data.results, strict=True):
            block, aad = block_of(bundle, target), _covered(bundle, cover, target, scope)
            try:
                clear = AESGCM(used).decrypt(iv, block.data + results.get(RESULT, b""), aad)
            except InvalidTag as error:
                raise TamperedError(
                    f"{bundle.id}: block {target} is not what {data.source} encrypted, or the key "
                    "is another; drop the bundle"
                ) from error
            opened.append(replace(block, data=clear))
        bundle = bundle.put(*opened).without([cover.number])
    return bundle


def _covered(bundle: Bundle, security: Block, target: int, scope: Scope) -> bytes:
    """Return what is covered besides the target's content (RFC 9173 sections 3.7 and 4.7.2)."""
    parts = [cbor.dumps(int(scope))]
    if scope & Scope.PRIMARY and target != PRIMARY_NUMBER:
        parts.append(bundle.primary.to_bytes())
    if scope & Scope.TARGET_HEADER and target != PRIMARY_NUMBER:
        parts.append(block_of(bundle, target).header())
    if scope & Scope.SECURITY_HEADER:
        parts.append(security.header())
    return b"".join(parts)


def _content(bundle: Bundle, target: int) -> bytes:
    """Return the target as an HMAC covers it: a byte string with its head, the primary block
    too (RFC 9173 appendix A.3.3.1)."""
    primary = target == PRIMARY_NUMBER
    return cbor.dumps(bundle.primary.to_bytes() if primary else block_of(bundle, target).data)


def _bare(bundle: Bundle, targets: Sequence[int]) -> Bundle:
    """Return the bundle without checksums over its targets (RFC 9173 sections 3.8.1 and 4.8.1)."""
    blocks = (replace(b, crc=CrcKind.NONE) for b in bundle.blocks if b.number in targets)
    bundle = bundle.put(*blocks)
    if PRIMARY_NUMBER in targets:
        return replace(bundle, primary=replace(bundle.primary, crc=CrcKind.NONE))
    return bundle


def _insert(bundle: Bundle, block: Block) -> Bundle:
    """Put a security block behind those that lead the bundle already."""
    kinds = (BlockType.INTEGRITY, BlockType.CONFIDENTIALITY)
    at = 0
    while bundle.blocks[at].kind in kinds:
        at += 1
    return replace(bundle, blocks=(*bundle.blocks[:at], block, *bundle.blocks[at:]))


def _found(
    bundle: Bundle, kind: BlockType, source: Eid | None, number: int | None
) -> list[tuple[Block, SecurityData]]:
    """Return the security blocks asked for; BCBs are opened in the order that they stand in."""
    if bundle.primary.place is not None:
        raise SecurityBlockError(f"{bundle.id} is a fragment; reassemble the bundle first")
    if kind is BlockType.INTEGRITY and (secret := hidden_numbers(bundle)):
        encrypted = [b.number for b in bundle.blocks if b.kind == kind and b.number in secret]
        if encrypted:
            raise SecurityBlockError(f"{bundle.id}: BIB {encrypted} is encrypted; decrypt it first")
    found = [
        (block, SecurityData.from_bytes(block.data, kind))
        for block in bundle.blocks
        if block.kind == kind and number in (None, block.number)
    ]
    wanted = [(block, data) for block, data in found if source in (None, data.source)]
    if not wanted:
        whose = f" of {source}" if source else ""
        raise NoSecurityError(f"{bundle.id} has no {kind.name.lower()} block{whose}")
    return wanted


def _keyed(key: bytes) -> bytes:
    if len(key) < LEAST_KEY_BYTES:
        raise SecurityBlockError(
            f"HMAC key of {len(key)} bytes, expected {LEAST_KEY_BYTES} or more"
        )
    return key


def _variant(key: bytes) -> int:
    for variant, length in AES.items():
        if len(key) == length:
            return variant
    raise SecurityBlockError(f"AES key of {len(key)} bytes, expected 16 or 32")


def _new_key(wrapping: bytes, length: int, key: bytes | None = None) -> tuple[bytes, bytes]:
    """Return a key and how it travels, wrapped by another."""
    key = os.urandom(length) if key is None else key
    _variant(wrapping)
    return key, keywrap.aes_key_wrap(wrapping, key)


def _unwrap(wrapping: bytes, wrapped: bytes) -> bytes:
    _variant(wrapping)
    try:
        return keywrap.aes_key_unwrap(wrapping, wrapped)
    except (keywrap.InvalidUnwrap, ValueError) as error:
        raise TamperedError("the wrapped key is not what this key wrapped") from error
