"""The lane graph of a town: where wheels may go, in flat arrays that compiled code walks."""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

MAX_SUCCESSORS = 4


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
    """

    centre_m: np.ndarray
    nodes: tuple[int, int]
    lanes: int
    lane_width_m: float
    parking_m: tuple[float, float]
    speed_mps: float

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


class _Builder:
    def __init__(self) -> None:
        self.lines: list[np.ndarray] = []
        self.rows: list[tuple[float, int, int, int, int]] = []
        self.links: list[list[int]] = []

    def add(self, line_m: np.ndarray, row: tuple[float, int, int, int, int]) -> int:
        self.lines.append(resample(line_m))
        self.rows.append(row)
        self.links.append([])
        return len(self.lines) - 1


def build_graph(roads: list[Road]) -> LaneGraph:
    """Return the lane graph of roads that meet at shared junctions."""
    b = _Builder()
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
            _connect(b, node, lane, index, road_index, roads, leaving.get(node, {}))
    return _flatten(b, roads[0].lane_width_m)


def _connect(
    b: _Builder,
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


def _conflicts(b: _Builder) -> np.ndarray:
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
                if np.hypot(*(a[0] - c[0])) < 0.5:
                    continue
                gaps = np.hypot(a[:, None, 0] - c[None, :, 0], a[:, None, 1] - c[None, :, 1])
                out[i, j] = out[j, i] = gaps.min() < 2.6
    return out


def _flatten(b: _Builder, lane_width_m: float) -> LaneGraph:
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
