"""Dataset folders -> batches of tensors, the same ones for the same seed on every machine.

Batch `step` is a function of (seed, step): a resumed run, and a run split over workers, sees the
frames that one uninterrupted worker would see.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training.losses import dense_target, heat_and_boxes
from training.recipes import TrainConfig
from vehicle.config import RIG_R
from vehicle.contracts.frame import CameraModel, Rig
from vehicle.contracts.sample import (
    BOX_COLUMNS,
    DatasetError,
    DatasetManifest,
    read_manifest,
    read_shard,
)
from vehicle.contracts.scene import BEV
from vehicle.contracts.wire import RefusedError
from vehicle.preprocess import FRONT_CAMERAS

_NOISE_LENGTH: Final = 1 << 21


class DatasetRigError(RefusedError):
    """A dataset was recorded with other cameras than the network is built for."""


class EmptyDatasetError(RefusedError):
    """There is no frame to learn from."""


class AsymmetricRigError(RefusedError):
    """A rig cannot be mirrored: a camera has no counterpart on the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """A dataset in memory: pictures uint8 [N, cameras, H, W, 3], labels, and where they came from.

    Args:
        bev: uint8 [N, 100, 64] bits.
        boxes: per frame [M, 11], BOX_COLUMNS.
    """

    manifest: DatasetManifest
    front: np.ndarray
    side: np.ndarray
    bev: np.ndarray
    boxes: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.boxes)


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
    names = [c.name for c in rig.cameras]
    parts: dict[str, list[np.ndarray]] = {"front": [], "side": [], "bev": []}
    boxes: list[np.ndarray] = []
    for entry in manifest.files:
        arrays = _shard(folder / entry.name, rig)
        parts["front"].append(_stack(arrays, names[:FRONT_CAMERAS]))
        parts["side"].append(_stack(arrays, names[FRONT_CAMERAS:]))
        parts["bev"].append(arrays["bev"])
        cuts = arrays["box_start"][1:-1]
        boxes.extend(np.split(arrays["boxes"], cuts))
    if not boxes:
        raise EmptyDatasetError(f"{folder} has no frames; make it with a query that finds some")
    joined = {k: np.concatenate(v) for k, v in parts.items()}
    return Frames(manifest=manifest, boxes=tuple(boxes), **joined)


def _shard(path: Path, rig: Rig) -> dict[str, np.ndarray]:
    """Return the arrays of a shard after checking that they are labelled frames of `rig`."""
    try:
        arrays = read_shard(path)
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
    for name, shape in shapes.items():
        found = arrays[name].shape if name in arrays else "nothing"
        if found != shape:
            raise DatasetError(f"{path}: {name} is {found}, expected {shape}; make it again")
    boxes, start = arrays["boxes"], arrays["box_start"]
    if start[0] != 0 or start[-1] != len(boxes) or (np.diff(start) < 0).any():
        raise DatasetError(f"{path}: box_start does not cut {len(boxes)} boxes; make it again")
    if not np.isfinite(boxes[:, :9]).all() or (boxes[:, 4:6] <= 0).any():
        raise DatasetError(f"{path}: a box has no size or no finite place; make it again")
    return arrays


def _stack(arrays: dict[str, np.ndarray], cameras: list[str]) -> np.ndarray:
    return np.stack([arrays[f"images_{c}"] for c in cameras], axis=1)


def mirror_order(cameras: Sequence[CameraModel]) -> list[int]:
    """Return for each camera the index of the one that sees its mirror image, left for right.

    Raises:
        AsymmetricRigError: a camera has no counterpart.
    """
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    order = []
    for camera in cameras:
        wanted = flip @ camera.matrix @ np.diag([-1.0, 1.0, 1.0, 1.0])
        found = [
            i
            for i, other in enumerate(cameras)
            if np.allclose(other.matrix, wanted, atol=1e-6)
            and np.allclose(other.intrinsics, camera.intrinsics)
            and abs(camera.cx_px - (camera.width_px - 1) / 2) < 1e-6
        ]
        if not found:
            raise AsymmetricRigError(
                f"camera {camera.name!r} has no mirror image; set flip_ratio 0"
            )
        order.append(found[0])
    return order


