"""Subjects x scenarios -> a report each and one table: the proving ground's verdict.

Every subject drives the same starts. One file per subject and scenario is written when it is done;
a run that was stopped, or lost a worker, goes on with what is missing. Many machines are spread
over by sim/rivals/cluster.py (Ray).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.rivals import compare, gallery
from sim.rivals.cases import Case, NothingToDriveError
from sim.rivals.jobs import Latency, jobs_of
from sim.rivals.subjects import digest_of, subject_of
from sim.rivals.workers import Spread, run_all
from vehicle.contracts import wire
from vehicle.contracts.report import EvalReport

Told = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a run.

    Args:
        reports: one per subject that drove anything.
        results: of every subject and scenario, as kept on disk.
        page: with the worst episodes; None where none were asked for.
    """

    reports: tuple[EvalReport, ...]
    results: tuple[dict[str, Any], ...]
    page: Path | None

    @property
    def failed(self) -> list[str]:
        """Return subject, scenario and reason of whatever could not be driven."""
        return [f"{r['subject']} {r['case']}: {r['error']}" for r in self.results if "error" in r]

    def plain(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {
            "reports": [wire.to_plain(r) for r in self.reports],
            "failed": self.failed,
            "page": None if self.page is None else str(self.page),
        }


def evaluate(
    subjects: Sequence[str],
    cases: Sequence[Case],
    out: Path,
    *,
    bundle: Path | None = None,
    latency: Latency = "measured",
    workers: int = 1,
    spread: Spread | None = None,
    worst: int = 0,
    progress: Told = lambda done, total, name: None,
    filming: Told = lambda done, total, name: None,
) -> Verdict:
    """Let every subject drive every scenario, and say how well.

    Args:
        subjects: names in sim.rivals.subjects.
        cases: the starts; see sim.rivals.cases.
        out: results, one report per subject, and the page; a finished scenario is not driven again.
        bundle: of the car; None: the shipped base.
        latency: see sim.rivals.jobs.Latency.
        workers: processes.
        spread: drives over other machines instead; see sim.rivals.workers.Spread.
        worst: films per subject.
        progress, filming: called with how many are done, of how many, and which.
    Raises:
        NothingToDriveError: no subject can drive any of the scenarios.
        UnknownSubjectError, BundleMissingError: before anything is driven.
    """
    jobs = jobs_of(subjects, cases, bundle=bundle, latency=latency)
    if not jobs:
        raise NothingToDriveError("no subject can drive any of these scenarios")
    results = run_all(jobs, out, workers=workers, spread=spread, progress=progress)
    made = reports(subjects, results, cases, bundle=bundle, latency=latency)
    for report in made:
        wire.atomic_write(out / f"report-{report.subject}.json", wire.to_bytes(report))
    wire.atomic_write(out / "table.md", compare.markdown(made).encode())
    page = None
    if worst > 0:
        page = gallery.write(out, jobs, results, made, count=worst, progress=filming)
    return Verdict(reports=tuple(made), results=tuple(results), page=page)


def reports(
    subjects: Sequence[str],
    results: Sequence[dict[str, Any]],
    cases: Sequence[Case],
    *,
    bundle: Path | None,
    latency: Latency,
) -> list[EvalReport]:
    """Return one report per subject that drove; intervals and paired differences with it."""
    by_name = {n: [r for r in results if r["subject"] == n and r["scores"]] for n in subjects}
    by_name = {n: runs for n, runs in by_name.items() if runs}
    data = wire.digest(b"".join(sorted(c.digest.encode() for c in cases)))
    out = []
    for name, runs in by_name.items():
        failed = sum(r["subject"] == name and "error" in r for r in results)
        figures = compare.summarise(runs) + compare.against(by_name, name)
        out.append(
            EvalReport(
                kind="closed_loop",
                subject_digest=digest_of(name, bundle),
                subject=name,
                data_digest=data,
                metrics=tuple(figures),
                config={
                    "about": subject_of(name).about,
                    "latency": latency if latency == "measured" else f"{latency * 1e3:g} ms",
                    "scenarios": str(len(runs)),
                    "refused": str(failed),
                    "seconds": f"{cases[0].seconds:g}",
                },
            )
        )
    return out
