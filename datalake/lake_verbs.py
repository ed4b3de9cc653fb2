"""Verbs that keep the lake: `roadloop datalake ingest`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from datalake.verbs import Json, bar

app = typer.Typer()


@app.command()
def ingest(
    routes: Annotated[
        list[Path] | None,
        typer.Argument(help="Route files to take in whole, besides what cars have sent."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take every landed clip into the lake, exactly once; bad clips go to quarantine.

    Safe to stop and to run again at any time, also twice at once.
    """
    from datalake.ingest import ingest as run
    from datalake.land import land
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    home = Home.here()
    for route in routes or ():
        land(home, route)
    with bar("ingesting clips", as_json) as progress:
        report = run(home, progress=progress)
    if as_json:
        print(json.dumps(wire.to_plain(report)))
        return
    print(
        f"{report.ingested} clips ingested ({report.rows} rows, {report.bytes / 1e6:.1f} MB), "
        f"{report.already} were in already, {len(report.quarantined)} quarantined; "
        f"the lake is at snapshot {report.snapshot}"
    )
    for bad in report.quarantined:
        print(f"  quarantined {bad.clip_id[:12]}: {bad.error}: {bad.reason} ({bad.folder})")
    if not home.landing.is_dir():
        print(f"  nothing has landed yet in {home.landing}")
