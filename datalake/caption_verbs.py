"""Verbs of captions: what to explain, explanations taken in, frames found by what they say."""

import json
from pathlib import Path
from typing import Annotated

import typer

from datalake.verbs import At, Csv, Json, Limit, bar, hint_if_empty, open_lake, print_table

app = typer.Typer()

AsSql = Annotated[
    bool,
    typer.Option(
        "--sql", help="Print a query that yields these frames, for sheet, label, dataset create."
    ),
]


@app.command()
def uncaptioned(
    out: Annotated[Path, typer.Argument(help="File of decisions to write, one a line.")],
    model: Annotated[
        str, typer.Option(help="Explainer, name@version: events it has not explained itself.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Decisions at most, newest clips first.")] = (
        100_000
    ),
    as_json: Json = False,
) -> None:
    """Write the decisions at events that nobody has explained yet.

    Then: roadloop fleet infer explain write OUT CAPTIONS, and roadloop datalake caption CAPTIONS.
    """
    from datalake.captions import uncaptioned as find
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    with open_lake(None) as lake, bar("reading clips", as_json) as told:
        found = find(Home.here(), lake, model, limit, told)
        hint_if_empty(lake)
    wire.atomic_write(out, b"".join(wire.to_bytes(r) + b"\n" for r in found.records))
    facts = {"file": str(out), "decisions": len(found.records), "silent": found.silent}
    print(json.dumps(facts) if as_json else f"{len(found.records)} decisions in {out}")


@app.command()
def caption(
    captions: Annotated[Path, typer.Argument(help="File that `fleet infer explain write` wrote.")],
    as_json: Json = False,
) -> None:
    """Take captions into the lake, each of a frame and an explainer once.

    Example: roadloop datalake caption run/captions.jsonl
    """
    from dataclasses import asdict

    from datalake.captions import read_captions, take_captions

    with open_lake(None) as lake:
        report = take_captions(lake, read_captions(captions))
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        print(f"{report.captions} captions taken in, {report.already} were there already")


@app.command()
def because(
    words: Annotated[list[str], typer.Argument(help="What the caption must say: all of them.")],
    at: At = None,
    limit: Limit = 40,
    as_json: Json = False,
    as_csv: Csv = False,
    as_sql: AsSql = False,
) -> None:
    """Find frames by why the car decided so: those whose caption says all of the words.

    Example: roadloop datalake because pedestrian crossing "brake hard"
    """
    from datalake.captions import search_sql

    query = search_sql(words)
    if as_sql:
        print(query)
        return
    with open_lake(at) as lake:
        print_table(lake.sql(query), limit, as_json, as_csv)
        hint_if_empty(lake)
