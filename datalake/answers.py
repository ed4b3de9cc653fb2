"""An answer in the form that whoever asked can use: a table to read, or bytes for programs."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError

Form = Literal["table", "csv", "json", "parquet"]

FORMS: Final[tuple[Form, ...]] = ("table", "csv", "json", "parquet")


class OutputError(RefusedError):
    """The answer cannot be given that way."""


def form_of(path: Path) -> Form:
    """Return the form that a file's name asks for.

    Raises:
        OutputError: it asks for none.
    """
    for form in FORMS[1:]:
        if path.suffix.lower() == f".{form}":
            return form
    raise OutputError(f"{path}: expected a name ending in .csv, .json or .parquet")


def encoded(table: pa.Table, form: Form) -> bytes:
    """Return a whole answer as CSV (UTF-8, first line names), JSON (one list) or Parquet."""
    if form == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(_named_once(table), sink, compression="zstd")
        return sink.getvalue().to_pybytes()
    if form == "json":
        return json.dumps(table.to_pylist(), default=str).encode() + b"\n"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(_rows(table))
    return text.getvalue().encode()


def save(table: pa.Table, path: Path) -> None:
    """Write an answer to a file, whole or not at all.

    Raises:
        OutputError: its name says no form, or its folder is none.
    """
    data = encoded(table, form_of(path))
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")
    wire.atomic_write(path, data)


def give(table: pa.Table, form: Form, limit: int = 40) -> None:
    """Put an answer on the output stream.

    Args:
        limit: rows of a table to read; the other forms are whole.
    Raises:
        OutputError: Parquet for somebody at a terminal.
    """
    if form == "table":
        _show(table, limit)
    elif form == "parquet":
        if sys.stdout.isatty():
            raise OutputError("Parquet is for programs: use a pipe, or --out answer.parquet")
        sys.stdout.buffer.write(encoded(table, form))
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(encoded(table, form).decode())


def _show(table: pa.Table, limit: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(header_style="bold", row_styles=("", "dim"))
    for field in table.schema:
        number = str(field.type).startswith(("int", "uint", "double", "float", "decimal"))
        shown.add_column(Text(field.name), justify="right" if number else "left")
    for row in _rows(table.slice(0, limit)):
        shown.add_row(*(Text(_cell(value)) for value in row))
    Console().print(shown)
    if table.num_rows > limit:
        print(f"{limit} of {table.num_rows} rows; --limit shows more, --csv and --json all")


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Yield rows as tuples: two columns may have one name."""
    for batch in table.to_batches(max_chunksize=10_000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _named_once(table: pa.Table) -> pa.Table:
    names = table.column_names
    return table.rename_columns(
        [n if n not in names[:i] else f"{n}_{i + 1}" for i, n in enumerate(names)]
    )


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
