"""Places that answer alike, asked as one: health, failover inside the law, hedges inside budget.

A request goes to the best region that policy allows: the quickest, or the one that a router finds
of most worth. When that region fails, or is slower than it
is in nineteen of twenty cases, another one is asked as well, if deadline and byte budget bear it;
the first answer counts and the other call is taken back. Each region sees a request once, and a
request that comes twice is answered once.

Source: Dean and Barroso, The Tail at Scale (2013): hedged requests.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence, Sized
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Final, Generic, TypeVar

from fleet.inference.breaker import NS, Breaker
from fleet.inference.client import SiteError, SiteRefusedError, UnreachableSiteError
from fleet.inference.policy import ANONYMOUS, Policy, Site
from fleet.inference.refusals import (
    LateAnswerError,
    LateRequestError,
    PolicyRefusedError,
    SiteRefusalError,
)
from fleet.inference.routed import Router, StayLocalError
from fleet.inference.tenants import NOBODY, Tenants
from vehicle.clock import Clock
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.wire import require

P = TypeVar("P", bound=Sized)
T = TypeVar("T")

NO_HURRY_S: Final = 30.0
"""How long a request without a deadline may take."""

PROBE_EVERY_S: Final = 0.25
PROBE_S: Final = 0.25
HEDGE_QUANTILE: Final = 0.95
HEDGE_FIRST_S: Final = 0.1
"""When to hedge before there are times to go by."""

REMEMBERED: Final = 100

ELSEWHERE: Final = frozenset(
    ("StoppingError", "QueueFullError", "WontFinishError", "DroppedError", "ModelFailedError")
)
"""Refusals that are of one region's state: another one may well answer."""


class NoRegionError(SiteRefusalError):
    """No region that policy allows is up, or can still answer in time."""

    GRPC: ClassVar[str] = "UNAVAILABLE"
    HTTP: ClassVar[int] = 503


class RegionDiedError(SiteRefusalError):
    """The region that worked on a request went away, and no other can take over."""

    GRPC: ClassVar[str] = "UNAVAILABLE"
    HTTP: ClassVar[int] = 502


@dataclass(slots=True, kw_only=True)
class Region(Generic[P, T]):
    """One place, and what is known of it.

    Args:
        site: as policy sees it.
        send: (payload, seconds left) -> answer; raises SiteError; cancelling takes it back.
        probe: whether it is up; raises or returns False when it is not.
    """

    site: Site
    send: Callable[[P, float], Awaitable[T]]
    probe: Callable[[], Awaitable[bool]]
    breaker: Breaker = field(default_factory=Breaker)
    up: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    took_s: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def quantile_s(self, share: float) -> float:
        """Return what a share of the last answers took at most; 0 when nothing is known."""
        times = sorted(self.took_s)
        return times[min(int(share * len(times)), len(times) - 1)] if times else 0.0


@dataclass(slots=True)
class _Asked(Generic[P, T]):
    """One request on its way, in all regions it was sent to."""

    payload: P
    deadline_ns: int
    budget_bytes: int
    answer_bytes: int
    calls: dict[asyncio.Task[T], Region[P, T]] = field(default_factory=dict)
    left: list[Region[P, T]] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    sent_bytes: int = 0


