"""Who follows a lane, turns or brakes is foreseen to go on so; who walks keeps walking."""

import math

import numpy as np
import pytest

from vehicle.contracts.ego import EgoState
from vehicle.contracts.scene import KINDS, TRACK
from vehicle.paths import resample
from vehicle.predict import Predictor

STRAIGHT = resample(np.column_stack([np.arange(-10.0, 120.0), np.zeros(130)]))


def bend(radius_m: float) -> np.ndarray:
    a = np.arange(-10.0, 100.0) / radius_m
    return resample(np.column_stack([radius_m * np.sin(a), radius_m * (1 - np.cos(a))]))


def track(x: float, y: float, yaw: float, speed: float, kind: str = "car") -> np.ndarray:
    out = np.zeros(1, TRACK)
    out["x_m"], out["y_m"], out["yaw_rad"], out["track_id"] = x, y, yaw, 1
    out["vx_mps"], out["vy_mps"] = speed * math.cos(yaw), speed * math.sin(yaw)
    out["kind"], out["length_m"], out["width_m"], out["age_ticks"] = KINDS.index(kind), 4.5, 1.8, 20
    return out


def foresee(tracks: list[np.ndarray], path: np.ndarray, dt_s: float = 0.1) -> np.ndarray:
    predictor = Predictor()
    for i, now in enumerate(tracks):
        ego = EgoState(mono_ns=round(i * dt_s * 1e9), x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=5.0)
        near, users = predictor.users(now)
        out = predictor.predict(near, users, ego, path)
    return out[0]


def test_a_car_on_the_way_ahead_follows_its_bend() -> None:
    path, radius = bend(30.0), 30.0
    at = 10.0 / radius
    now = track(radius * math.sin(at), radius * (1 - math.cos(at)), at, 8.0)
    out = foresee([now], path)
    off = np.hypot(out[:, 0], out[:, 1] - radius) - radius
    assert np.abs(off).max() < 0.15
    assert out[40, 2] == pytest.approx(at + 32.0 / radius, abs=0.08)


def test_an_oncoming_car_in_the_next_lane_keeps_to_it_through_the_bend() -> None:
    path, radius = bend(40.0), 40.0
    at = 40.0 / radius
    x, y = (radius - 3.5) * math.sin(at), radius - (radius - 3.5) * math.cos(at)
    out = foresee([track(x, y, at + math.pi, 8.0)], path)
    off = np.hypot(out[:, 0], out[:, 1] - radius) - (radius - 3.5)
    assert np.abs(off[:31]).max() < 0.25


def test_a_turning_car_goes_on_turning_until_a_road_would_lead_on() -> None:
    yaws = [-math.pi / 2 + 0.04 * i for i in range(12)]
    seen = [track(20.0, 10.0, yaw, 5.0) for yaw in yaws]
    out = foresee(seen, STRAIGHT)
    assert out[-1, 2] == pytest.approx(0.0, abs=0.1)
    assert out[-1, 1] > out[0, 1] - 15.0  # it does not go straight across


def test_who_brakes_is_foreseen_to_go_less_far() -> None:
    steady = foresee([track(20.0, 0.0, 0.0, 8.0)] * 6, STRAIGHT)
    slowing = foresee([track(20.0, 0.0, 0.0, 10.0 - 0.4 * i) for i in range(6)], STRAIGHT)
    assert slowing[40, 0] < steady[40, 0] - 5.0


def test_a_person_keeps_walking_and_a_young_track_keeps_its_velocity() -> None:
    walks = foresee([track(15.0, -5.0, math.pi / 2, 1.4, "pedestrian")], STRAIGHT)
    assert walks[40, :2] == pytest.approx([15.0, 0.6], abs=1e-6)
    young = track(15.0, -20.0, math.pi / 2, 6.0)
    young["age_ticks"] = 1
    assert foresee([young, young], STRAIGHT)[40, :2] == pytest.approx([15.0, 4.0], abs=1e-6)


def test_only_the_nearest_are_foreseen_and_nobody_is_no_trouble() -> None:
    predictor = Predictor()
    crowd = np.concatenate([track(float(i), 0.0, 0.0, 1.0) for i in range(100)])
    near, users = predictor.users(crowd)
    assert users.shape == (64, 7)
    assert near["x_m"].max() == 63.0
    ego = EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=5.0)
    nobody, none = predictor.users(crowd[:0])
    assert predictor.predict(nobody, none, ego, STRAIGHT).shape == (0, 41, 3)
