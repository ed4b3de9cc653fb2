"""Labels are bought: truth is released for the frames that are paid for, and for no other.

In simulation the truth of a whole drive lies in the car's truth folder, as an annotator's work
would lie with the annotator; only the frames asked for here enter the lake, and every box is
counted.
"""

import io
import math
import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from datalake.lake import Lake, Writer
from datalake.tables import LABELLED, LABELS
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.sample import (
    BOX_COLUMNS,
    LABEL_MIN_PIXELS,
    LANE_LINES,
    DatasetError,
    all_columns,
)
from vehicle.contracts.scene import BEV, BEV_BOX, KINDS

SOURCE: Final = "simulator"
TEACHER: Final = "teacher:"
"""Sources that begin so are networks: cheap, sometimes wrong, and never in the way of truth."""

BOUGHT_SQL: Final = f"NOT starts_with(coalesce(source, ''), '{TEACHER}')"
"""Rows of `labelled` that were paid for."""

_INTEGERS: Final = ("kind", "visible_px", "actor_id")
_ROAD_ARRAYS: Final = ("road_frame_id", "light", "lanes")
_VELOCITY: Final = ("vx_mps", "vy_mps")


class UnknownClipError(wire.RefusedError):
    """A clip was named that the lake does not hold."""


class MissingTruthError(wire.RefusedError):
    """Nobody can label this clip: there is no truth for its drive, or not for a frame of it."""


