"""What was measured: the only thing the release gate reads."""

from dataclasses import dataclass, field
from typing import ClassVar

from vehicle.contracts.wire import require


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricResult:
    """One figure with its unit, sample count and interval (95 % where given)."""

    name: str
    value: float
    unit: str
    n: int
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        require(self.n >= 0, f"metric {self.name!r}: n is {self.n}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalReport:
    """What a subject (a bundle, by digest) scored on a dataset or set of scenarios, by digest."""

    SCHEMA: ClassVar[str] = "report/1"
    kind: str
    subject_digest: str
    subject: str
    data_digest: str
    metrics: tuple[MetricResult, ...]
    config: dict[str, str] = field(default_factory=dict)

    def metric(self, name: str) -> MetricResult:
        """Return the metric called `name`; KeyError names the ones there are."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"report has no metric {name!r}; it has {[m.name for m in self.metrics]}")
