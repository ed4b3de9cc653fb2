"""What a site has answered and refused, and how long that took: counted, and told as text."""

import bisect
from collections import Counter
from typing import Any, Final

EDGES_US: Final = (
    *(250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000),
    *(100_000, 200_000, 500_000, 1_000_000),
)
"""Upper ends of the classes that times are counted in, us; a last class is open."""


class Stats:
    """Counts of one site since it opened."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[tuple[str, str]] = Counter()
        self.gone = 0
        self.size_bytes = 0
        self._times: dict[str, list[int]] = {}
        self._sums_us: Counter[str] = Counter()

    def answer(self, model: str, tenant: str, timings_us: dict[str, int], size_bytes: int) -> None:
        """Count an answer."""
        self.answered[model, tenant] += 1
        self.size_bytes += size_bytes
        for stage, us in timings_us.items():
            classes = self._times.setdefault(stage, [0] * (len(EDGES_US) + 1))
            classes[bisect.bisect_left(EDGES_US, us)] += 1
            self._sums_us[stage] += us

    def refuse(self, name: str, tenant: str) -> None:
        """Count a refusal by its name."""
        self.refused[name, tenant] += 1

    def refusals(self) -> dict[str, int]:
        """Return how often each refusal was given, by name."""
        found: Counter[str] = Counter()
        for (name, _), count in self.refused.items():
            found[name] += count
        return dict(found)

    def plain(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        return {
            "answered": {f"{m} {t}": n for (m, t), n in sorted(self.answered.items())},
            "refused": {f"{name} {t}": n for (name, t), n in sorted(self.refused.items())},
            "gone": self.gone,
            "size_bytes": self.size_bytes,
        }

    def text(self, waiting: int, reader: str = "") -> str:
        """Return the counts in Prometheus' text format 0.0.4.

        Args:
            waiting: how many wait now.
            reader: tenant that reads: it sees itself and nobody else; "" sees all.
        """
        lines = ["# TYPE roadloop_answered_total counter"]
        for (model, tenant), n in sorted(self.answered.items()):
            if reader not in ("", tenant):
                continue
            lines.append(f'roadloop_answered_total{{model="{model}",tenant="{tenant}"}} {n}')
        lines.append("# TYPE roadloop_refused_total counter")
        for (name, tenant), n in sorted(self.refused.items()):
            if reader not in ("", tenant):
                continue
            lines.append(f'roadloop_refused_total{{name="{name}",tenant="{tenant}"}} {n}')
        lines += ["# TYPE roadloop_gone_total counter", f"roadloop_gone_total {self.gone}"]
        lines += ["# TYPE roadloop_bytes_total counter", f"roadloop_bytes_total {self.size_bytes}"]
        lines += ["# TYPE roadloop_waiting gauge", f"roadloop_waiting {waiting}"]
        lines.append("# TYPE roadloop_stage_seconds histogram")
        for stage, classes in sorted(self._times.items()):
            below = 0
            for edge, n in zip((*EDGES_US, None), classes, strict=True):
                below += n
                le = "+Inf" if edge is None else f"{edge / 1e6:g}"
                lines.append(f'roadloop_stage_seconds_bucket{{stage="{stage}",le="{le}"}} {below}')
            total_s = self._sums_us[stage] / 1e6
            lines.append(f'roadloop_stage_seconds_sum{{stage="{stage}"}} {total_s:.6f}')
            lines.append(f'roadloop_stage_seconds_count{{stage="{stage}"}} {below}')
        return "\n".join(lines) + "\n"
