"""What is true of the way ahead: the lines of the ego's lane, and the light that rules its route.

Both come from the map and from what the lamps show, not from pixels; whether a lamp can be seen is
read from the depth of the front cameras.
"""

import math
from typing import Final

import numpy as np

from sim.sense.sensors import Shot
from sim.town.lanes import LaneGraph
from sim.town.lights import GREEN, RED, YELLOW, Heads, Signals
from sim.town.world import Town
from sim.users.navigation import Route
from vehicle.contracts.frame import Rig
from vehicle.contracts.sample import LIGHT_UNLABELLED
from vehicle.contracts.scene import BEV_BOX, SIGNAL_STATES, Signal
from vehicle.geometry import project
from vehicle.preprocess import FRONT_CAMERAS

LIGHT_REACH_M: Final = 60.0
"""A stop line farther off along the route is not the ego's yet."""

_NAME_OF: Final = {RED: "red", YELLOW: "yellow", GREEN: "green"}
_BEHIND_M: Final = 45
_AHEAD_M: Final = 90
_LEAST_COS: Final = 0.3
"""A stretch that leads further aside than this (72 degrees) has no place in rows across."""
_BESIDE_M: Final = 0.7
_LEAST_CONTRAST_RATIO: Final = 0.05
"""Below this nobody sees a thing in fog (Koschmieder 1924)."""
_LAMP_DEEP_M: Final = 0.6

ROWS_M: Final = BEV_BOX.x_min_m + (np.arange(BEV_BOX.nx) + 0.5) * BEV_BOX.cell_m
"""The x, ego frame, at which lines are labelled."""


class LaneLines:
    """The boundaries of the lane the ego is on, and of the lanes beside it, in one town."""

    def __init__(self, town: Town) -> None:
        self._lanes = town.lanes
        self._widths = town.lanes.widths()
        self._beside: dict[int, tuple[bool, bool]] = {}

    def label(self, route: Route, pose: np.ndarray) -> np.ndarray:
        """Return float32 [4, 50] (LANE_LINES at ROWS_M), NaN where there is none.

        Args:
            route: of the ego; the lane it leads along is the ego's own.
            pose: x, y, yaw of the ego frame in town.
        """
        first = max(route.index - _BEHIND_M, 0)
        path = route.path[first : route.index + _AHEAD_M]
        owner = route.owner[first : route.index + _AHEAD_M]
        turn = path[:, 2] - pose[2]
        stretch = _around(np.cos(turn) > _LEAST_COS, route.index - first)
        owner, turn = owner[stretch], turn[stretch]
        c, s = math.cos(pose[2]), math.sin(pose[2])
        dx, dy = path[stretch, 0] - pose[0], path[stretch, 1] - pose[1]
        x, y = c * dx + s * dy, -s * dx + c * dy
        road = self._lanes.junction[owner] < 0
        beside = np.array([self._has_beside(int(lane)) for lane in owner], bool).reshape(-1, 2)
        there = (road & beside[:, 0], road, road, road & beside[:, 1])
        out = np.full((4, len(ROWS_M)), np.nan, np.float32)
        for line, sides in enumerate((1.5, 0.5, -0.5, -1.5)):
            left = sides * self._widths[owner]
            out[line] = _cross(x - np.sin(turn) * left, y + np.cos(turn) * left, there[line])
        return out

    def _has_beside(self, lane: int) -> tuple[bool, bool]:
        if lane not in self._beside:
            self._beside[lane] = _beside(self._lanes, lane, float(self._widths[lane]))
        return self._beside[lane]


def _around(good: np.ndarray, at: int) -> slice:
    """Return the longest run of `good` around an index; empty if it is not good there."""
    bad = np.flatnonzero(~good)
    if not good[at]:
        return slice(0, 0)
    before, after = bad[bad < at], bad[bad > at]
    return slice(
        int(before[-1]) + 1 if len(before) else 0, int(after[0]) if len(after) else len(good)
    )


