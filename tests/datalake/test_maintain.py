import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from lake_parts import land, rows

from datalake.ingest import ingest
from datalake.lake import Lake, UnknownSnapshotError
from datalake.maintain import check, compact
from datalake.tables import PINS, TABLES, TICKS
from vehicle.contracts.home import Home
from vehicle.contracts.wire import ContractError


def append_ticks(lake: Lake, number: int, count: int = 5) -> None:
    made = ({"clip_id": f"clip-{number}", "frame_id": i, "speed_mps": i / 2} for i in range(count))
    lake.append("ticks", TICKS.rows(made))


def pin(lake: Lake, snapshot: int) -> None:
    lake.append("pins", PINS.rows([{"name": f"set-{snapshot}", "snapshot": snapshot}]))


def everything(lake: Lake) -> dict[str, pa.Table]:
    return {name: lake.sql(f"FROM {name}") for name in TABLES}


@pytest.fixture
def worn(home: Home) -> tuple[Home, list[int]]:
    """A lake of many small files, three of its snapshots pinned, rows of one clip deleted."""
    pinned = []
    with Lake(home) as lake:
        for number in range(9):
            append_ticks(lake, number)
            if number in (2, 5):
                pinned.append(lake.snapshot())
        with lake.maintenance() as connection:
            connection.execute("DELETE FROM lake.ticks WHERE clip_id = 'clip-4'")
        append_ticks(lake, 9)
        pinned.append(lake.snapshot())
        for snapshot in pinned:
            pin(lake, snapshot)
        append_ticks(lake, 10)
    return home, pinned


def test_every_pinned_snapshot_reads_the_same_before_and_after(
    worn: tuple[Home, list[int]],
) -> None:
    home, pinned = worn
    with Lake(home) as lake:
        before = {}
        for snapshot in pinned:
            with lake.at(snapshot) as past:
                before[snapshot] = everything(past)
        now = everything(lake)
    report = compact(home, keep=1)
    assert report.pinned == 3
    assert report.expired > 5
    assert report.files_after < report.files_before
    with Lake(home) as lake:
        order = [("clip_id", "ascending"), ("frame_id", "ascending")]
        assert everything(lake)["ticks"].sort_by(order).equals(now["ticks"].sort_by(order))
        for snapshot in pinned:
            with lake.at(snapshot) as past:
                for name, table in everything(past).items():
                    keys = order if name == "ticks" else [(table.column_names[0], "ascending")]
                    assert table.sort_by(keys).equals(before[snapshot][name].sort_by(keys))


def test_many_small_files_become_one_and_their_order_stays(home: Home) -> None:
    with Lake(home) as lake:
        for number in range(8):
            append_ticks(lake, number)
        then = lake.snapshot()
        with lake.at(then) as past:
            before = past.sql("FROM ticks")
    report = compact(home)
    assert (report.files_before, report.files_after, report.removed) == (8, 1, 8)
    assert len(list((home.lake / "data").rglob("*.parquet"))) == 1
    with Lake(home) as lake, lake.at(then) as past:
        assert past.sql("FROM ticks").equals(before)
    assert compact(home).removed == 0


def test_a_snapshot_that_was_let_go_of_is_named(home: Home) -> None:
    with Lake(home) as lake:
        append_ticks(lake, 1)
        then = lake.snapshot()
        append_ticks(lake, 2)
    compact(home, keep=1)
    with (
        Lake(home) as lake,
        lake.at(then) as past,
        pytest.raises(UnknownSnapshotError, match="let go of by compaction"),
    ):
        past.sql("FROM ticks")


def test_files_that_no_snapshot_knows_are_removed(home: Home) -> None:
    with Lake(home) as lake:
        append_ticks(lake, 1)
    orphan = home.lake / "data" / "main" / "ticks" / "ducklake-orphan.parquet"
    orphan.write_bytes(b"PAR1")
    assert compact(home).removed == 1
    assert not orphan.exists()
    assert len(rows(home, "FROM ticks")) == 5


def test_the_newest_snapshot_always_stays(home: Home) -> None:
    with pytest.raises(ContractError, match="keep is 0"):
        compact(home, keep=0)
    assert compact(home).files_before == 0
    assert not home.root.exists()


def test_a_lake_in_order_is_found_well(home: Home) -> None:
    land(home, seed=1)
    land(home, seed=2)
    ingest(home)
    report = check(home)
    assert report.well
    assert report.clips == 2
    assert report.bytes == sum(p.stat().st_size for p in (home.lake / "clips").rglob("*.mcap"))


def test_every_kind_of_disorder_is_named(home: Home) -> None:
    missing, damaged, twice = (land(home, seed=seed) for seed in (1, 2, 3))
    ingest(home)
    objects = {p.stem: p for p in (home.lake / "clips").rglob("*.mcap")}
    os.unlink(objects[missing])
    data = bytearray(objects[damaged].read_bytes())
    data[-20] ^= 1
    Path(objects[damaged]).write_bytes(data)
    (objects[twice].parent / "stranger.mcap").write_bytes(b"x")
    with Lake(home) as lake:
        lake.append("clips", lake.sql(f"FROM clips WHERE clip_id = '{twice}'"))
        append_ticks(lake, 1)
    report = check(home)
    assert not report.well
    assert (report.missing, report.damaged) == ([missing], [damaged])
    assert (report.twice, report.loose) == ([twice], ["clip-1"])
    assert report.strange == [f"clips/{twice[:2]}/stranger.mcap"]


def test_a_locked_catalog_is_waited_for(home: Home) -> None:
    with Lake(home) as lake:
        append_ticks(lake, 1)
        with closing(sqlite3.connect(home.lake / "catalog.sqlite")) as other:
            other.execute("BEGIN IMMEDIATE")
            assert lake.sql("FROM ticks").num_rows == 5
        append_ticks(lake, 2)
        assert lake.sql("FROM ticks").num_rows == 10
