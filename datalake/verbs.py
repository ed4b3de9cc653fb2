"""What the verbs of the lake share: options, opening the lake, showing an answer, a bar."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from datalake.answers import Form

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")]
Limit = Annotated[int, typer.Option(help="Rows shown in a table; --json and --csv print all.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="A number of the named question, e.g. --set luma=60. Repeatable."),
]
Parquet = Annotated[
    bool, typer.Option("--parquet", help="Write Parquet to the output stream, for a pipe.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write *.csv, *.json or *.parquet instead.")
]
TimeLimit = Annotated[
    float | None, typer.Option(help="Seconds a question may take; then it is stopped.")
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
    from datalake.answers import give

    give(table, "json" if as_json else "csv" if as_csv else "table", limit)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How whoever asks wants the answer.

    Args:
        form: on the output stream, where `out` names no file.
    """

    form: "Form"
    limit: int
    out: Path | None
    limit_s: float | None

    @classmethod
    def of(
        cls,
        limit: int,
        as_json: bool,
        as_csv: bool,
        as_parquet: bool,
        out: Path | None,
        limit_s: float | None,
    ) -> "Wanted":
        """Return it from the options of a verb."""
        chosen = {"json": as_json, "csv": as_csv, "parquet": as_parquet}
        forms = [form for form, given in chosen.items() if given]
        if len(forms) + (out is not None) > 1:
            raise typer.BadParameter("expected one of --json, --csv, --parquet and --out")
        if limit_s is not None and limit_s <= 0:
            raise typer.BadParameter("--time-limit: expected seconds above 0")
        return cls(forms[0] if forms else "table", limit, out, limit_s)  # type: ignore[arg-type]

    def answer(self, lake: Any, query: str) -> None:
        """Ask, and give the answer."""
        from datalake.answers import form_of, give, save
        from datalake.ask import ask

        if self.out is not None:
            form_of(self.out)  # refuses before anything is asked
        table = ask(lake, query, self.limit_s)
        if self.out is not None:
            save(table, self.out)
            print(f"{self.out}: {table.num_rows} rows")
        else:
            give(table, self.form, self.limit)
        hint_if_empty(lake)


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
