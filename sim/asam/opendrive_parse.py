"""An OpenDRIVE file as plain records: what is needed to drive on it, nothing evaluated yet.

Source: ASAM OpenDRIVE 1.7.0, sections 7 to 11. Own reader over expat: the readers on PyPI bring a
planner or a window system along, or do not evaluate curves.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from vehicle.contracts.wire import RefusedError

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_ROADS: Final = 20_000
MAX_LENGTH_M: Final = 200_000.0
DRIVABLE: Final = frozenset(
    ("driving", "entry", "exit", "onRamp", "offRamp", "connectingRamp", "mwyEntry", "mwyExit")
)
_KMH: Final = {"km/h": 1 / 3.6, "mph": 0.44704, "m/s": 1.0, "": 1.0}


class MissingMapError(RefusedError, FileNotFoundError):
    """There is no map where one was named."""


class MalformedMapError(RefusedError, ValueError):
    """A map is no OpenDRIVE: broken XML, a missing or unreadable attribute, a document type."""


class ZeroLengthRoadError(RefusedError, ValueError):
    """A road or a piece of it has no length."""


class HugeMapError(RefusedError, ValueError):
    """A map is larger than what is read."""


Poly = tuple[float, float, float, float, float]
"""Where it begins, then a, b, c, d."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One geometry of a plan view: `kind` and its own numbers, see sim.asam.opendrive_curves."""

    s_m: float
    x_m: float
    y_m: float
    yaw_rad: float
    length_m: float
    kind: str
    numbers: tuple[float, ...] = ()
    normalized: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A road mark from `s_m` of its section on: type and colour as the file says."""

    s_m: float
    kind: str
    colour: str
    width_m: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OdrLane:
    """A lane of a section; id negative to the right of the reference line, 0 its centre."""

    id: int
    kind: str
    widths: tuple[Poly, ...] = ()
    borders: tuple[Poly, ...] = ()
    marks: tuple[Mark, ...] = ()
    before: int | None = None
    after: int | None = None
    speed_mps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Lanes from `s_m` to where the next section begins."""

    s_m: float
    lanes: dict[int, OdrLane]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a road meets: a road at its "start" or "end", or a junction."""

    to_junction: bool
    id: str
    contact: str = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class OdrRoad:
    """A road; `junction` is "-1" unless it is a way through one, `kind` its first type."""

    id: str
    kind: str
    length_m: float
    junction: str
    right_hand: bool
    before: Link | None
    after: Link | None
    pieces: tuple[Piece, ...]
    offsets: tuple[Poly, ...]
    sections: tuple[Section, ...]
    speed_mps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """A connection of a junction: `lanes` from the incoming road's to the connecting road's."""

    incoming: str
    connecting: str
    contact: str
    lanes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OdrMap:
    """A whole map."""

    roads: dict[str, OdrRoad]
    joints: dict[str, tuple[Joint, ...]] = field(default_factory=dict)


def read_map(path: Path) -> OdrMap:
    """Read an OpenDRIVE file.

    Raises:
        MalformedMapError, ZeroLengthRoadError, HugeMapError: as they say.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise HugeMapError(f"{path} has {size} bytes, at most {MAX_BYTES} are read: cut it")
    return parse_map(path.read_bytes(), str(path))


def parse_map(data: bytes, name: str = "the map") -> OdrMap:
    """Return the map in the bytes of an OpenDRIVE file; see `read_map`."""
    root = parse_xml(data, name)
    if root.tag != "OpenDRIVE":
        raise MalformedMapError(f"{name} begins with <{root.tag}>, expected <OpenDRIVE>")
    elements = root.findall("road")
    if not elements:
        raise MalformedMapError(f"{name} has no road")
    if len(elements) > MAX_ROADS:
        raise HugeMapError(f"{name} has {len(elements)} roads, at most {MAX_ROADS} are read")
    roads: dict[str, OdrRoad] = {}
    for element in elements:
        road = _road(element)
        if road.id in roads:
            raise MalformedMapError(f"{name} has two roads {road.id!r}")
        roads[road.id] = road
    joints = {
        _text(e, "id"): tuple(_joint(c) for c in e.findall("connection"))
        for e in root.findall("junction")
    }
    return OdrMap(roads=roads, joints=joints)


