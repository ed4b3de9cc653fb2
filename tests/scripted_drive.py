"""A drive written by hand: a bend, a braking leader, oncoming and parked cars, a pedestrian.

Nothing of it comes from the simulator, a codec or a network, so that what the tracker, planner,
controller, envelope and triggers make of it changes only when one of them does.
"""

import math
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.scene import BEV, KINDS, TRACK, Occupancy
from vehicle.geometry import to_ego_2d
from vehicle.perception import Detections

TICKS = 48
STEP_S = 0.1
LANE_XY = np.column_stack([np.arange(-20.0, 260.0), 12.0 * np.sin(np.arange(-20.0, 260.0) / 40.0)])
ROAD = Occupancy(
    grid=BEV,
    drivable=np.full((BEV.nx, BEV.ny), 255, np.uint8),
    lane=np.zeros((BEV.nx, BEV.ny), np.uint8),
    occupied=np.zeros((BEV.nx, BEV.ny), np.uint8),
)
SIZES = {"car": (4.5, 1.9), "truck": (8.0, 2.5), "pedestrian": (0.6, 0.6)}


def on_lane(s: float, left: float = 0.0) -> tuple[float, float, float]:
    """Return x, y, yaw of a place on the lane by its x."""
    yaw = math.atan(0.3 * math.cos(s / 40.0))
    return s - left * math.sin(yaw), 12.0 * math.sin(s / 40.0) + left * math.cos(yaw), yaw


def ego_at(i: int) -> EgoState:
    """Return the recorded motion: 10 m/s, braking for the pedestrian from tick 32 on."""
    t, brake = i * STEP_S, max(0.0, i * STEP_S - 3.2)
    x, y, yaw = on_lane(9.6 * (t - brake) + 9.6 * brake - 1.9 * brake * brake)
    return EgoState(
        mono_ns=1_000_000_000 + round(i * 1e8),
        x_m=x,
        y_m=y,
        yaw_rad=yaw,
        speed_mps=max(0.0, 10.0 - 4.0 * brake),
        accel_mps2=-4.0 if brake and brake < 2.5 else 0.0,
        curvature_1pm=-0.0075 * math.sin(x / 40.0),
    )


def others_at(i: int) -> list[tuple[str, float, float, float, float]]:
    """Return kind, x, y, yaw, score in the local frame; now and then somebody is not seen."""
    t = i * STEP_S
    brake = max(0.0, t - 1.0)
    leader = on_lane(28.0 + 9.0 * t - 0.7 * brake * brake)
    seen = [
        ("car", *leader, 0.9),
        ("truck", *on_lane(90.0 - 8.0 * t, 3.6)[:2], on_lane(90.0 - 8.0 * t)[2] + math.pi, 0.8),
        ("car", *on_lane(34.0, -3.4), 0.7),
        ("pedestrian", *on_lane(40.0, 7.0 - 2.4 * max(0.0, t - 1.2))[:2], 0.0, 0.6),
    ]
    return [row for k, row in enumerate(seen) if (i + 3 * k) % 11]


class Scripted:
    """Stands in for perception: the script, a few centimetres off, as a network would be."""

    def __init__(self) -> None:
        self.stage_us: dict[str, float] = {}

    def perceive(
        self, frame: FrameSet, deadline_mono_ns: int | None = None, half: int | None = None,
        ego: EgoState | None = None,
    ) -> Detections:  # fmt: skip
        i = frame.frame_id
        here, rows = ego_at(i), others_at(i)
        tracks = np.zeros(len(rows), TRACK)
        for k, (track, (kind, x, y, yaw, score)) in enumerate(zip(tracks, rows, strict=True)):
            off = 0.01 * ((7 * i + 5 * k) % 9 - 4)
            place = to_ego_2d(here, np.array([x + off, y - off]))
            track["kind"], track["x_m"], track["y_m"] = KINDS.index(kind), *place
            track["yaw_rad"] = (yaw - here.yaw_rad + math.pi) % (2 * math.pi) - math.pi
            track["length_m"], track["width_m"] = SIZES[kind]
            track["height_m"], track["score_prob"] = 1.5, score
        return Detections(
            tracks=tracks, occupancy=ROAD, embedding=np.zeros(8, np.float32),
            uncertainty_ratio=0.2 + 0.7 * (30 <= i < 40),
        )  # fmt: skip

    def close(self) -> None:
        """Nothing to stop."""


class Route:
    """The drive as a source: frames come with pictures that nobody looks at."""

    rig: ClassVar[None] = None
    rate_hz = 1.0 / STEP_S
    metadata: ClassVar[dict[str, str]] = {"source": "script", "route_id": "scripted"}

    def __init__(self, images: dict[str, np.ndarray]) -> None:
        self._images = images

    def __iter__(self) -> Iterator[Observation]:
        for i in range(TICKS):
            ego = ego_at(i)
            images = {n: np.roll(a, 3 * i, axis=1) for n, a in self._images.items()}
            yield Observation(
                frame=FrameSet(frame_id=i, mono_ns=ego.mono_ns, images=images),
                ego=ego,
                guidance=Guidance(
                    centreline_m=to_ego_2d(ego, LANE_XY), speed_limit_mps=13.0, source="log"
                ),
            )
