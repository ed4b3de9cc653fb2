"""What a recorded map says about points on its ground, and the ego's route through it.

Implements sim.score.trace.RoadMap: areas come from the class raster of the ground, lanes from
buckets of lane points (sim.town.roadmap). Where a map does not say which lanes cross a junction,
those do whose centres cross another lane's at an angle.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from sim.recorded.logged_ground import JUNCTION, extent, make_ground
from sim.recorded.logged_route import RoutePath, plan_route
from sim.recorded.logged_scene import Lane, LoggedScene
from sim.town.lanes import arc_length, headings, resample
from sim.town.paint import CELL_M, Ground
from sim.town.roadmap import LaneIndex, bucketed
from vehicle.contracts.scene import BEV_DRIVABLE

_CROSS_M: Final = 2.0
_CROSS_RAD: Final = (math.radians(35.0), math.radians(145.0))
_ON_M, _ON_RAD = 1.6, 0.5
_BESIDE_M, _BESIDE_RAD = 9.0, 0.35
_ENOUGH: Final = 20
"""Metres of a lane along the route that make it a lane of the route, however long it is."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedMap:
    """The ground of a recorded scene, for scores and labels.

    Args:
        ground: rasters; the class raster marks drivable ground, paint and junctions.
        route: of the ego.
        index: lane points in buckets; the last lane is the route itself where no lane is.
        rank: int64 [L], 2 lanes of the route, 1 lanes beside it in its direction, else 0.
        limits_mps: [L], inf where the map does not say.
        end: point of the route at which the recorded map ends.
    """

    ground: Ground
    route: RoutePath
    index: LaneIndex
    rank: np.ndarray
    limits_mps: np.ndarray
    end: int

    def drivable(self, points_m: np.ndarray) -> np.ndarray:
        """Return bool [N]: on drivable ground of the map."""
        return (self._bits(points_m) & BEV_DRIVABLE) != 0

    def in_junction(self, points_m: np.ndarray) -> np.ndarray:
        """Return bool [N]: inside a lane that crosses others."""
        return (self._bits(points_m) & JUNCTION) != 0

    def on_route_lane(self, points_m: np.ndarray) -> np.ndarray:
        """Return bool [N]: inside a lane of the route or one beside it in its direction."""
        lane, _ = self.index.locate(points_m, self.rank)
        return (lane >= 0) & (self.rank[lane] > 0)

    def inside_one_lane(self, points_m: np.ndarray) -> np.ndarray:
        """Return int64 [N]: the lane each point is in, -1 outside; lanes one after another along
        the route count as the one that comes first, and lanes beside it as their own."""
        lane, _ = self.index.locate(points_m, self.rank)
        first = int(np.argmax(self.rank == 2)) if (self.rank == 2).any() else -1
        return np.where((lane >= 0) & (self.rank[lane] == 2), first, lane)

    def centreline(self) -> np.ndarray:
        """Return float64 [P, 2]: the ego's route."""
        return self.route.path[:, :2].copy()

    def speed_limit_mps(self, points_m: np.ndarray) -> np.ndarray:
        """Return float64 [N]: the limit of the lane there or of the nearest; inf if not known."""
        points = np.asarray(points_m, np.float64).reshape(-1, 2)
        lane, _ = self.index.locate(points, self.rank)
        out = lane < 0
        if out.any():
            lane[out] = self.index.nearest(points[out])
        return self.limits_mps[lane]

    def flow_yaw(self, points_m: np.ndarray) -> np.ndarray:
        """Return float64 [N]: direction of traffic; NaN off-lane and inside junctions."""
        _, yaw = self.index.locate(points_m, np.zeros(len(self.rank), np.int64))
        return np.where(self.in_junction(points_m), np.nan, yaw)

    def _bits(self, points_m: np.ndarray) -> np.ndarray:
        points = np.asarray(points_m, np.float64).reshape(-1, 2)
        origin = np.array(self.ground.origin_m)
        px = np.floor((np.nan_to_num(points, nan=-1e6) - origin) / CELL_M).astype(np.int64)
        h, w = self.ground.classes.shape
        inside = (px >= 0).all(axis=1) & (px[:, 0] < w) & (px[:, 1] < h)
        px = np.where(inside[:, None], px, 0)
        return np.where(inside, self.ground.classes[px[:, 1], px[:, 0]], 0)


def build_map(scene: LoggedScene) -> LoggedMap:
    """Return the map of a scene with the ego at the start of its own copy of the route.

    Raises:
        NoRoadError, TooLargeError: see sim.recorded.logged_ground.
    """
    built = _built(scene)
    return replace(built, route=replace(built.route))


