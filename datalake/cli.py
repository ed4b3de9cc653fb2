"""Verbs of the lake: ingest, ask in SQL, mine, buy labels, pin datasets."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datalake.scenario_verb import scenario

if TYPE_CHECKING:
    import pyarrow as pa

app = typer.Typer(
    no_args_is_help=True,
    help="Facts about every clip: ingest the landing zone, ask in SQL, buy labels, pin datasets. "
    "The lake lies in $ROADLOOP_HOME/lake (default .roadloop/lake).",
)
dataset_app = typer.Typer(
    no_args_is_help=True, help="Pinned, hashed sets of labelled frames for training."
)
app.add_typer(dataset_app, name="dataset")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")]
Limit = Annotated[int, typer.Option(help="Rows shown in a table; --json and --csv print all.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="A number of the named question, e.g. --set luma=60. Repeatable."),
]
At = Annotated[
    int | None, typer.Option("--at", help="Read the lake at this snapshot; default: as it is now.")
]


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
    with _bar("ingesting clips", as_json) as progress:
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
        print(f"  quarantined {bad.clip_id[:12]}: {bad.reason} ({bad.folder})")
    if not home.landing.is_dir():
        print(f"  nothing has landed yet in {home.landing}")


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the tables of the lake.")],
    at: At = None,
    limit: Limit = 40,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Ask the lake in SQL (DuckDB's dialect). Questions only read.

    Example: roadloop datalake sql "SELECT car_id, count(*) AS clips FROM clips GROUP BY ALL"
    """
    with _lake(at) as lake:
        _print(lake.sql(query), limit, as_json, as_csv)
        _hint_if_empty(lake)


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
        _print(pa.Table.from_pylist(rows), len(rows), as_json, False)
        return
    with _lake(None) as lake:
        counts = [lake.sql(f"SELECT count(*) AS n FROM {t}")["n"][0].as_py() for t in TABLES]
        rows = [
            {"table": t.name, "rows": n, "a row is": t.row}
            for t, n in zip(TABLES.values(), counts, strict=True)
        ]
        _print(pa.Table.from_pylist(rows), len(rows), as_json, False)
        _hint_if_empty(lake)


@app.command()
def queries(as_json: Json = False) -> None:
    """List the named questions with what they find and their SQL."""
    import pyarrow as pa

    from datalake.mine import QUERIES

    rows = [
        {
            "name": q.name,
            "finds": q.about,
            "set": ", ".join(f"{k}={v:g}" for k, v in q.defaults.items()),
            "sql": q.sql(),
        }
        for q in QUERIES.values()
    ]
    _print(pa.Table.from_pylist(rows), len(rows), as_json, False)


