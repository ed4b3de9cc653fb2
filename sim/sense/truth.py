"""The truth of one instant of a town, in the words of scores and of a car that need not see."""

import math
from typing import Final

import numpy as np

from sim.score.trace import ACTOR_STATE, EgoSample
from vehicle.config import VehicleConfig
from vehicle.contracts.scene import KINDS, TRACK, Scene, Signal

_THINGS: Final = tuple(KINDS.index(k) for k in ("cone", "debris", "other"))
_REACH_M: Final = 80.0
_GROWN_TICKS: Final = 100
"""Nobody doubts the truth: its tracks are as old as a planner may ask."""


def ego_sample(
    body: np.ndarray, accel_mps2: float, curvature_1pm: float, config: VehicleConfig
) -> EgoSample:
    """Return the ego of a snapshot; `body` is x, y, yaw, speed of the body's centre."""
    return EgoSample(
        x_m=float(body[0]),
        y_m=float(body[1]),
        yaw_rad=float(body[2]),
        speed_mps=float(body[3]),
        accel_mps2=accel_mps2,
        yaw_rate_radps=float(body[3]) * curvature_1pm,
        curvature_1pm=curvature_1pm,
        length_m=config.length_m,
        width_m=config.width_m,
    )


def actor_states(table: np.ndarray) -> np.ndarray:
    """Return ACTOR_STATE rows of ACTOR rows."""
    out = np.zeros(len(table), ACTOR_STATE)
    for name in ACTOR_STATE.names or ():
        if name != "static":
            out[name] = table[name]
    out["static"] = np.isin(table["kind"], _THINGS)
    return out


def true_scene(
    table: np.ndarray,
    ego: np.ndarray,
    frame_id: int,
    mono_ns: int,
    signal: Signal | None = None,
) -> Scene:
    """Return everybody within 80 m, seen or hidden, as tracks in the ego frame.

    Args:
        ego: x, y, yaw of the ego frame.
        signal: the traffic light that rules the ego's route, where the world knows it.
    """
    c, s = math.cos(ego[2]), math.sin(ego[2])
    dx, dy = table["x_m"] - ego[0], table["y_m"] - ego[1]
    near = np.hypot(dx, dy) < _REACH_M
    rows = table[near]
    tracks = np.zeros(len(rows), TRACK)
    tracks["x_m"], tracks["y_m"] = (c * dx + s * dy)[near], (-s * dx + c * dy)[near]
    yaw = (rows["yaw_rad"] - ego[2] + math.pi) % (2 * math.pi) - math.pi
    tracks["yaw_rad"] = yaw
    tracks["vx_mps"], tracks["vy_mps"] = (
        rows["speed_mps"] * np.cos(yaw),
        rows["speed_mps"] * np.sin(yaw),
    )
    tracks["track_id"], tracks["kind"] = rows["actor_id"], rows["kind"]
    for name in ("length_m", "width_m", "height_m"):
        tracks[name] = rows[name]
    tracks["score_prob"], tracks["age_ticks"] = 1.0, _GROWN_TICKS
    return Scene(
        frame_id=frame_id,
        mono_ns=mono_ns,
        tracks=tracks,
        embedding=np.zeros(0, np.float32),
        uncertainty_ratio=math.nan,
        fresh=True,
        signal=signal,
    )
