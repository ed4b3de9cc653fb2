"""comma2k19: one minute of real driving (CAN, IMU, GNSS, 20 Hz pose, and video where present).

Source: Schafer et al., A Commute in Data: The comma2k19 Dataset (2018), and its readme: positions
and velocities in ECEF, orientations as quaternions ecef_from_device (device x forward, y right,
z down), IMU in the same device axes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from vehicle.contracts.frame import CameraModel, FrameSet, Observation, Rig
from vehicle.geometry import CAMERA_AXES, rotation_from_quaternion, transform
from vehicle.importers.geodesy import ecef_from_latlon, enu_from_ecef, latlon_from_ecef
from vehicle.importers.layout import LogDamagedError, find_folder, require_files, table
from vehicle.importers.motion import (
    ACCEL_WINDOW_S,
    HUMAN,
    Motion,
    check_times,
    driven_path,
    estimate_mounting,
    fit,
    motion_from_poses,
)
from vehicle.importers.video import frames
from vehicle.sources import LogSource

LAYOUT: Final = (
    "a segment folder with global_pose/{frame_times,frame_positions,frame_orientations} and "
    "processed_log/CAN/speed/{t,value} (used where present: "
    "processed_log/{IMU,GNSS}, video.hevc)"
)
LEVER_M: Final = 1.5
"""Windscreen camera ahead of the rear axle, where a minute has too few turns to tell."""

VIDEO: Final = "video.hevc"
CAMERA: Final = CameraModel(
    name="front",
    width_px=1164,
    height_px=874,
    fx_px=910.0,
    fy_px=910.0,
    cx_px=582.0,
    cy_px=437.0,
    ego_from_camera=tuple(
        float(v) for v in transform(CAMERA_AXES, np.array([LEVER_M, 0.0, 1.22])).reshape(-1)
    ),
)
"""The EON device's road camera, by the readme's focal length and openpilot's mounting height."""

RATE_HZ: Final = 20.0
_NEEDED: Final = (
    "global_pose/frame_times",
    "global_pose/frame_positions",
    "global_pose/frame_orientations",
    "processed_log/CAN/speed/t",
    "processed_log/CAN/speed/value",
)
_GPS_EPOCH_UTC_S: Final = 315_964_800 - 18  # 1980-01-06, less the leap seconds since (2017 on)


def open_log(path: Path) -> LogSource:
    """Return one segment as a source: ego motion and the driven path, 20 Hz.

    Speed and acceleration come from the CAN bus (wheel speeds), yaw rate from the gyroscope where
    there is one, pose from the post-processed global pose.

    Raises:
        LogLayoutError: files are missing, or `path` holds several segments.
        LogDamagedError: an array has the wrong shape or is not finite.
    """
    folder = find_folder(path, "global_pose", "comma2k19", LAYOUT)
    require_files(folder, _NEEDED, "comma2k19", LAYOUT)
    motion = _motion(folder)
    metadata = {
        "car_id": "comma2k19",
        "route_id": f"{_plain(folder.parent.name)}-{_plain(folder.name)}",
        "source": "comma2k19",
        "jurisdiction": "US",
        **_gnss(folder, motion),
    }
    start = _start_utc_ns(folder)
    if start is not None:
        metadata["start_utc_ns"] = str(start)

    video = folder / VIDEO
    rig = Rig(name="comma2k19", cameras=(CAMERA,)) if video.is_file() else None

    def walk() -> Iterator[Observation]:
        pictures = frames(video) if rig else None
        for i, guidance in enumerate(driven_path(motion)):
            state = motion.state(i)
            images = {} if pictures is None else _picture(pictures, i, video)
            frame = FrameSet(frame_id=i, mono_ns=state.mono_ns, images=images)
            yield Observation(frame=frame, ego=state, guidance=guidance, driver=HUMAN)

    return LogSource(rig=rig, rate_hz=RATE_HZ, metadata=metadata, ticks=len(motion.t_s), walk=walk)


def _picture(
    pictures: Iterator[tuple[int, np.ndarray]], i: int, video: Path
) -> dict[str, np.ndarray]:
    image = next(pictures, (0, None))[1]
    if image is None:
        raise LogDamagedError(f"{video} ends before frame {i}, which has a pose")
    if image.shape != (CAMERA.height_px, CAMERA.width_px, 3):
        raise LogDamagedError(
            f"{video} is {image.shape[1]}x{image.shape[0]}, expected "
            f"{CAMERA.width_px}x{CAMERA.height_px}"
        )
    return {CAMERA.name: image}


