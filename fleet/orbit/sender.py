"""How a node hands bundles on: one task for each neighbour, awake while it can be heard.

Source: RFC 9171 section 5.4 (forwarding); CCSDS 734.3-B-1 section 3.2.8.
"""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Final, Protocol

from fleet.orbit.bundle import Bundle, Limits, decode, dtn_ms, encode, forwarded, left_ms
from fleet.orbit.convergence import Tcpcl
from fleet.orbit.dispatch import Cut, Dispatch, Order
from fleet.orbit.eid import Eid
from fleet.orbit.errors import BundleError, HopLimitError, NotFragmentableError
from fleet.orbit.fragment import fragment
from fleet.orbit.mission import MissionClock
from fleet.orbit.node_config import NodeConfig
from fleet.orbit.plan import Contact, ContactPlan
from fleet.orbit.session import Session
from fleet.orbit.status import Event, Reason
from fleet.orbit.store import Held, Store
from fleet.orbit.tcpcl import Refusal
from fleet.orbit.transfers import TransferRefusedError

AGAIN_S: Final = 0.1
"""How soon a peer that did not answer is called again, s of real time."""

REST_NS: Final = 5 * 10**9
"""How long a bundle that a peer refused is not offered again, of mission time."""


class Teller(Protocol):
    """Who makes status reports."""

    def __call__(self, bundle: Bundle, event: Event, reason: Reason = Reason.NONE) -> None:
        """Tell whom a bundle names what became of it, if it asks."""


class Sender:
    """What leaves a node.

    Args:
        config, plan, store, clock, tcpcl: of the node.
        tell: makes status reports.
    """

    def __init__(
        self,
        config: NodeConfig,
        plan: ContactPlan,
        store: Store,
        clock: MissionClock,
        tcpcl: Tcpcl,
        tell: Teller,
    ) -> None:
        self._config, self._plan, self._store = config, plan, store
        self._clock, self._tcpcl, self._tell = clock, tcpcl, tell
        self._me = Eid.parse(plan.node(config.name).eid)
        self._limits = Limits(size_bytes=config.max_bundle_bytes)
        self._dispatch = Dispatch(plan, config.name)
        self._orders: dict[str, list[Order]] = {}
        self._flying: set[str] = set()
        self._resting: dict[str, int] = {}
        self._bell = asyncio.Event()

    def neighbours(self) -> list[str]:
        """Return whom the plan lets this node send to, and whose address is known."""
        near = {c.target for c in self._plan.contacts if c.source == self._config.name}
        return sorted(near & set(self._config.peers))

    def look(self) -> None:
        """Route what waits anew where something changed, and wake who waits for that."""
        now = self._clock.utc_ns()
        self._resting = {i: t for i, t in self._resting.items() if t > now}
        away = self._flying | set(self._resting)
        for _ in range(2):
            waiting = [h for h in self._store.held("forward") if h.id not in away]
            self._orders = self._dispatch.orders(waiting, now)
            made = [self._cut(cut, now) for cut in self._dispatch.cuts]
            if not any(made):
                break
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()

    def rung(self) -> Awaitable[bool]:
        """Wait until something changed."""
        return self._bell.wait()

    async def tend(self, neighbour: str) -> None:
        """Send a neighbour what is for it, whenever it can be heard; never returns."""
        while True:
            order = self._next(neighbour)
            if order is None:
                await self.rung()
            elif order.leg.begin_utc_ns > self._clock.utc_ns():
                await self._until(order.leg.begin_utc_ns)
            elif order.leg.contact.end_utc_ns <= self._clock.utc_ns():
                self.look()
                await asyncio.sleep(0)
            else:
                try:
                    await self._in_contact(neighbour, order.leg.contact)
                except (BundleError, OSError) as error:
                    self._store.count(f"link/{type(error).__name__}", self._clock.utc_ns())
                    await asyncio.sleep(AGAIN_S)
                    self.look()

    async def _in_contact(self, neighbour: str, contact: Contact) -> None:
        """Keep one session while something is to go over one contact."""
        host, _, port = self._config.peers[neighbour].rpartition(":")
        expect = Eid.parse(self._plan.node(neighbour).eid)
        async with self._tcpcl.connect(host, int(port), expect=expect) as session:
            while True:
                order, now = self._next(neighbour), self._clock.utc_ns()
                if order is None or order.leg.contact != contact or now >= contact.end_utc_ns:
                    return
                if order.leg.begin_utc_ns > now:
                    await self._until(order.leg.begin_utc_ns)
                else:
                    await self._send(session, neighbour, order)

    async def _send(self, session: Session, neighbour: str, order: Order) -> None:
        """Send one bundle at the pace of the contact; it is let go of when the peer has it."""
        held, contact = order.held, order.leg.contact
        self._flying.add(held.id)
        try:
            lasts = order.leg.sent_utc_ns - order.leg.begin_utc_ns
            end = self._clock.utc_ns() + lasts
            if end > contact.end_utc_ns + int(self._config.tolerance_s * 1e9):
                self._rest(held, contact.end_utc_ns)
                return
            await asyncio.sleep(self._clock.wall_s(end + contact.light_us * 1_000))
            data = self._store.data(held.id)
            if data:
                await self._hand_over(session, neighbour, held, decode(data, self._limits))
        finally:
            self._flying.discard(held.id)
            self.look()

    async def _hand_over(
        self, session: Session, neighbour: str, held: Held, bundle: Bundle
    ) -> None:
        now = self._clock.utc_ns()
        if left_ms(bundle, dtn_ms(now)) <= 0:
            return
        try:
            onward = forwarded(bundle, self._me, max(0, now - held.received_ns) // 10**6)
        except HopLimitError as error:
            self._store.count("refused/HopLimitError", now, held.id, str(error))
            self._store.done(held.id, "dropped", now)
            self._tell(bundle, Event.DELETED, Reason.HOP_LIMIT_EXCEEDED)
            return
        try:
            await session.send(encode(onward))
        except TransferRefusedError as error:
            why = Refusal(error.reason).name if error.reason in set(Refusal) else "UNKNOWN"
            self._store.count("refused-by-peer", now, held.id, f"{neighbour}: {why}")
            self._rest(held, now + REST_NS)
            return
        self._store.done(held.id, "forwarded", self._clock.utc_ns(), neighbour)
        self._tell(bundle, Event.FORWARDED)

    def _rest(self, held: Held, until_ns: int) -> None:
        self._resting[held.id] = until_ns
        self._dispatch.forget()

    def _next(self, neighbour: str) -> Order | None:
        orders = self._orders.get(neighbour)
        return orders[0] if orders else None

    def _cut(self, cut: Cut, now: int) -> bool:
        """Put pieces in the place of a bundle that no contact takes whole."""
        try:
            pieces = fragment(decode(self._store.data(cut.held.id), self._limits), cut.size_bytes)
        except NotFragmentableError:
            return False
        if len(pieces) > 1:
            self._store.cut(cut.held, pieces, now)
        return len(pieces) > 1

    async def _until(self, when_ns: int) -> None:
        """Wait until a mission's time, or until something changed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.rung(), self._clock.wall_s(when_ns))
