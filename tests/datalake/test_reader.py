"""Without any extension the lake reads the same, table by table and snapshot by snapshot."""

import sqlite3
from contextlib import closing

import pyarrow as pa
import pytest
from lake_parts import land

from datalake import reader
from datalake.catalog import Catalog
from datalake.duck import (
    LakeError,
    QueryError,
    ReadOnlyQueryError,
    UnknownSnapshotError,
    columns_of,
    fill_gaps,
)
from datalake.ingest import ingest
from datalake.lake import Lake
from datalake.maintain import compact
from datalake.reader import NeedsExtensionError
from datalake.tables import TABLES, TICKS
from vehicle.contracts.home import Home


def ordered(table: pa.Table) -> pa.Table:
    names = [n for n in table.column_names if not pa.types.is_list(table[n].type)]
    return table.sort_by([(name, "ascending") for name in names])


def same_everywhere(home: Home) -> int:
    """Hold every table at every snapshot against DuckLake's own answer; return how many."""
    compared = 0
    catalog = Catalog.at(home.lake)
    for snapshot in snapshots(home):
        with closing(catalog.connect()) as ducklake:
            catalog.attach(ducklake, read_only=True, snapshot=snapshot)
            fill_gaps(ducklake, columns_of(ducklake))
            ducklake.execute("USE lake")
            for name, table in TABLES.items():
                columns = ", ".join(f'"{c.name}"' for c in table.columns)
                query = f"SELECT {columns} FROM {name}"
                mine = reader.sql(home, query, snapshot=snapshot)
                theirs = ducklake.execute(query).to_arrow_table()
                assert ordered(mine).equals(ordered(theirs)), f"{name} at {snapshot}"
                compared += 1
    return compared


def snapshots(home: Home) -> list[int]:
    with Lake(home) as lake, lake.maintenance() as connection:
        found = connection.execute("SELECT snapshot_id FROM ducklake_snapshots('lake')").fetchall()
    return sorted(row[0] for row in found)


def append(lake: Lake, number: int) -> None:
    ticks = ({"clip_id": f"clip-{number}", "frame_id": i, "speed_mps": i / 2} for i in range(5))
    lake.append("ticks", TICKS.rows(ticks))


def test_an_ingested_lake_reads_the_same(home: Home) -> None:
    land(home, seed=1)
    land(home, seed=2)
    ingest(home)
    assert same_everywhere(home) > len(TABLES)
    query = "SELECT clip_id, count(*) AS n, max(speed_mps) FROM ticks GROUP BY ALL ORDER BY ALL"
    with Lake(home) as lake:
        assert reader.sql(home, query).equals(lake.sql(query))


def test_deletes_merges_and_expiry_read_the_same(home: Home) -> None:
    with Lake(home) as lake:
        for number in range(4):
            append(lake, number)
        with lake.maintenance() as connection:
            connection.execute("DELETE FROM lake.ticks WHERE clip_id = 'clip-1'")
            connection.execute("DELETE FROM lake.ticks WHERE frame_id = 2")
        append(lake, 5)
    same_everywhere(home)
    compact(home, keep=100)
    assert same_everywhere(home) >= 8 * len(TABLES)
    compact(home, keep=2)
    same_everywhere(home)


def test_a_column_that_came_later_is_null_in_older_files(home: Home) -> None:
    with Lake(home) as lake, lake.maintenance() as connection:
        connection.execute("ALTER TABLE lake.ticks DROP COLUMN h3_cell")
        connection.execute("INSERT INTO lake.ticks (clip_id, frame_id) VALUES ('old', 1)")
    with Lake(home) as lake:
        append(lake, 1)
        assert lake.sql("SELECT count(*) AS n, count(h3_cell) AS m FROM ticks").to_pylist() == [
            {"n": 6, "m": 0}
        ]
    same_everywhere(home)
    compact(home, keep=100)
    same_everywhere(home)


def test_what_only_ducklake_reads_it_answers_itself(home: Home) -> None:
    with Lake(home) as lake:
        append(lake, 1)
        with closing(sqlite3.connect(home.lake / "catalog.sqlite")) as catalog:
            catalog.execute("UPDATE ducklake_column SET initial_default = '1' WHERE column_id = 1")
            catalog.commit()
        with pytest.raises(NeedsExtensionError):
            reader.files(home)
        assert lake.sql("FROM ticks").num_rows == 5


def test_the_files_of_a_table_are_listed(home: Home) -> None:
    assert reader.files(home) == {}
    with Lake(home) as lake:
        append(lake, 1)
        then = lake.snapshot()
        append(lake, 2)
    now = reader.files(home)["ticks"]
    assert [f.rows for f in now.files] == [5, 5]
    assert all(f.path.is_file() for f in now.files)
    assert list(now.columns) == [c.name for c in TICKS.columns]
    assert reader.files(home, snapshot=then)["ticks"].files == now.files[:1]
    with pytest.raises(UnknownSnapshotError):
        reader.files(home, snapshot=99)


def test_an_empty_home_answers_as_an_empty_lake(home: Home) -> None:
    assert reader.sql(home, "FROM clips JOIN ticks USING (clip_id)").num_rows == 0
    assert not home.root.exists()


def test_it_only_reads_and_only_the_lake(home: Home) -> None:
    for query, error in (
        ("DROP VIEW ticks", ReadOnlyQueryError),
        ("FROM read_text('/etc/hostname')", QueryError),
        ("FROM nowhere", QueryError),
    ):
        with pytest.raises(error):
            reader.sql(home, query)


def test_it_needs_no_extension_to_be_installed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lake(home) as lake:
        append(lake, 1)

    def missing(name: str) -> None:
        raise AssertionError(f"looked for {name}")

    monkeypatch.setattr("importlib.util.find_spec", missing)
    assert reader.sql(home, "FROM ticks").num_rows == 5


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ducklake_data_file SET encryption_key = 'x'",
        "INSERT INTO ducklake_column SELECT column_id, 0, 1, table_id, column_order, 'old', "
        "column_type, NULL, NULL, 1, NULL, NULL, NULL FROM ducklake_column LIMIT 1",
        "UPDATE ducklake_table SET path_is_relative = 0",
    ],
)
def test_what_is_not_understood_is_refused(home: Home, change: str) -> None:
    with Lake(home) as lake:
        append(lake, 1)
    with closing(sqlite3.connect(home.lake / "catalog.sqlite")) as catalog:
        catalog.execute(change)
        catalog.commit()
    with pytest.raises(LakeError, match=r"elsewhere|renamed|outside"):
        reader.sql(home, "FROM ticks")
