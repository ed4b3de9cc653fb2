"""Whose fault a contact is: front, rear, side, standing ego, standing other."""

import numpy as np
import pytest
from trace_parts import StraightRoad, actor, drive, steady

from sim.score.faults import Contact, contacts
from sim.score.history import history_of
from sim.score.trace import Trace


def only(trace: Trace) -> Contact:
    (found,) = contacts(history_of(trace))
    return found


def test_front_bumper_into_a_moving_car_is_at_fault() -> None:
    found = only(drive(steady(4.0, 12.0), actors=lambda i, t: [actor(x=15 + 4 * t, speed=4.0)]))
    assert (found.type, found.at_fault) == ("front", True)
    assert found.delta_v_mps == pytest.approx(4.0)


def test_rear_end_on_the_ego_is_not() -> None:
    found = only(drive(steady(4.0, 4.0), actors=lambda i, t: [actor(x=-15 + 12 * t, speed=12.0)]))
    assert (found.type, found.at_fault) == ("rear", False)


@pytest.mark.parametrize(("speed", "kind"), [(0.05, "stopped_ego"), (0.051, "front")])
def test_hit_at_standstill_is_not(speed: float, kind: str) -> None:
    trace = drive(
        np.zeros(31),
        speed=speed,
        actors=lambda i, t: [actor(x=12 - 4 * t, yaw=np.pi, speed=4.0)],
    )
    assert only(trace).type == kind
    assert only(trace).at_fault is (kind == "front")


@pytest.mark.parametrize(("speed", "kind"), [(0.005, "stopped_track"), (0.006, "front")])
def test_standing_others_are_always_our_fault(speed: float, kind: str) -> None:
    found = only(drive(steady(4.0, 10.0), actors=lambda i, t: [actor(x=20.0, speed=speed)]))
    assert (found.type, found.at_fault) == (kind, True)


def from_the_side(y: float, road: StraightRoad | None = None) -> Trace:
    return drive(
        steady(3.0, 10.0),
        y,
        road=road,
        actors=lambda i, t: [actor(x=10.0 * t - 1.0, y=y + 5.0 - 2.0 * t, speed=10.0)],
    )


@pytest.mark.parametrize(("y", "fault"), [(0.0, False), (0.99, False), (1.1, True), (2.0, True)])
def test_side_contact_is_our_fault_only_between_lanes(y: float, fault: bool) -> None:
    found = only(from_the_side(y))
    assert (found.type, found.at_fault) == ("lateral", fault)


def test_side_contact_off_the_road_is_our_fault() -> None:
    assert only(from_the_side(-1.2)).at_fault


def test_whoever_overlaps_at_the_start_is_left_out() -> None:
    trace = drive(steady(3.0, 5.0), actors=lambda i, t: [actor(x=3.0 + 4.0 * t, speed=4.0)])
    assert contacts(history_of(trace)) == ()


def test_one_actor_is_one_contact_however_often_it_touches() -> None:
    trace = drive(
        steady(4.0, 10.0),
        actors=lambda i, t: [actor(x=10 * t + (3.0 if i % 5 == 4 else 9.0), speed=10.0)],
    )
    assert len(contacts(history_of(trace))) == 1


def test_actors_that_come_and_go_keep_their_rows() -> None:
    def crowd(i: int, t: float) -> list[np.void]:
        rows = [actor(7, x=20.0)] if i >= 10 else []
        return [*rows, actor(3, x=-30.0)] if i % 2 else rows

    assert [c.actor_id for c in contacts(history_of(drive(steady(4.0, 10.0), actors=crowd)))] == [7]


def test_people_are_named_vulnerable() -> None:
    found = only(
        drive(
            steady(4.0, 10.0),
            actors=lambda i, t: [actor(x=20.0, length=0.5, width=0.5, kind=1, speed=1.0)],
        )
    )
    assert found.kind == "pedestrian"
    assert found.vulnerable
