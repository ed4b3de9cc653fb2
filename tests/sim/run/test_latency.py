"""A late command acts late: by hand, on a tick of 0.1 s."""

import pytest

from sim.run.latency import Actuation
from vehicle.contracts.ego import ControlCommand


def command(accel: float) -> ControlCommand:
    return ControlCommand(frame_id=0, mono_ns=0, accel_mps2=accel, curvature_1pm=accel / 100)


def acted(late_s: list[float], rate_hz: float = 10.0) -> list[float]:
    """Return what the actuators do when the command of tick k asks for k + 1."""
    actuation = Actuation(tick_s=1.0 / rate_hz, held=command(0.0))
    return [
        pytest.approx(actuation.drive(command(k + 1.0), k, late).accel_mps2)
        for k, late in enumerate(late_s)
    ]


def test_without_latency_each_command_acts_in_its_own_tick() -> None:
    assert acted([0.0, 0.0, 0.0]) == [1.0, 2.0, 3.0]


def test_a_quarter_tick_late_leaves_a_quarter_to_the_one_before() -> None:
    assert acted([0.025, 0.025, 0.025]) == [0.75, 0.25 * 1 + 0.75 * 2, 0.25 * 2 + 0.75 * 3]


def test_two_and_a_half_ticks_late_acts_two_and_a_half_ticks_later() -> None:
    assert acted([0.25] * 5) == [0.0, 0.0, 0.5, 1.5, 2.5]


def test_exactly_one_tick_late_acts_one_tick_later() -> None:
    assert acted([0.1] * 3) == [0.0, 1.0, 2.0]


def test_a_command_overtaken_by_a_newer_one_never_acts() -> None:
    assert acted([0.35, 0.0, 0.0, 0.0]) == [0.0, 2.0, 3.0, 4.0]


def test_one_late_command_leaves_the_one_before_at_work() -> None:
    assert acted([0.0, 0.15, 0.0]) == [1.0, 1.0, 3.0]


def test_curvature_is_as_late_as_acceleration() -> None:
    actuation = Actuation(tick_s=0.1, held=command(0.0))
    late = actuation.drive(command(4.0), 0, 0.05)
    assert (late.accel_mps2, late.curvature_1pm) == pytest.approx((2.0, 0.02))
