"""Exact questions to the safety envelope: every boundary of it, asked on both sides.

Each check takes a namespace with the names of `vehicle.safety`, so that the same questions go to
the real, compiled module and to mutants of its source.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from safety_laws import (
    along_a_course_the_lane_is_the_plans,
    broken_tracks_leave_numbers,
    contacts_are_where_an_exact_arc_puts_them,
    the_rules_are_those_of_a_lane_drawn_another_way,
)
from safety_parts import BODY, FRONT, SIDE_GAP, ask, limit, rss, scene_of, user

# --- distances


def distances_are_those_of_the_reference(m: Any) -> None:
    """ad-rss 5.0.0: the three examples, and one more of each."""
    assert math.isclose(m.rss_same_direction(20.0, 15.0, 1.0, 3.5, 4.0, 8.0), 76.71875)
    assert math.isclose(m.rss_same_direction(8.0, 4.0, 0.5, 2.0, 4.0, 8.0), 13.375)
    assert math.isclose(m.rss_opposite(15.0, 10.0, 1.0, 3.5, 3.0, 4.0), 108.32291666666667)
    assert math.isclose(m.rss_opposite(8.0, 4.0, 0.5, 2.0, 4.0, 2.0), 22.875)
    assert math.isclose(m.rss_lateral(0.3, -0.2, 1.0, 1.0, 0.2, 0.8, 0.1), 1.05625)
    assert m.rss_lateral(0.0, 0.0, 0.5, 0.5, 0.25, 0.5, 0.125) == SIDE_GAP


def somebody_much_faster_ahead_needs_no_gap(m: Any) -> None:
    assert m.rss_same_direction(10.0, 40.0, 0.5, 2.0, 4.0, 8.0) == 0.0
    assert m.rss_lateral(-9.0, 9.0, 0.5, 0.5, 0.25, 0.5, 0.125) == 0.0


def moving_apart_stops_nobody_sideways(m: Any) -> None:
    """Half a second at -1 gaining 0.25 m/s2 each second, and no braking after it."""
    assert m._sideways(-1.0, 1.0, 0.5, 0.25, 0.5) == 0.5 * (-1.0 - 0.875) * 0.5
    assert m._sideways(1.0, -1.0, 0.5, 0.25, 0.5) == 0.5 * (1.0 + 0.875) * 0.5
    assert m._sideways(1.0, 1.0, 0.5, 0.25, 0.5) == 0.5 * 2.125 * 0.5 + 1.125**2
    assert m._sideways(-1.0, -1.0, 0.5, 0.25, 0.5) == -0.5 * 2.125 * 0.5 - 1.125**2


# --- contacts


def a_standing_car_is_touched_when_the_bumper_gets_there(m: Any) -> None:
    """8 m/s, 0.4 m a look: 7.9 m to go are covered at look 20, one second."""
    t, along = m.first_contact(user(12.9), 8.0, 0.0, *BODY)
    assert math.isclose(t, 1.0)
    assert along == 0.0
    assert math.isclose(m.first_contact(user(13.1), 8.0, 0.0, *BODY)[0], 1.05)


def the_last_look_counts_and_none_after_it(m: Any) -> None:
    assert math.isclose(m.first_contact(user(5.0 + 23.9), 8.0, 0.0, *BODY)[0], 3.0)
    assert m.first_contact(user(5.0 + 24.1), 8.0, 0.0, *BODY) == (1e9, 0.0)
    assert math.isclose(m.needed_brake(user(5.0 + 23.9), 8.0, 0.0, *BODY), 8.0 / 6.0)
    assert m.needed_brake(user(5.0 + 24.1), 8.0, 0.0, *BODY) < 1e-6


def who_touches_already_is_left_alone(m: Any) -> None:
    for x, y in ((4.9, 0.0), (-2.9, 0.0), (1.0, 1.9), (1.0, -1.9)):
        assert m.first_contact(user(x, y), 8.0, 0.0, *BODY)[0] == 1e9, (x, y)
        assert m.first_contact(user(x, y, vx=1.0), 0.0, 0.0, *BODY)[0] == 1e9, (x, y)


def who_nearly_touches_is_touched_at_the_next_look(m: Any) -> None:
    for near in (user(5.125), user(1.0, 2.125, vy=-8.0), user(1.0, -2.125, vy=8.0)):
        assert math.isclose(m.first_contact(near, 8.0, 0.0, *BODY)[0], 0.05)


def who_runs_into_the_back_is_left_alone(m: Any) -> None:
    """The other's middle must lie ahead of the rear bumper at the contact."""
    assert m.first_contact(user(-8.0, vx=12.0), 4.0, 0.0, *BODY)[0] == 1e9
    sideways = user(-1.0, 5.0, vy=-4.0)
    assert m.first_contact(sideways, 0.0, 0.0, *BODY)[0] == 1e9
    sideways[0, 0] = -0.9375
    assert math.isclose(m.first_contact(sideways, 0.0, 0.0, *BODY)[0], 0.75)


