"""One node of the relay: takes bundles, keeps them, carries them, hands them on when it can.

What it has taken it owes: a bundle leaves the store when the next hop says that it has kept all of
it, when the application here says so, or when it expires; nothing else. So a node that is killed
and started again goes on where it was.

Source: RFC 9171 section 5 (bundle processing).
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fleet.orbit.blocks import BundleFlags
from fleet.orbit.bundle import Bundle, Limits, create, decode, heed_unknown
from fleet.orbit.carriage import UNDERSTOOD, Carriage
from fleet.orbit.convergence import Tcpcl
from fleet.orbit.door import Door, Letter
from fleet.orbit.eid import Eid
from fleet.orbit.errors import BundleError, SecurityError
from fleet.orbit.fragment import gaps, reassemble
from fleet.orbit.gate import FutureBundleError, Gate, OutOfContactError
from fleet.orbit.keyring import Keyring
from fleet.orbit.mission import MissionClock
from fleet.orbit.node_config import NodeConfig
from fleet.orbit.node_identity import NodeTls
from fleet.orbit.plan import ContactPlan
from fleet.orbit.sender import Sender
from fleet.orbit.status import Event, Reason, report_on
from fleet.orbit.store import Held, State, Store, StoreFullError
from fleet.orbit.tcpcl import Refusal
from fleet.orbit.transfers import SessionLimits, TransferRefusedError
from vehicle.contracts.wire import RefusedError

HOUSEKEEPING_S: Final = 0.25
"""How often what expired is looked for, s of real time."""


class Node:
    """A node that runs until its task is cancelled.

    Args:
        config: what it is.
        clock: mission time; None: as the config says.
    """

    def __init__(self, config: NodeConfig, clock: MissionClock | None = None) -> None:
        course = Path(config.course) if config.course else None
        plan = ContactPlan.read(Path(config.plan))
        me = plan.node(config.name)
        self.eid = Eid.parse(me.eid)
        self.clock = clock or MissionClock(path=course, offset_s=config.clock_offset_s)
        self.store = Store(Path(config.store), config.quota_bytes)
        self._config = config
        self._limits = Limits(size_bytes=config.max_bundle_bytes)
        self._keyring = Keyring.read(Path(config.keys) if config.keys else None)
        self._gate = Gate(plan, me, config.tolerance_s)
        self._tcpcl = Tcpcl(
            self.eid,
            self._on_bundle,
            tls=NodeTls.at(Path(config.tls)) if config.tls else None,
            limits=SessionLimits(transfer_bytes=config.max_bundle_bytes),
        )
        self._sender = Sender(config, plan, self.store, self.clock, self._tcpcl, self._tell)
        self._handed_out: set[str] = set()
        self._door = Door(self, config.max_bundle_bytes)
        self._door.on_refused = self._count_refusal

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled; `ready` is called once both sockets are open."""
        host, _, port = self._config.listen.rpartition(":")
        async with self._tcpcl.listen(host, int(port)):
            await self._door.open(self._config.door)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._keep_house())
                    for name in self._sender.neighbours():
                        group.create_task(self._sender.tend(name))
                    ready()
            finally:
                await self._door.close()
                self.store.close()

    def submit(self, letter: Letter) -> str:
        """Take a letter into the store and return its bundle's name.

        Raises:
            ResidencyError, StrangerError: it can never arrive.
            StoreFullError: there is no room.
        """
        self._gate.require_reachable(letter.target, letter.lands_in)
        now = self.clock.utc_ns()
        bundle = create(
            letter.source,
            letter.target,
            letter.payload,
            created=self.store.stamp(now),
            lifetime_ms=letter.lifetime_ms,
            report_to=letter.report_to,
            flags=letter.flags,
        )
        carriage = Carriage(priority=letter.priority, lands_in=letter.lands_in)
        bundle = self._keyring.protect(carriage.onto(bundle))
        self.store.put(bundle, self._state(letter.target), now)
        self._sender.look()
        return bundle.id

    async def next_for(self, eid: Eid) -> tuple[str, Bundle, bool]:
        """Return the next bundle for an endpoint, in the clear, when there is one."""
        while True:
            for held in self.store.held("deliver"):
                if held.target == str(eid) and held.id not in self._handed_out:
                    self._handed_out.add(held.id)
                    bundle = self._bundle(held)
                    if not held.came_from:
                        return held.id, bundle, True
                    return held.id, *self._keyring.opened(bundle)
            await self._sender.rung()

    def taken(self, id: str) -> None:
        """Let go of a bundle that an application has."""
        data = self.store.data(id)
        self._handed_out.discard(id)
        if data:
            self.store.done(id, "delivered", self.clock.utc_ns())
            self._tell(decode(data, self._limits), Event.DELIVERED)

    def given_back(self, id: str) -> None:
        """Hand a bundle out again: the application that had it is gone."""
        self._handed_out.discard(id)
        self._sender.look()

    async def _on_bundle(self, data: bytes, peer: Eid) -> None:
        """Keep a bundle of a peer for good, or raise why not."""
        now = self.clock.utc_ns()
        try:
            came_from = self._gate.heard_from(peer, now)
            bundle = decode(data, self._limits)
            self._gate.require_taken(bundle, now)
            known, _ = heed_unknown(bundle, UNDERSTOOD)
            if known is None:
                raise BundleError(f"{bundle.id}: a block that is not known here forbids it")
            self._arrived(known, came_from, now)
        except StoreFullError as error:
            self._count_refusal(error)
            raise TransferRefusedError(str(error), Refusal.NO_RESOURCES) from error
        except (OutOfContactError, FutureBundleError) as error:
            self._count_refusal(error)
            raise TransferRefusedError(str(error), Refusal.RETRANSMIT) from error
        except RefusedError as error:
            self._count_refusal(error)
            raise
        self._sender.look()

    def _arrived(self, bundle: Bundle, came_from: str, now: int) -> None:
        state = self._state(bundle.primary.destination)
        if state == "deliver" and bundle.primary.place is not None:
            if self.store.put(bundle, "gather", now, came_from):
                self._gather(bundle.whole_id, came_from, now)
            return
        if state == "deliver" and not self._proven(bundle):
            return
        if self.store.put(bundle, state, now, came_from):
            self._tell(bundle, Event.RECEIVED)

    def _gather(self, whole: str, came_from: str, now: int) -> None:
        """Make one bundle of its fragments once all are here."""
        held = self.store.held("gather", whole)
        pieces = [self._bundle(h) for h in held]
        try:
            if gaps(pieces):
                return
            bundle = reassemble(pieces)
        except BundleError as error:
            self._count_refusal(error, whole)
            bundle = None
        if bundle is not None and self._proven(bundle):
            self.store.join(bundle, now, came_from)
            self._tell(bundle, Event.RECEIVED)
        else:
            for piece in held:
                self.store.done(piece.id, "dropped", now)

    def _proven(self, bundle: Bundle) -> bool:
        """Return whether a bundle for this node is what its source sent; a forged one is dropped:
        whoever brought it cannot know."""
        try:
            self._keyring.opened(bundle)
        except SecurityError as error:
            self._count_refusal(error, bundle.id)
            self._tell(bundle, Event.DELETED, Reason.SECURITY_FAILED)
            return False
        return True

    async def _keep_house(self) -> None:
        """Expire, and look again at whatever time has changed."""
        while True:
            for held, data in self.store.expire(self.clock.utc_ns()):
                if held.state == "forward":
                    self._tell(decode(data, self._limits), Event.DELETED, Reason.LIFETIME_EXPIRED)
            self._sender.look()
            await asyncio.sleep(HOUSEKEEPING_S)

    def _tell(self, bundle: Bundle, event: Event, reason: Reason = Reason.NONE) -> None:
        """Tell whom a bundle names what became of it, if it asks."""
        if bundle.primary.flags & BundleFlags.ADMINISTRATIVE:
            return
        now = self.clock.utc_ns()
        report = report_on(bundle, event, self.eid, created=self.store.stamp(now), reason=reason)
        if report is not None:
            target = report.primary.destination
            with contextlib.suppress(StoreFullError):
                self.store.put(self._keyring.protect(report), self._state(target), now)

    def _state(self, target: Eid) -> State:
        return "deliver" if target.node == self.eid else "forward"

    def _bundle(self, held: Held) -> Bundle:
        return decode(self.store.data(held.id), self._limits)

    def _count_refusal(self, error: RefusedError, id: str = "") -> None:
        name = f"refused/{type(error).__name__}"
        self.store.count(name, self.clock.utc_ns(), id, str(error)[:300])
