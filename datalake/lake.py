"""The lake: facts about clips in DuckLake tables, read by anyone, written by one at a time.

The catalog is one SQLite file in WAL mode, the rows are Parquet. DuckDB's extensions are loaded
from the installed wheels, so that no network is ever needed. DuckLake lets two writers append the
same clip side by side (appends never conflict), so every change runs under a lock file of this
machine: the check that a clip is not in and the append of its rows are one step.
"""

import fcntl
import importlib.util
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb
import pyarrow as pa

from datalake.tables import TABLES, Table
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError

T = TypeVar("T")

BUSY_TIMEOUT_MS: Final = 10_000
TRIES: Final = 8
_TRANSIENT: Final = re.compile(r"database is locked|conflict|busy", re.IGNORECASE)
_MAINTENANCE: Final = re.compile(
    r"delete_orphaned_files|cleanup_old_files|expire_snapshots|merge_adjacent_files|set_option"
    r"|rewrite_data_files|flush_inlined|add_data_files|sqlite_query|sqlite_attach|sqlite_execute",
    re.IGNORECASE,
)


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


class LakeBusyError(LakeError):
    """The catalog stayed locked; nothing was written."""


class LakeWriteError(LakeError):
    """The change could not be written (disk full, no permission); nothing of it is kept."""


class Writer:
    """What a change may do inside its transaction; see `Lake.write`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def known(self, table: str, column: str, values: Collection[str]) -> set[str]:
        """Return those of `values` that `column` of `table` already holds."""
        if not values:
            return set()
        found = self._connection.execute(
            f'SELECT DISTINCT "{column}" FROM lake."{TABLES[table].name}" '
            f'WHERE list_contains($values, "{column}")',
            {"values": sorted(values)},
        )
        return {row[0] for row in found.fetchall()}

    def frames(self, table: str, clip_id: str) -> set[int]:
        """Return the frame_ids of a clip that `table` already holds."""
        found = self._connection.execute(
            f'SELECT DISTINCT frame_id FROM lake."{TABLES[table].name}" WHERE clip_id = $clip',
            {"clip": clip_id},
        )
        return {row[0] for row in found.fetchall()}

    def append(self, table: str, rows: pa.Table) -> int:
        """Append rows of the table's schema; return how many."""
        rows = rows.cast(TABLES[table].schema)
        if rows.num_rows:
            self._connection.register("rows_in", rows)
            self._connection.execute(f'INSERT INTO lake."{table}" BY NAME SELECT * FROM rows_in')
            self._connection.unregister("rows_in")
        return int(rows.num_rows)


