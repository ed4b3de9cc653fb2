"""What the cameras saw at one instant, and how each camera looks at the world."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from vehicle.contracts import wire
from vehicle.contracts.ego import DriverInput, EgoState, Guidance
from vehicle.contracts.scene import Scene
from vehicle.contracts.wire import require, require_finite


class MissingCalibrationError(wire.ContractError):
    """A camera has pictures but no calibration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraModel:
    """Pinhole camera with Brown-Conrady distortion.

    Args:
        width_px, height_px: image size.
        fx_px, fy_px, cx_px, cy_px: intrinsics; pixel centres at integer coordinates.
        distortion: k1, k2, p1, p2, k3 (OpenCV order), zero for a rectified image.
        ego_from_camera: 4x4 rigid transform, row-major; camera x right, y down, z forward.
    """

    SCHEMA: ClassVar[str] = "camera/1"
    name: str
    width_px: int
    height_px: int
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    ego_from_camera: tuple[float, ...]

    def __post_init__(self) -> None:
        where = f"camera {self.name!r}"
        require(bool(self.name), "camera has no name")
        require(
            0 < self.width_px <= 8192, f"{where}: width_px is {self.width_px}, expected 1..8192"
        )
        require(
            0 < self.height_px <= 8192, f"{where}: height_px is {self.height_px}, expected 1..8192"
        )
        require(self.fx_px > 0 and self.fy_px > 0, f"{where}: focal length must be positive")
        require(len(self.ego_from_camera) == 16, f"{where}: ego_from_camera needs 16 numbers")
        require_finite(where, fx=self.fx_px, fy=self.fy_px, cx=self.cx_px, cy=self.cy_px)
        matrix = np.array(self.ego_from_camera).reshape(4, 4)
        rotation = matrix[:3, :3]
        require(
            bool(np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4))
            and bool(np.linalg.det(rotation) > 0),
            f"{where}: ego_from_camera is not a rigid transform",
        )

    @property
    def matrix(self) -> np.ndarray:
        """Return ego_from_camera as a 4x4 float64 array."""
        return np.array(self.ego_from_camera, dtype=np.float64).reshape(4, 4)

    @property
    def intrinsics(self) -> np.ndarray:
        """Return K, 3x3 float64: pixel = K @ p_camera / z."""
        return np.array(
            [[self.fx_px, 0.0, self.cx_px], [0.0, self.fy_px, self.cy_px], [0.0, 0.0, 1.0]]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """The cameras of one vehicle, in the order in which every stage takes them."""

    SCHEMA: ClassVar[str] = "rig/1"
    name: str
    cameras: tuple[CameraModel, ...]

    def __post_init__(self) -> None:
        names = [c.name for c in self.cameras]
        require(len(set(names)) == len(names), f"rig {self.name!r}: two cameras share a name")

    @property
    def digest(self) -> str:
        """Return the sha256 of the canonical bytes: two rigs are equal when these are."""
        return wire.digest(wire.to_bytes(self))

    def camera(self, name: str) -> CameraModel:
        """Return the camera called `name`.

        Raises:
            MissingCalibrationError: the rig has no such camera.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        known = ", ".join(c.name for c in self.cameras) or "none"
        raise MissingCalibrationError(
            f"camera {name!r} has no calibration in rig {self.name!r} (it has: {known})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSet:
    """All cameras of one instant.

    Args:
        frame_id: counts up by one per tick of a route, from 0.
        mono_ns: end of exposure on the route's monotonic clock.
        images: camera name -> uint8 [H, W, 3], RGB. Empty for a route without cameras.
        exposed_ns: camera name -> end of its own exposure, where the source knows it; a camera
            that is not in it was exposed at `mono_ns`.
    """

    frame_id: int
    mono_ns: int
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    exposed_ns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one tick is given: pictures, own motion and where navigation wants to go.

    A missing part is None, and the loop drives the parts it can.

    Args:
        traffic: road users and lanes as the log's own annotators or sensors saw them, ego frame;
            a stand-in for perception on a route without cameras.
        driver: None where nobody says who drives; a log of a human's drive says `engaged=False`.
    """

    frame: FrameSet
    ego: EgoState | None = None
    guidance: Guidance | None = None
    traffic: Scene | None = None
    driver: DriverInput | None = None
