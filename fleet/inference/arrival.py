"""How likely an answer comes in time over one link, from what this link did so far.

An answer's time is a line in its bytes (a fit of least absolute deviations: half the answers lie
above it) plus a rest that is not bell-shaped: queues, bursts of loss, one lost segment of a second.
So the rest is not modelled but remembered, and the chance of being in time is the weighted share of
remembered rests that would have been. Weights say how alike the moment is: the recent round trip,
recent losses and, over satellites, the phase of the 15 s in which terminals are assigned anew.

Source: weighted empirical distribution as in quantile regression forests (Meinshausen, 2006); the
15 s: arXiv 2601.08439. Own work otherwise.
"""

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vehicle.contracts.wire import require, require_finite

LOST: Final = math.inf
"""The time of an answer that never came."""

MEMORY: Final = 512
REFIT_EVERY: Final = 16
ROUNDS: Final = 8
RECENT: Final = 4
RECENT_S: Final = 6.0
"""Only what happened less than this long ago says what the link is like now."""

TREND_SPREADS: Final = 1.0
PHASE_S: Final = 0.4
PRIOR: Final = 1.0
"""How many alike moments all moments together are worth. This, LATELY and RECENT_S were set on one
trace of `roadloop bench router` (its seed 6; the bench draws another)."""

LATELY: Final = 8.0
"""How many alike moments each of the last answers is worth: what never was like this is not known
from what was."""

ELSEWHERE: Final = 0.1
"""Share of that for answers at another phase of the period."""

