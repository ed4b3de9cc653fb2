"""What a town says about points on its ground: drivable, which lane, junction, flow, limit.

Implements sim.score.trace.RoadMap for towns. Lane questions go through buckets of lane points, area
questions through a raster; both are built once per town and shared by its episodes.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numba import njit

from sim.town.lanes import LaneGraph
from sim.town.outline import band
from sim.town.paint import CELL_M
from sim.town.world import Town
from sim.users.navigation import Route
from vehicle.contracts.scene import BEV_DRIVABLE

_BUCKET_M: Final = 4.0
_SLACK_M: Final = 0.75
"""Half the spacing of lane points and what a bend adds: how far along a point may be off one."""
_JUNCTION: Final = 2
_ON_ROUTE: Final = 2
_BESIDE_ROUTE: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LaneIndex:
    """Lane points sorted into square buckets.

    Args:
        low_m: corner of bucket [0, 0].
        shape: int64 [2], buckets along x and y.
        first: int64 [B + 1]; bucket b owns rows first[b]:first[b + 1] of the arrays below.
        points_m, yaw_rad, lane: [P, 2], [P], [P], in bucket order.
        half_m: [L], half the width of each lane.
    """

    low_m: np.ndarray
    shape: np.ndarray
    first: np.ndarray
    points_m: np.ndarray
    yaw_rad: np.ndarray
    lane: np.ndarray
    half_m: np.ndarray

    def locate(self, points_m: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return int64 [N] the lane each point is in, -1 for none, and its yaw there (NaN).

        Args:
            rank: int64 [L]; where lanes overlap the highest wins, then the nearer centre.
        """
        points = np.ascontiguousarray(points_m, np.float64).reshape(-1, 2)
        return _locate(
            points, rank, self.low_m, self.shape, self.first, self.points_m, self.yaw_rad,
            self.lane, self.half_m,
        )  # fmt: skip

    def nearest(self, points_m: np.ndarray) -> np.ndarray:
        """Return int64 [N] the lane whose centre is nearest, however far."""
        points = np.ascontiguousarray(points_m, np.float64).reshape(-1, 2)
        return _nearest(points, self.points_m, self.lane)


class TownMap:
    """The ground of one episode: a town, and the route of the ego through it, as it grows.

    Args:
        town: where.
        route: of the ego; read anew at each question.
    """

    def __init__(self, town: Town, route: Route) -> None:
        self.town, self.route = town, route
        self._index = lane_index(town)
        self._areas = area_raster(town)
        self._plain = np.zeros(len(town.lanes.length_m), np.int64)
        self._rank = self._plain
        self._ranked = 0

    def drivable(self, points_m: np.ndarray) -> np.ndarray:
        """Return bool [N]: road, junction or parking bay."""
        return (self._bits(points_m) & BEV_DRIVABLE) != 0

    def in_junction(self, points_m: np.ndarray) -> np.ndarray:
        """Return bool [N]: inside a junction."""
        return (self._bits(points_m) & _JUNCTION) != 0

    def on_route_lane(self, points_m: np.ndarray) -> np.ndarray:
        """Return bool [N]: inside a lane of the route or one parallel to it."""
        rank = self._ranks()
        lane, _ = self._index.locate(points_m, rank)
        return (lane >= 0) & (rank[lane] > 0)

    def inside_one_lane(self, points_m: np.ndarray) -> np.ndarray:
        """Return int64 [N]: the lane each point is in, the route's where lanes overlap, or -1.

        The lanes of the route count as one, the first: a car half over the stop line has not
        changed lanes.
        """
        rank = self._ranks()
        lane, _ = self._index.locate(points_m, rank)
        followed = (lane >= 0) & (rank[lane] == _ON_ROUTE)
        return np.where(followed, self.route.lanes[0], lane)

    def centreline(self) -> np.ndarray:
        """Return float64 [P, 2]: the route from where the episode began to its known end."""
        return self.route.path[:, :2].copy()

    def speed_limit_mps(self, points_m: np.ndarray) -> np.ndarray:
        """Return float64 [N]: the limit of the lane each point is in, or of the nearest."""
        lane, _ = self._index.locate(points_m, self._ranks())
        out = lane < 0
        if out.any():
            lane[out] = self._index.nearest(np.asarray(points_m, np.float64).reshape(-1, 2)[out])
        return self.town.lanes.speed_mps[lane]

    def flow_yaw(self, points_m: np.ndarray) -> np.ndarray:
        """Return float64 [N]: direction of traffic, NaN off-lane and inside junctions."""
        lane, yaw = self._index.locate(points_m, self._plain)
        crossing = (self.town.lanes.junction[lane] >= 0) & (lane >= 0)
        return np.where(crossing | self.in_junction(points_m), np.nan, yaw)

    def _bits(self, points_m: np.ndarray) -> np.ndarray:
        points = np.asarray(points_m, np.float64).reshape(-1, 2)
        px = np.floor((points - self.town.ground.origin_m) / CELL_M).astype(np.int64)
        h, w = self._areas.shape
        inside = (px >= 0).all(axis=1) & (px[:, 0] < w) & (px[:, 1] < h)
        px = np.where(inside[:, None], px, 0)
        return np.where(inside, self._areas[px[:, 1], px[:, 0]], 0)

    def _ranks(self) -> np.ndarray:
        """Return int64 [L]: 2 for lanes of the route, 1 for lanes parallel to one, else 0."""
        if self._ranked != len(self.route.lanes):
            self._ranked = len(self.route.lanes)
            self._rank = _rank_lanes(self.town.lanes, np.array(self.route.lanes))
        return self._rank


