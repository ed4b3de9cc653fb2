"""What became of every event of a drive: counted in the lake, and what else lies about, on disk."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datalake.lake import Lake
from vehicle.contracts.home import Home

if TYPE_CHECKING:
    from sim.benches.uplink_chain import Chain

MANIFEST = "manifest.json"


def count(chain: "Chain") -> dict[str, Any]:
    """Return what is lost, twice, left over or broken.

    events_lost: fired in the drive, in no clip of the lake. twice: events and rows in the lake more
    than once. holes: clips with fewer ticks than from their first frame to their last. orphans:
    things that nothing refers to, by path.
    """
    with Lake(chain.home) as lake:
        events = lake.sql(
            "SELECT c.route_id, e.frame_id, count(*) AS n FROM events e JOIN clips c "
            "USING (clip_id) GROUP BY ALL"
        ).to_pylist()
        [rows] = lake.sql(
            "SELECT (SELECT count(*) FROM clips) AS clips, (SELECT count(*) FROM ticks) AS ticks,"
            "(SELECT count(*) - count(DISTINCT clip_id) FROM clips) AS clips_twice,"
            "(SELECT count(*) - count(DISTINCT (clip_id, frame_id)) FROM ticks) AS ticks_twice"
        ).to_pylist()
        [holes] = lake.sql(
            "SELECT count(*) AS n FROM (SELECT c.clip_id FROM clips c JOIN ticks t USING (clip_id) "
            "GROUP BY c.clip_id, frame_first, frame_last "
            "HAVING count(*) <> frame_last - frame_first + 1)"
        ).to_pylist()
        objects = lake.sql("SELECT clip_id, object_sha256 FROM clips").to_pylist()
    known = {(row["route_id"], row["frame_id"]) for row in events}
    lost = sorted(chain.fired - known)
    left = sorted(orphans(chain.home, {row["object_sha256"] for row in objects}))
    return {
        "clips": rows["clips"],
        "ticks": rows["ticks"],
        "events_lost": len(lost),
        "lost_names": [f"{route} frame {frame_id}" for route, frame_id in lost[:5]],
        "twice": sum(row["n"] - 1 for row in events) + rows["clips_twice"] + rows["ticks_twice"],
        "holes": holes["n"],
        "quarantined": len(list((chain.home.lake / "quarantine").glob("*"))),
        "waiting_in_the_car": sum(
            1 for _ in chain.home.root.glob(f"cars/*/outbox/[0-9a-f]*/{MANIFEST}")
        ),
        "orphans": len(left),
        "orphan_names": left[:5],
    }


def orphans(home: Home, objects: set[str]) -> Iterator[str]:
    """Yield what nothing refers to.

    Half-written files anywhere; folders without a manifest and manifests without files in outbox
    and landing zone; contents that no clip claimed; objects and Parquet files that the lake does
    not name; work of ingests that are no more.

    Args:
        objects: sha256 of the objects that the lake's rows name.
    """
    for path in home.root.rglob("*.part"):
        if path.is_file():
            yield _name(home, path)
    for folder in [*home.root.glob("cars/*/outbox/*"), *home.landing.glob("*")]:
        if folder.is_dir() and folder.name != ".tmp" and not _is_clip(folder):
            yield _name(home, folder)
    for pattern in ("cars/*/outbox/.tmp/*", "fleet/uploads/*/*", "lake/work/*", "lake/queue/*"):
        for path in home.root.glob(pattern):
            if path.name != "lock":
                yield _name(home, path)
    for path in (home.lake / "clips").glob("*/*"):
        if path.stem not in objects:
            yield _name(home, path)
    named = set(_parquet_files(home.lake / "catalog.sqlite"))
    for path in (home.lake / "data").rglob("*.parquet"):
        if path.name not in named:
            yield _name(home, path)


def _is_clip(folder: Path) -> bool:
    """Return whether a folder has a manifest, and the files it names or a receipt for them."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, KeyError):
        return False
    if (folder / "ingested.json").is_file():
        return True
    return all((folder / entry["name"]).is_file() for entry in files)


def _parquet_files(catalog: Path) -> Iterator[str]:
    """Yield the names of the Parquet files that DuckLake's catalog names, asked without it."""
    if not catalog.is_file():
        return
    with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as connection:
        for table in ("ducklake_data_file", "ducklake_delete_file"):
            for (path,) in connection.execute(f"SELECT path FROM {table}"):
                yield Path(path).name


def _name(home: Home, path: Path) -> str:
    return str(path.relative_to(home.root))
