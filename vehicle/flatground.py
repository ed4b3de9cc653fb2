"""Bring your own model: boxes in pictures to road users on the ground, through the same seam.

A box is taken to stand on flat ground where its lower edge is. How far that is grows uncertain with
the square of the distance, so the height of the box against that of its kind is weighed in as well.
Nothing is known of which way a road user faces: it is taken to face as the ego does.
"""

import math
import time
from pathlib import Path
from typing import Final

import numpy as np

from vehicle import bundles
from vehicle.config import VehicleConfig
from vehicle.contracts.bundle import Detector2D, ModelBundle
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import CameraModel, FrameSet, Rig
from vehicle.contracts.scene import KINDS, TRACK
from vehicle.decode import HEIGHT_M, SEPARATION_M
from vehicle.detector2d import PictureBoxes, Reader
from vehicle.engine import Engine
from vehicle.engine_choice import EngineChoice
from vehicle.perception import Detections, Perception
from vehicle.preprocess import GREY, CameraFrameError, RigMismatchError

FOOTPRINT_M: Final = {
    **{"car": (4.4, 1.8), "pedestrian": (0.6, 0.6), "truck": (8.0, 2.5), "cyclist": (1.8, 0.6)},
    **{"other": (1.0, 1.0), "bus": (11.0, 2.5), "motorcycle": (2.1, 0.8), "animal": (1.2, 0.5)},
    **{"cone": (0.4, 0.4), "debris": (0.6, 0.6), "trailer": (6.0, 2.3), "emergency": (6.0, 2.2)},
}
"""Usual length and width of a kind, for detectors that say nothing of either."""

HEIGHT_SPREAD_RATIO: Final = 0.12
"""How much heights of one kind differ (a car 1.35 to 1.75 m, a grown person 1.55 to 1.95 m)."""

GROUND_RATIO: Final = 0.03
PLACE_NOISE_M: Final = 0.4
"""Standard deviations of a place on top of its range's: a share of the distance for ground that is
not flat, and a fixed one for sizes and facing."""

MAX_RANGE_M: Final = 80.0
MIN_RANGE_M: Final = 1.0
CUT_PX: Final = 2.0
"""A box this near the picture's edge is cut by it: that edge says nothing of the road user."""

_NO_EMBEDDING: Final = np.zeros(0, np.float32)


def open_perception(
    bundle_folder: Path,
    rig: Rig,
    *,
    adapt: bool = False,
    config: VehicleConfig | None = None,
    engine: EngineChoice | None = None,
) -> "Perception | FlatGround":
    """Return what sees with a bundle: our kind of network, or somebody's detector of pictures.

    Raises:
        All errors of `Perception` and `FlatGround`.
    """
    if bundles.load(bundle_folder).detector is None:
        return Perception(bundle_folder, rig, adapt=adapt, config=config, engine=engine)
    return FlatGround(bundle_folder, rig, adapt=adapt, engine=engine)


