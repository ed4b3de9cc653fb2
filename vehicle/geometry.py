"""Rigid transforms and camera projection, by the frames of docs/frames.md.

Transforms are 4x4 float64 matrices named `dst_from_src`, so that names cancel:
`p_ego = apply(ego_from_camera, p_camera)`. The renderer, the network's gather tables and the
importers all project through this file, so that a pixel means the same everywhere.
"""

import math

import numpy as np

from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import CameraModel

CAMERA_AXES = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Rotation of a camera that looks along ego x: columns are camera x, y, z in the ego frame."""


def wrap_angle(angle_rad: np.ndarray | float) -> np.ndarray | float:
    """Return the angle in [-pi, pi)."""
    return (angle_rad + math.pi) % (2.0 * math.pi) - math.pi


def rotation_from_ypr(yaw_rad: float, pitch_rad: float = 0.0, roll_rad: float = 0.0) -> np.ndarray:
    """Return the 3x3 rotation Rz(yaw) Ry(pitch) Rx(roll) (ISO 8855: pitch positive nose down).

    Source: ISO 8855:2011, intrinsic yaw-pitch-roll.
    """
    cy, sy = math.cos(yaw_rad), math.sin(yaw_rad)
    cp, sp = math.cos(pitch_rad), math.sin(pitch_rad)
    cr, sr = math.cos(roll_rad), math.sin(roll_rad)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def rotation_from_quaternion(w: float, x: float, y: float, z: float) -> np.ndarray:
    """Return the 3x3 rotation of a quaternion (w, x, y, z); it is normalised first.

    Raises:
        ValueError: the quaternion is zero or not finite.
    """
    norm = math.sqrt(w * w + x * x + y * y + z * z)
    if not math.isfinite(norm) or norm < 1e-9:
        raise ValueError(f"quaternion ({w}, {x}, {y}, {z}) has no direction")
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def yaw_of(rotation: np.ndarray) -> float:
    """Return the yaw of a 3x3 rotation or 4x4 transform, positive to the left."""
    return math.atan2(rotation[1, 0], rotation[0, 0])


def transform(rotation: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    """Return the 4x4 transform of a 3x3 rotation and a translation [3]."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = translation_m
    return matrix


def inverse(dst_from_src: np.ndarray) -> np.ndarray:
    """Return src_from_dst of a rigid 4x4 transform (exact transpose, no solver)."""
    rotation = dst_from_src[:3, :3]
    return transform(rotation.T, -rotation.T @ dst_from_src[:3, 3])


def apply(dst_from_src: np.ndarray, points_src: np.ndarray) -> np.ndarray:
    """Return points [..., 3] moved from src to dst."""
    return points_src @ dst_from_src[:3, :3].T + dst_from_src[:3, 3]


def local_from_ego(ego: EgoState) -> np.ndarray:
    """Return the planar 4x4 transform of an ego pose."""
    return transform(rotation_from_ypr(ego.yaw_rad), np.array([ego.x_m, ego.y_m, 0.0]))


def to_ego_2d(ego: EgoState, points_local: np.ndarray) -> np.ndarray:
    """Return ground points [..., 2] of the local frame in the ego frame."""
    c, s = math.cos(ego.yaw_rad), math.sin(ego.yaw_rad)
    d = points_local - np.array([ego.x_m, ego.y_m])
    return np.stack([c * d[..., 0] + s * d[..., 1], -s * d[..., 0] + c * d[..., 1]], axis=-1)


def to_local_2d(ego: EgoState, points_ego: np.ndarray) -> np.ndarray:
    """Return ground points [..., 2] of the ego frame in the local frame."""
    c, s = math.cos(ego.yaw_rad), math.sin(ego.yaw_rad)
    x, y = points_ego[..., 0], points_ego[..., 1]
    return np.stack([c * x - s * y + ego.x_m, s * x + c * y + ego.y_m], axis=-1)


def project(camera: CameraModel, points_ego: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project ego points into a camera.

    Args:
        camera: pinhole, with or without distortion.
        points_ego: [..., 3] metres.
    Returns:
        uv_px: [..., 2]; pixel centres at integers. Meaningless where depth is not positive.
        depth_m: [...], distance along the camera's z axis.
    Source: OpenCV camera model (Brown-Conrady), docs of calib3d.
    """
    p = apply(inverse(camera.matrix), points_ego)
    depth_m = p[..., 2]
    safe = np.where(np.abs(depth_m) < 1e-9, 1e-9, depth_m)
    x, y = distort(camera, p[..., 0] / safe, p[..., 1] / safe)
    uv = np.stack([camera.fx_px * x + camera.cx_px, camera.fy_px * y + camera.cy_px], axis=-1)
    return uv, depth_m


def distort(camera: CameraModel, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return normalised image coordinates after lens distortion."""
    k1, k2, p1, p2, k3 = camera.distortion
    if not any(camera.distortion):
        return x, y
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


def unproject(camera: CameraModel, uv_px: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
    """Return ego points [..., 3] of pixels [..., 2] of an undistorted camera at given depths.

    Raises:
        ValueError: the camera has lens distortion; undistort the image first.
    """
    if any(camera.distortion):
        raise ValueError(f"camera {camera.name!r} is distorted: undistort before unprojecting")
    x = (uv_px[..., 0] - camera.cx_px) / camera.fx_px * depth_m
    y = (uv_px[..., 1] - camera.cy_px) / camera.fy_px * depth_m
    return apply(camera.matrix, np.stack([x, y, depth_m], axis=-1))


def box_corners(
    x_m: float, y_m: float, yaw_rad: float, length_m: float, width_m: float, height_m: float
) -> np.ndarray:
    """Return the 8 corners [8, 3] of an upright box standing on z = 0: bottom four, then top four,
    counter-clockwise from front left."""
    half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [length_m / 2, width_m / 2]
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    ground = half @ np.array([[c, s], [-s, c]]) + [x_m, y_m]
    return np.concatenate(
        [
            np.column_stack([ground, np.zeros(4)]),
            np.column_stack([ground, np.full(4, height_m)]),
        ]
    )


def look_camera(
    name: str,
    *,
    width_px: int,
    height_px: int,
    hfov_deg: float,
    x_m: float,
    y_m: float,
    z_m: float,
    yaw_deg: float,
    pitch_deg: float = 0.0,
) -> CameraModel:
    """Return an undistorted camera with square pixels by field of view and mounting."""
    focal = (width_px / 2) / math.tan(math.radians(hfov_deg) / 2)
    rotation = rotation_from_ypr(math.radians(yaw_deg), math.radians(pitch_deg)) @ CAMERA_AXES
    matrix = transform(rotation, np.array([x_m, y_m, z_m]))
    return CameraModel(
        name=name,
        width_px=width_px,
        height_px=height_px,
        fx_px=focal,
        fy_px=focal,
        cx_px=(width_px - 1) / 2,
        cy_px=(height_px - 1) / 2,
        ego_from_camera=tuple(float(v) for v in matrix.reshape(-1)),
    )
