"""The controller follows the plan as gently as it may; paths are what both follow."""

import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vehicle import realtime
from vehicle.config import VehicleConfig
from vehicle.contracts.ego import EgoState
from vehicle.contracts.plan import Plan, Trajectory
from vehicle.controller import Controller, lateral_gains
from vehicle.paths import KAPPA, PATH_BEHIND, YAW, S, X, Y, arc, locate, resample, speed_profile

CONFIG = VehicleConfig()


def plan_of(speed: list[float], proposal: str = "lateral+0.0/speed100", y: float = 0.0) -> Plan:
    states = np.zeros((len(speed), 7))
    states[:, 0] = 0.1 * np.arange(len(speed))
    states[:, 4] = speed
    states[:, 1] = np.cumsum(speed) * 0.1
    states[:, 2] = y
    rung = "mrm" if proposal.startswith("mrm") else "full"
    return Plan(
        frame_id=0,
        mono_ns=0,
        trajectory=Trajectory(states=states),
        rung=rung,  # type: ignore[arg-type]
        proposal=proposal,
        scores={},
    )


def ego(speed: float, accel: float = 0.0) -> EgoState:
    return EgoState(mono_ns=0, x_m=0, y_m=0, yaw_rad=0, speed_mps=speed, accel_mps2=accel)


def test_a_steady_plan_asks_for_nothing() -> None:
    command = Controller(CONFIG).command(plan_of([10.0] * 41), ego(10.0), 4, 0)
    assert command.accel_mps2 == pytest.approx(0.0, abs=1e-9)
    assert command.curvature_1pm == 0.0
    assert command.frame_id == 4


def test_the_demand_changes_no_faster_than_the_jerk_limit() -> None:
    controller = Controller(CONFIG)
    plan = plan_of(list(np.maximum(0.0, 10.0 - 0.6 * np.arange(41))))
    demands = [controller.command(plan, ego(10.0), i, i * 100_000_000).accel_mps2 for i in range(8)]
    steps = np.abs(np.diff([0.0, *demands]))
    assert steps.max() <= CONFIG.max_jerk_mps3 * 0.1 + 1e-9
    assert demands[-1] < -3.0


def test_an_emergency_stop_is_not_slowed_by_the_jerk_limit() -> None:
    for name in ("emergency/stop", "hold/emergency/stop"):
        plan = plan_of(list(np.maximum(0.0, 10.0 - 0.6 * np.arange(41))), name)
        assert Controller(CONFIG).command(plan, ego(10.0), 0, 0).accel_mps2 < -5.0


def test_standing_with_nowhere_to_go_holds_the_brake() -> None:
    command = Controller(CONFIG).command(plan_of([0.0] * 41), ego(0.0), 0, 0)
    assert command.accel_mps2 == -0.5


def test_hazard_lights_are_on_in_a_minimal_risk_manoeuvre() -> None:
    plan = plan_of([5.0] * 41, "mrm/in-lane-stop")
    assert Controller(CONFIG).command(plan, ego(5.0), 0, 0).hazard_lights


def test_a_plan_that_lies_to_the_left_is_steered_to() -> None:
    left = Controller(CONFIG).command(plan_of([10.0] * 41, y=0.5), ego(10.0), 0, 0)
    right = Controller(CONFIG).command(plan_of([10.0] * 41, y=-0.5), ego(10.0), 0, 0)
    assert left.curvature_1pm > 0.0 > right.curvature_1pm


@pytest.mark.parametrize("speed", [1.0, 5.0, 15.0, 40.0])
def test_lateral_gains_are_stable_at_any_speed(speed: float) -> None:
    gain = lateral_gains(CONFIG.wheelbase_m)[int(speed / 0.5)]
    dt, v = 0.1, speed
    a = np.array([[1, v * dt, v * v * dt * dt / 2], [0, 1, v * dt], [0, 0, 1]])
    b = np.array([v * v * dt**3 / 6, v * dt * dt / 2, dt])
    assert np.abs(np.linalg.eigvals(a - np.outer(b, gain))).max() < 1.0


def test_a_path_begins_where_the_ego_projects_to() -> None:
    points = np.column_stack([np.arange(-30.0, 50.0, 0.7), np.full(115, 2.0)])
    path = resample(points)
    assert path[PATH_BEHIND, S] == 0.0
    assert path[PATH_BEHIND, X] == pytest.approx(0.0, abs=1e-6)
    assert np.allclose(path[:, Y], 2.0)
    assert path[-1, X] == pytest.approx(249.0)  # straight on beyond the last point


@settings(max_examples=50, deadline=None)
@given(st.floats(15.0, 200.0), st.sampled_from([-1.0, 1.0]))
def test_a_resampled_circle_keeps_its_curvature(radius: float, side: float) -> None:
    a = np.arange(-10.0, 60.0) / radius
    path = resample(np.column_stack([radius * np.sin(a), side * radius * (1 - np.cos(a))]))
    assert np.allclose(path[PATH_BEHIND : PATH_BEHIND + 40, KAPPA], side / radius, rtol=0.1)


def test_repeated_points_and_a_lane_behind_do_no_harm() -> None:
    points = np.array([[-9.0, 0.0], [-9.0, 0.0], [-5.0, 0.0], [-5.0, 0.0]])
    path = resample(points)
    assert np.isfinite(path).all()
    assert np.allclose(path[:, YAW], 0.0)
    assert np.isfinite(resample(np.array([[3.0, 1.0], [3.0, 1.0]]))).all()


def test_locating_a_point_gives_distance_along_and_offset() -> None:
    path = resample(arc(1 / 50.0))
    row, s, offset = locate(path, 50 * math.sin(0.4), 50 - 50 * math.cos(0.4), 0)
    assert s == pytest.approx(20.0, abs=0.3)
    assert offset == pytest.approx(0.0, abs=0.15)
    assert path[row, S] == pytest.approx(20.0, abs=1.0)


def test_speed_profile_slows_before_the_bend_and_never_over_the_limit() -> None:
    path = resample(
        np.concatenate(
            [
                np.column_stack([np.arange(0.0, 60.0), np.zeros(60)]),
                np.column_stack([np.full(60, 60.0), np.arange(0.0, 60.0)]),
            ]
        )
    )
    profile = speed_profile(path, 14.0, 2.4, 1.5)
    assert profile.max() <= 14.0
    assert profile[PATH_BEHIND + 60] < 5.0
    drop = np.diff(profile**2) / 2.0
    assert drop.min() >= -1.5 - 1e-9


def test_what_the_machine_refuses_is_said() -> None:
    child = os.fork()
    if child == 0:  # the calling process keeps its own scheduling
        had = realtime.prepare()
        whole = set(had) == {"gc", "affinity", "memory_lock", "sched_fifo"} and all(had.values())
        bad = realtime.prepare(core=10_000)["affinity"]
        os._exit(0 if whole and "ValueError: core 10000" in bad else 1)
    assert os.waitpid(child, 0)[1] == 0
