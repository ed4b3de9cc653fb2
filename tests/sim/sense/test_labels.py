"""What a frame is labelled with beside boxes: motion, the light that rules the way, lane lines."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.run.episode import Episode
from sim.sense.generate import ALL_FAMILIES, BadRequestError, generate
from sim.sense.labels import ROWS_M
from sim.story.families import FAMILIES
from sim.users.dynamics import Motion
from vehicle.contracts.frame import Rig
from vehicle.contracts.sample import BOX_COLUMNS, iter_samples, motion_between, read_shard
from vehicle.contracts.scene import SIGNAL_STATES

NONE, RED = SIGNAL_STATES.index("none"), SIGNAL_STATES.index("red")


def put(episode: Episode, index: int) -> None:
    """Stand the ego on its route's path."""
    x, y, yaw = episode.route.path[index]
    episode.route.index = index
    episode.look_from(Motion(x_m=x, y_m=y, yaw_rad=yaw, speed_mps=0.0))


def before_a_light(metres: int) -> Episode:
    """Return an episode with a bare street whose ego stands before a stop line."""
    empty = {"parked_ratio": 0.0, "car_gap_m": 9000.0, "person_gap_m": 9000.0}
    for seed in range(40):
        episode = Episode(town=2, seed=seed, family="traffic_lights", parameters=empty)
        signal = episode.signal_ahead()
        if signal.state == "red" and signal.distance_m > metres:
            put(episode, episode.route.index + round(signal.distance_m - metres))
            return episode
    raise AssertionError("no red light near any start")


def test_runs_know_the_ego_s_motion_between_their_frames(tmp_path: Path) -> None:
    generate(tmp_path / "set", towns=[1], frames=7, seed=2, sequence=3, sequence_step_s=0.1)
    motion = np.array([s.motion for s in iter_samples(tmp_path / "set")])
    assert motion[:, 3].tolist() == pytest.approx([0.0, 0.1, 0.1, 0.0, 0.1, 0.1, 0.0])
    moved = motion[motion[:, 3] > 0.0]
    assert (np.abs(moved[:, 1:3]) < 0.1).all()
    assert (moved[:, 0] > 0.1).any()


def test_a_step_of_36_hertz_is_a_step_of_36_hertz(tmp_path: Path) -> None:
    generate(tmp_path / "set", towns=[1], frames=2, seed=2, sequence=2, sequence_step_s=1 / 36)
    motion = np.array([s.motion for s in iter_samples(tmp_path / "set")])
    assert motion[1, 3] == pytest.approx(1 / 36)
    assert 0.02 < motion[1, 0] < 0.5


def test_motion_is_the_later_pose_in_the_frame_of_the_earlier() -> None:
    moved = motion_between(np.array([5.0, 5.0, np.pi / 2]), np.array([4.0, 7.0, -np.pi]), 0.1)
    assert moved.tolist() == pytest.approx([2.0, 1.0, np.pi / 2, 0.1], abs=1e-6)


def test_boxes_move_as_their_velocities_say(tmp_path: Path) -> None:
    generate(
        tmp_path / "set", towns=[1, 2], frames=24, seed=3, sequence=2, sequence_step_s=0.05,
        families=("mixed_traffic", "boulevard", "animal_crossing", "emergency_vehicle"),
    )  # fmt: skip
    arrays = read_shard(tmp_path / "set" / "shard-00000.npz")
    column = {name: i for i, name in enumerate(BOX_COLUMNS)}
    errors, speeds = [], []
    for i in np.flatnonzero(arrays["motion"][:, 3] > 0.0):
        cut = arrays["box_start"]
        now, then = (arrays["boxes"][cut[k] : cut[k + 1]] for k in (i, i - 1))
        dx, dy, turn, dt = arrays["motion"][i]
        for row in now:
            same = then[then[:, column["actor_id"]] == row[column["actor_id"]]]
            if len(same) != 1:
                continue
            at = same[0, 1:3] - [dx, dy]
            c, s = np.cos(turn), np.sin(turn)
            moved = row[1:3] - [c * at[0] + s * at[1], -s * at[0] + c * at[1]]
            velocity = row[[column["vx_mps"], column["vy_mps"]]]
            errors.append(np.abs(moved / dt - velocity).max())
            speeds.append(np.hypot(*velocity))
    assert len(errors) > 100
    assert np.percentile(errors, 95) < 0.6
    assert max(speeds) > 4.0


def test_every_family_that_is_not_kept_for_tests_can_be_asked_for() -> None:
    assert {n for n, f in FAMILIES.items() if f.reserved} == set(FAMILIES) - set(ALL_FAMILIES)


