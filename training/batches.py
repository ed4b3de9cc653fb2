"""Frames -> batches of tensors, the same ones for the same seed on every machine.

Batch `step` is a function of (seed, step): a resumed run, and a run split over workers, sees the
frames that one uninterrupted worker would see.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training.frames import Frames
from training.model import VELOCITY_UNIT_MPS
from training.recipes import TrainConfig
from training.targets import dense_target, heat_and_boxes, lane_target, motion_target
from vehicle.config import RIG_R
from vehicle.contracts.frame import CameraModel
from vehicle.contracts.sample import LABEL_MIN_PIXELS
from vehicle.contracts.scene import KINDS
from vehicle.contracts.wire import RefusedError
from vehicle.preprocess import FRONT_CAMERAS

_NOISE_LENGTH: Final = 1 << 21
_FIRST_OF_RUN: Final = 0.2


class AsymmetricRigError(RefusedError):
    """A rig cannot be mirrored: a camera has no counterpart on the other side."""


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
    mirrored[:, 2:4] *= -1.0
    mirrored[:, 10:11] *= -1.0
    return mirrored


def draw_weights(
    data: Frames, counts: Mapping[str, int], frames: int, exponent: float
) -> np.ndarray:
    """Return how often to draw each frame of a dataset: more often the rarer what it shows, and
    seldom one without memory where others have it: those are seen as memory already.

    Args:
        counts: in how many of `frames` each kind or light is seen, over all datasets.
        exponent: 0 draws all alike, 1 shows every kind equally often.
    """
    weight = np.ones(len(data))
    if exponent:
        for i in range(len(data)):
            rare = [(frames / counts[what]) ** exponent for what in seen_in(data, i)]
            weight[i] = max(rare, default=1.0)
    remembered = np.array([data.before(i) is not None for i in range(len(data))])
    if remembered.any():
        weight[~remembered] *= _FIRST_OF_RUN
    return weight / weight.sum()


def seen_in(data: Frames, index: int) -> set[str]:
    """Return the kinds well seen in a frame, and the traffic light that counts in it."""
    boxes, state = data.boxes[index], int(data.light[index, 0])
    visible = boxes[boxes[:, 7] >= 2 * LABEL_MIN_PIXELS, 0]
    kinds = {KINDS[int(k)] for k in np.unique(visible)}
    return kinds | {f"light {state}"} if state > 0 else kinds


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
        self._drawn = [np.cumsum(w) for w in self._weights()]
        cameras = RIG_R.cameras
        self._front_mirror = mirror_order(cameras[:FRONT_CAMERAS])
        self._side_mirror = mirror_order(cameras[FRONT_CAMERAS:])
        noise = np.random.default_rng(20_260_101).standard_normal(_NOISE_LENGTH)
        self._noise = noise.astype(np.float32)

    def _weights(self) -> list[np.ndarray]:
        counts: Counter[str] = Counter()
        for data in self._datasets:
            for i in range(len(data)):
                counts.update(seen_in(data, i))
        frames = sum(len(d) for d in self._datasets)
        return [draw_weights(d, counts, frames, self._config.rarity) for d in self._datasets]

    def chosen(self, step: int) -> list[tuple[int, int]]:
        """Return the (dataset, frame) pairs of a step, over all workers."""
        batch, places = self._config.batch, []
        for k in range(step * batch, (step + 1) * batch):
            # low-discrepancy turn-taking: each dataset gets its share within any few frames
            turn = (k * 0.6180339887498949) % 1.0
            places.append(int(np.searchsorted(self._share, turn, side="right").clip(0, self._top)))
        rng = np.random.default_rng([self._config.seed, 1, step])
        return [(which, self._draw(which, rng)) for which in places]

    def _draw(self, which: int, rng: np.random.Generator) -> int:
        place = int(np.searchsorted(self._drawn[which], rng.random(), side="right"))
        return min(place, len(self._datasets[which]) - 1)

    @property
    def _top(self) -> int:
        return len(self._datasets) - 1

    def batch(self, step: int) -> dict[str, Tensor]:
        """Return this worker's part of batch `step`: pictures and targets.

        Arrays named `before_*` have one row per frame that has a memory: `before_index` says which.
        """
        frames = []
        for slot, (which, index) in enumerate(self.chosen(step)):
            if slot % self._world == self._rank:
                rng = np.random.default_rng([self._config.seed, 2, step, slot])
                frames.append(self._frame(self._datasets[which], index, rng))
        told = [i for i, (_, before) in enumerate(frames) if before]
        arrays = {k: np.stack([f[k] for f, _ in frames]) for k in frames[0][0]}
        arrays["before_index"] = np.array(told, dtype=np.int64)
        if told:
            arrays |= {k: np.stack([frames[i][1][k] for i in told]) for k in frames[told[0]][1]}
        return {k: torch.from_numpy(v) for k, v in arrays.items()}

    def _frame(
        self, data: Frames, index: int, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return pictures and targets of a frame, and what makes its memory (or nothing)."""
        front, side = data.front[index], data.side[index]
        bev, boxes, lanes = data.bev[index], data.boxes[index], data.lanes[index]
        motion = data.motion[index].astype(np.float64)
        mirrored = rng.random() < self._config.flip_ratio
        if mirrored:
            front, side = self._mirrored(front, side)
            bev, boxes, lanes = bev[:, ::-1], mirror_boxes(boxes), -lanes[::-1]
            motion[1:3] *= -1.0
        level = self._levels(rng)
        heat, box = heat_and_boxes(boxes, self._config.kinds)
        velocity, flow = motion_target(boxes, bev)
        frame = {
            "front": self._picture(front, level, rng),
            "side": self._picture(side, level, rng),
            "heat": heat,
            "box": box,
            "dense": dense_target(bev),
            "velocity": velocity,
            "flow": flow,
            "lanes": lane_target(lanes, bool(data.lanes_labelled[index])),
            "light": np.nan_to_num(data.light[index], nan=-1.0),
            "ego_motion": np.zeros(3, np.float32),
        }
        earlier = data.before(index)
        if earlier is None or rng.random() < self._config.forget_ratio:
            return frame, {}
        rate = motion[[0, 2]] / motion[3] / (VELOCITY_UNIT_MPS, 1.0)
        frame["ego_motion"] = np.array([*rate, 1.0], np.float32)
        front, side = data.front[earlier], data.side[earlier]
        if mirrored:
            front, side = self._mirrored(front, side)
        before = {
            "before_front": self._picture(front, level, rng),
            "before_side": self._picture(side, level, rng),
            "before_motion": self._told(motion[:3], rng),
        }
        return frame, before

    def _mirrored(self, front: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return front[self._front_mirror, :, ::-1], side[self._side_mirror, :, ::-1]

    def _told(self, motion: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the motion the car believes in: for half of the frames a wrong one.

        Otherwise the network would learn to repeat what it is told instead of checking it.
        """
        spread = self._config.odometry_error
        wrong, stretch, slip_m, turn = rng.random() < 0.5, *rng.normal(0.0, 1.0, 3)
        if spread and wrong:
            motion = motion * (1.0 + spread * stretch) + (0.3 * spread * slip_m, 0.0, 0.0)
            motion[2] += 0.05 * spread * turn
        return motion.astype(np.float32)

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
