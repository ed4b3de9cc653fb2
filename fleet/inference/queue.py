"""Whose turn it is: earliest deadline first, and nobody let in who would come too late.

Who asks is admitted only when the work predicted leaves its answer, and everybody's behind it, in
time; so whoever was let in is answered unless a model takes longer than it said. Requests without a
deadline come after all that have one.

Source: Liu and Layland, Scheduling Algorithms for Multiprogramming (1973), section 7 (deadline
driven); Gujarati et al., Clockwork (2020), admission by predicted finish and early drop.
"""

import asyncio
import bisect
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from fleet.inference.refusals import DroppedError, QueueFullError, StoppingError, WontFinishError
from vehicle.clock import Clock

NEVER: Final = math.inf
"""Deadline of a request that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many may wait.

    Args:
        waiting: in all.
        of_tenant: of one tenant; a share, so that a flood of one leaves room for the others.
        undated: without a deadline: nothing else ever sends them away.
    """

    waiting: int = 256
    of_tenant: int = 64
    undated: int = 16


@dataclass(slots=True, order=True)
class Job:
    """One request that waits or runs.

    Args:
        deadline_ns: absolute, monotonic; NEVER for none.
        order: of coming; earlier goes first among equals.
        cost_ns: how long the model says it will take.
    """

    deadline_ns: float
    order: int
    cost_ns: int = field(compare=False)
    tenant: str = field(compare=False)
    turn: "asyncio.Future[None] | None" = field(compare=False, default=None)
    began_ns: int = field(compare=False, default=0)


def first_late(waiting: list[Job], newcomer: Job, free_ns: float, at_once: int) -> Job | None:
    """Return the first who would be late if the newcomer were let in; None when nobody would.

    Args:
        waiting: by deadline, the newcomer not among them.
        free_ns: monotonic, when all that runs now is done, shared out over `at_once`.
        at_once: how many run side by side.
    """
    at = bisect.bisect(waiting, newcomer)
    done_ns = free_ns + sum(job.cost_ns for job in waiting[:at]) / at_once
    for job in (newcomer, *waiting[at:]):
        done_ns += job.cost_ns / at_once
        if done_ns > job.deadline_ns:
            return job
    return None


class Turns:
    """The turns of one site. Not for threads: one event loop uses it.

    Args:
        at_once: how many models run side by side: one per free core, or as many as a cluster takes.
    """

    def __init__(self, clock: Clock, at_once: int = 1, limits: Limits | None = None) -> None:
        self._clock, self._at_once = clock, at_once
        self._limits = limits or Limits()
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._of_tenant: Counter[str] = Counter()
        self._came = 0
        self._open = True
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self, tenant: str, deadline_ns: float, cost_us: int) -> AsyncIterator[Job]:
        """Wait for one's turn, and have it until the block ends.

        Raises:
            StoppingError: the site closes.
            QueueFullError: too many wait, of all or of this tenant.
            WontFinishError: it would be late, or make somebody late who was let in.
            DroppedError: while it waited, its deadline came too near.
        """
        self._came += 1
        job = Job(deadline_ns, self._came, cost_us * 1_000, tenant)
        self._admit(job)
        if self._running and len(self._running) >= self._at_once:
            await self._wait(job)
        else:
            self._begin(job)
        try:
            yield job
        finally:
            self._running.remove(job)
            self._next()

    async def close(self, grace_s: float) -> None:
        """Let nobody in any more, and wait for those who are; refuse who still waits after it."""
        self._open = False
        try:
            await asyncio.wait_for(self._idle.wait(), grace_s)
        except TimeoutError:
            for job in self._waiting:
                self._refuse(job, StoppingError("the site closed before its turn came"))
            self._waiting.clear()

    def _admit(self, job: Job) -> None:
        now_ns = self._clock.mono_ns()
        if not self._open:
            raise StoppingError("the site is closing; ask another")
        limits, undated = self._limits, job.deadline_ns == NEVER
        if len(self._waiting) >= limits.waiting:
            raise QueueFullError(f"{limits.waiting} wait already")
        if self._of_tenant[job.tenant] >= limits.of_tenant:
            raise QueueFullError(f"{limits.of_tenant} of tenant {job.tenant!r} wait already")
        if undated and sum(j.deadline_ns == NEVER for j in self._waiting) >= limits.undated:
            raise QueueFullError(f"{limits.undated} without a deadline wait already")
        left_ns = sum(max(0, j.began_ns + j.cost_ns - now_ns) for j in self._running)
        late = first_late(self._waiting, job, now_ns + left_ns / self._at_once, self._at_once)
        if late is not None:
            whose = "its own answer" if late is job else "another's that was let in"
            raise WontFinishError(
                f"{len(self._waiting)} wait, it takes {job.cost_ns / 1e6:.1f} ms and has "
                f"{(job.deadline_ns - now_ns) / 1e6:.1f} ms: {whose} would come too late"
            )

    async def _wait(self, job: Job) -> None:
        job.turn = asyncio.get_running_loop().create_future()
        bisect.insort(self._waiting, job)
        self._of_tenant[job.tenant] += 1
        self._idle.clear()
        try:
            await job.turn
        except asyncio.CancelledError:
            if job in self._running:  # its turn had come in the same moment
                self._running.remove(job)
                self._next()
            else:
                self._waiting.remove(job)
            raise
        finally:
            self._of_tenant[job.tenant] -= 1

    def _begin(self, job: Job) -> None:
        job.began_ns = self._clock.mono_ns()
        self._running.append(job)
        self._idle.clear()

    def _next(self) -> None:
        """Give the turn to the earliest deadline that can still be met."""
        while self._waiting and len(self._running) < self._at_once:
            job = self._waiting.pop(0)
            short_ns = self._clock.mono_ns() + job.cost_ns - job.deadline_ns
            if short_ns > 0:
                self._refuse(job, DroppedError(f"{short_ns / 1e6:.1f} ms too late to begin"))
            elif job.turn is not None and not job.turn.done():
                self._begin(job)
                job.turn.set_result(None)
        if not self._running and not self._waiting:
            self._idle.set()

    def _refuse(self, job: Job, error: Exception) -> None:
        if job.turn is not None and not job.turn.done():
            job.turn.set_exception(error)