def parse_xml(data: bytes, name: str) -> Element:
    """Return the root of a document without a document type: so no entity can be defined."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise MalformedMapError(f"{name} has a document type (DTD): maps need none, remove it")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, AssertionError) as error:
        raise MalformedMapError(f"{name} is no XML: {error}") from error


def _text(element: Element, name: str, default: str | None = None) -> str:
    value = element.get(name, default)
    if value is None:
        raise MalformedMapError(f"<{element.tag}> has no attribute {name!r}: {element.attrib}")
    return value


def _number(element: Element, name: str, default: float | None = None) -> float:
    text = element.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(_text(element, name))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e9:
        raise MalformedMapError(f"<{element.tag}> has {name}={text!r}, expected a number")
    return value


def _whole(element: Element, name: str) -> int:
    try:
        return int(_text(element, name))
    except ValueError as error:
        raise MalformedMapError(
            f"<{element.tag}> has {name}={element.get(name)!r}, expected a whole number"
        ) from error


def _poly(element: Element, at: str) -> Poly:
    a, b, c, d = (_number(element, k, 0.0) for k in "abcd")
    return (_number(element, at, 0.0), a, b, c, d)


def _road(element: Element) -> OdrRoad:
    id_ = _text(element, "id")
    length = _number(element, "length")
    if length <= 1e-6:
        raise ZeroLengthRoadError(f"road {id_!r} is {length:g} m long, expected more than 0")
    view, lanes = element.find("planView"), element.find("lanes")
    if view is None or lanes is None:
        raise MalformedMapError(f"road {id_!r} has no <planView> or no <lanes>")
    pieces = tuple(sorted((_piece(g, id_) for g in view.findall("geometry")), key=lambda p: p.s_m))
    sections = tuple(
        sorted((_section(e) for e in lanes.findall("laneSection")), key=lambda s: s.s_m)
    )
    if not pieces or not sections:
        raise MalformedMapError(f"road {id_!r} has no geometry or no lane section")
    link = element.find("link")
    speeds = [_speed(s) for s in element.findall("type/speed")]
    kinds = [e.get("type", "") for e in element.findall("type")]
    return OdrRoad(
        id=id_,
        kind=kinds[0] if kinds else "",
        length_m=length,
        junction=_text(element, "junction", "-1"),
        right_hand=_text(element, "rule", "RHT") != "LHT",
        before=_link(link, "predecessor"),
        after=_link(link, "successor"),
        pieces=pieces,
        offsets=tuple(sorted(_poly(o, "s") for o in lanes.findall("laneOffset"))),
        sections=sections,
        speed_mps=next((s for s in speeds if s), None),
    )


def _link(element: Element | None, which: str) -> Link | None:
    found = None if element is None else element.find(which)
    if found is None:
        return None
    return Link(
        to_junction=_text(found, "elementType", "road") == "junction",
        id=_text(found, "elementId"),
        contact=_text(found, "contactPoint", "start"),
    )


_NUMBERS: Final = {
    "line": (),
    "arc": ("curvature",),
    "spiral": ("curvStart", "curvEnd"),
    "poly3": ("a", "b", "c", "d"),
    "paramPoly3": ("aU", "bU", "cU", "dU", "aV", "bV", "cV", "dV"),
}


def _piece(element: Element, road: str) -> Piece:
    kinds = [c for c in element if c.tag in _NUMBERS]
    if len(kinds) != 1:
        raise MalformedMapError(
            f"road {road!r}: a geometry holds {[c.tag for c in element]},"
            f" expected one of {', '.join(_NUMBERS)}"
        )
    length = _number(element, "length")
    if length <= 0.0:
        raise ZeroLengthRoadError(f"road {road!r} has a geometry of {length:g} m")
    if length > MAX_LENGTH_M:
        raise HugeMapError(f"road {road!r} has a geometry of {length:g} m")
    shape = kinds[0]
    return Piece(
        s_m=_number(element, "s"),
        x_m=_number(element, "x"),
        y_m=_number(element, "y"),
        yaw_rad=_number(element, "hdg"),
        length_m=length,
        kind=shape.tag,
        numbers=tuple(_number(shape, name) for name in _NUMBERS[shape.tag]),
        normalized=shape.get("pRange", "normalized") != "arcLength",
    )


def _section(element: Element) -> Section:
    lanes = {}
    for side in ("left", "center", "right"):
        for e in element.findall(f"{side}/lane"):
            lane = _lane(e)
            lanes[lane.id] = lane
    return Section(s_m=_number(element, "s"), lanes=lanes)


def _lane(element: Element) -> OdrLane:
    speed = element.find("speed")
    return OdrLane(
        id=_whole(element, "id"),
        kind=_text(element, "type", "none"),
        widths=tuple(sorted(_poly(w, "sOffset") for w in element.findall("width"))),
        borders=tuple(sorted(_poly(b, "sOffset") for b in element.findall("border"))),
        marks=tuple(
            Mark(
                s_m=_number(m, "sOffset", 0.0),
                kind=_text(m, "type", "none"),
                colour=_text(m, "color", "standard"),
                width_m=_number(m, "width", 0.15),
            )
            for m in element.findall("roadMark")
        ),
        before=_lane_link(element, "predecessor"),
        after=_lane_link(element, "successor"),
        speed_mps=None if speed is None else _speed(speed),
    )


def _lane_link(element: Element, which: str) -> int | None:
    found = element.find(f"link/{which}")
    return None if found is None else _whole(found, "id")


def _speed(element: Element) -> float | None:
    """Return a limit in m/s, None where there is none ("no limit", "undefined")."""
    try:
        value = float(_text(element, "max")) * _KMH.get(element.get("unit", ""), 1.0)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0.0 else None


def _joint(element: Element) -> Joint:
    return Joint(
        incoming=element.get("incomingRoad", ""),
        connecting=element.get("connectingRoad", element.get("linkedRoad", "")),
        contact=_text(element, "contactPoint", "start"),
        lanes=tuple((_whole(k, "from"), _whole(k, "to")) for k in element.findall("laneLink")),
    )