def ahead_is_told_along_the_turned_car(m: Any) -> None:
    """On a quarter turn to the left, who comes in from behind the rear bumper is no contact."""
    bend = 0.25
    assert m.first_contact(user(4.0, 8.0), 4.0, bend, *BODY)[0] < 3.0
    assert m.first_contact(user(4.0, -8.0), 4.0, bend, *BODY)[0] == 1e9
    assert m.first_contact(user(4.0, -8.0), 4.0, -bend, *BODY)[0] < 3.0
    assert m.first_contact(user(-0.5, -6.0, vx=1.5, vy=4.0, yaw=1.2), 2.0, bend, *BODY)[0] == 1e9
    # it has turned by a quarter at the contact: what drives north drives along with it
    t, along = m.first_contact(user(4.0, 7.0, vy=1.0, yaw=1.5, length=2.0), 8.0, bend, *BODY)
    assert 0.5 < t < 1.0
    assert math.isclose(along, math.sin(0.25 * 8.0 * t))


def the_way_of_the_car_is_an_arc(m: Any) -> None:
    """After 1.5 s at 4 m/s on a radius of 4 m the middle of the body stands at a known place."""
    turned = 1.5
    x, y = 4.0 * math.sin(turned), 4.0 * (1.0 - math.cos(turned))
    x, y = x + math.cos(turned) - 1.0 * math.sin(turned), y + math.sin(turned) + math.cos(turned)
    spot = user(x - 2.0 * math.sin(turned), y + 2.0 * math.cos(turned), length=0.25, width=0.25)
    touched = user(
        x + 2.05 * math.cos(turned), y + 2.05 * math.sin(turned), length=0.25, width=0.25
    )
    assert m.first_contact(spot, 4.0, 0.25, *BODY)[0] == 1e9
    assert 0.5 < m.first_contact(touched, 4.0, 0.25, *BODY)[0] <= 1.55


def the_first_of_two_counts_and_of_equals_the_one_named_first(m: Any) -> None:
    near, far = user(12.9, vx=0.0), user(17.0, vx=0.0)
    for both in (np.concatenate([near, far]), np.concatenate([far, near])):
        assert math.isclose(m.first_contact(both, 8.0, 0.0, *BODY)[0], 1.0)
    slow, fast = user(12.9), user(12.9, -1.5, vy=0.125)
    fast[0, 5] = 0.0625
    both = np.concatenate([slow, fast])
    assert m.first_contact(both, 8.0, 0.0, *BODY)[1] == 0.0
    assert m.first_contact(both[::-1].copy(), 8.0, 0.0, *BODY)[1] == 0.0625


