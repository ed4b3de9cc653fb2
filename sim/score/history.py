"""A trace as arrays: the ego, the others side by side in time, what lay under the wheels."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from sim.score import boxes
from sim.score.trace import EGO_COLUMNS, RoadMap, Trace
from sim.town.lanes import arc_length

REACH_M: Final = 150.0
"""Who is farther away than this is not there for any score."""

_C: Final = {name: i for i, name in enumerate(EGO_COLUMNS)}
_REAR_OVERHANG_M: Final = 1.0
"""Rear bumper to rear axle, as vehicle.config has it: "ahead" and "behind" are seen from there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """A trace laid out for vectorised rules. T snapshots, A actors that were ever there.

    Args:
        t_s, dt_s: time of each snapshot; mean time between them.
        road: the ground.
        ego: [T, 9] EGO_COLUMNS.
        actor_ids: [A].
        box: [T, A, 5] x, y, yaw, length, width; far away where the actor is not there.
        speed: [T, A] along each actor's yaw.
        there: bool [T, A], within REACH_M of the ego.
        kind, static: [A] index into KINDS; bool, a thing and not a road user.
        red_light_m: per snapshot [K, 4, 2].
    """

    t_s: np.ndarray
    dt_s: float
    road: RoadMap
    ego: np.ndarray
    actor_ids: np.ndarray
    kind: np.ndarray
    box: np.ndarray
    speed: np.ndarray
    there: np.ndarray
    static: np.ndarray
    red_light_m: tuple[np.ndarray, ...]

    def column(self, name: str) -> np.ndarray:
        """Return one of EGO_COLUMNS over time."""
        return np.asarray(self.ego[:, _C[name]])

    @cached_property
    def centre(self) -> np.ndarray:
        """Return [T, 2] the centre of the ego's body."""
        return np.asarray(self.ego[:, [_C["x_m"], _C["y_m"]]])

    @cached_property
    def ego_box(self) -> np.ndarray:
        """Return [T, 5] the ego's body."""
        names = ("x_m", "y_m", "yaw_rad", "length_m", "width_m")
        return np.asarray(self.ego[:, [_C[n] for n in names]])

    @cached_property
    def ego_velocity(self) -> np.ndarray:
        """Return [T, 2] m/s along world axes."""
        yaw = self.column("yaw_rad")
        heading = np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
        return np.asarray(heading * self.column("speed_mps")[:, None])

    @cached_property
    def velocity(self) -> np.ndarray:
        """Return [T, A, 2] of the actors, m/s along world axes."""
        yaw = self.box[..., 2]
        heading = np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
        return np.asarray(heading * self.speed[..., None])

    @cached_property
    def contact(self) -> np.ndarray:
        """Return bool [T, A]: whose box the ego's touches."""
        reach = np.hypot(self.ego_box[:, 3], self.ego_box[:, 4]).max() / 2
        size = np.hypot(self.box[..., 3], self.box[..., 4]) / 2
        gap = np.hypot(
            self.box[..., 0] - self.centre[:, None, 0], self.box[..., 1] - self.centre[:, None, 1]
        )
        out = np.zeros(self.there.shape, np.bool_)
        t, a = np.nonzero(self.there & (gap <= reach + size + 0.1))
        out[t, a] = boxes.touch(self.ego_box[t], self.box[t, a])
        return out

    @cached_property
    def corners(self) -> np.ndarray:
        """Return [T, 4, 2] of the ego's body."""
        return boxes.corners(self.ego_box)

    @cached_property
    def corner_drivable(self) -> np.ndarray:
        """Return bool [T, 4]."""
        return np.asarray(self.road.drivable(self.corners.reshape(-1, 2))).reshape(-1, 4)

    @cached_property
    def in_junction(self) -> np.ndarray:
        """Return bool [T] for the ego's centre."""
        return np.asarray(self.road.in_junction(self.centre), np.bool_)

    @cached_property
    def off_lane(self) -> np.ndarray:
        """Return bool [T]: not fully inside one lane (partly off the road, between lanes, or with a
        corner in no lane; inside junctions ground that belongs to no lane does not count)."""
        lane = np.asarray(self.road.inside_one_lane(self.corners.reshape(-1, 2))).reshape(-1, 4)
        high = lane.max(axis=1)
        low = np.where(lane < 0, high[:, None], lane).min(axis=1)
        nowhere = (lane < 0).any(axis=1) & ~self.in_junction
        return np.asarray(~self.corner_drivable.all(axis=1) | (low != high) | nowhere)

    @cached_property
    def rear_axle(self) -> np.ndarray:
        """Return [T, 2]."""
        yaw = self.column("yaw_rad")
        back = self.ego_box[:, 3] / 2 - _REAR_OVERHANG_M
        return np.asarray(
            self.centre - back[:, None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
        )

    @cached_property
    def bearing(self) -> np.ndarray:
        """Return [T, A] in 0..pi: direction of each actor's centre from the ego's rear axle."""
        yaw = self.column("yaw_rad")[:, None]
        return bearing_from(self.rear_axle[:, None], yaw, self.box[..., :2])

    @cached_property
    def along(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the centre's place on the route: arc length [T] and distance [T], metres."""
        return follow_line(self.centre, self.road.centreline())


def bearing_from(origin: np.ndarray, yaw_rad: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the angle in 0..pi between a heading and the direction of points."""
    d = points - origin
    along = d[..., 0] * np.cos(yaw_rad) + d[..., 1] * np.sin(yaw_rad)
    across = -d[..., 0] * np.sin(yaw_rad) + d[..., 1] * np.cos(yaw_rad)
    return np.asarray(np.arctan2(np.abs(across), along))


def history_of(trace: Trace) -> History:
    """Return the trace as arrays."""
    ids = np.unique(np.concatenate([s.actors["actor_id"] for s in trace]))
    n, m = len(trace), len(ids)
    box = np.zeros((n, m, 5))
    box[..., :2] = 1e7
    speed, there = np.zeros((n, m)), np.zeros((n, m), np.bool_)
    static, kind = np.zeros(m, np.bool_), np.zeros(m, np.int64)
    for t, snap in enumerate(trace):
        rows = snap.actors
        at = np.searchsorted(ids, rows["actor_id"])
        for k, name in enumerate(("x_m", "y_m", "yaw_rad", "length_m", "width_m")):
            box[t, at, k] = rows[name]
        apart = np.hypot(rows["x_m"] - snap.ego.x_m, rows["y_m"] - snap.ego.y_m)
        speed[t, at], there[t, at] = rows["speed_mps"], apart < REACH_M
        static[at], kind[at] = rows["static"], rows["kind"]
    return History(
        t_s=trace.t_s, dt_s=trace.dt_s, road=trace.road, ego=trace.ego, actor_ids=ids, kind=kind,
        box=box, speed=speed, there=there, static=static,
        red_light_m=tuple(s.red_light_m for s in trace),
    )  # fmt: skip


def follow_line(points_m: np.ndarray, line_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return arc length [N] and distance [N] of points that move along a line.

    Each point is searched near the one before (5 m back, 15 m plus its own step ahead), so that a
    route that crosses itself is followed in order. The first point takes the earliest stretch of
    the line that is within half a metre of the nearest one.

    Args:
        points_m: [N, 2] in order of time.
        line_m: [P, 2], P >= 2.
    """
    s = arc_length(line_m)
    start, step = line_m[:-1], np.diff(line_m, axis=0)
    square = np.maximum((step**2).sum(axis=1), 1e-18)
    out_s, out_d = np.zeros(len(points_m)), np.zeros(len(points_m))
    low, high = 0, len(step)
    for i, p in enumerate(points_m):
        u = np.clip(((p - start[low:high]) * step[low:high]).sum(axis=1) / square[low:high], 0, 1)
        foot = start[low:high] + u[:, None] * step[low:high]
        d = np.hypot(foot[:, 0] - p[0], foot[:, 1] - p[1])
        k = int(np.argmin(d))
        if i == 0:
            k = _earliest(d)
        out_s[i] = s[low + k] + u[k] * (s[low + k + 1] - s[low + k])
        out_d[i] = d[k]
        if i + 1 < len(points_m):
            move = float(np.hypot(*(points_m[i + 1] - p)))
            low = max(int(np.searchsorted(s, out_s[i] - 5.0 - move, "right")) - 1, 0)
            high = min(int(np.searchsorted(s, out_s[i] + 15.0 + move)), len(step))
            high = max(high, low + 1)
    return out_s, out_d


def _earliest(d: np.ndarray) -> int:
    """Return the nearest segment of the first stretch about as near as the nearest of all."""
    near = d <= d.min() + 0.5
    first = int(np.argmax(near))
    end = first + int(np.argmin(np.append(near[first:], False)))
    return first + int(np.argmin(d[first:end]))
