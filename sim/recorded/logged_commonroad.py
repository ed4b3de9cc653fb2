"""CommonRoad scenarios (XML, 2018b and 2020a) as a recorded scene with a planning problem.

Poses are box centres. The ego was not recorded: it starts where the planning problem says, its
centre there, and has a goal. Document types and entities are refused before anything is expanded.

Source: Althoff, Koschi, Manzinger, CommonRoad (2017); XML format documentation 2018b and 2020a.
"""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final
from xml.parsers import expat

import numpy as np

from sim.recorded.logged_scene import (
    DuplicateTimeError,
    EmptyTrackError,
    ForbiddenXmlError,
    Goal,
    Lane,
    LoggedScene,
    Paint,
    PoseNotFiniteError,
    SceneDamagedError,
    Track,
    UnknownEgoError,
    distinct,
    on_grid,
    outline,
    points,
    read_bytes,
)
from sim.town.lanes import arc_length
from vehicle.config import VehicleConfig

_KINDS: Final = {
    "car": ("car", 1.5),
    "parkedVehicle": ("car", 1.5),
    "taxi": ("car", 1.5),
    "truck": ("truck", 3.2),
    "bus": ("bus", 3.2),
    "train": ("bus", 3.5),
    "motorcycle": ("motorcycle", 1.6),
    "bicycle": ("cyclist", 1.7),
    "pedestrian": ("pedestrian", 1.75),
    "priorityVehicle": ("emergency", 1.8),
    "constructionZone": ("debris", 1.0),
    "roadBoundary": ("debris", 1.0),
}
_OBSTACLES: Final = ("obstacle", "staticObstacle", "dynamicObstacle")
_DISC: Final = 24


def read_commonroad(path: Path) -> LoggedScene:
    """Return the scenario of one XML file with its first planning problem.

    Raises:
        ForbiddenXmlError: the file declares a document type or entities.
        LoggedSceneError: malformed, a bad track, or no planning problem.
    """
    root = document(path)
    where = f"commonroad {root.get('benchmarkID') or path.stem}"
    dt = _number(root.get("timeStepSize"), f"{where}: timeStepSize")
    problem = root.find("planningProblem")
    if problem is None or (initial := problem.find("initialState")) is None:
        raise UnknownEgoError(f"{where} has no planning problem: nobody says where the ego starts")
    _, x, y, yaw, speed = _state(initial, dt, f"{where}: initial state")
    origin = np.round([x, y])
    config = VehicleConfig()
    reach = config.length_m / 2 - config.rear_overhang_m
    start = np.array([x - origin[0] - reach * np.cos(yaw), y - origin[1] - reach * np.sin(yaw)])
    lanes, paint = _lanelets(root, origin, where)
    goals = goals_of(problem, dt, {lane.name: lane for lane in lanes}, origin, where)
    goal = goals[0] if goals else None
    tracks = [_obstacle(o, dt, where) for o in root if o.tag in _OBSTACLES]
    last = max((float(t.t_s[-1]) for t in tracks if len(t.t_s)), default=0.0)
    until = max(last, *(g.to_s for g in goals), 2 * dt)
    grid = dt * np.arange(round(until / dt) + 1)
    tracks = [_stay(t, grid) for t in tracks]
    return LoggedScene(
        name=root.get("benchmarkID") or path.stem, source="commonroad", dt_s=dt,
        start=np.array([*start, yaw, max(speed, 0.0)]), ego=None, lanes=lanes,
        areas_m=tuple((lane.outline_m,) for lane in lanes), paint=paint, goal=goal,
        origin_m=(float(origin[0]), float(origin[1])), **on_grid(tracks, grid, origin, where),
    )  # fmt: skip


def document(path: Path) -> ET.Element:
    """Return the root of a scenario.

    Raises:
        ForbiddenXmlError: the file declares a document type or entities.
        SceneDamagedError: not well-formed, or of another kind.
    """
    data = read_bytes(path)

    def refuse(name: str, *_: object) -> None:
        raise ForbiddenXmlError(
            f"{path} declares the document type or entity {name!r}: a scenario needs none"
        )

    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = refuse
    guard.EntityDeclHandler = refuse
    try:
        guard.Parse(data, True)
        root = ET.fromstring(data)
    except (ET.ParseError, expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, ForbiddenXmlError):
            raise
        raise SceneDamagedError(f"{path} is not well-formed XML: {error}") from error
    if root.tag != "commonRoad":
        raise SceneDamagedError(f"{path} is no CommonRoad scenario: its root is <{root.tag[:40]}>")
    return root


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise SceneDamagedError(f"{where} is {text!r}, expected a number") from None
    if not np.isfinite(value):
        raise PoseNotFiniteError(f"{where} is {text!r}, expected a finite number")
    return value