class BadTruthError(wire.RefusedError):
    """A truth or label file is not in the shard array format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """What is true of the way ahead: light [2] (LIGHT_COLUMNS), lanes [4, 50] (LANE_LINES)."""

    light: np.ndarray
    lanes: np.ndarray

    @property
    def digest(self) -> str:
        """Return the sha256 of both arrays' bytes."""
        parts = (np.ascontiguousarray(a, dtype=np.float32) for a in (self.light, self.lanes))
        return wire.digest(b"".join(a.tobytes() for a in parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTruth:
    """What is true of a frame: boxes [M, 11], BEV bits [100, 64], the road if anybody told it."""

    boxes: np.ndarray
    bev: np.ndarray
    road: Road | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReport:
    """What was bought.

    Args:
        clips: clips asked for.
        frames: frames bought by this call.
        already: frames that were labelled before and cost nothing now.
        boxes: boxes drawn in the frames bought: the cost. Boxes under LABEL_MIN_PIXELS are
            delivered, marked by visible_px, and not counted: nobody could have drawn them.
    """

    SCHEMA = "labelling/1"
    clips: int
    frames: int
    already: int
    boxes: int


def label(
    home: Home,
    lake: Lake,
    clip_ids: Iterable[str],
    *,
    frames: Mapping[str, Collection[int]] | None = None,
    every: int = 1,
) -> LabelReport:
    """Buy the labels of clips.

    Args:
        home: where the truth of each drive lies: cars/<car>/truth/<route_id>.npz.
        lake: receives rows in `labelled` and `labels`, rasters in labels/<clip_id>.npz.
        clip_ids: the clips to buy.
        frames: clip_id -> the frames to buy of it; None buys every `every`-th of each clip.
        every: 1 buys all frames.
    Returns:
        frames and boxes paid for.
    Raises:
        UnknownClipError: a clip is not in the lake.
        MissingTruthError: there is no truth for a clip or frame; nothing was bought.
    """
    wire.require(every >= 1, f"every is {every}, expected 1 or more")
    ids = sorted(set(clip_ids))
    facts = _facts(lake)
    unknown = [c for c in ids if c not in facts]
    if unknown:
        raise UnknownClipError(f"clip {unknown[0][:12]} is not in the lake; ingest it first")
    wanted = {clip_id: _wanted(lake, clip_id, frames, every) for clip_id in ids}

    def change(writer: Writer) -> tuple[int, int]:
        bought: list[dict[str, Any]] = []
        boxes: list[dict[str, Any]] = []
        for clip_id in ids:
            new = sorted(set(wanted[clip_id]) - writer.frames("labelled", clip_id, BOUGHT_SQL))
            if new:
                car_id, route_id = facts[clip_id]
                truth = Truth(home.car(car_id) / "truth" / f"{route_id}.npz")
                deliver(home, clip_id, {f: truth.frame(f) for f in new}, bought, boxes)
        writer.append("labelled", LABELLED.rows(bought))
        writer.append("labels", LABELS.rows(boxes))
        return len(bought), sum(row["boxes"] for row in bought)

    count, cost = lake.write(change)
    asked = sum(len(f) for f in wanted.values())
    return LabelReport(clips=len(ids), frames=count, already=asked - count, boxes=cost)


def rasters(home: Home, clip_id: str, source: str = SOURCE) -> dict[int, np.ndarray]:
    """Return frame_id -> BEV bits [100, 64] of every frame of a clip that a source labelled."""
    path = labels_file(home, clip_id, source)
    if not path.is_file():
        return {}
    arrays = read_arrays(path, ("frame_id", "bev"))
    return dict(zip(arrays["frame_id"].tolist(), arrays["bev"], strict=True))


def roads(home: Home, clip_id: str, source: str = SOURCE) -> dict[int, Road]:
    """Return frame_id -> the road of every frame of a clip whose label told it."""
    path = labels_file(home, clip_id, source)
    if not path.is_file():
        return {}
    arrays = read_arrays(path, (), optional=_ROAD_ARRAYS)
    if len(arrays) < len(_ROAD_ARRAYS):
        return {}
    columns = (arrays[name] for name in _ROAD_ARRAYS)
    return {
        int(frame): Road(light=light, lanes=lanes)
        for frame, light, lanes in zip(*columns, strict=True)
    }


def labels_file(home: Home, clip_id: str, source: str = SOURCE) -> Path:
    """Return where the rasters of a clip are kept: a teacher's beside the truth, not in it."""
    teacher = source.removeprefix(TEACHER) if source.startswith(TEACHER) else ""
    return home.lake / "labels" / (f"{clip_id}.{teacher}.npz" if teacher else f"{clip_id}.npz")


class Truth:
    """The truth of one drive, frame by frame."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise MissingTruthError(
                f"no truth at {path}: only simulated drives can be labelled here; bring labels of "
                "your own for recorded ones"
            )
        self.path = path
        arrays = read_arrays(
            path, ("frame_id", "bev", "boxes", "box_start"), optional=("light", "lanes")
        )
        try:
            self._boxes = all_columns(arrays["boxes"])
        except DatasetError as error:
            raise BadTruthError(f"{path}: {error}") from error
        self._bev, self._start = arrays["bev"], arrays["box_start"]
        self._row = {frame: i for i, frame in enumerate(arrays["frame_id"].tolist())}
        if self._bev.shape != (len(self._row), BEV.nx, BEV.ny) or self._start.shape != (
            len(self._row) + 1,
        ):
            raise BadTruthError(f"{path} is not in the shard array format of contracts/sample.py")
        self._light, self._lanes = arrays.get("light"), arrays.get("lanes")
        for road, shape in ((self._light, (2,)), (self._lanes, (len(LANE_LINES), BEV_BOX.nx))):
            if road is not None and road.shape != (len(self._row), *shape):
                raise BadTruthError(f"{path}: the road is {road.shape}, expected {shape} a frame")

    def frame(self, frame_id: int) -> FrameTruth:
        """Return what is true of one frame."""
        if frame_id not in self._row:
            raise MissingTruthError(f"{self.path} has no truth for frame {frame_id}")
        row = self._row[frame_id]
        road = None
        if self._light is not None and self._lanes is not None:
            road = Road(light=self._light[row], lanes=self._lanes[row])
        boxes = self._boxes[self._start[row] : self._start[row + 1]]
        return FrameTruth(boxes=boxes, bev=self._bev[row], road=road)


def read_arrays(
    path: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Return named arrays of an npz file, `optional` ones if there (no pickle is ever read)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            there = [*names, *(name for name in optional if name in archive.files)]
            return {name: archive[name] for name in there}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadTruthError(f"{path} does not read: {error}; make it again") from error


def _facts(lake: Lake) -> dict[str, tuple[str, str]]:
    rows = lake.sql("SELECT clip_id, car_id, route_id FROM clips").to_pylist()
    return {r["clip_id"]: (r["car_id"], r["route_id"]) for r in rows}


def _wanted(
    lake: Lake, clip_id: str, frames: Mapping[str, Collection[int]] | None, every: int
) -> list[int]:
    found = lake.sql(f"SELECT frame_id FROM ticks WHERE clip_id = '{clip_id}' ORDER BY frame_id")
    there: list[int] = found["frame_id"].to_pylist()
    if frames is None:
        return there[::every]
    wanted = sorted(set(frames.get(clip_id, ())))
    strange = sorted(set(wanted) - set(there))
    if strange:
        raise UnknownClipError(f"clip {clip_id[:12]} has no frame {strange[0]}")
    return wanted


def deliver(
    home: Home,
    clip_id: str,
    frames: Mapping[int, FrameTruth],
    bought: list[dict[str, Any]],
    boxes: list[dict[str, Any]],
    source: str = SOURCE,
) -> None:
    """Keep the rasters of a clip's new frames; add their rows to `bought` and `boxes`."""
    kept = rasters(home, clip_id, source) | {f: truth.bev for f, truth in frames.items()}
    told = {frame: truth.road for frame, truth in frames.items() if truth.road is not None}
    path = labels_file(home, clip_id, source)
    _write_rasters(path, kept, roads(home, clip_id, source) | told)
    for frame, truth in frames.items():
        boxes += _box_rows(clip_id, frame, truth.boxes, source)
        bought.append(
            {
                "clip_id": clip_id,
                "frame_id": frame,
                "boxes": int((truth.boxes[:, 7] >= LABEL_MIN_PIXELS).sum()),
                "source": source,
                "bev_sha256": bev_digest(truth.bev),
                "road_sha256": truth.road.digest if truth.road is not None else None,
            }
        )


def bev_digest(bev: np.ndarray) -> str:
    """Return the sha256 of a raster's bytes."""
    return wire.digest(np.ascontiguousarray(bev, dtype=np.uint8).tobytes())


def _box_rows(
    clip_id: str, frame_id: int, boxes: np.ndarray, source: str
) -> Iterable[dict[str, Any]]:
    for index, box in enumerate(boxes.tolist()):
        row: dict[str, Any] = dict(zip(BOX_COLUMNS, box, strict=True))
        row |= {name: int(row[name]) for name in _INTEGERS}
        row["kind"] = KINDS[row["kind"]]
        row |= {name: None for name in _VELOCITY if math.isnan(row[name])}
        yield {"clip_id": clip_id, "frame_id": frame_id, "box": index, "source": source, **row}


def _write_rasters(path: Path, kept: Mapping[int, np.ndarray], told: Mapping[int, Road]) -> None:
    order = sorted(kept)
    ways = [told[frame] for frame in sorted(told)]
    columns = (sorted(told), [w.light for w in ways], [w.lanes for w in ways])
    types = (np.int64, np.float32, np.float32)
    extra = dict(zip(_ROAD_ARRAYS, map(np.array, columns, types), strict=True)) if told else {}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        frame_id=np.array(order, dtype=np.int64),
        bev=np.stack([kept[f] for f in order]).astype(np.uint8),
        **extra,
    )
    wire.atomic_write(path, buffer.getvalue())
