"""Who a bundle is from and for: endpoint IDs of the schemes dtn and ipn.

Source: RFC 9171 section 4.2.5.1. The three-part ipn of RFC 9758 is not taken.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from fleet.orbit.cbor import MAX_UINT, items, uint
from fleet.orbit.errors import EidError

DTN: Final = 1
IPN: Final = 2
_IPN: Final = re.compile(r"ipn:(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})")
_DTN: Final = re.compile(r"//[A-Za-z0-9._-]{1,255}/[\x21-\x7e]{0,255}")


@dataclass(frozen=True, slots=True)
class Eid:
    """An endpoint ID.

    Args:
        scheme: DTN or IPN.
        ssp: what follows the colon: "//node/service" or "none"; (node, service) of ipn.
    """

    NONE: ClassVar["Eid"]
    """dtn:none, nobody."""

    scheme: int
    ssp: str | tuple[int, int]

    def __post_init__(self) -> None:
        if isinstance(self.ssp, str):
            holds = self.scheme == DTN and (self.ssp == "none" or _DTN.fullmatch(self.ssp))
        else:
            holds = self.scheme == IPN and all(0 <= n <= MAX_UINT for n in self.ssp)
        if not holds:
            raise EidError(
                f"scheme {self.scheme} with {self.ssp!r:.80} is no endpoint ID, expected "
                "dtn://node/service, dtn:none or ipn:node.service"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an endpoint ID as people write it.

        Raises:
            EidError: it is none.
        """
        if match := _IPN.fullmatch(text):
            return cls(IPN, (int(match[1]), int(match[2])))
        if not text.startswith("dtn:"):
            raise EidError(
                f"{text!r:.80} is no endpoint ID, expected dtn://node/service or ipn:1.2"
            )
        return cls(DTN, text.removeprefix("dtn:"))

    @classmethod
    def from_item(cls, item: Any, name: str) -> Self:
        """Read an endpoint ID from decoded CBOR.

        Raises:
            EidError: it is none.
            MalformedBundleError: not of the shape of one.
        """
        scheme, ssp = items(item, name, 2)
        uint(scheme, f"{name}: scheme")  # true and 2.0 are equal to numbers, but not one
        if scheme == IPN:
            node, service = items(ssp, f"{name}: ipn", 2)
            return cls(IPN, (uint(node, f"{name}: node"), uint(service, f"{name}: service")))
        if scheme == DTN and ssp == 0 and type(ssp) is int:
            return cls(DTN, "none")
        if scheme == DTN and isinstance(ssp, str) and ssp != "none":
            return cls(DTN, ssp)
        raise EidError(f"{name}: scheme {scheme!r:.20} with {ssp!r:.80}, expected dtn or ipn")

    def to_item(self) -> list[Any]:
        """Return what is written as CBOR."""
        if self.ssp == "none":
            return [DTN, 0]
        return [self.scheme, list(self.ssp) if isinstance(self.ssp, tuple) else self.ssp]

    @property
    def is_none(self) -> bool:
        """Return whether it is nobody: dtn:none or ipn:0.0."""
        return self.ssp in ("none", (0, 0))

    @property
    def is_singleton(self) -> bool:
        """Return whether at most one node is meant: dtn names that begin with ~ are groups."""
        return self.scheme == IPN or not self.service.startswith("~")

    @property
    def node(self) -> "Eid":
        """Return the administrative endpoint of the same node: its node ID."""
        if isinstance(self.ssp, tuple):
            return Eid(IPN, (self.ssp[0], 0))
        if self.is_none:
            return self
        return Eid(DTN, f"//{self.ssp.split('/')[2]}/")

    @property
    def service(self) -> str:
        """Return what stands behind the node: ipn's number as text, dtn's demux; "" for none."""
        if isinstance(self.ssp, tuple):
            return str(self.ssp[1])
        return "" if self.is_none else self.ssp.split("/", 3)[3]

    def at(self, service: int | str) -> "Eid":
        """Return another endpoint of the same node."""
        return (
            Eid.parse(f"{str(self.node).removesuffix('0')}{service}")
            if (self.scheme == IPN)
            else Eid.parse(f"{self.node}{service}")
        )

    def __str__(self) -> str:
        if isinstance(self.ssp, tuple):
            return f"ipn:{self.ssp[0]}.{self.ssp[1]}"
        return f"dtn:{self.ssp}"


Eid.NONE = Eid(DTN, "none")
