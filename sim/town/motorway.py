"""A motorway: two carriageways around an oval, with exits and on-ramps that merge from the right.

Every road is one-way and named by the left edge of its lanes. Through lanes never wait; a ramp's
last lane waits for a gap, since its connector meets that of the right-hand lane.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from sim.town.lanes import GraphBuilder, LaneGraph, Road, flatten, resample
from sim.town.outline import Line, Outline
from sim.town.streets import Site

_MEDIAN_M: Final = 2.0
_SHOULDER_M: Final = 2.4
_SPLIT_M: Final = 60.0
"""Length of the connectors at an exit and at a merge."""
_RAMP_M: Final = 340.0
_APART_M: Final = 9.0
"""How far a ramp swings out."""
_THROUGH_MPS: Final = 22.2
_RAMP_MPS: Final = 16.7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Track:
    """A closed line, once around in the direction of travel, its normals to the right."""

    points_m: np.ndarray
    right: np.ndarray

    def line(self, begin: int, end: int, right_m: float | np.ndarray) -> np.ndarray:
        """Return the line from one point to another, moved to the right."""
        rows = np.arange(begin, end + 1) % len(self.points_m)
        return self.points_m[rows] + self.right[rows] * np.reshape(right_m, (-1, 1))


@dataclass(slots=True, kw_only=True)
class _Plan:
    """What has been laid so far."""

    builder: GraphBuilder
    width: float
    lanes: int
    roads: list[Road]
    nodes: list[np.ndarray]
    lines: list[Line]


def motorway(rng: np.random.Generator) -> Site:
    """Return two carriageways of two or three lanes and four ramps."""
    width, lanes = float(rng.uniform(3.5, 3.75)), int(rng.choice([2, 2, 3]))
    oval = _oval(rng)
    plan = _Plan(builder=GraphBuilder(), width=width, lanes=lanes, roads=[], nodes=[], lines=[])
    tracks = [_track(oval), _track(oval[::-1])]
    for track in tracks:
        _carriageway(plan, track, rng)
    graph = flatten(plan.builder, width)
    bands = [_lane_band(graph, lane) for lane in range(len(graph.length_m))]
    return Site(
        nodes_m=np.array(plan.nodes),
        extent_m=graph.points_m,
        roads=plan.roads,
        graph=graph,
        outline=_outline(plan, tracks, graph, bands),
        areas_m=tuple(bands[lane] for lane in np.flatnonzero(graph.junction >= 0)),
        unsignalled=frozenset(range(len(plan.nodes))),
    )


def _oval(rng: np.random.Generator) -> np.ndarray:
    """Return a closed counter-clockwise line, points 1 m apart, the last before the first."""
    straight, radius = rng.uniform(330.0, 420.0), rng.uniform(150.0, 175.0)
    turn = rng.uniform(0.0, 2 * math.pi)
    bow = rng.uniform(-0.12, 0.12)
    a = np.linspace(-math.pi / 2, math.pi / 2, 200)
    cap = radius * np.stack([np.cos(a), np.sin(a)], axis=1)
    shift = np.array([straight / 2, 0.0])
    half = np.concatenate([cap + shift, -cap - shift])
    half[:, 1] += bow * half[:, 0] ** 2 / straight
    c, s = math.cos(turn), math.sin(turn)
    closed = np.concatenate([half, half[:1]]) @ np.array([[c, s], [-s, c]])
    closed = _smooth(resample(closed)[:-1])
    return resample(np.concatenate([closed, closed[:1]]))[:-1]


def _smooth(line_m: np.ndarray, reach: int = 60) -> np.ndarray:
    """Return a closed line averaged along itself: curvature comes and goes, it does not jump."""
    kernel = np.hanning(2 * reach + 3)[1:-1]
    kernel /= kernel.sum()
    wrapped = np.concatenate([line_m[-reach:], line_m, line_m[:reach]])
    return np.stack([np.convolve(wrapped[:, k], kernel, "valid") for k in (0, 1)], axis=1)


def _track(points_m: np.ndarray) -> _Track:
    ahead = np.roll(points_m, -1, axis=0) - np.roll(points_m, 1, axis=0)
    ahead /= np.hypot(*ahead.T)[:, None]
    return _Track(points_m=points_m, right=np.stack([ahead[:, 1], -ahead[:, 0]], axis=1))


def _carriageway(plan: _Plan, track: _Track, rng: np.random.Generator) -> None:
    """Lay one direction: two times exit, ramp, merge, and the stretches between."""
    n, split, ramp = len(track.points_m), int(_SPLIT_M), int(_RAMP_M)
    first = int(rng.integers(n))
    starts = [first, first + n // 2 + int(rng.integers(-40, 40))]
    laid = []
    for start, following in zip(starts, [starts[1], first + n], strict=True):
        leave, merge = start + split, start + split + ramp
        exits, entry = len(plan.nodes), len(plan.nodes) + 1
        plan.nodes += [track.line(at, at, 0.0)[0] for at in (start, merge)]
        inside = _stretch(plan, track, leave, merge)
        outside = _stretch(plan, track, merge + split, following)
        swing = _swing(plan, track, leave, merge, entry)
        _through(plan, track, inside, outside, (merge, merge + split), entry)
        _across(plan, track, swing, outside[-1], (merge, merge + split), entry, merging=True)
        edge = _MEDIAN_M + plan.lanes * plan.width
        plan.lines.append(Line(points_m=track.line(merge + split, following, edge + 0.1)))
        laid.append((start, exits, inside, outside, swing))
    for k, (start, exits, inside, _, swing) in enumerate(laid):
        before = laid[k - 1][3]
        _through(plan, track, before, inside, (start, start + split), exits)
        _across(plan, track, before[-1], swing, (start, start + split), exits, merging=False)


def _stretch(plan: _Plan, track: _Track, begin: int, end: int) -> list[int]:
    """Lay a road of all through lanes; return their indices, left to right."""
    way = len(plan.roads) * 2
    lanes = [
        plan.builder.add(
            track.line(begin, end, _MEDIAN_M + (i + 0.5) * plan.width),
            (_THROUGH_MPS, -1, -1, way, 0),
        )
        for i in range(plan.lanes)
    ]
    plan.roads.append(_road(plan, track.line(begin, end, _MEDIAN_M), plan.lanes, _THROUGH_MPS))
    return lanes


def _swing(plan: _Plan, track: _Track, begin: int, end: int, node: int) -> int:
    """Lay a ramp: beside the right-hand lane, out, along, and back beside it."""
    u = np.linspace(0.0, 1.0, end - begin + 1)
    out = _APART_M * (_step((u - 0.1) / 0.25) - _step((u - 0.42) / 0.22))
    edge = _MEDIAN_M + plan.lanes * plan.width + out
    way = len(plan.roads) * 2
    lane = plan.builder.add(
        track.line(begin, end, edge + 0.5 * plan.width), (_RAMP_MPS, -1, node, way, 0)
    )
    left = track.line(begin, end, edge)
    plan.roads.append(_road(plan, left, 1, _RAMP_MPS))
    plan.lines.append(Line(points_m=track.line(begin, end, edge + plan.width + 0.1)))
    beside = int(np.argmax(out > 0.3)), len(out) - 1 - int(np.argmax(out[::-1] > 0.3))
    main = _MEDIAN_M + plan.lanes * plan.width
    for a, b in ((0, beside[0]), (beside[1], len(out) - 1)):
        plan.lines.append(_broken(track.line(begin + a, begin + b, main)))
    apart = slice(beside[0], beside[1] + 1)
    plan.lines.append(Line(points_m=left[apart]))
    plan.lines.append(Line(points_m=track.line(begin + beside[0], begin + beside[1], main + 0.1)))
    return lane


def _broken(points_m: np.ndarray) -> Line:
    """Return the thick dashes between a through lane and one that begins or ends."""
    return Line(points_m=points_m, on_m=3, off_m=3, width_m=0.3)


def _step(u: np.ndarray) -> np.ndarray:
    """Return 0 before 0, 1 after 1, smooth between with no kink of curvature."""
    u = np.clip(u, 0.0, 1.0)
    return u**3 * (10.0 - 15.0 * u + 6.0 * u**2)


def _road(plan: _Plan, left_m: np.ndarray, lanes: int, speed_mps: float) -> Road:
    return Road(
        centre_m=resample(left_m),
        nodes=(-1, -1),
        lanes=lanes,
        lane_width_m=plan.width,
        parking_m=(0.0, 0.0),
        speed_mps=speed_mps,
        oneway=True,
        sidewalk=False,
    )


def _through(
    plan: _Plan, track: _Track, before: list[int], after: list[int], at: tuple[int, int], node: int
) -> None:
    """Connect each through lane with itself beyond an exit or a merge."""
    b = plan.builder
    for i, (lane, following) in enumerate(zip(before, after, strict=True)):
        line = track.line(*at, _MEDIAN_M + (i + 0.5) * plan.width)
        link = b.add(line, (_THROUGH_MPS, node, -1, b.rows[lane][3], 0))
        b.links[lane].append(link)
        b.links[link].append(following)


def _across(
    plan: _Plan,
    track: _Track,
    lane: int,
    target: int,
    at: tuple[int, int],
    node: int,
    *,
    merging: bool,
) -> None:
    """Connect the right-hand lane with a ramp, or a ramp with the right-hand lane."""
    b = plan.builder
    u = _step(np.linspace(0.0, 1.0, at[1] - at[0] + 1))
    over = 1.0 - u if merging else u
    line = track.line(*at, _MEDIAN_M + (plan.lanes - 0.5 + over) * plan.width)
    link = b.add(line, (_RAMP_MPS, node, -1, b.rows[lane][3], 0))
    b.links[lane].append(link)
    b.links[link].append(target)
    edge = _MEDIAN_M + plan.lanes * plan.width
    plan.lines.append(_broken(track.line(*at, edge)))
    plan.lines.append(Line(points_m=track.line(*at, edge + over * plan.width + 0.1)))


def _lane_band(graph: LaneGraph, lane: int, grow_m: float = 0.0) -> np.ndarray:
    line, yaw = graph.line(lane), graph.yaw_rad[graph.start[lane] : graph.start[lane + 1]]
    normal = np.stack([-np.sin(yaw), np.cos(yaw)], axis=1)
    reach = graph.lane_width_m / 2 + 0.12 + grow_m
    return np.concatenate([line + normal * reach, (line - normal * reach)[::-1]])


def _outline(
    plan: _Plan, tracks: list[_Track], graph: LaneGraph, bands: list[np.ndarray]
) -> Outline:
    n = len(tracks[0].points_m)
    wide = plan.lanes * plan.width
    lines, rails, lamps = list(plan.lines), [], []
    for track in tracks:
        lines.append(Line(points_m=track.line(0, n, _MEDIAN_M - 0.05), colour="centre"))
        for i in range(1, plan.lanes):
            line = track.line(0, n, _MEDIAN_M + i * plan.width)
            lines.append(Line(points_m=line, on_m=6, off_m=12))
        rails.append(track.line(0, n, 0.6))
        lamps.append(track.line(0, n, 0.0)[::45])
    shoulders = [_lane_band(graph, lane, _SHOULDER_M) for lane in range(len(bands))]
    median = [np.concatenate([t.line(0, n, 0.0), t.line(0, n, wide)[::-1]]) for t in tracks]
    return Outline(
        around=lambda extra_m: shoulders + median,
        surface=bands,
        lamps_m=lambda walk_m: lamps[0],
        lines=lines,
        rails=rails,
    )
