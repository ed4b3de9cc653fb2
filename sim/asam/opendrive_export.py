"""Towns as OpenDRIVE 1.5, for other people's simulators.

A street becomes a road with its lanes on both sides, parking bays and sidewalks; each way through a
junction a connecting road. Reference lines are cubic pieces of five metres (paramPoly3).
"""

import math
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np
from scenariogeneration import xodr

from sim.town.lanes import Road, arc_length, headings
from sim.town.world import Town
from vehicle.contracts import wire

_PIECE: Final = 5
_PIECE_IN_JUNCTION: Final = 2
_WALK_M: Final = 2.9
_BROKEN: Final = (3.0, 3.0)
_UNDATED: Final = "2000-01-01T00:00:00"


def export_town(town: Town, path: Path) -> None:
    """Write a town as an OpenDRIVE map, all or nothing."""
    wire.atomic_write(path, xml_bytes(to_opendrive(town).get_element()))


def xml_bytes(element: ElementTree.Element) -> bytes:
    """Return the bytes of a document, indented; without today's date, so that two runs agree."""
    for header in (*element.iter("header"), *element.iter("FileHeader")):
        header.set("date", _UNDATED)
    ElementTree.indent(element)
    body: bytes = ElementTree.tostring(element, "utf-8", xml_declaration=True)
    return body + b"\n"


def to_opendrive(town: Town) -> xodr.OpenDrive:
    """Return a town as an OpenDRIVE document; roads are numbered as Town.roads, then connectors."""
    odr = xodr.OpenDrive(f"town {town.number}", revMajor="1", revMinor="5")
    lanes, places = town.lanes, _places(town)
    junctions = {
        node: xodr.Junction(f"junction {node}", 100_000 + node)
        for node in sorted({int(j) for j in lanes.junction if j >= 0})
    }
    for index, road in enumerate(town.roads):
        made = _street(town, index, road)
        ends = _junctions_of(town, index)
        for end, add in ((ends[0], made.add_predecessor), (ends[1], made.add_successor)):
            if end >= 0:
                add(xodr.ElementType.junction, 100_000 + end)
        odr.add_road(made)
    for lane in np.flatnonzero(lanes.junction >= 0):
        before = np.flatnonzero((lanes.successors == lane).any(axis=1))
        after = int(lanes.successors[lane, 0])
        arrive, leave = places[int(before[0])], places[after]
        number = len(town.roads) + int(lane)
        odr.add_road(_connector(town, int(lane), number, arrive, leave))
        joint = xodr.Connection(arrive[0], number, xodr.ContactPoint.start)
        joint.add_lanelink(arrive[1], -1)
        junctions[int(lanes.junction[lane])].add_connection(joint)
    for junction in junctions.values():
        odr.add_junction(junction)
    return odr


def _places(town: Town) -> dict[int, tuple[int, int]]:
    """Return for each road lane its OpenDRIVE road and lane id."""
    lanes, out = town.lanes, {}
    for index in range(len(town.roads)):
        for backward in (0, 1):
            own = np.flatnonzero((lanes.junction < 0) & (lanes.approach == 2 * index + backward))
            for i, lane in enumerate(own):
                out[int(lane)] = (index, (i + 1) if backward else -(i + 1))
    return out


def _junctions_of(town: Town, index: int) -> tuple[int, int]:
    """Return the junctions at the start and the end of a road, -1 for none."""
    lanes = town.lanes
    ends = [-1, -1]
    for backward in (0, 1):
        for lane in np.flatnonzero((lanes.junction < 0) & (lanes.approach == 2 * index + backward)):
            after = int(lanes.successors[lane, 0])
            if after >= 0:
                ends[0 if backward else 1] = int(lanes.junction[after])
            before = np.flatnonzero((lanes.successors == lane).any(axis=1))
            if len(before):
                ends[1 if backward else 0] = int(lanes.junction[before[0]])
    return ends[0], ends[1]


