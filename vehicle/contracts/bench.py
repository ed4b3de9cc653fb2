"""The one shape of every bench: what ran, where, the percentiles, and which figures hold."""

import platform
import subprocess
import sys
from dataclasses import dataclass, field
from os import cpu_count, getloadavg
from typing import Any, Literal

import numpy as np

MIN_SAMPLES = {"p50": 20, "p90": 100, "p95": 133, "p99": 664, "p99.9": 6_636}
"""Fewest samples from which a percentile is printed (measures.md asks 6,636 for p99.9)."""


def percentiles(values: "np.ndarray | list[float]") -> dict[str, float | int]:
    """Return n, max and the percentiles that `values` has samples enough for."""
    data = np.asarray(values, dtype=np.float64)
    out: dict[str, float | int] = {"n": int(data.size)}
    for name, needed in MIN_SAMPLES.items():
        if data.size >= needed:
            out[name] = round(float(np.percentile(data, float(name[1:]))), 4)
    if data.size:
        out["max"] = round(float(data.max()), 4)
    return out


def machine() -> dict[str, Any]:
    """Return cores, processor and load of this machine."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(
                (x.split(":")[1].strip() for x in file if x.startswith("model name")), model
            )
    except OSError:
        pass
    return {
        "cores": cpu_count(),
        "model": model,
        "python": platform.python_version(),
        "load_1min": round(getloadavg()[0], 2),
    }


def commit() -> str:
    """Return the commit this runs from, with "+" when the tree differs, or "unknown"."""
    try:
        text = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return text.stdout.strip() or "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Must:
    """One figure of measures.md: its limit stands next to the code that measures it.

    `value` is None when there were too few samples to print it; then it does not hold.
    """

    figure: str
    value: float | None
    op: Literal["<=", ">=", "=="]
    limit: float
    unit: str
    n: int
    peer: str = ""

    @property
    def holds(self) -> bool:
        """Return whether the figure is reached."""
        if self.value is None:
            return False
        return {
            "<=": self.value <= self.limit,
            ">=": self.value >= self.limit,
            "==": self.value == self.limit,
        }[self.op]


@dataclass(slots=True, kw_only=True)
class Bench:
    """A bench being measured; `report` gives the printed object."""

    name: str
    before: dict[str, Any] = field(default_factory=machine)
    rows: list[dict[str, Any]] = field(default_factory=list)
    must: list[Must] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Return the object that `roadloop bench NAME --json` prints."""
        return {
            "bench": self.name,
            "command": " ".join(["roadloop", *sys.argv[1:]]),
            "commit": commit(),
            "machine": {**self.before, "load_1min_after": machine()["load_1min"]},
            "rows": self.rows,
            "must": [
                {
                    "figure": m.figure,
                    "value": m.value,
                    "op": m.op,
                    "limit": m.limit,
                    "unit": m.unit,
                    "n": m.n,
                    "peer": m.peer,
                    "holds": m.holds,
                }
                for m in self.must
            ],
        }
