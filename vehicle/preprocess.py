"""Images to network input: the only way in, for the car and for training alike.

Strict: the car has exactly the cameras the network was trained on, and images are copied.
Adapt: another car's log; each model camera is seen again through the source camera that covers
most of its pixels. Translation between the two is neglected (a pure rotation), so what is far away
lands where it should and what is near is off by the distance between the cameras.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from vehicle.contracts.frame import CameraModel, FrameSet, Rig
from vehicle.contracts.wire import RefusedError
from vehicle.geometry import project

FRONT_CAMERAS: Final = 2
"""How many of a rig's first cameras look ahead, in higher resolution."""

GREY: Final = 114
"""Level of pixels that no camera sees: mid-grey, as the padding of common detector trainings."""

MIN_COVERAGE_RATIO: Final = 0.3
"""Below this share of seen pixels a model camera counts as missing."""

OUTSIDE_PX: Final = -100.0
"""A coordinate outside every image: remap fills it with GREY."""


class RigMismatchError(RefusedError):
    """The car's cameras are not those the network was trained on."""


class CameraFrameError(RefusedError):
    """An image has another size or type than its camera, or there is none at all."""


@dataclass(frozen=True, slots=True, eq=False)
class _Warp:
    """How one model camera is filled: from which source, shrunk by how much, through which maps."""

    source: str
    shrink: int
    map_xy: np.ndarray
    map_fraction: np.ndarray
    coverage_ratio: float


