"""Whatever a broken tracker or sensor tells the envelope, a careful command comes back."""

import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safety_parts import ask, ego, scene_of

from vehicle.config import VehicleConfig
from vehicle.safety import Envelope

CONFIG = VehicleConfig()
ENVELOPE = Envelope(CONFIG)
anything = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0])
rows = st.lists(st.tuples(*[anything] * 7), max_size=5)
courses = st.none() | st.lists(st.tuples(*[st.floats(-50, 50)] * 3), min_size=1, max_size=6)


@settings(max_examples=400, deadline=None)
@given(
    rows, st.floats(-30, 30), st.floats(-1, 1), st.floats(-149, 149), st.floats(-10, 10), courses
)
@example([(5.0, 0.0, math.nan, 0.0, 0.0, math.nan, math.nan)], 1.0, 0.0, 10.0, 0.0, None)
@example([(5.0, 0.0, 0.0, -4.0, -2.0, 0.0, 0.0)], 1.0, 0.0, -10.0, 0.0, [(0.0, 0.0, 0.0)])
def test_no_track_and_no_motion_however_odd_stops_the_tick(
    users: list[tuple[float, ...]], accel: float, curvature: float, speed: float, bend: float,
    course: list[tuple[float, ...]] | None,
) -> None:  # fmt: skip
    scene = scene_of(np.array(users).reshape(-1, 7))
    way = None if course is None else np.array(course)
    out = ENVELOPE.limit(ask(accel, curvature), scene, ego(speed, bend), way)
    floor = -CONFIG.max_brake_mps2
    assert min(accel, floor) <= out.accel_mps2 <= max(accel, floor)
    assert floor <= out.accel_mps2 <= CONFIG.max_accel_mps2
    assert abs(out.curvature_1pm) <= min(abs(curvature), CONFIG.max_curvature_1pm)
    assert math.copysign(1.0, out.curvature_1pm) == math.copysign(1.0, curvature)
    changed = (out.accel_mps2, out.curvature_1pm) != (accel, curvature)
    assert changed == bool(out.limited_by)


def test_a_track_of_unknown_size_and_speed_in_the_way_still_brakes() -> None:
    nan = math.nan
    scene = scene_of(np.array([(9.0, 0.0, nan, nan, nan, nan, nan)]))
    assert ENVELOPE.limit(ask(1.0), scene, ego(10.0)).accel_mps2 == -CONFIG.max_brake_mps2


@settings(max_examples=200, deadline=None)
@given(rows, rows, st.floats(0, 40), st.floats(-0.2, 0.2))
def test_one_more_road_user_never_makes_the_command_bolder(
    some: list[tuple[float, ...]], more: list[tuple[float, ...]], speed: float, bend: float
) -> None:
    few, many = (scene_of(np.array(u).reshape(-1, 7)) for u in (some, [*some, *more]))
    command, moves = ask(1.0), ego(speed, bend)
    fewer = ENVELOPE.limit(command, few, moves).accel_mps2
    assert ENVELOPE.limit(command, many, moves).accel_mps2 <= fewer
