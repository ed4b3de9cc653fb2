"""What leaves next, to whom and when: a node's own bookings over the contact plan.

Each bundle is routed once, the urgent first, and keeps its booking until the plan and what happened
part: a contact that ended with the bundle still here, a peer that refused it, or a bundle that is
more urgent than one that was routed before it.

Source: CCSDS 734.3-B-1 section 3.2.8 (forwarding); own work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.orbit.eid import Eid
from fleet.orbit.plan import ContactPlan
from fleet.orbit.routing import LEAST_FRAGMENT_BYTES, Booked, Leg, Route, Router, Wish
from fleet.orbit.store import Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One bundle over one contact."""

    held: Held
    leg: Leg


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A bundle that no route takes whole, and how large its pieces may be, as encoded."""

    held: Held
    size_bytes: int


class Dispatch:
    """Decides; nothing here touches a socket or a disk.

    Args:
        plan: the contact plan.
        me: name of this node.
    """

    def __init__(self, plan: ContactPlan, me: str) -> None:
        self._plan, self._me = plan, me
        self._router = Router(plan)
        self._routes: dict[str, Route | None] = {}
        self._booked = Booked()
        self._lowest = 0
        self.cuts: list[Cut] = []
        """Bundles that must be cut, found by the last look."""

    def forget(self) -> None:
        """Let go of every booking: the next look routes anew."""
        self._routes.clear()
        self._booked = Booked()

    def orders(self, waiting: Sequence[Held], now_ns: int) -> dict[str, list[Order]]:
        """Return what is to leave, by neighbour, the earliest first.

        Args:
            waiting: every bundle to be forwarded, the urgent first; without those on their way.
        """
        here = {held.id for held in waiting}
        if any(self._missed(held.id, now_ns) for held in waiting) or self._overtaken(waiting):
            self.forget()
        gone = set(self._routes) - here
        for id in gone | ({i for i, r in self._routes.items() if r is None} if gone else set()):
            del self._routes[id]
        self.cuts = []
        for held in waiting:
            if held.id not in self._routes:
                self._routes[held.id] = self._route(held, now_ns)
        found: dict[str, list[Order]] = {}
        for held in waiting:
            route = self._routes[held.id]
            if route is not None and route.legs:
                order = Order(held=held, leg=route.legs[0])
                found.setdefault(order.leg.contact.target, []).append(order)
        for orders in found.values():
            orders.sort(key=lambda o: (o.leg.begin_utc_ns, -o.held.priority))
        return found

    def route_of(self, id: str) -> Route | None:
        """Return the route a waiting bundle has."""
        return self._routes.get(id)

    def _missed(self, id: str, now_ns: int) -> bool:
        route = self._routes.get(id)
        return bool(route and route.legs and route.legs[0].contact.end_utc_ns <= now_ns)

    def _overtaken(self, waiting: Sequence[Held]) -> bool:
        """Return whether something new is more urgent than something that was routed."""
        routed = [h.priority for h in waiting if h.id in self._routes]
        new = [h.priority for h in waiting if h.id not in self._routes]
        return bool(routed and new) and max(new) > min(routed)

    def _route(self, held: Held, now_ns: int) -> Route | None:
        target = self._name_of(held.target)
        if target is None:
            return None
        wish = Wish(
            source=self._me,
            target=target,
            ready_utc_ns=now_ns,
            size_bytes=held.size_bytes,
            expires_utc_ns=held.expires_ns,
            lands_in=held.lands_in,
            without={held.came_from} - {"", target},
        )
        route = self._router.route(wish, self._booked)
        if route is not None:
            self._booked.add(route)
            return route
        piece = self._router.fitting(wish, self._booked)
        if piece is not None and LEAST_FRAGMENT_BYTES <= piece[1] < held.size_bytes:
            self.cuts.append(Cut(held=held, size_bytes=piece[1]))
        return None

    def _name_of(self, target: str) -> str | None:
        eid = Eid.parse(target)
        node = self._plan.by_number(eid.ssp[0]) if isinstance(eid.ssp, tuple) else None
        return node.name if node else None
