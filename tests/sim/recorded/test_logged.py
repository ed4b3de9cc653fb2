"""Recorded scenes as episodes: every format, replay and reaction, guidance, map, goal, labels."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import fakes_scenes
import numpy as np
import pytest
from fakes_scenes import EAST_M, NORTH_M, SPEED_MPS, STEPS, WRITERS
from typer.testing import CliRunner

from sim.cli import app
from sim.recorded.logged import LoggedEpisode, at_goal, read_scene, scenes_in
from sim.recorded.logged_map import junction_lanes
from sim.recorded.logged_scene import Goal, Lane, LoggedScene
from sim.score.trace import EXPERT_COLUMNS, RoadMap, Trace, World
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import KINDS

BLIND = Rig(name="none", cameras=())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> LoggedScene:
    return read_scene(fakes_scenes.motion(tmp_path_factory.mktemp("m") / "scene.json"))


def command(accel: float = 0.0, curvature: float = 0.0) -> ControlCommand:
    return ControlCommand(frame_id=0, mono_ns=0, accel_mps2=accel, curvature_1pm=curvature)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_tells_the_same_scene(kind: str, tmp_path: Path) -> None:
    read = read_scene(WRITERS[kind](tmp_path))
    assert len(read.names) == 4
    assert read.steps == STEPS
    world = LoggedEpisode(read, rig=BLIND)
    assert isinstance(world, World)
    assert isinstance(world.road, RoadMap)
    offset = np.array(read.origin_m)
    assert world.motion.speed_mps == pytest.approx(SPEED_MPS, abs=0.05)
    assert np.array([world.motion.x_m, world.motion.y_m]) + offset == pytest.approx(
        [EAST_M + 30.0, NORTH_M - 2.0], abs=0.05
    )
    for _ in range(20):
        world.step(command())
    table = world.others.table
    moving = table[table["moving"] == 1]
    lead = moving[np.argmax(moving["x_m"])]
    assert lead["x_m"] + offset[0] == pytest.approx(EAST_M + 80.0, abs=0.05)
    assert lead["speed_mps"] == pytest.approx(SPEED_MPS, abs=0.05)
    assert sorted(KINDS[k] for k in table["kind"]) == ["car", "car", "car", "pedestrian"]
    assert sorted(table["moving"]) == [0, 0, 1, 1]
    person = table[table["kind"] == KINDS.index("pedestrian")][0]
    assert person["yaw_rad"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("kind", WRITERS)
def test_road_of_every_format_knows_its_lanes(kind: str, tmp_path: Path) -> None:
    read = read_scene(WRITERS[kind](tmp_path))
    road = LoggedEpisode(read, rig=BLIND).road
    here = np.array([[EAST_M + 100.0, NORTH_M - 2.0], [EAST_M + 100.0, NORTH_M + 9.0]])
    here -= read.origin_m
    assert road.drivable(here).tolist() == [True, False]
    assert road.on_route_lane(here).tolist() == [True, False]
    assert road.in_junction(here).tolist() == [False, False]
    assert road.inside_one_lane(here)[1] == -1
    assert abs(road.flow_yaw(here)[0]) < 0.02
    assert np.isnan(road.flow_yaw(here)[1])
    assert len(road.centreline()) > 100
    assert (road.drivable(np.zeros((0, 2)))).shape == (0,)


def test_oncoming_lane_is_not_on_the_route(scene: LoggedScene) -> None:
    road = LoggedEpisode(scene, rig=BLIND).road
    other = np.array([[100.0 + EAST_M, 2.0 + NORTH_M]]) - scene.origin_m
    assert not road.on_route_lane(other)[0]
    assert abs(road.flow_yaw(other)[0]) == pytest.approx(np.pi, abs=0.02)
    assert road.speed_limit_mps(other)[0] == np.inf
    own = other - [0.0, 4.0]
    assert road.speed_limit_mps(own)[0] == pytest.approx(13.9)


def test_ego_moves_only_by_commands(scene: LoggedScene) -> None:
    world = LoggedEpisode(scene, rig=BLIND)
    start = world.pose
    for _ in range(40):
        world.step(command(-5.0))
    assert world.motion.speed_mps == 0.0
    assert world.pose[0] - start[0] == pytest.approx(SPEED_MPS**2 / 10.0, abs=2.0)
    assert world.done


def test_replayed_car_drives_into_an_ego_that_stops(scene: LoggedScene) -> None:
    world = LoggedEpisode(scene, rig=BLIND)
    for _ in range(40):
        world.step(command(-5.0))
    behind = scene.names.index("behind") + 1
    assert {actor for _, actor in world.collisions} == {behind}
    assert world.snapshot().collided == ((0, behind),) or not world.snapshot().collided


def test_reacting_car_stops_behind_an_ego_that_stops(scene: LoggedScene) -> None:
    world = LoggedEpisode(scene, reactive=True, rig=BLIND)
    row = scene.names.index("behind")
    before, log = -np.inf, scene.poses[row, :, 0]
    for k in range(40):
        world.step(command(-5.0))
        x = world.others.table["x_m"][world.others.table["actor_id"] == row + 1][0]
        assert before <= x <= log[k + 1] + 1e-6, "backwards, or ahead of its recording"
        before = x
    assert not world.collided
    assert x < log[40] - 5.0


def test_late_car_catches_up_when_the_way_is_free(tmp_path: Path) -> None:
    data = fakes_scenes.motion_data()
    t = 0.1 * np.arange(200)
    data["steps"] = len(t)
    for part in (data["ego"], *data["tracks"]):
        speed = 3.0 if part is data["ego"] or part["id"] in ("lead", "behind") else 0.0
        part["x_m"] = (part["x_m"][0] + speed * t).tolist()
        for name in ("y_m", "yaw_rad"):
            part[name] = [part[name][0]] * len(t)
        part["valid"] = [1] * len(t)
    path = tmp_path / "slow.json"
    path.write_text(fakes_scenes.json.dumps(data))
    world = LoggedEpisode(read_scene(path), reactive=True, rig=BLIND)
    row = world.scene.names.index("behind")
    behind = []
    for k in range(198):
        world.step(command(-4.0 if k < 80 else 2.0 * (world.motion.speed_mps < 4.0)))
        x = world.others.table["x_m"][world.others.table["actor_id"] == row + 1][0]
        behind.append(world.scene.poses[row, k + 1, 0] - x)
    assert not world.collided
    assert max(behind) > 6.0
    assert behind[-1] < 0.5 * max(behind)


def test_reacting_traffic_is_the_recording_while_the_ego_drives_as_recorded(
    scene: LoggedScene,
) -> None:
    worlds = [LoggedEpisode(scene, reactive=r, rig=BLIND) for r in (False, True)]
    for _ in range(39):
        for world in worlds:
            world.step(command())
        np.testing.assert_array_equal(*(w.others.table for w in worlds))


def test_car_does_not_appear_on_top_of_the_ego(tmp_path: Path) -> None:
    data = fakes_scenes.motion_data()
    late = data["tracks"][1]
    late["valid"] = [int(k >= 20) for k in range(STEPS)]
    path = tmp_path / "late.json"
    path.write_text(fakes_scenes.json.dumps(data))
    read = read_scene(path)
    for reactive, hits in ((False, True), (True, False)):
        world = LoggedEpisode(read, reactive=reactive, rig=BLIND)
        first = read.poses[1, 20, 0]
        world.motion = replace(world.motion, x_m=first - 1.35, speed_mps=0.0)
        for _ in range(30):
            world.step(command(-1.0))
        assert world.collided == hits


def test_snapshots_make_a_trace_with_the_recorded_driver(scene: LoggedScene) -> None:
    world = LoggedEpisode(scene, rig=BLIND)
    snapshots = [world.snapshot()]
    for _ in range(10):
        world.step(None)
        snapshots.append(world.snapshot())
    trace = Trace(snapshots=tuple(snapshots), road=world.road, expert=world.expert)
    assert trace.dt_s == pytest.approx(0.1)
    assert world.expert is not None
    assert world.expert.shape == (STEPS, len(EXPERT_COLUMNS))
    assert world.expert[0, 1:3] == pytest.approx(trace.ego[0, :2], abs=0.05)


def test_truth_is_given_when_asked(scene: LoggedScene) -> None:
    world = LoggedEpisode(scene, rig=BLIND)
    assert world.observe().traffic is None
    traffic = world.observe(truth=True).traffic
    assert traffic is not None
    lead = traffic.tracks[traffic.tracks["track_id"] == 1][0]
    assert (lead["x_m"], lead["y_m"]) == pytest.approx((30.0, 0.0), abs=0.05)
    guidance = world.observe().guidance
    assert guidance is not None
    assert np.abs(guidance.centreline_m[:, 1]).max() < 0.1


def test_two_ticks_a_step_are_interpolated(scene: LoggedScene) -> None:
    world = LoggedEpisode(scene, rate_hz=20.0, rig=BLIND)
    world.step(command())
    table = world.others.table
    lead = table[table["actor_id"] == 1][0]
    assert lead["x_m"] == pytest.approx(scene.poses[0, 0, 0] + 0.5, abs=1e-6)
    assert world.ticks == 80


def test_driver_who_sees_all_keeps_its_lane(scene: LoggedScene) -> None:
    world = LoggedEpisode(scene, rig=BLIND)
    for _ in range(40):
        world.step(None)
    assert not world.collided
    assert world.pose[1] == pytest.approx(scene.start[1], abs=0.2)
    assert world.motion.speed_mps > 6.0


def test_goal_of_a_planning_problem_is_reached_in_its_window(tmp_path: Path) -> None:
    read = read_scene(fakes_scenes.commonroad(tmp_path / "cr.xml"))
    assert read.ego is None
    world = LoggedEpisode(read, rig=BLIND)
    assert world.expert is None
    while not world.done:
        world.step(command())
    assert world.goal_reached_s == pytest.approx(3.0)
    lazy = LoggedEpisode(read, rig=BLIND)
    while not lazy.done:
        lazy.step(command(-5.0))
    assert lazy.goal_reached_s is None


def test_goal_asks_for_speed_and_heading() -> None:
    ring = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 4.0], [0.0, 4.0]])
    goal = Goal(regions_m=(ring,), from_s=1.0, to_s=2.0, speed_mps=(4.0, 6.0), yaw_rad=(-0.1, 0.1))

    def at(t_s: float, y: float = 2.0, yaw: float = 0.0, speed: float = 5.0) -> bool:
        return at_goal(goal, np.array([5.0, y, yaw, speed, 4.7, 1.9]), t_s)

    assert at(1.0)
    assert at(2.0, yaw=2 * np.pi)
    assert not at(0.9)
    assert not at(1.5, yaw=0.2)
    assert not at(1.5, speed=7.0)
    assert not at(1.5, y=5.0)


def test_route_changes_lanes_towards_the_goal(tmp_path: Path) -> None:
    path = fakes_scenes.commonroad(tmp_path / "two.xml", one_way=True, goal=(60.0, 2.0))
    world = LoggedEpisode(read_scene(path), rig=BLIND)
    line = world.road.centreline() + world.scene.origin_m - [EAST_M, NORTH_M]
    assert np.interp(30.0, line[:, 0], line[:, 1]) == pytest.approx(-2.0, abs=0.1)
    assert np.interp(120.0, line[:, 0], line[:, 1]) == pytest.approx(2.0, abs=0.1)
    assert np.abs(np.diff(np.unwrap(world.route.path[:, 2]))).max() < 0.1


def test_lanes_that_cross_make_a_junction() -> None:
    def lane(name: str, ends: tuple[tuple[float, float], ...]) -> Lane:
        centre = np.linspace(ends[0], ends[1], 40)
        return Lane(name=name, centre_m=centre, outline_m=centre, width_m=3.5)

    lanes = [
        lane("a", ((-20.0, 0.0), (20.0, 0.0))),
        lane("b", ((0.0, -20.0), (0.0, 20.0))),
        lane("c", ((-20.0, 30.0), (20.0, 30.0))),
        lane("back", ((20.0, 30.5), (-20.0, 30.5))),
    ]
    assert junction_lanes(lanes, [x.centre_m for x in lanes]).tolist() == [True, True, False, False]


def test_pictures_and_labels_agree_and_repeat(scene: LoggedScene) -> None:
    first, again = (LoggedEpisode(scene, seed=3) for _ in range(2))
    for world in (first, again):
        for _ in range(3):
            world.step(command())
    for name, image in first.shot().images.items():
        np.testing.assert_array_equal(image, again.shot().images[name])
    boxes, bev = first.truth()
    seen = boxes[boxes[:, 8] == 1][0]
    assert seen[7] > 30, "the car ahead is seen"
    assert (bev & 1).any()
    assert (bev & 2).any(), "the divider is painted"
    front = first.shot().ids["front_narrow"]
    assert (front == 1).sum() > 10


def test_folder_lists_its_scenes_in_order(tmp_path: Path) -> None:
    fakes_scenes.motion(tmp_path / "b.json")
    fakes_scenes.commonroad(tmp_path / "a.xml")
    (tmp_path / "notes.json").write_text("{}")
    assert [p.name for p in scenes_in(tmp_path)] == ["a.xml", "b.json"]


def test_episode_ends_where_the_map_ends(scene: LoggedScene) -> None:
    world = LoggedEpisode(scene, rig=BLIND)
    world.motion = replace(world.motion, x_m=world.motion.x_m + 167.0)
    for _ in range(8):
        world.route.follow(world.motion)
    assert world.done


REAL = ("scenes-nuscenes", "commonroad", "av2")


@pytest.mark.parametrize("folder", REAL)
def test_real_scenes_all_load_and_run(folder: str, data_folder: Path) -> None:
    wanted = {"scenes-nuscenes": 5, "commonroad": 19, "av2": 2}[folder]
    found = scenes_in(data_folder / folder)
    assert len(found) >= wanted
    for path in itertools.islice(found, wanted):
        world = LoggedEpisode(read_scene(path), reactive=True, rig=BLIND)
        assert not world.collided, f"{path.name} begins in a collision"
        expert = world.expert
        if expert is not None:
            assert world.road.drivable(expert[:, 1:3]).mean() > 0.99, path.name
            assert world.road.on_route_lane(expert[:, 1:3]).mean() > 0.95, path.name
        for _ in range(min(world.ticks, 50)):
            world.step(None)
            snapshot = world.snapshot()
            assert np.isfinite(list(snapshot.actors["x_m"])).all()
        assert world.road.drivable(world.body[None, :2])[0], path.name


def test_verb_lists_drives_and_refuses(tmp_path: Path) -> None:
    fakes_scenes.motion(tmp_path / "good.json")
    fakes_scenes.motion(tmp_path / "without.json", ego=None)
    listed = CliRunner().invoke(app, ["logged", str(tmp_path), "--json"])
    assert listed.exit_code == 0, listed.output
    good, bad = json.loads(listed.stdout)
    assert (good["actors"], good["ego"], good["seconds"]) == (4, "recorded", 4.0)
    assert bad["refused"].startswith("UnknownEgoError")
    words = ["logged", str(tmp_path / "good.json"), "--drive", "--json"]
    (driven,) = json.loads(CliRunner().invoke(app, words).stdout)
    assert (driven["collisions"], driven["ticks_off_road"]) == (0, 0)
    assert driven["distance_m"] > 30.0
    assert driven["from_recorded_m"] < 8.0
    both = CliRunner().invoke(app, ["logged", str(tmp_path), "--list", "--drive"])
    assert both.exit_code == 2


def test_shape_off_the_middle_of_an_obstacle_is_placed_where_it_lies(tmp_path: Path) -> None:
    path = fakes_scenes.commonroad(tmp_path / "cr.xml", version="2020a")
    text = path.read_text()
    corners = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in ((1, 1), (5, 1), (5, 3)))
    extra = (
        '<staticObstacle id="50"><type>car</type><shape><polygon>'
        f"{corners}</polygon></shape><initialState><position><point><x>{EAST_M + 150}</x>"
        f"<y>{NORTH_M + 2}</y></point></position><orientation><exact>{np.pi / 2}</exact>"
        "</orientation><time><exact>0</exact></time></initialState></staticObstacle>"
        '<environmentObstacle id="51"><type>building</type></environmentObstacle>'
    )
    path.write_text(text.replace("<planningProblem", extra + "<planningProblem"))
    read = read_scene(path)
    assert len(read.names) == 5
    row = read.names.index("50")
    x, y, yaw = read.poses[row, 0] + [*read.origin_m, 0.0]
    assert (x - EAST_M, y - NORTH_M, yaw) == pytest.approx((148.0, 5.0, np.pi / 2))
    assert read.sizes_m[row, :2] == pytest.approx((4.0, 2.0))
