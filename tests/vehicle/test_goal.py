"""Arriving: where and when a goal asks, as the wheels can, past who is known to come."""

import math

import numpy as np
import pytest

from vehicle import arrive
from vehicle.arrive import POLY, PULL, TIME, WAIT, WAY
from vehicle.config import VehicleConfig
from vehicle.contracts.ego import EgoState
from vehicle.contracts.goal import Goal
from vehicle.goal import STEPS_FAR, Around, Arrival, Arriver, arrival_times
from vehicle.proposals import boxes_touch
from vehicle.spiral import SPIRAL, bend, end_pose, heading, solve

CONFIG = VehicleConfig(max_accel_mps2=5.0)
MIDDLE = CONFIG.length_m / 2 - CONFIG.rear_overhang_m
STRAIGHT = np.column_stack([np.arange(-5.0, 100.0), np.zeros(105)])
NOBODY = Around(
    users=np.zeros((0, 2)),
    futures=np.zeros((0, STEPS_FAR, 3)),
    grid=np.zeros((0, 0), np.uint8),
    corner=np.zeros(3),
)


def box(x: float, y: float, length: float, width: float) -> np.ndarray:
    half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [length / 2, width / 2]
    return half + np.array([x, y])


def moving(*rows: tuple[float, float, float, float, float]) -> Around:
    """Return cars of 4.5 x 1.8 m that begin at x, y and go on at vx, vy, facing yaw."""
    t = 0.1 * np.arange(STEPS_FAR)
    futures = np.zeros((len(rows), STEPS_FAR, 3))
    for n, (x, y, vx, vy, yaw) in enumerate(rows):
        futures[n, :, 0], futures[n, :, 1], futures[n, :, 2] = x + vx * t, y + vy * t, yaw
    return Around(
        users=np.tile([4.5, 1.8], (len(rows), 1)),
        futures=futures,
        grid=NOBODY.grid,
        corner=NOBODY.corner,
    )


def ego(speed: float, t: float = 0.0, **more: float) -> EgoState:
    pose = {"x_m": 0.0, "y_m": 0.0, "yaw_rad": 0.0, **more}
    return EgoState(mono_ns=round(t * 1e9), speed_mps=speed, **pose)


def middle(state: np.ndarray) -> np.ndarray:
    return state[1:3] + MIDDLE * np.array([math.cos(state[3]), math.sin(state[3])])


def reached(goal: Goal, way: Arrival) -> bool:
    """Return whether the state it arrives with is in the goal."""
    last, ends = way.states[round(way.time_s * 10)], np.array([4])
    ok = goal.from_s - 1e-6 <= last[0] <= goal.to_s + 1e-6
    if goal.regions_m:
        ok &= any(arrive.within(r, ends, *middle(last)) for r in goal.regions_m)
    for span, value in ((goal.speed_mps, last[4]), (goal.yaw_rad, last[3])):
        ok &= span is None or span[0] <= value <= span[1]
    return bool(ok)


def touches(way: Arrival, around: Around, since: int = 0) -> bool:
    states = way.states[since : round(way.time_s * 10) + 1]
    for n, (length, width) in enumerate(around.users):
        for state, (x, y, yaw) in zip(states, around.futures[n], strict=False):
            c, s = math.cos(state[3]), math.sin(state[3])
            if boxes_touch(
                *middle(state), c, s, CONFIG.length_m / 2, CONFIG.width_m / 2,
                x, y, math.cos(yaw), math.sin(yaw), length / 2, width / 2,
            ):  # fmt: skip
                return True
    return False


def steering_radps(states: np.ndarray) -> float:
    wheel = np.arctan(CONFIG.wheelbase_m * states[:, 6])
    return float(np.abs(np.diff(wheel) / np.diff(states[:, 0])).max())


def found(goal: Goal, speed: float, around: Around = NOBODY, **more: float) -> Arrival | None:
    arriver = Arriver(CONFIG)
    for _ in range(3):  # it tries another way in each tick
        if (way := arriver.find(goal, ego(speed, **more), STRAIGHT, around)) is not None:
            return way
    return None


@pytest.mark.parametrize("then", [0.0, 0.05, math.nan])
@pytest.mark.parametrize("pose", [(12.0, 1.0, 0.1), (6.0, -2.0, -0.9), (9.0, 9.0, math.pi / 2)])
def test_spiral_ends_in_its_pose(pose: tuple[float, float, float], then: float) -> None:
    spiral = np.zeros(SPIRAL)
    assert solve(spiral, *pose, 0.02, then)
    assert end_pose(spiral) == pytest.approx(pose, abs=0.005)
    assert bend(spiral, 0.0) == pytest.approx(0.02)
    assert heading(spiral, 1.0) == pytest.approx(pose[2])
    if not math.isnan(then):
        assert bend(spiral, 1.0) == pytest.approx(then)


