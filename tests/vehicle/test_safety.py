"""The envelope has the last word, and it is never a bolder one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vehicle.config import VehicleConfig
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.scene import TRACK, Scene
from vehicle.proposals import boxes_touch
from vehicle.safety import (
    Envelope,
    first_contact,
    road_users,
    rss_lateral,
    rss_opposite,
    rss_same_direction,
)

CONFIG = VehicleConfig()
ENVELOPE = Envelope(CONFIG)
BODY = (3.7, 1.0, 1.9)


def scene_of(*rows: tuple[float, float, float, float], age: int = 10) -> Scene:
    tracks = np.zeros(len(rows), TRACK)
    for track, (x, y, vx, vy) in zip(tracks, rows, strict=True):
        track["x_m"], track["y_m"], track["vx_mps"], track["vy_mps"] = x, y, vx, vy
        track["length_m"], track["width_m"], track["age_ticks"] = 4.5, 1.8, age
    return Scene(
        frame_id=0,
        mono_ns=0,
        tracks=tracks,
        embedding=np.zeros(0, np.float32),
        uncertainty_ratio=0.0,
        fresh=True,
    )


def ego(speed: float, curvature: float = 0.0) -> EgoState:
    return EgoState(mono_ns=0, x_m=0, y_m=0, yaw_rad=0, speed_mps=speed, curvature_1pm=curvature)


def ask(accel: float, curvature: float = 0.0) -> ControlCommand:
    return ControlCommand(frame_id=0, mono_ns=0, accel_mps2=accel, curvature_1pm=curvature)


def test_distances_equal_those_of_the_reference_library() -> None:
    # ad-rss 5.0.0 with its own default parameters
    assert rss_same_direction(20.0, 15.0, 1.0, 3.5, 4.0, 8.0) == pytest.approx(76.7188, abs=1e-4)
    assert rss_opposite(15.0, 10.0, 1.0, 3.5, 3.0, 4.0) == pytest.approx(108.323, abs=1e-3)
    assert rss_lateral(0.3, -0.2, 1.0, 1.0, 0.2, 0.8, 0.1) == pytest.approx(1.05625, abs=1e-5)


def test_a_faster_leader_needs_no_gap() -> None:
    assert rss_same_direction(10.0, 40.0, 0.2, 2.5, 5.0, 8.0) == 0.0


def test_too_close_behind_a_leader_brakes_and_says_why() -> None:
    limited = ENVELOPE.limit(ask(1.0), scene_of((13.0, 0.0, 8.0, 0.0)), ego(15.0))
    assert limited.accel_mps2 == -CONFIG.rss_brake_mps2
    assert limited.limited_by == ("rss_longitudinal",)


def test_a_leader_at_a_safe_distance_changes_nothing() -> None:
    command = ask(1.0)
    assert ENVELOPE.limit(command, scene_of((40.0, 0.0, 12.0, 0.0)), ego(12.0)) is command


def test_a_car_in_the_next_lane_changes_nothing() -> None:
    command = ask(1.0)
    assert ENVELOPE.limit(command, scene_of((8.0, 3.5, 12.0, 0.0)), ego(12.0)) is command


def test_a_car_drifting_in_from_the_next_lane_is_given_room() -> None:
    limited = ENVELOPE.limit(ask(1.0), scene_of((8.0, 2.6, 8.0, -1.2)), ego(12.0))
    assert limited.limited_by == ("rss_lateral",)
    assert limited.accel_mps2 < 0.0


def test_somebody_coming_towards_us_in_our_lane_brakes() -> None:
    limited = ENVELOPE.limit(ask(0.0), scene_of((29.0, 0.0, -10.0, 0.0)), ego(10.0))
    assert "rss_opposite" in limited.limited_by


def test_a_pedestrian_stepping_out_is_braked_for_fully() -> None:
    limited = ENVELOPE.limit(ask(0.5), scene_of((12.0, -4.0, 0.0, 3.0)), ego(11.0))
    assert "aeb" in limited.limited_by
    assert limited.accel_mps2 == -CONFIG.max_brake_mps2


def test_tracks_too_young_to_have_a_velocity_do_not_brake() -> None:
    command = ask(0.5)
    scene = scene_of((12.0, 0.0, 0.0, 0.0), age=1)
    assert ENVELOPE.limit(command, scene, ego(11.0)) is command


def test_a_leader_in_the_bend_counts_and_one_straight_on_does_not() -> None:
    bend = ego(10.0, curvature=1 / 20.0)
    assert ENVELOPE.limit(ask(0.0), scene_of((11.0, 3.3, 0.0, 0.0)), bend).limited_by
    assert not ENVELOPE.limit(ask(0.0), scene_of((20.0, -3.0, 0.0, 0.0)), bend).limited_by


def test_actuators_are_never_asked_for_more_than_they_can() -> None:
    limited = ENVELOPE.limit(ask(9.0, 0.5), None, ego(2.0))
    assert limited.accel_mps2 == CONFIG.max_accel_mps2
    assert limited.curvature_1pm == CONFIG.max_curvature_1pm
    assert limited.limited_by == ("actuator_curvature", "actuator_accel")
    assert ENVELOPE.limit(ask(-20.0), None, ego(2.0)).accel_mps2 == -CONFIG.max_brake_mps2


def test_too_sharp_for_the_speed_is_less_sharp_and_slower() -> None:
    limited = ENVELOPE.limit(ask(1.0, -0.1), None, ego(20.0))
    assert limited.curvature_1pm == pytest.approx(-1.5 * CONFIG.max_lateral_mps2 / 400.0)
    assert limited.accel_mps2 == 0.0
    assert limited.limited_by == ("lateral_accel",)


numbers = st.floats(-30, 30)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=6),
    st.floats(-10, 6),
    st.floats(-0.4, 0.4),
    st.floats(-5, 40),
    st.floats(-0.2, 0.2),
)
def test_a_limited_command_is_only_ever_more_careful(
    rows: list[tuple[float, float, float, float]],
    accel: float,
    curvature: float,
    speed: float,
    bend: float,
) -> None:
    out = ENVELOPE.limit(ask(accel, curvature), scene_of(*rows), ego(speed, bend))
    assert out.accel_mps2 <= max(accel, -CONFIG.max_brake_mps2)
    assert out.accel_mps2 >= min(accel, -CONFIG.max_brake_mps2)
    assert abs(out.curvature_1pm) <= abs(curvature)
    assert out.curvature_1pm * curvature >= 0.0
    changed = (out.accel_mps2, out.curvature_1pm) != (accel, curvature)
    assert changed == bool(out.limited_by)


def test_time_to_contact_of_a_standing_car_is_distance_over_speed() -> None:
    users = road_users(scene_of((23.7 + 2.25, 0.0, 0.0, 0.0)))
    assert first_contact(users, 10.0, 0.0, *BODY)[0] == pytest.approx(2.0, abs=0.051)
    assert first_contact(users, 5.0, 0.0, *BODY)[0] > 1e8


def test_somebody_running_into_us_from_behind_is_no_contact_of_ours() -> None:
    assert first_contact(road_users(scene_of((-8.0, 0.0, 15.0, 0.0))), 5.0, 0.0, *BODY)[0] > 1e8


@settings(max_examples=100, deadline=None)
@given(numbers, numbers, st.floats(-3.1, 3.1), st.floats(-3.1, 3.1))
def test_box_overlap_does_not_depend_on_the_order(x: float, y: float, a: float, b: float) -> None:
    def touch(p: tuple[float, float, float], q: tuple[float, float, float]) -> bool:
        return boxes_touch(
            p[0], p[1], np.cos(p[2]), np.sin(p[2]), 2.0, 1.0,
            q[0], q[1], np.cos(q[2]), np.sin(q[2]), 2.0, 1.0,
        )  # fmt: skip

    first, second = (0.0, 0.0, a), (x / 6, y / 6, b)
    assert touch(first, second) == touch(second, first)
    assert touch(first, (0.1, 0.1, b))
    assert not touch(first, (10.0, 0.0, b))


def test_who_stands_outside_the_bend_ahead_is_in_nobodys_way_but_who_stands_in_it_is() -> None:
    a = np.arange(0.0, 30.0) / 20.0
    course = np.column_stack([20.0 * np.sin(a), 20.0 * (1.0 - np.cos(a)), a])
    command = ask(0.0)
    outside = scene_of((14.0, 0.5, 0.0, 0.0))
    assert ENVELOPE.limit(command, outside, ego(8.0)).limited_by
    assert ENVELOPE.limit(command, outside, ego(8.0), course) is command
    within = scene_of((11.0, 4.0, 0.0, 0.0))
    assert ENVELOPE.limit(command, within, ego(8.0), course).limited_by == ("rss_longitudinal",)


def test_a_course_that_leads_nowhere_is_straight_on() -> None:
    still = np.zeros((41, 3))
    limited = ENVELOPE.limit(ask(1.0), scene_of((14.0, 0.0, 0.0, 0.0)), ego(8.0), still)
    assert limited.limited_by == ("rss_longitudinal",)
