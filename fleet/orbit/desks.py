"""Who answers at the relay's services: home on the ground, and a computer on board.

A desk takes what its node hands out, does what is to be done once, and says what is to be sent
back. When the node under it dies it knocks again until the node is back.

Source: own work.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from fleet.inference.desk import Desk
from fleet.inference.tenants import Caller
from fleet.orbit.agent import Agent, NoDoorError, Received
from fleet.orbit.eid import Eid
from fleet.orbit.power import Board
from fleet.orbit.services import (
    ANSWERS,
    UnprovenError,
    answer,
    land,
    read_question,
    refusal,
)
from fleet.registry import Registry
from fleet.store import LocalStore
from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.wire import RefusedError

AGAIN_S: Final = 0.1
"""How soon a node that is away is knocked at again, s of real time."""

RUN_S: Final = 60.0
"""Longest that a desk works at one bundle."""

LEAST_LIFE_S: Final = 600.0
"""A refusal is worth knowing some time after the deadline too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a desk sends: to an endpoint, for so long."""

    target: str
    payload: bytes
    lifetime_s: float
    priority: int = 2


Take = Callable[[Received], Coroutine[Any, Any, Sequence[Reply]]]
Runner = Callable[[Coroutine[Any, Any, Sequence[Reply]]], Sequence[Reply]]


def car_of(received: Received, cars: dict[int, str]) -> str:
    """Return which car is proven to have sent something.

    Raises:
        UnprovenError: none is.
    """
    ssp = Eid.parse(received.source).ssp
    car = cars.get(ssp[0]) if isinstance(ssp, tuple) else None
    if not received.proven or car is None:
        raise UnprovenError(f"{received.id}: nothing proves that a car of this home sent it")
    return car


class ClipDesk:
    """Lands clips at home.

    Args:
        cars: number of a car's node -> its name.
    """

    def __init__(self, home: Home, cars: dict[int, str]) -> None:
        self._registry, self._store, self._cars = Registry(home), LocalStore(home), cars
        self.landed: list[str] = []
        self.again = 0

    async def take(self, received: Received) -> Sequence[Reply]:
        """Land one clip; one that had landed before has no effect."""
        car = car_of(received, self._cars)
        known = self._registry.cars().get(car)
        if known is None or known.revoked:
            raise UnprovenError(f"car {car!r} is not enrolled here; roadloop fleet enrol {car}")
        if land(self._store, car, received.payload):
            self.landed.append(car)
        else:
            self.again += 1
        return ()


class QuestionDesk:
    """Answers questions at a site: on the ground always, on board while there is power for it.

    Args:
        desk: the same that serves the open protocol.
        tenant: whose cars these are.
        cars: number of a car's node -> its name.
        board: of the satellite; None on the ground.
        busy_s: how long the computer works on one question.
    """

    def __init__(
        self,
        desk: Desk,
        tenant: str,
        cars: dict[int, str],
        clock: Clock,
        *,
        board: Board | None = None,
        busy_s: float = 60.0,
    ) -> None:
        self._desk, self._tenant, self._cars, self._clock = desk, tenant, cars, clock
        self._board, self._busy_s = board, busy_s
        self._known: dict[str, Sequence[Reply]] = {}

    async def take(self, received: Received) -> Sequence[Reply]:
        """Return the answer to one question; to the same question, the same."""
        if received.id not in self._known:
            self._known[received.id] = (await self._answer(received),)
        return self._known[received.id]

    async def _answer(self, received: Received) -> Reply:
        car = car_of(received, self._cars)
        call = read_question(received.payload)
        request = wire.from_bytes(InferenceRequest, (call.parameter or "").encode(), strict=False)
        left_s = (request.deadline_utc_ns - self._clock.utc_ns()) / 1e9
        try:
            if self._board is not None:
                self._board.admit(self._clock.utc_ns(), self._busy_s)
            caller = Caller(tenant=self._tenant, car_id=car)
            payload = answer(await self._desk.answer(caller, call))
        except RefusedError as error:
            payload = refusal(request.request_id, error)
        target = str(Eid.parse(received.source).at(ANSWERS))
        return Reply(target=target, payload=payload, lifetime_s=max(left_s, LEAST_LIFE_S))


@contextmanager
def runner() -> Iterator[Runner]:
    """Run what desks do in one event loop, in a thread, for the length of a block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, Sequence[Reply]]) -> Sequence[Reply]:
        return asyncio.run_coroutine_threadsafe(work, loop).result(RUN_S)

    try:
        yield run
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


class Clerk:
    """Serves one service of one node in a thread, through every restart of the node.

    Args:
        door: of the node.
        take: of a desk, or of a car.
        run: runs what `take` returns to its end.
    """

    def __init__(self, door: str, service: int, take: Take, run: Runner) -> None:
        self._door, self._service, self._take, self._run = door, service, take, run
        self._over = threading.Event()
        self.refused: list[str] = []
        self.taken: list[str] = []
        """Names of what had its effect here; a name stands here once for each time."""
        self.again = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._over.set()
        self._thread.join(10)

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                with Agent(self._door, self._service, subscribe=True) as agent:
                    while not self._over.is_set():
                        received = agent.receive(timeout_s=0.2)
                        if received is not None:
                            self._do(received)
                            agent.taken()
            except (NoDoorError, OSError, RefusedError):
                self._over.wait(AGAIN_S)

    def _do(self, received: Received) -> None:
        if received.id in self.taken:
            self.again += 1
            return
        try:
            replies = self._run(self._take(received))
        except RefusedError as error:
            self.refused.append(f"{type(error).__name__}: {error}")
            replies = ()
        for reply in replies:
            with Agent(self._door, self._service) as agent:
                agent.send(
                    reply.target,
                    reply.payload,
                    lifetime_s=reply.lifetime_s,
                    priority=reply.priority,
                )
        self.taken.append(received.id)