class Regions(Generic[P, T]):
    """The regions of one service.

    Args:
        regions: in the order of preference while nothing is known of their times.
        policy: None: each region may answer everything.
        router: who ranks what policy allows, where a request says what it wants; None: by time.
        size_of: how many bytes an answer has, for byte budgets.
    """

    def __init__(
        self,
        regions: Sequence[Region[P, T]],
        *,
        clock: Clock,
        policy: Policy | None = None,
        router: Router | None = None,
        size_of: Callable[[T], int] = lambda _: 0,
    ) -> None:
        require(router is None or policy is not None, "a router needs a policy")
        require(len({r.site.name for r in regions}) == len(regions) > 0, "regions need names")
        self.regions = tuple(regions)
        self.counts: Counter[str] = Counter()
        self.clock, self._policy, self._size_of = clock, policy, size_of
        self._router = router
        if router is not None:
            for region in regions:
                region.send = router.learning(region.site.name, region.send)
        self._answer_bytes = 0
        self._seen = Tenants((), clock)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Probe all regions for the length of a block."""
        probes = [asyncio.create_task(self._watch(region)) for region in self.regions]
        try:
            yield
        finally:
            for task in probes:
                task.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    async def ask(
        self, payload: P, request: InferenceRequest | None, timeout_s: float | None = None
    ) -> T:
        """Return one region's answer.

        Args:
            payload: what every region is sent alike.
            request: what policy, deadline and budget go by; None: the open protocol alone.
            timeout_s: of whoever asks, beside the deadline.
        Raises:
            PolicyRefusedError, StayLocalError, NoRegionError, RegionDiedError, LateRequestError,
            LateAnswerError, ReplayedRequestError, SiteRefusedError: as named.
        """
        left_s, allowed, why = self.admit(request, len(payload), timeout_s)
        asked = _Asked[P, T](
            payload,
            self.clock.mono_ns() + int(left_s * NS),
            request.size_budget_bytes if request else 0,
            self._answer_bytes,
            left=allowed,
            why=why,
        )
        try:
            async with asyncio.timeout(left_s):
                answer = await self._race(asked)
        except TimeoutError:
            late = ", ".join(r.site.name for r in asked.calls.values())
            self._blame_late(asked)
            self.counts["late"] += 1
            raise LateAnswerError(
                f"{late or 'no region'} did not answer in {left_s:.3f} s"
            ) from None
        finally:
            await self._take_back(asked)
        self.counts["answered"] += 1
        self._answer_bytes = max(self._size_of(answer), self._answer_bytes * 7 // 8)
        return answer

    def admit(
        self, request: InferenceRequest | None, size_bytes: int, timeout_s: float | None = None
    ) -> tuple[float, list[Region[P, T]], list[str]]:
        """Return seconds left, the regions that may answer, best first, and why others may not.

        Raises:
            LateRequestError, PolicyRefusedError, StayLocalError, ReplayedRequestError: as named.
        """
        left_s = NO_HURRY_S if timeout_s is None else timeout_s
        if request is not None:
            by_deadline_s = (request.deadline_utc_ns - self.clock.utc_ns()) / NS
            if by_deadline_s <= 0.0:
                raise LateRequestError(f"the deadline passed {-by_deadline_s:.3f} s ago")
            left_s = min(left_s, by_deadline_s)
        allowed, why = self._allowed(request, size_bytes)
        if request is not None:
            self._seen.remember(NOBODY, request.request_id, request.deadline_utc_ns)
        return left_s, allowed, why

    def _allowed(
        self, request: InferenceRequest | None, size_bytes: int
    ) -> tuple[list[Region[P, T]], list[str]]:
        if self._policy is None:
            return self._by_time(self.regions), []
        tenant = request.tenant if request else ANONYMOUS
        sites = [r.site for r in self.regions]
        decisions = self._policy.decide_many(request, sites, tenant)
        allowed, why = list[Region[P, T]](), list[str]()
        for region, decision in zip(self.regions, decisions, strict=True):
            if decision.allowed:
                allowed.append(region)
            else:
                region.counts["forbidden"] += 1
                why.append(f"{decision.name}: {'; '.join(decision.reasons)}")
        if not allowed:
            self.counts["forbidden"] += 1
            raise PolicyRefusedError("; ".join(why))
        if self._router is None or request is None:
            return self._by_time(allowed), why
        now_ns = self.clock.mono_ns()
        away = [r.site.name for r in allowed if not (r.up and r.breaker.allows(now_ns))]
        by_name = {site.name: d for site, d in zip(sites, decisions, strict=True)}
        try:
            best = self._router.order(request, size_bytes, by_name, frozenset(away))
        except StayLocalError:
            self.counts["stayed local"] += 1
            raise
        return [r for name in best for r in allowed if r.site.name == name], why

    @staticmethod
    def _by_time(regions: Sequence[Region[P, T]]) -> list[Region[P, T]]:
        return sorted(regions, key=lambda r: (not r.up, r.quantile_s(0.5)))

    async def _race(self, asked: _Asked[P, T]) -> T:
        """Ask until somebody has answered or nobody is left to ask."""
        self._next(asked, hedge=False)
        while asked.calls:
            newest = next(reversed(asked.calls.values()))
            wait_s = (
                max(newest.quantile_s(HEDGE_QUANTILE), 1e-3) if newest.took_s else HEDGE_FIRST_S
            )
            done, _ = await asyncio.wait(
                asked.calls, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done and not self._next(asked, hedge=True):
                done, _ = await asyncio.wait(asked.calls, return_when=asyncio.FIRST_COMPLETED)
            for call in done:
                region = asked.calls.pop(call)
                error = call.exception()
                if error is None:
                    return call.result()
                self._lost(asked, region, error)
            if not asked.calls:
                self._next(asked, hedge=False)
        self.counts["refused"] += 1
        kind = RegionDiedError if asked.sent_bytes else NoRegionError
        raise kind("; ".join(asked.why) or "no region is left")

    def _next(self, asked: _Asked[P, T], *, hedge: bool) -> bool:
        """Ask the next region, if there is one and time and budget bear it."""
        now_ns = self.clock.mono_ns()
        left_s = (asked.deadline_ns - now_ns) / NS
        while asked.left:
            region = asked.left[0]
            name, usual_s = region.site.name, region.quantile_s(0.5)
            size = asked.sent_bytes + len(asked.payload) + asked.answer_bytes
            if asked.sent_bytes and 0 < asked.budget_bytes < size:
                if not hedge:
                    asked.why.append(f"{name} is over the budget of {asked.budget_bytes:,} bytes")
                    asked.left.clear()
                return False
            if hedge and (usual_s > left_s or not region.up):
                return False
            asked.left.pop(0)
            if not region.breaker.allows(now_ns):
                asked.why.append(f"{name} failed lately")
                continue
            if usual_s > left_s:
                asked.why.append(f"{name} needs {usual_s:.3f} s of {left_s:.3f} s that are left")
                continue
            region.breaker.asked()
            region.counts["hedged" if hedge else "asked"] += 1
            asked.sent_bytes += len(asked.payload)
            asked.calls[asyncio.create_task(self._call(region, asked.payload, left_s))] = region
            return True
        return False

    async def _call(self, region: Region[P, T], payload: P, left_s: float) -> T:
        began_ns = self.clock.mono_ns()
        answer = await region.send(payload, left_s)
        region.took_s.append((self.clock.mono_ns() - began_ns) / NS)
        region.breaker.answered()
        region.counts["answered"] += 1
        return answer

    def _lost(self, asked: _Asked[P, T], region: Region[P, T], error: BaseException) -> None:
        """Note why a region gave no answer; what no other region would answer is raised."""
        asked.why.append(f"{region.site.name}: {error}")
        if isinstance(error, UnreachableSiteError):
            region.breaker.failed(self.clock.mono_ns())
            region.counts["failed"] += 1
            return
        region.breaker.answered()  # it said no: it is there
        if not isinstance(error, SiteRefusedError) or error.name not in ELSEWHERE:
            self.counts["refused"] += 1
            raise error
        region.counts["busy"] += 1

    def _blame_late(self, asked: _Asked[P, T]) -> None:
        for region in asked.calls.values():
            region.breaker.failed(self.clock.mono_ns())
            region.counts["late"] += 1

    async def _take_back(self, asked: _Asked[P, T]) -> None:
        """Cancel what is still on its way: its answer is not wanted any more."""
        for call, region in asked.calls.items():
            call.cancel()
            region.breaker.withdrawn()
            region.counts["taken back"] += 1
        await asyncio.gather(*asked.calls, return_exceptions=True)

    async def _watch(self, region: Region[P, T]) -> None:
        while True:
            up = False
            with contextlib.suppress(SiteError, TimeoutError, OSError):
                async with asyncio.timeout(PROBE_S):
                    up = await region.probe()
            if region.up and not up:
                region.counts["went down"] += 1
            region.up = up
            await asyncio.sleep(PROBE_EVERY_S)
