"""Traffic: nobody drives through anybody, everybody gets on, the ego obeys its limits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.run.episode import Episode, boxes_touch
from sim.story.script import in_ego_frame
from sim.users.dynamics import Motion, advance
from sim.users.traffic import gap_on_path, idm_accel
from vehicle.config import VehicleConfig
from vehicle.contracts.frame import Rig

BLIND = Rig(name="blind", cameras=())
NAMES = ["x_m", "y_m", "yaw_rad", "length_m", "width_m"]


def test_moving_cars_never_overlap() -> None:
    episode = Episode(town=4, seed=8, light="day", rig=BLIND)
    for tick in range(400):
        episode.step(None)
        if tick % 40:
            continue
        table = episode.actors.table
        cars = table[table["moving"] == 1]
        rows = np.stack([cars[n] for n in NAMES], axis=1)
        for i in range(len(rows)):
            near = np.hypot(*(rows[i + 1 :, :2] - rows[i, :2]).T) < 5.5
            for j in np.flatnonzero(near) + i + 1:
                assert not boxes_touch(rows[i], rows[j]), (tick, i, j)


def test_traffic_flows_and_the_ego_gets_along() -> None:
    going = []
    for town in (0, 3, 5):
        episode = Episode(town=town, seed=town + 10, light="day", rig=BLIND)
        begin = episode.pose
        for _ in range(400):
            episode.step(None)
        table = episode.actors.table
        going.append(table["speed_mps"][table["moving"] == 1].mean())
        assert np.hypot(*(episode.pose - begin)[:2]) > 10.0
    assert np.mean(going) > 1.5


def test_idm_stops_behind_a_standing_leader() -> None:
    position, speed, leader = 0.0, 14.0, 80.0
    for _ in range(400):
        speed = max(0.0, speed + 0.1 * idm_accel(speed, 14.0, leader - position, speed))
        position += 0.1 * speed
    assert leader - 4.0 < position < leader


def test_an_obstacle_beside_the_path_is_not_in_the_way() -> None:
    path = np.stack([np.arange(20) * 1.5, np.zeros(20), np.zeros(20)], axis=1)
    assert gap_on_path(path, 20, 4.5, 1.8, 12.0, 3.5, 0.0, 4.5, 1.8) == 1e9
    assert gap_on_path(path, 20, 4.5, 1.8, 12.0, 0.5, 0.0, 4.5, 1.8) == pytest.approx(7.5)


def test_people_and_cars_are_where_the_truth_is_dense_enough() -> None:
    cars, people = [], []
    for town in range(4):
        episode = Episode(town=town, seed=1, light="day", rig=BLIND)
        for _ in range(8):
            episode.relocate(np.random.default_rng(town * 100 + len(cars)))
            x, y = in_ego_frame(episode)
            kind = episode.actors.table["kind"]
            inside = (x > -20) & (x < 60) & (np.abs(y) < 25.6)
            cars.append((inside & (kind == 0)).sum())
            people.append(((np.hypot(x, y) < 30) & (kind == 1)).sum())
    assert np.mean(cars) >= 6
    assert np.mean(people) >= 2


def test_a_sudden_brake_stops_the_car() -> None:
    episode = Episode(town=3, seed=13, light="day", rig=BLIND)
    table = episode.actors.table
    row = int(np.argmax(table["speed_mps"] * table["moving"]))
    before = float(table["speed_mps"][row])
    episode.actors.brake_suddenly(int(table["actor_id"][row]), 3.0)
    for _ in range(12):
        episode.step(None)
    assert before > 3.0
    assert episode.actors.table["speed_mps"][row] < max(before - 5.0, 0.1)


@given(
    accel=st.floats(-50, 50),
    curve=st.floats(-5, 5),
    speed=st.floats(0, 40),
    dt=st.floats(0.01, 0.1),
)
def test_the_ego_stays_within_its_actuators(
    accel: float, curve: float, speed: float, dt: float
) -> None:
    config = VehicleConfig()
    motion = Motion(x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=speed)
    for _ in range(20):
        after = advance(motion, accel, curve, dt, config)
        assert after.speed_mps >= 0.0
        assert -config.max_brake_mps2 - 1e-9 <= after.accel_mps2 <= config.max_accel_mps2 + 1e-9
        assert abs(after.curvature_1pm) <= config.max_curvature_1pm + 1e-12
        way = math.hypot(after.x_m - motion.x_m, after.y_m - motion.y_m)
        assert way <= max(motion.speed_mps, after.speed_mps) * dt + 1e-9
        motion = after


def test_a_full_turn_at_constant_curvature_comes_back() -> None:
    motion = Motion(x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=5.0, curvature_1pm=0.1)
    steps = 400
    for _ in range(steps):
        motion = advance(motion, 0.0, 0.1, 2 * math.pi / 0.1 / 5.0 / steps, VehicleConfig())
    assert motion.x_m == pytest.approx(0.0, abs=1e-6)
    assert motion.y_m == pytest.approx(0.0, abs=1e-6)
