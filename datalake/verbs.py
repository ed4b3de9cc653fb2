"""What the verbs of the lake share: options, opening the lake, showing an answer, a bar."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pyarrow as pa

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


@contextmanager
def open_lake(at: int | None) -> Iterator[Any]:
    """Open this home's lake, as it is or as it was at a snapshot."""
    from datalake.lake import Lake
    from vehicle.contracts.home import Home

    with Lake(Home.here()) as lake:
        if at is None:
            yield lake
        else:
            with lake.at(at) as past:
                yield past


def hint_if_empty(lake: Any) -> None:
    """Say on the error stream what to do about a lake that nothing was ever written to."""
    if not lake.exists:
        print(
            f"(the lake at {lake.home.lake} is empty: let cars send clips home, then "
            "`roadloop datalake ingest`)",
            file=sys.stderr,
        )


def sql_of(text: str, *, clips: bool = False) -> str:
    """Return the SQL of a named question that chooses frames (or whole clips), or the text."""
    from datalake.mine import sql_of as found

    return found(text, clips=clips)


def numbers(values: list[str] | None) -> dict[str, float]:
    """Return the numbers that --set gave; anything else is a usage error."""
    found = {}
    for text in values or ():
        key, value = pair(text)
        try:
            found[key] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{text!r}: {value!r} is not a number") from None
    return found


def pair(text: str) -> tuple[str, str]:
    """Return the two sides of key=value."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"found {text!r}, expected key=value")
    return key, value


def print_table(table: "pa.Table", limit: int, as_json: bool, as_csv: bool) -> None:
    """Print an answer: for people, or all of it for programs."""
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
def bar(text: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar on a terminal's error stream."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(text, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