def the_hardest_contact_is_braked_for_whoever_is_first(m: Any) -> None:
    """Closing 1 m/s at once needs less than closing 8 m/s a little later."""
    first, harder = user(5.525, vx=7.0), user(12.9)
    needs = m.needed_brake(np.concatenate([first, harder]), 8.0, 0.0, *BODY)
    assert math.isclose(needs, 4.0)
    assert math.isclose(m.needed_brake(first, 8.0, 0.0, *BODY), 1.0 / (2.0 * 0.55))
    assert m.needed_brake(np.zeros((0, 7)), 8.0, 0.0, *BODY) == 0.0


def who_comes_towards_us_is_not_ours_to_stop(m: Any) -> None:
    """12.9 + 8 x 1.05 m away, closing 16 m/s: it is our 8 m/s that count."""
    oncoming = user(5.0 + 15.9, vx=-8.0)
    t = m.first_contact(oncoming, 8.0, 0.0, *BODY)[0]
    assert math.isclose(t, 1.0)
    assert math.isclose(m.needed_brake(oncoming, 8.0, 0.0, *BODY), 4.0)


# --- the envelope's rules


def at_the_safe_gap_nothing_is_asked_and_a_fifth_further_in_all_of_it(m: Any) -> None:
    need = 8.0 * 0.5 + 0.25 + 81.0 / 8.0 - 4.0 * 4.0 / 16.0
    assert math.isclose(need, 13.375)
    for further, brake in ((-0.01, 0.0), (0.01, 0.01), (0.5, 0.5), (1.0, 1.0), (2.0, 1.0)):
        gap = need - further * (0.2 * need + 0.2)
        rule, asked = rss(m, user(FRONT + 2.0 + gap, vx=4.0), 8.0)
        assert rule == (1 if brake else 0)
        assert math.isclose(asked, 4.0 * brake, abs_tol=5e-3), further


def touching_bumpers_ask_for_everything_and_no_more(m: Any) -> None:
    assert rss(m, user(5.0), 8.0) == (1, 4.0)
    assert rss(m, user(4.0), 8.0) == (1, 4.0)
    assert rss(m, user(0.0, length=6.0), 8.0) == (1, 4.0)
    for x in (5.0, 4.5):  # however slow
        assert rss(m, user(x), 0.125) == (1, 4.0)


def nobody_behind_the_front_bumper_is_kept_away_from(m: Any) -> None:
    """Half a length of exactly 3 m, seen from the rear axle, still reaches the bumper."""
    assert rss(m, user(0.0, length=6.0), 8.0)[0] == 1
    assert rss(m, user(0.0, length=5.96875), 8.0) == (0, 0.0)
    assert rss(m, user(-12.0), 8.0) == (0, 0.0)
    assert rss(m, user(0.0, yaw=math.pi / 2, length=4.0, width=6.25), 8.0)[0] == 1
    assert rss(m, user(0.0, yaw=0.5, length=4.0, width=2.0), 8.0) == (0, 0.0)
    assert rss(m, user(0.0, yaw=0.5, length=6.0, width=1.875), 8.0)[0] == 1
    assert rss(m, user(0.0, yaw=0.5, length=5.5, width=1.5), 8.0) == (0, 0.0)


def the_angle_at_which_a_bend_ends(m: Any) -> None:
    """A radian round the circle still counts, the next larger angle does not."""
    r = 4.0
    depth = 2.125
    x = depth * math.tan(1.0)
    while math.atan2(x, depth) < 1.0:
        x = math.nextafter(x, math.inf)
    while math.atan2(x, depth) > 1.0:
        x = math.nextafter(x, 0.0)
    assert math.atan2(x, depth) == 1.0
    there = user(x, r - depth, yaw=1.0)
    assert rss(m, there, 8.0, 1 / r)[0] == 1
    there[0, 0] += 1e-6
    assert rss(m, there, 8.0, 1 / r) == (0, 0.0)


def beside_us_the_side_gap_decides(m: Any) -> None:
    for side in (1.0, -1.0):
        at = 2.0 + SIDE_GAP
        assert rss(m, user(0.0, side * at, length=12.0), 8.0) == (3, 2.0)
        assert rss(m, user(0.0, side * (at + 2**-9), length=12.0), 8.0) == (0, 0.0)
        # turned by a right angle its length is its width
        turned = user(0.0, side * (2.0 + SIDE_GAP), yaw=math.pi / 2, length=2.0, width=12.0)
        assert rss(m, turned, 8.0)[0] == 3


