"""Every rule of the EPDMS-style score on hand-built drives, boundary values included."""

import math

import numpy as np
import pytest
from trace_parts import StraightRoad, actor, drive, steady

from sim.score.epdms import (
    driving_direction,
    lane_keeping,
    no_collision,
    progress_score,
    ran_red_light,
    rules,
    total,
    ttc_violations,
)
from sim.score.faults import contacts
from sim.score.history import history_of
from sim.score.metrics import MissingReferenceError, reference_of, score
from sim.score.trace import Trace

PERFECT = dict.fromkeys(("NC", "DAC", "DDC", "TLC", "EP", "TTC", "LK", "HC", "EC"), 1.0)


def parts(trace: Trace) -> dict[str, float]:
    return rules(history_of(trace))


def test_clean_drive_scores_one_everywhere() -> None:
    result = score(drive(steady(8.0, 10.0)), reference_progress_m=80.0)
    known = {k: v for k, v in result.epdms.parts.items() if k != "EC"}
    assert set(known.values()) == {1.0}
    assert math.isnan(result.epdms.parts["EC"])
    assert result.epdms.total == 1.0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"EP": 0.0}, 11 / 16),
        ({"TTC": 0.0}, 11 / 16),
        ({"LK": 0.0}, 14 / 16),
        ({"HC": 0.0, "EC": 0.0}, 12 / 16),
        ({"NC": 0.5}, 0.5),
        ({"DDC": 0.5, "EP": 0.5}, 0.5 * 13.5 / 16),
        ({"TLC": 0.0}, 0.0),
        ({"EC": math.nan, "LK": 0.0}, 12 / 14),
    ],
)
def test_total_follows_the_weights(change: dict[str, float], expected: float) -> None:
    assert total(PERFECT | change) == pytest.approx(expected, abs=1e-12)


def test_running_into_a_standing_car_is_a_zero() -> None:
    trace = drive(steady(4.0, 10.0), actors=lambda i, t: [actor(x=30.0)])
    assert parts(trace)["NC"] == 0.0


def test_running_into_a_cone_is_a_half() -> None:
    cone = actor(x=30.0, length=0.4, width=0.4, static=True)
    assert parts(drive(steady(4.0, 10.0), actors=lambda i, t: [cone]))["NC"] == 0.5


def test_cone_and_then_car_is_a_zero() -> None:
    row = [actor(1, x=20.0, length=0.4, width=0.4, static=True), actor(2, x=34.0)]
    assert parts(drive(steady(4.0, 10.0), actors=lambda i, t: row))["NC"] == 0.0


def test_being_hit_is_no_fault_of_ours() -> None:
    trace = drive(steady(4.0, 5.0), actors=lambda i, t: [actor(x=-15 + 15 * t, speed=15.0)])
    found = contacts(history_of(trace))
    assert [c.type for c in found] == ["rear"]
    assert no_collision(found) == 1.0


@pytest.mark.parametrize(("y", "expected"), [(-1.0, 1.0), (-1.0 - 1e-3, 0.0), (9.0, 1.0)])
def test_one_corner_off_the_road_is_a_zero(y: float, expected: float) -> None:
    assert parts(drive(steady(2.0, 10.0), y))["DAC"] == expected


@pytest.mark.parametrize(
    ("metres", "expected"),
    [(1.99, 1.0), (2.0, 0.5), (5.99, 0.5), (6.0, 0.0)],
)
def test_wrong_way_metres_grade_at_two_and_six(metres: float, expected: float) -> None:
    x = np.concatenate([np.zeros(5), np.linspace(0, metres, 9)[1:], np.full(20, metres)])
    assert driving_direction(history_of(drive(x, y=8.0))) == expected


def test_wrong_way_metres_in_a_junction_do_not_count() -> None:
    road = StraightRoad(junction=(-10.0, 100.0))
    assert driving_direction(history_of(drive(steady(4.0, 10.0), y=8.0, road=road))) == 1.0


def test_slow_wrong_way_never_collects_two_metres_in_a_second() -> None:
    assert driving_direction(history_of(drive(steady(20.0, 1.8), y=8.0))) == 1.0


STOP_LINE = np.array([[[50.0, -2.0], [51.0, -2.0], [51.0, 2.0], [50.0, 2.0]]])


def test_touching_a_red_light_area_is_a_zero() -> None:
    short = drive(steady(4.7, 10.0), red=lambda i: STOP_LINE)  # ends with the bumper at 49
    over = drive(steady(4.8, 10.0), red=lambda i: STOP_LINE)  # ends with the bumper at 50
    assert parts(short)["TLC"] == 1.0
    assert parts(over)["TLC"] == 0.0


def test_light_that_turns_red_over_the_car_is_no_violation() -> None:
    x = steady(8.0, 10.0)
    trace = drive(x, red=lambda i: STOP_LINE if x[i] > 49.0 else [])
    assert not ran_red_light(history_of(trace)).any()


def test_green_light_stops_nobody() -> None:
    assert parts(drive(steady(8.0, 10.0), red=lambda i: []))["TLC"] == 1.0


