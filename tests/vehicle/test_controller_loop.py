"""Controller and actuators in closed loop: settles, stays stable with delays, holds a bend."""

import math

import numpy as np
import pytest

from sim.users.dynamics import Motion, advance
from vehicle.config import VehicleConfig
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.plan import Plan, Trajectory
from vehicle.controller import Controller

SUB_S = 0.01
AHEAD_S = 0.1 * np.arange(41)


def on_arc(motion: Motion, bend: float, speed: float) -> Plan:
    """Return a plan along an arc through the origin at constant speed, from beside the ego on.

    It does not begin where the ego is: all of the error is the controller's to take away.
    """
    if bend == 0.0:
        s0 = motion.x_m
    else:
        s0 = math.atan2(motion.x_m * bend, 1.0 - motion.y_m * bend) / bend
    s = s0 + speed * AHEAD_S
    x, y = (s, 0.0 * s) if bend == 0.0 else (np.sin(bend * s) / bend, (1 - np.cos(bend * s)) / bend)
    c, si = math.cos(motion.yaw_rad), math.sin(motion.yaw_rad)
    dx, dy = x - motion.x_m, y - motion.y_m
    states = np.column_stack(
        [AHEAD_S, c * dx + si * dy, -si * dx + c * dy, bend * s - motion.yaw_rad,
         np.full(41, speed), np.zeros(41), np.full(41, bend)]
    )  # fmt: skip
    return Plan(
        frame_id=0, mono_ns=0, trajectory=Trajectory(states=states), rung="full",
        proposal="lateral+0.0/speed100", scores={},
    )  # fmt: skip


def drive(
    *, rate_hz: float, delay_s: float, known: bool, offset_m: float = 0.0, bend: float = 0.0,
    speed: float = 10.0, seconds: float = 10.0,
) -> np.ndarray:  # fmt: skip
    """Return [N, 4] time, error across, curvature, yaw rate of a drive with late actuators."""
    config = VehicleConfig(actuator_delay_s=max(delay_s, 0.01)) if known else VehicleConfig()
    controller = Controller(config)
    motion = Motion(x_m=0.0, y_m=offset_m, yaw_rad=0.0, speed_mps=speed)
    flying: list[tuple[float, ControlCommand]] = []
    rows, acts = [], (0.0, 0.0)
    for i in range(round(seconds * rate_hz)):
        begin, end = i / rate_hz, (i + 1) / rate_hz
        ns = round(begin * 1e9)
        plan = on_arc(motion, bend, speed)
        flying.append(
            (begin + delay_s, controller.command(plan, motion.ego_state(ns, (0, 0)), i, ns))
        )
        t = begin
        while t < end - 1e-9:
            while flying and flying[0][0] <= t + 1e-9:
                command = flying.pop(0)[1]
                acts = command.accel_mps2, command.curvature_1pm
            dt = min(SUB_S, end - t)
            motion, t = advance(motion, *acts, dt, config), t + dt
            across = motion.y_m
            if bend:
                across = abs(1 / bend) - math.hypot(motion.x_m, motion.y_m - 1 / bend)
            rows.append((t, across, motion.curvature_1pm, motion.speed_mps * motion.curvature_1pm))
    return np.array(rows)


LATE = [(0.0, False), (0.1, False), (0.1, True), (0.3, True)]


@pytest.mark.parametrize("rate_hz", [10.0, 36.0])
@pytest.mark.parametrize(("delay_s", "known"), LATE)
@pytest.mark.parametrize("speed", [3.0, 20.0])
def test_a_metre_beside_the_plan_is_taken_away_without_swinging(
    rate_hz: float, delay_s: float, known: bool, speed: float
) -> None:
    run = drive(rate_hz=rate_hz, delay_s=delay_s, known=known, offset_m=1.0, speed=speed)
    assert run[:, 1].min() > -0.12, "overshoot"
    assert np.abs(run[run[:, 0] > 4.0, 1]).max() < 0.1, "settled"
    assert np.abs(run[run[:, 0] > 8.0, 1]).max() < 0.01, "at rest"


@pytest.mark.parametrize("rate_hz", [10.0, 36.0])
@pytest.mark.parametrize(("delay_s", "known"), LATE)
@pytest.mark.parametrize(("speed", "bend"), [(3.0, -0.1), (10.0, 0.03)])
def test_a_bend_is_held_to_a_centimetre_or_two(
    rate_hz: float, delay_s: float, known: bool, speed: float, bend: float
) -> None:
    run = drive(rate_hz=rate_hz, delay_s=delay_s, known=known, bend=bend, speed=speed)
    assert np.abs(run[:, 1]).max() < 0.8, "from a straight wheel into the bend"
    assert np.abs(run[run[:, 0] > 6.0, 1]).max() < 0.02


def test_the_wheel_does_not_move_faster_than_it_can() -> None:
    config = VehicleConfig()
    run = drive(rate_hz=10.0, delay_s=0.0, known=False, offset_m=3.0, speed=5.0, seconds=3.0)
    rate = np.abs(np.diff(run[:, 2])) / SUB_S
    assert rate.max() <= config.max_curvature_rate_1pmps + 1e-6
    controller, motion = Controller(config), Motion(x_m=0.0, y_m=40.0, yaw_rad=0.0, speed_mps=5.0)
    asked = [
        controller.command(on_arc(motion, 0.0, 5.0), motion.ego_state(ns, (0, 0)), 0, ns)
        for ns in range(0, 1_000_000_000, 100_000_000)
    ]
    steps = np.diff([0.0, *(c.curvature_1pm for c in asked)])
    assert np.abs(steps).max() <= config.max_curvature_rate_1pmps * 0.1 + 1e-9
    assert max(abs(c.curvature_1pm) for c in asked) <= config.max_curvature_1pm


