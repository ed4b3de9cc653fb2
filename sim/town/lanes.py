"""The lane graph of a town: where wheels may go, in flat arrays that compiled code walks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

MAX_SUCCESSORS = 4
RING_MPS = 5.0
_RING_EASE_RAD = 0.5
"""How far around the ring a car is when it has fully entered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """A street between two junctions.

    Args:
        centre_m: [N, 2] town frame, about 1 m apart, cut back from both junctions.
        nodes: junction at its start and end.
        lanes: driving lanes per direction (right-hand traffic).
        lane_width_m: of each lane.
        parking_m: width of the parking bay at the left and right kerb, 0 for none.
        speed_mps: limit.
        oneway: lanes lead from start to end only, all to the right of `centre_m`.
        sidewalk: people walk beside it.
    """

    centre_m: np.ndarray
    nodes: tuple[int, int]
    lanes: int
    lane_width_m: float
    parking_m: tuple[float, float]
    speed_mps: float
    oneway: bool = False
    sidewalk: bool = True

    @property
    def half_m(self) -> float:
        """Return half the width of the driving lanes."""
        return self.lanes * self.lane_width_m

    def offset(self, left_m: float) -> np.ndarray:
        """Return the centreline moved to the left by `left_m`."""
        return offset_line(self.centre_m, left_m)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneGraph:
    """All lanes as flat arrays. A lane is a road lane or a connector through a junction.

    Args:
        points_m, yaw_rad: [P, 2], [P]; lane i owns rows start[i]:start[i + 1], evenly spaced,
            yaw unwrapped along the lane.
        length_m: [L].
        successors: [L, 4] lane indices, -1 where none.
        speed_mps: [L].
        junction: [L] the junction a connector crosses, -1 for road lanes.
        end_junction: [L] the junction a road lane ends at, -1 for connectors.
        approach: [L] direction of a road (road * 2 + backward); a connector has its origin's.
        turn: [L] 0 straight or road lane, 1 left, -1 right.
        conflicts: uint8 [L, L], 1 where two connectors cross or merge: one at a time may drive.
        lane_width_m: of a lane, where all are as wide.
        width_m: [L], of each lane; None where all are as wide.
    """

    points_m: np.ndarray
    yaw_rad: np.ndarray
    start: np.ndarray
    length_m: np.ndarray
    successors: np.ndarray
    speed_mps: np.ndarray
    junction: np.ndarray
    end_junction: np.ndarray
    approach: np.ndarray
    turn: np.ndarray
    conflicts: np.ndarray
    lane_width_m: float
    width_m: np.ndarray | None = None

    def pose(self, lane: int, s_m: float) -> tuple[float, float, float]:
        """Return x, y, yaw on a lane at arc length `s_m` (clamped to the lane)."""
        return lane_pose(self.points_m, self.yaw_rad, self.start, self.length_m, lane, s_m)

    def widths(self) -> np.ndarray:
        """Return the width of each lane, [L]."""
        if self.width_m is not None:
            return self.width_m
        return np.full(len(self.length_m), self.lane_width_m)

    def line(self, lane: int) -> np.ndarray:
        """Return the centre points of a lane [N, 2]."""
        return self.points_m[self.start[lane] : self.start[lane + 1]]

    def road_lanes(self) -> np.ndarray:
        """Return the indices of lanes that are not connectors."""
        return np.flatnonzero(self.junction < 0)


@njit(cache=True)
def lane_pose(points, yaw, start, length, lane, s):  # type: ignore[no-untyped-def]
    """Return x, y, yaw at arc length `s` of `lane`, linear between points."""
    first, last = start[lane], start[lane + 1] - 1
    t = s / length[lane] * (last - first)
    if t < 0.0:
        t = 0.0
    if t > last - first:
        t = float(last - first)
    i = int(t)
    if i >= last - first:
        i = last - first - 1
    f = t - i
    a = first + i
    return (
        points[a, 0] * (1 - f) + points[a + 1, 0] * f,
        points[a, 1] * (1 - f) + points[a + 1, 1] * f,
        yaw[a] * (1 - f) + yaw[a + 1] * f,
    )


def resample(line_m: np.ndarray, spacing_m: float = 1.0) -> np.ndarray:
    """Return the polyline with even spacing of about `spacing_m`, ends kept."""
    s = arc_length(line_m)
    n = max(round(float(s[-1]) / spacing_m) + 1, 2)
    at = np.linspace(0.0, s[-1], n)
    return np.stack([np.interp(at, s, line_m[:, 0]), np.interp(at, s, line_m[:, 1])], axis=1)


