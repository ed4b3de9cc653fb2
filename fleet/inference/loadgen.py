"""Load on schedule: what is asked does not wait for what was answered, and time counts from then.

A closed loop that asks, waits and asks again leaves out exactly the moments in which a server is
slow (coordinated omission). Here requests leave at times laid down beforehand, and a latency runs
from the scheduled release, also where the generator itself was late.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from vehicle.clock import Clock
from vehicle.contracts.bench import percentiles
from vehicle.contracts.wire import require

Call = Callable[[int], Awaitable[Any]]
"""Asks once; takes the number of the release (warm-up first), may raise to say no."""

Told = Callable[[float], None]

_SPIN_NS: Final = 1_500_000
"""An event loop wakes to the millisecond: the last stretch before a release is spun through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """When requests are released.

    Args:
        rate_hz: releases per second in the mean.
        count: releases that are counted.
        warm_up: released before them on the same schedule, and not counted.
        arrivals: "constant" gaps, or "poisson": independent ones, exponentially distributed.
        seed: of the poisson gaps.
        timeout_s: an answer that takes longer is none.
    """

    rate_hz: float
    count: int
    warm_up: int = 0
    arrivals: Literal["constant", "poisson"] = "constant"
    seed: int = 0
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        require(self.rate_hz > 0.0, f"rate_hz is {self.rate_hz}, expected over 0")
        require(self.count > 0, f"count is {self.count}, expected over 0")
        require(self.warm_up >= 0, f"warm_up is {self.warm_up}, expected 0 or more")
        require(self.timeout_s > 0.0, f"timeout_s is {self.timeout_s}, expected over 0")

    def schedule_ns(self) -> np.ndarray:
        """Return when each release is, ns from the first, warm-up included."""
        total = self.warm_up + self.count
        if self.arrivals == "constant":
            at_s = np.arange(total) / self.rate_hz
        else:
            gaps_s = np.random.default_rng(self.seed).exponential(1.0 / self.rate_hz, total)
            at_s = np.cumsum(gaps_s) - gaps_s[0]
        return np.rint(at_s * 1e9).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One counted release.

    Args:
        number: from 0, in the order of release.
        scheduled_ns, released_ns, finished_ns: monotonic.
        value: what the call returned; the words of the exception where it raised.
        refusal: name of the exception, "" where there is a value.
    """

    number: int
    scheduled_ns: int
    released_ns: int
    finished_ns: int
    value: Any
    refusal: str

    @property
    def latency_ms(self) -> float:
        """Return the time from the scheduled release; infinite when no answer came."""
        return float("inf") if self.refusal else (self.finished_ns - self.scheduled_ns) * 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of all counted releases, in their order."""

    load: Load
    answers: tuple[Answer, ...]

    def latencies_ms(self, since_ns: int = 0, until_ns: int = 1 << 62) -> np.ndarray:
        """Return latencies of what was scheduled in [since_ns, until_ns); no answer: infinite."""
        chosen = [a for a in self.answers if since_ns <= a.scheduled_ns < until_ns]
        return np.array([a.latency_ms for a in chosen])

    def refusals(self) -> dict[str, int]:
        """Return how many releases had no answer, by name of the reason."""
        return dict(Counter(a.refusal for a in self.answers if a.refusal))

    def late_ms(self) -> np.ndarray:
        """Return by how much the generator itself released late."""
        return np.array([(a.released_ns - a.scheduled_ns) * 1e-6 for a in self.answers])

    def answered_per_s(self) -> float:
        """Return answers per second, from the first release to the last answer."""
        good = [a for a in self.answers if not a.refusal]
        if not good:
            return 0.0
        took_ns = max(a.finished_ns for a in good) - self.answers[0].scheduled_ns
        return len(good) * 1e9 / max(took_ns, 1)


def summary(latencies_ms: np.ndarray) -> dict[str, float | int]:
    """Return count, unanswered, and the percentiles there are samples enough for.

    What was not answered counts as slower than everything: a percentile that falls among it is not
    a number, and is left out.
    """
    with np.errstate(invalid="ignore"):  # between two infinities
        row = percentiles(latencies_ms)
    unanswered = int(np.isinf(latencies_ms).sum())
    return {"unanswered": unanswered} | {k: v for k, v in row.items() if np.isfinite(v)}


async def run(call: Call, load: Load, clock: Clock, told: Told = lambda share: None) -> Outcome:
    """Release every request of `load` on schedule and wait for all answers.

    Args:
        call: asks once; what it raises is counted by name.
        load: when.
        clock: the machine's; a loop spins on it just before each release.
        told: takes the share that is done, 0..1.
    """
    offsets = load.schedule_ns()
    start_ns = clock.mono_ns() + 20_000_000
    tasks = []
    for number, offset in enumerate(offsets):
        scheduled_ns = start_ns + int(offset)
        await _sleep_until(scheduled_ns, clock)
        tasks.append(asyncio.create_task(_one(call, number, scheduled_ns, load, clock)))
        if number % 16 == 0:
            told(number / len(offsets))
    answers = await asyncio.gather(*tasks)
    told(1.0)
    return Outcome(load=load, answers=tuple(answers[load.warm_up :]))


async def _sleep_until(mono_ns: int, clock: Clock) -> None:
    while (left_ns := mono_ns - clock.mono_ns()) > 0:
        await asyncio.sleep(max(left_ns - _SPIN_NS, 0) * 1e-9)


async def _one(call: Call, number: int, scheduled_ns: int, load: Load, clock: Clock) -> Answer:
    released_ns, value, refusal = clock.mono_ns(), None, ""
    try:
        async with asyncio.timeout(load.timeout_s):
            value = await call(number)
    except asyncio.CancelledError:
        raise
    except Exception as error:  # the caller's word for no, whatever it is; counted by name
        value, refusal = str(error), getattr(error, "name", "") or type(error).__name__
    return Answer(
        number=number - load.warm_up,
        scheduled_ns=scheduled_ns,
        released_ns=released_ns,
        finished_ns=clock.mono_ns(),
        value=value,
        refusal=refusal,
    )
