"""Where the surfaces of a place begin and end, before anybody paints them: polygons and lines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sim.town.lanes import LaneGraph, Road, arc_length, offset_line


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """A painted line.

    Args:
        points_m: [N, 2], about 1 m apart.
        colour: "white" or "centre".
        on_m, off_m: of its dashes, whole metres; off 0 for a solid line.
        width_m: of the paint.
    """

    points_m: np.ndarray
    colour: str = "white"
    on_m: int = 3
    off_m: int = 0
    width_m: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outline:
    """The ground plan of a place.

    Args:
        around: polygons of everything paved, widened by metres (bays, kerbs, sidewalks).
        surface: polygons wheels may go on.
        streets: roads that get the marks of a street: lines, bays, stop lines, crosswalks.
        patches: (palette name, polygon) that are no road again: islands, medians.
        lines: further paint.
        lamps_m: places [N, 2] of street lamps, given the width of kerb and sidewalk.
        rails: guard rails, lines [N, 2].
    """

    around: Callable[[float], list[np.ndarray]]
    surface: Sequence[np.ndarray]
    lamps_m: Callable[[float], np.ndarray]
    streets: Sequence[Road] = ()
    patches: Sequence[tuple[str, np.ndarray]] = ()
    lines: Sequence[Line] = ()
    rails: Sequence[np.ndarray] = ()


def street_outline(nodes_m: np.ndarray, roads: Sequence[Road], lanes: LaneGraph) -> Outline:
    """Return the ground plan of streets that meet at plain junctions."""

    def around(extra_m: float) -> list[np.ndarray]:
        bands = [
            band(road, *(k * (road.half_m + p + extra_m) for k, p in sides))
            for road in roads
            for sides in [tuple(zip((1.0, -1.0), road.parking_m, strict=True))]
        ]
        return bands + junction_areas(nodes_m, roads, lanes, extra_m)

    surface = [band(road, road.half_m, -road.half_m) for road in roads]
    return Outline(
        around=around,
        surface=surface + junction_areas(nodes_m, roads, lanes),
        lamps_m=lambda walk_m: lamp_places(roads, walk_m),
        streets=roads,
    )


def band(road: Road, left_m: float, right_m: float, part: slice = slice(None)) -> np.ndarray:
    """Return the polygon between two offsets of a road."""
    a, b = road.offset(left_m)[part], road.offset(right_m)[part]
    return np.concatenate([a, b[::-1]])


def junction_areas(
    nodes_m: np.ndarray,
    roads: Sequence[Road],
    lanes: LaneGraph,
    extra_m: float = 0.0,
    *,
    hulls: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """Return the hull of each junction and the band of each connector, widened by `extra_m`.

    Args:
        hulls: junctions with a hull; None for all.
    """
    nodes = range(len(nodes_m)) if hulls is None else hulls
    polygons = [_junction_hull(node, roads, extra_m) for node in nodes]
    reach = lanes.lane_width_m / 2 + 0.25 + extra_m
    for lane in np.flatnonzero(lanes.junction >= 0):
        line = lanes.points_m[lanes.start[lane] : lanes.start[lane + 1]]
        polygons.append(np.concatenate([offset_line(line, reach), offset_line(line, -reach)[::-1]]))
    return polygons


def _junction_hull(node: int, roads: Sequence[Road], extra_m: float) -> np.ndarray:
    """Return the convex hull of the mouths of all roads at a junction."""
    corners = []
    for road in roads:
        for end, at in ((0, 0), (1, -1)):
            if road.nodes[end] == node:
                left, right = (
                    road.half_m + extra_m + (p if extra_m else 0) for p in road.parking_m
                )
                corners += [road.offset(left)[at], road.offset(-right)[at]]
    return cv2.convexHull(np.array(corners, np.float32))[:, 0].astype(np.float64)


def lamp_places(roads: Sequence[Road], walk_m: float) -> np.ndarray:
    """Return where street lamps stand: every 28 m, sides in turn, at the kerb."""
    places = []
    for road in roads:
        n = int(arc_length(road.centre_m)[-1] // 28)
        for k in range(n):
            side = 1 if k % 2 else -1
            reach = road.half_m + road.parking_m[0 if side > 0 else 1] + walk_m * 0.25
            places.append(road.offset(side * reach)[min(14 + 28 * k, len(road.centre_m) - 1)])
    return np.array(places)
