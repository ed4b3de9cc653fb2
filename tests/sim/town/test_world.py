"""Towns: the same by number, connected, painted where lanes are."""

import numpy as np
import pytest

from sim.town.paint import CELL_M
from sim.town.world import UnknownTownError, build_town
from vehicle.contracts.scene import BEV_DRIVABLE


@pytest.mark.parametrize("number", [0, 3, 101])
def test_every_lane_leads_on_and_every_street_can_be_reached(number: int) -> None:
    lanes = build_town(number).lanes
    assert (lanes.successors[:, 0] >= 0).all()
    reached, edge = {0}, [0]
    while edge:
        for nxt in lanes.successors[edge.pop()]:
            if nxt >= 0 and int(nxt) not in reached:
                reached.add(int(nxt))
                edge.append(int(nxt))
    assert set(lanes.approach[sorted(reached)]) == set(lanes.approach)


@pytest.mark.parametrize("number", [0, 7, 104])
def test_lane_centres_lie_on_drivable_ground(number: int) -> None:
    town = build_town(number)
    px = ((town.lanes.points_m - town.ground.origin_m) / CELL_M).astype(int)
    classes = town.ground.classes[px[:, 1], px[:, 0]]
    assert ((classes & BEV_DRIVABLE) != 0).mean() > 0.999


def test_lanes_join_without_a_step() -> None:
    lanes = build_town(1).lanes
    for lane in range(len(lanes.length_m)):
        end = lanes.points_m[lanes.start[lane + 1] - 1]
        for nxt in lanes.successors[lane]:
            if nxt >= 0:
                assert np.hypot(*(lanes.points_m[lanes.start[nxt]] - end)) < 1e-6


def test_a_town_is_the_same_each_time() -> None:
    first = build_town(12)
    build_town.cache_clear()
    again = build_town(12)
    assert np.array_equal(first.ground.texels, again.ground.texels)
    assert np.array_equal(first.scenery.mesh.quads, again.scenery.mesh.quads)


def test_towns_differ() -> None:
    assert not np.array_equal(build_town(1).junctions_m, build_town(2).junctions_m)


def test_no_house_stands_on_a_road() -> None:
    town = build_town(5)
    solids = town.scenery.footprints[town.scenery.solid]
    px = ((solids[:, :2] - town.ground.origin_m) / CELL_M).astype(int)
    assert len(solids) > 10
    assert (town.ground.classes[px[:, 1], px[:, 0]] == 0).all()


@pytest.mark.parametrize("number", [-1, 100_001])
def test_town_out_of_range_is_refused_by_name(number: int) -> None:
    with pytest.raises(UnknownTownError, match=str(number)):
        build_town(number)