def a_line_that_only_touches_is_no_side_gap(m: Any) -> None:
    assert rss(m, user(0.0, 2.0, length=12.0), 8.0) == (1, 4.0)
    assert rss(m, user(0.0, 2.0 + 2**-9, length=12.0), 8.0) == (3, 2.0)
    assert rss(m, user(0.0, 1.5, length=12.0), 8.0) == (1, 4.0)


def drifting_in_needs_more_side_and_drifting_out_less(m: Any) -> None:
    """towards 1 m/s: (1 + 1.125) / 2 x 0.5 + 1.125^2 for the other, 0.046875 for us, the margin."""
    need = 0.53125 + 1.265625 + 0.046875 + 0.125
    for side in (1.0, -1.0):
        drifts = user(0.0, side * (2.0 + need - 2**-9), vy=-side, length=12.0)
        assert rss(m, drifts, 8.0)[0] == 3
        drifts[0, 1] += side * 2**-8
        assert rss(m, drifts, 8.0)[0] == 0
        assert rss(m, user(0.0, side * 2.125, vy=side, length=12.0), 8.0)[0] == 0


def faster_across_than_a_lane_change_counts_as_one(m: Any) -> None:
    """1.5 m/s at most: (1.5 + 1.625) / 2 x 0.5 + 1.625^2."""
    need = 0.78125 + 2.640625 + 0.046875 + 0.125
    for vy in (1.5, 6.0):
        assert rss(m, user(0.0, 2.0 + need - 2**-9, vy=-vy, length=12.0), 8.0)[0] == 3
        assert rss(m, user(0.0, 2.0 + need + 2**-9, vy=-vy, length=12.0), 8.0)[0] == 0


def oncoming_begins_at_half_a_metre_a_second(m: Any) -> None:
    assert rss(m, user(FRONT + 2.0 + 12.0, vx=-0.5), 8.0)[0] == 1
    assert rss(m, user(FRONT + 2.0 + 12.0, vx=-0.5625), 8.0)[0] == 2
    assert rss(m, user(0.0, vx=-0.5, length=12.0), 8.0)[0] == 1


def the_gap_to_oncoming_traffic_counts_both_cars(m: Any) -> None:
    need = 4.25 + 81.0 / 8.0 + 2.25 + 25.0 / 8.0
    assert rss(m, user(5.0 + need + 0.01, vx=-4.0), 8.0) == (0, 0.0)
    rule, brake = rss(m, user(5.0 + need - 0.5 * (0.2 * need + 0.2), vx=-4.0), 8.0)
    assert rule == 2
    assert math.isclose(brake, 2.0, abs_tol=5e-3)


def somebody_who_rolls_back_slowly_counts_as_standing(m: Any) -> None:
    a = rss(m, user(FRONT + 2.0 + 12.0, vx=-0.25), 8.0)
    b = rss(m, user(FRONT + 2.0 + 12.0), 8.0)
    assert a == b
    assert a[0] == 1


def the_strongest_rule_is_named_and_of_equals_the_first(m: Any) -> None:
    hard, soft = user(5.0), user(0.0, 2.125, length=12.0)
    for both in (np.concatenate([hard, soft]), np.concatenate([soft, hard])):
        assert rss(m, both, 8.0) == (1, 4.0)
    ahead, towards = user(5.0), user(5.0, vx=-4.0)
    assert rss(m, np.concatenate([ahead, towards]), 8.0) == (1, 4.0)
    assert rss(m, np.concatenate([towards, ahead]), 8.0) == (2, 4.0)


