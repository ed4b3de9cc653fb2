"""The lake without DuckDB's extensions: its catalog by sqlite3, its rows as plain Parquet.

The extensions are built for one DuckDB each; the files outlive them. This reads which Parquet files
make a table at a snapshot, and asks a bare DuckDB (of any version), or hands the list to whoever
reads Parquet. Rows that were deleted, and rows of files that a compaction merged from several
snapshots, are left out as they must be; what this file does not understand is refused by name.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import duckdb
import pyarrow as pa

from datalake.catalog import Catalog
from datalake.duck import (
    EMBEDDINGS_OF_BEFORE,
    LakeError,
    LakeTooNewError,
    LakeUnreadableError,
    QueryError,
    UnknownSnapshotError,
    explained,
    lock_down,
    quoted,
    require_known,
    require_question,
)
from datalake.tables import EMBEDDINGS, SQL_TYPES, TABLES
from vehicle.contracts.home import Home

DUCKLAKE: Final = "1.0"
"""Version of the catalog's layout that this file was written against."""

MERGED_FROM: Final = "_ducklake_internal_snapshot_id"
"""Column of a merged file: the snapshot that a row came with."""


class NeedsExtensionError(LakeError):
    """The catalog holds something that only DuckLake itself reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A Parquet file of a table at a snapshot.

    Args:
        rows: in the file, before anything is left out.
        up_to: only rows whose MERGED_FROM is at most this belong to the table; None: all.
        deletes: Parquet files with the positions (column `pos`) of rows that are deleted.
        columns: of the table that it holds; columns that came later are NULL in its rows.
    """

    path: Path
    rows: int
    up_to: int | None = None
    deletes: tuple[Path, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFiles:
    """A table at a snapshot: its columns in order, with DuckDB's types, and its files."""

    columns: dict[str, str]
    files: tuple[DataFile, ...]


def files(home: Home, *, snapshot: int | None = None) -> dict[str, TableFiles]:
    """Return the files of every table; none of them is opened.

    Args:
        home: whose lake; one that does not exist has no tables.
        snapshot: None for the newest.
    Raises:
        UnknownSnapshotError: there is none of that number.
        NeedsExtensionError: the catalog is in Postgres, or holds what is not plain files.
    """
    return files_of(Catalog.at(home.lake), snapshot=snapshot)


def files_of(catalog: Catalog, *, snapshot: int | None = None) -> dict[str, TableFiles]:
    """Return the files of every table in a catalog; see `files`."""
    if catalog.address:
        raise NeedsExtensionError("the catalog is in Postgres, and only an extension reads it")
    if not catalog.may_exist:
        return {}
    with _opened(catalog) as connection:
        return dict(_Reading(connection, catalog.folder / "data", snapshot).tables())


def selects(found: dict[str, TableFiles]) -> dict[str, str]:
    """Return for every table of today the SELECT that reads it from its files.

    Columns and tables that a lake of before has not are NULL and empty, as in duck.fill_gaps.
    """
    made = {}
    for name, table in TABLES.items():
        there = found.get(name)
        kinds = {c.name: SQL_TYPES[c.kind] for c in table.columns}
        wanted = {**there.columns, **kinds} if there else kinds
        made[name] = " UNION ALL ".join(_parts(wanted, there))
        if name == EMBEDDINGS.name and there is None and "embedding" in _columns(found, "ticks"):
            made[name] = EMBEDDINGS_OF_BEFORE.replace("lake.", "")
    return made


def connect_to(catalog: Catalog, *, snapshot: int | None = None) -> duckdb.DuckDBPyConnection:
    """Return a bare DuckDB, its current database `lake` with a view for every table.

    Raises: as `files`; nothing limits yet what files it may read (duck.lock_down).
    """
    made = selects(files_of(catalog, snapshot=snapshot))
    offline = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    connection = duckdb.connect(config=offline)
    connection.execute("ATTACH ':memory:' AS lake")
    connection.execute("USE lake")
    for name, select in made.items():
        connection.execute(f'CREATE VIEW "{name}" AS {select}')
    return connection


def newest_snapshot(catalog: Catalog) -> int:
    """Return the number of the newest snapshot of a SQLite catalog, 0 where there is no lake."""
    if not catalog.may_exist:
        return 0
    with _opened(catalog) as connection:
        row = connection.execute("SELECT max(snapshot_id) FROM ducklake_snapshot").fetchone()
        return int(row[0])


def sql(home: Home, query: str, *, snapshot: int | None = None) -> pa.Table:
    """Answer one question without any extension; raises as `files`, and QueryError."""
    with closing(connect_to(Catalog.at(home.lake), snapshot=snapshot)) as connection:
        lock_down(connection, home.lake)
        try:
            statements = connection.extract_statements(query)
            require_question(query, [s.type for s in statements])
            return connection.execute(statements[0]).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(explained(error)) from error


@contextmanager
def _opened(catalog: Catalog) -> Iterator[sqlite3.Connection]:
    """Open a catalog to read one state of it, however long that takes."""
    try:
        uri = f"file:{quote(str(catalog.file))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10.0)) as connection:
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise LakeUnreadableError(
            f"{catalog.name} cannot be read: {error}; restore it from a copy, or move it and "
            f"{catalog.folder / 'data'} away and ingest the landing zone again"
        ) from error


class _Reading:
    """One look into the catalog."""

    def __init__(self, connection: sqlite3.Connection, data: Path, snapshot: int | None) -> None:
        self._connection, self._data = connection, data
        numbers = {row[0] for row in self._rows("SELECT snapshot_id FROM ducklake_snapshot")}
        self._at = max(numbers) if snapshot is None else snapshot
        if self._at not in numbers:
            gone = "was let go of by compaction; pinned ones and the newest stay"
            raise UnknownSnapshotError(
                f"snapshot {self._at} {gone if self._at < max(numbers) else 'is not there yet'}"
            )
        self._refuse_what_is_newer()
        self._refuse_what_is_not_files()

    def tables(self) -> Iterator[tuple[str, TableFiles]]:
        """Yield every table of the snapshot by name."""
        rows = self._now(
            "SELECT t.table_id, t.table_name, s.path, t.path, s.path_is_relative, "
            "t.path_is_relative FROM ducklake_table t JOIN ducklake_schema s USING (schema_id)",
            "t",
        )
        for table_id, name, *paths, schema_relative, relative in rows:
            if not (schema_relative and relative):
                raise NeedsExtensionError(f"table {name} keeps its files outside of {self._data}")
            columns = self._columns(table_id, name)
            yield (
                name,
                TableFiles(
                    columns={column: kind for column, kind, _ in columns},
                    files=tuple(self._files(table_id, self._data.joinpath(*paths), columns)),
                ),
            )

    def _columns(self, table_id: int, name: str) -> list[tuple[str, str, int]]:
        """Return name, type and first snapshot of every column."""
        where = f"FROM ducklake_column WHERE parent_column IS NULL AND table_id = {table_id}"
        renamed = self._rows(
            f"SELECT column_id {where} GROUP BY column_id HAVING count(DISTINCT column_name) > 1 "
            "OR count(DISTINCT column_type) > 1 OR count(initial_default) > 0"
        )
        if renamed:
            raise NeedsExtensionError(f"a column of {name} was renamed or changed its type")
        found = self._now(
            f"SELECT column_name, column_type, begin_snapshot {where}", "ducklake_column", "AND"
        )
        return [(column, _TYPES.get(kind, kind), since) for column, kind, since in found]

    def _files(
        self, table_id: int, folder: Path, columns: list[tuple[str, str, int]]
    ) -> Iterator[DataFile]:
        deletes: dict[int, list[Path]] = {}
        for file_id, path, relative, newest in self._now(
            "SELECT data_file_id, path, path_is_relative, partial_max FROM ducklake_delete_file "
            f"WHERE table_id = {table_id}",
            "ducklake_delete_file",
            "AND",
        ):
            if newest is not None and newest > self._at:
                raise NeedsExtensionError(f"{path} holds deletions of later snapshots")
            deletes.setdefault(file_id, []).append(_place(folder, path, relative))
        for file_id, path, relative, rows, first, newest, *strange in self._now(
            "SELECT data_file_id, path, path_is_relative, record_count, begin_snapshot, "
            "partial_max, mapping_id, encryption_key FROM ducklake_data_file "
            f"WHERE table_id = {table_id}",
            "ducklake_data_file",
            "AND",
        ):
            if any(each is not None for each in strange):
                raise NeedsExtensionError(f"{path} was registered from elsewhere, or is encrypted")
            yield DataFile(
                path=_place(folder, path, relative),
                rows=rows,
                up_to=self._at if newest is not None and newest > self._at else None,
                deletes=tuple(deletes.get(file_id, ())),
                columns=tuple(name for name, _, since in columns if since <= first),
            )

    def _refuse_what_is_newer(self) -> None:
        [(version,)] = self._rows("SELECT value FROM ducklake_metadata WHERE key = 'version'")
        if version != DUCKLAKE:
            raise LakeTooNewError(
                f"the catalog was written by a newer DuckLake ({version}, this roadloop knows "
                f"{DUCKLAKE}); install the roadloop that wrote it, or a newer one"
            )
        stamps = self._now(
            "SELECT g.value FROM ducklake_tag g JOIN ducklake_table t ON t.table_id = g.object_id "
            "AND t.table_name = 'clips' AND g.key = 'comment'",
            "g",
        )
        require_known(stamps[-1][0] if stamps else None)

    def _refuse_what_is_not_files(self) -> None:
        found = self._rows("SELECT name FROM sqlite_master WHERE name LIKE 'ducklake_inlined_d%'")
        for (name,) in found:
            if name != "ducklake_inlined_data_tables" and self._rows(f'FROM "{name}"'):
                raise NeedsExtensionError(f"rows lie in the catalog itself ({name})")

    def _now(self, query: str, of: str, word: str = "WHERE") -> list[Any]:
        """Return the rows that hold at the snapshot, in the order they came."""
        until = f"({of}.end_snapshot IS NULL OR {of}.end_snapshot > {self._at})"
        return self._rows(
            f"{query} {word} {of}.begin_snapshot <= {self._at} AND {until} ORDER BY {of}.rowid"
        )

    def _rows(self, query: str) -> list[Any]:
        query = f"SELECT * {query}" if query.startswith("FROM") else query
        return self._connection.execute(query).fetchall()


_TYPES = {"int64": "BIGINT", "float64": "DOUBLE", "varchar": "VARCHAR", "list": "FLOAT[]"}


def _place(folder: Path, path: str, relative: int) -> Path:
    return folder / path if relative else Path(path)


def _columns(found: dict[str, TableFiles], name: str) -> dict[str, str]:
    return found[name].columns if name in found else {}


def _parts(wanted: dict[str, str], there: TableFiles | None) -> Iterator[str]:
    """Yield the SELECTs that make a table together, each with every column wanted."""
    whole: dict[tuple[str, ...], list[DataFile]] = {}
    for file in there.files if there else ():
        plain = file.up_to is None and not file.deletes
        whole.setdefault(file.columns if plain else (str(file.path),), []).append(file)
    for group in whole.values():
        inside = set(group[0].columns)
        columns = ", ".join(
            f'"{name}"' if name in inside else f'NULL::{kind} AS "{name}"'
            for name, kind in wanted.items()
        )
        paths = f"[{', '.join(quoted(f.path) for f in group)}]"
        yield f"SELECT {columns} FROM {_scan(group[0], paths)}"
    if not whole:
        nothing = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in wanted.items())
        yield f"SELECT {nothing} WHERE false"


def _scan(file: DataFile, paths: str) -> str:
    """Return what reads files, without deleted rows and those that came later."""
    wants = []
    if file.up_to is not None:
        wants.append(f"{MERGED_FROM} <= {file.up_to}")
    wants += [
        f"file_row_number NOT IN (SELECT pos FROM read_parquet({quoted(path)}))"
        for path in file.deletes
    ]
    if not wants:
        return f"read_parquet({paths})"
    return f"read_parquet({paths}, file_row_number = true) WHERE {' AND '.join(wants)}"
