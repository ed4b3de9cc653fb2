"""Arriving at a goal: poses and times inside it, the best way there, and keeping to it."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle import arrive, collide
from vehicle.arrive import COST, TIME, WAY
from vehicle.config import VehicleConfig
from vehicle.contracts.ego import EgoState
from vehicle.contracts.goal import Goal
from vehicle.contracts.scene import Scene
from vehicle.geometry import to_ego_2d, to_local_2d
from vehicle.proposals import STEP_S, STEPS, TLEN, TWID
from vehicle.spiral import SPIRAL, bend, end_pose, solve

FAR_S: Final = 10.0
"""Arrivals later than this are left to ordinary driving until they are nearer."""

STEPS_FAR: Final = round(FAR_S / STEP_S) + 1
MARGINS: Final = np.array([[0.5, 0.3, 0.3], [0.25, 0.15, 0.15], [0.05, 0.03, 0.06]])
"""Metres to keep from others along and across and from the road's edge: wished, tight, least."""

_MAX_WAYS: Final = 6_000
_LOOKS: Final = 48
"""Ways looked at closely in one search."""

_PLAIN: Final = np.zeros((1, 3))
_OTHER: Final = (
    np.array([(0.0, w, v) for w in (0.15, 0.3, 0.45, 0.6) for v in (0.0, 0.5)]),
    np.array([(b, 0.0, 0.0) for b in (2.0, -2.0, 4.0, -4.0, 7.0, -7.0)] + [(0.0, 0.3, 0.8)]),
)
"""Bulge in metres; share of the time to wait; share of the present speed then. Tried in turn."""

_WAYS_TO_LOOK: Final = 1 + len(_OTHER)
_SOME: Final = 24
_CALM: Final = 5
"""A way that keeps less than the widest margin is held against others every so many ticks."""

_SMALL_M: Final = 9.0
"""A region shorter than this is aimed at by a grid of points; a longer one along its middle."""

_NEAR, _FAR = 0.25, 0.42
_SPOTS: Final = 0.5 + np.array(
    [(0.0, 0.0)]
    + [(a, 0.0) for a in (_NEAR, -_NEAR, _FAR, -_FAR)]
    + [(0.0, a) for a in (_NEAR, -_NEAR, _FAR, -_FAR)]
    + [(a, b) for a in (_FAR, -_FAR) for b in (_FAR, -_FAR)]
)
"""Where in a small region to aim, as shares of its length and width."""

_SHARES: Final = (0.0, 0.25, -0.25, 0.45, -0.45)
_STATIONS: Final = 7
_TIMES: Final = 4
_EDGE_RAD: Final = 0.005
_EDGE_MPS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrival:
    """A way to arrive.

    Args:
        states: [T >= STEPS, 7] (STATE_COLUMNS), up to the goal at `time_s` and, where that is
            nearer than any plan is long, on from there.
        margin: the row of MARGINS it keeps.
        cost: of `arrive.effort`.
        kept: it goes on with the way of the tick before.
    """

    states: np.ndarray
    time_s: float
    margin: int
    cost: float
    kept: bool

    @property
    def name(self) -> str:
        """Return what a plan calls it."""
        return "goal/kept" if self.kept else "goal/found"

    @property
    def scores(self) -> dict[str, float]:
        """Return what a plan says of it: nobody is touched, and how much room is left."""
        total = 1.0 - self.margin / len(MARGINS)
        return {"no_collision": 1.0, "drivable": 1.0, "goal": 1.0, "total": total}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Around:
    """What a way must not touch or leave.

    Args:
        users: [N, 2] length and width. futures: [N, STEPS, 3] x, y, yaw, NaN when absent.
        grid: uint8 drivable probability, empty when unknown; corner: x_min, y_min, cell.
    """

    users: np.ndarray
    futures: np.ndarray
    grid: np.ndarray
    corner: np.ndarray

    @classmethod
    def of(cls, scene: Scene | None, users: np.ndarray, futures: np.ndarray) -> "Around":
        """Return what the planner knows: users [N, 7] (vehicle.proposals), futures of each."""
        grid, corner = np.zeros((0, 0), np.uint8), np.zeros(3)
        if scene is not None and scene.occupancy is not None:
            g = scene.occupancy.grid
            grid = np.ascontiguousarray(scene.occupancy.drivable)
            corner[:] = g.x_min_m, g.y_min_m, g.cell_m
        sizes = np.ascontiguousarray(users[:, [TLEN, TWID]])
        return cls(users=sizes, futures=futures, grid=grid, corner=corner)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    """A way, when it was begun, and the pose (local frame) and curvature it ends with."""

    mono_ns: int
    way: np.ndarray
    end: np.ndarray
    bend_1pm: float


