"""Drivers to compare with do what their names say, on a road a test can see through."""

import math

import pytest
from fakes_world import StraightWorld

from sim.rivals.jobs import driven
from sim.rivals.peers import LogReplay, NoRecordedDriveError, UnknownSubjectError
from sim.rivals.subjects import SUBJECTS, subject_of

SEEING = ("idm", "idm-mobil", "pdm-truth", "planner-truth")


def drive(name: str, world: StraightWorld):
    driver = subject_of(name).open(None, world.rate_hz)
    touched = False
    for _ in driven(world, driver, 0.0):
        touched |= bool(world.snapshot().collided)
    driver.close()
    return world.snapshot().ego, touched or bool(world.snapshot().collided)


@pytest.mark.parametrize("name", SEEING)
def test_who_sees_stops_behind_a_standing_car(name: str) -> None:
    blocked = [(60.0, 0.0, 0.0), (60.0, 3.5, 0.0)]
    ego, touched = drive(name, StraightWorld(blocked, seconds=15.0))
    assert not touched
    assert ego.speed_mps < 0.5
    assert 40.0 < ego.x_m < 56.0


def test_constant_velocity_runs_into_a_standing_car() -> None:
    ego, touched = drive("constant-velocity", StraightWorld([(60.0, 0.0, 0.0)]))
    assert touched
    assert ego.speed_mps == pytest.approx(8.0)


@pytest.mark.parametrize("name", ["idm", "pdm-truth", "planner-truth"])
def test_who_is_told_of_a_red_light_waits_at_it(name: str) -> None:
    ego, _ = drive(name, StraightWorld(seconds=15.0, red_m=60.0))
    assert ego.speed_mps < 0.5
    assert ego.x_m + ego.length_m / 2 < 60.0


def test_mobil_overtakes_where_the_map_has_a_lane_and_idm_does_not() -> None:
    slow = [(30.0, 0.0, 2.0)]
    behind, _ = drive("idm", StraightWorld(slow, seconds=20.0))
    past, touched = drive("idm-mobil", StraightWorld(slow, seconds=20.0))
    assert not touched
    assert behind.x_m < 75.0 < past.x_m - 30.0


def test_mobil_stays_when_somebody_is_beside() -> None:
    neighbours = [(30.0, 0.0, 2.0), *((x, 3.5, 3.0) for x in range(-30, 120, 8))]
    ego, touched = drive("idm-mobil", StraightWorld(neighbours, seconds=8.0))
    assert not touched
    assert abs(ego.y_m) < 0.5


def test_free_road_is_driven_at_the_limit() -> None:
    for name in SEEING:
        ego, _ = drive(name, StraightWorld(seconds=10.0))
        assert ego.speed_mps > 9.0, name
        assert abs(ego.y_m) < 0.2, name


def test_log_replay_follows_the_recorded_drive() -> None:
    import numpy as np

    world = StraightWorld(seconds=6.0)
    t = np.arange(0.0, 6.05, 0.1)
    world.expert = np.column_stack(
        [t, 8.0 * t - 0.4 * t**2, 0.3 * np.sin(0.5 * t), 0.02 * np.cos(0.5 * t), 8.0 - 0.8 * t]
    )
    ego, _ = drive("log-replay", world)
    assert math.hypot(ego.x_m - world.expert[-1, 1], ego.y_m - world.expert[-1, 2]) < 1.0


def test_log_replay_without_a_log_is_refused() -> None:
    world = StraightWorld()
    with pytest.raises(NoRecordedDriveError):
        LogReplay().act(world, world.observe())


def test_unknown_subject_names_the_known_ones() -> None:
    with pytest.raises(UnknownSubjectError, match="constant-velocity, idm"):
        subject_of("alonso")
    assert all(s.about for s in SUBJECTS.values())
