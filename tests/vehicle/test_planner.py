"""The planner goes on, keeps its lane, and stops for what stands in it."""

import math

import numpy as np
import pytest

from vehicle.config import VehicleConfig
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import BEV, TRACK, Occupancy, Scene
from vehicle.controller import Controller
from vehicle.geometry import to_ego_2d
from vehicle.planner import NoEgoMotionError, Planner
from vehicle.safety import Envelope

CONFIG = VehicleConfig()


def straight() -> np.ndarray:
    return np.column_stack([np.arange(-20.0, 400.0), np.zeros(420)])


def circle(radius: float) -> np.ndarray:
    a = np.arange(-5.0, radius * 4.0) / radius
    return np.column_stack([radius * np.sin(a), radius * (1 - np.cos(a))])


def users(*rows: tuple[float, float, float, float]) -> np.ndarray:
    tracks = np.zeros(len(rows), TRACK)
    for i, (x, y, vx, vy) in enumerate(rows):
        tracks[i]["x_m"], tracks[i]["y_m"], tracks[i]["vx_mps"], tracks[i]["vy_mps"] = x, y, vx, vy
        tracks[i]["track_id"], tracks[i]["length_m"], tracks[i]["width_m"] = i + 1, 4.5, 1.9
        tracks[i]["score_prob"], tracks[i]["age_ticks"] = 0.9, 10
    return tracks


def scene_of(tracks: np.ndarray, occupancy: Occupancy | None = None) -> Scene:
    return Scene(
        frame_id=0,
        mono_ns=0,
        tracks=tracks,
        occupancy=occupancy,
        embedding=np.zeros(0, np.float32),
        uncertainty_ratio=0.1,
        fresh=True,
    )


def seen(
    i: int, x: float, y: float, yaw: float, v: float, a: float, k: float, lane: np.ndarray | None
) -> Observation:
    ego = EgoState(
        mono_ns=i * 100_000_000,
        x_m=x,
        y_m=y,
        yaw_rad=yaw,
        speed_mps=v,
        accel_mps2=a,
        curvature_1pm=k,
    )
    guidance = None
    if lane is not None:
        guidance = Guidance(centreline_m=to_ego_2d(ego, lane), speed_limit_mps=13.9)
    frame = FrameSet(frame_id=i, mono_ns=i * 100_000_000)
    return Observation(frame=frame, ego=ego, guidance=guidance)


def drive(
    lane: np.ndarray, tracks_local: np.ndarray, ticks: int, speed: float
) -> list[list[float]]:
    """Drive a kinematic car with planner, controller and envelope; return x, y, v, a, kappa."""
    planner, controller, envelope = Planner(CONFIG), Controller(CONFIG), Envelope(CONFIG)
    x, y, yaw, v, a, k = 0.0, 0.0, 0.0, speed, 0.0, 0.0
    plan: Plan | None = None
    log = []
    for i in range(ticks):
        obs = seen(i, x, y, yaw, v, a, k, lane)
        assert obs.ego is not None
        tracks = tracks_local.copy()
        at = to_ego_2d(
            obs.ego, np.column_stack([tracks["x_m"], tracks["y_m"]]).astype(float)
        ) + i * 0.1 * np.column_stack([tracks["vx_mps"], tracks["vy_mps"]])
        tracks["x_m"], tracks["y_m"] = at[:, 0], at[:, 1]
        scene = scene_of(tracks)
        plan = planner.plan(scene, obs, plan, "full")
        command = controller.command(plan, obs.ego, i, obs.frame.mono_ns)
        command = envelope.limit(command, scene, obs.ego)
        a, k = command.accel_mps2, command.curvature_1pm
        if v + a * 0.1 <= 0:
            a = -v / 0.1
        step = max(0.0, v + a * 0.05) * 0.1
        x += step * math.cos(yaw + k * step / 2)
        y += step * math.sin(yaw + k * step / 2)
        yaw += k * step
        v = max(0.0, v + a * 0.1)
        log.append([x, y, v, a, k])
    return log


