"""Lanes of an OpenDRIVE map linked to a graph: by the file's links, else by where they meet."""

import math
from dataclasses import dataclass, field, replace
from typing import Final

import cv2
import numpy as np

from sim.asam.opendrive_parse import OdrMap
from sim.town.lanes import MAX_SUCCESSORS, GraphBuilder, LaneGraph, Road, flatten
from sim.town.outline import Line

DEFAULT_MPS: Final = 13.9
_NEAR_M, _NEAR_RAD = 0.6, 0.35

Key = tuple[str, int, int]
"""A lane of a file: road id, number of the section, lane id."""


@dataclass(slots=True, kw_only=True)
class Found:
    """Lanes found so far, and the polygons beside them."""

    lines: dict[Key, np.ndarray] = field(default_factory=dict)
    widths: dict[Key, float] = field(default_factory=dict)
    surface: list[np.ndarray] = field(default_factory=list)
    crossing: list[np.ndarray] = field(default_factory=list)
    paved: list[np.ndarray] = field(default_factory=list)
    walked: list[np.ndarray] = field(default_factory=list)
    marks: list[Line] = field(default_factory=list)
    roads: list[Road] = field(default_factory=list)
    way: dict[str, int] = field(default_factory=dict)


def link_lanes(odr: OdrMap, found: Found) -> tuple[LaneGraph, np.ndarray]:
    """Return the lanes linked, and the middles of the junctions."""
    names = {name: k for k, name in enumerate(sorted(_crossed(odr)))}
    keys = list(found.lines)
    index = {key: k for k, key in enumerate(keys)}
    b = GraphBuilder()
    for key in keys:
        road = odr.roads[key[0]]
        own = road.sections[key[1]].lanes[key[2]].speed_mps or road.speed_mps or DEFAULT_MPS
        node = names.get(road.junction, -1)
        way = found.way.get(road.id, -1) * 2 + int((key[2] < 0) != road.right_hand)
        b.add(found.lines[key], (own, node, -1, way if road.id in found.way else -1, 0))
    for key in keys:
        targets = [index[t] for t in _following(odr, found, key)]
        b.links[index[key]] = list(dict.fromkeys(targets))[:MAX_SUCCESSORS]
    _join_by_place(b)
    count = _turn_round(b, keys, len(names), found)
    _describe(b)
    for lane, key in enumerate(keys):  # nobody stops on a motorway but who joins it
        road = odr.roads[key[0]]
        if road.kind == "motorway" and road.sections[key[1]].lanes[key[2]].kind == "driving":
            b.rows[lane] = (*b.rows[lane][:2], -1, *b.rows[lane][3:])
    graph = flatten(b, float(np.median(list(found.widths.values()))))
    widths = [found.widths[k] for k in keys]
    widths += [graph.lane_width_m] * (len(b.lines) - len(keys))
    middles = np.zeros((count, 2))
    for node in range(count):
        own_lanes = np.flatnonzero(graph.junction == node)
        if len(own_lanes):
            middles[node] = np.concatenate([graph.line(int(k)) for k in own_lanes]).mean(axis=0)
    return replace(graph, width_m=np.array(widths)), middles


def _crossed(odr: OdrMap) -> set[str]:
    return {road.junction for road in odr.roads.values() if road.junction != "-1"}


def _following(odr: OdrMap, found: Found, key: Key, hops: int = 0) -> list[Key]:
    """Return the lanes that traffic of a lane comes to next; lanes left out are passed through."""
    road = odr.roads[key[0]]
    lane = road.sections[key[1]].lanes[key[2]]
    ahead = (key[2] < 0) == road.right_hand
    linked = lane.after if ahead else lane.before
    step = key[1] + (1 if ahead else -1)
    options: list[Key] = []
    if 0 <= step < len(road.sections):
        options = [(road.id, step, key[2] if linked is None else linked)]
    else:
        link = road.after if ahead else road.before
        if link is None:
            return []
        if link.to_junction:
            options = _through(odr, link.id, key)
        elif link.id in odr.roads and linked is not None:
            other = odr.roads[link.id]
            section = 0 if link.contact == "start" else len(other.sections) - 1
            options = [(link.id, section, linked)]
    out: list[Key] = []
    for option in options:
        if option in found.lines:
            out.append(option)
        elif hops < 4 and option[2] in odr.roads[option[0]].sections[option[1]].lanes:
            out += _following(odr, found, option, hops + 1)
    return out


def _through(odr: OdrMap, junction: str, key: Key) -> list[Key]:
    """Return where a lane leads into a junction."""
    out = []
    for joint in odr.joints.get(junction, ()):
        if joint.incoming != key[0] or joint.connecting not in odr.roads:
            continue
        other = odr.roads[joint.connecting]
        section = 0 if joint.contact == "start" else len(other.sections) - 1
        pairs = joint.lanes or ((key[2], key[2]),)
        out += [(other.id, section, to) for come, to in pairs if come == key[2]]
    return out


