"""From scores of single episodes to a report: means, intervals, and paired differences."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from vehicle.contracts.report import EvalReport, MetricResult

DRAWS: Final = 2_000
_SEED: Final = 11


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Source: Wilson, "Probable inference" (1927); Brown, Cai, DasGupta (2001) for small n.
    """
    z, share = 1.96, hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean, the same on every run.

    Source: Efron, Tibshirani, An Introduction to the Bootstrap (1993), 13.3.
    """
    picks = np.random.default_rng(_SEED).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def interval(values: np.ndarray, share: bool = True) -> tuple[float, float] | tuple[None, None]:
    """Return the 95 % interval of the mean: Wilson where all is yes or no, bootstrap otherwise.

    None for fewer than two values: one episode says nothing about the next.

    Args:
        share: 0 and 1 are no and yes; False for counts and metres.
    """
    if len(values) < 2:
        return None, None
    if share and np.isin(values, (0.0, 1.0)).all():
        return wilson(float(values.sum()), len(values))
    return bootstrap(values)


def paired(ours: Mapping[str, float], theirs: Mapping[str, float]) -> MetricResult | None:
    """Return the mean difference over the scenarios both drove; None when there are none.

    Every draw takes the same scenarios for both, so that a hard one is hard for both; exchanging
    the two only changes the sign.

    Args:
        ours, theirs: scenario -> score; NaN where a score does not apply.
    """
    both = [k for k in sorted(ours) if k in theirs]
    gaps = np.array([ours[k] - theirs[k] for k in both], np.float64)
    gaps = gaps[np.isfinite(gaps)]
    if not len(gaps):
        return None
    low, high = bootstrap(gaps) if len(gaps) > 1 else (None, None)
    return MetricResult(
        name="difference", value=float(gaps.mean()), unit="", n=len(gaps), low=low, high=high
    )


def summarise(runs: Sequence[Mapping[str, Any]]) -> list[MetricResult]:
    """Return mean and interval of every figure of one subject's runs, over all and by family.

    Args:
        runs: with "case", "group", "scores"; a score of None does not apply there.
    """
    out = []
    names = {n for run in runs for n in run["scores"]}
    for name in sorted(names, key=lambda n: (_row(n), n)):
        out.append(_metric(name, name, runs))
    for group in sorted({run["group"] for run in runs}):
        inside = [run for run in runs if run["group"] == group]
        out += [_metric(f"{group}/{n}", n, inside) for n in BY_FAMILY]
    return [m for m in out if m.n]


def _metric(shown: str, name: str, runs: Sequence[Mapping[str, Any]]) -> MetricResult:
    found = [run["scores"].get(name) for run in runs]
    values = np.array([v for v in found if v is not None], np.float64)
    low, high = interval(values, unit_of(name) == "ratio")
    return MetricResult(
        name=shown,
        value=float(values.mean()) if len(values) else 0.0,
        unit=unit_of(name),
        n=len(values),
        low=low,
        high=high,
        higher_is_better=name not in LOWER_IS_BETTER,
    )


BY_FAMILY: Final = ("epdms", "cls", "at_fault_episodes")
"""Figures that are also given family by family."""

LOWER_IS_BETTER: Final = frozenset(
    {
        *("max_drac_mps2", "drac_conflict_s", "tet_s", "tit_s2", "contacts", "at_fault"),
        *("delta_v_mps", "mrm", "hardest_brake_mps2", "at_fault_episodes", "mrm_episodes"),
    }
)
_FIRST: Final = ("epdms", "cls", "at_fault_episodes", "mrm_episodes", "goal_reached")
_COUNTS: Final = frozenset({"contacts", "at_fault", "mrm"})
_UNITS: Final = {"_mps2": "m/s2", "_mps": "m/s", "_s2": "s2", "_s": "s", "_m": "m"}


def _row(name: str) -> int:
    """Return where a figure stands in a table: totals, their parts, then margins."""
    if name in _FIRST:
        return _FIRST.index(name)
    return len(_FIRST) + (0 if name.startswith("epdms.") else 1 if name.startswith("cls.") else 2)


def unit_of(name: str) -> str:
    """Return the unit that the name of a figure ends with; "ratio" for scores."""
    if name in _COUNTS:
        return "1"
    return next((unit for end, unit in _UNITS.items() if name.endswith(end)), "ratio")


def against(reports: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> list[MetricResult]:
    """Return how much better subject `name` is than every other one, scenario by scenario."""
    out = []
    for figure in BY_FAMILY[:2]:
        mine = _by_case(reports[name], figure)
        for other, runs in reports.items():
            if other == name:
                continue
            gap = paired(mine, _by_case(runs, figure))
            if gap is not None:
                out.append(
                    MetricResult(
                        name=f"{figure} minus {other}", value=gap.value, unit="ratio", n=gap.n,
                        low=gap.low, high=gap.high,
                    )
                )  # fmt: skip
    return out


def _by_case(runs: Sequence[Mapping[str, Any]], figure: str) -> dict[str, float]:
    found = {run["case"]: run["scores"].get(figure) for run in runs}
    return {case: float(v) for case, v in found.items() if v is not None}


def cell(metric: MetricResult) -> str:
    """Return a figure as a table shows it."""
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3f} (n={metric.n})"
    return f"{metric.value:.3f} [{metric.low:.2f} {metric.high:.2f}]"


def markdown(reports: Sequence[EvalReport]) -> str:
    """Return one table of all figures and subjects, a row per figure."""
    names = list(dict.fromkeys(m.name for r in reports for m in r.metrics if "minus" not in m.name))
    lines = ["| figure | " + " | ".join(r.subject for r in reports) + " |"]
    lines.append("|---|" + "---|" * len(reports))
    for name in names:
        row = [next((cell(m) for m in r.metrics if m.name == name), "-") for r in reports]
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"
