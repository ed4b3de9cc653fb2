import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehicle.contracts.plan import Plan, Trajectory
from vehicle.contracts.scene import BEV, TRACK, Occupancy, Scene
from vehicle.disagreement import box_distance, disagreement, drivable_distance, plan_distance

PLACES = st.lists(
    st.tuples(st.floats(-35, 35, width=32), st.floats(-15, 15, width=32), st.integers(0, 2)),
    max_size=6,
)


def tracks(*places: tuple[float, float, int]) -> np.ndarray:
    table = np.zeros(len(places), TRACK)
    for row, (x_m, y_m, kind) in zip(table, places, strict=True):
        row["x_m"], row["y_m"], row["kind"] = x_m, y_m, kind
    return table


def road(level: int) -> Occupancy:
    full = np.full((BEV.nx, BEV.ny), level, np.uint8)
    return Occupancy(grid=BEV, drivable=full, lane=full, occupied=full)


def scene(users: np.ndarray, *, fresh: bool = True, level: int = 255) -> Scene:
    return Scene(
        frame_id=1,
        mono_ns=0,
        tracks=users,
        occupancy=road(level),
        embedding=np.zeros(0, np.float32),
        uncertainty_ratio=0.1,
        fresh=fresh,
    )


def plan(speed_mps: float, left_m: float = 0.0) -> Plan:
    states = np.zeros((41, 7))
    states[:, 0] = np.arange(41) * 0.1
    states[:, 1], states[:, 2] = speed_mps * states[:, 0], left_m
    return Plan(
        frame_id=1,
        mono_ns=0,
        trajectory=Trajectory(states=states),
        rung="full",
        proposal="p",
        scores={},
    )


@given(PLACES, PLACES)
def test_boxes_disagree_by_a_share_the_same_from_both_sides_and_never_with_themselves(a, b):
    ours, theirs = tracks(*a), tracks(*b)
    found = box_distance(ours, theirs)
    assert 0.0 <= found <= 1.0
    assert found == pytest.approx(box_distance(theirs, ours))
    assert box_distance(ours, ours) == pytest.approx(0.0)


def test_boxes_disagree_by_distance_and_by_who_is_missing():
    one = tracks((10, 0, 0))
    assert box_distance(one, tracks((11, 0, 0))) == pytest.approx(0.5)  # 1 m of 2 m
    assert box_distance(one, tracks((10, 0, 1))) == 1.0  # another kind at the same place
    assert box_distance(one, tracks((10, 0, 0), (20, 5, 1))) == pytest.approx(1 / 3)
    assert box_distance(one, tracks((10, 0, 0), (60, 0, 0))) == 0.0  # too far to tell
    assert box_distance(tracks(), tracks()) == 0.0


def test_track_that_nobody_has_seen_for_a_while_is_not_compared():
    guess = tracks((10, 0, 0))
    guess["coasted_ticks"] = 5
    assert box_distance(guess, tracks()) == 0.0


def test_drivable_space_disagrees_by_one_minus_the_iou():
    assert drivable_distance(road(200), road(200)) == 0.0
    assert drivable_distance(road(50), road(200)) == pytest.approx(0.75)
    assert drivable_distance(road(0), road(0)) == 0.0
    assert drivable_distance(None, road(0)) is None


def test_plans_disagree_by_how_far_they_lie_apart():
    assert plan_distance(plan(8.0), plan(8.0)) == 0.0
    assert plan_distance(plan(8.0), plan(8.0, left_m=1.0)) == pytest.approx(0.5)
    assert plan_distance(plan(8.0), plan(0.0)) == 1.0


def test_score_is_the_mean_of_what_can_be_compared():
    users = tracks((10, 0, 0))
    found = disagreement(scene(users), scene(tracks(), level=255), plan(8.0), plan(8.0))
    assert (found.boxes, found.drivable, found.plan) == (1.0, 0.0, 0.0)
    assert found.score == pytest.approx(1 / 3)
    stale = disagreement(scene(users, fresh=False), scene(users), plan(8.0), plan(0.0))
    assert math.isnan(stale.score)