def input_shapes(rig: Rig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of `front` and `side` for a rig.

    Raises:
        RigMismatchError: fewer than three cameras, or sizes differ inside one of the two groups.
    """
    groups = rig.cameras[:FRONT_CAMERAS], rig.cameras[FRONT_CAMERAS:]
    shapes = []
    for name, group in zip(("front", "side"), groups, strict=True):
        sizes = sorted({(c.height_px, c.width_px) for c in group})
        if len(sizes) != 1:
            raise RigMismatchError(
                f"rig {rig.name!r}: the {len(group)} {name} cameras have sizes {sizes}, expected "
                f"one size ({FRONT_CAMERAS} cameras ahead, then the others)"
            )
        shapes.append((len(group), *sizes[0], 3))
    return shapes[0], shapes[1]


def half_of(count: int, odd: int) -> range:
    """Return which of a rig's cameras a tick looks through that refreshes half of them.

    Every other camera, so that two such ticks look all around: for rig R one camera ahead and three
    of the others.
    """
    return range(odd, count, 2)


def _half(rig: Rig, odd: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the inputs of a tick that refreshes half of the cameras, and the target by camera."""
    names = [c.name for c in rig.cameras]
    inputs, targets = {}, {}
    for key, shape, first in zip(
        ("front", "side"), input_shapes(rig), (0, FRONT_CAMERAS), strict=True
    ):
        chosen = [i for i in half_of(len(names), odd) if first <= i < first + shape[0]]
        inputs[key] = np.full((len(chosen), *shape[1:]), GREY, np.uint8)
        targets |= dict(zip((names[i] for i in chosen), inputs[key], strict=True))
    return inputs, targets


def stack_images(images: Mapping[str, np.ndarray], rig: Rig) -> tuple[np.ndarray, np.ndarray]:
    """Return the network inputs (front, side), uint8 NHWC, of the images of a rig.

    Args:
        images: camera name -> uint8 [H, W, 3] RGB; a camera without an image is filled with GREY.
        rig: gives order and sizes.
    Raises:
        CameraFrameError: an image of another size or type.
        MissingCalibrationError: an image of a camera that the rig does not have.
    """
    front, side = (np.empty(shape, np.uint8) for shape in input_shapes(rig))
    check_images(images, rig)
    for camera, target in zip(rig.cameras, (*front, *side), strict=True):
        target[...] = images.get(camera.name, GREY)
    return front, side


def check_images(images: Mapping[str, np.ndarray], rig: Rig) -> None:
    """Refuse images that do not fit their camera, or that have no camera."""
    for name, image in images.items():
        camera = rig.camera(name)
        expected = (camera.height_px, camera.width_px, 3)
        if image.shape != expected or image.dtype != np.uint8:
            raise CameraFrameError(
                f"camera {name!r}: image is {image.dtype} {list(image.shape)}, expected uint8 "
                f"{list(expected)}: decode to RGB at the size of its calibration"
            )


class Preprocessor:
    """Turns the frames of one car into the inputs of one network, without allocating.

    Args:
        rig: the car's cameras.
        model_rig: the cameras the network was trained on.
        adapt: see through other cameras by rotation instead of refusing them.
    Raises:
        RigMismatchError: strict, and the rigs differ; or no source camera covers any model camera.
    """

    def __init__(self, rig: Rig, model_rig: Rig, *, adapt: bool = False) -> None:
        self.rig, self.model_rig = rig, model_rig
        front, side = input_shapes(model_rig)
        self._inputs = {
            "front": np.full(front, GREY, np.uint8),
            "side": np.full(side, GREY, np.uint8),
        }
        targets = (*self._inputs["front"], *self._inputs["side"])
        self._targets = dict(zip((c.name for c in model_rig.cameras), targets, strict=True))
        self._halves = tuple(_half(model_rig, odd) for odd in range(2))
        self._warps: dict[str, _Warp] | None = None
        self._shrunk: dict[tuple[str, int], np.ndarray] = {}
        if rig.digest != model_rig.digest:
            if not adapt:
                raise RigMismatchError(_difference(rig, model_rig))
            self._warps = self._plan_warps()
        self.fed: tuple[str, ...] = ()
        """Model cameras that got an image in the last frame; before the first: those that can."""
        self.missing: tuple[str, ...] = ()
        """Model cameras filled with grey."""
        self._note({c.name for c in rig.cameras})

    @property
    def coverage_ratio(self) -> dict[str, float]:
        """Return the share of pixels seen per model camera."""
        if self._warps is None:
            return dict.fromkeys(self._targets, 1.0)
        return {n: w.coverage_ratio for n, w in self._warps.items()}

    def __call__(self, frame: FrameSet, half: int | None = None) -> dict[str, np.ndarray]:
        """Return `front` and `side`; the arrays are overwritten by the next call.

        Args:
            frame: at least one image.
            half: 0 or 1: only the cameras of that half of the model's rig, see `half_of`.
        Raises:
            CameraFrameError: no image at all, or one of another size or type.
            MissingCalibrationError: an image of a camera that the rig does not have.
        """
        images = frame.images
        if not images:
            raise CameraFrameError(
                f"frame {frame.frame_id} has no images: drive without perception, or feed cameras"
            )
        check_images(images, self.rig)
        inputs, targets = (self._inputs, self._targets) if half is None else self._halves[half]
        if self._warps is None:
            for name, target in targets.items():
                target[...] = images.get(name, GREY)
        else:
            self._warp(images, targets)
        self._note(set(images))
        return inputs

    def _note(self, sources: set[str]) -> None:
        def seen(name: str) -> bool:
            if self._warps is None:
                return name in sources
            warp = self._warps[name]
            return warp.source in sources and warp.coverage_ratio >= MIN_COVERAGE_RATIO

        self.fed = tuple(n for n in self._targets if seen(n))
        self.missing = tuple(n for n in self._targets if n not in self.fed)

    def _warp(self, images: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> None:
        assert self._warps is not None
        wanted = {(self._warps[name].source, self._warps[name].shrink) for name in targets}
        for (name, shrink), small in self._shrunk.items():
            if name in images and (name, shrink) in wanted:
                height, width = small.shape[:2]
                whole = images[name][: height * shrink, : width * shrink]  # whole blocks are fast
                cv2.resize(whole, (width, height), dst=small, interpolation=cv2.INTER_AREA)
        for name, target in targets.items():
            warp = self._warps[name]
            if warp.coverage_ratio < MIN_COVERAGE_RATIO or warp.source not in images:
                target.fill(GREY)
                continue
            cv2.remap(
                self._shrunk.get((warp.source, warp.shrink), images[warp.source]),
                warp.map_xy,
                warp.map_fraction,
                cv2.INTER_LINEAR,
                dst=target,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=(GREY, GREY, GREY),
            )

    def _plan_warps(self) -> dict[str, _Warp]:
        if not self.rig.cameras:
            raise RigMismatchError(f"rig {self.rig.name!r} has no cameras to see through")
        warps = {
            model.name: max(
                (_make_warp(model, source) for source in self.rig.cameras),
                key=lambda w: w.coverage_ratio,
            )
            for model in self.model_rig.cameras
        }
        used = [w for w in warps.values() if w.coverage_ratio >= MIN_COVERAGE_RATIO]
        if not used:
            raise RigMismatchError(
                f"no camera of rig {self.rig.name!r} covers {MIN_COVERAGE_RATIO:.0%} of any camera "
                f"of rig {self.model_rig.name!r}: the network would see nothing but grey"
            )
        for warp in used:
            if warp.shrink > 1:
                camera = self.rig.camera(warp.source)
                size = (camera.height_px // warp.shrink, camera.width_px // warp.shrink, 3)
                self._shrunk[warp.source, warp.shrink] = np.empty(size, np.uint8)
        return warps


def source_pixels(model: CameraModel, source: CameraModel) -> tuple[np.ndarray, np.ndarray]:
    """Return where in `source` each pixel of `model` looks, as if both stood at one point.

    Returns:
        uv_px: float64 [H, W, 2] in the source image, its lens distortion included.
        seen: bool [H, W], whether that is inside the source image.
    Raises:
        RigMismatchError: the model camera is distorted (networks are trained on rectified images).
    """
    if any(model.distortion):
        raise RigMismatchError(f"model camera {model.name!r} is distorted: expected rectified")
    u, v = np.meshgrid(np.arange(model.width_px), np.arange(model.height_px))
    rays = np.stack(
        [
            (u - model.cx_px) / model.fx_px,
            (v - model.cy_px) / model.fy_px,
            np.ones_like(u, dtype=np.float64),
        ],
        axis=-1,
    )
    points_ego = rays @ model.matrix[:3, :3].T + source.matrix[:3, 3]
    uv_px, depth_m = project(source, points_ego)
    in_source = (points_ego - source.matrix[:3, 3]) @ source.matrix[:3, :3]
    ahead = depth_m > 1e-6
    radius = np.hypot(in_source[..., 0], in_source[..., 1]) / np.where(ahead, depth_m, 1.0)
    inside = (
        (uv_px[..., 0] >= -0.5)
        & (uv_px[..., 0] <= source.width_px - 0.5)
        & (uv_px[..., 1] >= -0.5)
        & (uv_px[..., 1] <= source.height_px - 0.5)
    )
    return uv_px, ahead & inside & (radius < _fold_radius(source))


def _fold_radius(camera: CameraModel) -> float:
    """Return the radius beyond which the distortion polynomial folds back into the image.

    Source: own work; first root of d(r * radial(r)) / dr of the Brown-Conrady model.
    """
    k1, k2, _, _, k3 = camera.distortion
    roots = np.roots([7 * k3, 5 * k2, 3 * k1, 1.0])
    real = [float(r.real) for r in roots if abs(r.imag) < 1e-9 and r.real > 0]
    return float(np.sqrt(min(real))) if real else float("inf")


def _make_warp(model: CameraModel, source: CameraModel) -> _Warp:
    uv_px, seen = source_pixels(model, source)
    shrink = min(_shrink(uv_px, seen), max(1, min(source.width_px, source.height_px) // 16))
    map_uv = np.where(seen[..., None], (uv_px + 0.5) / shrink - 0.5, OUTSIDE_PX).astype(np.float32)
    map_xy, fraction = cv2.convertMaps(map_uv[..., 0], map_uv[..., 1], cv2.CV_16SC2)
    return _Warp(source.name, shrink, map_xy, fraction, float(seen.mean()))


def _shrink(uv_px: np.ndarray, seen: np.ndarray) -> int:
    """Return by how much to average the source first, so that thin things do not flicker."""
    steps = np.linalg.norm(np.diff(uv_px, axis=1), axis=-1)[seen[:, 1:] & seen[:, :-1]]
    return max(1, int(np.median(steps))) if steps.size else 1


def _difference(rig: Rig, model_rig: Rig) -> str:
    ours, theirs = ({c.name: c for c in r.cameras} for r in (rig, model_rig))
    lacks = sorted(set(theirs) - set(ours))
    differs = [n for n in theirs if n in ours and ours[n] != theirs[n]]
    what = f"it lacks {lacks}" if lacks else f"cameras {differs or 'in another order'} differ"
    return (
        f"rig {rig.name!r} ({rig.digest[:12]}) is not the rig {model_rig.name!r} "
        f"({model_rig.digest[:12]}) the network was trained on: {what}; use a bundle for this rig, "
        "or adapt=True to see through other cameras (--adapt)"
    )