LEAST: Final = 8
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer over a link.

    Args:
        at_s: when it was asked, on any clock that goes on evenly; over satellites UTC.
        size_bytes: sent and received.
        took_s: from asking to the answer, less the time that was computed; LOST: never.
    """

    at_s: float
    size_bytes: int
    took_s: float

    def __post_init__(self) -> None:
        require_finite("Sample", at_s=self.at_s)
        require(self.took_s >= 0.0, f"took_s is {self.took_s}, expected 0 or more, or inf")
        require(self.size_bytes >= 0, f"size_bytes is {self.size_bytes}")


@dataclass(slots=True, kw_only=True)
class LinkModel:
    """What is known of one link; `observe` teaches it, `p_on_time` only reads.

    Args:
        period_s: the link does the same again after this long (15 s of a dense constellation); 0:
            it does not.
        prior_s: what an answer takes before anything is known, and how sure that is not: the
            chance is then that of an exponential of this mean.
    """

    period_s: float = 0.0
    prior_s: float = 0.1
    _seen: list[Sample] = field(default_factory=list)
    _out: dict[int, Sample] = field(default_factory=dict)
    _asked: int = 0
    _since: int = 0
    _line: tuple[float, float] = (0.0, 0.0)
    _spread_s: float = 1e-3
    _rest: Array = field(default_factory=lambda: np.empty(0))
    _trend: Array = field(default_factory=lambda: np.empty(0))
    _at_s: Array = field(default_factory=lambda: np.empty(0))

    def observe(self, sample: Sample) -> None:
        """Learn from one answer; one that was asked earlier than others may come after them."""
        insort(self._seen, sample, key=attrgetter("at_s"))
        del self._seen[:-MEMORY]
        self._since += 1
        if self._since >= REFIT_EVERY or len(self._seen) < 2 * LEAST:
            self._refit()

    def asked(self, at_s: float, size_bytes: int) -> int:
        """Note that an answer is on its way; return its number: one that stays out tells too."""
        self._asked += 1
        self._out[self._asked] = Sample(at_s=at_s, size_bytes=size_bytes, took_s=LOST)
        return self._asked

    def answered(self, number: int, took_s: float) -> None:
        """Learn what became of an answer; LOST when it is not waited for any more."""
        self.observe(replace(self._out.pop(number), took_s=took_s))

    def withdrawn(self, number: int) -> None:
        """Forget an answer that was not waited for: nobody knows when it would have come."""
        del self._out[number]

    @property
    def count(self) -> int:
        """Return how many answers it knows of."""
        return len(self._seen)

    def expected_s(self, size_bytes: int) -> float:
        """Return what an answer of this size takes in the middle."""
        return self._line[0] + self._line[1] * size_bytes if self.count >= LEAST else self.prior_s

    def p_on_time(self, size_bytes: int, budget_s: float, at_s: float) -> float:
        """Return the chance, 0..1, that an answer asked for at `at_s` takes at most `budget_s`."""
        if budget_s <= 0.0:
            return 0.0
        before = 1.0 - math.exp(-budget_s / self.prior_s)
        if self.count < LEAST:
            return before
        room_s = budget_s - self.expected_s(size_bytes)
        known = sorted([*self._seen[-RECENT:], *self._out.values()], key=attrgetter("at_s"))
        alike, there = self._alike(known, at_s), self._rest <= room_s
        lately = self._lately(known, at_s)
        weigh = LATELY * self._phases(np.array([s.at_s for s in lately]), at_s).clip(ELSEWHERE)
        now = [s.took_s - self.expected_s(s.size_bytes) <= room_s for s in lately]
        yes = float(alike[there].sum()) + PRIOR * float(np.mean(there)) + float(weigh @ now)
        share = yes / (float(alike.sum()) + PRIOR + float(weigh.sum()))
        return (share * there.size + before) / (there.size + 1.0)

    def _lately(self, known: Sequence[Sample], at_s: float) -> list[Sample]:
        """Return what was asked just now and is known, or is out longer than is usual."""
        return [
            s
            for s in known[-RECENT:]
            if at_s - s.at_s <= RECENT_S
            and (s.took_s <= at_s - s.at_s or at_s - s.at_s > self.expected_s(s.size_bytes))
        ]

    def _alike(self, known: Sequence[Sample], at_s: float) -> Array:
        """Return how alike each remembered moment is to `at_s`, 0..1 (N,)."""
        now = self._trends_of([*known, Sample(at_s=at_s, size_bytes=0, took_s=0.0)])[-1]
        alike: Array = _kernel((self._trend - now) / TREND_SPREADS)
        return alike * self._phases(self._at_s, at_s)

    def _phases(self, times_s: Array, at_s: float) -> Array:
        """Return how near to the phase of `at_s` other times are, 0..1; 1 where there is none."""
        if not self.period_s:
            return np.ones(times_s.size)
        off: Array = np.abs((times_s - at_s) % self.period_s)
        return _kernel(np.minimum(off, self.period_s - off) / PHASE_S)

    def _trends_of(self, samples: Sequence[Sample]) -> Array:
        at_s = np.array([s.at_s for s in samples])
        took_s = np.array([s.took_s for s in samples])
        sizes = np.array([s.size_bytes for s in samples])
        return _trends(at_s, took_s, self._line[0] + self._line[1] * sizes, self._spread_s)

    def _refit(self) -> None:
        self._since = 0
        seen = self._seen
        took = np.array([s.took_s for s in seen])
        size = np.array([s.size_bytes for s in seen], dtype=float)
        came = np.isfinite(took)
        if int(came.sum()) < 2:
            self._line = (self.prior_s, 0.0)
        else:
            self._line = _least_deviations(size[came], took[came])
        self._rest = took - (self._line[0] + self._line[1] * size)
        finite = np.abs(self._rest[came])
        self._spread_s = max(float(np.median(finite)) if finite.size else 0.0, 1e-4)
        self._trend = self._trends_of(seen)
        self._at_s = np.array([s.at_s for s in seen])


def _kernel(distance: Array) -> Array:
    """Return how alike what lies `distance` apart is: a bell, never quite nothing."""
    bell: Array = np.exp(-0.5 * np.minimum(distance**2, 18.0))
    return bell


def _trends(at_s: Array, took_s: Array, usual_s: Array, spread_s: float) -> Array:
    """Return how the link did just before each moment: 0 as always, else in logs of spreads above.

    Only what could be known then counts: of an answer that was still out, that it was out so long.
    All arrays (N,), in the order of asking.
    """
    trends = np.zeros(at_s.size)
    for back in range(1, min(RECENT, at_s.size - 1) + 1):
        ago_s = at_s[back:] - at_s[:-back]
        rest_s = np.minimum(took_s[:-back], ago_s) - usual_s[:-back]
        known = (ago_s <= RECENT_S) & ((took_s[:-back] <= ago_s) | (rest_s > 0.0))
        trends[back:] += known * np.copysign(np.log1p(np.abs(rest_s) / spread_s), rest_s) / RECENT
    return trends


def _least_deviations(size: Array, took: Array) -> tuple[float, float]:
    """Return intercept (s) and slope (s per byte, never negative) of the median line.

    Iteratively reweighted least squares; sizes that do not differ give no slope.
    """
    if float(np.ptp(size)) < 1.0:
        return float(np.median(took)), 0.0
    scale = float(size.max())
    rows = np.stack([np.ones_like(size), size / scale], axis=1)
    weight: Array = np.ones_like(took)
    found: Array = np.zeros(2)
    for _ in range(ROUNDS):
        solved = np.linalg.lstsq(rows * weight[:, None], took * weight, rcond=None)
        found = np.asarray(solved[0], dtype=np.float64)
        weight = 1.0 / np.sqrt(np.maximum(np.abs(took - rows @ found), 1e-5))
    if found[1] < 0.0:
        return float(np.median(took)), 0.0
    return float(found[0]), float(found[1] / scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well stated chances fit what came true.

    Args:
        n: forecasts.
        brier: mean squared distance of chance and outcome; 0 is perfect.
        base_brier: of always stating the share that came true: what knowing nothing gets.
        error: expected calibration error over `table`, weighted by count.
        table: per bin of stated chance: (mean stated, share that came true, count).
    """

    n: int
    brier: float
    base_brier: float
    error: float
    table: tuple[tuple[float, float, int], ...]

    @property
    def skill(self) -> float:
        """Return 1 - brier / base_brier; over 0 is better than knowing only the base rate."""
        return 1.0 - self.brier / self.base_brier if self.base_brier else 0.0


def calibration(stated: Sequence[float], came: Sequence[bool], bins: int = 10) -> Calibration:
    """Return Brier score and reliability of forecasts.

    Args:
        stated: chances, 0..1.
        came: what happened.
    Source: Brier (1950), Monthly Weather Review 78, equation 2, halved (one outcome).
    """
    require(len(stated) == len(came) > 0, "one outcome per forecast is wanted, and at least one")
    chance, true = np.asarray(stated, dtype=float), np.asarray(came, dtype=float)
    which = np.minimum((chance * bins).astype(int), bins - 1)
    table = tuple(
        (float(chance[which == b].mean()), float(true[which == b].mean()), int((which == b).sum()))
        for b in range(bins)
        if (which == b).any()
    )
    base = float(true.mean())
    return Calibration(
        n=len(came),
        brier=float(np.mean((chance - true) ** 2)),
        base_brier=base * (1.0 - base),
        error=sum(abs(p - t) * n for p, t, n in table) / len(came),
        table=table,
    )