def ahead(gap_m: float) -> Trace:
    """Return 2 s at 10 m/s, then 1 s of standing that the projection does not know of."""
    x = np.concatenate([steady(2.0, 10.0), np.full(10, 20.0)])
    speed = np.concatenate([np.full(21, 10.0), np.zeros(10)])
    return drive(x, speed=speed, actors=lambda i, t: [actor(x=20.0 + 4.0 + gap_m)])


@pytest.mark.parametrize(("gap_m", "fails"), [(9.0, True), (9.0 + 1e-3, False)])
def test_contact_at_exactly_nine_tenths_of_a_second_fails_ttc(gap_m: float, fails: bool) -> None:
    assert bool(ttc_violations(history_of(ahead(gap_m)))) is fails
    assert parts(ahead(gap_m))["TTC"] == float(not fails)


def test_ttc_compares_with_where_others_really_go() -> None:
    same = drive(steady(4.0, 10.0), actors=lambda i, t: [actor(x=9.0 + 10.0 * t, speed=0.0)])
    assert ttc_violations(history_of(same)) == []


def test_ttc_is_not_asked_of_a_standing_ego() -> None:
    x = np.zeros(40)
    hit = drive(x, speed=0.004, actors=lambda i, t: [actor(x=20.0 - 5.0 * t, speed=-5.0)])
    assert ttc_violations(history_of(hit)) == []


def beside(road: StraightRoad) -> Trace:
    """Return a car that comes out of a side road into the side of our slow ego."""
    return drive(
        steady(3.0, 1.0),
        road=road,
        actors=lambda i, t: [actor(x=t, y=max(10 - 3 * t, 2.9), yaw=-np.pi / 2, speed=3.0)],
    )


def test_ttc_counts_the_side_only_between_lanes_or_in_junctions() -> None:
    assert ttc_violations(history_of(beside(StraightRoad()))) == []
    assert ttc_violations(history_of(beside(StraightRoad(junction=(-20.0, 400.0)))))


@pytest.mark.parametrize(
    ("offset_m", "ticks", "expected"),
    [(0.5, 80, 1.0), (0.51, 19, 1.0), (0.51, 20, 0.0), (-0.51, 20, 0.0)],
)
def test_lane_keeping_at_half_a_metre_for_two_seconds(
    offset_m: float, ticks: int, expected: float
) -> None:
    y = np.zeros(101)
    y[10 : 10 + ticks] = offset_m
    assert lane_keeping(history_of(drive(steady(10.0, 10.0), y))) == expected


def test_lane_keeping_starts_over_when_back_in_lane() -> None:
    y = np.full(101, 0.6)
    y[::15] = 0.0
    assert lane_keeping(history_of(drive(steady(10.0, 10.0), y))) == 1.0


def test_junction_neither_counts_nor_breaks_the_row() -> None:
    y = np.zeros(101)
    y[10:20] = y[40:50] = 0.6  # ten ticks before x = 20, ten from x = 40 on
    bridged = StraightRoad(junction=(19.95, 39.95))
    assert lane_keeping(history_of(drive(steady(10.0, 10.0), y, road=bridged))) == 0.0
    assert lane_keeping(history_of(drive(steady(10.0, 10.0), y))) == 1.0


@pytest.mark.parametrize(
    ("made", "product", "reference", "expected"),
    [
        (50.0, 1.0, 100.0, 0.5),
        (120.0, 1.0, 100.0, 1.0),
        (50.0, 0.0, 100.0, 0.5),
        (50.0, 0.0, 0.0, 1.0),
        (2.0, 1.0, 5.0, 1.0),
        (2.0, 1.0, 5.001, 2.0 / 5.001),
        (60.0, 0.5, 40.0, 1.0),
    ],
)
def test_progress_against_a_reference(
    made: float, product: float, reference: float, expected: float
) -> None:
    assert progress_score(made, product, reference) == pytest.approx(expected)


def test_progress_without_any_reference_is_refused() -> None:
    with pytest.raises(MissingReferenceError, match="reference_of"):
        score(drive(steady(2.0, 10.0)))


def test_reference_that_crashed_sets_no_mark() -> None:
    crash = drive(steady(4.0, 10.0), actors=lambda i, t: [actor(x=30.0)])
    assert reference_of(crash) == 0.0
    assert reference_of(drive(steady(4.0, 10.0))) == pytest.approx(40.0)


def expert(y: float, n: int = 81, speed: float = 10.0) -> np.ndarray:
    t = np.arange(n) * 0.1
    return np.stack([t, speed * t, np.full(n, y), np.zeros(n), np.full(n, speed)], axis=1)


def test_what_the_human_failed_is_forgiven() -> None:
    off = drive(steady(8.0, 10.0), 0.7, expert=expert(0.7))
    strict = score(drive(steady(8.0, 10.0), 0.7, expert=expert(0.0)))
    assert strict.epdms.parts["LK"] == 0.0
    assert score(off).epdms.parts["LK"] == 1.0
    assert score(off).epdms.forgiven == ("LK",)
    assert score(drive(steady(8.0, 10.0), expert=expert(0.7))).epdms.forgiven == ()


def test_expert_is_the_reference_unless_one_is_given() -> None:
    slow = drive(steady(8.0, 5.0), expert=expert(0.0))
    assert score(slow).epdms.parts["EP"] == pytest.approx(0.5)
    assert score(slow, reference_progress_m=50.0).epdms.parts["EP"] == pytest.approx(0.8)
