"""The catalog in a real Postgres server: the same lake, for several hosts."""

import itertools
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from lake_parts import FRAMES, land, rows

from datalake import reader
from datalake.catalog import VARIABLE, Catalog, CatalogAddressError
from datalake.ingest import ingest
from datalake.lake import Lake
from datalake.maintain import check, compact
from datalake.reader import NeedsExtensionError
from vehicle.contracts.home import Home

NOBODY = 65534
NUMBER = itertools.count()


def binaries() -> Path | None:
    """Return the folder of initdb and postgres, of this machine or of the wheel `pgserver`."""
    found = shutil.which("postgres")
    if found and (Path(found).resolve().parent / "initdb").is_file():
        return Path(found).resolve().parent
    try:
        import pgserver
    except ImportError:
        return None
    return Path(pgserver.__file__).parent / "pginstall" / "bin"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of our own on a socket in a folder of our own."""
    pytest.importorskip("duckdb_extension_postgres_scanner", reason="needs the extra [postgres]")
    where = binaries()
    if where is None:
        pytest.skip("no Postgres server: neither `postgres` nor the wheel pgserver is installed")
    folder = Path(tempfile.mkdtemp(prefix="roadloop-pg-"))
    user = NOBODY if os.geteuid() == 0 else None  # the server refuses to run as root
    if user is not None:
        os.chown(folder, user, user)
    quiet = {"user": user, "group": user, "extra_groups": [] if user else None, "cwd": folder}
    quiet |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    data = folder / "data"
    words = [where / "initdb", "-D", data, "-A", "trust", "-U", "lake", "--no-sync"]
    subprocess.run(words, check=True, **quiet)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    serve = [where / "postgres", "-D", data, "-k", folder, "-p", port, "-c", "listen_addresses="]
    process = subprocess.Popen([*serve, "-c", "fsync=off"], **quiet)
    address = f"postgres:host={folder} port={port} user=lake dbname=postgres"
    try:
        wait_for(address)
        yield address
    finally:
        process.terminate()
        process.wait(20.0)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def on_postgres(home: Home, server: str, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose catalog is a database of its own."""
    name = f"lake_{next(NUMBER)}"
    run_sql(server, f"CREATE DATABASE {name}")
    monkeypatch.setenv(VARIABLE, server.replace("dbname=postgres", f"dbname={name}"))
    return home


def run_sql(server: str, statement: str) -> None:
    with closing(Catalog(Path("."), server).connect()) as connection:
        connection.execute(f"ATTACH '{server.removeprefix('postgres:')}' AS pg (TYPE postgres)")
        connection.execute(f"CALL postgres_execute('pg', '{statement}', use_transaction => false)")


def wait_for(server: str) -> None:
    for patience in range(100, -1, -1):
        try:
            run_sql(server, "SELECT 1")
            return
        except duckdb.Error:
            if not patience:
                raise
            time.sleep(0.1)


def test_the_lake_is_the_same_with_its_catalog_in_postgres(on_postgres: Home) -> None:
    home = on_postgres
    with Lake(home) as lake:
        assert not lake.exists
        assert lake.sql("FROM clips").num_rows == 0
    land(home, seed=1)
    first = ingest(home)
    land(home, seed=2)
    assert (first.ingested, ingest(home).ingested) == (1, 1)
    assert rows(home, "SELECT count(*) AS n FROM ticks") == [{"n": 2 * FRAMES}]
    with Lake(home) as lake:
        assert lake.exists
        with lake.at(first.snapshot) as past:
            assert past.sql("FROM clips").num_rows == 1
    assert not (home.lake / "catalog.sqlite").exists()
    assert check(home).well
    assert compact(home, keep=1).files_after > 0
    assert rows(home, "SELECT count(*) AS n FROM ticks") == [{"n": 2 * FRAMES}]
    with pytest.raises(NeedsExtensionError, match="Postgres"):
        reader.files(home)


def test_two_ingests_at_once_append_every_clip_once_in_postgres(on_postgres: Home) -> None:
    for seed in range(4):
        land(on_postgres, seed=seed)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        reports = pool.map(ingest, [on_postgres, on_postgres], chunksize=1)
    assert sum(r.ingested for r in reports) == 4
    assert rows(on_postgres, "SELECT count(*) AS n FROM ticks") == [{"n": 4 * FRAMES}]


def test_an_address_of_another_kind_is_refused(home: Home) -> None:
    with pytest.raises(CatalogAddressError, match="mysql"):
        Lake(home, catalog="mysql:host=x")


def test_an_address_is_a_uri_or_words(home: Home) -> None:
    for address, expected in (
        ("postgres:dbname=x host=y", "postgres:dbname=x host=y"),
        ("postgresql://me@host/x", "postgres:postgresql://me@host/x"),
    ):
        assert Catalog.at(home.lake, address)._target(None) == expected
        assert Catalog.at(home.lake, address).name == "the Postgres catalog"
