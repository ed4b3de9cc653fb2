"""One frame changes no belief; several do."""

import math
from dataclasses import replace

import numpy as np
import pytest

from vehicle.contracts.ego import EgoState
from vehicle.watch import LightWatch, MotionWatch

TICK_NS = 28_000_000
RED = np.array([0.1, 0.8, 0.05, 0.05, 30.0], np.float32)
SURE_GREEN = np.array([0.01, 0.01, 0.01, 0.97, 25.0], np.float32)
LIKELY_GREEN = np.array([0.02, 0.23, 0.05, 0.7, 25.0], np.float32)
DIM_RED = np.array([0.0, 0.45, 0.15, 0.4, 20.0], np.float32)
DIM_YELLOW = np.array([0.0, 0.15, 0.45, 0.4, 20.0], np.float32)
NONE = np.array([0.9, 0.05, 0.03, 0.02, 50.0], np.float32)


def ego(speed_mps: float) -> EgoState:
    return EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=speed_mps)


def test_the_first_look_is_believed_as_it_is() -> None:
    signal = LightWatch().see(RED, 0)
    assert (signal.state, signal.distance_m, signal.source) == ("red", 30.0, "network")
    assert signal.prob == pytest.approx(0.85)  # that of having to stop: red or yellow


def looks(watch: LightWatch, light: np.ndarray, seconds: float, start_ns: int) -> list[str]:
    ticks = round(seconds * 1e9 / TICK_NS)
    return [watch.see(light, start_ns + k * TICK_NS).state for k in range(ticks)]


def after_red() -> LightWatch:
    watch = LightWatch()
    looks(watch, RED, 1.0, -(10**9))
    return watch


def test_one_frame_of_another_colour_is_no_change_and_most_of_a_second_of_green_is() -> None:
    states = looks(after_red(), SURE_GREEN, 1.0, 0)
    assert set(states[: int(0.3e9 / TICK_NS)]) == {"red"}
    assert set(states[int(0.7e9 / TICK_NS) :]) == {"green"}


def test_a_red_light_that_looks_rather_green_for_a_while_stays_red_where_it_is() -> None:
    watch = after_red()
    assert set(looks(watch, LIKELY_GREEN, 0.4, 0)) == {"red"}
    signal = watch.see(LIKELY_GREEN, round(0.4e9))
    assert (signal.state, signal.distance_m) == ("red", 25.0)
    assert signal.prob > 0.5  # the planner stops for it


def test_a_light_that_looks_rather_green_for_long_is_green() -> None:
    assert looks(after_red(), LIKELY_GREEN, 2.5, 0)[-1] == "green"


def test_red_in_turn_with_yellow_is_a_reason_to_stop() -> None:
    watch = LightWatch()
    told = [watch.see((DIM_RED, DIM_YELLOW)[k % 2], k * TICK_NS) for k in range(40)]
    assert {signal.state for signal in told} <= {"red", "yellow"}
    assert min(signal.prob for signal in told) > 0.5


def test_a_red_light_out_of_sight_is_forgotten_within_a_second_and_has_no_distance() -> None:
    watch = after_red()
    assert looks(watch, NONE, 0.3, 0)[-1] == "red"
    assert math.isnan(watch.see(NONE, round(0.3e9)).distance_m)
    assert looks(watch, NONE, 0.7, round(0.33e9))[-1] == "none"


def test_green_turns_red_as_soon_as_red_is_likelier() -> None:
    watch = LightWatch()
    looks(watch, SURE_GREEN, 1.0, -(10**9))
    assert looks(watch, RED, 0.2, 0)[-1] == "red"


def test_where_there_is_no_light_there_is_no_distance() -> None:
    assert math.isnan(LightWatch().see(NONE, 0).distance_m)


def test_a_gap_begins_belief_anew() -> None:
    watch = LightWatch()
    for tick in range(20):
        watch.see(RED, tick * TICK_NS)
    assert watch.see(SURE_GREEN, 10**10).state == "green"


def test_pictures_that_agree_with_odometry_raise_no_doubt() -> None:
    watch, rng = MotionWatch(), np.random.default_rng(0)
    doubts = {
        watch.doubt(np.array([10.0, 0.0]) + rng.normal(0, [1.0, 0.05]), ego(10.0), k * TICK_NS)
        for k in range(100)
    }
    assert doubts == {""}


def test_odometry_that_says_another_speed_than_the_pictures_is_doubted_after_a_while() -> None:
    watch = MotionWatch()
    doubts = [watch.doubt(np.array([10.0, 0.0]), ego(5.0), k * TICK_NS) for k in range(60)]
    assert doubts[0] == ""
    assert "+5.0 m/s" in doubts[-1]


def test_odometry_that_turns_otherwise_than_the_pictures_is_doubted() -> None:
    watch = MotionWatch()
    for k in range(60):
        doubt = watch.doubt(np.array([5.0, 0.3]), ego(5.0), k * TICK_NS)
    assert "+0.30 rad/s" in doubt


@pytest.mark.parametrize(
    ("shown", "turn", "doubted"), [(0.25, 0.5, 0), (0.02, 0.5, 1), (-0.2, 0.2, 1)]
)
def test_half_of_a_turn_is_agreement_and_none_of_it_is_not(
    shown: float, turn: float, doubted: int
) -> None:
    watch = MotionWatch()
    for k in range(60):
        doubt = watch.doubt(
            np.array([5.0, shown]), replace(ego(5.0), yaw_rate_radps=turn), k * TICK_NS
        )
    assert bool(doubt) == bool(doubted)


def test_without_odometry_there_is_nothing_to_doubt() -> None:
    watch = MotionWatch()
    assert [watch.doubt(np.array([9.0, 0.0]), None, k * TICK_NS) for k in range(60)] == [""] * 60
