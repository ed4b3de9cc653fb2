"""The RSS distances of Intel's ad-rss library, to compare ours with; a test oracle only."""

import warnings
from typing import Any

import pytest

with warnings.catch_warnings():  # its two bindings register one vector type twice
    warnings.simplefilter("ignore", RuntimeWarning)
    ad_rss = pytest.importorskip(
        "ad_rss", reason="ad-rss is not installed (no wheel for this Python or machine)"
    )
    ad_physics = pytest.importorskip("ad_physics", reason="ad-physics is not installed")

_PHYSICS = ad_physics.physics
_STRUCTURED = ad_rss.rss.structured


def _state(
    *,
    rho_s: float,
    along_mps: float = 0.0,
    across_mps: float = 0.0,
    accel: float = 0.0,
    brake_min: float = 4.0,
    brake_max: float = 8.0,
    brake_correct: float = 3.0,
    side_accel: float = 0.0,
    side_brake: float = 1.0,
    margin_m: float = 0.0,
) -> Any:
    """Return a road user as the library has them: braking positive, as everywhere here."""
    speed, change = _PHYSICS.Speed, _PHYSICS.Acceleration
    state = ad_rss.rss.core.RelativeObjectState()
    v, d = state.structured_object_state.velocity, state.dynamics
    v.speed_lon_min = v.speed_lon_max = speed(along_mps)
    v.speed_lat_min = v.speed_lat_max = speed(across_mps)
    d.response_time = _PHYSICS.Duration(rho_s)
    d.max_speed_on_acceleration = speed(100.0)
    # it wants them in order: brake_correct <= brake_min <= brake_max
    brake_max, brake_correct = max(brake_max, brake_min), min(brake_correct, brake_min)
    d.alpha_lon.accel_max, d.alpha_lon.brake_max = change(accel), change(-brake_max)
    d.alpha_lon.brake_min, d.alpha_lon.brake_min_correct = (
        change(-brake_min),
        change(-brake_correct),
    )
    d.alpha_lat.accel_max, d.alpha_lat.brake_min = change(side_accel), change(-side_brake)
    d.lateral_fluctuation_margin = _PHYSICS.Distance(margin_m)
    state.structured_object_state.is_in_correct_lane = True
    _fill(state, d.unstructured_settings)
    return state


def _fill(state: Any, settings: Any) -> None:
    """Give values to what the library asks for and these three distances do not use."""
    state.object_type = ad_rss.rss.world.ObjectType.OtherVehicle
    junction = state.structured_object_state
    junction.distance_to_enter_intersection = _PHYSICS.Distance(10.0)
    junction.distance_to_leave_intersection = _PHYSICS.Distance(20.0)
    body = state.unstructured_object_state
    body.yaw, body.yaw_rate = _PHYSICS.Angle(0.0), _PHYSICS.AngularVelocity(0.0)
    body.steering_angle = _PHYSICS.Angle(0.0)
    body.dimension.length, body.dimension.width = _PHYSICS.Distance(4.0), _PHYSICS.Distance(2.0)
    body.center_point.x, body.center_point.y = _PHYSICS.Distance(0.0), _PHYSICS.Distance(0.0)
    body.speed_range.minimum = body.speed_range.maximum = _PHYSICS.Speed(0.0)
    settings.pedestrian_turning_radius = _PHYSICS.Distance(2.0)
    settings.drive_away_max_angle = _PHYSICS.Angle(2.4)
    settings.vehicle_yaw_rate_change = _PHYSICS.AngularAcceleration(0.3)
    settings.vehicle_min_radius = _PHYSICS.Distance(3.5)
    settings.vehicle_trajectory_calculation_step = _PHYSICS.Duration(0.2)


def _asked(function: Any, *states: Any) -> float:
    distance = _PHYSICS.Distance(0.0)
    assert function(*states, distance), "the library refused the values"
    return float(distance.mDistance)


def same_direction(
    rear_mps: float, front_mps: float, rho_s: float, accel: float, low: float, high: float
) -> float:
    """Return what `vehicle.safety.rss_same_direction` should."""
    front = _state(rho_s=rho_s, along_mps=front_mps, accel=accel, brake_min=low, brake_max=high)
    rear = _state(rho_s=rho_s, along_mps=rear_mps, accel=accel, brake_min=low, brake_max=high)
    return _asked(_STRUCTURED.calculateSafeLongitudinalDistanceSameDirection, front, rear)


def opposite(
    own_mps: float, other_mps: float, rho_s: float, accel: float, correct: float, low: float
) -> float:
    """Return what `vehicle.safety.rss_opposite` should."""
    own = _state(rho_s=rho_s, along_mps=own_mps, accel=accel, brake_correct=correct, brake_min=low)
    other = _state(
        rho_s=rho_s, along_mps=other_mps, accel=accel, brake_correct=correct, brake_min=low
    )
    return _asked(_STRUCTURED.calculateSafeLongitudinalDistanceOppositeDirection, own, other)


def lateral(
    left_mps: float, right_mps: float, rho_left_s: float, rho_right_s: float, accel: float,
    brake: float, margin_m: float,
) -> float:  # fmt: skip
    """Return what `vehicle.safety.rss_lateral` should."""
    left, right = (
        _state(rho_s=rho_s, across_mps=v, side_accel=accel, side_brake=brake, margin_m=margin_m)
        for v, rho_s in ((left_mps, rho_left_s), (right_mps, rho_right_s))
    )
    return _asked(_STRUCTURED.calculateSafeLateralDistance, left, right)
