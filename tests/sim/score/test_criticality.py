"""Margins on hand-built drives whose values are known in closed form."""

from types import SimpleNamespace

import numpy as np
import pytest
from trace_parts import StraightRoad, actor, drive, steady

from sim.score.criticality import criticality, leader, mrm_count
from sim.score.history import history_of
from sim.score.trace import Trace


def measured(trace: Trace):  # type: ignore[no-untyped-def]
    return criticality(history_of(trace))


def test_empty_road_has_no_margins() -> None:
    m = measured(drive(steady(4.0, 10.0)))
    assert m.min_ttc_s == m.min_ttc_straight_s == m.min_thw_s == np.inf
    assert m.min_distance_m == m.min_pet_s == np.inf
    assert m.max_drac_mps2 == m.tet_s == m.tit_s2 == m.delta_v_mps == 0.0


def following(gap_m: float, ego: float, other: float, seconds: float = 1.0) -> Trace:
    return drive(
        steady(seconds, ego),
        speed=ego,
        actors=lambda i, t: [actor(x=gap_m + 4.0 + other * t, speed=other)],
    )


def test_following_by_closed_form() -> None:
    m = measured(following(20.0, 10.0, 6.0))  # the gap shrinks from 20 to 16 m
    assert m.min_ttc_s == pytest.approx(4.0)
    assert m.min_ttc_straight_s == pytest.approx(4.0, abs=1e-6)
    assert m.min_thw_s == pytest.approx(1.6)
    assert m.max_drac_mps2 == pytest.approx(16.0 / 32.0)
    assert m.min_distance_m == pytest.approx(16.0)
    assert m.min_pet_s == np.inf


def test_faster_leader_is_no_threat() -> None:
    m = measured(following(5.0, 10.0, 12.0))
    assert m.min_ttc_s == np.inf
    assert m.max_drac_mps2 == 0.0
    assert m.min_thw_s == pytest.approx(0.5)


def test_time_exposed_and_integrated() -> None:
    m = measured(following(20.0, 10.0, 0.0))  # TTC 2.0 down to 1.0 in steps of 0.1
    assert m.tet_s == pytest.approx(0.5)
    assert m.tit_s2 == pytest.approx(0.1 * (0.1 + 0.2 + 0.3 + 0.4 + 0.5))
    assert m.drac_conflict_s == pytest.approx(0.5)  # 100 / (2 gap) over 3.35: gap under 14.93 m


def test_neighbour_lane_is_not_ahead() -> None:
    trace = drive(steady(2.0, 10.0), actors=lambda i, t: [actor(x=30.0, y=4.0)])
    assert (leader(history_of(trace)).actor_id == -1).all()
    assert measured(trace).min_ttc_straight_s == np.inf


@pytest.mark.parametrize(("y", "ahead"), [(1.99, True), (2.01, False)])
def test_corridor_is_as_wide_as_the_bodies(y: float, ahead: bool) -> None:
    trace = drive(steady(1.0, 10.0), actors=lambda i, t: [actor(x=30.0, y=y)])
    assert (leader(history_of(trace)).actor_id[0] == 1) is np.bool_(ahead)


def test_corridor_moves_with_the_ego() -> None:
    trace = drive(steady(1.0, 10.0), 4.0, actors=lambda i, t: [actor(x=30.0, y=4.0)])
    assert leader(history_of(trace)).gap_m[0] == pytest.approx(26.0)


def test_nearest_of_several_leads() -> None:
    row = [actor(1, x=60.0), actor(2, x=30.0), actor(3, x=-30.0)]
    assert (
        leader(history_of(drive(steady(1.0, 10.0), actors=lambda i, t: row))).actor_id == 2
    ).all()


def crossing(delay_s: float) -> Trace:
    """Return a car along y that reaches the ego's lane `delay_s` after the ego's own middle."""
    return drive(
        steady(6.0, 10.0),
        actors=lambda i, t: [
            actor(x=30.0, y=10.0 * (3.0 + delay_s - t), yaw=-np.pi / 2, speed=10.0)
        ],
        road=StraightRoad(junction=(20.0, 40.0)),
    )


def test_post_encroachment_is_leaving_to_entering() -> None:
    # ego leaves x = 31 (its rear end) at 3.3 s; the other's bumper is at y = 1 at delay + 2.7 s
    assert measured(crossing(2.0)).min_pet_s == pytest.approx(2.0 - 0.6, abs=0.11)
    assert measured(crossing(0.0)).min_pet_s == 0.0
    assert measured(crossing(9.0)).min_pet_s == np.inf


def test_contact_has_its_speed_change() -> None:
    m = measured(drive(steady(4.0, 10.0), actors=lambda i, t: [actor(x=30.0)]))
    assert (m.contacts, m.at_fault) == (1, 1)
    assert m.delta_v_mps == pytest.approx(5.0)
    assert m.min_distance_m == 0.0
    assert m.min_ttc_s == 0.0
    assert m.max_drac_mps2 == 20.0


def test_hardest_brake_is_positive() -> None:
    assert measured(drive(steady(1.0, 5.0), accel=-6.5)).hardest_brake_mps2 == 6.5
    assert measured(drive(steady(1.0, 5.0), accel=1.0)).hardest_brake_mps2 == 0.0


def test_manoeuvres_of_minimal_risk_are_counted_by_their_beginning() -> None:
    rungs = ["mrm", "mrm", "full", "hold_plan", "mrm", "full"]
    assert mrm_count(tuple(SimpleNamespace(rung=r) for r in rungs)) == 2  # type: ignore[misc]
    assert mrm_count(()) == 0
