"""One town by its number: streets, junctions, ground, buildings. Town N is the same everywhere."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.lanes import LaneGraph, Road, arc_length, build_graph, hermite, resample
from sim.paint import Ground, junction_areas, paint_ground
from sim.scenery import Scenery, build_scenery
from vehicle.contracts.wire import RefusedError

MAX_TOWN = 100_000
_LATTICE = 4
_SIDEWALK_M = 2.6
_KERB_M = 0.3


class UnknownTownError(RefusedError, ValueError):
    """A town number is out of range."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Town:
    """A place to drive.

    Args:
        number: its seed.
        roads: streets between junctions.
        lanes: the drivable graph.
        ground: colour and class rasters.
        scenery: buildings, trees and lamps as quads.
        areas_m: polygons [N, 2] of the junctions.
        unsignalled: junctions that never have traffic lights.
        kerb_m, sidewalk_m: widths beside every road.
    """

    number: int
    roads: tuple[Road, ...]
    junctions_m: np.ndarray
    lanes: LaneGraph
    ground: Ground
    scenery: Scenery
    areas_m: tuple[np.ndarray, ...]
    unsignalled: frozenset[int] = frozenset()
    kerb_m: float = _KERB_M
    sidewalk_m: float = _SIDEWALK_M


@lru_cache(maxsize=2)
def build_town(number: int) -> Town:
    """Return the town `number`; the last two stay in memory.

    Raises:
        UnknownTownError: the number is not in 0..100000.
    """
    if not 0 <= number <= MAX_TOWN:
        raise UnknownTownError(f"town {number} does not exist: towns are 0..{MAX_TOWN}")
    rng = np.random.default_rng((7_001, number))
    nodes, tangents = _nodes(rng)
    edges = _edges(rng)
    roads = _roads(rng, nodes, tangents, edges)
    graph = build_graph(roads)
    ground, free = paint_ground(rng, nodes, roads, graph, kerb_m=_KERB_M, sidewalk_m=_SIDEWALK_M)
    scenery = build_scenery(rng, roads, free, ground, walk_m=_KERB_M + _SIDEWALK_M)
    return Town(
        number=number,
        roads=tuple(roads),
        junctions_m=nodes,
        lanes=graph,
        ground=ground,
        scenery=scenery,
        areas_m=tuple(junction_areas(nodes, roads, graph)),
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


def _roads(
    rng: np.random.Generator,
    nodes: np.ndarray,
    tangents: np.ndarray,
    edges: list[tuple[int, int, int]],
) -> list[Road]:
    width = float(rng.uniform(3.2, 3.6))
    lanes_of = rng.choice([1, 1, 2], size=(2, _LATTICE))
    lanes_of[0, rng.integers(_LATTICE)] = 2
    half = np.zeros(len(nodes))
    for a, b, axis in edges:
        line = a // _LATTICE if axis == 0 else a % _LATTICE
        for node in (a, b):
            half[node] = max(half[node], lanes_of[axis, line] * width + 2.3)
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
