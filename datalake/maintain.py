"""Looking after the lake: small files into large ones, dead snapshots and orphans away, and every
object against its row.

Only snapshots that no dataset pins are ever let go of, by number, never by age: expiry by age would
take pinned ones too. What is pinned reads the same before and after.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb

from datalake.commit import sweep_queue
from datalake.duck import LakeWriteError, first_line
from datalake.lake import Lake
from datalake.landed import sweep_work
from datalake.tables import PINS, TABLES
from vehicle.contracts import wire
from vehicle.contracts.home import Home

KEPT_SNAPSHOTS: Final = 20
"""The newest snapshots stay, pinned or not: somebody may be asking `--at` one of them."""


@dataclass(slots=True, kw_only=True)
class CompactReport:
    """What a compaction did.

    Args:
        files_before, files_after: Parquet files that the newest snapshot reads.
        expired: snapshots let go of.
        pinned: snapshots that datasets hold.
        removed: files deleted: merged ones, those of expired snapshots, orphans.
        removed_bytes: their sizes.
        snapshot: newest snapshot afterwards.
    """

    SCHEMA = "compaction/1"
    files_before: int = 0
    files_after: int = 0
    expired: int = 0
    pinned: int = 0
    removed: int = 0
    removed_bytes: int = 0
    snapshot: int = 0


@dataclass(slots=True, kw_only=True)
class CheckReport:
    """What is wrong with a lake: clip ids and paths, empty where all is well.

    Args:
        clips: rows of `clips`.
        bytes: of the objects, all hashed.
        missing: clips whose object is not there.
        damaged: clips whose object has another hash than its row says.
        strange: object files that no row names.
        twice: clips with more than one row in `clips`, or a frame with two in `ticks`.
        loose: clip ids that ticks, events, tracks or embeddings name and `clips` does not.
    """

    SCHEMA = "lakecheck/1"
    clips: int = 0
    bytes: int = 0
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Return whether nothing is wrong."""
        return not (self.missing or self.damaged or self.strange or self.twice or self.loose)


def compact(home: Home, *, keep: int = KEPT_SNAPSHOTS) -> CompactReport:
    """Merge small files, let go of old snapshots that no dataset pins, remove orphan files.

    Questions may go on meanwhile; one that reads a file at the moment it is removed fails and can
    be asked again. Ingest waits.

    Args:
        home: whose lake.
        keep: how many of the newest snapshots stay beside the pinned ones, at least 1.
    Raises:
        LakeError: the lake cannot be changed; every finished step stays, nothing is half done.
    """
    wire.require(keep >= 1, f"keep is {keep}, expected 1 or more: the lake is its newest snapshot")
    report = CompactReport()
    sweep_work(home.lake / "work")
    sweep_queue(home.lake / "queue")
    with Lake(home) as lake:
        if not lake.exists:
            return report
        before = _sizes(home.lake / "data")
        with lake.maintenance() as connection, _named(lake):
            found = connection.execute(f"SELECT DISTINCT snapshot FROM lake.{PINS.name}").fetchall()
            pins = {int(row[0]) for row in found}
            report.pinned, report.files_before = len(pins), _files(connection)
            _merge(connection)
            report.expired = _expire(connection, pins, keep)
            for removal in ("cleanup_old_files", "delete_orphaned_files"):
                connection.execute(f"CALL ducklake_{removal}('lake', cleanup_all => true)")
            report.files_after = _files(connection)
        left = _sizes(home.lake / "data")
        gone = before.keys() - left.keys()
        report.removed, report.removed_bytes = len(gone), sum(before[path] for path in gone)
        report.snapshot = lake.snapshot()
    return report


def check(home: Home) -> CheckReport:
    """Hold every object of the lake against its row, byte by byte, and rows against each other."""
    report = CheckReport()
    with Lake(home) as lake:
        rows = lake.sql("SELECT clip_id, object, object_sha256 FROM clips").to_pylist()
        frames = "SELECT clip_id FROM ticks GROUP BY clip_id, frame_id HAVING count(*) > 1"
        clips = "SELECT clip_id FROM clips GROUP BY clip_id HAVING count(*) > 1"
        report.twice = _ids(lake, f"{frames} UNION {clips}")
        report.loose = _ids(
            lake,
            " UNION ".join(
                f"SELECT t.clip_id FROM {table} t ANTI JOIN clips c USING (clip_id)"
                for table in ("ticks", "tracks", "events", "embeddings")
            ),
        )
    named = set()
    for row in rows:
        path = home.lake / row["object"]
        named.add(path)
        report.clips += 1
        if not path.is_file():
            report.missing.append(row["clip_id"])
            continue
        report.bytes += path.stat().st_size
        if wire.digest_file(path) != (row["object_sha256"] or row["clip_id"]):
            report.damaged.append(row["clip_id"])
    there = {p for p in (home.lake / "clips").rglob("*") if p.is_file()}
    report.strange = sorted(str(p.relative_to(home.lake)) for p in there - named)
    return report


def _merge(connection: duckdb.DuckDBPyConnection) -> None:
    """Rewrite files with deleted rows, then merge neighbours; older snapshots still read the same.

    A file that rows were deleted from is rewritten as soon as a tenth of it is gone.
    """
    connection.execute("CALL ducklake_rewrite_data_files('lake', delete_threshold => 0.1)")
    connection.execute("CALL ducklake_merge_adjacent_files('lake')")


def _expire(connection: duckdb.DuckDBPyConnection, pins: set[int], keep: int) -> int:
    found = connection.execute(
        "SELECT snapshot_id FROM ducklake_snapshots('lake') ORDER BY snapshot_id"
    ).fetchall()
    old = [int(row[0]) for row in found[:-keep] if int(row[0]) not in pins]
    if old:
        versions = ", ".join(map(str, old))
        connection.execute(f"CALL ducklake_expire_snapshots('lake', versions => [{versions}])")
    return len(old)


def _files(connection: duckdb.DuckDBPyConnection) -> int:
    return sum(
        len(connection.execute(f"FROM ducklake_list_files('lake', '{table}')").fetchall())
        for table in TABLES
    )


def _sizes(folder: Path) -> dict[Path, int]:
    return {
        Path(root, name): Path(root, name).stat().st_size
        for root, _, names in os.walk(folder)
        for name in names
    }


def _ids(lake: Lake, query: str) -> list[str]:
    return sorted(set(lake.sql(query)["clip_id"].to_pylist()))


@contextmanager
def _named(lake: Lake) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise LakeWriteError(
            f"the lake at {lake.home.lake} could not be compacted: {first_line(error)}; what was "
            "done before stays; run it again"
        ) from error
