"""The release gate: evaluation reports and a bundle's manifest in, a Release or the reasons out.

The rules are data, so that what lets a network onto the road can be read, signed and changed
without changing code. Nothing else is read: no model is judged by what it says about itself, except
that it must give its golden answers.
"""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal

from vehicle import bundles
from vehicle.contracts import wire
from vehicle.contracts.bundle import ModelBundle
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.release import Release
from vehicle.contracts.report import EvalReport, MetricResult
from vehicle.contracts.wire import RefusedError, require

Evidence = Literal["value", "interval"]


class ReleaseRefusedError(RefusedError):
    """The gate says no; `reasons` holds every rule that is broken, not only the first."""

    def __init__(self, bundle: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        lines = "\n  - ".join(self.reasons)
        super().__init__(f"{bundle} is not released, {len(self.reasons)} reason(s):\n  - {lines}")


class RulesError(RefusedError, ValueError):
    """A rule file has an unknown key or a value out of range."""


class ReportUnreadableError(RefusedError):
    """A file given as a report is not one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MustRise:
    """A metric that the release exists to improve.

    Args:
        metric: name or pattern (`recall.car.*`); at least one metric must match it.
        by: smallest improvement, in the metric's unit.
        evidence: "interval": the lower end of the new 95 % interval must clear the old value;
            "value": the new value alone must.
        min_samples: fewer samples prove nothing.
        where: only in reports with this configuration, e.g. {"tag.light": "night"}.
    """

    metric: str
    by: float = 0.0
    evidence: Evidence = "interval"
    min_samples: int = 30
    where: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.by >= 0.0, f"rise of {self.metric!r} by {self.by}, expected >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class MayNotFall:
    """Metrics that must not pay for the improvement.

    Args:
        metric: name or pattern; a pattern that matches nothing guards nothing and is no fault.
        allow: largest loss, in the metric's unit.
        unit: only metrics of this unit; "" for any.
        evidence: "value": the new value must hold; "interval": refuse only when the whole new 95 %
            interval lies below, where there is one (a weaker guard, for small test sets).
        where: only in reports with this configuration.
    """

    metric: str
    allow: float
    unit: str = ""
    evidence: Evidence = "value"
    where: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.allow >= 0.0, f"fall of {self.metric!r} by {self.allow}, expected >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLeast:
    """A floor (a ceiling where less is better) that holds with or without an older network."""

    metric: str
    value: float
    where: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRules:
    """Everything the gate asks for.

    Args:
        rise: what the release is for.
        guard: what it may not cost.
        floor: what every release must reach.
        self_test: the bundle must give its golden answers on the machine of the gate.
    """

    SCHEMA: ClassVar[str] = "gate-rules/1"
    rise: tuple[MustRise, ...] = ()
    guard: tuple[MayNotFall, ...] = (MayNotFall(metric="*", allow=0.03, unit="ratio"),)
    floor: tuple[AtLeast, ...] = ()
    self_test: bool = True

    @classmethod
    def from_toml(cls, path: Path) -> "GateRules":
        """Read rules strictly.

        Raises:
            RulesError: unreadable, an unknown key, a wrong type or a value out of range.
        """
        try:
            plain = tomllib.loads(path.read_text())
            return wire.from_plain(cls, {"schema": cls.SCHEMA, **plain})
        except (OSError, ValueError) as error:
            raise RulesError(f"{path}: {error}") from error


def read_report(path: Path) -> EvalReport:
    """Return a report file.

    Raises:
        ReportUnreadableError: there is none, or it is something else.
    """
    try:
        return wire.from_bytes(EvalReport, path.read_bytes())
    except (OSError, wire.ContractError) as error:
        raise ReportUnreadableError(
            f"{path} is not an evaluation report ({error}); make one with "
            "`roadloop training evaluate`"
        ) from error


def gate(
    bundle_folder: Path,
    reports: Sequence[EvalReport],
    previous: Sequence[EvalReport],
    *,
    release_counter: int,
    rules: GateRules = GateRules(),
    running_digest: str | None = None,
    self_test: Callable[[Path], None] = bundles.self_test,
) -> Release:
    """Return the release that the evidence allows.

    Args:
        bundle_folder: the candidate.
        reports: what the candidate scored.
        previous: what the network on the cars scored, on the same data.
        release_counter: of the new release, from `Repository.next_counter`.
        rules: what is asked.
        running_digest: digest of the bundle on the cars; when given, `previous` must be about
            it and must not be empty.
        self_test: raises RefusedError when the golden answers do not come.
    Raises:
        ReleaseRefusedError: with every reason.
        RefusedError: the folder is no whole bundle (see `vehicle.bundles.load`).
    """
    bundle = bundles.load(bundle_folder)
    digest = bundles.digest_of(bundle_folder)
    reasons = [
        *_subject_reasons(bundle, digest, reports, previous, running_digest),
        *_metric_reasons(reports, previous, rules),
        *(_self_test_reasons(bundle_folder, self_test) if rules.self_test else []),
    ]
    if reasons:
        raise ReleaseRefusedError(bundle.tag, reasons)
    archive = bundles.pack(bundle_folder)
    return Release(
        release_counter=release_counter,
        bundle=bundle.tag,
        bundle_digest=digest,
        rig_digest=bundle.rig.digest,
        archive=FileEntry(
            name=f"{release_counter}.tar", sha256=wire.digest(archive), size_bytes=len(archive)
        ),
        report_digests=tuple(wire.digest(wire.to_bytes(r)) for r in reports),
    )


def _subject_reasons(
    bundle: ModelBundle,
    digest: str,
    reports: Sequence[EvalReport],
    previous: Sequence[EvalReport],
    running_digest: str | None,
) -> list[str]:
    """Return what is wrong with whom and what the reports are about."""
    reasons = [] if reports else [f"{bundle.tag} has no evaluation report"]
    for report in reports:
        if report.subject_digest != digest:
            reasons.append(
                f"report {report.kind!r} is about {report.subject} ({report.subject_digest[:12]}), "
                f"not about this bundle ({digest[:12]})"
            )
    if running_digest is not None and not previous:
        reasons.append(f"no report of what the cars run now ({running_digest[:12]}) to compare to")
    for report in previous:
        wrong = report.subject_digest == digest
        if running_digest is not None:
            wrong = report.subject_digest != running_digest
        if wrong:
            expected = "what the cars run" if running_digest is None else running_digest[:12]
            reasons.append(
                f"the report before, {report.kind!r}, is about {report.subject} "
                f"({report.subject_digest[:12]}), expected {expected}"
            )
    return reasons


def _metric_reasons(
    reports: Sequence[EvalReport], previous: Sequence[EvalReport], rules: GateRules
) -> list[str]:
    reasons: list[str] = []
    pairs: list[_Pair] = []
    for old in previous:
        same_kind = [r for r in reports if r.kind == old.kind]
        new = next((r for r in same_kind if r.data_digest == old.data_digest), None)
        if new is None:
            found = ", ".join(r.data_digest[:12] for r in same_kind) or "no report of that kind"
            reasons.append(
                f"report {old.kind!r} before is on data {old.data_digest[:12]}, after: {found}; "
                "evaluate both on the same data"
            )
            continue
        if new.config != old.config:
            reasons.append(f"report {old.kind!r}: evaluated with {new.config}, before {old.config}")
        names = {m.name for m in new.metrics}
        reasons += [
            f"metric {m.name!r} of report {old.kind!r} is no longer measured"
            for m in old.metrics
            if m.name not in names
        ]
        pairs += [
            _Pair(old=m, new=new.metric(m.name), config=new.config)
            for m in old.metrics
            if m.name in names
        ]
    for rise in rules.rise:
        reasons += _rise_reasons(rise, pairs)
    for guard in rules.guard:
        reasons += _guard_reasons(guard, pairs)
    now = [_Pair(old=m, new=m, config=r.config) for r in reports for m in r.metrics]
    for floor in rules.floor:
        reasons += _floor_reasons(floor, now)
    return list(dict.fromkeys(reasons))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """One metric before and now, with the configuration it was measured under."""

    old: MetricResult
    new: MetricResult
    config: dict[str, str]

    def fits(self, rule: MustRise | MayNotFall | AtLeast) -> bool:
        """Return whether `rule` is about this metric."""
        return fnmatchcase(self.new.name, rule.metric) and rule.where.items() <= self.config.items()

    @property
    def name(self) -> str:
        """Return the metric and the data it is about."""
        data = self.config.get("dataset")
        return f"{self.new.name} on {data}" if data else self.new.name


def _gain(old: float, new: float, metric: MetricResult) -> float:
    return new - old if metric.higher_is_better else old - new


def _rise_reasons(rule: MustRise, pairs: Sequence[_Pair]) -> list[str]:
    chosen = [p for p in pairs if p.fits(rule)]
    if not chosen:
        return [
            f"{rule.metric!r} must improve, but no such metric was measured before and now"
            + (f" where {rule.where}" if rule.where else "")
        ]
    reasons = []
    for pair in chosen:
        old, new = pair.old, pair.new
        bound: float | None = new.value
        if rule.evidence == "interval":
            bound = new.low if new.higher_is_better else new.high
        said = f"{pair.name} must improve by more than {rule.by:g} {new.unit}"
        if min(old.n, new.n) < rule.min_samples:
            reasons.append(f"{said}: {min(old.n, new.n)} samples, expected {rule.min_samples}")
        elif bound is None:
            reasons.append(f"{said}: it has no interval, so the rise may be chance")
        elif not _gain(old.value, bound, new) > rule.by:
            reasons.append(
                f"{said}: before {old.value:.4g}, now {new.value:.4g} "
                f"(95 % {_text(new.low)}..{_text(new.high)}, n {new.n})"
            )
    return reasons


def _guard_reasons(rule: MayNotFall, pairs: Sequence[_Pair]) -> list[str]:
    reasons = []
    for pair in pairs:
        if not pair.fits(rule) or rule.unit not in ("", pair.new.unit):
            continue
        old, new = pair.old, pair.new
        best = new.high if new.higher_is_better else new.low
        bound = best if rule.evidence == "interval" and best is not None else new.value
        if not _gain(old.value, bound, new) >= -rule.allow:
            reasons.append(
                f"{pair.name} got worse by {-_gain(old.value, new.value, new):.4g} {new.unit} "
                f"({old.value:.4g} to {new.value:.4g}), allowed {rule.allow:g}"
            )
    return reasons


def _floor_reasons(rule: AtLeast, now: Sequence[_Pair]) -> list[str]:
    chosen = [p for p in now if p.fits(rule)]
    if not chosen:
        return [f"{rule.metric!r} must reach {rule.value:g}, but it was not measured"]
    return [
        f"{p.name} is {p.new.value:.4g} {p.new.unit}, expected "
        f"{'at least' if p.new.higher_is_better else 'at most'} {rule.value:g}"
        for p in chosen
        if not _gain(rule.value, p.new.value, p.new) >= 0.0
    ]


def _self_test_reasons(folder: Path, self_test: Callable[[Path], None]) -> list[str]:
    try:
        self_test(folder)
    except RefusedError as error:
        return [f"self-test: {type(error).__name__}: {error}"]
    return []


def _text(value: Any) -> str:
    return "?" if value is None else f"{value:.4g}"