def mirror_boxes(boxes: np.ndarray) -> np.ndarray:
    """Return labelled boxes seen in a mirror, left for right."""
    mirrored = boxes.copy()
    mirrored[:, [2, 3, BOX_COLUMNS.index("vy_mps")]] *= -1.0
    return mirrored


class Batches:
    """Batches over one or more datasets.

    Args:
        datasets: frames in memory, in the order of `config.mix`.
        config: seed, batch size, mix and augmentation.
        rank, world: this worker takes every `world`-th frame of a batch, from `rank` on.
    """

    def __init__(
        self, datasets: Sequence[Frames], config: TrainConfig, *, rank: int = 0, world: int = 1
    ) -> None:
        self._datasets, self._config = list(datasets), config
        self._rank, self._world = rank, world
        mix = config.mix if len(config.mix) == len(datasets) else [len(d) for d in datasets]
        self._share = np.cumsum(np.asarray(mix, dtype=np.float64) / sum(mix))
        cameras = RIG_R.cameras
        self._front_mirror = mirror_order(cameras[:FRONT_CAMERAS])
        self._side_mirror = mirror_order(cameras[FRONT_CAMERAS:])
        noise = np.random.default_rng(20_260_101).standard_normal(_NOISE_LENGTH)
        self._noise = noise.astype(np.float32)

    def chosen(self, step: int) -> list[tuple[int, int]]:
        """Return the (dataset, frame) pairs of a step, over all workers."""
        batch, places = self._config.batch, []
        for k in range(step * batch, (step + 1) * batch):
            # low-discrepancy turn-taking: each dataset gets its share within any few frames
            turn = (k * 0.6180339887498949) % 1.0
            places.append(int(np.searchsorted(self._share, turn, side="right").clip(0, self._top)))
        rng = np.random.default_rng([self._config.seed, 1, step])
        out = []
        for which in places:
            out.append((which, int(rng.integers(len(self._datasets[which])))))
        return out

    @property
    def _top(self) -> int:
        return len(self._datasets) - 1

    def batch(self, step: int) -> dict[str, Tensor]:
        """Return this worker's part of batch `step`: pictures and targets."""
        frames = []
        for slot, (which, index) in enumerate(self.chosen(step)):
            if slot % self._world == self._rank:
                rng = np.random.default_rng([self._config.seed, 2, step, slot])
                frames.append(self._frame(self._datasets[which], index, rng))
        return {k: torch.from_numpy(np.stack([f[k] for f in frames])) for k in frames[0]}

    def _frame(self, data: Frames, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        front, side = data.front[index], data.side[index]
        bev, boxes = data.bev[index], data.boxes[index]
        if rng.random() < self._config.flip_ratio:
            front = front[self._front_mirror, :, ::-1]
            side = side[self._side_mirror, :, ::-1]
            bev, boxes = bev[:, ::-1], mirror_boxes(boxes)
        heat, box = heat_and_boxes(boxes, self._config.kinds)
        level = self._levels(rng)
        return {
            "front": self._picture(front, level, rng),
            "side": self._picture(side, level, rng),
            "heat": heat,
            "box": box,
            "dense": dense_target(bev),
        }

    def _levels(self, rng: np.random.Generator) -> np.ndarray:
        """Return 256 grey levels after a change of gain and contrast; the same for all cameras."""
        spread = self._config.brightness
        gain, contrast = 1.0 + rng.uniform(-spread, spread, size=2)
        levels = (np.arange(256) - 110.0) * contrast + 110.0
        return np.clip(levels * gain, 0, 255).astype(np.float32)

    def _picture(
        self, image: np.ndarray, level: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        sigma = rng.uniform(0.0, self._config.noise_levels) if self._config.noise_levels else 0.0
        if sigma < 0.5:
            return level.astype(np.uint8)[image]
        start = int(rng.integers(_NOISE_LENGTH - image.size))
        noise = self._noise[start : start + image.size].reshape(image.shape)
        out = level[image]
        out += noise * np.float32(sigma)
        return np.clip(out, 0, 255, out=out).astype(np.uint8)