@lru_cache(maxsize=2)
def _built(scene: LoggedScene) -> LoggedMap:
    low, high = extent(scene)
    lanes = [
        lane
        for lane in scene.lanes
        if (lane.centre_m.max(axis=0) >= low).all() and (lane.centre_m.min(axis=0) <= high).all()
        if float(arc_length(lane.centre_m)[-1]) > 0.5
    ]
    lines = [resample(lane.centre_m, 1.0) for lane in lanes]
    crossing = junction_lanes(lanes, lines)
    ground = make_ground(scene, [lanes[i].outline_m for i in np.flatnonzero(crossing)])
    route = plan_route(scene)
    rank = _rank(lines, route.path)
    path = route.path
    known = np.zeros(len(path), bool)
    if lines:
        index = _index(lanes, lines, [])
        known = index.locate(path[:, :2], np.zeros(len(lines), np.int64))[0] >= 0
    index = _index(lanes, lines, [path[~known]] if (~known).any() else [])
    if (~known).any():
        rank = np.append(rank, 2)
    limits = [lane.speed_mps or math.inf for lane in lanes] + [math.inf] * bool((~known).any())
    built = LoggedMap(
        ground=ground, route=route, index=index, rank=rank, limits_mps=np.array(limits), end=0
    )
    off = ~built.drivable(path[:, :2])
    off[: route.sure] = False
    return replace(built, end=int(np.argmax(off)) if off.any() else len(path))


def _index(lanes: list[Lane], lines: list[np.ndarray], extra: list[np.ndarray]) -> LaneIndex:
    """Return buckets of all lane points; `extra` holds x, y, yaw of one more lane."""
    yaws = [headings(line) for line in lines] + [e[:, 2] for e in extra]
    every = [*lines, *(e[:, :2] for e in extra)]
    owner = np.repeat(np.arange(len(every)), [len(line) for line in every])
    widths = [lane.width_m for lane in lanes] + [3.5] * len(extra)
    return bucketed(
        np.concatenate(every), np.concatenate(yaws), owner, np.array(widths, np.float64) / 2
    )


def _rank(lines: list[np.ndarray], path: np.ndarray) -> np.ndarray:
    """Return 2 for lanes the route follows, 1 for lanes beside it in its direction, else 0."""
    rank = np.zeros(len(lines), np.int64)
    low, high = path[:, :2].min(axis=0) - 12.0, path[:, :2].max(axis=0) + 12.0
    for i, line in enumerate(lines):
        if (line.max(axis=0) < low).any() or (line.min(axis=0) > high).any():
            continue
        d = np.hypot(line[:, None, 0] - path[None, :, 0], line[:, None, 1] - path[None, :, 1])
        near = d.argmin(axis=1)
        gap = d[np.arange(len(line)), near]
        turn = np.abs(np.arctan2(*_sin_cos(headings(line) - path[near, 2])))
        for value, far, angle in ((1, _BESIDE_M, _BESIDE_RAD), (2, _ON_M, _ON_RAD)):
            count = int(((gap < far) & (turn < angle)).sum())
            if count >= min(max(3, 0.5 * len(line)), _ENOUGH):
                rank[i] = value
    return rank


def _sin_cos(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.sin(angle), np.cos(angle)


def junction_lanes(lanes: list[Lane], lines: list[np.ndarray]) -> np.ndarray:
    """Return bool [L]: lanes that the map calls crossing, or whose centre crosses another's."""
    out = np.array([bool(lane.junction) for lane in lanes], bool)
    asked = [i for i, lane in enumerate(lanes) if lane.junction is None]
    if not asked:
        return out
    rows = [(line[::2], np.full(len(line[::2]), i)) for i, line in enumerate(lines)]
    points = np.concatenate([p for p, _ in rows]).astype(np.float32)
    owner = np.concatenate([o for _, o in rows])
    yaw = np.concatenate([headings(line)[::2] for line in lines]).astype(np.float32)
    for i in asked:
        mine = points[owner == i]
        low, high = mine.min(axis=0) - _CROSS_M, mine.max(axis=0) + _CROSS_M
        near = np.flatnonzero((owner != i) & ((points >= low) & (points <= high)).all(axis=1))
        if not len(near):
            continue
        d = np.hypot(mine[:, None, 0] - points[near, 0], mine[:, None, 1] - points[near, 1])
        turn = yaw[owner == i][:, None] - yaw[near]
        turn = np.abs(np.arctan2(*_sin_cos(turn)))
        out[i] = ((d < _CROSS_M) & (turn > _CROSS_RAD[0]) & (turn < _CROSS_RAD[1])).any()
    return out