def test_several_lights_weathers_and_families_are_drawn_and_tagged(tmp_path: Path) -> None:
    manifest = generate(
        tmp_path / "set", towns=[0, 1, 2, 3], frames=4, light=("day", "night"),
        weather=("clear", "rain"), families=("town_drive", "roundabouts", "motorway_merge"),
    )  # fmt: skip
    assert manifest.tags == {
        "light": "day,night",
        "weather": "clear,rain",
        "families": "town_drive,roundabouts,motorway_merge",
    }


@pytest.mark.parametrize(
    "wrong", [{"sequence": 0}, {"sequence_step_s": 0.0}, {"signals_ratio": 1.5}]
)
def test_impossible_runs_are_refused_by_name(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(BadRequestError, match=next(iter(wrong))):
        generate(tmp_path / "set", towns=[0], frames=1, **wrong)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metres", [8, 25, 45])
def test_a_red_light_in_sight_is_labelled_with_its_distance(metres: int) -> None:
    light, _ = before_a_light(metres).road_truth()
    assert light[0] == RED
    assert light[1] == pytest.approx(metres, abs=1.0)


def test_a_light_that_no_front_camera_sees_is_not_labelled() -> None:
    episode = before_a_light(25)
    episode.look_from(replace(episode.motion, yaw_rad=episode.motion.yaw_rad + 2.0))
    light, _ = episode.road_truth()
    assert light[0] == -1
    assert np.isnan(light[1])


def test_a_light_behind_a_car_s_body_is_not_labelled() -> None:
    episode = before_a_light(25)
    for depth in episode.shot().depths_m.values():
        depth[:] = np.minimum(depth, 5.0)
    assert episode.road_truth()[0][0] == -1


def test_without_lights_in_town_none_is_in_sight() -> None:
    light, _ = Episode(town=2, seed=1).road_truth()
    assert light[0] == NONE
    assert np.isnan(light[1])


def test_the_true_scene_says_what_the_light_shows() -> None:
    episode = before_a_light(25)
    traffic = episode.observe(truth=True).traffic
    assert traffic is not None
    assert traffic.signal is not None
    assert (traffic.signal.state, traffic.signal.source) == ("red", "truth")
    assert traffic.signal.distance_m == pytest.approx(25, abs=1.0)


def test_own_lane_lies_half_its_width_to_each_side() -> None:
    episode = Episode(town=2, seed=1, rig=Rig(name="none", cameras=()))
    lanes = episode._lane_lines.label(episode.route, episode.pose)
    near = np.flatnonzero((ROWS_M > 2.0) & (ROWS_M < 8.0))
    width = episode.town.lanes.widths()[episode.route.lane]
    assert lanes[1, near] - lanes[2, near] == pytest.approx(width, abs=0.1)
    assert (lanes[1, near] > 0.0).all()
    assert (lanes[2, near] < 0.0).all()


def test_lines_follow_the_ego_s_pose() -> None:
    episode = Episode(town=2, seed=1, rig=Rig(name="none", cameras=()))
    yaw = episode.pose[2]
    aside = episode.pose + np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    before = episode._lane_lines.label(episode.route, episode.pose)
    after = episode._lane_lines.label(episode.route, aside)
    both = np.isfinite(before) & np.isfinite(after)
    assert both.sum() > 40
    assert (before - after)[both] == pytest.approx(1.0, abs=0.05)


def test_beside_an_oncoming_lane_there_is_a_line_to_the_left_and_none_to_the_right() -> None:
    for seed in range(20):
        episode = Episode(town=2, seed=seed, rig=Rig(name="none", cameras=()))
        lane = episode.route.lane
        road = episode.town.roads[int(episode.town.lanes.approach[lane]) // 2]
        if road.lanes == 1 and not road.oneway:
            break
    lanes = episode._lane_lines.label(episode.route, episode.pose)
    row = int(np.argmin(np.abs(ROWS_M - 3.0)))
    assert lanes[0, row] - lanes[1, row] == pytest.approx(road.lane_width_m, abs=0.15)
    assert np.isnan(lanes[3, row])


def test_there_are_no_lines_in_a_junction() -> None:
    episode = Episode(town=2, seed=1, rig=Rig(name="none", cameras=()))
    inside = np.flatnonzero(episode.town.lanes.junction[episode.route.owner] >= 0)
    put(episode, int(inside[len(inside) // 2]))
    lanes = episode._lane_lines.label(episode.route, episode.pose)
    assert np.isnan(lanes[:, int(np.argmin(np.abs(ROWS_M)))]).all()
