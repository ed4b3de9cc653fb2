"""How a bundle wants to be carried: how urgent it is, and in which countries it may land.

BPv7 has neither priority nor residency, so a block of a type left to private use says both; it goes
into every fragment, and nodes that do not know it pass it on.

Source: RFC 9171 section 9.1 (block types 192 to 255 are for private use); own work.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from fleet.orbit import cbor
from fleet.orbit.blocks import Block, BlockFlags
from fleet.orbit.bundle import KNOWN, Bundle
from fleet.orbit.errors import MalformedBundleError

CARRIAGE: Final = 192
UNDERSTOOD: Final = KNOWN | {CARRIAGE}
PRIORITIES: Final = range(3)
"""Bulk, normal, urgent, as in RFC 5050 and in SABR."""

BULK, NORMAL, URGENT = PRIORITIES
_COUNTRY: Final = re.compile(r"[A-Z]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Carriage:
    """What the block says.

    Args:
        priority: 0 bulk, 1 normal, 2 urgent.
        lands_in: ISO 3166 codes, sorted; ground stations elsewhere never get it. Empty: anywhere.
    """

    priority: int = NORMAL
    lands_in: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.priority not in PRIORITIES:
            raise MalformedBundleError(f"priority is {self.priority}, expected 0..2")
        for code in self.lands_in:
            if not _COUNTRY.fullmatch(code):
                raise MalformedBundleError(f"country {code!r:.20}, expected ISO 3166 as in DE")

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """Return what a bundle wants; without the block: normal, anywhere.

        Raises:
            MalformedBundleError: the block says something else.
        """
        block = bundle.block(CARRIAGE)
        if block is None:
            return cls()
        priority, codes = cbor.items(cbor.loads(block.data, "carriage block"), "carriage", 2)
        texts = cbor.items(codes, "carriage: countries")
        if not all(isinstance(code, str) for code in texts):
            raise MalformedBundleError("carriage: a country is no text")
        return cls(priority=cbor.uint(priority, "priority"), lands_in=tuple(texts))

    def onto(self, bundle: Bundle) -> Bundle:
        """Return the bundle with the block."""
        data = cbor.dumps([self.priority, list(self.lands_in)])
        number = bundle.free_number()
        flags = BlockFlags.REPLICATE
        return bundle.put(Block(kind=CARRIAGE, number=number, data=data, flags=flags))
