"""An OpenDRIVE map as a place to drive: lanes linked to a graph, ground painted from road marks."""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from sim.asam.opendrive_curves import edges, reference
from sim.asam.opendrive_graph import DEFAULT_MPS, Found, link_lanes
from sim.asam.opendrive_parse import (
    DRIVABLE,
    MAX_LENGTH_M,
    HugeMapError,
    MalformedMapError,
    MissingMapError,
    OdrMap,
    OdrRoad,
    Section,
    read_map,
)
from sim.town.lanes import Road, resample
from sim.town.outline import Line, Outline, lamp_places
from sim.town.paint import paint_outline
from sim.town.scenery import build_scenery
from sim.town.world import Town

MAX_SIDE_M: Final = 2_600.0
"""Of the painted ground: 0.2 m cells; a square of this takes 0.7 GB."""
MAX_WIDE_M: Final = 150.0
"""From the reference line to the outermost lane's edge."""
_NARROW_M: Final = 1.8
_SHORT_M: Final = 0.2
_PAVED: Final = ("parking", "shoulder", "border", "stop", "restricted", "median", "biking")
_WALKED: Final = ("sidewalk", "walking", "curb")

Strip = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""A lane's stretch: reference poses, normals to the left, its inner and outer edge."""


@dataclass(slots=True, kw_only=True)
class _Beside:
    """What a road has, taken together along it."""

    half_m: float = 1.0
    bays_m: list[float] = field(default_factory=lambda: [0.0, 0.0])
    walked: bool = False


def load_map(path: Path) -> Town:
    """Return the world of an OpenDRIVE file; the last one stays in memory while it is unchanged.

    Raises:
        MissingMapError: there is no such file.
        MalformedMapError, ZeroLengthRoadError, HugeMapError: see sim.asam.opendrive_parse.
    """
    if not path.is_file():
        raise MissingMapError(f"{path} is no file: expected an OpenDRIVE map (.xodr)")
    stat = path.stat()
    return _load(path.resolve(), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1)
def _load(path: Path, changed_ns: int, size_bytes: int) -> Town:
    return town_of(read_map(path))


def town_of(odr: OdrMap) -> Town:
    """Return the world of a parsed map.

    Raises:
        HugeMapError: more than 200 km of roads, or a ground wider than 2.6 km.
        MalformedMapError: nothing in it can be driven on.
    """
    total = sum(road.length_m for road in odr.roads.values())
    if total > MAX_LENGTH_M:
        raise HugeMapError(f"the map has {total / 1000:.0f} km of roads, at most 200 are built")
    found = Found()
    for road in odr.roads.values():
        _lay(found, road)
    if not found.lines:
        raise MalformedMapError("the map has no lane wide enough to drive on")
    graph, junctions = link_lanes(odr, found)
    side = float(np.ptp(graph.points_m, axis=0).max())
    if side > MAX_SIDE_M:
        raise HugeMapError(f"the map is {side:.0f} m wide, at most {MAX_SIDE_M:.0f} m: cut it")
    rng = np.random.default_rng(7_101)
    ground, free = paint_outline(
        rng, graph.points_m, _outline(found), kerb_m=_KERB_M, sidewalk_m=_WALK_M
    )
    return Town(
        number=0,
        roads=tuple(found.roads),
        junctions_m=junctions,
        lanes=graph,
        ground=ground,
        scenery=build_scenery(rng, found.roads, free, ground, walk_m=_KERB_M + _WALK_M),
        areas_m=tuple(found.crossing),
    )


_KERB_M, _WALK_M = 0.3, 2.6


def _outline(found: Found) -> Outline:
    def around(extra_m: float) -> list[np.ndarray]:
        if extra_m > 1.0:
            return found.walked
        return found.paved if extra_m == 0.0 else []

    return Outline(
        around=around,
        surface=found.surface,
        lamps_m=lambda walk_m: lamp_places(found.roads, walk_m),
        lines=found.marks,
    )


