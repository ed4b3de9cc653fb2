"""OpenDRIVE: what goes out comes in again, curves are as drawn elsewhere, bad files are refused."""

import contextlib
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenariogeneration import xodr

from sim.asam import opendrive_parse
from sim.asam.opendrive import load_map, town_of
from sim.asam.opendrive_curves import reference
from sim.asam.opendrive_export import export_town
from sim.asam.opendrive_parse import (
    HugeMapError,
    MalformedMapError,
    MissingMapError,
    OdrMap,
    ZeroLengthRoadError,
    parse_map,
)
from sim.run.episode import Episode
from sim.town.lanes import LaneGraph
from sim.town.world import build_town, town_number
from vehicle.contracts.frame import Rig
from vehicle.contracts.wire import RefusedError

BLIND = Rig(name="blind", cameras=())

BENDS = st.floats(-0.06, 0.06).filter(lambda k: abs(k) > 1e-3)

LANE = """<lane id="{id}" type="driving"><link>{link}</link>
<width sOffset="0" a="3.5" b="0" c="0" d="0"/>
<roadMark sOffset="0" type="solid" color="white" width="0.15"/></lane>"""


def road(geometry: str, *, length: float = 100.0, lanes: tuple[int, ...] = (1, -1)) -> str:
    sides = {
        side: "".join(LANE.format(id=i, link="") for i in lanes if (i > 0) == (side == "left"))
        for side in ("left", "right")
    }
    return f"""<OpenDRIVE><road id="1" length="{length}" junction="-1">
    <type s="0" type="town"><speed max="36" unit="km/h"/></type><planView>{geometry}</planView>
    <lanes><laneSection s="0"><left>{sides["left"]}</left>
    <center><lane id="0" type="none"><roadMark type="broken" color="yellow"/></lane></center>
    <right>{sides["right"]}</right></laneSection></lanes></road></OpenDRIVE>"""


def piece(shape: str, *, length: float = 100.0, s: float = 0.0) -> str:
    return f'<geometry s="{s}" x="0" y="0" hdg="0" length="{length}">{shape}</geometry>'


def worst_gap_m(first: LaneGraph, second: LaneGraph) -> float:
    """Return how far lane centres of one graph lie from the same lanes of another."""
    ends = np.array([[second.line(k)[0], second.line(k)[-1]] for k in range(len(second.length_m))])
    worst = 0.0
    for lane in range(len(first.length_m)):
        line = first.line(lane)
        own = np.array([line[0], line[-1]])
        best = int(np.argmin(np.hypot(*np.moveaxis(ends - own, -1, 0)).sum(axis=1)))
        other = second.line(best)
        a, d = other[:-1], np.diff(other, axis=0)
        t = np.clip(((line[:, None] - a) * d).sum(-1) / (d * d).sum(-1), 0.0, 1.0)
        off = line[:, None] - (a + t[..., None] * d)
        worst = max(worst, float(np.hypot(off[..., 0], off[..., 1]).min(axis=1).max()))
        assert (first.successors[lane] >= 0).sum() == (second.successors[best] >= 0).sum()
        assert first.speed_mps[lane] == pytest.approx(second.speed_mps[best], abs=1e-3)
        assert (first.end_junction[lane] < 0) == (second.end_junction[best] < 0)
    return worst


@pytest.mark.parametrize("layout", ["lattice", "roundabout", "motorway_merge"])
def test_an_exported_town_comes_in_again_as_it_was(layout: str, tmp_path: Path) -> None:
    town = build_town(town_number(5, layout))
    export_town(town, tmp_path / "town.xodr")
    again = load_map(tmp_path / "town.xodr")
    assert len(again.lanes.length_m) == len(town.lanes.length_m)
    assert worst_gap_m(town.lanes, again.lanes) < 0.1
    assert worst_gap_m(again.lanes, town.lanes) < 0.1
    assert np.allclose(np.sort(again.lanes.widths()), np.sort(town.lanes.widths()), atol=1e-6)


def test_two_exports_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.xodr", "b.xodr"):
        export_town(build_town(5), tmp_path / name)
    assert (tmp_path / "a.xodr").read_bytes() == (tmp_path / "b.xodr").read_bytes()


@pytest.mark.parametrize("layout", ["lattice", "motorway_merge"])
def test_an_episode_drives_on_an_imported_map(layout: str, tmp_path: Path) -> None:
    export_town(build_town(town_number(5, layout)), tmp_path / "town.xodr")
    episode = Episode(map=tmp_path / "town.xodr", seed=3, rig=BLIND)
    distance = 0.0
    for _ in range(150):
        before = episode.pose
        episode.step(None)
        distance += float(np.hypot(*(episode.pose - before)[:2]))
    assert distance > 20.0
    assert episode.road.drivable(episode.pose[None, :2]).all()
    assert episode.road.on_route_lane(episode.pose[None, :2]).all()
    boxes, bev = Episode(map=tmp_path / "town.xodr", seed=3).truth()
    assert len(boxes)
    assert (bev & 1).any()


