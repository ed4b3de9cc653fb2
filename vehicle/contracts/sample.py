"""A dataset on disk: labelled frames as arrays, and the manifest that pins them.

Three packages meet in this file and in nothing else: the simulator and the lake write datasets,
training reads them. A dataset folder holds `dataset.json` (written last) and shards `*.npz`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from vehicle.contracts import wire
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import TRACK
from vehicle.contracts.wire import require

LABEL_MIN_PIXELS: Final = 6
"""Boxes with fewer visible pixels over all cameras are `ignore`: neither wanted nor punished."""

SHARD_ARRAYS: Final = {
    "frame_id": "int64 [N]",
    "images_<camera>": "uint8 [N, H, W, 3] RGB, one array per camera of the rig",
    "bev": "uint8 [N, 100, 64], bits BEV_DRIVABLE | BEV_LANE | BEV_OCCUPIED",
    "boxes": "float32 [M, 11]: BOX_COLUMNS, all frames in order; [M, 9] where no velocity is known",
    "box_start": "int64 [N + 1]: boxes of frame i are boxes[box_start[i]:box_start[i + 1]]",
    "motion": "float32 [N, 4], MOTION_COLUMNS: since the sample just before; dt_s 0 where none is",
    "light": "float32 [N, 2], LIGHT_COLUMNS: the next signal on the ego's route within 60 m",
    "lanes": "float32 [N, 4, 50]: y_m of LANE_LINES at the rows of BEV_BOX; NaN where none is",
}
"""The last three may be absent: nobody labelled them."""

BOX_COLUMNS: Final = (
    "kind",
    "x_m",
    "y_m",
    "yaw_rad",
    "length_m",
    "width_m",
    "height_m",
    "visible_px",
    "actor_id",
    "vx_mps",
    "vy_mps",
)
"""Columns of a labelled box, ego frame, float32. Velocities are over ground, along ego axes; NaN
where nobody knows them, as in the nine columns that older shards hold."""

_OLD_BOX_COLUMNS: Final = 9

MOTION_COLUMNS: Final = ("dx_m", "dy_m", "dyaw_rad", "dt_s")
"""Pose of the ego frame in the ego frame of the sample before it, and the time between."""

LIGHT_COLUMNS: Final = ("state", "distance_m")
"""State is an index into SIGNAL_STATES or -1 (unlabelled); metres along the route to the stop line,
NaN without one."""

LIGHT_UNLABELLED: Final = -1.0

LANE_LINES: Final = ("far_left", "own_left", "own_right", "far_right")
"""Boundaries from left to right: of the lane left of the ego's, of its own, of the one right."""


_EXTRAS: Final = ("motion", "light", "lanes")