def in_a_bend_the_lane_bends_too(m: Any) -> None:
    """The same place is ahead of a car that turns there and beside one that turns away."""
    r, turned = 16.0, 0.5
    x, y = r * math.sin(turned), r * (1.0 - math.cos(turned))
    for side in (1.0, -1.0):
        there = user(x, side * y, yaw=side * turned)
        assert rss(m, there, 8.0, side / r)[0] == 1
        assert rss(m, there, 8.0, -side / r)[0] == 0
        gap = r * turned - 2.0 - FRONT
        need = 4.25 + 81.0 / 8.0 - 16.0 / 16.0
        v = (4.0 * math.cos(turned), side * 4.0 * math.sin(turned))
        moves = user(x, side * y, yaw=side * turned, vx=v[0], vy=v[1])
        asked = 4.0 * min(1.0, (need - gap) / (0.2 * need + 0.2))
        assert math.isclose(rss(m, moves, 8.0, side / r)[1], asked, rel_tol=1e-9)
        for inside in (1.0, -1.0):  # 2.5 m off the arc, drifting across it
            across = (-inside * math.sin(turned), inside * math.cos(turned))
            out = user(
                x + 2.5 * across[0], side * (y + 2.5 * across[1]), yaw=side * turned,
                vx=-across[0], vy=-side * across[1],
            )  # fmt: skip
            assert rss(m, out, 8.0, side / r)[0] == 3
            out[0, 5:] *= -1.0
            assert rss(m, out, 8.0, side / r)[0] == 0


def half_way_round_a_bend_the_gap_is_along_the_arc(m: Any) -> None:
    r, turned = 32.0, 0.75
    there = user(r * math.sin(turned), r * (1 - math.cos(turned)), yaw=turned)
    need = 4.25 + 81.0 / 8.0
    gap = r * turned - 2.0 - FRONT
    assert gap > need
    assert rss(m, there, 8.0, 1 / r) == (0, 0.0)
    speed = 16.0
    need = 8.0 + 0.25 + 289.0 / 8.0
    asked = 4.0 * min(1.0, (need - gap) / (0.2 * need + 0.2))
    assert math.isclose(rss(m, there, speed, 1 / r)[1], asked)


def straight_on_is_straight_whatever_the_sign_of_nothing(m: Any) -> None:
    """The flattest bend that is told apart is a radius of 10 km; below it, all are that one."""
    ahead = user(100.0, 2.75, vx=0.0)
    for bend in (0.0, 1e-5, 1e-4):
        assert rss(m, ahead, 40.0, bend) == rss(m, ahead, 40.0, 1e-4)
    assert rss(m, user(100.0, -2.75), 40.0, -1e-5) == rss(m, ahead, 40.0, 1e-5)
    flat, bent = rss(m, ahead, 40.0, 1e-4), rss(m, ahead, 40.0, 2e-4)
    assert flat != bent or rss(m, ahead, 40.0, 2e-3) != flat
    assert rss(m, user(100.0, 2.625), 40.0, 1e-4)[0] == 3
    assert rss(m, user(100.0, 2.625), 40.0, -1e-4)[0] == 0


# --- the last word


def a_careful_command_is_returned_as_it_is(m: Any) -> None:
    for command in (ask(0.0), ask(2.0), ask(-8.0), ask(-8.0, 0.25), ask(1.0, -0.25)):
        assert limit(m, command, None, 2.0) is command
        assert limit(m, command, np.zeros((0, 7)), 2.0) is command
    command = ask(1.5)
    assert limit(m, command, user(90.0), 8.0) is command
    assert limit(m, command, user(5.0), 0.0) is command
    assert limit(m, command, user(5.0), -3.0) is command
    already = ask(-4.0)
    assert limit(m, already, user(5.0), 8.0) is already


def actuators_have_their_limits(m: Any) -> None:
    out = limit(m, ask(2.0625, 0.2501), None, 2.0)
    assert (out.accel_mps2, out.curvature_1pm) == (2.0, 0.25)
    assert out.limited_by == ("actuator_curvature", "actuator_accel")
    out = limit(m, ask(-8.0625, -0.2501), None, 2.0)
    assert (out.accel_mps2, out.curvature_1pm) == (-8.0, -0.25)
    assert out.limited_by == ("actuator_curvature", "actuator_brake")
    assert limit(m, ask(0.0, 0.25), None, 0.0).limited_by == ()


