"""Checks of the safety envelope by whole scenes: its geometry drawn another way, broken tracks."""

import math
from typing import Any

import numpy as np
from safety_parts import BODY, CONFIG, ask, ego, rss, scene_of, user

from vehicle.proposals import boxes_touch


def contacts_are_where_an_exact_arc_puts_them(m: Any) -> None:
    """400 road users against a circle drawn by angle, not by steps."""
    rng, counted = np.random.default_rng(5), 0
    for n in range(400):
        speed, bend = float(rng.uniform(0.5, 12.0)), float(rng.uniform(0.02, 0.25)) * (-1) ** n
        x, y, yaw = rng.uniform(-10, 20), rng.uniform(-12, 12), rng.uniform(-3, 3)
        vx, vy = rng.uniform(-6, 6, 2)
        other = user(x, y, vx=vx, vy=vy, yaw=yaw, length=rng.uniform(0.3, 6), width=0.5)
        expected = _exact_contact(other[0], speed, bend)
        if expected is None:
            continue
        t, along = m.first_contact(other, speed, bend, *BODY)
        assert math.isclose(t, expected[0]), n
        assert math.isclose(along, expected[1], abs_tol=1e-9), n
        counted += t < 3.1
    assert counted > 20, counted


def _exact_contact(u: np.ndarray, speed: float, bend: float) -> tuple[float, float] | None:
    """Return time and speed along; None where a centimetre decides."""
    x, y, yaw, length, width, vx, vy = u
    for k in range(61):
        t = 0.05 * k
        turned = bend * speed * t
        c, s = math.cos(turned), math.sin(turned)
        ax, ay = s / bend, (1.0 - c) / bend
        at = (ax + c, ay + s, c, s)
        them = (x + vx * t, y + vy * t, math.cos(yaw), math.sin(yaw))
        grown, shrunk = (
            boxes_touch(*at, 2.0 + d, 1.0 + d, *them, length / 2 + d, width / 2 + d)
            for d in (0.005, -0.005)
        )
        if grown != shrunk:
            return None
        if grown:
            ahead = (them[0] - ax) * c + (them[1] - ay) * s + 1.0
            if abs(ahead) < 0.01:
                return None
            return (t, vx * c + vy * s) if k and ahead > 0.0 else (1e9, 0.0)
    return 1e9, 0.0


def the_rules_are_those_of_a_lane_drawn_another_way(m: Any) -> None:
    """600 road users, by complex numbers round the centre of the bend."""
    rng, seen = np.random.default_rng(6), {0: 0, 1: 0, 2: 0, 3: 0}
    for n in range(600):
        speed, bend = float(rng.uniform(2.0, 16.0)), float(rng.uniform(0.002, 0.05)) * (-1) ** n
        x, y, yaw = rng.uniform(0, 40), rng.uniform(-6, 6), rng.uniform(-3, 3)
        vx, vy = rng.uniform(-8, 12), rng.uniform(-2, 2)
        other = user(x, y, vx=vx, vy=vy, yaw=yaw, length=rng.uniform(0.3, 6), width=1.5)
        rule, brake = rss(m, other, speed, bend)
        told, asked = _lane_rule(other[0], speed, bend)
        assert rule == told, n
        assert math.isclose(brake, asked, rel_tol=1e-6, abs_tol=1e-9), n
        seen[rule] += 1
    assert min(seen.values()) > 15, seen


