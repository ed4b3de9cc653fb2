"""One synthetic drive written in the format of every log roadloop imports.

The car drives at 10 m/s, brakes gently to 6 m/s and turns left: what it did is known exactly, so
that an importer can be held to it.
"""

import json
from pathlib import Path

import av
import cv2
import numpy as np

from vehicle.geometry import CAMERA_AXES, rotation_from_ypr
from vehicle.importers.geodesy import ecef_from_latlon, enu_from_ecef

TURN_RADPS = 0.05
BRAKE_MPS2 = 0.5


class Drive:
    """Positions of the rear axle, heading and speed at `rate_hz` for `seconds`."""

    def __init__(self, rate_hz: float = 10.0, seconds: float = 8.0) -> None:
        fine = np.arange(0, seconds + 1e-9, 1e-3)
        speed = 10.0 - BRAKE_MPS2 * fine
        yaw = 0.3 + TURN_RADPS * fine
        step = np.column_stack([np.cos(yaw), np.sin(yaw)]) * speed[:, None] * 1e-3
        xy = np.vstack([np.zeros(2), np.cumsum(step[:-1], axis=0)])
        every = round(1000 / rate_hz)
        self.t_s, self.xy_m, self.yaw_rad, self.speed_mps = (
            a[::every] for a in (fine, xy, yaw, speed)
        )

    def ahead_m(self, lever_m: float) -> np.ndarray:
        """Return the track [N, 2] of a sensor mounted ahead of the rear axle."""
        return self.xy_m + lever_m * np.column_stack([np.cos(self.yaw_rad), np.sin(self.yaw_rad)])


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.lib.format.write_array(file, array)


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Return (w, x, y, z) as the eigenvector that any rotation has."""
    r = rotation
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    x, y, z, w = np.linalg.eigh(k)[1][:, -1]
    return np.array([w, x, y, z])


def comma2k19(folder: Path, *, imu: bool = True) -> Path:
    drive = Drive(rate_hz=20.0)
    origin = ecef_from_latlon(np.array([37.72, -122.47]), np.array(30.0))
    ecef_from_enu = enu_from_ecef(origin).T
    xyz = np.column_stack([drive.ahead_m(1.5), np.zeros(len(drive.t_s))])
    flip = np.diag([1.0, -1.0, -1.0])  # device: forward, right, down
    q = [quaternion(ecef_from_enu @ rotation_from_ypr(y) @ flip) for y in drive.yaw_rad]
    pose = folder / "global_pose"
    save(pose / "frame_times", drive.t_s + 46_408.5)
    save(pose / "frame_positions", origin + xyz @ ecef_from_enu.T)
    save(pose / "frame_orientations", np.array(q))
    save(pose / "frame_gps_times", np.column_stack([np.full(len(q), 2012.0), drive.t_s + 404_106]))
    can = Drive(rate_hz=100.0)
    save(folder / "processed_log/CAN/speed/t", can.t_s + 46_408.5)
    save(folder / "processed_log/CAN/speed/value", can.speed_mps[:, None])
    if imu:
        save(folder / "processed_log/IMU/gyro/t", can.t_s + 46_408.5)
        gyro = np.zeros((len(can.t_s), 3))
        gyro[:, 2] = -TURN_RADPS + 0.002  # and a bias
        save(folder / "processed_log/IMU/gyro/value", gyro)
    return folder


def boreas(folder: Path) -> Path:
    drive = Drive()
    lidar_yaw = drive.yaw_rad - 0.8
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["GPSTime,easting,northing,altitude,vel_east,roll,pitch,heading"]
    for t, (x, y), yaw in zip(drive.t_s, drive.ahead_m(1.2), lidar_yaw, strict=True):
        us = 1_628_184_886_438_099 + round(t * 1e6)
        rows.append(f"{us},{623_426.0 + x:.6f},{4_848_821.0 + y:.6f},153.6,0,0.0,0.0,{-yaw:.9f}")
    (folder / "lidar_poses.csv").write_text("\n".join(rows) + "\n")
    return folder


def kitti(folder: Path, *, frames: int = 12, named: bool = False) -> Path:
    drive = Drive()
    rotations = [CAMERA_AXES.T @ rotation_from_ypr(y - 0.3) @ CAMERA_AXES for y in drive.yaw_rad]
    xy = (drive.ahead_m(1.08) - drive.ahead_m(1.08)[0]) @ rotation_from_ypr(0.3)[:2, :2]
    xyz = np.column_stack([xy, np.zeros(len(xy))]) @ CAMERA_AXES
    rows = [np.column_stack([r, p]).reshape(-1) for r, p in zip(rotations, xyz, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "poses.txt", rows[:frames])
    left = np.array([[60.0, 0, 32, 0], [0, 60, 20, 0], [0, 0, 1, 0]])
    right = left.copy()
    right[0, 3] = -60.0 * 0.54
    lines = [" ".join(f"{v:.6e}" for v in p.reshape(-1)) for p in (left, right)]
    if named:
        lines = [f"P{i}: {lines[i % 2]}" for i in range(4)] + ["Tr: 1 2 3"]
    (folder / "calib.txt").write_text("\n".join(lines))
    names = ("image_2", "image_3") if named else ("image_l", "image_r")
    for name in names:
        (folder / name).mkdir(exist_ok=True)
        for i in range(frames):
            image = np.full((41, 65, 3), 10 * i % 250, np.uint8)
            cv2.imwrite(str(folder / name / f"{i:06d}.png"), image)
    return folder


def nuscenes(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    drive = Drive(seconds=4.0)
    columns: dict[str, list[object]] = {
        name: []
        for name in (
            *("track_id", "type", "t_s", "x_m", "y_m", "z_m", "heading_rad"),
            *("vx_mps", "vy_mps", "length_m", "width_m", "height_m"),
        )
    }
    left = np.array([-np.sin(0.3), np.cos(0.3)])
    walk = drive.xy_m[0] + 9.0 * left + drive.t_s[:, None] * left
    users = {
        "ego": ("VEHICLE", drive.xy_m, drive.yaw_rad),
        "b-parked": ("VEHICLE", np.tile(drive.xy_m[0] + 4.0 * left, (41, 1)), np.full(41, 0.3)),
        "a-walker": ("PEDESTRIAN", walk, np.zeros(41)),
    }
    for name, (kind, xy, yaw) in users.items():
        rows = range(41) if name != "a-walker" else range(10, 41)
        for i in rows:
            values = (name, kind, drive.t_s[i], *(xy[i] + 1000.0), 0.0, yaw[i])
            for column, value in zip(columns, (*values, 0.0, 0.0, 4.5, 1.8, 1.5), strict=True):
                columns[column].append(value)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "tracks.parquet")
    lane = [1000.0, 1000.0, 1030.0, 1010.0, 1300.0, 1100.0]
    lanes = {"feature_id": ["l", "x"], "type": ["LANE_X", "CROSSWALK"], "xy_m": [lane, lane]}
    pq.write_table(pa.table(lanes), folder / "map.parquet")
    (folder / "meta.json").write_text(json.dumps({"scene": "scene-1", "frames": 41, "hz": 10}))
    return folder


def video(path: Path, frames: int = 10) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            image = np.full((48, 64, 3), 20 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path
