"""Where the ego is going: a route through the lane graph, and a driver that can follow it."""

import math

import numpy as np

from sim.town.world import Town
from sim.users.dynamics import Motion
from sim.users.lanechange import neighbours
from sim.users.traffic import idm_accel, nearest_gap
from vehicle.config import VehicleConfig
from vehicle.contracts.ego import Guidance

_AHEAD_M = 90
_BEHIND_M = 5
_LINE_BEFORE_END_M = 5.0
"""Where one waits before a junction, as sim.town.lights has the painted stop line."""


class Route:
    """A path along lane centres, 1 m points, growing as the ego drives; `lanes` in order."""

    def __init__(self, town: Town, lane: int, rng: np.random.Generator) -> None:
        self.town, self._rng = town, rng
        self.lanes = [lane]
        self._points = [self._line(lane)]
        self._owner = [np.full(len(self._points[0]), lane)]
        self._beside = neighbours(town.lanes)
        self._yield_s_m = np.full(len(town.lanes.length_m), np.inf)
        self.index = 0
        self._join()

    def _line(self, lane: int) -> np.ndarray:
        g = self.town.lanes
        rows = slice(int(g.start[lane]), int(g.start[lane + 1]))
        return np.column_stack([g.points_m[rows], g.yaw_rad[rows]])

    def _join(self) -> None:
        while sum(map(len, self._points)) - self.index < _AHEAD_M + 30:
            options = self.town.lanes.successors[self.lanes[-1]]
            options = options[options >= 0]
            if not len(options):  # the edge of an imported map
                break
            lane = int(self._rng.choice(options))
            line = self._line(lane)[1:]
            if self.town.lanes.conflicts[lane].any():
                length = float(self.town.lanes.length_m[self.lanes[-1]])
                at = max(length - _LINE_BEFORE_END_M, 0.5 * length)
                self._yield_s_m[self.lanes[-1]] = at
            self.lanes.append(lane)
            self._points.append(line)
            self._owner.append(np.full(len(line), lane))
        self.path = np.concatenate(self._points)
        self.owner = np.concatenate(self._owner)

    def follow(self, motion: Motion) -> None:
        """Move on to the point nearest to the rear axle, looking a little ahead only."""
        window = self.path[self.index : self.index + 25]
        d = np.hypot(window[:, 0] - motion.x_m, window[:, 1] - motion.y_m)
        self.index += int(np.argmin(d))
        self._join()

    @property
    def left_m(self) -> float:
        """Return the metres of route left; inf while it grows on."""
        ends = (self.town.lanes.successors[self.lanes[-1]] < 0).all()
        return float(len(self.path) - 1 - self.index) if ends else math.inf

    @property
    def lane(self) -> int:
        """Return the lane the ego is on."""
        return int(self.owner[self.index])

    def stop_ahead_m(self, stop_s_m: np.ndarray) -> float:
        """Return the metres from the rear axle to the next place to stop, inf where none is near.

        Args:
            stop_s_m: [L] how far along each lane one must stop, inf where one need not.
        """
        begin = 0
        for lane, points in zip(self.lanes, self._points, strict=True):
            if begin > self.index + _AHEAD_M:
                break
            whole = self.town.lanes.length_m[lane]
            if np.isfinite(stop_s_m[lane]):
                at = begin - (begin > 0) + stop_s_m[lane] / whole * (len(points) - 1 + (begin > 0))
                if at - self.index > 0.0:
                    return float(at - self.index)
            begin += len(points)
        return math.inf

    def claims(self) -> np.ndarray:
        """Return the connector the ego is on and the one it is about to enter, -1 for none."""
        soon = self.owner[min(self.index + 24, len(self.owner) - 1)]
        lanes = np.array([self.owner[self.index], soon], np.int64)
        return np.where(self.town.lanes.junction[lanes] >= 0, lanes, -1)

    def guidance(self, motion: Motion, stop_s_m: np.ndarray | None = None) -> Guidance:
        """Return the lane centre ahead, in the ego frame, and the lines to wait at.

        Args:
            stop_s_m: [L] how far along each lane the stop line of its light is, inf where it has
                none; None where there are no lights.
        """
        start = max(min(self.index - _BEHIND_M, len(self.path) - 2), 0)
        line = self.path[start : self.index + _AHEAD_M, :2]
        c, s = math.cos(motion.yaw_rad), math.sin(motion.yaw_rad)
        d = line - [motion.x_m, motion.y_m]
        centre = np.stack([c * d[:, 0] + s * d[:, 1], -s * d[:, 0] + c * d[:, 1]], axis=1)
        g, give_way = self.town.lanes, self._yield_s_m
        if stop_s_m is not None:
            give_way = np.where(np.isfinite(stop_s_m), np.inf, give_way)
        left, right = self._beside_m()
        return Guidance(
            centreline_m=centre,
            speed_limit_mps=float(g.speed_mps[self.lane]),
            lane_width_m=g.lane_width_m if g.width_m is None else float(g.width_m[self.lane]),
            stop_m=None if stop_s_m is None else self._ahead_m(stop_s_m),
            yield_m=self._ahead_m(give_way),
            left_lane_m=left,
            right_lane_m=right,
        )

    def _ahead_m(self, line_s_m: np.ndarray) -> float | None:
        ahead = self.stop_ahead_m(line_s_m)
        return ahead if ahead < math.inf else None

    def _beside_m(self) -> tuple[float, float]:
        """Return how far a lane of the same direction goes on at the left and at the right."""
        left, right = self._beside[self.lane]
        if left < 0 and right < 0:
            return 0.0, 0.0
        end = self.index + int(np.argmax(np.append(self.owner[self.index :], -1) != self.lane))
        room = float(end - self.index)
        return (room if left >= 0 else 0.0), (room if right >= 0 else 0.0)


def drive_by_truth(
    route: Route,
    motion: Motion,
    table: np.ndarray,
    config: VehicleConfig,
    stop_m: float = math.inf,
) -> tuple[float, float]:
    """Return acceleration and curvature of a driver who sees everything: IDM and pure pursuit.

    Args:
        stop_m: from the rear axle to where the bumper must not go, inf for nowhere.

    Source: Coulter, "Implementation of the pure pursuit path tracking algorithm" (1992).
    """
    v, path, i = motion.speed_mps, route.path, route.index
    reach = int(4 + 0.6 * v)
    target = path[min(i + reach, len(path) - 1)]
    dx, dy = target[0] - motion.x_m, target[1] - motion.y_m
    c, s = math.cos(motion.yaw_rad), math.sin(motion.yaw_rad)
    x, y = c * dx + s * dy, -s * dx + c * dy
    curvature = 2.0 * y / max(x * x + y * y, 1.0)
    look = np.interp(np.arange(40) * 1.5 + 1.4 + i, np.arange(len(path)), np.arange(len(path)))
    steps = np.clip(look.round().astype(int), 0, len(path) - 1)
    ahead = np.ascontiguousarray(path[steps])
    gap, closing = nearest_gap(
        ahead, 40, config.length_m, config.width_m, v, -1, table, np.zeros(6)
    )
    clear = min(stop_m, route.left_m) - (config.length_m - config.rear_overhang_m)
    if -1.0 < clear < gap:
        gap, closing = max(clear, 0.05), v
    turns = np.diff(path[i : i + 25, 2])
    bend = np.abs((turns + math.pi) % (2 * math.pi) - math.pi).max(initial=1e-3)
    wish = min(
        0.9 * float(route.town.lanes.speed_mps[route.lane]), math.sqrt(2.2 / max(bend, 1e-3))
    )
    return float(idm_accel(v, wish, gap, closing)), curvature