def test_time_law_begins_and_ends_as_asked() -> None:
    way = np.zeros(WAY)
    way[0] = 25.0
    arrive.time_law(way, 6.0, 0.5, 8.0, 3.0, 0.0, 0.0, 1.5)
    assert arrive.at(way, 0.0) == pytest.approx((0.0, 6.0, 0.5))
    assert arrive.at(way, 3.0) == pytest.approx((25.0, 8.0, 0.0), abs=1e-9)
    assert arrive.at(way, 4.0) == pytest.approx((33.0, 8.0, 0.0))
    plain = np.zeros(WAY)
    plain[0] = 25.0
    arrive.time_law(plain, 6.0, 0.5, 8.0, 3.0, 0.0, 0.0, 0.0)
    assert arrive.at(way, 1.5)[0] - arrive.at(plain, 1.5)[0] == pytest.approx(1.5)


def test_time_law_waits_first() -> None:
    way = np.zeros(WAY)
    way[0] = 20.0
    arrive.time_law(way, 4.0, 0.0, 6.0, 6.0, 2.0, 0.0, 0.0)
    assert way[PULL] == -2.5
    assert way[WAIT] == 2.0
    assert arrive.at(way, 1.9) == pytest.approx((3.2, 0.0, 0.0))
    assert arrive.at(way, way[TIME])[:2] == pytest.approx((20.0, 6.0))
    assert way[POLY] == 3.2


@pytest.mark.parametrize(
    ("goal", "speed"),
    [
        (Goal(regions_m=(box(30.0, 3.5, 20.0, 3.0),), from_s=2.7, to_s=2.7), 10.0),
        (Goal(regions_m=(box(60.0, -3.5, 120.0, 3.0),), from_s=3.0, to_s=3.1), 15.0),
        (
            Goal(
                regions_m=(box(20.0, 0.5, 3.0, 2.0),),
                from_s=3.0,
                to_s=3.4,
                speed_mps=(2.0, 8.0),
                yaw_rad=(-0.09, 0.09),
            ),
            8.0,
        ),
        (
            Goal(
                regions_m=(box(9.0, 8.0, 2.5, 3.0),),
                from_s=3.5,
                to_s=4.0,
                speed_mps=(1.0, 6.0),
                yaw_rad=(1.3, 1.5),
            ),
            4.0,
        ),
        (Goal(from_s=2.0, to_s=2.0, speed_mps=(9.0, 12.0)), 6.0),
        (Goal(from_s=1.5, to_s=1.5), 5.0),
    ],
    ids=["lane left", "long lane right", "place and heading", "turn", "speed alone", "time alone"],
)
def test_it_arrives_where_when_and_as_asked(goal: Goal, speed: float) -> None:
    way = found(goal, speed)
    assert way is not None
    assert way.margin == 0
    assert reached(goal, way)
    assert steering_radps(way.states) < 0.4


def test_where_time_is_short_it_does_what_the_wheels_can() -> None:
    lane = Goal(
        regions_m=(box(40.0, 3.2, 120.0, 4.4),),
        from_s=0.9,
        to_s=1.0,
        speed_mps=(11.9, 17.9),
        yaw_rad=(-0.08, 0.094),
    )
    way = found(lane, 13.7)
    assert way is not None
    assert reached(lane, way)
    assert steering_radps(way.states) < 0.4


@pytest.mark.parametrize(
    "goal",
    [
        Goal(regions_m=(box(60.0, 0.0, 4.0, 2.0),), from_s=1.0, to_s=1.2),
        Goal(regions_m=(box(3.0, 0.0, 2.0, 1.5),), from_s=1.0, to_s=1.5, yaw_rad=(0.8, 0.95)),
        Goal(from_s=-2.0, to_s=-1.0),
        Goal(from_s=40.0, to_s=50.0),
    ],
    ids=["too far", "too sharp", "past", "not yet"],
)
def test_what_cannot_be_reached_is_not_promised(goal: Goal) -> None:
    assert found(goal, 2.0) is None


def test_it_changes_lane_into_the_gap_and_not_into_the_car_there() -> None:
    goal = Goal(regions_m=(box(50.0, 3.5, 100.0, 3.0),), from_s=3.0, to_s=3.0)
    beside = moving((2.0, 3.5, 10.0, 0.0, 0.0))
    assert touches(found(goal, 10.0), beside)  # type: ignore[arg-type]
    way = found(goal, 10.0, beside)
    assert way is not None
    assert reached(goal, way)
    assert not touches(way, beside)