def _plan_view(line_m: np.ndarray, points: int = _PIECE) -> xodr.PlanView:
    """Return a line as cubic pieces that keep its points and its directions."""
    view = xodr.PlanView()
    yaw, s = headings(line_m), arc_length(line_m)
    cuts = list(range(0, len(line_m) - 1, points))
    if len(cuts) > 1 and len(line_m) - 1 - cuts[-1] < points / 2:
        cuts.pop()
    for a, b in zip(cuts, [*cuts[1:], len(line_m) - 1], strict=True):
        d, length = line_m[b] - line_m[a], float(s[b] - s[a])
        c, n = math.cos(yaw[a]), math.sin(yaw[a])
        u, v = c * d[0] + n * d[1], -n * d[0] + c * d[1]
        turn = yaw[b] - yaw[a]
        tu, tv = length * math.cos(turn), length * math.sin(turn)
        piece = xodr.ParamPoly3(
            0.0, length, 3 * u - 2 * length - tu, length + tu - 2 * u,
            0.0, 0.0, 3 * v - tv, tv - 2 * v, "normalized", length,
        )  # fmt: skip
        x, y = line_m[a]
        view.add_fixed_geometry(piece, float(x), float(y), float(yaw[a]), float(s[a]))
    view.present_s = float(s[-1])
    return view


def _street(town: Town, index: int, road: Road) -> xodr.Road:
    middle = xodr.Lane(xodr.LaneType.none)
    middle.add_roadmark(_mark("edge" if road.oneway else "centre", road))
    section = xodr.LaneSection(0, middle)
    for side, add in ((0, section.add_left_lane), (1, section.add_right_lane)):
        if road.oneway and side == 0:
            continue
        for i in range(road.lanes):
            ramp = road.oneway and road.lanes == 1
            kind = xodr.LaneType.onRamp if ramp else xodr.LaneType.driving
            lane = xodr.Lane(kind, a=road.lane_width_m)
            lane.add_roadmark(_mark("edge" if i == road.lanes - 1 else "between", road))
            add(lane)
        if road.parking_m[side]:
            add(xodr.Lane(xodr.LaneType.parking, a=road.parking_m[side]))
        if road.sidewalk:
            add(xodr.Lane(xodr.LaneType.sidewalk, a=_WALK_M))
    lanes = xodr.Lanes()
    lanes.add_lanesection(section)
    made = xodr.Road(index, _plan_view(road.centre_m), lanes)
    kind = xodr.RoadType.town if road.sidewalk else xodr.RoadType.motorway
    made.add_type(kind, 0, speed=round(road.speed_mps, 3), speed_unit="m/s")
    return made


def _mark(where: str, road: Road) -> xodr.RoadMark:
    """Return the line in the middle of a street, at its edge, or between two lanes."""
    if where == "between" or (where == "centre" and road.lanes == 1):
        return xodr.RoadMark(
            xodr.RoadMarkType.broken, 0.2, *_BROKEN, color=xodr.RoadMarkColor.white
        )
    if where == "centre":
        return xodr.RoadMark(xodr.RoadMarkType.solid_solid, 0.2, color=xodr.RoadMarkColor.white)
    return xodr.RoadMark(xodr.RoadMarkType.solid, 0.2, color=xodr.RoadMarkColor.white)


def _connector(
    town: Town, lane: int, number: int, arrive: tuple[int, int], leave: tuple[int, int]
) -> xodr.Road:
    """Return the connecting road of one way through a junction; its lane is centred on the line."""
    lanes = town.lanes
    width = float(lanes.widths()[lane])
    only = xodr.Lane(xodr.LaneType.driving, a=width)
    only.add_link("predecessor", arrive[1]).add_link("successor", leave[1])
    section = xodr.LaneSection(0, xodr.Lane(xodr.LaneType.none))
    section.add_right_lane(only)
    parts = xodr.Lanes()
    parts.add_lanesection(section)
    parts.add_laneoffset(xodr.LaneOffset(0, width / 2))
    node = 100_000 + int(lanes.junction[lane])
    made = xodr.Road(
        number, _plan_view(lanes.line(lane), _PIECE_IN_JUNCTION), parts, road_type=node
    )
    made.add_type(
        xodr.RoadType.town, 0, speed=round(float(lanes.speed_mps[lane]), 3), speed_unit="m/s"
    )
    at = (xodr.ContactPoint.end, xodr.ContactPoint.start)
    made.add_predecessor(xodr.ElementType.road, arrive[0], at[0 if arrive[1] < 0 else 1])
    made.add_successor(xodr.ElementType.road, leave[0], at[1 if leave[1] < 0 else 0])
    return made
