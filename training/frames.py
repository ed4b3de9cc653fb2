"""Dataset folders in memory: pictures, labels, and which frame comes before which."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from vehicle.config import RIG_R
from vehicle.contracts.frame import Rig
from vehicle.contracts.sample import (
    BOX_COLUMNS,
    LANE_LINES,
    LIGHT_COLUMNS,
    LIGHT_UNLABELLED,
    MOTION_COLUMNS,
    DatasetError,
    DatasetManifest,
    read_manifest,
    read_shard,
)
from vehicle.contracts.scene import BEV, BEV_BOX
from vehicle.contracts.wire import RefusedError
from vehicle.preprocess import FRONT_CAMERAS

MEMORY_AGE_S: Final = (0.05, 0.15)
"""A sample so long before is what the memory is made from: at 10 Hz, the one just before."""

_PLACE_AND_SIZE: Final = 9


class DatasetRigError(RefusedError):
    """A dataset was recorded with other cameras than the network is built for."""


class EmptyDatasetError(RefusedError):
    """There is no frame to learn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """A dataset in memory: pictures uint8 [N, cameras, H, W, 3], labels, and where they came from.

    Args:
        bev: uint8 [N, 100, 64] bits.
        boxes: per frame [M, 11], BOX_COLUMNS.
        motion: float32 [N, 4], MOTION_COLUMNS; dt_s 0 where the frame before is not known.
        light: float32 [N, 2], LIGHT_COLUMNS.
        lanes: float32 [N, 4, 50], NaN where there is none.
        lanes_labelled: whether NaN in `lanes` means that there is none, bool [N].
    """

    manifest: DatasetManifest
    front: np.ndarray
    side: np.ndarray
    bev: np.ndarray
    boxes: tuple[np.ndarray, ...]
    motion: np.ndarray
    light: np.ndarray
    lanes: np.ndarray
    lanes_labelled: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def before(self, index: int) -> int | None:
        """Return which frame makes the memory of a frame, None where none does."""
        least_s, most_s = MEMORY_AGE_S
        known = index > 0 and least_s <= self.motion[index, 3] <= most_s
        return index - 1 if known else None


def load_frames(folder: Path, rig: Rig = RIG_R) -> Frames:
    """Read a dataset folder whole.

    Raises:
        DatasetError: no manifest, a missing or cut shard, or a shard without an array it needs.
        DatasetRigError: other cameras than `rig`.
        EmptyDatasetError: it has no frames.
    """
    manifest = read_manifest(folder)
    if manifest.rig.digest != rig.digest:
        raise DatasetRigError(
            f"{folder}: recorded with rig {manifest.rig.name!r} ({manifest.rig.digest[:12]}), "
            f"expected rig {rig.name!r} ({rig.digest[:12]}); use datalake to make it for this rig"
        )
    if not manifest.files:
        raise EmptyDatasetError(f"{folder} has no frames; make it with a query that finds some")
    arrays: dict[str, np.ndarray] = {}
    boxes: list[np.ndarray] = []
    for entry in manifest.files:
        shard = _shard(folder / entry.name, rig)
        done, more = len(boxes), len(shard["frame_id"])
        boxes.extend(np.split(shard["boxes"], shard["box_start"][1:-1]))
        for name, part in _parts(shard, rig).items():
            if name not in arrays:  # made once, whole: pictures are most of the memory
                count = max(manifest.frames, more)
                arrays[name] = np.zeros((count, *part.shape[1:]), part.dtype)
            if done + more > len(arrays[name]):
                raise DatasetError(f"{folder} has over {manifest.frames} frames; make it again")
            arrays[name][done : done + more] = part
    return Frames(
        manifest=manifest, boxes=tuple(boxes), **{k: v[: len(boxes)] for k, v in arrays.items()}
    )


def _parts(shard: dict[str, np.ndarray], rig: Rig) -> dict[str, np.ndarray]:
    frames, names = len(shard["frame_id"]), [c.name for c in rig.cameras]
    labelled = "lanes" in shard
    bare = np.tile(np.array([LIGHT_UNLABELLED, np.nan], np.float32), (frames, 1))
    lanes = np.full((frames, len(LANE_LINES), BEV_BOX.nx), np.nan, np.float32)
    return {
        "front": _stack(shard, names[:FRONT_CAMERAS]),
        "side": _stack(shard, names[FRONT_CAMERAS:]),
        "bev": shard["bev"],
        "motion": shard.get("motion", np.zeros((frames, len(MOTION_COLUMNS)), np.float32)),
        "light": shard.get("light", bare),
        "lanes": shard.get("lanes", lanes),
        "lanes_labelled": np.full(frames, labelled),
    }


def _shard(path: Path, rig: Rig) -> dict[str, np.ndarray]:
    """Return the arrays of a shard after checking that they are labelled frames of `rig`."""
    try:
        arrays = read_shard(path)
    except DatasetError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); make the dataset again") from error
    frames = len(arrays.get("frame_id", ()))
    shapes: dict[str, tuple[int, ...]] = {
        "frame_id": (frames,),
        "bev": (frames, BEV.nx, BEV.ny),
        "box_start": (frames + 1,),
        "boxes": (len(arrays.get("boxes", ())), len(BOX_COLUMNS)),
        **{f"images_{c.name}": (frames, c.height_px, c.width_px, 3) for c in rig.cameras},
    }
    extras = {
        "motion": (frames, len(MOTION_COLUMNS)),
        "light": (frames, len(LIGHT_COLUMNS)),
        "lanes": (frames, len(LANE_LINES), BEV_BOX.nx),
    }
    shapes |= {name: shape for name, shape in extras.items() if name in arrays}
    for name, shape in shapes.items():
        found = arrays[name].shape if name in arrays else "nothing"
        if found != shape:
            raise DatasetError(f"{path}: {name} is {found}, expected {shape}; make it again")
    boxes, start = arrays["boxes"], arrays["box_start"]
    if start[0] != 0 or start[-1] != len(boxes) or (np.diff(start) < 0).any():
        raise DatasetError(f"{path}: box_start does not cut {len(boxes)} boxes; make it again")
    if not np.isfinite(boxes[:, :_PLACE_AND_SIZE]).all() or (boxes[:, 4:6] <= 0).any():
        raise DatasetError(f"{path}: a box has no size or no finite place; make it again")
    return arrays


def _stack(arrays: dict[str, np.ndarray], cameras: list[str]) -> np.ndarray:
    return np.stack([arrays[f"images_{c}"] for c in cameras], axis=1)
