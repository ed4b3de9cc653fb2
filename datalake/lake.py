"""The lake: facts about clips in DuckLake tables, read by anyone, written by one at a time.

The catalog is one SQLite file in WAL mode, the rows are Parquet. DuckDB's extensions are loaded
from the installed wheels, so that no network is ever needed. DuckLake lets two writers append the
same clip side by side (appends never conflict), so every change runs under a lock file of this
machine: the check that a clip is not in and the append of its rows are one step.
"""

import fcntl
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import duckdb
import pyarrow as pa

from datalake.duck import (
    LakeBusyError,
    LakeError,
    LakeUnreadableError,
    LakeWriteError,
    QueryError,
    ReadOnlyQueryError,
    UnknownSnapshotError,
    bring_up_to_date,
    columns_of,
    connect,
    explained,
    first_line,
    lock_down,
    quoted,
    require_question,
)
from datalake.tables import TABLES
from vehicle.contracts.home import Home
from vehicle.contracts.wire import sync_folder

__all__ = [
    "Lake",
    "LakeBusyError",
    "LakeError",
    "LakeUnreadableError",
    "LakeWriteError",
    "QueryError",
    "ReadOnlyQueryError",
    "UnknownSnapshotError",
    "Writer",
]

T = TypeVar("T")

BUSY_TIMEOUT_MS: Final = 10_000
TRIES: Final = 8
_TRANSIENT: Final = re.compile(r"database is locked|conflict|busy", re.IGNORECASE)


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
            require_question(query, [s.type for s in statements])
            if self._snapshot is not None:
                connection.execute("SELECT setseed(0.5)")
            return connection.execute(statements[0]).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(explained(error)) from error

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
                            f"nothing of this change was kept: {first_line(error)}; put the "
                            f"cause right ({self.home.lake}) and run it again"
                        ) from error
                    last = error
                time.sleep(0.05 * 2**attempt)
        raise LakeBusyError(f"{self.catalog} stayed locked: {first_line(last)}; run it again")

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
            except duckdb.Error as error:
                raise LakeUnreadableError(
                    f"{self.catalog} cannot be read: {first_line(error)}; restore it from a copy, "
                    f"or move {self.home.lake} away and ingest the landing zone again"
                ) from error
        return self._reader

    def _open_reader(self) -> duckdb.DuckDBPyConnection:
        connection = connect()
        try:
            self._reads_nothing = not self.exists
            if not self._reads_nothing:
                self._attach(connection, read_only=True)
                self._reads_nothing = not columns_of(connection)  # a snapshot before the tables
            if self._reads_nothing:
                for table in TABLES.values():
                    connection.execute(f'CREATE TABLE "{table.name}" ({table.create_sql})')
            else:
                connection.execute("USE lake")
            if self._snapshot is not None:
                connection.execute("SET threads = 1")
            lock_down(connection, self.home.lake)
        except BaseException:
            connection.close()
            raise
        return connection

    def _writing(self) -> duckdb.DuckDBPyConnection:
        if self._writer is None:
            if not self.exists:
                self._create()
            connection = connect()
            try:
                self._attach(connection, read_only=False)
                bring_up_to_date(connection)
            except BaseException:
                connection.close()
                raise
            self._writer = connection
        return self._writer

    def _create(self) -> None:
        """Make an empty lake under another name and rename it: a catalog is whole or not there."""
        for leftover in self.home.lake.glob(".new-catalog*"):
            leftover.unlink()
        new = self.home.lake / ".new-catalog.sqlite"
        connection = connect()
        try:
            self._attach(connection, read_only=False, catalog=new)
            bring_up_to_date(connection)
            connection.execute("DETACH lake")  # folds SQLite's log into the file
        finally:
            connection.close()
        new.replace(self.catalog)
        sync_folder(self.home.lake)

    def _attach(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        read_only: bool,
        catalog: Path | None = None,
    ) -> None:
        options = [
            f"DATA_PATH {quoted(self.home.lake / 'data')}",
            "OVERRIDE_DATA_PATH true",  # the home folder may be moved
            f"META_BUSY_TIMEOUT {BUSY_TIMEOUT_MS}",
        ]
        if read_only:
            options.append("READ_ONLY")
        else:
            options += ["META_JOURNAL_MODE 'WAL'", "DATA_INLINING_ROW_LIMIT 0"]
        if self._snapshot is not None:
            options.append(f"SNAPSHOT_VERSION {self._snapshot:d}")
        target = quoted(f"ducklake:sqlite:{catalog or self.catalog}")
        connection.execute(f"ATTACH {target} AS lake ({', '.join(options)})")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel drops it when the process dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
