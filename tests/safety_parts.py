"""What the exact questions to the safety envelope are put together from.

Numbers are sums of powers of two wherever equality matters; the body is 3 m ahead of the rear
axle, 1 m behind, 2 m wide.
"""

from typing import Any

import numpy as np

from vehicle.config import VehicleConfig
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.scene import TRACK, Scene

FRONT, REAR, WIDTH = 3.0, 1.0, 2.0
BODY = (FRONT, REAR, WIDTH)
BODY_ARRAY = np.array(BODY)

# reaction, accel, brake, front brake, lateral accel, lateral brake, margin, brake for a side gap
RSS = np.array([0.5, 2.0, 4.0, 8.0, 0.25, 0.5, 0.125, 2.0])
SIDE_GAP = 0.21875
"""rss_lateral of two that keep their distance, by RSS: 0.125 + 2 x (0.03125 + 0.015625)."""

CONFIG = VehicleConfig(
    length_m=4.0, width_m=2.0, rear_overhang_m=1.0, max_accel_mps2=2.0, max_brake_mps2=8.0,
    comfort_brake_mps2=2.0, max_lateral_mps2=4.0, max_curvature_1pm=0.25, reaction_s=0.5,
    rss_brake_mps2=4.0, rss_front_brake_mps2=8.0, rss_lateral_accel_mps2=0.25,
    rss_lateral_brake_mps2=0.5, rss_lateral_margin_m=0.125, aeb_needed_mps2=4.0,
)  # fmt: skip


def user(
    x: float, y: float = 0.0, *, vx: float = 0.0, vy: float = 0.0, yaw: float = 0.0,
    length: float = 4.0, width: float = 2.0,
) -> np.ndarray:  # fmt: skip
    """Return one road user as the kernels take it: [1, 7]."""
    return np.array([[x, y, yaw, length, width, vx, vy]])


def scene_of(users: np.ndarray, age: int = 10) -> Scene:
    """Return a scene of road users that have been tracked for `age` ticks."""
    tracks = np.zeros(len(users), TRACK)
    names = ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "vx_mps", "vy_mps")
    for i, name in enumerate(names):
        tracks[name] = users[:, i]
    tracks["age_ticks"] = age
    return Scene(
        frame_id=0, mono_ns=0, tracks=tracks, embedding=np.zeros(0, np.float32),
        uncertainty_ratio=0.0, fresh=True,
    )  # fmt: skip


def ego(speed: float, curvature: float = 0.0) -> EgoState:
    return EgoState(mono_ns=0, x_m=0, y_m=0, yaw_rad=0, speed_mps=speed, curvature_1pm=curvature)


def ask(accel: float, curvature: float = 0.0) -> ControlCommand:
    return ControlCommand(frame_id=0, mono_ns=0, accel_mps2=accel, curvature_1pm=curvature)


def limit(
    m: Any, command: ControlCommand, users: np.ndarray | None, speed: float, bend: float = 0.0
) -> ControlCommand:
    scene = None if users is None else scene_of(users)
    return m.Envelope(CONFIG).limit(command, scene, ego(speed, bend))


def rss(m: Any, users: np.ndarray, speed: float, bend: float = 0.0) -> tuple[int, float]:
    """Return rule and brake."""
    rule, brake = m._check_rss(users, speed, bend, BODY_ARRAY, RSS)
    return int(rule), float(brake)
