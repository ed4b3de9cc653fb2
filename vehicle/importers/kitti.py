"""KITTI odometry: stereo pictures, calibration and true poses of the left camera.

Source: Geiger, Lenz, Urtasun, Are we ready for Autonomous Driving? (2012), and its readme: pictures
are rectified, P = K [I | t] with t in the frame of camera 0, poses are rows of world_from_camera0
(3x4, first camera frame = world), cameras 1.65 m above ground, 1.08 m ahead of the GNSS unit that
stands over the rear axle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from vehicle.contracts.frame import CameraModel, FrameSet, MissingCalibrationError, Observation, Rig
from vehicle.geometry import CAMERA_AXES, transform
from vehicle.importers.layout import (
    LogDamagedError,
    LogLayoutError,
    require_folder,
    table,
)
from vehicle.importers.motion import (
    HUMAN,
    Motion,
    Mounting,
    check_times,
    driven_path,
    mono_times,
    motion_from_poses,
)
from vehicle.sources import LogSource

LAYOUT: Final = (
    "a sequence folder with pictures in image_l/ and image_r/ (or image_2/ and image_3/, or "
    "image_0/ and image_1/), calib.txt, and where known poses.txt and times.txt"
)
HEIGHT_M: Final = 1.65
LEVER_M: Final = 1.08
RATE_HZ: Final = 10.0

_PAIRS: Final = (
    (("image_2", 2), ("image_3", 3)),
    (("image_l", 0), ("image_r", 1)),
    (("image_0", 0), ("image_1", 1)),
)
"""Folder and row of calib.txt of left and right, colour first."""


@dataclass(frozen=True, slots=True)
class _Camera:
    model: CameraModel
    files: list[Path]


def open_log(path: Path) -> LogSource:
    """Return one sequence as a source: one or two cameras; ego motion where poses are known.

    The ground is taken as flat and the camera as level at the first frame: KITTI gives no attitude.

    Raises:
        LogLayoutError: no pictures.
        MissingCalibrationError: no calib.txt, or no row for a camera that has pictures.
        LogDamagedError: counts differ, or a file does not read.
    """
    require_folder(path, "kitti", LAYOUT)
    cameras = _cameras(path)
    count = len(cameras[0].files)
    t_s = _times(path, count)
    motion = _motion(path, t_s)
    rig = Rig(name="kitti", cameras=tuple(c.model for c in cameras))
    metadata = {
        "car_id": "kitti",
        "route_id": path.resolve().name.strip(".") or "sequence",
        "source": "kitti",
        "jurisdiction": "DE",
        "tag.light": "day",
    }

    def walk() -> Iterator[Observation]:
        states = motion.states() if motion else [None] * count
        guidance = driven_path(motion) if motion else iter([None] * count)
        for i, mono_ns in enumerate(mono_times(t_s)):
            images = {c.model.name: _read(c.files[i], c.model) for c in cameras}
            frame = FrameSet(frame_id=i, mono_ns=mono_ns, images=images)
            yield Observation(frame=frame, ego=states[i], guidance=next(guidance), driver=HUMAN)

    return LogSource(rig=rig, rate_hz=RATE_HZ, metadata=metadata, ticks=count, walk=walk)


def _cameras(folder: Path) -> list[_Camera]:
    pair = next((p for p in _PAIRS if (folder / p[0][0]).is_dir()), None)
    if pair is None:
        raise LogLayoutError(
            f"{folder} lacks image_l (or image_2, image_0); `import kitti` takes {LAYOUT}"
        )
    if not (folder / "calib.txt").is_file():
        raise MissingCalibrationError(
            f"{folder} has pictures but no calib.txt; put the sequence's calib.txt beside them"
        )
    rows = _calibration(folder / "calib.txt")
    cameras: list[_Camera] = []
    for side, (name, row) in zip(("left", "right"), pair, strict=True):
        files = sorted((folder / name).glob("*.png")) or sorted((folder / name).glob("*.jpg"))
        if not files:
            if side == "left":
                raise LogLayoutError(
                    f"{folder / name} holds no pictures; `import kitti` takes {LAYOUT}"
                )
            continue
        if row not in rows:
            raise MissingCalibrationError(f"{folder}/calib.txt has no row P{row} for {name}/")
        image = cv2.imread(str(files[0]))
        if image is None:
            raise LogDamagedError(f"{files[0]} is not a picture")
        cameras.append(_Camera(_model(side, rows[row], image.shape[:2]), files))
    if len(cameras) == 2 and len(cameras[0].files) != len(cameras[1].files):
        counts = " and ".join(str(len(c.files)) for c in cameras)
        raise LogDamagedError(f"{folder}: left and right have {counts} pictures, expected as many")
    return cameras


def _calibration(path: Path) -> dict[int, np.ndarray]:
    """Return the 3x4 projections by number; rows may carry their name ("P0:") or come bare."""
    rows: dict[int, np.ndarray] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines()):
        name, colon, numbers = line.rpartition(":")
        if colon and not (name.strip().startswith("P") and name.strip()[1:].isdigit()):
            continue  # "Tr:" and others
        if not numbers.split():
            continue
        key = int(name.strip()[1:]) if colon else number
        try:
            values = [float(v) for v in numbers.split()]
        except ValueError as error:
            raise LogDamagedError(f"{path}: line {number + 1} does not read: {error}") from error
        rows[key] = table(values, (12,), f"{path}: line {number + 1}").reshape(3, 4)
    return rows


def _model(name: str, projection: np.ndarray, shape: tuple[int, ...]) -> CameraModel:
    fx, fy = float(projection[0, 0]), float(projection[1, 1])
    if not (fx > 0 and fy > 0):
        raise LogDamagedError(f"calib.txt: camera {name!r} has focal lengths {fx}, {fy}")
    right_m = -float(projection[0, 3]) / fx  # of this camera in the frame of camera 0
    matrix = transform(CAMERA_AXES, np.array([LEVER_M, -right_m, HEIGHT_M]))
    return CameraModel(
        name=name,
        width_px=shape[1],
        height_px=shape[0],
        fx_px=fx,
        fy_px=fy,
        cx_px=float(projection[0, 2]),
        cy_px=float(projection[1, 2]),
        ego_from_camera=tuple(float(v) for v in matrix.reshape(-1)),
    )


def _times(folder: Path, count: int) -> np.ndarray:
    path = folder / "times.txt"
    if not path.is_file():
        return np.arange(count) / RATE_HZ
    t_s = table(_numbers(path), (-1, 1), str(path))[:, 0]
    if len(t_s) != count:
        raise LogDamagedError(f"{path} has {len(t_s)} times for {count} pictures")
    if (np.diff(t_s) <= 0).any():
        raise LogDamagedError(f"{path}: time does not increase")
    return t_s


def _motion(folder: Path, t_s: np.ndarray) -> Motion | None:
    candidates = (folder / "poses.txt", folder.parents[1] / "poses" / f"{folder.name}.txt")
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        return None
    rows = table(_numbers(path), (-1, 12), str(path))
    if len(rows) != len(t_s):
        raise LogDamagedError(f"{path} has {len(rows)} poses for {len(t_s)} pictures")
    check_times(t_s, str(path))
    world_from_camera = rows.reshape(-1, 3, 4)
    xyz = world_from_camera[:, :, 3] @ CAMERA_AXES.T
    forward = world_from_camera[:, :, 2] @ CAMERA_AXES.T
    yaw = np.arctan2(forward[:, 1], forward[:, 0])
    return motion_from_poses(t_s, xyz[:, :2], yaw, mounting=Mounting(lever_m=LEVER_M))


def _numbers(path: Path) -> list[list[float]]:
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    try:
        rows = [[float(v) for v in line.split()] for line in lines]
    except ValueError as error:
        raise LogDamagedError(f"{path} does not read: {error}") from error
    if len({len(row) for row in rows}) > 1:
        raise LogDamagedError(f"{path}: rows differ in length")
    return rows


def _read(path: Path, camera: CameraModel) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None:
        raise LogDamagedError(f"{path} is not a picture; the log was copied incompletely")
    if image.shape[:2] != (camera.height_px, camera.width_px):
        raise LogDamagedError(
            f"{path} is {image.shape[1]}x{image.shape[0]}, the first picture was "
            f"{camera.width_px}x{camera.height_px}"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
