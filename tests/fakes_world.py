"""A straight road of two lanes in one direction, on which a test can put whom it likes."""

import math
from dataclasses import replace

import numpy as np

from sim.rivals.cases import NO_CAMERAS
from sim.score.boxes import touch
from sim.score.trace import ACTOR_STATE, EgoSample, Snapshot, no_polygons
from sim.sense.truth import true_scene
from sim.users.dynamics import Motion, advance
from vehicle.config import VehicleConfig
from vehicle.contracts.ego import ControlCommand, EgoState, Guidance
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.scene import KINDS

REACH_M = 1.35
LANE_M = 3.5


class StraightRoad:
    """Lane 0 around y = 0, lane 1 left of it, along x, without end."""

    def drivable(self, points_m):
        return (points_m[:, 1] >= -LANE_M / 2) & (points_m[:, 1] <= 1.5 * LANE_M)

    on_route_lane = drivable

    def in_junction(self, points_m):
        return np.zeros(len(points_m), np.bool_)

    def inside_one_lane(self, points_m):
        lane = np.floor((points_m[:, 1] + LANE_M / 2) / LANE_M).astype(np.int64)
        return np.where(self.drivable(points_m), lane, -1)

    def centreline(self):
        return np.array([[-10.0, 0.0], [1_000.0, 0.0]])

    def speed_limit_mps(self, points_m):
        return np.full(len(points_m), 10.0)

    def flow_yaw(self, points_m):
        return np.where(self.drivable(points_m), 0.0, np.nan)


class StraightWorld:
    """The ego on lane 0 at x = 0, and actors that keep their speed.

    Args:
        actors: rows of x, y, speed; cars of 4.5 x 1.8 m.
        red_m: x of a red light's stop line.
    """

    def __init__(self, actors=(), *, speed=8.0, seconds=10.0, rate_hz=10.0, red_m=None):
        self.rate_hz, self.rig, self.frame_id = rate_hz, NO_CAMERAS, 0
        self.road, self.expert = StraightRoad(), None
        self.motion = Motion(x_m=-REACH_M, y_m=0.0, yaw_rad=0.0, speed_mps=speed)
        self.commands = []
        self._ticks, self._red_m = round(seconds * rate_hz), red_m
        self._actors = np.zeros(len(actors), ACTOR_STATE)
        for i, (x, y, v) in enumerate(actors):
            row = (i + 1, KINDS.index("car"), x, y, 0.0, v, 4.5, 1.8, False)
            self._actors[i] = row

    @property
    def done(self):
        return self.frame_id >= self._ticks

    def observe(self, *, truth=False):
        m = self.motion
        mono_ns = round(self.frame_id * 1e9 / self.rate_hz)
        x = np.arange(-5.0, 90.0)
        c, s = math.cos(m.yaw_rad), math.sin(m.yaw_rad)
        line = np.column_stack([c * x - s * -m.y_m, -s * x + c * -m.y_m])
        ego = EgoState(
            mono_ns=mono_ns, x_m=m.x_m, y_m=m.y_m, yaw_rad=m.yaw_rad, speed_mps=m.speed_mps,
            accel_mps2=m.accel_mps2, curvature_1pm=m.curvature_1pm,
        )  # fmt: skip
        pose = np.array([m.x_m, m.y_m, m.yaw_rad])
        return Observation(
            frame=FrameSet(frame_id=self.frame_id, mono_ns=mono_ns),
            ego=ego,
            guidance=Guidance(centreline_m=line, speed_limit_mps=10.0, lane_width_m=LANE_M),
            traffic=true_scene(self._table(), pose, self.frame_id, mono_ns) if truth else None,
        )

    def _table(self):
        table = np.zeros(len(self._actors), [*ACTOR_STATE.descr, ("height_m", np.float64)])
        for name in ACTOR_STATE.names:
            table[name] = self._actors[name]
        table["height_m"] = 1.5
        return table

    def step(self, command):
        assert isinstance(command, ControlCommand)
        self.commands.append(command)
        dt = 1.0 / self.rate_hz
        self.motion = advance(
            self.motion, command.accel_mps2, command.curvature_1pm, dt, VehicleConfig()
        )
        self._actors["x_m"] += self._actors["speed_mps"] * dt
        self.frame_id += 1

    def truth(self):
        raise AssertionError("no labels without cameras")

    def snapshot(self):
        m = self.motion
        ego = EgoSample(
            x_m=m.x_m + REACH_M * math.cos(m.yaw_rad), y_m=m.y_m + REACH_M * math.sin(m.yaw_rad),
            yaw_rad=m.yaw_rad, speed_mps=m.speed_mps, accel_mps2=m.accel_mps2,
            yaw_rate_radps=m.speed_mps * m.curvature_1pm, curvature_1pm=m.curvature_1pm,
        )  # fmt: skip
        body = np.array([ego.x_m, ego.y_m, ego.yaw_rad, ego.length_m, ego.width_m])
        names = ("x_m", "y_m", "yaw_rad", "length_m", "width_m")
        boxes = np.column_stack([self._actors[n] for n in names]).reshape(-1, 5)
        hit = self._actors["actor_id"][touch(body, boxes)] if len(boxes) else []
        red = no_polygons()
        if self._red_m is not None:
            a, b = self._red_m, self._red_m + 2.0
            red = np.array([[[a, -1.75], [b, -1.75], [b, 1.75], [a, 1.75]]])
        return Snapshot(
            t_s=self.frame_id / self.rate_hz,
            ego=replace(ego),
            actors=self._actors.copy(),
            red_light_m=red,
            collided=tuple((0, int(i)) for i in hit),
        )
