"""The contact plan: who can hear whom, from when to when, how fast and from how far.

It is a file: nodes route by it, and people read it. Light takes its time on it, and each ground
station stands under some country's law, so that a plan can say where a bundle may land.

Source: CCSDS 734.3-B-1, Schedule-Aware Bundle Routing (2019), section 2.3 (contact and range).
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError, require

Kind = Literal["ground", "satellite", "vehicle"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")


class PlanUnreadableError(RefusedError):
    """A file given as a contact plan is none."""


class UnknownNodeError(RefusedError):
    """A node that no plan names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanNode:
    """One who takes part.

    Args:
        number: of its endpoints `ipn:NUMBER.SERVICE`; from 1.
        country: ISO 3166 code of where it stands; "" in orbit.
    """

    name: str
    number: int
    kind: Kind
    country: str = ""

    def __post_init__(self) -> None:
        require(bool(_NAME.fullmatch(self.name)), f"node {self.name!r}: expected a short name")
        require(0 < self.number < 1 << 32, f"node {self.name}: number is {self.number}")
        stands = bool(_COUNTRY.fullmatch(self.country))
        require(
            stands or (not self.country and self.kind == "satellite"),
            f"node {self.name}: country is {self.country!r}, expected ISO 3166 as in DE",
        )

    @property
    def eid(self) -> str:
        """Return its administrative endpoint."""
        return f"ipn:{self.number}.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """One may send to another, in this direction, for a while.

    Args:
        start_utc_ns, end_utc_ns: of sending; what is sent last arrives a light time after the end.
        rate_bps: bits a second.
        light_us: one way, at the greatest distance within the contact.
    """

    source: str
    target: str
    start_utc_ns: int
    end_utc_ns: int
    rate_bps: int
    light_us: int

    def __post_init__(self) -> None:
        said = f"contact {self.source} -> {self.target}"
        require(self.source != self.target, f"{said}: to itself")
        require(self.start_utc_ns < self.end_utc_ns, f"{said}: ends before it starts")
        require(self.rate_bps > 0, f"{said}: rate_bps is {self.rate_bps}, expected over 0")
        require(0 <= self.light_us < 10_000_000, f"{said}: light_us is {self.light_us}")

    @property
    def size_bytes(self) -> int:
        """Return how much fits into it."""
        return self.bytes_after(self.start_utc_ns)

    def bytes_after(self, utc_ns: int) -> int:
        """Return how much fits between `utc_ns` and its end."""
        left_ns = self.end_utc_ns - max(utc_ns, self.start_utc_ns)
        return max(0, left_ns) * self.rate_bps // 8_000_000_000

    def lasts_ns(self, size_bytes: int) -> int:
        """Return how long `size_bytes` take to send."""
        return -(-size_bytes * 8_000_000_000 // self.rate_bps)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactPlan:
    """All contacts of some hours.

    Args:
        name: of the constellation it was made for.
        contacts: in order of their start.
    """

    SCHEMA: ClassVar[str] = "contactplan/1"
    name: str
    start_utc_ns: int
    end_utc_ns: int
    nodes: tuple[PlanNode, ...]
    contacts: tuple[Contact, ...]

    def __post_init__(self) -> None:
        require(self.start_utc_ns < self.end_utc_ns, f"plan {self.name} ends before it starts")
        names = {n.name for n in self.nodes}
        require(len(names) == len(self.nodes), f"plan {self.name}: two nodes of one name")
        numbers = {n.number for n in self.nodes}
        require(len(numbers) == len(self.nodes), f"plan {self.name}: two nodes of one number")
        strange = {n for c in self.contacts for n in (c.source, c.target)} - names
        require(not strange, f"plan {self.name}: contacts of unknown nodes {sorted(strange)[:5]}")
        starts = [c.start_utc_ns for c in self.contacts]
        require(starts == sorted(starts), f"plan {self.name}: contacts are not in order of start")

    @classmethod
    def read(cls, path: Path) -> "ContactPlan":
        """Return the plan in a file.

        Raises:
            PlanUnreadableError: there is none, or it is something else.
        """
        try:
            return wire.from_bytes(cls, path.read_bytes())
        except (OSError, wire.ContractError) as error:
            raise PlanUnreadableError(
                f"{path} is no contact plan ({error}); make one: "
                f"roadloop fleet orbit plan --out {path}"
            ) from error

    def node(self, name: str) -> PlanNode:
        """Return a node by name; raise UnknownNodeError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(n.name for n in self.nodes[:12])
        raise UnknownNodeError(f"no node {name!r} in plan {self.name}; it has {known}, ...")

    def by_number(self, number: int) -> PlanNode | None:
        """Return the node whose endpoints are `ipn:NUMBER.x`."""
        return next((n for n in self.nodes if n.number == number), None)

    def only(self, names: Collection[str]) -> "ContactPlan":
        """Return the plan of some of the nodes."""
        kept = {self.node(name).name for name in names}
        return ContactPlan(
            name=self.name,
            start_utc_ns=self.start_utc_ns,
            end_utc_ns=self.end_utc_ns,
            nodes=tuple(n for n in self.nodes if n.name in kept),
            contacts=tuple(c for c in self.contacts if c.source in kept and c.target in kept),
        )
