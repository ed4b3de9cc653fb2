"""Towns of streets: a crooked lattice of junctions, plain ones or roundabouts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sim.town.lanes import LaneGraph, Ring, Road, arc_length, build_graph, hermite, resample
from sim.town.outline import Line, Outline, band, junction_areas, lamp_places, street_outline

_LATTICE = 4
_RING_KERB_M = 0.7
"""Paved beyond the lane of a ring, inside and outside."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Site:
    """A place before it is painted.

    Args:
        nodes_m: junctions [J, 2].
        extent_m: [N, 2] points; the ground reaches 70 m beyond them.
        areas_m: polygons of the junctions.
        unsignalled: junctions that never have traffic lights.
    """

    nodes_m: np.ndarray
    extent_m: np.ndarray
    roads: list[Road]
    graph: LaneGraph
    outline: Outline
    areas_m: tuple[np.ndarray, ...]
    unsignalled: frozenset[int] = frozenset()


def lattice(rng: np.random.Generator) -> Site:
    """Return streets that meet at plain junctions."""
    nodes, tangents = _nodes(rng)
    roads = street_roads(rng, nodes, tangents, _edges(rng))
    graph = build_graph(roads)
    return Site(
        nodes_m=nodes,
        extent_m=nodes,
        roads=roads,
        graph=graph,
        outline=street_outline(nodes, roads, graph),
        areas_m=tuple(junction_areas(nodes, roads, graph)),
    )


def roundabouts(rng: np.random.Generator) -> Site:
    """Return streets of one lane each way; wherever three or more meet is a roundabout."""
    nodes, tangents = _nodes(rng)
    edges = _edges(rng)
    degree = np.bincount(np.array([e[:2] for e in edges]).ravel(), minlength=len(nodes))
    rings = {
        int(node): Ring(centre_m=nodes[node], radius_m=float(rng.uniform(13.0, 17.0)))
        for node in np.flatnonzero(degree >= 3)
    }
    roads = street_roads(rng, nodes, tangents, edges, rings)
    graph = build_graph(roads, rings)
    return Site(
        nodes_m=nodes,
        extent_m=nodes,
        roads=roads,
        graph=graph,
        outline=_ring_outline(nodes, roads, graph, rings),
        areas_m=tuple(_ring_areas(nodes, roads, graph, rings, 0.0)),
        unsignalled=frozenset(rings),
    )


def _ring_areas(
    nodes: np.ndarray,
    roads: list[Road],
    graph: LaneGraph,
    rings: Mapping[int, Ring],
    extra_m: float,
) -> list[np.ndarray]:
    plain = [node for node in range(len(nodes)) if node not in rings]
    reach = graph.lane_width_m / 2 + _RING_KERB_M + extra_m
    discs = [ring.circle(ring.radius_m + reach) for ring in rings.values()]
    return junction_areas(nodes, roads, graph, extra_m, hulls=plain) + discs


def _ring_outline(
    nodes: np.ndarray, roads: list[Road], graph: LaneGraph, rings: Mapping[int, Ring]
) -> Outline:
    def around(extra_m: float) -> list[np.ndarray]:
        bands = [
            band(road, road.half_m + road.parking_m[0] + extra_m,
                 -road.half_m - road.parking_m[1] - extra_m)
            for road in roads
        ]  # fmt: skip
        return bands + _ring_areas(nodes, roads, graph, rings, extra_m)

    half = graph.lane_width_m / 2
    patches, lines = [], []
    for ring in rings.values():
        island = ring.radius_m - half - _RING_KERB_M
        patches += [("kerb", ring.circle(island)), ("walk", ring.circle(island - 0.3))]
        patches.append(("grass", ring.circle(island - 2.0)))
        lines.append(Line(points_m=ring.circle(ring.radius_m - half - 0.15)))
        lines.append(Line(points_m=ring.circle(ring.radius_m + half + 0.2), on_m=1, off_m=1))
    surface = [band(road, road.half_m, -road.half_m) for road in roads]
    return Outline(
        around=around,
        surface=surface + _ring_areas(nodes, roads, graph, rings, 0.0),
        lamps_m=lambda walk_m: lamp_places(roads, walk_m),
        streets=roads,
        patches=patches,
        lines=lines,
    )


def _nodes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return junctions [16, 2] and their along-row and along-column directions [16, 2, 2]."""
    spacing = rng.uniform(95.0, 118.0)
    turn = rng.uniform(0.0, 2 * math.pi)
    base = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    nodes, tangents = [], []
    for row in range(_LATTICE):
        for column in range(_LATTICE):
            grid = np.array([column, row]) - (_LATTICE - 1) / 2
            place = grid * spacing + rng.uniform(-13.0, 13.0, 2)
            nodes.append(place @ base)
            twist = rng.uniform(-0.38, 0.38)
            spin = np.array(
                [[math.cos(twist), math.sin(twist)], [-math.sin(twist), math.cos(twist)]]
            )
            tangents.append(spin @ base)
    return np.array(nodes), np.array(tangents)


def _edges(rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Return (node, node, axis); some are left out, no junction keeps fewer than two."""
    n = _LATTICE
    edges = [(r * n + c, r * n + c + 1, 0) for r in range(n) for c in range(n - 1)]
    edges += [(r * n + c, (r + 1) * n + c, 1) for r in range(n - 1) for c in range(n)]
    degree = np.bincount(np.array([e[:2] for e in edges]).ravel(), minlength=n * n)
    inner = [e for e in edges if degree[e[0]] > 3 or degree[e[1]] > 3]
    for index in rng.permutation(len(inner))[:4]:
        a, b, _ = inner[index]
        if degree[a] > 2 and degree[b] > 2:
            edges.remove(inner[index])
            degree[a] -= 1
            degree[b] -= 1
    return edges


def street_roads(
    rng: np.random.Generator,
    nodes: np.ndarray,
    tangents: np.ndarray,
    edges: list[tuple[int, int, int]],
    rings: Mapping[int, Ring] | None = None,
) -> list[Road]:
    """Return the streets along the edges; with `rings`, one lane each way, and room for those."""
    width = float(rng.uniform(3.2, 3.6))
    lanes_of = rng.choice([1, 1, 2], size=(2, _LATTICE))
    lanes_of[0, rng.integers(_LATTICE)] = 2
    if rings is not None:
        lanes_of[:] = 1
    half = np.zeros(len(nodes))
    for a, b, axis in edges:
        line = a // _LATTICE if axis == 0 else a % _LATTICE
        for node in (a, b):
            half[node] = max(half[node], lanes_of[axis, line] * width + 2.3)
            if rings and node in rings:
                half[node] = rings[node].radius_m + 8.0
    roads = []
    for a, b, axis in edges:
        line = a // _LATTICE if axis == 0 else a % _LATTICE
        reach = float(np.hypot(*(nodes[b] - nodes[a])))
        curve = hermite(
            nodes[a], tangents[a, axis] * reach, nodes[b], tangents[b, axis] * reach, 400
        )
        s = arc_length(curve)
        keep = (s >= half[a] + 4.5) & (s <= s[-1] - half[b] - 4.5)
        lanes = int(lanes_of[axis, line])
        bays = rng.random(2) < (0.75 if lanes == 1 else 0.4)
        roads.append(
            Road(
                centre_m=resample(curve[keep]),
                nodes=(a, b),
                lanes=lanes,
                lane_width_m=width,
                parking_m=(2.3 if bays[0] else 0.0, 2.3 if bays[1] else 0.0),
                speed_mps=13.9 if lanes == 2 else float(rng.choice([8.3, 11.1])),
            )
        )
    return roads
