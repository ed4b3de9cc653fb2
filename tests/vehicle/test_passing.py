"""What proposals there are, when lanes are changed, and where speed is held for the hidden."""

import numpy as np
import pytest

from vehicle.candidates import EMERGENCY, Menu, passes
from vehicle.caution import slow_down
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.scene import KINDS, TRACK
from vehicle.course import straighten
from vehicle.passing import Passing
from vehicle.paths import PATH_BEHIND, resample, speed_profile
from vehicle.proposals import BRAKE, OFFSET, STOP

LINE = np.column_stack([np.arange(-10.0, 120.0), np.zeros(130)])
PATH = resample(LINE)


def ego(t_s: float, speed: float = 8.0) -> EgoState:
    return EgoState(mono_ns=round(t_s * 1e9), x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=speed)


def beside(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array([[s, d, 2.25, 0.9, v] for s, d, v in rows]).reshape(-1, 5)


def test_there_are_at_least_45_proposals_and_the_hardest_brake_is_last() -> None:
    menu = Menu(1.9, 6.0).of(limit_mps=10.0, lane_m=3.5, stop_m=None, yield_m=None)
    assert len(menu) >= 45
    assert len(set(menu.names)) == len(menu) == len(menu.table)
    assert menu.names[-1] == EMERGENCY
    assert menu.table[-1, BRAKE] == 6.0
    more = Menu(1.9, 6.0).of(
        limit_mps=10.0, lane_m=3.5, stop_m=None, yield_m=None, aside_m=(0.9,), lanes_m=(3.5,)
    )
    assert len(more) == len(menu) + 6
    assert more.names[-1] == EMERGENCY
    assert set(more.offsets) >= {0.9, 3.5}


def test_a_red_line_stops_every_proposal_and_a_yield_line_only_its_own() -> None:
    menu = Menu(1.9, 6.0)
    red = menu.of(limit_mps=10.0, lane_m=3.5, stop_m=20.0, yield_m=None)
    assert red.table[:, STOP].max() == 20.0
    gives = menu.of(limit_mps=10.0, lane_m=3.5, stop_m=None, yield_m=15.0)
    halts = {n for n, row in zip(gives.names, gives.table, strict=True) if row[STOP] == 15.0}
    assert {n.split("/")[0] for n in halts} <= {"yield", "stop"}
    assert "yield/speed100" in halts
    assert menu.of(limit_mps=10.0, lane_m=3.5, stop_m=None, yield_m=None).table[0, OFFSET] == 0.0


def test_what_stands_at_the_edge_is_passed_inside_the_lane_and_what_fills_it_is_not() -> None:
    slow = np.array([True])
    assert passes(beside((20.0, -1.9, 0.0)), slow, 1.0, 0.7, 1.9) == pytest.approx((0.35,))
    assert passes(beside((20.0, 0.0, 0.0)), slow, 1.0, 0.7, 1.9) == ()
    assert passes(beside((20.0, -3.0, 0.0)), slow, 1.0, 0.7, 1.9) == ()


def test_a_lane_is_changed_after_patience_where_it_goes_on_and_is_free() -> None:
    guidance = Guidance(centreline_m=LINE, speed_limit_mps=14.0, lane_width_m=3.5, left_lane_m=80.0)
    crawls = beside((25.0, 0.0, 2.0))
    passing = Passing(1.9, 1.0)
    assert passing.ways(crawls, ego(0.0), guidance, 3.5).lanes_m == ()
    assert passing.ways(crawls, ego(3.0), guidance, 3.5).lanes_m == (3.5,)
    fast_behind = np.concatenate([crawls, beside((-12.0, 3.5, 14.0))])
    assert passing.ways(fast_behind, ego(3.1), guidance, 3.5).lanes_m == ()
    alongside = np.concatenate([crawls, beside((1.0, 3.5, 8.0))])
    assert passing.ways(alongside, ego(3.2), guidance, 3.5).lanes_m == ()
    assert passing.ways(beside(), ego(3.3), guidance, 3.5).lanes_m == ()
    assert passing.ways(crawls, ego(3.4), guidance, 3.5).lanes_m == ()  # patience begins anew


def test_speed_is_held_beside_what_hides_people_and_not_beside_what_does_not() -> None:
    profile = speed_profile(PATH, 14.0, 3.0, 1.5)
    tracks = np.zeros(1, TRACK)
    tracks["kind"], tracks["height_m"] = KINDS.index("truck"), 3.0
    row = beside((30.0, -2.4, 0.0))
    held = slow_down(profile, row, tracks, 1.9)
    assert held[PATH_BEHIND + 32] == pytest.approx(7.0 * ((0.55 + 0.95) / 1.5 - 0.3))
    assert held[PATH_BEHIND] < 14.0  # it slows down softly before
    tracks["height_m"] = 0.6
    assert slow_down(profile, row, tracks, 1.9) is profile
    tracks["height_m"], tracks["vx_mps"] = 3.0, 5.0
    assert slow_down(profile, row, tracks, 1.9) is profile


def test_a_course_lays_road_users_straight_with_the_strip_they_cover() -> None:
    a = np.arange(0.0, 30.0) / 20.0
    course = np.column_stack([20.0 * np.sin(a), 20.0 * (1.0 - np.cos(a)), a])
    at = 0.5
    c, si = np.cos(at), np.sin(at)
    user = np.array([[23.0 * si, 20.0 - 23.0 * c, at, 4.0, 2.0, 3.0 * c, 3.0 * si]])
    out = straighten(user, course)[0]
    assert out[0] == pytest.approx(10.0, abs=0.4)
    assert out[1] == pytest.approx(-3.0, abs=0.15)
    assert out[4] == pytest.approx(2.0, abs=0.25)
    assert out[5:] == pytest.approx([3.0, 0.0], abs=0.1)
