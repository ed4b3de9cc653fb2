"""Comfort: the filter against fixed values, limits just inside and outside, pairs of plans."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_parts import drive, steady

from sim.score.comfort import LIMITS, comfort, extended_comfort, savgol
from sim.score.history import history_of
from vehicle.contracts.plan import Plan, Trajectory

SIGNAL = np.array([0, 1, 4, 2, 0, 3, 5, 1, 2, 6, 4, 3, 0, 1, 2, 5], float)


@pytest.mark.parametrize(
    ("window", "order", "derivative", "expected"),
    [
        (8, 2, 0, [0.33333333, 1.90625, 3.54166667]),
        (15, 2, 1, [7.44392372, 2.458468, -1.06108597]),
        (5, 2, 1, [32.42857143, 3.0, 40.28571429]),
        (5, 3, 2, [42.85714286, -71.42857143, -28.57142857]),
    ],
)
def test_filter_gives_the_values_of_scipy(
    window: int, order: int, derivative: int, expected: list[float]
) -> None:
    out = savgol(SIGNAL, window, order, derivative, 0.1)
    assert out[[0, 5, 15]] == pytest.approx(expected, abs=1e-7)


def test_filter_has_the_published_weights() -> None:
    impulse = np.zeros(11)
    impulse[5] = 1.0
    assert savgol(impulse, 5, 2)[3:8] * 35 == pytest.approx([-3, 12, 17, 12, -3])


@given(
    c=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    n=st.integers(3, 40),
    window=st.sampled_from([5, 7, 15]),
)
def test_filter_leaves_parabolas_as_they_are(c: list[float], n: int, window: int) -> None:
    t = np.arange(n) * 0.1
    if min(window, n) % 2 == 0:
        return
    signal = c[0] + c[1] * t + c[2] * t**2
    assert savgol(signal, window, 2) == pytest.approx(signal, abs=1e-6)
    assert savgol(signal, window, 2, 1, 0.1) == pytest.approx(c[1] + 2 * c[2] * t, abs=1e-5)


def within(**signals: object) -> dict[str, bool]:
    return comfort(history_of(drive(steady(6.0, 5.0), **signals))).within


@pytest.mark.parametrize(
    ("accel", "ok"), [(2.399, True), (2.40, False), (-4.049, True), (-4.05, False)]
)
def test_longitudinal_acceleration_limits(accel: float, ok: bool) -> None:
    assert within(accel=accel)["lon_accel_mps2"] is ok


@pytest.mark.parametrize(("lateral", "ok"), [(4.889, True), (4.89, False), (-4.89, False)])
def test_lateral_acceleration_limits(lateral: float, ok: bool) -> None:
    assert within(yaw_rate=lateral / 5.0)["lat_accel_mps2"] is ok


@pytest.mark.parametrize(("rate", "ok"), [(0.949, True), (0.95, False), (-0.95, False)])
def test_yaw_rate_limits(rate: float, ok: bool) -> None:
    assert within(yaw=rate * steady(6.0, 1.0))["yaw_rate_radps"] is ok


@pytest.mark.parametrize(("accel", "ok"), [(1.929, True), (1.93, False)])
def test_yaw_acceleration_limits(accel: float, ok: bool) -> None:
    t = steady(6.0, 1.0)
    assert within(yaw=accel * t**2 / 2)["yaw_accel_radps2"] is ok


@pytest.mark.parametrize(("share", "ok"), [(0.999, True), (1.001, False), (-1.001, False)])
def test_longitudinal_jerk_limits(share: float, ok: bool) -> None:
    ramp = steady(6.0, 1.0) - 3.0
    peak = comfort(history_of(drive(steady(6.0, 5.0), accel=ramp))).most["lon_jerk_mps3"]
    assert peak == pytest.approx(1.0, abs=0.15)
    assert within(accel=share * 4.13 / peak * ramp)["lon_jerk_mps3"] is ok


@pytest.mark.parametrize(("share", "ok"), [(0.999, True), (1.001, False)])
def test_whole_jerk_limits(share: float, ok: bool) -> None:
    ramp = steady(6.0, 1.0) / 5.0
    peak = comfort(history_of(drive(steady(6.0, 5.0), speed=5.0, yaw_rate=ramp))).most["jerk_mps3"]
    assert peak == pytest.approx(1.0, abs=0.15)
    assert within(yaw_rate=share * 8.37 / peak * ramp)["jerk_mps3"] is ok


def test_full_brake_is_not_comfortable() -> None:
    accel = np.zeros(61)
    accel[20:40] = -8.0
    assert not comfort(history_of(drive(steady(6.0, 5.0), accel=accel))).comfortable


def test_comfort_is_the_same_at_other_rates() -> None:
    def wave(dt: float) -> dict[str, float]:
        t = steady(6.0, 1.0, dt)
        h = history_of(drive(5.0 * t, accel=np.sin(t), speed=5.0, dt=dt))
        return comfort(h).most

    for name in LIMITS:
        assert wave(0.05)[name] == pytest.approx(wave(0.1)[name], abs=0.02)


def test_yaw_that_wraps_is_smooth() -> None:
    yaw = np.mod(0.3 * steady(6.0, 1.0) + 3.0 + np.pi, 2 * np.pi) - np.pi
    assert within(yaw=yaw)["yaw_rate_radps"]


def plan(accel: float, curvature: float = 0.0, speed: float = 8.0) -> Plan:
    t = np.arange(41) * 0.1
    v = speed + accel * t
    s = speed * t + accel * t**2 / 2
    states = np.stack(
        [t, s, 0 * t, curvature * s, v, np.full(41, accel), np.full(41, curvature)], axis=1
    )
    return Plan(
        frame_id=0, mono_ns=0, trajectory=Trajectory(states=states), rung="full", proposal="p",
        scores={},
    )  # fmt: skip


T = np.arange(21) * 0.1


def test_steady_plans_agree() -> None:
    assert extended_comfort(T, (plan(0.5),) * 21) == 1.0


@pytest.mark.parametrize(("change", "agree"), [(0.69, 1.0), (0.71, 0.0)])
def test_plans_disagree_beyond_seven_tenths(change: float, agree: float) -> None:
    plans = tuple(plan(0.2 + (change if i // 5 % 2 else 0.0)) for i in range(21))
    assert extended_comfort(T, plans) == agree


def test_share_of_pairs_counts() -> None:
    plans = tuple(plan(0.0 if i < 10 else 2.0) for i in range(21))
    assert extended_comfort(T, plans) == pytest.approx(1 - 5 / 16)


def test_drivers_without_plans_have_no_extended_comfort() -> None:
    assert math.isnan(extended_comfort(T, ()))
    assert math.isnan(extended_comfort(T, (None,) * 21))
    assert math.isnan(extended_comfort(T[:4], (plan(0.0),) * 4))
