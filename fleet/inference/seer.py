"""A network that looks at recorded clips, tick after tick, as the car does: with a memory.

What it says of the frames that are asked for is handed on as arrays (vehicle/contracts/judged.py).
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from vehicle import bundles
from vehicle.config import VehicleConfig
from vehicle.contracts.frame import Observation, Rig
from vehicle.contracts.sample import BOX_COLUMNS
from vehicle.contracts.scene import BEV_DRIVABLE, BEV_LANE, BEV_OCCUPIED
from vehicle.contracts.wire import RefusedError
from vehicle.geometry import project
from vehicle.perception import Detections, Perception
from vehicle.route import RouteReader

SURE_PROB: Final = 0.5
"""From here on a box is a label; what is less sure is delivered as `ignore`: neither wanted nor
punished where somebody learns from it."""

DOUBT_PROB: Final = 0.15
"""Below, nothing is delivered."""

WARM_TICKS: Final = 5
"""Ticks looked at before a frame that is asked for: its memory."""

_HALF: Final = 128
_CORNERS: Final = np.array(
    [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)]
)

Arrays = dict[str, np.ndarray]


class ClipWithoutCamerasError(RefusedError):
    """There is nothing to look at in a clip."""


class Seer:
    """One bundle, ready for clips of any rig; one process uses it.

    Args:
        bundle: its folder.
    """

    def __init__(self, bundle: Path) -> None:
        self._folder, self._bundle = bundle, bundles.load(bundle)
        self.model = self._bundle.tag
        self._open: tuple[str, Perception] | None = None

    def labels(self, clip: Path, frames: Collection[int] | None = None) -> Arrays:
        """Return labels of a clip's frames: frame_id, bev, boxes, box_start.

        Args:
            clip: an MCAP file.
            frames: frame_ids; None: all.
        Raises:
            ClipWithoutCamerasError, RouteCorruptError, RigMismatchError: nothing can be seen.
        """
        ids, rasters, boxes = [], [], []
        for obs, seen, rig in self._look(clip, frames):
            ids.append(obs.frame.frame_id)
            rasters.append(raster(seen))
            boxes.append(label_boxes(seen, rig))
        return {
            "frame_id": np.array(ids, np.int64),
            "bev": np.array(rasters, np.uint8),
            "boxes": np.concatenate([np.zeros((0, len(BOX_COLUMNS)), np.float32), *boxes]),
            "box_start": np.cumsum([0, *map(len, boxes)]).astype(np.int64),
        }

    def embeddings(self, clip: Path, frames: Collection[int] | None = None) -> Arrays:
        """Return embeddings of a clip's frames: frame_id, embedding float32 [N, E]."""
        found = [(o.frame.frame_id, s.embedding) for o, s, _ in self._look(clip, frames)]
        return {
            "frame_id": np.array([frame for frame, _ in found], np.int64),
            "embedding": np.array([vector for _, vector in found], np.float32),
        }

    def close(self) -> None:
        """Stop the engine."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _look(
        self, clip: Path, frames: Collection[int] | None
    ) -> Iterator[tuple[Observation, Detections, Rig]]:
        reader = RouteReader(clip)
        if reader.rig is None:
            raise ClipWithoutCamerasError(f"{clip} has no cameras: there is nothing to look at")
        eye = self._eye(reader.rig)
        eye.forget()
        wanted = None if frames is None else set(frames)
        for obs in reader.observations():
            frame = obs.frame.frame_id
            if wanted is not None and not wanted.intersection(range(frame, frame + WARM_TICKS + 1)):
                continue
            seen = eye.perceive(obs.frame, ego=obs.ego)
            if wanted is None or frame in wanted:
                yield obs, seen, reader.rig

    def _eye(self, rig: Rig) -> Perception:
        if self._open is not None and self._open[0] == rig.digest:
            return self._open[1]
        self.close()
        adapt = rig.digest != self._bundle.rig.digest
        config = VehicleConfig(min_detection_prob=DOUBT_PROB)
        self._open = (rig.digest, Perception(self._folder, rig, adapt=adapt, config=config))
        return self._open[1]


def raster(seen: Detections) -> np.ndarray:
    """Return the BEV bits of what was seen, uint8 [100, 64]."""
    assert seen.occupancy is not None
    bits = np.zeros(seen.occupancy.drivable.shape, np.uint8)
    layers: tuple[tuple[np.ndarray, int], ...] = (
        (seen.occupancy.drivable, BEV_DRIVABLE),
        (seen.occupancy.lane, BEV_LANE),
        (seen.occupancy.occupied, BEV_OCCUPIED),
    )
    for levels, bit in layers:
        bits |= np.where(levels >= _HALF, bit, 0).astype(np.uint8)
    return bits


def label_boxes(seen: Detections, rig: Rig) -> np.ndarray:
    """Return what was detected as labelled boxes, float32 [M, 11] (BOX_COLUMNS).

    A doubtful one has no visible pixel, so that it counts nothing.
    """
    tracks = seen.tracks
    out = np.zeros((len(tracks), len(BOX_COLUMNS)), np.float32)
    for i, name in enumerate(BOX_COLUMNS):
        if name in (tracks.dtype.names or ()):
            out[:, i] = tracks[name]
    if not seen.has_velocity:
        out[:, -2:] = np.nan
    sure = tracks["score_prob"] >= SURE_PROB
    out[:, BOX_COLUMNS.index("visible_px")] = np.where(sure, pixels(out, rig), 0.0)
    return out


def pixels(boxes: np.ndarray, rig: Rig) -> np.ndarray:
    """Return how many pixels the outlines of boxes span in all cameras, whatever hides them.

    Args:
        boxes: [M, 11], BOX_COLUMNS.
    """
    x, y, yaw, length, width, height = (boxes[:, i : i + 1].astype(float) for i in range(1, 7))
    along, across = _CORNERS[:, 0] * length, _CORNERS[:, 1] * width
    corners = np.stack(
        [
            x + np.cos(yaw) * along - np.sin(yaw) * across,
            y + np.sin(yaw) * along + np.cos(yaw) * across,
            _CORNERS[:, 2] * height,
        ],
        axis=2,
    )
    total = np.zeros(len(boxes))
    for camera in rig.cameras:
        uv, depth_m = project(camera, corners)
        size = np.array([camera.width_px, camera.height_px], float)
        low, high = uv.min(axis=1).clip(0.0, size), uv.max(axis=1).clip(0.0, size)
        total += np.where((depth_m > 0.1).all(axis=1), (high - low).prod(axis=1), 0.0)
    return total
