import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from lake_parts import FRAMES, land, rows

from datalake.ingest import ingest
from datalake.lake import (
    Lake,
    LakeTooNewError,
    LakeUnreadableError,
    QueryError,
    ReadOnlyQueryError,
    UnknownSnapshotError,
)
from datalake.tables import (
    EVENTS,
    LAKE_SCHEMA,
    PINS,
    SQL_TYPES,
    TABLES,
    Table,
)
from vehicle.contracts.home import Home
from vehicle.contracts.vocabulary import SIGNALS


def pin(name: str) -> pa.Table:
    return PINS.rows([{"name": name, "snapshot": 1}])


def test_an_empty_home_answers_as_an_empty_lake_and_stays_empty(home: Home) -> None:
    assert rows(home, "SELECT count(*) AS n FROM clips JOIN ticks USING (clip_id)") == [{"n": 0}]
    with Lake(home) as lake:
        assert (lake.snapshot(), lake.exists) == (0, False)
    assert not home.root.exists()


def test_a_lake_that_comes_into_being_is_seen_by_a_reader_that_was_there_before(home: Home) -> None:
    with Lake(home) as reader:
        assert reader.sql("FROM clips").num_rows == 0
        land(home)
        ingest(home)
        assert reader.sql("FROM clips").num_rows == 1


def test_every_table_has_only_types_that_never_need_changing(home: Home) -> None:
    land(home)
    ingest(home)
    for table in TABLES.values():
        described = rows(home, f"DESCRIBE {table.name}")
        assert [(r["column_name"], r["column_type"]) for r in described] == [
            (c.name, SQL_TYPES[c.kind]) for c in table.columns
        ]
        assert all(c.about for c in table.columns)


def test_every_signal_of_an_expression_is_a_column_of_ticks_by_the_same_name() -> None:
    columns = {c.name: SQL_TYPES[c.kind] for c in TABLES["ticks"].columns}
    assert set(SIGNALS) <= set(columns)
    texts = {name for name, word in SIGNALS.items() if word.kind == "text"}
    assert texts == {name for name in SIGNALS if columns[name] == "VARCHAR"}


WRITES = (
    "INSERT INTO pins VALUES ('x', 1, '', '', 1, 1)",
    "DELETE FROM clips",
    "UPDATE clips SET car_id = 'x'",
    "DROP TABLE clips",
    "CREATE TABLE t (a BIGINT)",
    "ALTER TABLE clips ADD COLUMN x BIGINT",
    "COPY clips TO 'stolen.csv'",
    "ATTACH 'other.db'",
    "CALL ducklake_cleanup_old_files('lake', cleanup_all => true)",
    "FROM ducklake_delete_orphaned_files('lake', cleanup_all => true)",
    "FROM ducklake_expire_snapshots('lake', versions => [1])",
    "FROM sqlite_query('__ducklake_metadata_lake', 'DELETE FROM ducklake_snapshot')",
    "SET memory_limit = '1GB'",
    "SELECT 1; DROP TABLE clips",
    "BEGIN",
)


def test_a_question_cannot_write(home: Home) -> None:
    land(home)
    ingest(home)
    with Lake(home) as lake:
        before = lake.snapshot()
        for query in WRITES:
            with pytest.raises(ReadOnlyQueryError):
                lake.sql(query)
        assert lake.snapshot() == before
        assert lake.sql("FROM ticks").num_rows == FRAMES
    assert not Path("stolen.csv").exists()


def test_a_question_cannot_read_files_outside_the_lake(home: Home) -> None:
    land(home)
    ingest(home)
    with Lake(home) as lake, pytest.raises(QueryError, match="Cannot access file"):
        lake.sql("FROM read_text('/etc/hostname')")


@pytest.mark.parametrize("query", ["SELEC 1", "SELECT nothing FROM clips", "FROM nowhere"])
def test_a_wrong_question_is_answered_with_the_tables_there_are(home: Home, query: str) -> None:
    with Lake(home) as lake, pytest.raises(QueryError, match="known tables: clips, ticks, tracks"):
        lake.sql(query)


