"""The abstract security block: what a BIB or BCB says of its targets.

Source: RFC 9172 section 3.6 (a CBOR sequence, not an array); RFC 9173 sections 3.3 and 4.3.
"""

from dataclasses import dataclass
from enum import IntFlag
from typing import Any, Final, Self

from fleet.orbit import cbor
from fleet.orbit.blocks import BlockType
from fleet.orbit.cbor import items, octets, uint
from fleet.orbit.eid import Eid
from fleet.orbit.errors import MalformedBundleError, SecurityBlockError

HMAC_SHA2: Final = 1
AES_GCM: Final = 2
CONTEXT_OF: Final = {BlockType.INTEGRITY: HMAC_SHA2, BlockType.CONFIDENTIALITY: AES_GCM}

_HAS_PARAMETERS: Final = 1


class Scope(IntFlag):
    """What is covered besides the target's data (RFC 9173 sections 3.3.3 and 4.3.4)."""

    PRIMARY = 0x1
    TARGET_HEADER = 0x2
    SECURITY_HEADER = 0x4


TARGET_ONLY: Final = Scope(0)
EVERYTHING: Final = Scope.PRIMARY | Scope.TARGET_HEADER | Scope.SECURITY_HEADER
"""RFC 9173's default."""

Value = int | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityData:
    """The data of a security block.

    Args:
        targets: numbers of the blocks it covers.
        context: HMAC_SHA2 or AES_GCM.
        source: whose key it is.
        parameters: by their numbers in the context.
        results: of each target, by their numbers in the context.
    """

    targets: tuple[int, ...]
    context: int
    source: Eid
    parameters: dict[int, Value]
    results: tuple[dict[int, bytes], ...]

    def to_bytes(self) -> bytes:
        """Return the block-type-specific data."""
        has = [[[number, value] for number, value in self.parameters.items()]]
        sequence: list[Any] = [
            *(list(self.targets), self.context, _HAS_PARAMETERS if self.parameters else 0),
            *(self.source.to_item(), *(has if self.parameters else [])),
            [[[number, value] for number, value in each.items()] for each in self.results],
        ]
        return b"".join(map(cbor.dumps, sequence))

    @classmethod
    def from_bytes(cls, data: bytes, kind: int) -> Self:
        """Read the data of a block of type `kind`.

        Raises:
            SecurityBlockError: malformed, or of a context that is not known here.
        """
        name = "BIB" if kind == BlockType.INTEGRITY else "BCB"
        try:
            return cls._read(cbor.loads_sequence(data, name), name, kind)
        except MalformedBundleError as error:
            raise SecurityBlockError(str(error)) from error

    @classmethod
    def _read(cls, found: list[Any], name: str, kind: int) -> Self:
        targets, context, flags, source, *rest = items(found, name, 5, 6)
        expected = CONTEXT_OF[BlockType(kind)]
        if type(context) is not int or context != expected:
            raise SecurityBlockError(
                f"{name} of security context {context!r:.20}, expected {expected}"
            )
        items(rest, name, 1 + (uint(flags, f"{name}: flags", most=1) & _HAS_PARAMETERS))
        numbers = tuple(uint(t, f"{name}: target") for t in items(targets, f"{name}: targets"))
        if not numbers or len(set(numbers)) != len(numbers):
            raise SecurityBlockError(
                f"{name} of targets {numbers}, expected one or more, once each"
            )
        results = items(rest[-1], f"{name}: results", len(numbers))
        return cls(
            targets=numbers,
            context=context,
            source=Eid.from_item(source, f"{name}: source"),
            parameters=_pairs(rest[0], f"{name}: parameters") if len(rest) > 1 else {},
            results=tuple(
                {k: octets(v, f"{name}: result") for k, v in _pairs(each, name).items()}
                for each in results
            ),
        )

    def number(self, parameter: int, default: int, *known: int) -> int:
        """Return a parameter that is one of `known` numbers."""
        found = self.parameters.get(parameter, default)
        if found not in known:
            raise SecurityBlockError(f"parameter {parameter} is {found!r:.40}, expected {known}")
        assert isinstance(found, int)
        return found

    def octets(self, parameter: int) -> bytes | None:
        """Return a parameter that is bytes, None where it is not there."""
        found = self.parameters.get(parameter)
        if isinstance(found, int):
            raise SecurityBlockError(f"parameter {parameter} is a number, expected bytes")
        return found


def _pairs(item: Any, name: str) -> dict[int, Value]:
    found: dict[int, Value] = {}
    for pair in items(item, name):
        number, value = items(pair, name, 2)
        if uint(number, f"{name}: id") in found:
            raise SecurityBlockError(f"{name}: {number} is there twice")
        found[number] = value if isinstance(value, bytes) else uint(value, f"{name}: value")
    return found
