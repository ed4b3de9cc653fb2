"""What `roadloop sim evaluate` shows while drivers compete, and the table at the end."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sim.rivals.cases import Case
from sim.rivals.compare import cell
from sim.rivals.evaluate import Told, Verdict, evaluate
from sim.rivals.jobs import Latency
from sim.rivals.subjects import SUBJECTS, subject_of
from sim.rivals.workers import Spread
from vehicle.contracts.report import EvalReport


def contest(
    subjects: str,
    cases: Sequence[Case],
    out: Path,
    *,
    bundle: Path | None,
    latency: Latency,
    workers: int,
    spread: Spread | None,
    worst: int,
    console: Console,
    quiet: bool,
) -> Verdict:
    """Evaluate with progress bars, print the table unless `quiet`, and return the verdict.

    Args:
        subjects: names with commas, or "all".
    Raises:
        UnknownSubjectError: names the ones there are.
    """
    names = list(SUBJECTS) if subjects == "all" else [n.strip() for n in subjects.split(",")]
    for name in names:
        subject_of(name)
    columns = (TextColumn("{task.description:<44}"), BarColumn(24))
    clocks = (TextColumn("{task.completed:.0f}/{task.total:.0f}"), TimeElapsedColumn())
    with Progress(*columns, *clocks, TimeRemainingColumn(), console=console, transient=True) as bar:
        verdict = evaluate(
            list(dict.fromkeys(names)),
            cases,
            out,
            bundle=bundle,
            latency=latency,
            workers=workers,
            spread=spread,
            worst=worst,
            progress=_told(bar, "drive"),
            filming=_told(bar, "film"),
        )
    if not quiet:
        console.print(table(verdict.reports))
    for line in verdict.failed:
        console.print(f"not driven: {line}", style="red")
    if not quiet:
        console.print(f"kept in {out}" + (f"; look at {verdict.page}" if verdict.page else ""))
    return verdict


def _told(bar: Progress, what: str) -> Told:
    row = bar.add_task(what, total=1, visible=False)

    def told(done: int, total: int, name: str) -> None:
        text = f"{what} {name}"[:44]
        bar.update(row, completed=done, total=total, description=text, visible=True)

    return told


def table(reports: Sequence[EvalReport]) -> Table:
    """Return every figure (a row) of every subject (a column), with interval and n."""
    first = reports[0].config if reports else {}
    out = Table(
        title="means [95 % interval] over scenarios; EPDMS-style and CLS-style on our scenarios, "
        "not those of a leaderboard",
        caption=f"latency charged: {first.get('latency', '')}",
        title_justify="left",
    )
    out.add_column("figure", no_wrap=True)
    for report in reports:
        out.add_column(f"{report.subject} (n={report.config['scenarios']})")
    for name in dict.fromkeys(m.name for r in reports for m in r.metrics):
        out.add_row(name, *(_cell(report, name) for report in reports))
    return out


def _cell(report: EvalReport, name: str) -> str:
    metric = next((m for m in report.metrics if m.name == name), None)
    if metric is None:
        return "-"
    fewer = metric.low is not None and str(metric.n) != report.config["scenarios"]
    return cell(metric) + (f" n={metric.n}" if fewer else "")