class DatasetError(wire.ContractError):
    """A dataset folder is incomplete or does not match its manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetManifest:
    """What a dataset is, pinned.

    Args:
        snapshot: lake snapshot it was read at; 0 for simulator output.
        query: the SQL or generator call that chose the frames.
        frames: how many labelled frames.
        boxes: labelled boxes per kind.
        sources: where the frames came from: clip ids, or "sim:town=3,seed=1".
        tags: e.g. {"light": "night", "split": "test"}.
    """

    SCHEMA: ClassVar[str] = "dataset/1"
    name: str
    snapshot: int
    query: str
    rig: Rig
    frames: int
    boxes: dict[str, int]
    sources: tuple[str, ...]
    files: tuple[FileEntry, ...]
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return the sha256 of the canonical manifest."""
        return wire.digest(wire.to_bytes(self))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One labelled frame.

    Args:
        images: by camera, uint8 [H, W, 3].
        boxes: float32 [M, 11] (BOX_COLUMNS); [M, 9] when all velocities are unknown.
        bev: bits uint8 [100, 64].
        motion: float32 [4] (MOTION_COLUMNS); None: not known.
        light: float32 [2] (LIGHT_COLUMNS); None: unlabelled.
        lanes: float32 [4, 50] (LANE_LINES); None: unlabelled. All samples of a shard or none.
    """

    frame_id: int
    images: Mapping[str, np.ndarray]
    boxes: np.ndarray
    bev: np.ndarray
    motion: np.ndarray | None = None
    light: np.ndarray | None = None
    lanes: np.ndarray | None = None


def all_columns(boxes: np.ndarray) -> np.ndarray:
    """Return boxes [M, 9] or [M, 11] as float32 [M, 11]: velocities nobody wrote down are NaN.

    Raises:
        DatasetError: another number of columns.
    """
    if boxes.size == 0:
        return np.zeros((0, len(BOX_COLUMNS)), np.float32)
    boxes = boxes.astype(np.float32, copy=False)
    if boxes.ndim == 2 and boxes.shape[1] == _OLD_BOX_COLUMNS:
        unknown = np.full((len(boxes), len(BOX_COLUMNS) - _OLD_BOX_COLUMNS), np.nan, np.float32)
        return np.concatenate([boxes, unknown], axis=1)
    if boxes.ndim != 2 or boxes.shape[1] != len(BOX_COLUMNS):
        raise DatasetError(
            f"boxes are {list(boxes.shape)}, expected [M, {len(BOX_COLUMNS)}] or "
            f"[M, {_OLD_BOX_COLUMNS}]: make the labels again"
        )
    return boxes


def motion_between(before: np.ndarray, after: np.ndarray, dt_s: float) -> np.ndarray:
    """Return float32 [4] (MOTION_COLUMNS) of two poses x, y, yaw in one frame, `dt_s` apart."""
    c, s = math.cos(before[2]), math.sin(before[2])
    dx, dy = after[0] - before[0], after[1] - before[1]
    turn = math.remainder(float(after[2] - before[2]), 2.0 * math.pi)
    return np.array([c * dx + s * dy, -s * dx + c * dy, turn, dt_s], np.float32)


def boxes_from_tracks(tracks: np.ndarray, visible_px: np.ndarray) -> np.ndarray:
    """Return BOX_COLUMNS rows of TRACK rows and their visible pixel counts."""
    require(tracks.dtype == TRACK, "expected TRACK rows")
    columns = [tracks[name].astype(np.float32) for name in (*BOX_COLUMNS[:7], "track_id")]
    velocity = [tracks["vx_mps"], tracks["vy_mps"]]
    return np.stack([*columns[:7], visible_px.astype(np.float32), columns[7], *velocity], axis=1)


def write_shard(path: Path, samples: list[Sample]) -> FileEntry:
    """Write samples as one shard, atomically; return its entry for the manifest."""
    require(len(samples) > 0, f"shard {path.name} would be empty")
    cameras = list(samples[0].images)
    counts = [len(s.boxes) for s in samples]
    arrays = {
        "frame_id": np.array([s.frame_id for s in samples], dtype=np.int64),
        "bev": np.stack([s.bev for s in samples]).astype(np.uint8),
        "boxes": np.concatenate([all_columns(s.boxes) for s in samples]),
        "box_start": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        **{f"images_{c}": np.stack([s.images[c] for s in samples]) for c in cameras},
        **_extras(path, samples),
    }
    temp = path.with_name(f".{path.name}.part")
    try:
        with temp.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        data_digest, size = wire.digest_file(temp), temp.stat().st_size
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)
    return FileEntry(name=path.name, sha256=data_digest, size_bytes=size)


def _extras(path: Path, samples: list[Sample]) -> dict[str, np.ndarray]:
    """Return the arrays that may be absent, where any sample has them."""
    extras: dict[str, np.ndarray] = {}
    if any(s.motion is not None for s in samples):
        still = np.zeros(len(MOTION_COLUMNS), np.float32)
        motion = np.stack([still if s.motion is None else s.motion for s in samples])
        motion[0] = 0.0  # what lay before it is in another shard
        extras["motion"] = motion.astype(np.float32)
    if any(s.light is not None for s in samples):
        bare = np.array([LIGHT_UNLABELLED, np.nan], np.float32)
        light = np.stack([bare if s.light is None else s.light for s in samples])
        extras["light"] = light.astype(np.float32)
    labelled = [s.lanes is not None for s in samples]
    if any(labelled):
        require(all(labelled), f"shard {path.name}: some of its samples have lanes and some do not")
        extras["lanes"] = np.stack([s.lanes for s in samples if s.lanes is not None]).astype(
            np.float32
        )
    return extras


def read_manifest(folder: Path) -> DatasetManifest:
    """Return the manifest of a dataset folder.

    Raises:
        DatasetError: the folder has no manifest, or a shard is missing or of another size.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        raise DatasetError(f"{folder} is not a dataset: it has no dataset.json")
    manifest = wire.from_bytes(DatasetManifest, path.read_bytes())
    for entry in manifest.files:
        shard = folder / entry.name
        if not shard.is_file() or shard.stat().st_size != entry.size_bytes:
            raise DatasetError(f"{folder}: shard {entry.name} is missing or cut; make it again")
    return manifest


def read_shard(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a shard; boxes have all columns (no pickle is ever read)."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if "boxes" in arrays:
        arrays["boxes"] = all_columns(arrays["boxes"])
    return arrays


def iter_samples(folder: Path) -> Iterator[Sample]:
    """Yield every sample of a dataset in order."""
    for entry in read_manifest(folder).files:
        arrays = read_shard(folder / entry.name)
        cameras = [n.removeprefix("images_") for n in arrays if n.startswith("images_")]
        for i, frame_id in enumerate(arrays["frame_id"]):
            start, end = arrays["box_start"][i : i + 2]
            yield Sample(
                frame_id=int(frame_id),
                images={c: arrays[f"images_{c}"][i] for c in cameras},
                boxes=arrays["boxes"][start:end],
                bev=arrays["bev"][i],
                **{name: arrays[name][i] for name in _EXTRAS if name in arrays},
            )