class Arriver:
    """Finds ways to arrive, and keeps to the one found last for as long as it holds."""

    def __init__(self, config: VehicleConfig) -> None:
        c = config
        self._body = np.array([c.length_m - c.rear_overhang_m, c.rear_overhang_m, c.width_m])
        self._middle = c.length_m / 2 - c.rear_overhang_m
        self._limits = np.array(
            [c.max_accel_mps2, c.max_brake_mps2, c.max_curvature_1pm, c.wheelbase_m]
        )
        self._ways = np.zeros((_MAX_WAYS, WAY))
        self._states = np.zeros((STEPS_FAR + 1, 7))
        self._kept: _Kept | None = None
        self._turn = self._ticks = 0

    def find(self, goal: Goal, ego: EgoState, path_m: np.ndarray, around: Around) -> Arrival | None:
        """Return the best way to arrive, None when none is found.

        Args:
            path_m: [P, 2] where guidance leads, ego frame.
        """
        start = np.array([max(ego.speed_mps, 0.0), ego.accel_mps2, ego.curvature_1pm])
        had = self._kept is not None
        kept = self._go_on(ego, start, around)
        self._ticks += 1
        if kept is not None and (kept.margin == 0 or self._ticks % _CALM):
            return kept
        times = arrival_times(goal)
        if not len(times):
            return kept
        poses = self._poses(goal, path_m, start, times)
        best, margin = -1, len(MARGINS)
        # what finds nothing in one tick is tried another way in the next; a way lost is urgent
        for _ in range(_WAYS_TO_LOOK if had and kept is None else 1):
            count = self._sample(goal, start, poses, times)
            best, margin = self._choose(count, _LOOKS, around)
            self._turn = 0 if best >= 0 else (self._turn + 1) % _WAYS_TO_LOOK
            if best >= 0:
                break
        if best < 0 or (kept is not None and kept.margin <= margin):
            return kept
        return self._keep(self._ways[best].copy(), ego, margin, kept=False)

    def _sample(self, goal: Goal, start: np.ndarray, poses: np.ndarray, times: np.ndarray) -> int:
        """Fill the ways that could be driven, by what is tried this time; return how many."""
        ways, limits, speeds = self._ways, self._limits, arrival_speeds(goal)
        if self._turn == 0:
            count = arrive.to_poses(ways, 0, start, poses, times, speeds, _PLAIN, limits)
            rings, ends = _rings(goal)
            return arrive.onward(
                ways, count, start, rings, ends, arrival_yaws(goal), times, speeds, limits,
                self._middle,
            )  # fmt: skip
        some = np.ascontiguousarray(poses[:: max(1, len(poses) // _SOME)])
        late = np.ascontiguousarray(times[::2])
        laws = _OTHER[self._turn - 1]
        return arrive.to_poses(ways, 0, start, some, late, speeds, laws, limits)

    def forget(self) -> None:
        """Drop the way found last."""
        self._kept = None

    def _choose(self, count: int, looks: int, around: Around) -> tuple[int, int]:
        return collide.choose(
            self._states, self._ways, count, looks, around.users, around.futures, self._body,
            around.grid, around.corner, MARGINS,
        )  # fmt: skip

    def _keep(self, way: np.ndarray, ego: EgoState, margin: int, *, kept: bool) -> Arrival:
        rows = max(round(way[TIME] / STEP_S) + 1, STEPS)
        states = np.empty((rows, 7))
        collide.drive(states, rows - 1, way)
        x, y, yaw = end_pose(way)
        end = np.append(to_local_2d(ego, np.array([[x, y]]))[0], ego.yaw_rad + yaw)
        self._kept = _Kept(mono_ns=ego.mono_ns, way=way, end=end, bend_1pm=bend(way, 1.0))
        return Arrival(
            states=states, time_s=float(way[TIME]), margin=margin, cost=float(way[COST]), kept=kept
        )

    def _go_on(self, ego: EgoState, start: np.ndarray, around: Around) -> Arrival | None:
        """Return what is left of the way found last, from where the ego really is."""
        last, self._kept = self._kept, None
        if last is None:
            return None
        dt = (ego.mono_ns - last.mono_ns) * 1e-9
        left = last.way[TIME] - dt
        if dt <= 0.0 or left < 0.5 * STEP_S:
            return None
        way, rest = last.way.copy(), last.way[0] - arrive.at(last.way, dt)[0]
        x, y = to_ego_2d(ego, last.end[None, :2])[0]
        yaw = math.remainder(last.end[2] - ego.yaw_rad, 2.0 * math.pi)
        if rest > 0.5 and not solve(way[:SPIRAL], x, y, yaw, start[2], last.bend_1pm):
            return None
        longer = way[0] - rest if rest > 0.5 else 0.0
        arrive.later(way, dt, start[0], longer)
        if left > 2.5 * STEP_S and not math.isfinite(arrive.effort(way, self._limits)):
            return None
        self._ways[0] = way
        best, margin = self._choose(1, 1, around)
        return None if best < 0 else self._keep(way, ego, margin, kept=True)

    def _poses(
        self, goal: Goal, path_m: np.ndarray, start: np.ndarray, times: np.ndarray
    ) -> np.ndarray:
        """Return poses [M, 5] of the rear axle to try: x, y, yaw, curvature, cost."""
        v, first, last = start[0], float(times[0]), float(times[-1])
        stop = min(first, v / self._limits[1])
        least = v * stop - 0.5 * self._limits[1] * stop * stop
        most = v * last + 0.5 * self._limits[0] * last * last
        rows = [np.zeros((0, 5))]
        for region in goal.regions_m:
            if np.ptp(region, axis=0).max() < _SMALL_M:
                rows.append(_in_small(region, goal))
            else:
                rows.append(_in_long(region, goal, least + self._middle, most + self._middle))
        if not goal.regions_m:
            line, yaw = _with_yaw(path_m)
            rows.append(_posed(line, yaw, goal, 0.0)[::3])
        found = np.concatenate(rows)
        found[:, 0] -= self._middle * np.cos(found[:, 2])
        found[:, 1] -= self._middle * np.sin(found[:, 2])
        away = np.hypot(found[:, 0], found[:, 1])
        found = found[(away > 0.5 * least) & (away < most + 0.5) & (found[:, 0] > -0.5 * away)]
        free = found.copy()
        free[:, 3] = np.nan
        return np.concatenate([found, free])


def arrival_times(goal: Goal) -> np.ndarray:
    """Return times inside a goal's window, on the planner's steps where it holds one; none when it
    has passed or opens later than FAR_S."""
    first = max(math.ceil(goal.from_s / STEP_S - 1e-3), 1)
    last = min(math.floor(goal.to_s / STEP_S + 1e-3), STEPS_FAR - 1)
    if last < first:  # between two steps, or not at all
        middle = (goal.from_s + goal.to_s) / 2
        return np.array([middle] if 0.5 * STEP_S < middle < FAR_S else [])
    return np.unique(np.linspace(first, last, min(_TIMES, last - first + 1)).round()) * STEP_S


def arrival_speeds(goal: Goal) -> np.ndarray:
    """Return the least and most speed on arrival, a little inside the window."""
    if goal.speed_mps is None:
        return np.array([0.0, 60.0])
    low, high = goal.speed_mps
    edge = min(_EDGE_MPS, 0.25 * (high - low))
    return np.array([max(low + edge, 0.0), max(high - edge, 0.0)])


def arrival_yaws(goal: Goal) -> np.ndarray:
    """Return the least and most yaw on arrival, a little inside the window."""
    if goal.yaw_rad is None:
        return np.array([-2.5, 2.5])
    low, high = goal.yaw_rad
    edge = min(_EDGE_RAD, 0.25 * (high - low))
    return np.array([low + edge, high - edge])


def _rings(goal: Goal) -> tuple[np.ndarray, np.ndarray]:
    if not goal.regions_m:
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    rings = np.ascontiguousarray(np.concatenate(goal.regions_m), dtype=np.float64)
    return rings, np.cumsum([len(r) for r in goal.regions_m])


def _posed(points: np.ndarray, yaw: np.ndarray, goal: Goal, cost: float) -> np.ndarray:
    """Return poses [M, 5] at points: headings spread over the window, or as the place leads."""
    if goal.yaw_rad is None:
        headings, extra = yaw[:, None], [0.0]
    else:
        low, high = arrival_yaws(goal)
        if high - low > 1.0:
            middle, half = (low + high) / 2, (high - low) / 2
            off = (yaw - middle + math.pi) % (2.0 * math.pi) - math.pi
            headings, extra = (middle + np.clip(off, -half, half))[:, None], [0.0]
        else:
            headings = np.repeat([[(low + high) / 2, low, high]], len(points), axis=0)
            extra = [0.0, 0.1, 0.1]
    rows = np.zeros((*headings.shape, 5))
    rows[..., :2] = points[:, None]
    rows[..., 2] = headings
    rows[..., 4] = cost + np.array(extra)
    return rows.reshape(-1, 5)


def _in_small(region: np.ndarray, goal: Goal) -> np.ndarray:
    """Return poses on a grid inside a small region."""
    edge = region[1] - region[0]
    turn = math.atan2(edge[1], edge[0])
    c, s = math.cos(turn), math.sin(turn)
    flat = region @ np.array([[c, -s], [s, c]])
    low, high = flat.min(axis=0), flat.max(axis=0)
    points = (low + (high - low) * _SPOTS) @ np.array([[c, s], [-s, c]])
    keep = _inside(points, region)
    points, off = points[keep], 0.3 * np.abs(_SPOTS - 0.5).sum(axis=1)[keep]
    rows = _posed(points, np.arctan2(points[:, 1], points[:, 0]), goal, 0.0)
    rows[:, 4] += np.repeat(off, len(rows) // max(1, len(off)))
    return rows


def _in_long(region: np.ndarray, goal: Goal, least_m: float, most_m: float) -> np.ndarray:
    """Return poses along the middle of a long region, and aside of it, where it can be reached."""
    half = len(region) // 2
    first, second = _even(region[:half], 80), _even(region[-half:][::-1], 80)
    centre, yaw = _with_yaw((first + second) / 2)
    across = first - second
    away = np.hypot(centre[:, 0], centre[:, 1])
    near = np.flatnonzero((away > 0.8 * least_m) & (away < most_m) & (np.abs(yaw) < 2.5))
    if not len(near):
        return np.zeros((0, 5))
    near = near[np.unique(np.linspace(0, len(near) - 1, _STATIONS).round().astype(int))]
    rows = []
    for share in _SHARES:
        points = centre[near] + share * across[near]
        keep = _inside(points, region)
        rows.append(_posed(points[keep], yaw[near][keep], goal, 1.5 * abs(share)))
    return np.concatenate(rows)


def _inside(points: np.ndarray, region: np.ndarray) -> np.ndarray:
    ring = np.ascontiguousarray(region, dtype=np.float64)
    return np.asarray(arrive.all_within(ring, np.ascontiguousarray(points)))


def _with_yaw(line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a line and its headings, turned round when it leads against the ego."""
    d = np.gradient(line, axis=0)
    if d[:, 0].sum() < 0.0:
        d = -d
    return line, np.arctan2(d[:, 1], d[:, 0])


def _even(line: np.ndarray, count: int) -> np.ndarray:
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    want = np.linspace(0.0, s[-1], count)
    return np.stack([np.interp(want, s, line[:, k]) for k in (0, 1)], axis=1)
