"""Traffic lights: which approach of a junction may go when, and the heads that show it.

Each approach of a signalled junction has one state; approaches that would cross or merge are never
green or yellow together. The plan depends on town and seed only, the state on time only.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from sim.look.shapes import BEACON, FLAT, TAIL, Mesh, MeshBuilder, ring
from sim.town.lanes import LaneGraph
from sim.town.scenery import Scenery
from sim.town.world import Town

RED: Final = 0
YELLOW: Final = 1
GREEN: Final = 2
"""States of an approach."""

YELLOW_S: Final = 3.0
ALL_RED_S: Final = 1.5
STOP_BEFORE_END_M: Final = 5.0
"""The painted stop line lies this far before the end of a road lane (sim.town.paint)."""
_RED_AREA_M: Final = 2.0
_SIGNALLED_RATIO: Final = 0.75
_LIT: Final = ((255.0, 42.0, 30.0), (255.0, 186.0, 36.0), (36.0, 255.0, 204.0))
_SHINES: Final = (TAIL, TAIL, BEACON)
_UNLIT: Final = ((62.0, 18.0, 16.0), (62.0, 48.0, 18.0), (16.0, 52.0, 32.0))
_HOUSING: Final = (34.0, 36.0, 38.0)
_POLE: Final = (112.0, 116.0, 118.0)
_LAMP_M: Final = 0.2
"""Radius: a third more than the 300 mm of a street's lamps, so that one at 30 m covers a few pixels
of a 256 px wide camera, as a real one does of a real camera."""
_SPACING_M: Final = 0.47
_HOUSING_M: Final = (0.27, 1.5)
_QUADS_PER_LAMP: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """When each approach may go; all arrays have one row per approach.

    Args:
        way: int64 [A], the approach as LaneGraph.approach names it.
        junction: int64 [A].
        cycle_s, green_from_s, green_for_s: float64 [A]; green begins at green_from_s of the cycle.
        shift_s: float64 [A], where in the cycle the episode begins.
    """

    way: np.ndarray
    junction: np.ndarray
    cycle_s: np.ndarray
    green_from_s: np.ndarray
    green_for_s: np.ndarray
    shift_s: np.ndarray


class Signals:
    """The traffic lights of a town.

    Args:
        town: where.
        seed: of the plans; which junctions have lights depends on the town alone.
    """

    def __init__(self, town: Town, seed: int) -> None:
        self.town = town
        self.plan = make_plan(town, seed)
        lanes = town.lanes
        count = len(lanes.length_m)
        self.row_of_lane = np.full(count, -1, np.int64)
        """The approach that governs each road lane, -1 where none does."""
        self.stop_s_m = np.full(count, np.inf)
        """How far along each governed lane its stop line is."""
        for row, (way, node) in enumerate(zip(self.plan.way, self.plan.junction, strict=True)):
            at = _arriving(lanes, int(way), int(node))
            self.row_of_lane[at] = row
            self.stop_s_m[at] = _stop_at(lanes.length_m[at])
        self.stop_lines_m = np.array(
            [self._stop_area(row) for row in range(len(self.plan.way))], np.float64
        ).reshape(-1, 4, 2)

    def state(self, t_s: float) -> np.ndarray:
        """Return uint8 [A]: RED, YELLOW or GREEN of each approach at a time of the episode."""
        p = self.plan
        since = np.mod(t_s + p.shift_s - p.green_from_s, p.cycle_s)
        late = np.where(since < p.green_for_s + YELLOW_S, YELLOW, RED)
        return np.where(since < p.green_for_s, GREEN, late).astype(np.uint8)

    def lane_state(self, t_s: float) -> np.ndarray:
        """Return uint8 [L]: the state at the end of each lane, GREEN where no light governs."""
        state = np.append(self.state(t_s), np.uint8(GREEN))
        return state[self.row_of_lane]

    def red_lines_m(self, t_s: float) -> np.ndarray:
        """Return float64 [K, 4, 2]: the areas just beyond the stop lines that are red now."""
        return self.stop_lines_m[self.state(t_s) == RED]

    def _stop_area(self, row: int) -> np.ndarray:
        lanes = self.town.lanes
        at = np.flatnonzero(self.row_of_lane == row)
        half = lanes.widths() / 2
        sides: list[list[np.ndarray]] = [[], []]
        for reach in (0.0, _RED_AREA_M):
            edges = []
            for lane in at:
                x, y, yaw = lanes.pose(int(lane), float(self.stop_s_m[lane]) + reach)
                left = np.array([-math.sin(yaw), math.cos(yaw)])
                edges += [np.array([x, y]) + left * k * half[lane] for k in (1.0, -1.0)]
            across = np.array(edges) @ left
            sides[0].append(edges[int(np.argmax(across))])
            sides[1].append(edges[int(np.argmin(across))])
        return np.array([sides[0][0], sides[0][1], sides[1][1], sides[1][0]])


def _arriving(lanes: LaneGraph, way: int, node: int) -> np.ndarray:
    """Return the road lanes of an approach that end at a junction."""
    return np.flatnonzero(
        (lanes.junction < 0) & (lanes.approach == way) & (lanes.end_junction == node)
    )


def _stop_at(length_m: np.ndarray) -> np.ndarray:
    return np.maximum(length_m - STOP_BEFORE_END_M, length_m * 0.5)


def make_plan(town: Town, seed: int) -> Plan:
    """Return the plan of all signalled junctions: phases in turn, yellow, all red between them."""
    lanes = town.lanes
    where, rng = np.random.default_rng((11, town.number)), np.random.default_rng((12, seed))
    rows: list[tuple[float, ...]] = []
    for node in range(len(town.junctions_m)):
        arriving = (lanes.junction < 0) & (lanes.end_junction == node)
        ways = np.unique(lanes.approach[arriving])
        has_lights = where.random() < _SIGNALLED_RATIO
        if len(ways) < 3 or not has_lights or node in town.unsignalled:
            continue
        phases = _phases(lanes, ways, node)
        greens = rng.uniform(6.0, 10.0, len(phases))
        starts = np.concatenate([[0.0], np.cumsum(greens + YELLOW_S + ALL_RED_S)])
        shift = rng.uniform(0.0, starts[-1])
        for phase, start, green in zip(phases, starts[:-1], greens, strict=True):
            rows += [(way, node, starts[-1], start, green, shift) for way in phase]
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Plan(
        way=table[:, 0].astype(np.int64),
        junction=table[:, 1].astype(np.int64),
        cycle_s=table[:, 2],
        green_from_s=table[:, 3],
        green_for_s=table[:, 4],
        shift_s=table[:, 5],
    )


def _phases(lanes: LaneGraph, ways: np.ndarray, node: int) -> list[list[int]]:
    """Return approaches grouped so that none in a group conflicts with another of it."""
    phases: list[list[int]] = []
    for way in ways:
        for phase in phases:
            if not any(ways_conflict(lanes, int(way), other, node) for other in phase):
                phase.append(int(way))
                break
        else:
            phases.append([int(way)])
    return phases


def ways_conflict(lanes: LaneGraph, a: int, b: int, node: int) -> bool:
    """Return whether any way through a junction from approach `a` crosses or meets one of `b`."""
    through = lanes.junction == node
    rows = np.flatnonzero(through & (lanes.approach == a))
    columns = np.flatnonzero(through & (lanes.approach == b))
    return bool(lanes.conflicts[np.ix_(rows, columns)].any())


class Heads:
    """Poles and lamps at every approach, as scenery whose lamps change colour.

    Args:
        scenery: of the town; `scenery` of this object is that plus the heads, a copy of its own.
    """

    def __init__(self, signals: Signals, scenery: Scenery) -> None:
        self._signals = signals
        mesh, first, rows = MeshBuilder(), [], []
        lamps: list[list[int]] = []
        for row in range(len(signals.plan.way)):
            place, size = _head(mesh, signals, row, lamps)
            first.append(len(mesh))
            rows.append((*place, *size))
        offset = len(scenery.mesh.quads)
        self.lamps = np.array(lamps, np.int64).reshape(len(rows), 2 * _QUADS_PER_LAMP, 3) + offset
        self.scenery = _joined(scenery, mesh.mesh(), np.array(first, np.int64), np.array(rows))
        self._shown: np.ndarray | None = None

    def show(self, t_s: float) -> None:
        """Light the lamps as they are at a time of the episode."""
        state = self._signals.state(t_s)
        if self._shown is not None and np.array_equal(state, self._shown):
            return
        self._shown = state
        mesh = self.scenery.mesh
        for lamp in range(3):
            rows = self.lamps[:, :, lamp]
            lit = np.broadcast_to((state == lamp)[:, None], rows.shape)
            mesh.colours[rows[lit]], mesh.colours[rows[~lit]] = _LIT[lamp], _UNLIT[lamp]
            mesh.material[rows[lit]], mesh.material[rows[~lit]] = _SHINES[lamp], FLAT


def _joined(scenery: Scenery, mesh: Mesh, first: np.ndarray, rows: np.ndarray) -> Scenery:
    """Return scenery with more objects; rows are x, y, middle height, radius."""
    rows = rows.reshape(-1, 4)
    foot = np.column_stack([rows[:, :2], np.full((len(rows), 2), 0.1), np.zeros(len(rows))])
    old = scenery.mesh
    return Scenery(
        mesh=Mesh(
            quads=np.concatenate([old.quads, mesh.quads]),
            normals=np.concatenate([old.normals, mesh.normals]),
            colours=np.concatenate([old.colours, mesh.colours]),
            material=np.concatenate([old.material, mesh.material]),
        ),
        first=np.concatenate([scenery.first, first + len(old.quads)]),
        spheres=np.concatenate([scenery.spheres, rows.astype(np.float32)]),
        footprints=np.concatenate([scenery.footprints, foot.astype(np.float32)]),
        heights_m=np.concatenate([scenery.heights_m, np.full(len(rows), 3.5, np.float32)]),
        solid=np.concatenate([scenery.solid, np.zeros(len(rows), bool)]),
    )


def _head(
    mesh: MeshBuilder, signals: Signals, row: int, lamps: list[list[int]]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Add the pole at the right kerb, its arm over the lanes, a head on each; return its sphere."""
    town, way = signals.town, int(signals.plan.way[row])
    lanes = town.lanes
    at = np.flatnonzero(signals.row_of_lane == row)
    ends = np.array([lanes.pose(int(lane), float(lanes.length_m[lane])) for lane in at])
    yaw = float(ends[0, 2])
    along = np.array([math.cos(yaw), math.sin(yaw)])
    right = np.array([along[1], -along[0]])
    reach = ends[:, :2] @ right
    edge = int(np.argmax(reach))
    bay = 0.0
    if way // 2 < len(town.roads):
        bay = town.roads[way // 2].parking_m[0 if way % 2 else 1]
    pole = ends[edge, :2] + right * (lanes.widths()[at[edge]] / 2 + bay + 0.7)
    arm = float(pole @ right - reach.mean())
    mesh.prism(ring(6, 0.09, 0.0, tuple(pole)), ring(6, 0.07, 5.9, tuple(pole)), _POLE)
    mesh.prism(
        _turned(pole, along, right, (-0.05, 0.05), (-arm, 0.0), 5.6),
        _turned(pole, along, right, (-0.05, 0.05), (-arm, 0.0), 5.7), _POLE,
    )  # fmt: skip
    own: list[int] = []
    for across, low in ((0.0, 2.5), (-arm, 4.75)):
        own += _box_with_lamps(mesh, pole + right * across - along * 0.2, along, right, low)
    # [head, quad of a lamp, lamp] -> [head * quad, lamp]
    lamps.append(list(np.array(own).reshape(2, 3, _QUADS_PER_LAMP).transpose(0, 2, 1).ravel()))
    middle = pole - right * arm / 2
    return (float(middle[0]), float(middle[1])), (3.1, math.hypot(3.4, arm / 2 + 0.6))


def _turned(
    at: np.ndarray,
    along: np.ndarray,
    right: np.ndarray,
    ahead: tuple[float, float],
    across: tuple[float, float],
    z: float,
) -> np.ndarray:
    """Return a rectangle [4, 3] at height z, counter-clockwise from above."""
    corners = [(ahead[1], across[0]), (ahead[0], across[0]), (ahead[0], across[1])]
    corners.append((ahead[1], across[1]))
    return np.array([[*(at + along * a + right * b), z] for a, b in corners])


def _box_with_lamps(
    mesh: MeshBuilder, at: np.ndarray, along: np.ndarray, right: np.ndarray, low: float
) -> list[int]:
    """Add a housing that faces the traffic and its lamps, red on top; return the lamps' quads."""
    half, tall = _HOUSING_M
    mesh.prism(
        _turned(at, along, right, (0.0, 0.16), (-half, half), low),
        _turned(at, along, right, (0.0, 0.16), (-half, half), low + tall), _HOUSING,
    )  # fmt: skip
    quads = []
    angle = (np.arange(8) + 0.5) * (math.pi / 4)
    for k in range(3):
        z = low + tall / 2 + _SPACING_M * (1 - k)
        flat = (at - along * 0.01)[None] + np.outer(_LAMP_M * np.cos(angle), right)
        disc = np.column_stack([flat, z + _LAMP_M * np.sin(angle)])
        for corners in ([0, 1, 2, 3], [0, 3, 4, 7], [4, 5, 6, 7]):
            quads.append(len(mesh))
            mesh.quad(disc[corners], _UNLIT[k], out=(-float(along[0]), -float(along[1]), 0.0))
    return quads