def arc_length(line_m: np.ndarray) -> np.ndarray:
    """Return the arc length at each point, from 0."""
    steps = np.hypot(*np.diff(line_m, axis=0).T)
    return np.concatenate([[0.0], np.cumsum(steps)])


def headings(line_m: np.ndarray) -> np.ndarray:
    """Return the unwrapped heading at each point."""
    d = np.gradient(line_m, axis=0)
    return np.unwrap(np.arctan2(d[:, 1], d[:, 0]))


def offset_line(line_m: np.ndarray, left_m: float | np.ndarray) -> np.ndarray:
    """Return the polyline moved to its left."""
    yaw = headings(line_m)
    return line_m + np.stack([-np.sin(yaw), np.cos(yaw)], axis=1) * np.reshape(left_m, (-1, 1))


def hermite(p0: np.ndarray, t0: np.ndarray, p1: np.ndarray, t1: np.ndarray, n: int) -> np.ndarray:
    """Return n points of a cubic Hermite curve."""
    u = np.linspace(0.0, 1.0, n)[:, None]
    return (
        (2 * u**3 - 3 * u**2 + 1) * p0
        + (u**3 - 2 * u**2 + u) * t0
        + (3 * u**2 - 2 * u**3) * p1
        + (u**3 - u**2) * t1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A roundabout: everybody drives counter-clockwise around its centre.

    Args:
        radius_m: of the middle of its one lane.
    """

    centre_m: np.ndarray
    radius_m: float

    def circle(self, radius_m: float, begin_rad: float = 0.0, span_rad: float = 0.0) -> np.ndarray:
        """Return a counter-clockwise arc about the centre, about 1 m apart; span 0: all round."""
        span = span_rad or 2 * math.pi
        a = begin_rad + np.linspace(0.0, span, max(int(span * radius_m) + 1, 4))
        return self.centre_m + radius_m * np.stack([np.cos(a), np.sin(a)], axis=1)

    def path(self, arrive_m: np.ndarray, leave_m: np.ndarray) -> np.ndarray:
        """Return the way from the last two points of one lane to the first two of another."""
        p0, p1 = arrive_m[-1], leave_m[0]
        d0, d1 = arrive_m[-1] - arrive_m[-2], leave_m[1] - leave_m[0]
        a0, a1 = (math.atan2(*(p - self.centre_m)[::-1]) for p in (p0, p1))
        around = (a1 - a0) % (2 * math.pi)
        ease = _RING_EASE_RAD
        if around < 2 * ease + 0.1:
            return _bend(p0, d0, p1, d1)
        arc = self.circle(self.radius_m, a0 + ease, around - 2 * ease)
        entry = _bend(p0, d0, arc[0], arc[1] - arc[0])
        leave = _bend(arc[-1], arc[-1] - arc[-2], p1, d1)
        return np.concatenate([entry[:-1], arc[:-1], leave])


def _bend(p0: np.ndarray, d0: np.ndarray, p1: np.ndarray, d1: np.ndarray) -> np.ndarray:
    """Return a curve between two points with the directions given, twice a metre."""
    reach = float(np.hypot(*(p1 - p0)))
    t0, t1 = d0 / np.hypot(*d0) * reach, d1 / np.hypot(*d1) * reach
    return hermite(p0, t0, p1, t1, max(int(reach) * 2, 8))


class GraphBuilder:
    """Collects lanes: a line, a row (speed, junction, end junction, approach, turn), links."""

    def __init__(self) -> None:
        self.lines: list[np.ndarray] = []
        self.rows: list[tuple[float, int, int, int, int]] = []
        self.links: list[list[int]] = []

    def add(self, line_m: np.ndarray, row: tuple[float, int, int, int, int]) -> int:
        """Add a lane, evenly spaced anew; return its index."""
        self.lines.append(resample(line_m))
        self.rows.append(row)
        self.links.append([])
        return len(self.lines) - 1


def build_graph(roads: list[Road], rings: Mapping[int, Ring] | None = None) -> LaneGraph:
    """Return the lane graph of roads that meet at shared junctions.

    Args:
        rings: junctions that are roundabouts.
    """
    b = GraphBuilder()
    arriving: dict[int, list[tuple[int, int, int]]] = {}
    leaving: dict[int, dict[int, list[int]]] = {}
    for r, road in enumerate(roads):
        for backward in (0, 1):
            start, end = road.nodes[::-1] if backward else road.nodes
            for i in range(road.lanes):
                line = road.offset(-(i + 0.5) * road.lane_width_m * (-1 if backward else 1))
                line = line[::-1] if backward else line
                lane = b.add(line, (road.speed_mps, -1, end, r * 2 + backward, 0))
                arriving.setdefault(end, []).append((lane, i, r))
                leaving.setdefault(start, {}).setdefault(r, []).append(lane)
    for node, lanes in arriving.items():
        for lane, index, road_index in lanes:
            if rings and node in rings:
                _connect_ring(b, node, lane, road_index, leaving.get(node, {}), rings[node])
                continue
            _connect(b, node, lane, index, road_index, roads, leaving.get(node, {}))
    return flatten(b, roads[0].lane_width_m)


def _connect_ring(
    b: GraphBuilder,
    node: int,
    lane: int,
    road: int,
    leaving: dict[int, list[int]],
    ring: Ring,
) -> None:
    """Lead a lane around a roundabout to every other road; all count as right turns onto it."""
    line = b.lines[lane]
    for other, targets in list(leaving.items())[: MAX_SUCCESSORS + 1]:
        if other == road:
            continue
        target = b.lines[targets[-1]]
        curve = ring.path(line[-2:], target[:2])
        link = b.add(curve, (RING_MPS, node, -1, b.rows[lane][3], -1))
        b.links[lane].append(link)
        b.links[link].append(targets[-1])


def _connect(
    b: GraphBuilder,
    node: int,
    lane: int,
    index: int,
    road: int,
    roads: list[Road],
    leaving: dict[int, list[int]],
) -> None:
    line = b.lines[lane]
    outermost = roads[road].lanes - 1
    options: list[tuple[int, int, bool]] = []
    for other, targets in leaving.items():
        if other == road:
            continue
        target_yaw = headings(b.lines[targets[0]])[0]
        delta = math.remainder(target_yaw - headings(line)[-1], 2 * math.pi)
        turn = 0 if abs(delta) < math.pi / 4 else (1 if delta > 0 else -1)
        pick = {0: min(index, len(targets) - 1), 1: 0, -1: len(targets) - 1}[turn]
        allowed = turn == 0 or (turn == 1 and index == 0) or (turn == -1 and index == outermost)
        options.append((targets[pick], turn, allowed))
    chosen = [o for o in options if o[2]] or options
    for target, turn, _ in chosen[:MAX_SUCCESSORS]:
        p0, p1 = line[-1], b.lines[target][0]
        d0, d1 = line[-1] - line[-2], b.lines[target][1] - p1
        reach = float(np.hypot(*(p1 - p0))) * (1.0 if turn == 0 else 1.25)
        curve = hermite(
            p0, d0 / np.hypot(*d0) * reach, p1, d1 / np.hypot(*d1) * reach, max(int(reach) * 2, 8)
        )
        speed = min(b.rows[lane][0], b.rows[target][0]) if turn == 0 else 5.0
        link = b.add(curve, (speed, node, -1, b.rows[lane][3], turn))
        b.links[lane].append(link)
        b.links[link].append(target)


def _conflicts(b: GraphBuilder) -> np.ndarray:
    """Return which connectors come within a car's width of each other (not from one lane)."""
    n = len(b.lines)
    out = np.zeros((n, n), np.uint8)
    at: dict[int, list[int]] = {}
    for i, row in enumerate(b.rows):
        if row[1] >= 0:
            at.setdefault(row[1], []).append(i)
    for group in at.values():
        for k, i in enumerate(group):
            for j in group[k + 1 :]:
                a, c = b.lines[i], b.lines[j]
                if np.hypot(*(a[0] - c[0])) < 0.5 or j in b.links[i] or i in b.links[j]:
                    continue
                gaps = np.hypot(a[:, None, 0] - c[None, :, 0], a[:, None, 1] - c[None, :, 1])
                out[i, j] = out[j, i] = gaps.min() < 2.6
    return out


def flatten(b: GraphBuilder, lane_width_m: float) -> LaneGraph:
    """Return what the builder collected as one graph."""
    counts = [len(line) for line in b.lines]
    successors = np.full((len(b.lines), MAX_SUCCESSORS), -1, dtype=np.int64)
    for i, links in enumerate(b.links):
        successors[i, : len(links)] = links
    table = np.array(b.rows, dtype=np.float64)
    return LaneGraph(
        points_m=np.concatenate(b.lines),
        yaw_rad=np.concatenate([headings(line) for line in b.lines]),
        start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        length_m=np.array([arc_length(line)[-1] for line in b.lines]),
        successors=successors,
        speed_mps=table[:, 0].copy(),
        junction=table[:, 1].astype(np.int64),
        end_junction=table[:, 2].astype(np.int64),
        approach=table[:, 3].astype(np.int64),
        turn=table[:, 4].astype(np.int64),
        conflicts=_conflicts(b),
        lane_width_m=lane_width_m,
    )
