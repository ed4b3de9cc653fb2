"""Verbs that keep the lake: take clips in, look after it, say where models come from."""

import json
from pathlib import Path
from typing import Annotated

import typer

from datalake.verbs import At, Json, Limit, bar, open_lake, print_table

app = typer.Typer()


@app.command()
def ingest(
    routes: Annotated[
        list[Path] | None,
        typer.Argument(help="Route files to take in whole, besides what cars have sent."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="s3://bucket/prefix of the landing zone; access by AWS_* variables."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take every landed clip into the lake, exactly once; bad clips go to quarantine.

    Safe to stop and to run again at any time, also several at once.
    """
    from datalake.ingest import ingest as run
    from datalake.land import land
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    home = Home.here()
    for route in routes or ():
        land(home, route)
    with bar("ingesting clips", as_json) as progress:
        report = run(home, store=store, progress=progress)
    if as_json:
        print(json.dumps(wire.to_plain(report)))
        return
    print(
        f"{report.ingested} clips ingested ({report.rows} rows, {report.bytes / 1e6:.1f} MB), "
        f"{report.already} were in already, {len(report.quarantined)} quarantined; "
        f"the lake is at snapshot {report.snapshot}"
    )
    if report.gone:
        print(f"  {report.gone} clips were in a lake once and are erased")
    for bad in report.quarantined:
        print(f"  quarantined {bad.clip_id[:12]}: {bad.error}: {bad.reason} ({bad.folder})")
    if store is None and not home.landing.is_dir():
        print(f"  nothing has landed yet in {home.landing}")


@app.command()
def salvage(
    clip_id: Annotated[str, typer.Argument(help="Of the clip's folder under lake/quarantine.")],
    as_json: Json = False,
) -> None:
    """Land what is whole of a quarantined clip as a clip of its own, marked as recovered.

    The next ingest takes it in, with `whole` 0; the clip in quarantine stays.
    """
    from datalake.quarantine import salvage as run
    from vehicle.contracts.home import Home

    landed = run(Home.here(), clip_id)
    if as_json:
        print(json.dumps({"clip_id": landed, "recovered_from": clip_id}))
    else:
        print(f"landed as {landed}; `roadloop datalake ingest` takes it in")


@app.command()
def compact(
    keep: Annotated[
        int, typer.Option(min=1, help="Newest snapshots that stay beside the pinned ones.")
    ] = 20,
    as_json: Json = False,
) -> None:
    """Merge small files, let go of old snapshots that no dataset pins, remove orphan files.

    Pinned datasets read the same before and after. Ingest waits meanwhile; questions do not.
    """
    from datalake.maintain import compact as run
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    report = run(Home.here(), keep=keep)
    if as_json:
        print(json.dumps(wire.to_plain(report)))
        return
    print(
        f"{report.files_before} files are {report.files_after} now; {report.expired} snapshots "
        f"let go of, {report.pinned} pinned; {report.removed} files "
        f"({report.removed_bytes / 1e6:.1f} MB) removed"
    )


@app.command()
def check(as_json: Json = False) -> None:
    """Hold every clip's object against its row, byte by byte; exits 1 when something is wrong.

    Finds objects that are missing, damaged or that no row names, rows that are there twice, and
    rows of clips that are not there.
    """
    from datalake.maintain import check as run
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    report = run(Home.here())
    if as_json:
        print(json.dumps({**wire.to_plain(report), "well": report.well}))
    else:
        verdict = "all well" if report.well else "NOT well"
        print(f"{verdict}: {report.clips} clips, {report.bytes / 1e6:.1f} MB hashed")
        for kind in ("missing", "damaged", "strange", "twice", "loose"):
            for name in getattr(report, kind):
                print(f"  {kind}: {name}")
    if not report.well:
        raise typer.Exit(1)


@app.command()
def models(
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Folders of bundles to add; none: list all.")
    ] = None,
    limit: Limit = 40,
    as_json: Json = False,
) -> None:
    """Add bundles to the lake, or list models with the datasets they were trained on."""
    from datalake.models import add, lineage

    with open_lake(None) as lake:
        if bundles:
            count = add(lake, bundles)
            print(json.dumps({"added": count}) if as_json else f"{count} models added")
            return
        print_table(lineage(lake), limit, as_json, False)


@app.command()
def files(
    table: Annotated[str | None, typer.Argument(help="One table; none: all.")] = None,
    at: At = None,
    limit: Limit = 40,
    as_json: Json = False,
) -> None:
    """List the Parquet files that make a table at a snapshot: the lake without extensions.

    Where rows of a file were deleted, or came after the snapshot, the list says how to leave them
    out; datalake/reader.py does. Anything else that reads Parquet can do so too.
    """
    import pyarrow as pa

    from datalake.duck import QueryError
    from datalake.reader import files as found
    from vehicle.contracts.home import Home

    tables = found(Home.here(), snapshot=at)
    if table is not None and table not in tables:
        raise QueryError(f"no table is called {table!r}; there are: {', '.join(tables) or 'none'}")
    rows = [
        {
            "table": name,
            "path": str(file.path),
            "rows": file.rows,
            "up_to_snapshot": file.up_to,
            "deletes": [str(path) for path in file.deletes],
        }
        for name, each in tables.items()
        if table in (None, name)
        for file in each.files
    ]
    kinds = (pa.string(), pa.string(), pa.int64(), pa.int64(), pa.list_(pa.string()))
    names = ("table", "path", "rows", "up_to_snapshot", "deletes")
    schema = pa.schema(list(zip(names, kinds, strict=True)))
    print_table(pa.Table.from_pylist(rows, schema=schema), limit, as_json, False)
