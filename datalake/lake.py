"""The lake: facts about clips in DuckLake tables, read by anyone, written by one at a time.

The catalog is one SQLite file in WAL mode (or a Postgres database), the rows are Parquet. DuckDB's
extensions are loaded from the installed wheels, so that no network is ever needed. DuckLake lets
two writers append the same clip side by side (appends never conflict), so every change runs alone:
the check that a clip is not in and the append of its rows are one step.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import duckdb
import pyarrow as pa

from datalake.catalog import Catalog, Watch
from datalake.duck import (
    LakeBusyError,
    LakeError,
    LakeTooNewError,
    LakeUnreadableError,
    LakeWriteError,
    QueryError,
    ReadOnlyQueryError,
    UnknownSnapshotError,
    bring_up_to_date,
    columns_of,
    explained,
    fill_gaps,
    first_line,
    lock_down,
    require_question,
    require_readable,
)
from datalake.reader import NeedsExtensionError, connect_to, newest_snapshot
from datalake.tables import TABLES
from vehicle.contracts.home import Home

__all__ = [
    "Lake",
    "LakeBusyError",
    "LakeError",
    "LakeTooNewError",
    "LakeUnreadableError",
    "LakeWriteError",
    "QueryError",
    "ReadOnlyQueryError",
    "UnknownSnapshotError",
    "Writer",
]

T = TypeVar("T")

TRIES: Final = 8
_TRANSIENT: Final = re.compile(
    r"database is locked|conflict|busy|could not serialize|deadlock", re.IGNORECASE
)
_NEWER: Final = re.compile(r"version mismatch|unsupported.*version|version.*not supported", re.I)
_ABSENT: Final = re.compile(r"does not exist|creating a new DuckLake is", re.IGNORECASE)


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

    def frames(self, table: str, clip_id: str, where: str = "true") -> set[int]:
        """Return the frame_ids of a clip that `table` already holds, in rows that meet `where`."""
        found = self._connection.execute(
            f'SELECT DISTINCT frame_id FROM lake."{TABLES[table].name}" '
            f"WHERE clip_id = $clip AND {where}",
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
        catalog: address of a Postgres catalog; None takes $ROADLOOP_CATALOG, or a file in the lake.
    """

    def __init__(
        self, home: Home, *, snapshot: int | None = None, catalog: str | None = None
    ) -> None:
        self.home = home
        self.catalog = Catalog.at(home.lake, catalog)
        self._snapshot = snapshot
        self._reads_nothing = False
        self._watch = Watch(self.catalog)
        self._by_files = False
        self._seen: int | None = None
        self._reader: duckdb.DuckDBPyConnection | None = None
        self._writer: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> "Lake":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the catalog."""
        self._drop_reader()
        self._watch.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def exists(self) -> bool:
        """Return whether anything was ever written."""
        if self.catalog.address:
            self._reading()
            return not self._reads_nothing
        return self.catalog.may_exist

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
            try:
                return self._answer(connection, statements[0])
            except duckdb.IOException:  # a compaction may have removed a file meanwhile
                self._drop_reader()
                connection = self._reading()
                return self._answer(connection, connection.extract_statements(query)[0])
        except duckdb.Error as error:
            raise QueryError(explained(error)) from error

    def _answer(
        self, connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement
    ) -> pa.Table:
        if self._snapshot is not None:
            connection.execute("SELECT setseed(0.5)")
        return connection.execute(statement).to_arrow_table()

    def interrupt(self) -> None:
        """Stop the question that another thread is asking, if one is; see datalake/ask.py."""
        if self._reader is not None:
            self._reader.interrupt()

    def snapshot(self) -> int:
        """Return the number of the newest snapshot (or of the one this lake reads); 0 if empty."""
        if self._snapshot is not None:
            return self._snapshot
        if not self.catalog.address:
            return newest_snapshot(self.catalog)
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
        return Lake(self.home, snapshot=snapshot, catalog=self.catalog.address)

    def append(self, table: str, rows: pa.Table) -> int:
        """Append rows to one table in a transaction of its own; return how many."""
        return self.write(lambda writer: writer.append(table, rows))

    def write(
        self, change: Callable[[Writer], T], *, after: Callable[[T], None] | None = None
    ) -> T:
        """Run `change` in one transaction, alone: all of it is kept or nothing.

        Args:
            change: called again from the start when the catalog was locked by somebody else.
            after: called with its answer once that is kept, before anybody else may change the
                lake.
        Raises:
            LakeBusyError: still locked after several tries.
            LakeWriteError: the disk refused.
        """
        with self.catalog.alone():
            for attempt in range(TRIES):
                try:
                    result = self._attempt(change)
                    self._drop_reader()  # one's own change is seen at once
                    if after is not None:
                        after(result)
                    return result
                except duckdb.Error as error:
                    if not _TRANSIENT.search(str(error)):
                        raise LakeWriteError(
                            f"nothing of this change was kept: {first_line(error)}; put the "
                            f"cause right ({self.home.lake}) and run it again"
                        ) from error
                    last = error
                time.sleep(0.05 * 2**attempt)
        raise LakeBusyError(f"{self.catalog.name} stayed locked: {first_line(last)}; run it again")

    @contextmanager
    def maintenance(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend the writing connection, alone and outside of any transaction; datalake/maintain.py
        is the only one who should want it."""
        with self.catalog.alone():
            yield self._writing()

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
        """Return a connection that sees the lake as it is now.

        A question goes straight to the Parquet files that the catalog lists: DuckLake would read
        the catalog for each (1.3 ms) and scan slower (docs/decisions/0018). The list is made again
        only when SQLite says, in microseconds, that somebody committed since. Where files alone do
        not make the tables, or the catalog is in Postgres, DuckLake itself answers.
        """
        version = self._watch.version()
        if self._reader is not None and self._by_files and version != self._seen:
            self._drop_reader()
        elif self._reader is not None and self._reads_nothing and self.catalog.address:
            self._drop_reader()  # the lake may have come into being since
        if self._reader is None:
            try:
                self._reader = self._open_reader()
            except duckdb.Error as error:
                raise self._unreadable(error) from error
            self._seen = version
        return self._reader

    def _drop_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _unreadable(self, error: duckdb.Error) -> LakeError:
        if _NEWER.search(str(error)):
            return LakeTooNewError(
                f"{self.catalog.name} was written by a newer DuckLake: {first_line(error)}; "
                "install the roadloop that wrote it, or a newer one"
            )
        if self._snapshot is not None and "No snapshot found" in str(error):
            return UnknownSnapshotError(
                f"snapshot {self._snapshot} was let go of by compaction; pinned ones and the "
                "newest stay"
            )
        return LakeUnreadableError(
            f"{self.catalog.name} cannot be read: {first_line(error)}; restore it from a copy, or "
            f"move it and {self.home.lake / 'data'} away and ingest the landing zone again"
        )

    def _open_reader(self) -> duckdb.DuckDBPyConnection:
        try:
            connection = connect_to(self.catalog, snapshot=self._snapshot)
            self._by_files, self._reads_nothing = True, not self.catalog.may_exist
        except NeedsExtensionError:
            connection = self.catalog.connect()
            self._by_files = False
        try:
            if not self._by_files:
                self._attach_to_read(connection)
            connection.execute("SET parquet_metadata_cache = true")  # files never change
            if self._snapshot is not None:
                connection.execute("SET threads = 1")
            lock_down(connection, self.home.lake)
        except BaseException:
            connection.close()
            raise
        return connection

    def _attach_to_read(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Attach through DuckLake; where there is no lake yet, make its tables in memory."""
        have: dict[str, set[str]] = {}
        try:
            self.catalog.attach(connection, read_only=True, snapshot=self._snapshot)
            require_readable(connection)
            have = columns_of(connection)
        except duckdb.Error as error:
            if not (self.catalog.address and _ABSENT.search(str(error))):
                raise
        self._reads_nothing = not have
        if have:
            fill_gaps(connection, have)
            connection.execute("USE lake")
            return
        for table in TABLES.values():
            connection.execute(f'CREATE TABLE "{table.name}" ({table.create_sql})')

    def _writing(self) -> duckdb.DuckDBPyConnection:
        if self._writer is None:
            if not self.catalog.may_exist:
                self.catalog.create()
            connection = self.catalog.connect()
            try:
                self.catalog.attach(connection, read_only=False)
                bring_up_to_date(connection)
            except BaseException:
                connection.close()
                raise
            self._writer = connection
        return self._writer