def too_sharp_for_the_speed_is_less_sharp_and_never_faster(m: Any) -> None:
    """1.5 x 4 m/s2 at 8 m/s is 0.09375 1/m."""
    at = ask(1.0, 0.09375)
    assert limit(m, at, None, 8.0) is at
    for side in (1.0, -1.0):
        out = limit(m, ask(1.0, side * 0.125), None, 8.0)
        assert (out.accel_mps2, out.curvature_1pm) == (0.0, side * 0.09375)
        assert out.limited_by == ("lateral_accel",)
    assert limit(m, ask(-1.0, 0.125), None, 8.0).accel_mps2 == -1.0


def rules_brake_and_are_named(m: Any) -> None:
    close = limit(m, ask(1.0), user(5.0), 8.0)
    assert (close.accel_mps2, close.limited_by) == (-4.0, ("rss_longitudinal",))
    towards = limit(m, ask(1.0), user(5.0 + 16.5, vx=-4.0), 8.0)
    assert towards.limited_by == ("rss_opposite",)
    assert math.isclose(
        towards.accel_mps2, -4.0 * (19.75 - 16.5) / (0.2 * 19.75 + 0.2), rel_tol=1e-3
    )
    beside = limit(m, ask(1.0), user(0.0, 2.125, length=12.0), 8.0)
    assert (beside.accel_mps2, beside.limited_by) == (-2.0, ("rss_lateral",))
    keeps = limit(m, replace(ask(1.0), limited_by=("before",)), user(5.0), 8.0)
    assert keeps.limited_by == ("before", "rss_longitudinal")


def who_moves_at_walking_pace_of_a_snail_is_held_to_the_rules(m: Any) -> None:
    assert limit(m, ask(1.0), user(5.0), 0.05).limited_by == ()
    assert limit(m, ask(1.0), user(5.0), 0.0625).limited_by == ("rss_longitudinal",)


def the_emergency_brake_acts_where_its_threshold_is_reached(m: Any) -> None:
    """8 m/s and a contact in one second needs exactly 4 m/s2; 0.05 s later less."""
    crossing = user(3.0 + 5.5, -6.0, vy=4.0, width=4.0, length=2.0, yaw=0.0)
    t, _ = m.first_contact(user(12.9), 8.0, 0.0, *BODY)
    assert t == 1.0
    out = limit(m, ask(1.0), user(12.9), 8.0)
    assert out.accel_mps2 == -8.0
    assert out.limited_by == ("rss_longitudinal", "aeb")
    assert "aeb" not in limit(m, ask(1.0), user(13.1), 8.0).limited_by
    assert "aeb" in limit(m, ask(1.0), crossing, 8.0).limited_by
    full = ask(-8.0)
    assert limit(m, full, user(12.9), 8.0) is full


def young_tracks_are_nobody_yet(m: Any) -> None:
    for age, count in ((2, 0), (3, 1)):
        assert len(m.road_users(scene_of(user(5.0), age))) == count
    assert len(m.road_users(scene_of(user(5.0), 1), 1)) == 1
    assert m.road_users(None).shape == (0, 7)


LONG = (
    along_a_course_the_lane_is_the_plans,
    broken_tracks_leave_numbers,
    contacts_are_where_an_exact_arc_puts_them,
    the_rules_are_those_of_a_lane_drawn_another_way,
)

CHECKS: tuple[Callable[[Any], None], ...] = (
    *(
        v
        for v in list(globals().values())
        if getattr(v, "__annotations__", {}) == {"m": Any, "return": None} and v not in LONG
    ),
    *LONG,
)
"""All checks, in the order of this file; those of `safety_laws`, some of them long, last."""