def _lane_rule(u: np.ndarray, speed: float, bend: float) -> tuple[int, float]:
    x, y, yaw, length, width, vx, vy = u
    centre, radius = complex(0.0, 1.0 / bend), 1.0 / abs(bend)
    spoke = complex(x, y) - centre
    tangent = spoke * (1j if bend > 0 else -1j) / abs(spoke)
    angle = abs(np.angle(tangent)) * (1.0 if tangent.imag * bend >= 0 else -1.0)
    v, facing = complex(vx, vy) / tangent, complex(math.cos(yaw), math.sin(yaw)) / tangent
    left = (radius - abs(spoke)) * (1.0 if bend > 0 else -1.0)
    half_along = (length * abs(facing.real) + width * abs(facing.imag)) / 2
    half_across = (length * abs(facing.imag) + width * abs(facing.real)) / 2
    gap, beside = radius * angle - half_along - 3.0, abs(left) - half_across - 1.0
    if gap + 2 * half_along < 0 or angle > 1.0:
        return 0, 0.0
    towards = min(1.5, -v.imag if left > 0 else v.imag)
    theirs = towards + 0.125
    side = 0.125 + 0.046875 + 0.25 * (towards + theirs) + max(0.0, theirs) ** 2
    if beside > max(0.0, side):
        return 0, 0.0
    need = speed / 2 + 0.25 + (speed + 1) ** 2 / 8
    oncoming = v.real < -0.5
    if oncoming:
        need += -v.real / 2 + 0.25 + (1 - v.real) ** 2 / 8
    else:
        need = max(0.0, need - max(0.0, v.real) ** 2 / 16)
    deep = min(1.0, (need - max(0.0, gap)) / (0.2 * need + 0.2))
    if deep <= 0.0:
        return 0, 0.0
    return (3, 2.0 * deep) if beside > 0 else (2 if oncoming else 1, 4.0 * deep)


def broken_tracks_leave_numbers(m: Any) -> None:
    nan, inf = math.nan, math.inf
    rows = [
        (nan, 0, 0, 4, 2, 1, 0), (5, nan, 0, 4, 2, 1, 0), (inf, 0, 0, 4, 2, 1, 0),
        (5, -inf, 0, 4, 2, 1, 0), (5, 1, nan, nan, -inf, inf, nan), (6, 1, 0.5, 0, -3, 1, 2),
        (7, 1, 0, 1e9, inf, 0, 0),
    ]  # fmt: skip
    kept = m.road_users(scene_of(np.array(rows)))
    small, large = np.float64(0.2), 25.0
    assert kept.tolist() == [
        [5, 1, 0, small, small, 0, 0], [6, 1, 0.5, small, small, 1, 2],
        [7, 1, 0, large, small, 0, 0],
    ]  # fmt: skip
    whole = m.road_users(scene_of(np.array([(5, 1, 0, 0.0, 0.25, 1, 2)])))
    assert whole.tolist() == [[5, 1, 0, small, 0.25, 1, 2]]


def along_a_course_the_lane_is_the_plans(m: Any) -> None:
    """A quarter circle to the left ahead of a car that still goes straight."""
    a = np.arange(0.0, 1.5, 0.05)
    course = np.column_stack([16.0 * np.sin(a), 16.0 * (1.0 - np.cos(a)), a])
    envelope, command = m.Envelope(CONFIG), ask(1.0)
    straight_on, round_it = user(15.0, -1.5), user(12.0, 6.0, yaw=0.8)
    assert envelope.limit(command, scene_of(straight_on), ego(8.0)).limited_by
    assert envelope.limit(command, scene_of(straight_on), ego(8.0), course) is command
    assert envelope.limit(command, scene_of(round_it), ego(8.0)) is command
    out = envelope.limit(command, scene_of(round_it), ego(8.0), course)
    assert out.limited_by == ("rss_longitudinal",)
    straight = np.column_stack([np.arange(0.0, 40.0), np.zeros(40), np.zeros(40)])
    # pulled straight, the present bend counts no second time
    turns = envelope.limit(command, scene_of(user(12.0)), ego(8.0, 0.0625), straight)
    assert turns.limited_by[0] == "rss_longitudinal"
    beside = envelope.limit(command, scene_of(user(20.0, 2.125)), ego(40.0), straight)
    assert beside.limited_by[0] == "rss_lateral"
    beside = envelope.limit(command, scene_of(user(20.0, 2.125)), ego(40.0, 0.01), straight)
    assert beside.limited_by[0] == "rss_lateral"