def _value(node: ET.Element | None, where: str, otherwise: float | None = None) -> float:
    """Return an exact value, or the middle of an interval."""
    span = _span(node, where)
    if span is None:
        if otherwise is None:
            raise SceneDamagedError(f"{where} is missing")
        return otherwise
    return (span[0] + span[1]) / 2


def _span(node: ET.Element | None, where: str) -> tuple[float, float] | None:
    if node is None:
        return None
    exact = node.findtext("exact")
    if exact is not None:
        return (_number(exact, where),) * 2
    return (
        _number(node.findtext("intervalStart"), where),
        _number(node.findtext("intervalEnd"), where),
    )


def _points(node: ET.Element | None, where: str, least: int = 2) -> np.ndarray:
    rows = [] if node is None else node.findall("point")
    return points(
        np.array([[_number(p.findtext(k), where) for k in "xy"] for p in rows]).reshape(-1, 2),
        where,
        least,
    )


def _shape(shape: ET.Element, where: str) -> tuple[np.ndarray, float]:
    """Return the outline of a shape [P, 2] and the heading of its rectangle."""
    for node in shape:
        centre = node.find("center")
        middle = np.zeros(2)
        if centre is not None:
            middle = np.array([_number(centre.findtext(k), where) for k in "xy"])
        if node.tag == "rectangle":
            yaw = _number(node.findtext("orientation") or "0", where)
            size = [_number(node.findtext(k), where) for k in ("length", "width")]
            half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * size / 2
            c, s = np.cos(yaw), np.sin(yaw)
            return half @ np.array([[c, s], [-s, c]]) + middle, yaw
        if node.tag == "circle":
            angle = np.linspace(0, 2 * np.pi, _DISC, endpoint=False)
            reach = _number(node.findtext("radius"), where)
            return middle + reach * np.column_stack([np.cos(angle), np.sin(angle)]), 0.0
        if node.tag == "polygon":
            return _points(node, where, 3), 0.0
    raise SceneDamagedError(f"{where} has no rectangle, circle or polygon")


def _state(state: ET.Element, dt: float, where: str) -> tuple[float, float, float, float, float]:
    """Return t_s, x, y, yaw, speed of a state; a region counts as its middle."""
    place = state.find("position")
    if place is None:
        raise SceneDamagedError(f"{where} has no position")
    point = place.find("point")
    if point is not None:
        x, y = (_number(point.findtext(k), where) for k in "xy")
    else:
        x, y = _shape(place, where)[0].mean(axis=0)
    time = _value(state.find("time"), f"{where}: time", 0.0) * dt
    yaw = _value(state.find("orientation"), f"{where}: orientation", 0.0)
    return time, float(x), float(y), yaw, _value(state.find("velocity"), where, 0.0)


def _obstacle(node: ET.Element, dt: float, where: str) -> Track:
    name = str(node.get("id"))
    where = f"{where}: obstacle {name}"
    kind, height = _KINDS.get((node.findtext("type") or "").strip(), ("other", 1.5))
    initial, shape = node.find("initialState"), node.find("shape")
    occupancies = node.findall("occupancySet/occupancy")
    if initial is None or (shape is None and not occupancies):
        raise EmptyTrackError(f"{where} has no initial state or no shape")
    states = [_state(s, dt, where) for s in (initial, *node.findall("trajectory/state"))]
    if shape is None:
        shape = occupancies[0].find("shape")
    for occupancy in occupancies:
        found = occupancy.find("shape")
        time = _value(occupancy.find("time"), f"{where}: time") * dt
        if found is not None and time > states[-1][0]:
            ring, yaw = _shape(found, where)
            states.append((time, *((ring.min(0) + ring.max(0)) / 2), yaw or states[0][3], 0.0))
    ring, yaw = _shape(shape if shape is not None else node, where)
    c, s = np.cos(-yaw), np.sin(-yaw)
    size = np.ptp(ring @ np.array([[c, s], [-s, c]]), axis=0)
    rows = np.array(states)
    if (np.diff(rows[:, 0]) == 0).any():
        raise DuplicateTimeError(f"{where} has two states at one time")
    if not occupancies:  # the shape lies in the obstacle's own frame, perhaps off its middle
        middle = (ring.min(axis=0) + ring.max(axis=0)) / 2
        c, s = np.cos(rows[:, 3]), np.sin(rows[:, 3])
        rows[:, 1] += c * middle[0] - s * middle[1]
        rows[:, 2] += s * middle[0] + c * middle[1]
        rows[:, 3] += yaw
    return Track(
        name=name,
        kind=kind,
        t_s=rows[:, 0],
        poses=rows[:, 1:4],
        size_m=(max(float(size[0]), 0.2), max(float(size[1]), 0.2), height),
    )


