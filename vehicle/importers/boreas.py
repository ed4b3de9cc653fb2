"""Boreas: poses of the camera (10 Hz) or the lidar (9.6 Hz) of one long drive, as CSV.

Source: Burnett et al., Boreas: A Multi-Season Autonomous Driving Dataset (2023), and pyboreas: UTM
positions, C_enu_sensor = Rx(roll) Ry(pitch) Rz(yaw) with right-handed sensor axes (camera z
forward; the lidar's x is turned 45 degrees from the car's, which the drive itself shows).
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from vehicle.contracts.frame import FrameSet, Observation
from vehicle.importers.geodesy import latlon_from_utm
from vehicle.importers.layout import LogDamagedError, LogLayoutError, require_folder, table
from vehicle.importers.motion import (
    HUMAN,
    Motion,
    check_times,
    driven_path,
    estimate_mounting,
    motion_from_poses,
)
from vehicle.sources import LogSource

LAYOUT: Final = (
    "a drive's folder with camera_poses.csv or lidar_poses.csv (there or under applanix/), or one "
    "of these files"
)
COLUMNS: Final = ("GPSTime", "easting", "northing", "roll", "pitch", "heading")
UTM_ZONE: Final = 17
"""Toronto, where Boreas was driven."""

LEVER_M: Final = 1.2
"""Roof sensors ahead of the rear axle, where a drive has too few turns to tell."""


def open_log(path: Path) -> LogSource:
    """Return one drive as a source: ego motion and the driven path at the rate of its poses.

    The camera's poses are taken where both files are there.

    Raises:
        LogLayoutError: no pose file, or a column is missing.
        LogDamagedError: a row does not read.
    """
    file = _pose_file(path)
    motion, start_us = _motion(file)
    rate_hz = round(1.0 / float(np.median(np.diff(motion.t_s))), 1)
    folder = file.parent.parent if file.parent.name == "applanix" else file.parent
    metadata = {
        "car_id": "boreas",
        "route_id": folder.resolve().name.strip(".") or "boreas",
        "source": "boreas",
        "jurisdiction": "CA",
        "start_utc_ns": str(start_us * 1000),
        "tag.poses": file.stem,
    }

    def walk() -> Iterator[Observation]:
        states = motion.states()
        for i, (state, guidance) in enumerate(zip(states, driven_path(motion), strict=True)):
            frame = FrameSet(frame_id=i, mono_ns=state.mono_ns)
            yield Observation(frame=frame, ego=state, guidance=guidance, driver=HUMAN)

    return LogSource(rig=None, rate_hz=rate_hz, metadata=metadata, ticks=len(motion.t_s), walk=walk)


def _pose_file(path: Path) -> Path:
    if path.is_file():
        return path
    require_folder(path, "boreas", LAYOUT)
    for name in ("camera_poses.csv", "lidar_poses.csv"):
        for file in (path / name, path / "applanix" / name):
            if file.is_file():
                return file
    raise LogLayoutError(
        f"{path} lacks camera_poses.csv and lidar_poses.csv; `import boreas` takes {LAYOUT}"
    )


def _motion(path: Path) -> tuple[Motion, int]:
    with path.open(newline="", errors="replace") as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, [])]
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise LogLayoutError(f"{path} lacks the columns {', '.join(missing)} in its first line")
        at = [header.index(name) for name in COLUMNS]
        try:
            values = [[float(row[i]) for i in at] for row in rows if row]
        except (ValueError, IndexError) as error:
            raise LogDamagedError(f"{path}: line {rows.line_num} does not read: {error}") from error
    data = table(values or np.zeros((0, len(COLUMNS))), (-1, len(COLUMNS)), str(path))
    start_us = int(data[0, 0]) if len(data) else 0
    t_s = (data[:, 0] - start_us) * 1e-6
    check_times(t_s, str(path))
    utm = data[:, 1:3]
    yaw = _forward_yaw(*data[:, 3:6].T, camera=path.stem.startswith("camera"))
    xy = utm - utm[0]
    mounting = estimate_mounting(t_s, xy, yaw, lever_m=LEVER_M)
    latlon = latlon_from_utm(utm[:, 0], utm[:, 1], UTM_ZONE)
    return motion_from_poses(t_s, xy, yaw, mounting=mounting, latlon_deg=latlon), start_us


def _forward_yaw(
    roll: np.ndarray, pitch: np.ndarray, yaw: np.ndarray, *, camera: bool
) -> np.ndarray:
    """Return the yaw of the sensor's forward axis (camera z, lidar x) in east-north-up."""
    cr, sr, cp, sp, cy, sy = (f(a) for a in (roll, pitch, yaw) for f in (np.cos, np.sin))
    if camera:  # third column of Rx(roll) Ry(pitch) Rz(yaw), pyboreas' signs
        east, north = -sp, sr * cp
    else:  # first column
        east, north = cp * cy, -cr * sy + sr * sp * cy
    return np.arctan2(north, east)
