"""What a town says about points: lanes, junctions, flow, limits; and an episode's snapshots."""

import math

import numpy as np
import pytest

from sim.run.collisions import boxes_touch, touched
from sim.run.episode import Episode
from sim.score.trace import RoadMap, Trace, World
from sim.town.roadmap import area_raster, lane_index
from vehicle.contracts.frame import Rig

BLIND = Rig(name="blind", cameras=())


@pytest.fixture(scope="module")
def driven() -> Episode:
    episode = Episode(town=3, seed=5, rig=BLIND)
    for _ in range(150):
        episode.step(None)
    return episode


def test_an_episode_is_a_world_and_its_road_a_map(driven: Episode) -> None:
    assert isinstance(driven, World)
    assert isinstance(driven.road, RoadMap)


def test_lane_centres_are_in_their_own_lane_and_drivable(driven: Episode) -> None:
    lanes = driven.town.lanes
    for lane in lanes.road_lanes()[::7]:
        middle = lanes.line(lane)[3:-3]
        found = driven.road.inside_one_lane(middle)
        assert np.isin(found, [lane, driven.route.lanes[0]]).all()
        assert driven.road.drivable(middle).all()
        assert not driven.road.in_junction(middle).any()
        assert np.allclose(driven.road.speed_limit_mps(middle), lanes.speed_mps[lane])
        wrap = driven.road.flow_yaw(middle) - lanes.yaw_rad[lanes.start[lane] + 3 :][: len(middle)]
        assert np.abs((wrap + math.pi) % (2 * math.pi) - math.pi).max() < 0.05


def test_the_middle_of_a_connector_is_in_a_junction_without_flow(driven: Episode) -> None:
    lanes = driven.town.lanes
    for lane in np.flatnonzero(lanes.junction >= 0)[::5]:
        line = lanes.line(lane)
        middle = line[len(line) // 2][None]
        assert driven.road.in_junction(middle).all()
        assert np.isnan(driven.road.flow_yaw(middle)).all()


def test_the_route_is_one_lane_and_the_opposite_side_is_not_on_it(driven: Episode) -> None:
    path = driven.road.centreline()
    assert len(path) > 100
    assert driven.road.on_route_lane(path).all()
    assert len(set(driven.road.inside_one_lane(path))) == 1
    lanes, first = driven.town.lanes, driven.route.lanes[0]
    opposite = np.flatnonzero(
        (lanes.approach == (lanes.approach[first] ^ 1)) & (lanes.junction < 0)
    )
    if lanes.approach[first] ^ 1 not in lanes.approach[driven.route.lanes]:
        assert not driven.road.on_route_lane(lanes.line(int(opposite[0]))[5:-5]).any()


def test_a_car_that_follows_its_route_keeps_all_corners_on_it(driven: Episode) -> None:
    body = driven.body
    c, s = math.cos(body[2]), math.sin(body[2])
    half = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * [body[4] / 2, body[5] / 2]
    corners = half @ np.array([[c, s], [-s, c]]) + body[:2]
    assert driven.road.on_route_lane(corners).all()
    assert driven.road.drivable(corners).all()


def test_far_away_and_empty_questions_have_answers(driven: Episode) -> None:
    far, none = np.array([[9e5, -9e5], [math.nan, 0.0]]), np.zeros((0, 2))
    road = driven.road
    assert not road.drivable(far[:1]).any()
    assert (road.inside_one_lane(far) == -1).all()
    assert np.isnan(road.flow_yaw(far[:1])).all()
    assert np.isfinite(road.speed_limit_mps(far[:1])).all()
    for ask in (road.drivable, road.on_route_lane, road.in_junction, road.inside_one_lane):
        assert len(ask(none)) == 0
    assert len(road.speed_limit_mps(none)) == len(road.flow_yaw(none)) == 0


def test_grass_is_in_no_lane(driven: Episode) -> None:
    scenery = driven.town.scenery
    houses = scenery.footprints[scenery.solid][:, :2].astype(float)
    assert not driven.road.drivable(houses).any()
    assert (driven.road.inside_one_lane(houses) == -1).all()


def test_bays_are_drivable_but_no_lane(driven: Episode) -> None:
    found = 0
    for road in driven.town.roads:
        if road.parking_m[0]:
            line = road.offset(road.half_m + road.parking_m[0] / 2)[5:-5]
            assert driven.road.drivable(line).all()
            assert (driven.road.inside_one_lane(line) == -1).mean() > 0.95
            found += 1
    assert found


def test_one_town_builds_its_index_once(driven: Episode) -> None:
    assert lane_index(driven.town) is lane_index(driven.town)
    assert area_raster(driven.town) is area_raster(driven.town)


def test_snapshots_make_a_trace() -> None:
    episode = Episode(town=2, seed=1, rig=BLIND, duration_s=1.0)
    snapshots = [episode.snapshot()]
    while not episode.done:
        episode.step(None)
        snapshots.append(episode.snapshot())
    trace = Trace(snapshots=tuple(snapshots), road=episode.road)
    assert len(trace) == 11
    assert trace.dt_s == pytest.approx(0.1)
    step = np.hypot(*np.diff(trace.ego[:, :2], axis=0).T) / 0.1
    assert np.abs(step - trace.ego[1:, 3]).max() < 0.6
    assert len(snapshots[0].actors) == len(episode.actors.table)
    assert snapshots[0].red_light_m.shape == (0, 4, 2)


def test_the_true_scene_is_where_the_boxes_are() -> None:
    episode = Episode(town=2, seed=1)
    scene = episode.observe(truth=True).traffic
    boxes, _ = episode.truth()
    assert scene is not None
    by_id = {int(t["track_id"]): t for t in scene.tracks}
    assert len(by_id) > 5
    for box in boxes:
        track = by_id[int(box[8])]
        assert np.allclose([track["x_m"], track["y_m"]], box[1:3], atol=1e-3)
    assert episode.observe().traffic is None


def test_touching_is_told_by_id_also_for_long_bodies() -> None:
    episode = Episode(town=2, seed=1, rig=BLIND)
    table, body = episode.actors.table[:2].copy(), np.array([0.0, 0.0, 0.0, 0.0, 4.7, 1.9])
    table["x_m"], table["y_m"], table["yaw_rad"] = [8.0, 30.0], 0.0, 0.0
    table["length_m"], table["width_m"] = 12.0, 2.5
    assert touched(table, body) == [int(table["actor_id"][0])]
    assert not boxes_touch(np.array([0, 0, 0, 4, 2.0]), np.array([4.1, 0, 0, 4, 2.0]))
