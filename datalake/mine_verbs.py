"""Verbs that ask the lake: sql, tables, queries, mine, find, and the way to triggers and back."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datalake.verbs import (
    At,
    Csv,
    Json,
    Limit,
    Out,
    Parquet,
    Set,
    TimeLimit,
    Wanted,
    hint_if_empty,
    numbers,
    open_lake,
    print_table,
)

if TYPE_CHECKING:
    from vehicle.contracts.campaign import TriggerSpec

app = typer.Typer()

AsSql = Annotated[bool, typer.Option("--sql", help="Print the SQL instead of asking it.")]


@app.command()
def sql(
    query: Annotated[
        str | None,
        typer.Argument(
            help="One SELECT over the tables of the lake; none: ask line by line, or read a script "
            "from the input stream."
        ),
    ] = None,
    at: At = None,
    limit: Limit = 40,
    time_limit: TimeLimit = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_parquet: Parquet = False,
    out: Out = None,
) -> None:
    """Ask the lake in SQL (DuckDB's dialect). Questions only read.

    Example: roadloop datalake sql "SELECT car_id, count(*) AS clips FROM clips GROUP BY ALL"
    """
    wanted = Wanted.of(limit, as_json, as_csv, as_parquet, out, time_limit)
    with open_lake(at) as lake:
        if query is not None:
            wanted.answer(lake, query)
            return
        if as_parquet or out is not None:
            raise typer.BadParameter("--parquet and --out need a query; line by line: .save FILE")
        _line_by_line(lake, wanted)


def _line_by_line(lake: Any, wanted: Wanted) -> None:
    from datalake.repl import Session, script, talk, with_history

    terminal = sys.stdin.isatty()
    session = Session(
        lake, form=wanted.form, limit=wanted.limit, limit_s=wanted.limit_s, timer=terminal
    )
    if not terminal:
        script(session, sys.stdin)
        return
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    save_history = with_history(state / "roadloop" / "sql-history")
    try:
        talk(session)
    finally:
        save_history()


@app.command()
def tables(
    name: Annotated[str | None, typer.Argument(help="One table, column by column.")] = None,
    as_json: Json = False,
) -> None:
    """List the lake's tables with their rows, or one table's columns with their meaning."""
    import pyarrow as pa

    from datalake.lake import QueryError
    from datalake.tables import SQL_TYPES, TABLES

    if name is not None:
        if name not in TABLES:
            raise QueryError(f"no table is called {name!r}; there are: {', '.join(TABLES)}")
        rows = [
            {"column": c.name, "type": SQL_TYPES[c.kind], "meaning": c.about}
            for c in TABLES[name].columns
        ]
        print_table(pa.Table.from_pylist(rows), len(rows), as_json, False)
        return
    with open_lake(None) as lake:
        counts = [lake.sql(f"SELECT count(*) AS n FROM {t}")["n"][0].as_py() for t in TABLES]
        rows = [
            {"table": t.name, "rows": n, "a row is": t.row}
            for t, n in zip(TABLES.values(), counts, strict=True)
        ]
        print_table(pa.Table.from_pylist(rows), len(rows), as_json, False)
        hint_if_empty(lake)


@app.command()
def queries(
    name: Annotated[str | None, typer.Argument(help="One question, with its SQL.")] = None,
    as_json: Json = False,
) -> None:
    """List the named questions with what they find, or one with why, its numbers and its SQL."""
    import pyarrow as pa

    from datalake.queries import all_queries, described, named

    chosen = [named(name)] if name else list(all_queries().values())
    if as_json:
        print(json.dumps([described(query) for query in chosen]))
    elif name:
        for key, value in described(chosen[0]).items():
            print(f"{key:>8}  {value}" if key != "sql" else f"\n{value}")
    else:
        rows = [{"name": q.name, "yields": q.yields, "finds": q.about} for q in chosen]
        print_table(pa.Table.from_pylist(rows), len(rows), False, False)


@app.command()
def mine(
    name: Annotated[str, typer.Argument(help="A named question: roadloop datalake queries.")],
    values: Set = None,
    at: At = None,
    limit: Limit = 40,
    time_limit: TimeLimit = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_parquet: Parquet = False,
    out: Out = None,
    as_sql: AsSql = False,
) -> None:
    """Answer a named question: the frames worth labelling, worst first.

    Example: roadloop datalake mine night_uncertain --set luma=60
    """
    from datalake.queries import named

    query = named(name).sql(**numbers(values))
    if as_sql:
        print(query)
        return
    wanted = Wanted.of(limit, as_json, as_csv, as_parquet, out, time_limit)
    with open_lake(at) as lake:
        wanted.answer(lake, query)


@app.command()
def find(
    expression: Annotated[
        str,
        typer.Argument(help='What a trigger could say, e.g. "ttc_s < 1 and n_tracks >= 3".'),
    ],
    at: At = None,
    limit: Limit = 40,
    time_limit: TimeLimit = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_parquet: Parquet = False,
    out: Out = None,
    as_sql: AsSql = False,
) -> None:
    """Find the ticks on which an expression holds: a temporal pattern over ticks and road users.

    The language is that of triggers (docs/reference/triggers.md): what this finds, a car would
    have noticed.

    Example: roadloop datalake find "rises(tracks(range_m < 15) >= 1) then accel_mps2 <= -3 within
    2 s"
    """
    from datalake.patterns import compiled

    query = compiled(expression).sql
    if as_sql:
        print(query)
        return
    wanted = Wanted.of(limit, as_json, as_csv, as_parquet, out, time_limit)
    with open_lake(at) as lake:
        wanted.answer(lake, query)


@app.command("to-trigger")
def to_trigger(
    source: Annotated[
        str,
        typer.Argument(
            help="A named question, an expression, or SELECT ... FROM ticks WHERE condition."
        ),
    ],
    campaign: Annotated[Path, typer.Option(help="Campaign to add it to, *.toml; made if absent.")],
    name: Annotated[
        str | None, typer.Option(help="Of the trigger; default: the question's, or `found`.")
    ] = None,
    values: Set = None,
    hold_s: Annotated[float, typer.Option(help="Seconds it must hold before it fires.")] = 0.0,
    pre_s: Annotated[float, typer.Option(help="Seconds kept before.")] = 3.0,
    post_s: Annotated[float, typer.Option(help="Seconds kept after.")] = 2.0,
    min_interval_s: Annotated[float, typer.Option(help="Seconds of quiet after firing.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Turn a question into a trigger of a campaign, and say how often it would have fired.

    Sign and hand it out: roadloop fleet campaign add FILE. What no car can watch for is refused by
    name.

    Example: roadloop datalake to-trigger low_ttc --set ttc_s=1 --campaign close.toml
    """
    from datalake.bridge import expression_of
    from datalake.campaign_file import add_trigger
    from datalake.queries import all_queries
    from vehicle.contracts.campaign import TriggerSpec

    spec = TriggerSpec(
        name=name or (source if source in all_queries() else "found"),
        kind="expression",
        when=expression_of(source, **numbers(values)),
        hold_s=hold_s,
        pre_s=pre_s,
        post_s=post_s,
        min_interval_s=min_interval_s,
    )
    made = add_trigger(campaign, spec)
    with open_lake(None) as lake:
        _tell(lake, spec, as_json, {"campaign": made.campaign_id, "file": str(campaign)})


@app.command("from-trigger")
def from_trigger(
    campaign: Annotated[str, typer.Argument(help="*.toml, or the name of one that home keeps.")],
    name: Annotated[str, typer.Argument(help="Of the trigger.")],
    run: Annotated[
        bool, typer.Option("--run", help="Find what it would have found, and say how often.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the SQL that finds what a trigger fires on, or find it in the fleet's past."""
    from datalake.campaign_file import read_campaign, trigger_of
    from datalake.patterns import compiled
    from vehicle.contracts.home import Home

    spec = trigger_of(read_campaign(Home.here(), campaign), name)
    if not run:
        print(compiled(spec.expression).sql)
        return
    with open_lake(None) as lake:
        _tell(lake, spec, as_json, {"campaign": campaign})


def _tell(lake: Any, spec: "TriggerSpec", as_json: bool, where: dict[str, str]) -> None:
    """Say what a trigger is and how often it would have fired."""
    from datalake.forecast import forecast, words
    from vehicle.contracts import wire

    told = forecast(lake, spec)
    if as_json:
        facts = {**where, "trigger": wire.to_plain(spec), "forecast": wire.to_plain(told)}
        print(json.dumps(facts))
        return
    print(f"trigger {spec.name} of {where['campaign']}: {spec.expression}")
    for line in words(told):
        print(f"  {line}")
    for clip_id, frame_id in told.frames[:10]:
        print(f"  {clip_id[:12]} frame {frame_id}")
    hint_if_empty(lake)
