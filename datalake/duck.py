"""DuckDB as the lake uses it: extensions from the wheels, tables brought up to date, questions
checked before they run."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb

from datalake.hints import hint
from datalake.tables import EMBEDDINGS, LAKE_SCHEMA, SQL_TYPES, TABLES, Table
from vehicle.contracts.wire import RefusedError

_MAINTENANCE: Final = re.compile(
    r"delete_orphaned_files|cleanup_old_files|expire_snapshots|merge_adjacent_files|set_option"
    r"|rewrite_data_files|flush_inlined|add_data_files|sqlite_query|sqlite_attach|sqlite_execute",
    re.IGNORECASE,
)

_STAMP: Final = "roadloop lake/"
EMBEDDINGS_OF_BEFORE: Final = (
    "SELECT t.clip_id, t.frame_id, c.model, t.embedding FROM lake.ticks t "
    "JOIN lake.clips c USING (clip_id) WHERE t.embedding IS NOT NULL"
)
"""Lakes of number 1 kept embeddings in a column of `ticks`."""


class LakeError(RefusedError):
    """Root of what the lake refuses."""


class QueryError(LakeError):
    """The SQL does not parse or does not run."""


class ReadOnlyQueryError(LakeError):
    """The SQL would write: questions may only read."""


class UnknownSnapshotError(LakeError):
    """The lake has no snapshot of that number."""


class LakeUnreadableError(LakeError):
    """The catalog cannot be opened."""


class LakeTooNewError(LakeError):
    """The lake was written by a newer roadloop, or its catalog by a newer DuckLake."""


class LakeBusyError(LakeError):
    """The catalog stayed locked; nothing was written."""


class LakeWriteError(LakeError):
    """The change could not be written (disk full, no permission); nothing of it is kept."""


def connect(*scanners: str) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB in memory that can attach the lake; nothing is downloaded.

    Args:
        scanners: extensions for the kind of catalog; the wheels carry them.
    """
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    )
    for name in (*scanners, "ducklake"):
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        if spec is None or spec.origin is None:
            extra = "postgres" if name.startswith("postgres") else "datalake"
            raise LakeUnreadableError(
                f"the DuckDB extension {name} is not installed: pip install 'roadloop[{extra}]'"
            )
        folder = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}"
        try:
            connection.execute(f"LOAD {quoted(folder / f'{name}.duckdb_extension')}")
        except duckdb.Error as error:
            raise LakeUnreadableError(
                f"the DuckDB extension {name} does not load into DuckDB {duckdb.__version__}: "
                f"{first_line(error)}; install the versions that pyproject.toml pins"
            ) from error
    return connection


def bring_up_to_date(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the tables and columns that are missing, in one transaction; never change a type.

    Raises:
        LakeTooNewError: a newer roadloop wrote here; nothing is touched.
    """
    stamp = require_readable(connection)
    have = columns_of(connection)
    changes = [sql for table in TABLES.values() for sql in _missing(table, have)]
    if stamp < LAKE_SCHEMA:
        changes.append(f"COMMENT ON TABLE lake.clips IS '{_STAMP}{LAKE_SCHEMA}'")
    if changes:
        connection.execute("BEGIN")
        for sql in changes:
            connection.execute(sql)
        connection.execute("COMMIT")


def require_readable(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the number of the lake's tables, 0 where none is stamped yet.

    Raises:
        LakeTooNewError: it is larger than the one this roadloop knows.
    """
    row = connection.execute(
        "SELECT comment FROM duckdb_tables() WHERE database_name = 'lake' AND table_name = 'clips'"
    ).fetchone()
    return require_known(row[0] if row else None)


def require_known(comment: str | None) -> int:
    """Return the number in the comment that stamps `clips`; raises as `require_readable`."""
    stamp = int(comment.removeprefix(_STAMP)) if comment else 0
    if stamp > LAKE_SCHEMA:
        raise LakeTooNewError(
            f"the lake has tables of number {stamp}, this roadloop knows {LAKE_SCHEMA}; "
            "install the roadloop that wrote it, or a newer one"
        )
    return stamp


def fill_gaps(connection: duckdb.DuckDBPyConnection, have: dict[str, set[str]]) -> None:
    """Let a lake of before (or an old snapshot) be asked as if it had today's tables and columns.

    Temporary views stand in front of what is older: missing columns are NULL, missing tables have
    no row, and `embeddings` reads the column of `ticks` that held them once.
    """
    for table in TABLES.values():
        there = have.get(table.name)
        empty = [c for c in table.columns if there is None or c.name not in there]
        nulls = ", ".join(f'NULL::{SQL_TYPES[c.kind]} AS "{c.name}"' for c in empty)
        if there is not None and empty:
            select = f'SELECT *, {nulls} FROM lake."{table.name}"'
        elif there is None and table is EMBEDDINGS and "embedding" in have.get("ticks", ()):
            select = EMBEDDINGS_OF_BEFORE
        elif there is None:
            select = f"SELECT {nulls} WHERE false"
        else:
            continue
        connection.execute(f'CREATE TEMP VIEW "{table.name}" AS {select}')


def columns_of(connection: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    """Return the columns that each of the lake's tables has; a past snapshot may have none."""
    rows = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'lake'"
    ).fetchall()
    have: dict[str, set[str]] = {}
    for table, column in rows:
        have.setdefault(table, set()).add(column)
    return have


def _missing(table: Table, have_all: dict[str, set[str]]) -> Iterator[str]:
    have = have_all.get(table.name)
    if have is None:
        yield f'CREATE TABLE lake."{table.name}" ({table.create_sql})'
        if table is EMBEDDINGS and "embedding" in have_all.get("ticks", ()):
            yield f'INSERT INTO lake."{table.name}" BY NAME {EMBEDDINGS_OF_BEFORE}'
        return
    for column, definition in zip(table.columns, table.create_sql.split(", "), strict=True):
        if column.name not in have:
            yield f'ALTER TABLE lake."{table.name}" ADD COLUMN {definition}'


def lock_down(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Let the connection see the lake's folder and no other file, for good."""
    connection.execute(f"SET allowed_directories = [{quoted(f'{folder}/')}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def require_question(query: str, kinds: list[duckdb.StatementType]) -> None:
    """Raise ReadOnlyQueryError unless the query is one that only reads."""
    if len(kinds) != 1:
        raise ReadOnlyQueryError(f"found {len(kinds)} statements, expected one SELECT")
    if kinds[0] not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise ReadOnlyQueryError(
            f"found {kinds[0].name}, expected SELECT: the lake changes only by ingest, label and "
            "dataset create"
        )
    maintenance = _MAINTENANCE.search(query)
    if maintenance:
        raise ReadOnlyQueryError(f"{maintenance.group()!r} changes the lake; questions only read")


def explained(error: duckdb.Error) -> str:
    """Return DuckDB's words with what was probably meant, and the tables that there are."""
    text = str(error).strip()
    meant = hint(text)
    known = f"known tables: {', '.join(TABLES)}; columns: roadloop datalake tables"
    return "\n".join(part for part in (text, meant, known) if part)


def first_line(error: Exception) -> str:
    """Return the first line of an error's words."""
    return str(error).strip().splitlines()[0]


def quoted(value: Any) -> str:
    """Return an SQL text literal."""
    return "'" + str(value).replace("'", "''") + "'"
