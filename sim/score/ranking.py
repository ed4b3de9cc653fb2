"""Means over episodes with honest intervals, and who is better than whom on the same seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle.contracts.report import MetricResult
from vehicle.contracts.wire import RefusedError

RESAMPLES: Final = 2000
LEVEL: Final = 0.95


class UnpairedScoresError(RefusedError, ValueError):
    """Two drivers were not scored on the same episodes, or there is nothing to average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean of family means over `n` episodes with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int

    def metric(self, name: str, unit: str, *, higher_is_better: bool = True) -> MetricResult:
        """Return it as a line of a report."""
        return MetricResult(
            name=name, value=self.mean, unit=unit, n=self.n, low=self.low, high=self.high,
            higher_is_better=higher_is_better,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One driver's place.

    Args:
        name: of the driver.
        score: its mean.
        behind: mean of the best driver less this one's, over paired episodes; 0 for the best.
        separated: the interval of `behind` does not hold 0.
    """

    name: str
    score: Interval
    behind: Interval
    separated: bool


def mean_interval(
    values: Sequence[float] | np.ndarray,
    families: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the mean of family means and its interval.

    Families are drawn with replacement and then episodes within each draw, so that a few families
    with many episodes do not pass for many families. NaN values (a figure an episode does not
    have) are left out first. One family is a plain bootstrap.

    Args:
        values: one per episode.
        families: family of each episode; None puts all in one.
        seed: the same seed gives the same interval.
        resamples: at least 2000 for a 95 % interval.
    Raises:
        UnpairedScoresError: no value is left, or families do not match values.
    Source: Davison and Hinkley, "Bootstrap methods and their application" (1997), section 3.8.
    """
    groups = _groups(np.asarray(values, np.float64), families)
    rng = np.random.default_rng((41, seed))
    if len(groups) == 1:
        draws = _resampled_means(groups[0], resamples, rng)
    else:
        draws = np.zeros(resamples)
        for _ in groups:
            pick = rng.integers(len(groups), size=resamples)
            for k, group in enumerate(groups):
                rows = np.flatnonzero(pick == k)
                draws[rows] += _resampled_means(group, len(rows), rng)
        draws /= len(groups)
    tail = 100.0 * (1.0 - LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100.0 - tail])
    return Interval(
        mean=float(np.mean([g.mean() for g in groups])),
        low=float(low),
        high=float(high),
        n=sum(map(len, groups)),
    )


def _resampled_means(group: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(group[rng.integers(len(group), size=(count, len(group)))].mean(axis=1))


def _groups(values: np.ndarray, families: Sequence[str] | None) -> list[np.ndarray]:
    if families is not None and len(families) != len(values):
        raise UnpairedScoresError(f"{len(values)} values but {len(families)} families")
    names = np.array(families if families is not None else [""] * len(values))
    known = np.isfinite(values)
    if not known.any():
        raise UnpairedScoresError("no finite value to average")
    return [values[known & (names == name)] for name in sorted(set(names[known].tolist()))]


def paired_difference(
    ours: Sequence[float] | np.ndarray,
    theirs: Sequence[float] | np.ndarray,
    families: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the mean of ours less theirs, episode by episode, with its interval.

    Args:
        ours, theirs: of the same episodes in the same order.
        families, seed, resamples: see `mean_interval`.
    Raises:
        UnpairedScoresError: different lengths, or no episode both have a value for.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape:
        raise UnpairedScoresError(f"{len(a)} scores against {len(b)}: pair them by episode")
    return mean_interval(a - b, families, seed=seed, resamples=resamples)


def aggregate(
    rows: Sequence[Mapping[str, float]],
    families: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Return mean and interval of every figure in `sim.score.metrics.EpisodeScore.flat` rows.

    A figure that no episode has (all NaN or infinite) is left out.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = {}
    for name in names:
        values = np.array([row.get(name, np.nan) for row in rows], np.float64)
        if np.isfinite(values).any():
            out[name] = mean_interval(values, families, seed=seed, resamples=resamples)
    return out


def rank(
    scores: Mapping[str, Sequence[float] | np.ndarray],
    families: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[Rank, ...]:
    """Return drivers from best to worst, each with its distance to the best on paired episodes.

    Args:
        scores: driver -> one score per episode, the same episodes in the same order for all.
        families, seed, resamples: see `mean_interval`.
    Raises:
        UnpairedScoresError: different lengths or nothing to average.
    """
    means = {
        name: mean_interval(values, families, seed=seed, resamples=resamples)
        for name, values in scores.items()
    }
    order = sorted(means, key=lambda name: (-means[name].mean, name))
    out = []
    for name in order:
        gap = paired_difference(
            scores[order[0]], scores[name], families, seed=seed, resamples=resamples
        )
        separated = name != order[0] and gap.low > 0.0
        out.append(Rank(name=name, score=means[name], behind=gap, separated=separated))
    return tuple(out)
