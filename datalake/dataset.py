"""Datasets: frames chosen by SQL at a pinned snapshot, with their labels, as shards for training.

The snapshot is pinned in the lake, then the folder appears by one rename, its manifest in it. The
same snapshot and query give the same bytes, however much the lake has grown since.
"""

import dataclasses
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from datalake import clips
from datalake.choice import (
    RESERVED_TAGS,
    Choice,
    Chosen,
    DatasetQueryError,
    EmptyDatasetError,
)
from datalake.duck import quoted
from datalake.label import SOURCE, TEACHER, FrameTruth, bev_digest, rasters, roads
from datalake.lake import Lake
from datalake.tables import PINS
from datalake.vectors import text_list
from vehicle.contracts import wire
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.frame import Rig
from vehicle.contracts.home import Home
from vehicle.contracts.sample import (
    BOX_COLUMNS,
    LABEL_MIN_PIXELS,
    MOTION_COLUMNS,
    DatasetError,
    DatasetManifest,
    Sample,
    motion_between,
    read_manifest,
    write_shard,
)
from vehicle.contracts.scene import KINDS

__all__ = [
    "DatasetExistsError",
    "DatasetQueryError",
    "DatasetWriteError",
    "EmptyDatasetError",
    "MixedRigsError",
    "UnlabelledFramesError",
    "create",
    "names",
    "show",
]

SHARD_FRAMES: Final = 128
"""About 70 MB with the eight cameras of rig R."""

Progress = Callable[[int, int], None]


class UnlabelledFramesError(wire.RefusedError):
    """The query chose frames whose labels nobody has bought."""


class MixedRigsError(wire.RefusedError):
    """The query chose frames of cars with different cameras."""


class DatasetExistsError(wire.RefusedError):
    """There is a dataset of that name."""


class DatasetWriteError(wire.RefusedError):
    """The disk refused; nothing of the dataset is left."""


def create(
    home: Home,
    name: str,
    sql: str,
    *,
    snapshot: int | None = None,
    tags: dict[str, str] | None = None,
    replace: bool = False,
    jurisdictions: Collection[str] = (),
    no_duplicates: float | None = None,
    progress: Progress | None = None,
) -> DatasetManifest:
    """Make a dataset of the frames that a query chooses.

    Args:
        home: whose lake and datasets folder.
        name: of the new folder under datasets/.
        sql: must yield clip_id and frame_id; order and repetitions do not matter.
        snapshot: ask the lake as it was then; None: as it is now.
        tags: e.g. {"light": "night"}.
        replace: a dataset of that name is given up for this one.
        jurisdictions: take only clips recorded there; none named: take all.
        no_duplicates: of frames that look alike at this cosine take one; None: take all.
        progress: called with frames done and frames in all.
    Returns:
        the manifest; `sources` are the clip ids, `digest` names the dataset.
    Raises:
        DatasetExistsError, DatasetQueryError, EmptyDatasetError, UnlabelledFramesError,
        MixedRigsError, MissingPictureError, ClosedJurisdictionError: by name; nothing was written.
    """
    folder = _free_folder(home, name, replace)
    taken = RESERVED_TAGS & set(tags or {})
    if taken:
        raise DatasetQueryError(f"tag {min(taken)!r} is written by what chooses the frames")
    places = tuple(sorted(set(jurisdictions)))
    choice = Choice(sql=sql, jurisdictions=places, no_duplicates=no_duplicates)
    with Lake(home) as lake, lake.at(lake.snapshot() if snapshot is None else snapshot) as pinned:
        chosen, told = choice.frames(pinned)
        labels, motions = Labels(home, pinned, chosen), Motions(pinned, chosen)
        rig = _one_rig(home, pinned, chosen)
        samples = _samples(home, chosen, labels, motions, progress)
        facts = {"name": name, "snapshot": pinned.snapshot(), "query": sql, "rig": rig}
        facts |= {"sources": tuple(chosen), "tags": {**(tags or {}), **told}}
        return _publish(lake, folder, samples, facts)


def _publish(
    lake: Lake, folder: Path, samples: Iterator[Sample], facts: dict[str, Any]
) -> DatasetManifest:
    """Write the shards, pin the snapshot, and let the folder appear by one rename."""
    temp = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        temp.mkdir(parents=True)
        files, boxes, frames = _write_shards(temp, samples)
        manifest = DatasetManifest(files=files, boxes=boxes, frames=frames, **facts)
        wire.atomic_write(temp / "dataset.json", wire.to_bytes(manifest))
        _pin(lake, manifest)  # before the rename: no dataset is ever without its pin
        shutil.rmtree(folder, ignore_errors=True)
        temp.rename(folder)
        wire.sync_folder(folder.parent)
    except OSError as error:
        if isinstance(error, wire.RefusedError):
            raise
        raise DatasetWriteError(f"cannot write {folder}: {error}; free some space") from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return manifest