def _lay(found: Found, road: OdrRoad) -> None:
    """Evaluate a road: its lanes as lines, everything beside them as polygons."""
    begins = [min(max(s.s_m, 0.0), road.length_m) for s in road.sections]
    begins[0] = 0.0
    beside = _Beside()
    for number, (section, begin, end) in enumerate(
        zip(road.sections, begins, [*begins[1:], road.length_m], strict=True)
    ):
        if end - begin < 1e-3:
            continue
        at = np.linspace(begin, end, max(round((end - begin) / 0.5) + 1, 3))
        line = reference(road, at)
        normal = np.stack([-np.sin(line[:, 2]), np.cos(line[:, 2])], axis=1)
        edge = edges(road, section, at)
        widest = max(float(np.abs(e).max()) for e in edge.values())
        if widest > MAX_WIDE_M:
            raise MalformedMapError(
                f"road {road.id!r} reaches {widest:g} m aside, at most {MAX_WIDE_M:g} is a road"
            )
        for id_ in sorted(edge.keys() - {0}, key=abs):
            strip = line, normal, edge[id_ - (1 if id_ > 0 else -1)], edge[id_]
            if section.lanes[id_].kind in DRIVABLE:
                beside.half_m = max(beside.half_m, float(np.abs(edge[id_]).max()))
                _drivable(found, road, number, id_, strip)
            else:
                _pave(found, beside, section.lanes[id_].kind, id_, strip)
        _marks(found, section, at - section.s_m, line, normal, edge)
    if road.junction == "-1":
        at = np.linspace(0.0, road.length_m, max(round(road.length_m) + 1, 3))
        found.way[road.id] = len(found.roads)
        found.roads.append(
            Road(
                centre_m=resample(reference(road, at)[:, :2]),
                nodes=(-1, -1),
                lanes=1,
                lane_width_m=beside.half_m,
                parking_m=(beside.bays_m[0], beside.bays_m[1]),
                speed_mps=road.speed_mps or DEFAULT_MPS,
                sidewalk=beside.walked,
            )
        )


def _pave(found: Found, beside: _Beside, kind: str, id_: int, strip: Strip) -> None:
    """Collect what is beside the lanes: bays, shoulders, sidewalks."""
    wide = float(np.abs(strip[3] - strip[2]).max())
    if kind in _WALKED:
        found.walked.append(_between(*strip))
        beside.walked = True
    elif kind in _PAVED and wide > 0.05:
        found.paved.append(_between(*strip))
        if kind == "parking":
            side = 0 if id_ > 0 else 1
            beside.bays_m[side] = max(beside.bays_m[side], wide)


def _between(
    line: np.ndarray, normal: np.ndarray, inner: np.ndarray, outer: np.ndarray
) -> np.ndarray:
    """Return the polygon between two offsets, a hand wider so that neighbours leave no gap."""
    line = line[:, :2]
    grow = np.where(outer >= inner, 0.06, -0.06)
    a, b = line + normal * (inner - grow)[:, None], line + normal * (outer + grow)[:, None]
    return np.concatenate([a, b[::-1]])


def _drivable(found: Found, road: OdrRoad, number: int, id_: int, strip: Strip) -> None:
    """Collect a lane wheels may go on; as a way to go only where a car fits."""
    line, normal, inner, outer = strip
    ring = _between(*strip)
    found.surface.append(ring)
    if road.junction != "-1":
        found.crossing.append(ring)
    wide = np.abs(outer - inner)
    if wide.max() < _NARROW_M:
        return
    centre = line[:, :2] + normal * ((inner + outer) / 2)[:, None]
    forward = (id_ < 0) == road.right_hand
    centre = centre if forward else centre[::-1]
    if np.hypot(*np.diff(centre, axis=0).T).sum() < _SHORT_M:
        return
    found.lines[road.id, number, id_] = centre
    found.widths[road.id, number, id_] = float(wide.mean())


def _marks(
    found: Found,
    section: Section,
    at_m: np.ndarray,
    line: np.ndarray,
    normal: np.ndarray,
    edge: dict[int, np.ndarray],
) -> None:
    """Collect the painted lines of a section."""
    for id_, lane in section.lanes.items():
        ends = [*(m.s_m for m in lane.marks[1:]), math.inf]
        for mark, end in zip(lane.marks, ends, strict=False):
            rows = (at_m >= mark.s_m - 1e-6) & (at_m <= end)
            if mark.kind in ("none", "grass", "curb", "edge") or rows.sum() < 3 or id_ not in edge:
                continue
            double = mark.kind in ("solid_solid", "solid solid")
            for side in (0.16, -0.16) if double else (0.0,):
                points = line[rows, :2] + normal[rows] * (edge[id_][rows] + side)[:, None]
                broken = mark.kind.startswith("broken") or mark.kind.startswith("botts")
                found.marks.append(
                    Line(
                        points_m=resample(points),
                        colour="centre" if mark.colour == "yellow" else "white",
                        on_m=3,
                        off_m=4 if broken else 0,
                        width_m=min(max(mark.width_m, 0.12), 0.5),
                    )
                )
