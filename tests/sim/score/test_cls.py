"""Every rule of the CLS-style score on hand-built drives, boundary values included."""

import numpy as np
import pytest
from trace_parts import StraightRoad, actor, drive, steady

from sim.score.cls import (
    cls,
    driving_direction,
    far_off_road,
    no_at_fault,
    progress_ratio,
    speed_limit,
)
from sim.score.faults import contacts
from sim.score.history import history_of
from sim.score.trace import Trace


def parts(trace: Trace, reference_m: float = 0.0) -> dict[str, float]:
    return cls(history_of(trace), reference_progress_m=reference_m).parts


def test_clean_drive_scores_one() -> None:
    result = cls(history_of(drive(steady(8.0, 10.0))), reference_progress_m=80.0)
    assert result.total == 1.0
    assert result.min_ttc_s == np.inf


def test_total_follows_the_weights() -> None:
    h = history_of(drive(steady(8.0, 10.0)))
    assert cls(h, reference_progress_m=160.0).total == pytest.approx((2.5 + 5 + 4 + 2) / 16)


def cones(count: int) -> Trace:
    rows = [actor(i + 1, x=20.0 + 6 * i, length=0.4, width=0.4, static=True) for i in range(count)]
    return drive(steady(6.0, 10.0), actors=lambda i, t: rows)


@pytest.mark.parametrize(("count", "expected"), [(0, 1.0), (1, 0.5), (2, 0.0)])
def test_one_thing_is_allowed_at_half(count: int, expected: float) -> None:
    assert no_at_fault(contacts(history_of(cones(count)))) == expected


def test_road_user_is_a_zero() -> None:
    trace = drive(steady(4.0, 10.0), actors=lambda i, t: [actor(x=30.0)])
    assert cls(history_of(trace), reference_progress_m=40.0).total == 0.0


@pytest.mark.parametrize(("over_m", "far"), [(0.0, False), (0.28, False), (0.301, True)])
def test_corner_may_leave_the_road_by_three_tenths(over_m: float, far: bool) -> None:
    assert far_off_road(history_of(drive(steady(2.0, 10.0), -1.0 - over_m))).any() == far


@pytest.mark.parametrize(("metres", "expected"), [(1.99, 1.0), (2.0, 0.5), (5.99, 0.5), (6.0, 0.0)])
def test_metres_against_the_flow(metres: float, expected: float) -> None:
    x = np.concatenate([np.zeros(5), np.linspace(0, metres, 9)[1:], np.full(20, metres)])
    assert driving_direction(history_of(drive(x, y=8.0))) == expected


def test_with_the_flow_is_fine_in_any_lane() -> None:
    back = drive(-steady(4.0, 10.0), y=8.0, yaw=np.pi, speed=10.0)
    assert driving_direction(history_of(back)) == 1.0


def closing(gap_m: float, **more: object) -> Trace:
    """Return one moving snapshot with `gap_m` to a standing car, then standing still."""
    x = np.zeros(12)
    speed = np.array([10.0] + [0.0] * 11)
    return drive(x, speed=speed, actors=lambda i, t: [actor(x=4.0 + gap_m, **more)])


@pytest.mark.parametrize(("gap_m", "expected"), [(9.0, 0.0), (9.01, 1.0), (9.5, 1.0), (20.0, 1.0)])
def test_ttc_must_exceed_ninety_five_hundredths(gap_m: float, expected: float) -> None:
    assert parts(closing(gap_m))["ttc"] == expected


@pytest.mark.parametrize(
    ("gap_m", "seconds"), [(9.0, 0.9), (9.01, 1.0), (28.9, 2.9), (29.1, np.inf)]
)
def test_ttc_is_read_in_tenths_up_to_three_seconds(gap_m: float, seconds: float) -> None:
    found = cls(history_of(closing(gap_m)), reference_progress_m=0.0)
    assert found.min_ttc_s == pytest.approx(seconds)


def test_ttc_of_who_was_hit_already_is_not_asked_again() -> None:
    trace = drive(steady(4.0, 5.0), actors=lambda i, t: [actor(x=-15 + 15 * t, speed=15.0)])
    assert parts(trace)["ttc"] == 1.0


def test_side_traffic_counts_in_junctions_only() -> None:
    def crossing(road: StraightRoad) -> Trace:
        side = [actor(x=2.0, y=6.0, yaw=-np.pi / 2, speed=6.0)]
        return drive(
            np.zeros(12), speed=np.array([1.0] + [0.0] * 11), road=road, actors=lambda i, t: side
        )

    assert parts(crossing(StraightRoad()))["ttc"] == 1.0
    assert parts(crossing(StraightRoad(junction=(-20.0, 20.0))))["ttc"] == 0.0


@pytest.mark.parametrize(
    ("over_mps", "expected"), [(0.0, 1.0), (1.115, 0.5), (2.23, 0.0), (5.0, 0.0)]
)
def test_overspeed_costs_by_time_and_amount(over_mps: float, expected: float) -> None:
    road = StraightRoad(limit_mps=10.0, length_m=2000.0)
    h = history_of(drive(steady(100.0, 10.0 + over_mps), road=road))
    assert speed_limit(h) == pytest.approx(expected, abs=0.002)


def test_road_without_a_limit_has_no_overspeed() -> None:
    assert (
        speed_limit(history_of(drive(steady(8.0, 50.0), road=StraightRoad(limit_mps=np.inf))))
        == 1.0
    )


@pytest.mark.parametrize(
    ("made", "reference", "expected"),
    [(40.0, 80.0, 0.5), (90.0, 80.0, 1.0), (0.0, 2.0, 1.0), (0.0, 4.0, 0.5), (-2.1, 80.0, 0.0)],
)
def test_progress_ratio(made: float, reference: float, expected: float) -> None:
    assert progress_ratio(made, reference) == pytest.approx(expected)


@pytest.mark.parametrize(("reference_m", "expected"), [(400.0, 1.0), (401.0, 0.0)])
def test_a_fifth_of_the_reference_is_making_progress(reference_m: float, expected: float) -> None:
    assert parts(drive(steady(8.0, 10.0)), reference_m)["making_progress"] == expected