def _cross(x: np.ndarray, y: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the y at which a line crosses each row, NaN beyond its ends and where it is not."""
    if len(x) < 2:
        return np.full(len(ROWS_M), np.nan)
    onward = np.append(True, x[1:] > np.maximum.accumulate(x)[:-1])
    x, y, there = x[onward], y[onward], there[onward]
    found = np.interp(ROWS_M, x, y, left=np.nan, right=np.nan)
    whole = np.interp(ROWS_M, x, there.astype(np.float64)) > 1.0 - 1e-6
    inside = np.abs(np.nan_to_num(found)) < -BEV_BOX.y_min_m
    return np.where(whole & inside, found, np.nan)


def _beside(lanes: LaneGraph, lane: int, width_m: float) -> tuple[bool, bool]:
    """Return whether a lane of either direction runs along the left and the right of a lane."""
    x, y, yaw = lanes.pose(lane, float(lanes.length_m[lane]) / 2)
    owner = np.repeat(np.arange(len(lanes.length_m)), np.diff(lanes.start))
    near = np.hypot(lanes.points_m[:, 0] - x, lanes.points_m[:, 1] - y) < 2.0 * width_m
    near &= (lanes.junction[owner] < 0) & (owner != lane)
    points, turns = lanes.points_m[near] - [x, y], lanes.yaw_rad[near] - yaw
    points = points[np.abs(np.cos(turns)) > 0.9]
    left = points @ [-math.sin(yaw), math.cos(yaw)]
    return (
        bool((np.abs(left - width_m) < _BESIDE_M).any()),
        bool((np.abs(left + width_m) < _BESIDE_M).any()),
    )


def signal_ahead(route: Route, signals: Signals | None, t_s: float) -> tuple[Signal, int]:
    """Return the light that rules the route within LIGHT_REACH_M, and its approach (-1: none).

    Args:
        signals: of the town, None where there are none.
        t_s: time of the episode.
    """
    nobody = Signal(state="none", source="truth"), -1
    if signals is None:
        return nobody
    way_m = route.stop_ahead_m(signals.stop_s_m)
    if not way_m <= LIGHT_REACH_M:
        return nobody
    lane = int(route.owner[min(route.index + int(way_m), len(route.owner) - 1)])
    row = int(signals.row_of_lane[lane])
    state = _NAME_OF[int(signals.state(t_s)[row])] if row >= 0 else "none"
    return Signal(state=state, distance_m=way_m, source="truth"), row  # type: ignore[arg-type]


def light_label(
    signal: Signal, row: int, heads: Heads | None, shot: Shot, rig: Rig, pose: np.ndarray,
    extinction_1pm: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """Return float32 [2] (LIGHT_COLUMNS); unlabelled when no front camera sees the lit lamp.

    Args:
        signal, row: from `signal_ahead`.
        heads: of the town.
        shot: depths of the cameras of `rig`, seen from `pose`.
        pose: x, y, yaw of the ego frame in town.
        extinction_1pm: of the air.
    """
    if row < 0 or heads is None:
        return np.array([SIGNAL_STATES.index("none"), np.nan], np.float32)
    lamps_ego = _lamps(heads, row, _lamp_of(signal.state), pose)
    far_m = float(np.hypot(lamps_ego[:, 0], lamps_ego[:, 1]).min())
    murky = math.exp(-extinction_1pm * far_m) < _LEAST_CONTRAST_RATIO
    if murky or not _in_sight(lamps_ego, shot, rig):
        return np.array([LIGHT_UNLABELLED, np.nan], np.float32)
    return np.array([SIGNAL_STATES.index(signal.state), signal.distance_m], np.float32)


def _lamp_of(state: str) -> int:
    return next(lamp for lamp, name in _NAME_OF.items() if name == state)


def _lamps(heads: Heads, row: int, lamp: int, pose: np.ndarray) -> np.ndarray:
    """Return the middle of a lamp on each head of an approach, float64 [2, 3], ego frame."""
    quads = heads.scenery.mesh.quads[heads.lamps[row, :, lamp]].astype(np.float64)
    middles = quads.reshape(2, -1, 3).mean(axis=1)
    c, s = math.cos(pose[2]), math.sin(pose[2])
    d = middles[:, :2] - pose[:2]
    return np.column_stack([c * d[:, 0] + s * d[:, 1], -s * d[:, 0] + c * d[:, 1], middles[:, 2]])


def _in_sight(points_ego: np.ndarray, shot: Shot, rig: Rig) -> bool:
    """Return whether a front camera has any of the points in its picture with nothing before."""
    for camera in rig.cameras[:FRONT_CAMERAS]:
        uv_px, deep_m = project(camera, points_ego)
        u, v = np.round(uv_px).astype(int).T
        inside = (deep_m > 0.0) & (u >= 0) & (u < camera.width_px)
        inside &= (v >= 0) & (v < camera.height_px)
        seen_m = shot.depths_m[camera.name][v[inside], u[inside]]
        if (np.abs(seen_m - deep_m[inside]) < _LAMP_DEEP_M).any():
            return True
    return False