def _join_by_place(b: GraphBuilder) -> None:
    """Link lanes that lead nowhere to one that begins where they end, heading the same way."""
    heads = np.array([line[0] for line in b.lines])
    yaws = np.array([math.atan2(*(line[1] - line[0])[::-1]) for line in b.lines])
    for lane, line in enumerate(b.lines):
        if b.links[lane]:
            continue
        d = line[-1] - line[-2]
        turn = (yaws - math.atan2(d[1], d[0]) + math.pi) % (2 * math.pi) - math.pi
        near = (np.hypot(*(heads - line[-1]).T) < _NEAR_M) & (np.abs(turn) < _NEAR_RAD)
        near[lane] = False
        b.links[lane] = [int(k) for k in np.flatnonzero(near)[:MAX_SUCCESSORS]]


def _turn_round(b: GraphBuilder, keys: list[Key], count: int, found: Found) -> int:
    """Let traffic turn where a two-way road ends; return how many junctions there are now."""
    for lane, key in enumerate(keys):
        if b.links[lane] or b.rows[lane][1] >= 0:
            continue
        line = b.lines[lane]
        back = [
            k
            for k, other in enumerate(keys)
            if other[0] == key[0] and other[1] == key[1] and other[2] * key[2] < 0
        ]
        if not back:
            continue
        near = min(back, key=lambda k: float(np.hypot(*(b.lines[k][0] - line[-1]))))
        p0, p1 = line[-1], b.lines[near][0]
        reach = float(np.hypot(*(p1 - p0)))
        if not 1.0 < reach < 30.0:
            continue
        bulb = _bulb(p0, line[-1] - line[-2], p1)
        link = b.add(bulb, (3.0, count, -1, b.rows[lane][3], 1))
        b.links[lane], b.links[link] = [link], [near]
        ring = cv2.convexHull(np.concatenate([bulb, line[-2:]]).astype(np.float32))[:, 0]
        middle = ring.mean(axis=0)
        wide = middle + (ring - middle) * (1.0 + 2.4 / max(float(np.ptp(ring)), 1.0) * 2)
        found.surface.append(wide.astype(np.float64))
        found.crossing.append(wide.astype(np.float64))
        count += 1
    return count


def _bulb(p0: np.ndarray, d0: np.ndarray, p1: np.ndarray) -> np.ndarray:
    """Return a turn of 180 degrees or so from one lane's end to another's beginning, to the left.

    It swings out far enough for a car: a circle of at least 5.5 m radius with two easings.
    """
    ahead = d0 / np.hypot(*d0)
    across = p1 - p0
    radius = max(float(np.hypot(*across)) / 2, 5.5)
    centre = (p0 + p1) / 2 + ahead * (radius * 1.6)
    begin = math.atan2(*(-across)[::-1]) - 0.6
    span = (math.pi + 1.2) * (1.0 if ahead[0] * across[1] - ahead[1] * across[0] > 0 else -1.0)
    if span < 0.0:
        begin += 1.2
    a = begin + np.linspace(0.0, span, 40)
    arc = centre + radius * np.stack([np.cos(a), np.sin(a)], axis=1)
    inner = arc[4:-4]
    return np.concatenate([[p0], [p0 + ahead * 1.0], inner, [p1 + ahead * 1.0], [p1]])


def _describe(b: GraphBuilder) -> None:
    """Fill in what follows from the links: end junctions, origins and turns of connectors."""
    origin: dict[int, int] = {}
    for lane, links in enumerate(b.links):
        speed, node, _, way, turn = b.rows[lane]
        if node >= 0:
            line = b.lines[lane]
            d0, d1 = line[1] - line[0], line[-1] - line[-2]
            bend = math.remainder(math.atan2(d1[1], d1[0]) - math.atan2(d0[1], d0[0]), 2 * math.pi)
            turn = 0 if abs(bend) < math.pi / 4 else (1 if bend > 0 else -1)
            slow = speed if turn == 0 else min(speed, 5.0)
            b.rows[lane] = (slow, node, -1, way, turn)
            continue
        ends = [b.rows[k][1] for k in links if b.rows[k][1] >= 0]
        b.rows[lane] = (speed, node, ends[0] if ends else -1, way, turn)
        origin.update({k: way for k in links if b.rows[k][1] >= 0})
    for _ in range(4):  # ways through a junction that are cut into sections
        for lane, links in enumerate(b.links):
            if lane in origin:
                origin.update({k: origin[lane] for k in links if b.rows[k][1] >= 0})
    for lane, way in origin.items():
        speed, node, end, _, turn = b.rows[lane]
        b.rows[lane] = (speed, node, end, way, turn)