def _stay(track: Track, grid: np.ndarray) -> Track:
    """Return an obstacle without trajectory at every step: it is static."""
    if len(track.t_s) != 1:
        return track
    return Track(
        name=track.name,
        kind=track.kind,
        t_s=grid,
        poses=np.repeat(track.poses, len(grid), axis=0),
        size_m=track.size_m,
    )


def goals_of(
    problem: ET.Element, dt: float, lanes: dict[str, Lane], origin: np.ndarray, where: str
) -> tuple[Goal, ...]:
    """Return the goal states of a planning problem, any one of which solves it."""
    states = problem.findall("goalState")
    return tuple(_goal(s, dt, lanes, origin, f"{where}: goal state") for s in states)


def _goal(
    state: ET.Element, dt: float, lanes: dict[str, Lane], origin: np.ndarray, where: str
) -> Goal:
    place, regions = state.find("position"), []
    for node in () if place is None else place:
        if node.tag == "lanelet":
            lane = lanes.get(str(node.get("ref")))
            if lane is None:
                raise SceneDamagedError(
                    f"{where} names lanelet {node.get('ref')!r}, not in the map"
                )
            regions.append(lane.outline_m)
        elif node.tag in ("rectangle", "circle", "polygon"):
            wrap = ET.Element("shape")
            wrap.append(node)
            regions.append(_shape(wrap, where)[0] - origin)
    time = _span(state.find("time"), where)
    if time is None:
        raise SceneDamagedError(f"{where} has no time")
    return Goal(
        regions_m=tuple(regions),
        from_s=time[0] * dt,
        to_s=time[1] * dt,
        speed_mps=_span(state.find("velocity"), where),
        yaw_rad=_span(state.find("orientation"), where),
    )


def _lanelets(
    root: ET.Element, origin: np.ndarray, where: str
) -> tuple[tuple[Lane, ...], tuple[Paint, ...]]:
    signs = _speed_signs(root, where)
    lanes, paint = [], []
    for node in root.findall("lanelet"):
        name = str(node.get("id"))
        here = f"{where}: lanelet {name}"
        sides = [_points(node.find(f"{s}Bound"), here) - origin for s in ("left", "right")]
        limit = node.findtext("speedLimit")
        speed = _number(limit, here) if limit else None
        for sign in node.findall("trafficSignRef"):
            speed = signs.get(str(sign.get("ref")), speed)
        links = [node.find(f"adjacent{s}") for s in ("Left", "Right")]
        same = [n is not None and n.get("drivingDir") == "same" for n in links]
        # of a line between two lanes only one of them paints it
        for k, (side, link) in enumerate(zip(sides, links, strict=True)):
            if link is None:
                paint.append(Paint(points_m=distinct(side), bound=True))
            elif k == 0:
                kind = {"yellow": not same[k], "dashed": same[k]}
                paint.append(Paint(points_m=distinct(side), bound=True, **kind))
        count = max(int(max(arc_length(s)[-1] for s in sides) / 2.0), 2)
        left, right = (_even(s, count) for s in sides)
        lanes.append(
            Lane(
                name=name,
                centre_m=distinct((left + right) / 2),
                outline_m=outline(*sides),
                width_m=max(float(np.median(np.hypot(*(left - right).T))), 2.0),
                speed_mps=speed if speed and speed > 0.0 else None,
                successors=tuple(str(n.get("ref")) for n in node.findall("successor")),
                beside=tuple(
                    str(n.get("ref"))
                    for n, s in zip(links, same, strict=True)
                    if s and n is not None
                ),
            )
        )
    return tuple(lanes), tuple(paint)


def _even(line: np.ndarray, count: int) -> np.ndarray:
    s = arc_length(line)
    at = np.linspace(0.0, s[-1], count)
    return np.stack([np.interp(at, s, line[:, k]) for k in (0, 1)], axis=1)


def _speed_signs(root: ET.Element, where: str) -> dict[str, float]:
    """Return speed limits by the id of their sign (2020a): German 274 and US R2-1, in m/s."""
    found = {}
    for sign in root.findall("trafficSign"):
        for element in sign.findall("trafficSignElement"):
            if (element.findtext("trafficSignID") or "").strip() in ("274", "R2-1", "maxspeed"):
                value = element.findtext("additionalValue")
                found[str(sign.get("id"))] = _number(value, f"{where}: sign {sign.get('id')}")
    return found