def _rank_lanes(lanes: LaneGraph, route: np.ndarray) -> np.ndarray:
    """Return 2 for the route's lanes, 1 for those of the same direction beside them."""
    towards = np.where(lanes.junction >= 0, lanes.approach[lanes.successors[:, 0]], -1)
    ways = np.stack([lanes.approach, towards], axis=1)
    rank = np.zeros(len(ways), np.int64)
    for way in np.unique(ways[route], axis=0):
        rank[(ways == way).all(axis=1)] = _BESIDE_ROUTE
    rank[route] = _ON_ROUTE
    return rank


@lru_cache(maxsize=4)
def lane_index(town: Town) -> LaneIndex:
    """Return the buckets of a town's lane points."""
    lanes = town.lanes
    counts = np.diff(lanes.start)
    owner = np.repeat(np.arange(len(counts)), counts)
    return bucketed(lanes.points_m, lanes.yaw_rad, owner, lanes.widths() / 2)


def bucketed(
    points_m: np.ndarray, yaw_rad: np.ndarray, lane: np.ndarray, half_m: np.ndarray
) -> LaneIndex:
    """Return lane points, at most 1 m apart along each lane, sorted into buckets.

    Args:
        points_m, yaw_rad, lane: [P, 2], [P], [P]. half_m: [L], half the width of each lane.
    """
    low = points_m.min(axis=0) - _BUCKET_M
    cell = np.floor((points_m - low) / _BUCKET_M).astype(np.int64)
    shape = cell.max(axis=0) + 2
    bucket = cell[:, 0] * shape[1] + cell[:, 1]
    order = np.argsort(bucket, kind="stable")
    first = np.searchsorted(bucket[order], np.arange(shape[0] * shape[1] + 1))
    return LaneIndex(
        low_m=low,
        shape=shape,
        first=first.astype(np.int64),
        points_m=np.ascontiguousarray(points_m[order]),
        yaw_rad=np.ascontiguousarray(yaw_rad[order]),
        lane=lane[order],
        half_m=half_m,
    )


@lru_cache(maxsize=4)
def area_raster(town: Town) -> np.ndarray:
    """Return uint8 [H, W] over the ground: BEV_DRIVABLE (bays too), 2 inside junctions."""
    out = (town.ground.classes & BEV_DRIVABLE).astype(np.uint8)
    mask = np.zeros_like(out)
    for polygon in town.areas_m:
        cv2.fillPoly(mask, [_px(polygon, town)], _JUNCTION)
    bays = np.zeros_like(out)
    for road in town.roads:
        left, right = (road.half_m + bay for bay in road.parking_m)
        if any(road.parking_m):
            cv2.fillPoly(bays, [_px(band(road, left, -right), town)], BEV_DRIVABLE)
    return out | bays | mask


def _px(polygon_m: np.ndarray, town: Town) -> np.ndarray:
    return np.floor((polygon_m - town.ground.origin_m) / CELL_M).astype(np.int32)


@njit(cache=True)
def _locate(points, rank, low, shape, first, at, yaw, lane, half):  # type: ignore[no-untyped-def]
    n = len(points)
    found = np.full(n, -1, np.int64)
    heading = np.full(n, np.nan)
    for i in range(n):
        if not (np.isfinite(points[i, 0]) and np.isfinite(points[i, 1])):
            continue
        bx = int(np.floor((points[i, 0] - low[0]) / _BUCKET_M))
        by = int(np.floor((points[i, 1] - low[1]) / _BUCKET_M))
        best, nearest = -1, 1e18
        for x in range(max(bx - 1, 0), min(bx + 2, shape[0])):
            for y in range(max(by - 1, 0), min(by + 2, shape[1])):
                bucket = x * shape[1] + y
                for k in range(first[bucket], first[bucket + 1]):
                    c, s = np.cos(yaw[k]), np.sin(yaw[k])
                    dx, dy = points[i, 0] - at[k, 0], points[i, 1] - at[k, 1]
                    along, across = abs(c * dx + s * dy), abs(-s * dx + c * dy)
                    if along > _SLACK_M or across > half[lane[k]] + 1e-9:
                        continue
                    r = rank[lane[k]]
                    if r > best or (r == best and across + 0.01 * along < nearest):
                        best, nearest = r, across + 0.01 * along
                        found[i], heading[i] = lane[k], yaw[k]
    return found, heading


@njit(cache=True)
def _nearest(points, at, lane):  # type: ignore[no-untyped-def]
    found = np.zeros(len(points), np.int64)
    for i in range(len(points)):
        best = 1e300
        for k in range(len(at)):
            d = (points[i, 0] - at[k, 0]) ** 2 + (points[i, 1] - at[k, 1]) ** 2
            if d < best:
                best, found[i] = d, lane[k]
    return found
