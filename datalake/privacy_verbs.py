"""Verbs of privacy: erase."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from datalake.verbs import Json

if TYPE_CHECKING:
    from datalake.erase import ErasureReport

app = typer.Typer()


@app.command()
def erase(
    car: Annotated[str, typer.Option(help="The car, as `clips.car_id` names it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what goes.")] = False,
    store: Annotated[
        str | None, typer.Option(help="Landing zone that is no folder here: s3://bucket/prefix.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Erase everything that home holds of a car, from every snapshot too.

    Lists the datasets and models that its clips went into; those stay. Safe to stop and to run
    again. Stop `fleet serve` and `ingest` before.
    """
    from datalake import erase as erasure
    from vehicle.clock import SystemClock
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    home = Home.here()
    if yes:
        report = erasure.erase(home, car, utc_ns=SystemClock().utc_ns(), store=store)
    else:
        report = erasure.look(home, car, store=store)
    print(json.dumps(wire.to_plain(report)) if as_json else _told(report, car))


def _told(report: "ErasureReport", car: str) -> str:
    if report.empty:
        return f"home holds nothing of {car}"
    lines = [f"{report.clips} clips of {car} {'erased' if report.done else 'would go'}:"]
    lines += [f"  {n} rows of {table}, in all snapshots" for table, n in report.rows.items()]
    lines += [f"  {n} {kind}" for kind, n in report.files.items()]
    lines.append(f"  {report.bytes / 1e6:.1f} MB of files beside the tables")
    for folder in report.unclear:
        lines.append(f"left, for nothing in it says whose it is: {folder}")
    for dataset in report.datasets:
        clips = f"{dataset.clips} of these clips" if dataset.clips else "perhaps of these clips"
        lines.append(f"stays: dataset {dataset.name} ({dataset.digest[:12]}), {clips}")
    for model in report.models:
        lines.append(f"stays: model {model.name} ({model.digest[:12]}), trained on such a dataset")
    if report.done:
        lines.append(f"record: {report.record}")
    else:
        lines.append("nothing was changed; do it with --yes")
    return "\n".join(lines)