class FlatGround:
    """Runs a wrapped detector over the frames of one car; stands in for `Perception`.

    It knows no drivable space, no lanes, no lights, and not how sure it is of what it was trained
    on: scenes have no occupancy, no embedding and an uncertainty of NaN.

    Args:
        bundle_folder: made by `roadloop vehicle wrap`; verified before anything of it is used.
        rig: the car's cameras; those the manifest names must be among them.
        adapt: take cameras that are not those it was wrapped for, by name.
        engine: what runs the network; None: the default runtime on one thread.
    Raises:
        RigMismatchError: a camera is missing; or cameras differ and adapt is off.
        DetectorShapeError: the network is not the kind of detector the manifest says.
        All errors of `bundles.load` and `Engine`.
    """

    def __init__(
        self,
        bundle_folder: Path,
        rig: Rig,
        *,
        adapt: bool = False,
        engine: EngineChoice | None = None,
    ) -> None:
        self.bundle: ModelBundle = bundles.load(bundle_folder)
        if self.bundle.detector is None:
            raise RigMismatchError(f"bundle {self.bundle.tag} describes no detector of pictures")
        self._spec: Detector2D = self.bundle.detector
        self._cameras = _cameras(self.bundle, self._spec, rig, adapt)
        self.stage_us: dict[str, float] = {}
        """Microseconds per stage of the last call; a stage that did not finish is not in it."""
        chosen = engine or EngineChoice()
        self._engine = Engine(bundle_folder / bundles.MODEL, chosen.threads, chosen.runtime)
        try:
            self._reader = Reader(self._spec, self._engine.inputs, self._engine.outputs)
            images = {
                c.name: np.full((c.height_px, c.width_px, 3), GREY, np.uint8) for c in self._cameras
            }
            self.perceive(FrameSet(frame_id=0, mono_ns=0, images=images))
        except BaseException:
            self._engine.close()
            raise

    @property
    def can_half(self) -> bool:
        """Return whether a tick can refresh half of the cameras: never."""
        return False

    def perceive(
        self,
        frame: FrameSet,
        deadline_mono_ns: int | None = None,
        half: int | None = None,
        ego: EgoState | None = None,
    ) -> Detections:
        """Return what the detector sees in a frame, on the ground.

        Args:
            frame: with a picture of at least one of the detector's cameras.
            deadline_mono_ns: as in `Perception.perceive`; it holds for all cameras together.
            half, ego: play no part.
        Raises:
            InferenceError: no usable answer for this frame (InferenceCancelledError: too late).
            CameraFrameError: no picture of these cameras, or one of another size.
        """
        taken = {"preprocess": 0.0, "inference": 0.0, "decode": 0.0}
        self.stage_us = {}
        placed, noise = [], []
        for camera in self._cameras:
            image = frame.images.get(camera.name)
            if image is None:
                continue
            if not _fits(camera, image):
                raise CameraFrameError(
                    f"camera {camera.name!r} gave {image.dtype} {list(image.shape)}, expected "
                    f"uint8 {[camera.height_px, camera.width_px, 3]}"
                )
            times = [time.perf_counter_ns()]
            inputs = self._reader.feed(image)
            times.append(time.perf_counter_ns())
            outputs = self._engine.run(inputs, deadline_mono_ns)
            times.append(time.perf_counter_ns())
            found = self._reader.read(outputs, image.shape)
            tracks, spread = to_ground(camera, found, self._spec.foot_px)
            placed.append(tracks)
            noise.append(spread)
            times.append(time.perf_counter_ns())
            for stage, began, ended in zip(taken, times, times[1:], strict=False):
                taken[stage] += (ended - began) * 1e-3
        if not placed:
            raise CameraFrameError(
                f"frame {frame.frame_id} has pictures of {sorted(frame.images)}, expected one of "
                f"{list(self._spec.cameras)}"
            )
        self.stage_us = taken
        tracks, spread = _once(np.concatenate(placed), np.concatenate(noise))
        return Detections(
            tracks=tracks,
            occupancy=None,
            embedding=_NO_EMBEDDING,
            uncertainty_ratio=math.nan,
            noise_m=spread,
        )

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()