@given(
    shapes=st.lists(
        st.one_of(
            st.tuples(st.just("line"), st.floats(5, 60)),
            st.tuples(st.just("arc"), st.floats(5, 60), BENDS),
            st.tuples(st.just("spiral"), st.floats(5, 60), BENDS, BENDS),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=25, deadline=None)
def test_lines_arcs_and_spirals_end_where_another_library_says(
    shapes: list[tuple[str, float]],
) -> None:
    view = xodr.PlanView()
    for kind, length, *bend in shapes:
        if kind == "line":
            view.add_geometry(xodr.Line(length))
        elif kind == "arc":
            view.add_geometry(xodr.Arc(bend[0], length=length))
        else:
            view.add_geometry(xodr.Spiral(bend[0], bend[1], length=length))
    made = xodr.Road(
        1, view, xodr.Lanes().add_lanesection(xodr.LaneSection(0, xodr.Lane(xodr.LaneType.none)))
    )
    odr = xodr.OpenDrive("one road").add_road(made)
    odr.adjust_roads_and_lanes()
    found = parse_map(ElementTree.tostring(odr.get_element())).roads["1"]
    x, y, yaw = reference(found, np.array([found.length_m]))[0]
    assert [x, y] == pytest.approx([view.x_end, view.y_end], abs=2e-3)
    assert math.remainder(yaw - view.h_end, 2 * math.pi) == pytest.approx(0.0, abs=1e-6)


def curve(shape: str, at: list[float], *, length: float = 100.0) -> np.ndarray:
    odr = parse_map(road(piece(shape, length=length), length=length).encode())
    return reference(odr.roads["1"], np.array(at))


def test_an_arc_is_a_circle() -> None:
    x, y, yaw = curve('<arc curvature="0.02"/>', [25 * math.pi])[0]
    assert [x, y, yaw] == pytest.approx([50.0, 50.0, math.pi / 2], abs=1e-9)


def test_a_poly3_is_measured_along_its_curve() -> None:
    x, y, yaw = curve('<poly3 a="0" b="1" c="0" d="0"/>', [math.sqrt(2.0) * 10])[0]
    assert [x, y, yaw] == pytest.approx([10.0, 10.0, math.pi / 4], abs=1e-6)


@pytest.mark.parametrize(("span", "b"), [("normalized", 100.0), ("arcLength", 1.0)])
def test_a_param_poly3_reads_both_ranges(span: str, b: float) -> None:
    shape = (
        f'<paramPoly3 aU="0" bU="{b}" cU="0" dU="0" aV="0" bV="0" cV="0" dV="0" pRange="{span}"/>'
    )
    assert curve(shape, [40.0])[0] == pytest.approx([40.0, 0.0, 0.0], abs=1e-9)


def test_a_road_that_ends_is_turned_on_and_a_one_way_road_ends() -> None:
    both = town_of(parse_map(road(piece("<line/>")).encode()))
    assert (both.lanes.successors[:, 0] >= 0).all()
    assert both.lanes.speed_mps[0] == pytest.approx(10.0)
    one = town_of(parse_map(road(piece("<line/>"), lanes=(-1, -2)).encode()))
    assert (one.lanes.successors == -1).all()
    assert np.allclose(one.lanes.line(0)[:, 1], -1.75)


def test_left_hand_traffic_drives_the_other_way() -> None:
    text = road(piece("<line/>"), lanes=(-1,)).replace('junction="-1"', 'junction="-1" rule="LHT"')
    line = town_of(parse_map(text.encode())).lanes.line(0)
    assert line[0, 0] > line[-1, 0]


def test_an_episode_stops_where_a_one_way_map_ends(tmp_path: Path) -> None:
    path = tmp_path / "short.xodr"
    path.write_text(road(piece("<line/>", length=160.0), length=160.0, lanes=(-1,)))
    episode = Episode(map=path, seed=1, rig=BLIND)
    for _ in range(400):
        episode.step(None)
    assert episode.body[0] + 2.4 < 160.5
    assert episode.motion.speed_mps < 0.5
    assert np.isfinite(episode.observe().guidance.centreline_m).all()


def test_lanes_are_linked_across_sections_and_widths_grow() -> None:
    text = road(piece("<line/>"), lanes=(-1,)).replace(
        "</laneSection>",
        '</laneSection><laneSection s="50"><center><lane id="0" type="none"/></center><right>'
        + LANE.format(id=-1, link='<predecessor id="-1"/>').replace('b="0"', 'b="0.01"')
        + "</right></laneSection>",
    )
    lanes = town_of(parse_map(text.encode())).lanes
    assert lanes.successors[0, 0] == 1
    assert lanes.widths()[1] == pytest.approx(3.75)


BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><OpenDRIVE name="&b;"></OpenDRIVE>"""


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", MalformedMapError, "no XML"),
        (b"<OpenDRIVE><road>", MalformedMapError, "no XML"),
        (b"<osm/>", MalformedMapError, "<osm>"),
        (b"<OpenDRIVE/>", MalformedMapError, "no road"),
        (BOMB, MalformedMapError, "DTD"),
        (b"<OpenDRIVE><road length='3'/></OpenDRIVE>", MalformedMapError, "'id'"),
        (road(piece("<line/>"), length=0.0).encode(), ZeroLengthRoadError, "road '1'"),
        (road(piece("<line/>", length=0.0)).encode(), ZeroLengthRoadError, "geometry"),
        (road(piece("<line/>", length=math.nan)).encode(), MalformedMapError, "nan"),
        (road(piece('<arc curvature="x"/>')).encode(), MalformedMapError, "'x'"),
        (road(piece("<bezier/>")).encode(), MalformedMapError, "bezier"),
        (road("").encode(), MalformedMapError, "no geometry"),
    ],
)
def test_a_bad_map_is_refused_by_name(data: bytes, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        parse_map(data)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (road(piece("<line/>", length=1e5), length=1e6), HugeMapError, "1000 km"),
        (road(piece("<line/>", length=5e3), length=5e3), HugeMapError, "5029 m wide"),
        (road(piece("<line/>")).replace('a="3.5"', 'a="900"'), MalformedMapError, "900 m aside"),
        (road(piece("<line/>")).replace('a="3.5"', 'a="0.5"'), MalformedMapError, "wide enough"),
    ],
)
def test_a_map_that_cannot_be_built_is_refused_by_name(
    text: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        town_of(parse_map(text.encode()))


def test_a_huge_file_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opendrive_parse, "MAX_BYTES", 100)
    path = tmp_path / "huge.xodr"
    path.write_text(road(piece("<line/>")))
    with pytest.raises(HugeMapError, match="at most 100"):
        load_map(path)
    with pytest.raises(MissingMapError, match="nowhere"):
        load_map(tmp_path / "nowhere.xodr")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_read_or_refused_never_worse(data: st.DataObject) -> None:
    good = bytearray(road(piece('<spiral curvStart="0" curvEnd="0.01"/>')).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at] = data.draw(st.integers(32, 126))
    with contextlib.suppress(RefusedError):
        assert isinstance(parse_map(bytes(good)), OdrMap)


def test_a_junction_drawn_by_another_library_is_driven_on(tmp_path: Path) -> None:
    roads = [
        xodr.create_road(
            [xodr.Spiral(0.001, 0.015, 60), xodr.Arc(0.015, length=20), xodr.Line(40)],
            id=i,
            left_lanes=1 + i % 2,
            right_lanes=1 + i % 2,
        )
        for i in range(4)
    ]
    crossing = xodr.CommonJunctionCreator(id=100, name="crossing")
    for i, made in enumerate(roads):
        crossing.add_incoming_road_circular_geometry(
            made, radius=22, angle=i * math.pi / 2, road_connection="predecessor"
        )
    for a in range(4):
        for b in range(a + 1, 4):
            crossing.add_connection(a, b)
    odr = xodr.OpenDrive("crossing")
    for made in roads:
        odr.add_road(made)
    odr.add_junction_creator(crossing)
    odr.adjust_roads_and_lanes()
    path = tmp_path / "crossing.xodr"
    path.write_bytes(ElementTree.tostring(odr.get_element()))
    lanes = load_map(path).lanes
    assert (lanes.successors[:, 0] >= 0).all()
    for lane in range(len(lanes.length_m)):
        for nxt in lanes.successors[lane][lanes.successors[lane] >= 0]:
            assert np.hypot(*(lanes.line(int(nxt))[0] - lanes.line(lane)[-1])) < 0.3
    episode = Episode(map=path, seed=2, rig=BLIND, parameters={"signals": 1.0})
    begin = episode.pose
    for _ in range(200):
        episode.step(None)
    assert np.hypot(*(episode.pose - begin)[:2]) > 20.0
    assert episode.road.drivable(episode.body[None, :2]).all()
