"""Overlaps of boxes: exact where geometry gives them, bounded everywhere."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehicle.overlap import overlaps


def box(
    x: float, y: float, z: float = 0.0, yaw: float = 0.0, length: float = 4.0, width: float = 2.0
) -> np.ndarray:
    return np.array([[x, y, z, yaw, length, width, 1.5]])


def test_a_box_fills_itself_also_turned_round() -> None:
    turned = box(3.0, 1.0, yaw=0.7)
    around = turned + np.array([0, 0, 0, math.pi, 0, 0, 0])
    for generalised in (False, True):
        assert overlaps(turned, turned, generalised)[0, 0] == pytest.approx(1.0)
        assert overlaps(turned, around, generalised)[0, 0] == pytest.approx(1.0)


def test_half_a_length_apart_shares_a_third() -> None:
    assert overlaps(box(0, 0), box(2, 0), False)[0, 0] == pytest.approx(1 / 3)


def test_a_cross_shares_its_middle() -> None:
    assert overlaps(box(0, 0), box(0, 0, yaw=math.pi / 2), False)[0, 0] == pytest.approx(4 / 12)


def test_one_above_the_other_shares_nothing() -> None:
    assert overlaps(box(0, 0), box(0, 0, z=1.5), False)[0, 0] == 0.0
    assert overlaps(box(0, 0), box(0, 0, z=1.5), True)[0, 0] == pytest.approx(0.0)


def test_generalised_overlap_of_boxes_apart_falls_with_distance() -> None:
    near, far = overlaps(box(0, 0), np.vstack([box(6, 0), box(20, 0)]), True)[0]
    assert near == pytest.approx(-0.2)  # 2 m of 10 m in line are neither's
    assert far == pytest.approx(-16 / 24)


def test_overlap_agrees_with_counting_points() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        a = np.array([[0, 0, 0, rng.uniform(-3, 3), 4.0, 2.0, 1.5]])
        b = np.array([[*rng.uniform(-2, 2, 2), 0, rng.uniform(-3, 3), 3.0, 1.5, 1.5]])
        points = rng.uniform(-5, 5, (200_000, 2))
        inside = []
        for x, y, _, yaw, length, width, _ in (a[0], b[0]):
            d = points - [x, y]
            ahead = d @ [math.cos(yaw), math.sin(yaw)]
            left = d @ [-math.sin(yaw), math.cos(yaw)]
            inside.append((abs(ahead) < length / 2) & (abs(left) < width / 2))
        counted = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
        assert overlaps(a, b, False)[0, 0] == pytest.approx(counted, abs=0.02)


@given(
    st.floats(-30, 30), st.floats(-30, 30), st.floats(-7, 7), st.floats(0.1, 12), st.floats(0.1, 4)
)
def test_overlaps_are_bounded_and_the_same_both_ways(
    x: float, y: float, yaw: float, length: float, width: float
) -> None:
    a, b = box(0, 0, yaw=0.3), box(x, y, 0.5, yaw, length, width)
    for generalised, least in ((False, 0.0), (True, -1.0)):
        there, back = overlaps(a, b, generalised)[0, 0], overlaps(b, a, generalised)[0, 0]
        assert least <= there <= 1.0 + 1e-9
        assert there == pytest.approx(back, abs=1e-9)
