"""Where the lake's catalog lives: one SQLite file beside the rows, or a Postgres database.

SQLite is for one host; its change lock is a file. Postgres is for several hosts that share the
lake's folder; its change lock is an advisory lock of the database, which a dying host lets go of.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import duckdb

from datalake.duck import LakeError, bring_up_to_date, connect, first_line, quoted
from vehicle.contracts.wire import sync_folder

BUSY_TIMEOUT_MS: Final = 10_000
VARIABLE: Final = "ROADLOOP_CATALOG"
_LOCK_KEY: Final = 0x6C616B65
"""The advisory lock of a lake's database: "lake" in ASCII."""


class CatalogAddressError(LakeError):
    """The catalog's address is of no kind that the lake knows."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The catalog of one lake.

    Args:
        folder: the lake's folder; rows are Parquet files in its data/.
        address: empty for catalog.sqlite in the folder, or postgres:... as libpq takes it.
    """

    folder: Path
    address: str = ""

    @classmethod
    def at(cls, folder: Path, address: str | None = None) -> "Catalog":
        """Return the catalog at `address`, or at $ROADLOOP_CATALOG, or in the folder.

        Raises:
            CatalogAddressError: neither a Postgres address nor empty.
        """
        address = os.environ.get(VARIABLE, "") if address is None else address
        if address and not address.startswith(("postgres:", "postgresql:")):
            raise CatalogAddressError(
                f"the catalog's address is {address!r}; expected postgres:dbname=... or "
                f"postgresql://user@host/name, or no {VARIABLE} for a file in {folder}"
            )
        return cls(folder, address)

    @property
    def file(self) -> Path:
        """Return the SQLite file."""
        return self.folder / "catalog.sqlite"

    @property
    def name(self) -> str:
        """Return what errors call it; never a password."""
        return "the Postgres catalog" if self.address else str(self.file)

    @property
    def may_exist(self) -> bool:
        """Return whether there is anything to attach; only Postgres itself knows for certain."""
        return bool(self.address) or self.file.is_file()

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB with the extensions that this kind of catalog needs."""
        return connect("postgres_scanner" if self.address else "sqlite_scanner")

    def attach(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        read_only: bool,
        snapshot: int | None = None,
        file: Path | None = None,
    ) -> None:
        """Attach as `lake`; reading never creates anything."""
        options = [
            f"DATA_PATH {quoted(self.folder / 'data')}",
            "OVERRIDE_DATA_PATH true",  # the home folder may be moved
        ]
        if not self.address:
            options.append(f"META_BUSY_TIMEOUT {BUSY_TIMEOUT_MS}")
        if read_only:
            options += ["READ_ONLY", "CREATE_IF_NOT_EXISTS false"]
        else:
            options.append("DATA_INLINING_ROW_LIMIT 0")
            if not self.address:
                options.append("META_JOURNAL_MODE 'WAL'")
        if snapshot is not None:
            options.append(f"SNAPSHOT_VERSION {snapshot:d}")
        target = quoted(f"ducklake:{self._target(file)}")
        connection.execute(f"ATTACH {target} AS lake ({', '.join(options)})")

    def create(self) -> None:
        """Make an empty lake beside its name and rename it: the catalog is whole or not there.

        Postgres needs none of this: attaching makes an empty lake in one transaction.
        """
        for leftover in self.folder.glob(".new-catalog*"):
            leftover.unlink()
        new = self.folder / ".new-catalog.sqlite"
        connection = self.connect()
        try:
            self.attach(connection, read_only=False, file=new)
            bring_up_to_date(connection)
            connection.execute("DETACH lake")  # folds SQLite's log into the file
        finally:
            connection.close()
        new.replace(self.file)
        sync_folder(self.folder)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one who changes the lake; the lock ends with the process.

        On this host a file lock is held in either case: waiting there costs no connection.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lake.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not self.address:
                yield
                return
            with self._advisory():
                yield

    @contextmanager
    def _advisory(self) -> Iterator[None]:
        connection = self.connect()
        try:
            try:
                connection.execute(f"ATTACH {quoted(self._libpq)} AS pg (TYPE postgres)")
                connection.execute("BEGIN")
                lock = f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"
                connection.execute(f"CALL postgres_execute('pg', {quoted(lock)})")
            except duckdb.Error as error:
                raise LakeError(f"{self.name} does not answer: {first_line(error)}") from error
            yield
        finally:
            connection.close()

    def _target(self, file: Path | None) -> str:
        return f"postgres:{self._libpq}" if self.address else f"sqlite:{file or self.file}"

    @property
    def _libpq(self) -> str:
        """Return the address as libpq reads it: a URI whole, key=value words without our prefix."""
        return self.address if "://" in self.address else self.address.removeprefix("postgres:")


class Watch:
    """Tells whether a SQLite catalog was changed since, by anybody; nothing of Postgres."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._connection: sqlite3.Connection | None = None

    def version(self) -> int | None:
        """Return a number that differs after every change, None where nobody can say."""
        if self._catalog.address:
            return None
        try:
            if self._connection is None:
                uri = f"file:{quote(str(self._catalog.file))}?mode=ro"
                self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            self.close()
            return None

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