def test_it_stops_behind_a_standing_leader_without_emergency() -> None:
    log = drive(straight(), users((90.0, 0.0, 0.0, 0.0)), 250, 12.0)
    front = log[-1][0] + 3.7
    assert log[-1][2] == pytest.approx(0.0, abs=0.1)
    assert 90.0 - 2.25 - 6.0 < front < 90.0 - 2.25 - 0.5
    assert min(row[3] for row in log) > -4.0


def test_it_follows_a_slower_leader_at_its_speed() -> None:
    log = drive(straight(), users((40.0, 0.0, 6.0, 0.0)), 250, 12.0)
    assert log[-1][2] == pytest.approx(6.0, abs=0.6)
    assert 40.0 + 25.0 * 6.0 - 2.25 - (log[-1][0] + 3.7) > 5.0


def test_it_reaches_the_limit_and_keeps_the_lane_on_an_empty_road() -> None:
    log = drive(straight(), users(), 200, 5.0)
    assert log[-1][2] == pytest.approx(13.9, abs=0.6)
    assert max(abs(row[1]) for row in log) < 0.05


def test_it_comes_back_to_the_lane_from_the_side() -> None:
    lane = straight() + np.array([0.0, 1.2])
    log = drive(lane, users(), 100, 10.0)
    assert log[-1][1] == pytest.approx(1.2, abs=0.1)
    assert max(row[1] for row in log) < 1.5
    assert max(row[2] ** 2 * abs(row[4]) for row in log) < 3.0


def test_it_slows_in_curves_so_that_lateral_acceleration_is_bounded() -> None:
    log = drive(circle(25.0), users(), 60, 7.0)
    assert max(row[2] ** 2 * abs(row[4]) for row in log) < CONFIG.max_lateral_mps2 * 1.1
    off = [abs(math.hypot(row[0], row[1] - 25.0) - 25.0) for row in log]
    assert max(off) < 0.6


def test_it_brakes_before_a_curve() -> None:
    a = np.arange(0.0, 40.0) / 15.0
    bend = np.column_stack([60 + 15 * np.sin(a), 15 * (1 - np.cos(a))])
    lane = np.concatenate([np.column_stack([np.arange(-5.0, 60.0), np.zeros(65)]), bend])
    log = drive(lane, users(), 90, 13.0)
    assert max(row[2] ** 2 * abs(row[4]) for row in log) < 3.3
    assert min(row[3] for row in log) > -4.0


def test_it_stops_hard_when_nothing_else_avoids_the_collision() -> None:
    planner = Planner(CONFIG)
    obs = seen(0, 0, 0, 0, 10.0, 0.0, 0.0, straight())
    plan = planner.plan(scene_of(users((17.0, 0.0, 0.0, 0.0))), obs, None, "full")
    assert plan.proposal == "emergency/stop"
    assert plan.scores["no_collision"] == 1.0


def test_a_track_of_one_tick_is_braked_for_gently() -> None:
    planner = Planner(CONFIG)
    obs = seen(0, 0, 0, 0, 10.0, 0.0, 0.0, straight())
    tracks = users((17.0, 0.0, 0.0, 0.0))
    tracks["age_ticks"] = 1
    assert planner.plan(scene_of(tracks), obs, None, "full").proposal == "stop/comfort"


def test_standing_it_does_not_wind_up_the_steering() -> None:
    planner = Planner(CONFIG)
    obs = seen(0, 0, 1.0, 0, 0.0, 0.0, 0.0, straight())
    plan = planner.plan(scene_of(users((6.5, -1.0, 0.0, 0.0))), obs, None, "full")
    assert abs(plan.trajectory.states[:, 6]).max() < 0.02


def test_it_passes_a_parked_car_that_leaves_room() -> None:
    planner = Planner(CONFIG)
    obs = seen(0, 0, 0, 0, 8.0, 0.0, 0.0, straight())
    plan = planner.plan(scene_of(users((40.0, -2.3, 0.0, 0.0))), obs, None, "full")
    assert plan.trajectory.states[-1, 4] > 7.5
    assert plan.scores["no_collision"] == 1.0