def to_ground(
    camera: CameraModel, found: PictureBoxes, foot_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return road users on flat ground for boxes in a picture, and how unsure their places are.

    Args:
        camera: undistorted pinhole.
        found: boxes in its picture.
        foot_px: standard deviation of a lower edge, pixels of the network's input.
    Returns:
        TRACK [N], ego frame, yaw 0, of those that stand 1 to 80 m away; float64 [N], metres.
    Source: own work; both ranges are weighed by the inverse of their variance.
    """
    x1, y1, x2, y2 = found.box_px.T
    height_m = np.array([HEIGHT_M[KINDS[k]] for k in found.kind])
    size_m = np.array([FOOTPRINT_M[KINDS[k]] for k in found.kind]).reshape(-1, 2)
    sigma_px = foot_px * found.px_per_input[1]
    rays = _rays(camera, 0.5 * (x1 + x2), y2)
    eye = camera.matrix[:3, 3]
    flat = np.hypot(rays[:, 0], rays[:, 1])
    down = np.maximum(-rays[:, 2] / flat, 1e-6)  # slope of the ray to the foot
    by_foot_m = eye[2] / down
    by_foot_sigma = np.maximum(by_foot_m**2 / eye[2] * sigma_px / camera.fy_px, 0.02 * by_foot_m)
    tall_px = np.maximum(y2 - y1, 1.0)
    by_size_m = camera.fy_px * height_m / tall_px
    by_size_sigma = by_size_m * np.hypot(HEIGHT_SPREAD_RATIO, math.sqrt(2.0) * sigma_px / tall_px)
    cut_below = y2 > camera.height_px - 1 - CUT_PX
    cut_above = y1 < CUT_PX
    foot_weight = np.where(cut_below, 1e-9, by_foot_sigma**-2.0)
    size_weight = np.where(cut_below | cut_above, 1e-9, by_size_sigma**-2.0)
    range_m = (foot_weight * by_foot_m + size_weight * by_size_m) / (foot_weight + size_weight)
    sigma_m = (foot_weight + size_weight) ** -0.5
    ahead, left = rays[:, 0] / flat, rays[:, 1] / flat
    depth_m = 0.5 * (size_m[:, 0] * np.abs(ahead) + size_m[:, 1] * np.abs(left))
    away_m = range_m + depth_m  # the lower edge is the near side's
    tracks = np.zeros(found.score.size, TRACK)
    tracks["kind"], tracks["score_prob"] = found.kind, found.score
    tracks["x_m"], tracks["y_m"] = eye[0] + away_m * ahead, eye[1] + away_m * left
    tracks["length_m"], tracks["width_m"] = size_m.T
    tracks["height_m"] = height_m
    near = (range_m >= MIN_RANGE_M) & (range_m <= MAX_RANGE_M) & (sigma_m < 0.5 * MAX_RANGE_M)
    rest_m = np.hypot(PLACE_NOISE_M, GROUND_RATIO * range_m)
    noise_m = np.minimum(np.hypot(rest_m, sigma_m), 0.5 * range_m + PLACE_NOISE_M)
    return tracks[near], noise_m[near]


def _rays(camera: CameraModel, u_px: np.ndarray, v_px: np.ndarray) -> np.ndarray:
    """Return directions [N, 3] in the ego frame in which a camera sees pixels."""
    x = (u_px - camera.cx_px) / camera.fx_px
    y = (v_px - camera.cy_px) / camera.fy_px
    return np.asarray(np.stack([x, y, np.ones_like(x)], axis=1) @ camera.matrix[:3, :3].T)


def _once(tracks: np.ndarray, noise_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return road users best first, those that two cameras see once."""
    order = np.argsort(-tracks["score_prob"], kind="stable")
    kept: list[int] = []
    for i in order:
        apart = SEPARATION_M[KINDS[tracks["kind"][i]]]
        same = (
            math.hypot(tracks["x_m"][i] - tracks["x_m"][j], tracks["y_m"][i] - tracks["y_m"][j])
            for j in kept
            if tracks["kind"][j] == tracks["kind"][i]
        )
        if all(d >= apart for d in same):
            kept.append(int(i))
    return tracks[kept], noise_m[kept]


def _cameras(
    bundle: ModelBundle, spec: Detector2D, rig: Rig, adapt: bool
) -> tuple[CameraModel, ...]:
    known = {c.name: c for c in rig.cameras}
    lacking = [name for name in spec.cameras if name not in known]
    if lacking:
        raise RigMismatchError(
            f"bundle {bundle.tag} looks through {list(spec.cameras)}; the car has "
            f"{sorted(known)}: wrap the model again with --camera"
        )
    cameras = tuple(known[name] for name in spec.cameras)
    if not adapt and rig.digest != bundle.rig.digest:
        raise RigMismatchError(
            f"bundle {bundle.tag} was wrapped for rig {bundle.rig.name!r}, the car has rig "
            f"{rig.name!r}: wrap the model again for it, or see through it with --adapt"
        )
    for camera in cameras:
        if any(camera.distortion):
            raise RigMismatchError(
                f"camera {camera.name!r} is distorted: rectify its pictures before the detector"
            )
    return cameras


def _fits(camera: CameraModel, image: np.ndarray) -> bool:
    return image.shape == (camera.height_px, camera.width_px, 3) and image.dtype == np.uint8