def test_an_older_snapshot_is_read_as_it_was(home: Home) -> None:
    land(home, seed=1)
    first = ingest(home).snapshot
    land(home, seed=2)
    ingest(home)
    with Lake(home) as lake, lake.at(first) as past:
        assert past.sql("FROM clips").num_rows == 1
        assert lake.sql("FROM clips").num_rows == 2
        assert past.snapshot() == first
        assert past.sql("SELECT random() AS r").equals(past.sql("SELECT random() AS r"))
        with pytest.raises(UnknownSnapshotError, match="newest"):
            lake.at(99)


def test_rows_are_refused_when_a_column_is_unknown() -> None:
    with pytest.raises(KeyError, match="events has no column 'clip'"):
        EVENTS.rows([{"clip": "x"}])


def test_a_damaged_catalog_is_named(home: Home) -> None:
    home.lake.mkdir(parents=True)
    (home.lake / "catalog.sqlite").write_bytes(b"not a catalog" * 100)
    with Lake(home) as lake, pytest.raises(LakeUnreadableError, match="ingest the landing zone"):
        lake.sql("FROM clips")


def test_a_lake_of_a_newer_roadloop_is_refused_by_name(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datalake.duck.LAKE_SCHEMA", LAKE_SCHEMA + 1)
    with Lake(home) as lake:
        lake.append("pins", pin("a"))
    monkeypatch.undo()
    with Lake(home) as lake:
        with pytest.raises(LakeTooNewError, match=f"number {LAKE_SCHEMA + 1}"):
            lake.sql("FROM pins")
        with pytest.raises(LakeTooNewError, match="install the roadloop that wrote it"):
            lake.append("pins", pin("b"))


def test_a_catalog_of_a_newer_ducklake_is_refused_by_name(home: Home) -> None:
    with Lake(home) as lake:
        lake.append("pins", pin("a"))
    with closing(sqlite3.connect(home.lake / "catalog.sqlite")) as catalog:
        catalog.execute("UPDATE ducklake_metadata SET value = '9.0' WHERE key = 'version'")
        catalog.commit()
    with Lake(home) as lake, pytest.raises(LakeTooNewError, match="newer DuckLake"):
        lake.sql("FROM pins")


OLD_LAKE = """
    DROP TABLE lake.embeddings; COMMENT ON TABLE lake.clips IS NULL;
    ALTER TABLE lake.ticks DROP COLUMN rss_margin_m; ALTER TABLE lake.ticks DROP COLUMN h3_cell;
    ALTER TABLE lake.ticks ADD COLUMN embedding FLOAT[];
    INSERT INTO lake.clips (clip_id, model) VALUES ('c', 'base@1');
    INSERT INTO lake.ticks (clip_id, frame_id, embedding) VALUES ('c', 1, [1, 2]), ('c', 2, NULL);
"""


def test_a_lake_of_before_is_asked_and_written_as_one_of_today(home: Home) -> None:
    with Lake(home) as lake:
        lake.append("pins", pin("old"))
        with closing(lake.catalog.connect()) as connection:
            lake.catalog.attach(connection, read_only=False)
            connection.execute(OLD_LAKE)
    seen = [{"clip_id": "c", "frame_id": 1, "model": "base@1", "embedding": [1.0, 2.0]}]
    with Lake(home) as lake:
        then = lake.snapshot()
        assert lake.sql("FROM embeddings").to_pylist() == seen
        assert lake.sql("SELECT rss_margin_m FROM ticks LIMIT 1").to_pylist() == [
            {"rss_margin_m": None}
        ]
        assert lake.snapshot() == then, "reading must not write"
        lake.append("pins", pin("a"))
    with Lake(home) as lake, lake.at(then) as past:
        assert lake.sql("SELECT clip_id, frame_id, model, embedding FROM lake.embeddings")
        assert lake.sql("FROM embeddings").to_pylist() == seen
        assert past.sql("FROM embeddings").to_pylist() == seen
        assert past.sql("SELECT h3_cell FROM ticks").num_rows == 2


def test_a_column_added_later_is_added_to_an_old_lake(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = Table("pins", PINS.row, PINS.columns[:3])
    monkeypatch.setitem(TABLES, "pins", older)
    with Lake(home) as lake:
        lake.append("pins", older.rows([{"name": "a", "snapshot": 1, "digest": "d"}]))
    monkeypatch.undo()
    with Lake(home) as lake:
        lake.append("pins", pin("b"))
        names = lake.sql("SELECT name, query, clips FROM pins ORDER BY name").to_pylist()
    assert [r["name"] for r in names] == ["a", "b"]
    assert names[0]["query"] is None