@app.command()
def mine(
    name: Annotated[str, typer.Argument(help="A named question: roadloop datalake queries.")],
    values: Set = None,
    at: At = None,
    limit: Limit = 40,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Answer a named question: the frames worth labelling, worst first.

    Example: roadloop datalake mine night_uncertain --set luma=60
    """
    from datalake.mine import named

    query = named(name).sql(**_numbers(values))
    with _lake(at) as lake:
        _print(lake.sql(query), limit, as_json, as_csv)
        _hint_if_empty(lake)


@app.command()
def label(
    query: Annotated[
        str,
        typer.Argument(
            help="SQL yielding clip_id (whole clips) or clip_id and frame_id (those frames), or "
            "the name of a named question."
        ),
    ],
    every: Annotated[int, typer.Option(help="Of whole clips, buy every n-th frame.")] = 1,
    as_json: Json = False,
) -> None:
    """Buy the labels of the frames that a query chooses; says what they cost in boxes.

    Labels of simulated drives come from the simulator's truth, and only for what is bought.
    """
    from datalake.label import label as run
    from datalake.lake import QueryError
    from vehicle.contracts import wire

    with _lake(None) as lake:
        answer = lake.sql(_sql_of(query))
        if "clip_id" not in answer.column_names:
            raise QueryError(f"the query yields {answer.column_names}; expected a clip_id")
        clips = answer["clip_id"].to_pylist()
        frames: dict[str, set[int]] | None = None
        if "frame_id" in answer.column_names:
            frames = {clip: set() for clip in clips}
            for clip, frame in zip(clips, answer["frame_id"].to_pylist(), strict=True):
                frames[clip].add(frame)
        report = run(lake.home, lake, clips, frames=frames, every=every)
    if as_json:
        print(json.dumps(wire.to_plain(report)))
        return
    print(
        f"{report.frames} frames of {report.clips} clips labelled, {report.boxes} boxes to pay; "
        f"{report.already} frames had labels before"
    )


app.command()(scenario)


@dataset_app.command("create")
def dataset_create(
    name: Annotated[str, typer.Argument(help="Of the folder under $ROADLOOP_HOME/datasets.")],
    query: Annotated[
        str,
        typer.Option("--sql", help="SQL yielding clip_id and frame_id, or a named question."),
    ],
    at: At = None,
    tag: Annotated[list[str] | None, typer.Option(help="key=value. Repeatable.")] = None,
    replace: Annotated[bool, typer.Option(help="Give up a dataset of that name.")] = False,
    as_json: Json = False,
) -> None:
    """Pin the frames that a query chooses, with their labels, as a dataset for training."""
    from datalake.dataset import create
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    tags = dict(_pair(text) for text in tag or ())
    with _bar("decoding frames", as_json) as progress:
        manifest = create(
            *(Home.here(), name, _sql_of(query)),
            snapshot=at,
            tags=tags,
            replace=replace,
            progress=progress,
        )
    if as_json:
        print(json.dumps({**wire.to_plain(manifest), "digest": manifest.digest}))
        return
    boxes = ", ".join(f"{count} {kind}" for kind, count in manifest.boxes.items()) or "no boxes"
    print(
        f"dataset {name}: {manifest.frames} frames of {len(manifest.sources)} clips, {boxes}; "
        f"snapshot {manifest.snapshot}, digest {manifest.digest[:12]}"
    )


@dataset_app.command("show")
def dataset_show(
    name: Annotated[
        str | None, typer.Argument(help="Of the dataset; none: list all of them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a dataset is and where it came from, after checking every byte of it."""
    from datalake.dataset import names, show
    from vehicle.contracts.home import Home

    home = Home.here()
    if name is None:
        found = names(home)
        print(json.dumps(found) if as_json else "\n".join(found) or "there is no dataset yet")
        return
    facts = show(home, name)
    if as_json:
        print(json.dumps(facts))
        return
    for key, value in facts.items():
        text = value
        if isinstance(value, list):
            text = ", ".join(map(str, value))
        elif isinstance(value, dict):
            text = ", ".join(f"{k} {v}" for k, v in value.items()) or "-"
        print(f"{key:>9}  {text}")


@contextmanager
def _lake(at: int | None) -> Iterator[Any]:
    from datalake.lake import Lake
    from vehicle.contracts.home import Home

    with Lake(Home.here()) as lake:
        if at is None:
            yield lake
        else:
            with lake.at(at) as past:
                yield past


def _hint_if_empty(lake: Any) -> None:
    if not lake.exists:
        print(
            f"(the lake at {lake.home.lake} is empty: let cars send clips home, then "
            "`roadloop datalake ingest`)",
            file=sys.stderr,
        )


def _sql_of(text: str) -> str:
    """Return the SQL of a named question, or the text itself."""
    from datalake.mine import QUERIES

    return QUERIES[text].sql() if text in QUERIES else text


def _numbers(values: list[str] | None) -> dict[str, float]:
    numbers = {}
    for text in values or ():
        key, value = _pair(text)
        try:
            numbers[key] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{text!r}: {value!r} is not a number") from None
    return numbers


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"found {text!r}, expected key=value")
    return key, value


def _print(table: "pa.Table", limit: int, as_json: bool, as_csv: bool) -> None:
    if as_json:
        print(json.dumps(table.to_pylist(), default=str))
        return
    if as_csv:
        import csv

        writer = csv.writer(sys.stdout)
        writer.writerow(table.column_names)
        writer.writerows(row.values() for row in table.to_pylist())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(header_style="bold", row_styles=("", "dim"))
    for field in table.schema:
        number = str(field.type).startswith(("int", "uint", "double", "float", "decimal"))
        shown.add_column(Text(field.name), justify="right" if number else "left")
    for row in table.slice(0, limit).to_pylist():
        shown.add_row(*(Text(_cell(value)) for value in row.values()))
    Console().print(shown)
    if table.num_rows > limit:
        print(f"{limit} of {table.num_rows} rows; --limit shows more, --csv and --json all")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and len(value) > 4:
        return f"[{', '.join(_cell(v) for v in value[:3])}, ... {len(value)}]"
    text = str(value)
    is_digest = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return f"{text[:12]}..." if is_digest else text


@contextmanager
def _bar(text: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar on a terminal's error stream."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
