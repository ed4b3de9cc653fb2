"""The margin is negative exactly where the envelope's rule asks for a brake."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_parts import ask, ego, scene_of, user

from vehicle.config import VehicleConfig
from vehicle.rss_margin import RssMargin
from vehicle.safety import Envelope, road_users

AHEAD = np.column_stack([np.arange(0.0, 80.0, 0.5), np.zeros(160), np.zeros(160)])
CONFIG = VehicleConfig()
ENVELOPE, MARGIN = Envelope(CONFIG), RssMargin(CONFIG)


@given(
    x=st.floats(-10.0, 60.0), y=st.floats(-4.0, 4.0), v=st.floats(-12.0, 15.0),
    across=st.floats(-2.0, 2.0), speed=st.floats(0.5, 20.0),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_a_margin_below_zero_is_what_the_rule_brakes_for(
    x: float, y: float, v: float, across: float, speed: float
) -> None:
    scene = scene_of(user(x, y, vx=v, vy=across))
    margin = MARGIN.of(road_users(scene), speed, AHEAD)
    limited = ENVELOPE.limit(ask(0.0), scene, ego(speed), AHEAD).limited_by
    asked = any(rule.startswith("rss") for rule in limited)
    if math.isnan(margin) or abs(margin) > 0.02:
        assert asked == (margin < 0.0)


def test_nobody_leaves_the_margin_unknown() -> None:
    assert math.isnan(MARGIN.of(road_users(None), 10.0, AHEAD))
    assert math.isnan(MARGIN.of(road_users(scene_of(user(-20.0, vx=5.0))), 10.0, AHEAD))