def _free_folder(home: Home, name: str, replace: bool) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise DatasetQueryError(f"dataset name {name!r}: expected letters, digits, - _ .")
    folder = home.datasets / name
    if folder.exists() and not replace:
        raise DatasetExistsError(
            f"{folder} is there already; choose another name, or give it up with --replace"
        )
    return folder


def show(home: Home, name: str) -> dict[str, Any]:
    """Return what a dataset is, where it came from, and whether its bytes are still those.

    Raises:
        DatasetError: there is none of that name, or a shard is missing or damaged.
    """
    folder = home.datasets / name
    if not folder.is_dir():
        there = ", ".join(names(home)) or "none"
        raise DatasetError(f"no dataset is called {name!r}; there are: {there}")
    manifest = read_manifest(folder)
    for entry in manifest.files:
        if wire.digest_file(folder / entry.name) != entry.sha256:
            raise DatasetError(f"{folder}: shard {entry.name} is damaged; make it again")
    with Lake(home) as lake:
        pins = lake.sql("SELECT digest FROM pins")["digest"].to_pylist()
        cars = lake.sql(
            "SELECT DISTINCT car_id FROM clips WHERE list_contains("
            f"{text_list(manifest.sources)}, clip_id) ORDER BY ALL"
        )
        trained = lake.sql(
            f"SELECT DISTINCT name, version FROM models WHERE dataset_digest = "
            f"{quoted(manifest.digest)} ORDER BY ALL"
        ).to_pylist()
    return {
        "name": manifest.name,
        "digest": manifest.digest,
        "snapshot": manifest.snapshot,
        "pinned": manifest.digest in pins,
        "query": manifest.query,
        "frames": manifest.frames,
        "boxes": manifest.boxes,
        "clips": list(manifest.sources),
        "cars": cars["car_id"].to_pylist(),
        "models": [f"{row['name']}@{row['version']}" for row in trained],
        "rig": manifest.rig.name,
        "tags": manifest.tags,
        "bytes": sum(entry.size_bytes for entry in manifest.files),
    }


def names(home: Home) -> list[str]:
    """Return the names of all finished datasets."""
    return sorted(p.parent.name for p in home.datasets.glob("[!.]*/dataset.json"))


class Labels:
    """The labels of the chosen frames, as the lake held them at its snapshot."""

    def __init__(self, home: Home, lake: Lake, chosen: Chosen) -> None:
        """Read them.

        Raises:
            UnlabelledFramesError: some frame has none; says how to buy them.
        """
        self._home = home
        among = f"list_contains({text_list(chosen)}, clip_id)"
        found = lake.sql(f"SELECT * FROM labelled WHERE {among}").to_pylist()
        bought = preferred(found)
        self._source = {(r["clip_id"], r["frame_id"]): r["source"] or SOURCE for r in bought}
        self._bev = {(r["clip_id"], r["frame_id"]): r["bev_sha256"] for r in bought}
        self._road = {(r["clip_id"], r["frame_id"]): r.get("road_sha256") for r in bought}
        wanted = [(clip, frame) for clip, frames in chosen.items() for frame in frames]
        bare = [key for key in wanted if key not in self._bev]
        if bare:
            raise UnlabelledFramesError(
                f"{len(bare)} of {len(wanted)} frames have no labels (first: clip {bare[0][0][:12]}"
                f", frame {bare[0][1]}); buy them with `roadloop datalake label` and the same SQL, "
                "or ask only for frames in `labelled`"
            )
        boxes = lake.sql(f"SELECT * FROM labels WHERE {among} ORDER BY clip_id, frame_id, box")
        self._boxes: dict[tuple[str, int], list[list[float]]] = {}
        for row in boxes.to_pylist():
            key = row["clip_id"], row["frame_id"]
            if (row.get("source") or SOURCE) != self._source[key]:
                continue
            row["kind"] = KINDS.index(row["kind"])
            cells = (row.get(column) for column in BOX_COLUMNS)  # a lake of before has fewer
            box = [math.nan if cell is None else float(cell) for cell in cells]
            self._boxes.setdefault(key, []).append(box)

    def of(self, clip_id: str, frames: list[int]) -> dict[int, FrameTruth]:
        """Return frame_id -> what was bought of it.

        Raises:
            DatasetError: the rasters or roads of the clip are not the ones that were bought.
        """
        sources = {self._source[clip_id, frame] for frame in frames}
        kept_by = {s: rasters(self._home, clip_id, s) for s in sources}
        told_by = {s: roads(self._home, clip_id, s) for s in sources}
        found = {}
        for frame in frames:
            source = self._source[clip_id, frame]
            kept, told = kept_by[source], told_by[source]
            bev, road, wanted = kept.get(frame), told.get(frame), self._road[clip_id, frame]
            whole = wanted is None or (road is not None and road.digest == wanted)
            if bev is None or bev_digest(bev) != self._bev[clip_id, frame] or not whole:
                raise DatasetError(
                    f"labels/{clip_id[:12]}...npz lost or changed the raster or road of frame "
                    f"{frame}; restore it from a copy of the lake"
                )
            boxes = np.array(self._boxes.get((clip_id, frame), []), dtype=np.float32)
            found[frame] = FrameTruth(
                boxes=boxes.reshape(-1, len(BOX_COLUMNS)),
                bev=bev,
                road=None if wanted is None else road,
            )
        return found


