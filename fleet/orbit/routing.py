"""Which way a bundle goes: the route over the contact plan by which it arrives first.

A contact is taken as a road that serves in order: who was given it first sends first, and what
comes later waits. So an earlier arrival at a node is never worse, and Dijkstra's search over nodes
finds the best route exactly. Bundles are routed one by one, the urgent ones first, and each books
what it will use, so that nothing is promised twice.

Source: CCSDS 734.3-B-1, Schedule-Aware Bundle Routing (2019), sections 2.4 (estimated volume
consumption) and 3.2.6 (route computation). Where SABR keeps residual volumes per priority, a
booking here reserves a contact until a time: it never overbooks, and may leave a gap unused.
"""

import heapq
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final

from fleet.orbit.plan import Contact, ContactPlan, UnknownNodeError
from vehicle.contracts.wire import RefusedError

LEAST_FRAGMENT_BYTES: Final = 4_096
"""Smaller pieces of a bundle cost more in headers than they are worth."""


class NoRouteError(RefusedError):
    """No way over the plan brings a bundle there in time, whole."""


def consumption(size_bytes: int) -> int:
    """Return what a bundle takes of a contact: its size, and 3 % or 100 bytes for the layers below.

    Source: CCSDS 734.3-B-1, section 2.4.3.
    """
    return size_bytes + max(100, size_bytes * 3 // 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A contact as one bundle uses it: last bit sent and last bit heard."""

    contact: Contact
    begin_utc_ns: int
    sent_utc_ns: int
    arrive_utc_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way of one bundle.

    Args:
        legs: in order; empty when it is where it should be.
        arrive_utc_ns: when its last bit is heard at the end.
    """

    legs: tuple[Leg, ...]
    arrive_utc_ns: int

    @property
    def hops(self) -> tuple[str, ...]:
        """Return the nodes after the first."""
        return tuple(leg.contact.target for leg in self.legs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to go where.

    Args:
        size_bytes: of the encoded bundle.
        expires_utc_ns: it must arrive before.
        lands_in: countries of ground stations it may touch; empty: any.
        without: nodes it must not pass.
    """

    source: str
    target: str
    ready_utc_ns: int
    size_bytes: int
    expires_utc_ns: int
    lands_in: Collection[str] = ()
    without: Collection[str] = ()


@dataclass(slots=True)
class Booked:
    """Until when each contact is promised to bundles routed before."""

    until_utc_ns: dict[Contact, int] = field(default_factory=dict)

    def add(self, route: Route) -> None:
        """Promise a route's contacts to it."""
        for leg in route.legs:
            self.until_utc_ns[leg.contact] = leg.sent_utc_ns


class Router:
    """Finds routes over one plan."""

    def __init__(self, plan: ContactPlan) -> None:
        self.plan = plan
        self._nodes = {node.name: node for node in plan.nodes}
        self._from: dict[str, list[Contact]] = {node.name: [] for node in plan.nodes}
        for contact in plan.contacts:
            self._from[contact.source].append(contact)

    def route(self, wish: Wish, booked: Booked | None = None) -> Route | None:
        """Return the route that arrives first, None when none arrives in time whole.

        Equal arrivals: the route of fewer legs.
        """
        for name in (wish.source, wish.target):
            if name not in self._nodes:
                raise UnknownNodeError(f"no node {name!r} in plan {self.plan.name}")
        taken = booked.until_utc_ns if booked else {}
        best: dict[str, tuple[int, int]] = {wish.source: (wish.ready_utc_ns, 0)}
        came: dict[str, tuple[str, Leg]] = {}
        heap = [(wish.ready_utc_ns, 0, wish.source)]
        while heap:
            ready, legs, name = heapq.heappop(heap)
            if best[name] < (ready, legs):
                continue
            if name == wish.target:
                return Route(legs=_trail(came, name), arrive_utc_ns=ready)
            for contact in self._from[name]:
                leg = _leg(contact, ready, wish.size_bytes, taken.get(contact, 0))
                if leg is None or leg.arrive_utc_ns >= wish.expires_utc_ns:
                    continue
                reached = (leg.arrive_utc_ns, legs + 1)
                old = best.get(contact.target)
                if (old is None or reached < old) and self._allowed(contact.target, wish):
                    best[contact.target] = reached
                    came[contact.target] = (name, leg)
                    heapq.heappush(heap, (*reached, contact.target))
        return None

    def fitting(self, wish: Wish, booked: Booked | None = None) -> tuple[Route, int] | None:
        """Return the first route that takes a piece of the bundle, and the piece's size, bytes.

        For a bundle that no route takes whole: the rest is routed after it.
        """
        least = replace(wish, size_bytes=min(wish.size_bytes, LEAST_FRAGMENT_BYTES))
        route = self.route(least, booked)
        if route is None:
            return None
        taken = booked.until_utc_ns if booked else {}
        low, high = least.size_bytes, wish.size_bytes
        while low < high:
            size = (low + high + 1) // 2
            if _along(route, wish, size, taken) is None:
                high = size - 1
            else:
                low = size
        whole = _along(route, wish, low, taken)
        return (whole, low) if whole else None

    def _allowed(self, name: str, wish: Wish) -> bool:
        if name in wish.without:
            return False
        node = self._nodes[name]
        return node.kind != "ground" or not wish.lands_in or node.country in wish.lands_in


def _leg(contact: Contact, ready: int, size_bytes: int, taken: int) -> Leg | None:
    """Return how a contact carries a bundle that is ready then; None when it cannot."""
    begin = max(ready, contact.start_utc_ns, taken)
    if begin >= contact.end_utc_ns:
        return None
    sent = begin + contact.lasts_ns(consumption(size_bytes))
    if sent > contact.end_utc_ns:
        return None
    arrive = sent + contact.light_us * 1_000
    return Leg(contact=contact, begin_utc_ns=begin, sent_utc_ns=sent, arrive_utc_ns=arrive)


def _along(route: Route, wish: Wish, size_bytes: int, taken: dict[Contact, int]) -> Route | None:
    """Return the same way for another size, None when that does not fit."""
    ready, legs = wish.ready_utc_ns, []
    for old in route.legs:
        leg = _leg(old.contact, ready, size_bytes, taken.get(old.contact, 0))
        if leg is None or leg.arrive_utc_ns >= wish.expires_utc_ns:
            return None
        ready = leg.arrive_utc_ns
        legs.append(leg)
    return Route(legs=tuple(legs), arrive_utc_ns=ready)


def _trail(came: dict[str, tuple[str, Leg]], name: str) -> tuple[Leg, ...]:
    legs = []
    while name in came:
        name, leg = came[name]
        legs.append(leg)
    return tuple(reversed(legs))
