"""One frame changes no belief; several do."""

import math

import numpy as np
import pytest

from vehicle.contracts.ego import EgoState
from vehicle.watch import LightWatch, MotionWatch

TICK_NS = 28_000_000
RED = np.array([0.1, 0.8, 0.05, 0.05, 30.0], np.float32)
GREEN = np.array([0.05, 0.05, 0.05, 0.85, 25.0], np.float32)
NONE = np.array([0.9, 0.05, 0.03, 0.02, 50.0], np.float32)


def ego(speed_mps: float) -> EgoState:
    return EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=speed_mps)


def test_the_first_look_is_believed_as_it_is() -> None:
    signal = LightWatch().see(RED, 0)
    assert (signal.state, signal.distance_m, signal.source) == ("red", 30.0, "network")
    assert signal.prob == pytest.approx(0.8)


def test_one_frame_of_another_colour_is_no_change_and_ten_are() -> None:
    watch = LightWatch()
    for tick in range(20):
        watch.see(RED, tick * TICK_NS)
    states = [watch.see(GREEN, (20 + k) * TICK_NS).state for k in range(10)]
    assert states[0] == "red"
    assert states[-1] == "green"


def test_where_there_is_no_light_there_is_no_distance() -> None:
    assert math.isnan(LightWatch().see(NONE, 0).distance_m)


def test_a_gap_begins_belief_anew() -> None:
    watch = LightWatch()
    for tick in range(20):
        watch.see(RED, tick * TICK_NS)
    assert watch.see(GREEN, 10**10).state == "green"


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


def test_without_odometry_there_is_nothing_to_doubt() -> None:
    watch = MotionWatch()
    assert [watch.doubt(np.array([9.0, 0.0]), None, k * TICK_NS) for k in range(60)] == [""] * 60
