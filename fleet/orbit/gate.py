"""What a node takes from others and from its own applications: named refusals, nothing else.

A bundle that is refused stays where it is: whoever sent it keeps it, and offers it again when that
makes sense.

Source: own work.
"""

from fleet.orbit.bundle import Bundle, dtn_ms, left_ms, utc_ns
from fleet.orbit.carriage import Carriage
from fleet.orbit.eid import Eid
from fleet.orbit.plan import ContactPlan, PlanNode
from vehicle.contracts.wire import RefusedError


class ResidencyError(RefusedError):
    """A bundle would land in a country where it may not."""


class ExpiredError(RefusedError):
    """A bundle is of no use to anybody any more."""


class FutureBundleError(RefusedError):
    """A bundle says that it was made later than now: its source's clock is wrong, or this one."""


class OutOfContactError(RefusedError):
    """A node speaks where the plan says that nobody can hear it."""


class StrangerError(RefusedError):
    """A node that is not in the plan."""


class Gate:
    """Checks by the plan and the clock.

    Args:
        me: this node.
        tolerance_s: how far clocks may be apart.
    """

    def __init__(self, plan: ContactPlan, me: PlanNode, tolerance_s: float) -> None:
        self._plan, self._me = plan, me
        self._tolerance_ns = int(tolerance_s * 1e9)

    def heard_from(self, peer: Eid, now_ns: int) -> str:
        """Return the name of a peer that can be heard now.

        Raises:
            StrangerError, OutOfContactError: as named.
        """
        node = self._node(peer)
        if node is None:
            raise StrangerError(f"{peer} is in no plan here; nothing is taken of it")
        for c in self._plan.contacts:
            if (c.source, c.target) == (node.name, self._me.name):
                end_ns = c.end_utc_ns + c.light_us * 1_000
                if c.start_utc_ns - self._tolerance_ns <= now_ns <= end_ns + self._tolerance_ns:
                    return node.name
        raise OutOfContactError(
            f"{node.name} speaks, and by the plan it cannot be heard now; one of the clocks is off"
        )

    def require_taken(self, bundle: Bundle, now_ns: int) -> None:
        """Refuse a bundle that is too late, too early, or in the wrong country.

        Raises:
            ExpiredError, FutureBundleError, ResidencyError: as named.
        """
        late_ms = -left_ms(bundle, dtn_ms(now_ns))
        if late_ms >= 0:
            raise ExpiredError(f"{bundle.id} expired {late_ms / 1e3:.0f} s ago")
        ahead_ns = utc_ns(bundle.primary.created.dtn_ms) - now_ns
        if ahead_ns > self._tolerance_ns:
            raise FutureBundleError(
                f"{bundle.id} was made {ahead_ns / 1e9:.0f} s from now; set the clocks, or wait"
            )
        allowed = Carriage.of(bundle).lands_in
        if self._me.kind == "ground" and allowed and self._me.country not in allowed:
            raise ResidencyError(
                f"{bundle.id} may land in {', '.join(allowed)}; {self._me.name} stands in "
                f"{self._me.country}"
            )

    def require_reachable(self, target: Eid, lands_in: tuple[str, ...]) -> None:
        """Refuse what could never arrive.

        Raises:
            StrangerError, ResidencyError: as named.
        """
        node = self._node(target)
        if node is None:
            raise StrangerError(f"{target} is of no node in plan {self._plan.name}")
        if node.kind == "ground" and lands_in and node.country not in lands_in:
            raise ResidencyError(
                f"{target} is {node.name} in {node.country}; it may land in {', '.join(lands_in)}"
            )

    def _node(self, eid: Eid) -> PlanNode | None:
        return self._plan.by_number(eid.ssp[0]) if isinstance(eid.ssp, tuple) else None