def test_minimal_risk_manoeuvre_stops_in_lane_at_four_at_most() -> None:
    planner = Planner(CONFIG)
    obs = seen(0, 0, 0, 0, 15.0, 0.0, 1 / 60.0, circle(60.0))
    plan = planner.plan(None, obs, None, "mrm")
    states = plan.trajectory.states
    assert plan.proposal == "mrm/in-lane-stop"
    assert states[:, 5].min() >= -4.0
    assert states[:, 5].min() == pytest.approx(-CONFIG.mrm_brake_mps2)
    for row in states:
        assert abs(math.hypot(row[1], row[2] - 60.0) - 60.0) < 0.6


def test_lost_lane_stops_on_the_last_trusted_path() -> None:
    planner = Planner(CONFIG)
    planner.plan(None, seen(0, 0, 0, 0, 8.0, 0.0, 0.02, circle(50.0)), None, "full")
    plan = planner.plan(None, seen(1, 0.8, 0, 0, 8.0, 0.0, 0.02, None), None, "mrm")
    assert plan.proposal == "mrm/straight-stop"
    end = plan.trajectory.states[-1]
    assert end[4] == 0.0
    assert abs(math.hypot(end[1] + 0.8, end[2] - 50.0) - 50.0) < 0.5


def test_held_plan_is_the_previous_one_seen_from_here() -> None:
    planner = Planner(CONFIG)
    first = planner.plan(None, seen(0, 0, 0, 0, 10.0, 0.0, 0.0, straight()), None, "full")
    held = planner.plan(
        None, seen(1, 1.0, 0.2, 0.05, 10.0, 0.0, 0.0, straight()), first, "hold_plan"
    )
    assert held.proposal == f"hold/{first.proposal}"
    assert held.trajectory.states[0, 0] == pytest.approx(0.0, abs=1e-9)
    assert held.trajectory.states[0, 2] == pytest.approx(-0.2, abs=0.05)
    assert held.trajectory.states[-1, 4] == first.trajectory.states[-1, 4]


def test_coasting_never_speeds_up() -> None:
    planner = Planner(CONFIG)
    obs = seen(0, 0, 0, 0, 6.0, 0.0, 0.0, straight())
    assert planner.plan(None, obs, None, "coast").trajectory.states[-1, 4] < 6.1
    assert planner.plan(None, obs, None, "full").trajectory.states[-1, 4] > 8.0


def test_believed_road_edge_turns_the_choice_but_noise_does_not() -> None:
    planner = Planner(CONFIG)
    obs = seen(0, 0, 0, 0, 10.0, 0.0, 0.0, straight())
    road = np.full((BEV.nx, BEV.ny), 255, np.uint8)
    rng = np.random.default_rng(0)
    road[rng.random(road.shape) < 0.05] = 0
    blank = np.zeros_like(road)
    noisy = Occupancy(grid=BEV, drivable=road, lane=blank, occupied=blank)
    plan = planner.plan(scene_of(users(), noisy), obs, None, "full")
    assert plan.proposal == "mid/speed100"
    none = Occupancy(grid=BEV, drivable=blank, lane=blank, occupied=blank)
    plan = planner.plan(scene_of(users(), none), obs, None, "full")
    assert plan.scores["drivable"] < 1.0


def test_without_guidance_it_keeps_the_present_curve() -> None:
    planner = Planner(CONFIG)
    plan = planner.plan(None, seen(0, 0, 0, 0, 8.0, 0.0, 0.02, None), None, "full")
    assert plan.trajectory.states[20, 2] > 1.0


def test_without_ego_motion_it_refuses() -> None:
    with pytest.raises(NoEgoMotionError):
        Planner(CONFIG).plan(None, Observation(frame=FrameSet(frame_id=0, mono_ns=0)), None, "full")


def test_two_planners_give_the_same_digest() -> None:
    rng = np.random.default_rng(2)
    tracks = users(*[tuple(rng.uniform(-10, 40, 4)) for _ in range(20)])
    obs = seen(0, 0, 0, 0, 9.0, 0.3, 0.01, circle(80.0))
    digests = {Planner(CONFIG).plan(scene_of(tracks), obs, None, "full").digest() for _ in range(2)}
    assert len(digests) == 1