def test_it_waits_for_who_crosses() -> None:
    goal = Goal(regions_m=(box(18.0, 0.0, 6.0, 3.0),), from_s=6.0, to_s=6.5, speed_mps=(3.0, 9.0))
    crossing = moving((9.0, -18.0, 0.0, 6.0, math.pi / 2), (9.0, -8.0, 0.0, 6.0, math.pi / 2))
    way = found(goal, 4.0, crossing)
    assert way is not None
    assert reached(goal, way)
    assert not touches(way, crossing)


def test_it_stays_on_the_road() -> None:
    grid = np.zeros((500, 250), np.uint8)
    grid[:, 116:133] = 255  # 3.4 m either side of nothing: y from -1.8 to 1.6
    road = Around(
        users=NOBODY.users, futures=NOBODY.futures, grid=grid, corner=np.array([-10.0, -25.0, 0.2])
    )
    off = Goal(regions_m=(box(25.0, 4.0, 30.0, 2.0),), from_s=3.0, to_s=3.0)
    on = Goal(regions_m=(box(25.0, 0.0, 30.0, 3.0),), from_s=3.0, to_s=3.0)
    assert found(off, 8.0, road) is None
    way = found(on, 8.0, road)
    assert way is not None
    assert np.abs(way.states[:31, 2] + 0.1).max() < 0.8


def test_it_keeps_to_the_way_it_found() -> None:
    goal = Goal(
        regions_m=(box(20.0, 2.0, 3.0, 2.0),), from_s=3.0, to_s=3.4, speed_mps=(2.0, 9.0),
        yaw_rad=(-0.1, 0.1),
    )  # fmt: skip
    arriver = Arriver(CONFIG)
    first = arriver.find(goal, ego(7.0), STRAIGHT, NOBODY)
    assert first is not None
    assert not first.kept
    s = first.states[5]
    there = ego(s[4], 0.5, x_m=s[1], y_m=s[2], yaw_rad=s[3], accel_mps2=s[5], curvature_1pm=s[6])
    # the goal, seen from there, is not asked for: the way found first still leads to it
    later = Goal(from_s=goal.from_s - 0.5, to_s=goal.to_s - 0.5)
    second = arriver.find(later, there, STRAIGHT, NOBODY)
    assert second is not None
    assert second.kept
    assert second.time_s == pytest.approx(first.time_s - 0.5)
    left = round(second.time_s * 10) + 1
    assert second.states[:left, 4] == pytest.approx(first.states[5 : 5 + left, 4], abs=1e-4)
    assert second.states[:left, 6] == pytest.approx(first.states[5 : 5 + left, 6], abs=1e-3)


def test_who_steps_into_the_way_makes_it_look_again() -> None:
    goal = Goal(regions_m=(box(26.0, 0.0, 16.0, 3.0),), from_s=4.0, to_s=4.0)
    arriver = Arriver(CONFIG)
    first = arriver.find(goal, ego(7.0), STRAIGHT, NOBODY)
    assert first is not None
    s = first.states[1]
    there = ego(s[4], 0.1, x_m=s[1], y_m=s[2], yaw_rad=s[3], accel_mps2=s[5], curvature_1pm=s[6])
    later = Goal(regions_m=(box(26.0 - s[1], 0.0, 16.0, 3.0),), from_s=3.9, to_s=3.9)
    crossing = moving((15.0, -9.0, 0.0, 5.0, math.pi / 2))
    assert touches(first, crossing, 1)
    second = arriver.find(later, there, STRAIGHT, crossing)
    assert second is not None
    assert not second.kept
    assert not touches(second, crossing)


def test_times_lie_on_steps_inside_the_window() -> None:
    assert arrival_times(Goal(from_s=1.0, to_s=1.0)) == pytest.approx([1.0])
    assert arrival_times(Goal(from_s=0.97, to_s=1.12)) == pytest.approx([1.0, 1.1])
    assert arrival_times(Goal(from_s=-5.0, to_s=0.25)) == pytest.approx([0.1, 0.2])
    assert len(arrival_times(Goal(from_s=0.0, to_s=100.0))) == 4


def test_two_searches_give_the_same_bytes() -> None:
    goal = Goal(regions_m=(box(50.0, 3.5, 100.0, 3.0),), from_s=3.0, to_s=3.0)
    beside = moving((2.0, 3.5, 10.0, 0.0, 0.0))
    one, two = found(goal, 10.0, beside), found(goal, 10.0, beside)
    assert one is not None
    assert two is not None
    assert one.states.tobytes() == two.states.tobytes()
