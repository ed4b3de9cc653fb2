"""Roundabouts and motorways: connected, painted, drivable, and traffic that yields and flows."""

import math

import numpy as np
import pytest

from sim.run.collisions import boxes_touch
from sim.run.episode import Episode
from sim.town.lights import Signals
from sim.town.paint import CELL_M
from sim.town.world import UnknownTownError, build_town, town_number
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import BEV_DRIVABLE

BLIND = Rig(name="blind", cameras=())
ROUND, FAST = town_number(3, "roundabout"), town_number(3, "motorway_merge")


@pytest.mark.parametrize("number", [ROUND, FAST])
def test_every_lane_leads_on_without_a_step_or_a_kink(number: int) -> None:
    lanes = build_town(number).lanes
    for lane in range(len(lanes.length_m)):
        following = lanes.successors[lane][lanes.successors[lane] >= 0]
        assert len(following)
        x, y, yaw = lanes.pose(lane, float(lanes.length_m[lane]))
        for nxt in following:
            x1, y1, yaw1 = lanes.pose(int(nxt), 0.0)
            assert math.hypot(x1 - x, y1 - y) < 0.05
            assert abs((yaw1 - yaw + math.pi) % (2 * math.pi) - math.pi) < 0.15


@pytest.mark.parametrize("number", [ROUND, FAST])
def test_lane_centres_lie_on_drivable_ground(number: int) -> None:
    town = build_town(number)
    px = ((town.lanes.points_m - town.ground.origin_m) / CELL_M).astype(int)
    assert ((town.ground.classes[px[:, 1], px[:, 0]] & BEV_DRIVABLE) != 0).mean() > 0.999


def test_islands_and_medians_are_not_drivable() -> None:
    town = build_town(ROUND)
    for node in town.unsignalled:
        px = ((town.junctions_m[node] - town.ground.origin_m) / CELL_M).astype(int)
        assert town.ground.classes[px[1], px[0]] == 0
    fast = build_town(FAST)
    px = ((fast.junctions_m - fast.ground.origin_m) / CELL_M).astype(int)
    assert (fast.ground.classes[px[:, 1], px[:, 0]] & BEV_DRIVABLE == 0).all()


def test_everybody_goes_counter_clockwise_around_an_island() -> None:
    town = build_town(ROUND)
    lanes = town.lanes
    for lane in np.flatnonzero(np.isin(lanes.junction, list(town.unsignalled))):
        line = lanes.line(int(lane)) - town.junctions_m[lanes.junction[lane]]
        turned = np.unwrap(np.arctan2(line[:, 1], line[:, 0]))
        assert turned[-1] > turned[0]


def test_a_ramp_waits_for_the_lane_it_joins_and_through_lanes_never_wait() -> None:
    lanes = build_town(FAST).lanes
    roads = lanes.road_lanes()
    waits = roads[lanes.end_junction[roads] >= 0]
    assert len(waits) == 4
    for lane in waits:
        link = int(lanes.successors[lane, 0])
        rivals = np.flatnonzero(lanes.conflicts[link])
        assert len(rivals) == 1
        assert lanes.successors[rivals[0], 0] == lanes.successors[link, 0]


def test_roundabouts_and_motorways_have_no_lights() -> None:
    town = build_town(ROUND)
    assert not np.isin(Signals(town, 1).plan.junction, list(town.unsignalled)).any()
    assert len(Signals(build_town(FAST), 1).plan.way) == 0


@pytest.mark.parametrize("layout", ["roundabout", "motorway_merge"])
def test_traffic_flows_and_nobody_drives_through_anybody(layout: str) -> None:
    episode = Episode(town=1, seed=4, layout=layout, rig=BLIND)
    begin, distance = episode.pose, 0.0
    for tick in range(300):
        before = episode.pose
        episode.step(None)
        distance += float(np.hypot(*(episode.pose - before)[:2]))
        if tick % 50:
            continue
        cars = episode.actors.table[episode.actors.table["moving"] == 1]
        rows = np.stack([cars[n] for n in ("x_m", "y_m", "yaw_rad", "length_m", "width_m")], axis=1)
        for i in range(len(rows)):
            near = np.hypot(*(rows[i + 1 :, :2] - rows[i, :2]).T) < 6.0
            assert not any(boxes_touch(rows[i], rows[j]) for j in np.flatnonzero(near) + i + 1)
    cars = episode.actors.table[episode.actors.table["moving"] == 1]
    assert cars["speed_mps"].mean() > (8.0 if layout == "motorway_merge" else 1.0)
    assert distance > 60.0
    assert np.isfinite(begin).all()
    assert episode.road.on_route_lane(episode.road.centreline()).all()
    if layout == "motorway_merge":
        assert (episode.actors.table["kind"] != 1).all()


def test_a_layout_is_a_million_towns_further_on() -> None:
    assert town_number(3, "lattice") == 3
    assert town_number(3, "roundabout") == 1_000_003
    assert Episode(town=2, seed=0, layout="roundabout", rig=BLIND).scenario.town == 1_000_002
    with pytest.raises(UnknownTownError, match="spiral"):
        town_number(3, "spiral")
    with pytest.raises(UnknownTownError, match="3000000"):
        build_town(3_000_000)
    with pytest.raises(UnknownTownError, match="100001"):
        town_number(100_001, "roundabout")