def _plain(name: str) -> str:
    return name.replace("|", "_").strip(".") or "segment"


def _array(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LogDamagedError(f"{path} is not a NumPy array: {error}") from error


def _load(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    return table(_array(folder / name), shape, str(folder / name))


def _signal(folder: Path, name: str, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return times and [N, columns] values of a processed_log signal, in time order."""
    t_s = _load(folder, f"processed_log/{name}/t", (-1,))
    path = folder / f"processed_log/{name}/value"
    value = _array(path)
    if value.ndim == 1:
        value = value[:, None]
    value = table(value, (len(t_s), columns), str(path))
    t_s, first = np.unique(t_s, return_index=True)
    return t_s, value[first]


def _motion(folder: Path) -> Motion:
    t_s = _load(folder, "global_pose/frame_times", (-1,))
    check_times(t_s, f"{folder}/global_pose/frame_times")
    ecef = _load(folder, "global_pose/frame_positions", (len(t_s), 3))
    quaternion = _load(folder, "global_pose/frame_orientations", (len(t_s), 4))
    to_enu = enu_from_ecef(ecef[0])
    xyz = (ecef - ecef[0]) @ to_enu.T
    forward = np.stack([to_enu @ rotation_from_quaternion(*q)[:, 0] for q in quaternion])
    yaw = np.arctan2(forward[:, 1], forward[:, 0])
    mounting = estimate_mounting(t_s, xyz[:, :2], yaw, lever_m=LEVER_M)
    pose = motion_from_poses(
        t_s, xyz[:, :2], yaw, mounting=mounting, latlon_deg=latlon_from_ecef(ecef)
    )
    can_t, can = _signal(folder, "CAN/speed", 1)
    check_times(can_t, f"{folder}/processed_log/CAN/speed/t")
    speed, accel = fit(can_t, can[:, 0], window_s=ACCEL_WINDOW_S, degree=1)
    yaw_rate = pose.yaw_rate_radps
    if (folder / "processed_log/IMU/gyro/value").is_file():
        gyro_t, gyro = _signal(folder, "IMU/gyro", 3)
        if len(gyro_t) >= 3:  # device z is down: right turns are positive there
            rate = np.interp(t_s, gyro_t, -fit(gyro_t, gyro[:, 2], window_s=0.3, degree=1)[0])
            yaw_rate = rate + (yaw_rate - rate).mean()  # the pose knows the gyroscope's bias
    return Motion(
        t_s=pose.t_s,
        xy_m=pose.xy_m,
        yaw_rad=pose.yaw_rad,
        speed_mps=np.interp(t_s, can_t, speed),
        accel_mps2=np.interp(t_s, can_t, accel),
        yaw_rate_radps=yaw_rate,
        latlon_deg=pose.latlon_deg,
    )


def _gnss(folder: Path, motion: Motion) -> dict[str, str]:
    """Return how far each GNSS receiver's fixes lie from the pose, median metres, as tags."""
    tags: dict[str, str] = {}
    t_s = _load(folder, "global_pose/frame_times", (-1,))
    assert motion.latlon_deg is not None
    for receiver in ("ublox", "qcom"):
        name = f"GNSS/live_gnss_{receiver}"
        if not (folder / f"processed_log/{name}/value").is_file():
            continue
        fix_t, fixes = _signal(folder, name, 6)
        inside = (fix_t >= t_s[0]) & (fix_t <= t_s[-1])
        if not inside.any():
            continue
        pose = np.column_stack(
            [np.interp(fix_t[inside], t_s, motion.latlon_deg[:, k]) for k in (0, 1)]
        )
        zero = np.zeros(len(pose))
        apart = ecef_from_latlon(fixes[inside, :2], zero) - ecef_from_latlon(pose, zero)
        tags[f"tag.gnss_{receiver}_off_m"] = f"{np.median(np.linalg.norm(apart, axis=1)):.2f}"
    return tags


def _start_utc_ns(folder: Path) -> int | None:
    if not (folder / "global_pose/frame_gps_times").is_file():
        return None
    week, second = _load(folder, "global_pose/frame_gps_times", (-1, 2))[0]
    return round((_GPS_EPOCH_UTC_S + float(week) * 604_800 + float(second)) * 1e9)
