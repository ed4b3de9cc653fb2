"""Our safe distances are those of Intel's ad-rss library, over all speeds a car can have."""

import pytest
import rss_oracle
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vehicle.safety import rss_lateral, rss_opposite, rss_same_direction


def micro(low: float, high: float, *often: float) -> st.SearchStrategy[float]:
    """Return numbers to a millionth: the library refuses those that are next to nothing."""
    return st.floats(low, high).map(lambda v: round(v, 6)) | st.sampled_from([low, high, *often])


speeds = micro(0.0, 70.0, 0.5, 13.9)
sideways = micro(-10.0, 10.0, -0.2, 0.0, 0.2)
times = micro(1e-3, 3.0, 0.2, 1.0, 2.0)
pushes = micro(0.0, 10.0, 0.2, 3.5)
brakes = micro(0.05, 12.0, 0.8, 3.0, 4.0, 8.0)
margins = micro(0.0, 1.0, 0.1)
many = settings(max_examples=300, deadline=None)


def same(ours: float, theirs: float) -> bool:
    """Return whether two distances agree: to a billionth, or within the library's millimetre.

    It works to a millimetre (`Distance.cPrecisionValue`) and drops stretches that are shorter.
    """
    return ours == pytest.approx(theirs, rel=1e-9, abs=1e-3)


@many
@given(speeds, speeds, times, pushes, brakes, brakes)
@example(20.0, 15.0, 1.0, 3.5, 4.0, 8.0)
@example(0.0, 0.0, 1e-3, 0.0, 4.0, 8.0)
@example(10.0, 40.0, 0.2, 2.5, 5.0, 8.0)
def test_the_gap_behind_a_leader_is_the_librarys(
    rear: float, front: float, rho: float, accel: float, one: float, other: float
) -> None:
    values = (rear, front, rho, accel, min(one, other), max(one, other))
    assert same(rss_same_direction(*values), rss_oracle.same_direction(*values))


@many
@given(speeds, speeds, times, pushes, brakes, brakes)
@example(15.0, 10.0, 1.0, 3.5, 3.0, 4.0)
@example(0.0, 0.0, 1e-3, 0.0, 3.0, 4.0)
def test_the_gap_to_somebody_who_comes_towards_us_is_the_librarys(
    own: float, other: float, rho: float, accel: float, one: float, two: float
) -> None:
    values = (own, other, rho, accel, min(one, two), max(one, two))
    assert same(rss_opposite(*values), rss_oracle.opposite(*values))


@many
@given(sideways, sideways, times, times, pushes, brakes, margins)
@example(0.3, -0.2, 1.0, 1.0, 0.2, 0.8, 0.1)
@example(-0.2, 0.2, 1.0, 1.0, 0.2, 0.8, 0.1)
@example(-5.0, 5.0, 1.0, 2.0, 0.2, 0.8, 0.1)
def test_the_gap_beside_each_other_is_the_librarys(
    left: float, right: float, rho_left: float, rho_right: float, accel: float, brake: float,
    margin: float,
) -> None:  # fmt: skip
    values = (left, right, rho_left, rho_right, accel, brake, margin)
    assert same(rss_lateral(*values), rss_oracle.lateral(*values))


@many
@given(speeds, speeds, times, pushes, brakes, brakes, micro(0.0, 5.0))
def test_whoever_is_faster_needs_more_room(
    rear: float, front: float, rho: float, accel: float, one: float, other: float, more: float
) -> None:
    rest = (rho, accel, min(one, other), max(one, other))
    assert rss_same_direction(rear + more, front, *rest) >= rss_same_direction(rear, front, *rest)
    assert rss_same_direction(rear, front + more, *rest) <= rss_same_direction(rear, front, *rest)
    assert rss_opposite(rear, front + more, *rest) >= rss_opposite(rear, front, *rest)