def standing(controller: Controller, motion: Motion, i: int) -> ControlCommand:
    states = np.zeros((41, 7))
    states[:, 0], states[:, 2] = AHEAD_S, 2.0
    plan = Plan(
        frame_id=i, mono_ns=0, trajectory=Trajectory(states=states), rung="full",
        proposal="lateral+0.0/speed100", scores={},
    )  # fmt: skip
    ns = i * 100_000_000
    return controller.command(plan, motion.ego_state(ns, (0, 0)), i, ns)


def test_a_standing_car_holds_the_brake_and_leaves_the_wheel_where_it_is() -> None:
    """Two metres beside its plan for a minute: no error winds up in the steering."""
    motion = Motion(x_m=0.0, y_m=0.0, yaw_rad=0.0, curvature_1pm=0.05)
    controller = Controller(VehicleConfig())
    commands = [standing(controller, motion, i) for i in range(600)]
    assert {c.accel_mps2 for c in commands} == {-0.5}
    assert {c.curvature_1pm for c in commands} == {0.05}


def braked(controller: Controller, i: int, speed: float, target: float) -> ControlCommand:
    states = np.zeros((41, 7))
    states[:, 0], states[:, 1], states[:, 4] = AHEAD_S, speed * AHEAD_S, target
    plan = Plan(
        frame_id=i, mono_ns=i * 100_000_000, trajectory=Trajectory(states=states), rung="full",
        proposal="lateral+0.0/speed100", scores={},
    )  # fmt: skip
    ego = Motion(x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=speed).ego_state(plan.mono_ns, (0, 0))
    return controller.command(plan, ego, i, plan.mono_ns)


def test_after_the_envelope_braked_the_brake_is_let_go_gently() -> None:
    config = VehicleConfig()
    controller = Controller(config)
    free = braked(controller, 0, 10.0, 10.0)
    controller.sent(
        ControlCommand(frame_id=0, mono_ns=free.mono_ns, accel_mps2=-8.0, curvature_1pm=0.0)
    )
    after = [braked(controller, i, 9.0, 9.0).accel_mps2 for i in range(1, 8)]
    step = config.max_jerk_mps3 * 0.1
    assert after[0] == pytest.approx(-config.comfort_brake_mps2 + step)
    assert np.diff(after).max() <= step + 1e-9
    assert after[-1] == pytest.approx(0.0, abs=1e-6)


def test_a_car_comes_to_rest_softly() -> None:
    controller, motion = Controller(VehicleConfig()), Motion(x_m=0, y_m=0, yaw_rad=0, speed_mps=6.0)
    accels = []
    for i in range(60):
        command = braked(controller, i, motion.speed_mps, max(0.0, motion.speed_mps - 3.0))
        motion = advance(motion, command.accel_mps2, 0.0, 0.1, VehicleConfig())
        accels.append(motion.accel_mps2)
        if motion.speed_mps == 0.0:
            break
    assert motion.speed_mps == 0.0
    assert min(accels) < -2.0
    assert accels[-1] > -1.0
    assert motion.x_m < 11.0


@pytest.mark.parametrize("rate_hz", [10.0, 36.0])
def test_a_smooth_plan_is_driven_as_smoothly(rate_hz: float) -> None:
    """Speed swings by 10 m/s with a jerk of at most 0.8 m/s3; the car's own is no larger."""
    config, clock_s = VehicleConfig(), 0.0
    controller, motion = Controller(config), Motion(x_m=0, y_m=0, yaw_rad=0, speed_mps=14.0)
    rows = []
    for i in range(round(20 * rate_hz)):
        t = i / rate_hz + AHEAD_S
        speed = 9.0 + 5.0 * np.cos(0.4 * t)
        speed += (motion.speed_mps - speed[0]) * np.exp(-AHEAD_S)  # from where the car is
        states = np.zeros((41, 7))
        states[:, 0], states[:, 4] = AHEAD_S, speed
        states[1:, 1] = np.cumsum(0.05 * (speed[1:] + speed[:-1]))
        ns = round(i / rate_hz * 1e9)
        plan = Plan(
            frame_id=i, mono_ns=ns, trajectory=Trajectory(states=states), rung="full",
            proposal="lateral+0.0/speed100", scores={},
        )  # fmt: skip
        command = controller.command(plan, motion.ego_state(ns, (0, 0)), i, ns)
        motion = advance(motion, command.accel_mps2, command.curvature_1pm, 1 / rate_hz, config)
        clock_s += 1 / rate_hz
        rows.append((clock_s, motion.speed_mps, motion.accel_mps2))
    at = np.arange(1.0, 19.0, 0.1)
    drive_ = np.array(rows)
    accel = np.interp(at, drive_[:, 0], drive_[:, 2])
    jerk = np.diff(accel) / 0.1
    assert np.abs(jerk).max() < 0.9
    assert (
        np.abs(np.interp(at, drive_[:, 0], drive_[:, 1]) - 9.0 - 5.0 * np.cos(0.4 * at)).max() < 0.6
    )