class Lake:
    """The lake of one home; a context manager.

    Opening it writes nothing: a home without a lake answers as an empty one.

    Args:
        home: whose lake.
        snapshot: read the lake as it was then, always in the same order (one thread, and random()
            begins from the same seed in every query); None reads it as it is now.
    """

    def __init__(self, home: Home, *, snapshot: int | None = None) -> None:
        self.home = home
        self._snapshot = snapshot
        self._reads_nothing = False
        self._reader: duckdb.DuckDBPyConnection | None = None
        self._writer: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> "Lake":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the catalog."""
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None

    @property
    def catalog(self) -> Path:
        """Return the catalog file; a lake without one is empty."""
        return self.home.lake / "catalog.sqlite"

    @property
    def exists(self) -> bool:
        """Return whether anything was ever written."""
        return self.catalog.is_file()

    def sql(self, query: str) -> pa.Table:
        """Answer one question.

        Args:
            query: one SELECT (or FROM, WITH, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN); files outside
                the lake cannot be read, nothing can be written.
        Raises:
            ReadOnlyQueryError: it would write, or is more than one statement.
            QueryError: DuckDB refuses it; the message names the known tables.
        """
        connection = self._reading()
        try:
            statements = connection.extract_statements(query)
            _require_question(query, [s.type for s in statements])
            if self._snapshot is not None:
                connection.execute("SELECT setseed(0.5)")
            return connection.execute(statements[0]).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(_explained(error)) from error

    def snapshot(self) -> int:
        """Return the number of the newest snapshot (or of the one this lake reads); 0 if empty."""
        if self._snapshot is not None:
            return self._snapshot
        connection = self._reading()
        if self._reads_nothing:
            return 0
        row = connection.execute("SELECT id FROM lake.current_snapshot()").fetchone()
        return int(row[0]) if row else 0

    def at(self, snapshot: int) -> "Lake":
        """Return the lake as it was at a snapshot.

        Raises:
            UnknownSnapshotError: there is none of that number.
        """
        newest = self.snapshot()
        if not 0 <= snapshot <= newest:
            raise UnknownSnapshotError(f"snapshot {snapshot} is not in the lake (newest: {newest})")
        return Lake(self.home, snapshot=snapshot)

    def append(self, table: str, rows: pa.Table) -> int:
        """Append rows to one table in a transaction of its own; return how many."""
        return self.write(lambda writer: writer.append(table, rows))

    def write(self, change: Callable[[Writer], T]) -> T:
        """Run `change` in one transaction, alone on this machine: all of it is kept or nothing.

        Args:
            change: called again from the start when the catalog was locked by somebody else.
        Raises:
            LakeBusyError: still locked after several tries.
            LakeWriteError: the disk refused.
        """
        self.home.lake.mkdir(parents=True, exist_ok=True)
        with _alone(self.home.lake / "lake.lock"):
            for attempt in range(TRIES):
                try:
                    return self._attempt(change)
                except duckdb.Error as error:
                    if not _TRANSIENT.search(str(error)):
                        raise LakeWriteError(
                            f"nothing of this change was kept: {_first_line(error)}; put the "
                            f"cause right ({self.home.lake}) and run it again"
                        ) from error
                    last = error
                time.sleep(0.05 * 2**attempt)
        raise LakeBusyError(f"{self.catalog} stayed locked: {_first_line(last)}; run it again")

    def _attempt(self, change: Callable[[Writer], T]) -> T:
        connection = self._writing()
        connection.execute("BEGIN")
        try:
            result = change(Writer(connection))
            connection.execute("COMMIT")
        except BaseException:
            self._writer = None
            connection.close()
            raise
        return result

    def _reading(self) -> duckdb.DuckDBPyConnection:
        now = self._snapshot is None
        if self._reader is not None and self._reads_nothing and self.exists and now:
            self._reader.close()  # the lake came into being since
            self._reader = None
        if self._reader is None:
            try:
                self._reader = self._open_reader()
            except duckdb.Error:
                self._reader = self._open_reader_alone()
        return self._reader

    def _open_reader_alone(self) -> duckdb.DuckDBPyConnection:
        """Open the lake while nobody is just creating it."""
        with _alone(self.home.lake / "lake.lock"):
            try:
                return self._open_reader()
            except duckdb.Error as error:
                raise LakeUnreadableError(
                    f"{self.catalog} cannot be read: {_first_line(error)}; restore it from a copy, "
                    f"or move {self.home.lake} away and ingest the landing zone again"
                ) from error

    def _open_reader(self) -> duckdb.DuckDBPyConnection:
        connection = _connect()
        try:
            self._reads_nothing = not self.exists
            if not self._reads_nothing:
                self._attach(connection, read_only=True)
                self._reads_nothing = not _columns(connection)
            if self._reads_nothing:
                for table in TABLES.values():
                    connection.execute(f'CREATE TABLE "{table.name}" ({table.create_sql})')
            else:
                connection.execute("USE lake")
            if self._snapshot is not None:
                connection.execute("SET threads = 1")
            _lock_down(connection, self.home.lake)
        except BaseException:
            connection.close()
            raise
        return connection

    def _writing(self) -> duckdb.DuckDBPyConnection:
        if self._writer is None:
            connection = _connect()
            try:
                self._attach(connection, read_only=False)
                _bring_up_to_date(connection)
            except BaseException:
                connection.close()
                raise
            self._writer = connection
        return self._writer

    def _attach(self, connection: duckdb.DuckDBPyConnection, *, read_only: bool) -> None:
        options = [
            f"DATA_PATH {_quoted(self.home.lake / 'data')}",
            "OVERRIDE_DATA_PATH true",  # the home folder may be moved
            f"META_BUSY_TIMEOUT {BUSY_TIMEOUT_MS}",
        ]
        if read_only:
            options.append("READ_ONLY")
        else:
            options += ["META_JOURNAL_MODE 'WAL'", "DATA_INLINING_ROW_LIMIT 0"]
        if self._snapshot is not None:
            options.append(f"SNAPSHOT_VERSION {self._snapshot:d}")
        target = _quoted(f"ducklake:sqlite:{self.catalog}")
        connection.execute(f"ATTACH {target} AS lake ({', '.join(options)})")


def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    )
    for name in ("sqlite_scanner", "ducklake"):
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        if spec is None or spec.origin is None:
            raise LakeUnreadableError(
                f"the DuckDB extension {name} is not installed: pip install 'roadloop[datalake]'"
            )
        folder = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}"
        try:
            connection.execute(f"LOAD {_quoted(folder / f'{name}.duckdb_extension')}")
        except duckdb.Error as error:
            raise LakeUnreadableError(
                f"the DuckDB extension {name} does not load into DuckDB {duckdb.__version__}: "
                f"{_first_line(error)}; install the versions that pyproject.toml pins"
            ) from error
    return connection


def _bring_up_to_date(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the tables and columns that are missing, in one transaction; never change a type."""
    have = _columns(connection)
    changes = [sql for table in TABLES.values() for sql in _missing(table, have.get(table.name))]
    if changes:
        connection.execute("BEGIN")
        for sql in changes:
            connection.execute(sql)
        connection.execute("COMMIT")


def _columns(connection: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    """Return the columns that each of the lake's tables has; a past snapshot may have none."""
    rows = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'lake'"
    ).fetchall()
    have: dict[str, set[str]] = {}
    for table, column in rows:
        have.setdefault(table, set()).add(column)
    return have


def _missing(table: Table, have: set[str] | None) -> Iterator[str]:
    if have is None:
        yield f'CREATE TABLE lake."{table.name}" ({table.create_sql})'
        return
    for column, definition in zip(table.columns, table.create_sql.split(", "), strict=True):
        if column.name not in have:
            yield f'ALTER TABLE lake."{table.name}" ADD COLUMN {definition}'


def _lock_down(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Let the connection see the lake's folder and no other file, for good."""
    connection.execute(f"SET allowed_directories = [{_quoted(f'{folder}/')}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _require_question(query: str, kinds: list[duckdb.StatementType]) -> None:
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


def _explained(error: duckdb.Error) -> str:
    text = str(error).strip()
    return f"{text}\nknown tables: {', '.join(TABLES)}; columns: roadloop datalake tables"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _quoted(value: Any) -> str:
    return "'" + str(value).replace("'", "''") + "'"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel drops it when the process dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