def preferred(labelled: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row of `labelled` per frame: the truth where somebody bought it, else the newest
    teacher's."""

    def rank(row: dict[str, Any]) -> tuple[bool, int, str]:
        source = str(row["source"] or SOURCE)
        version = source.rpartition("@")[2]
        return not source.startswith(TEACHER), int(version) if version.isdigit() else 0, source

    best: dict[tuple[str, int], dict[str, Any]] = {}
    for row in sorted(labelled, key=rank):
        best[row["clip_id"], row["frame_id"]] = row
    return list(best.values())


class Motions:
    """How the ego moved between frames that follow each other in a clip."""

    def __init__(self, lake: Lake, chosen: Chosen) -> None:
        rows = lake.sql(
            "SELECT clip_id, frame_id, mono_ns, x_m, y_m, yaw_rad FROM ticks "
            f"WHERE list_contains({text_list(chosen)}, clip_id)"
        ).to_pylist()
        self._ticks = {(r["clip_id"], r["frame_id"]): r for r in rows}

    def since(self, clip_id: str, before: int | None, frame_id: int) -> np.ndarray:
        """Return the motion (MOTION_COLUMNS) from the sample before, zeros where it is no
        neighbour or odometry is missing."""
        none = np.zeros(len(MOTION_COLUMNS), np.float32)
        if before is None or frame_id - before != 1:
            return none
        then, now = (self._ticks.get((clip_id, f), {}) for f in (before, frame_id))
        names = ("x_m", "y_m", "yaw_rad")
        if any(tick.get(name) is None for tick in (then, now) for name in (*names, "mono_ns")):
            return none
        poses = (np.array([tick[name] for name in names]) for tick in (then, now))
        return motion_between(*poses, (now["mono_ns"] - then["mono_ns"]) * 1e-9)


def _one_rig(home: Home, lake: Lake, chosen: Chosen) -> Rig:
    among = f"list_contains({text_list(chosen)}, clip_id)"
    rows = lake.sql(f"SELECT clip_id, rig_digest FROM clips WHERE {among} ORDER BY ALL").to_pylist()
    missing = sorted(set(chosen) - {r["clip_id"] for r in rows})
    if missing:
        raise DatasetQueryError(f"clip {missing[0][:12]} is not in the lake at this snapshot")
    rigs = Counter(r["rig_digest"][:12] or "no cameras" for r in rows)
    if len(rigs) > 1:
        found = ", ".join(f"{count} clips of rig {rig}" for rig, count in sorted(rigs.items()))
        raise MixedRigsError(f"found {found}; choose one by clips.rig_digest in the query")
    return clips.rig_of(home, rows[0]["clip_id"])


def _samples(
    home: Home, chosen: Chosen, labels: Labels, motions: Motions, progress: Progress | None
) -> Iterator[Sample]:
    total, done = sum(len(frames) for frames in chosen.values()), 0
    for clip_id, frames in chosen.items():
        found, before = labels.of(clip_id, frames), None
        for frame_id, images in clips.pictures(home, clip_id, frames):
            truth = found[frame_id]
            yield Sample(
                frame_id=frame_id,
                images=images,
                boxes=truth.boxes,
                bev=truth.bev,
                motion=motions.since(clip_id, before, frame_id),
                light=None if truth.road is None else truth.road.light,
                lanes=None if truth.road is None else truth.road.lanes,
            )
            before = frame_id
            done += 1
            if progress is not None:
                progress(done, total)


def _write_shards(
    folder: Path, samples: Iterator[Sample]
) -> tuple[tuple[FileEntry, ...], dict[str, int], int]:
    """Return the shards written, the boxes per kind that are worth learning, and the frames."""
    files, boxes, frames = [], Counter[str](), 0
    for number, shard in enumerate(_batches(samples)):
        if any(s.lanes is None for s in shard):  # a shard has them all or none
            shard = [dataclasses.replace(s, lanes=None) for s in shard]
        files.append(write_shard(folder / f"shard-{number:04d}.npz", shard))
        frames += len(shard)
        for sample in shard:
            seen = sample.boxes[sample.boxes[:, 7] >= LABEL_MIN_PIXELS, 0]
            boxes.update(KINDS[int(kind)] for kind in seen)
    return tuple(files), dict(boxes), frames


def _pin(lake: Lake, manifest: DatasetManifest) -> None:
    row = {
        "name": manifest.name,
        "snapshot": manifest.snapshot,
        "digest": manifest.digest,
        "query": manifest.query,
        "frames": manifest.frames,
        "clips": len(manifest.sources),
    }
    lake.append("pins", PINS.rows([row]))


def _batches(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == SHARD_FRAMES:
            yield batch
            batch = []
    if batch:
        yield batch
