"""What is in sight, who tells of what is not, and what a car that hears it gains."""

from dataclasses import replace

import numpy as np
import pytest

from sim.advice import bench_advice
from sim.advice.advisors import ADVISERS, AdvisedCar
from sim.advice.bench_advice import advice_bench
from sim.advice.occluded import Passed, passed, start
from sim.advice.occlusion import seen_from, walls_of
from sim.rivals.cases import NO_CAMERAS
from sim.run.episode import Episode
from sim.users.actors import ACTOR

NO_WALLS = np.zeros((0, 6))
EYE = np.array([0.0, 0.0, 1.45])
MAST = np.array([20.0, 9.0, 6.0])


def table(*rows):
    out = np.zeros(len(rows), ACTOR)
    for i, (x, y, length, width, height) in enumerate(rows):
        out[i]["actor_id"], out[i]["x_m"], out[i]["y_m"] = i + 1, x, y
        out[i]["length_m"], out[i]["width_m"], out[i]["height_m"] = length, width, height
    return out


PERSON = (20.0, -4.0, 0.5, 0.5, 1.7)
TRUCK = (14.0, -3.0, 8.0, 2.5, 3.2)
SEDAN = (14.0, -3.0, 4.5, 1.8, 1.0)


def test_a_truck_hides_who_stands_behind_it_and_a_mast_on_the_other_side_sees_him():
    street = table(PERSON, TRUCK)
    assert seen_from(street, NO_WALLS, EYE).tolist() == [False, True]
    assert seen_from(street, NO_WALLS, MAST).tolist() == [True, True]


@pytest.mark.parametrize("other", [SEDAN, (14.0, -2.7, 0.5, 0.5, 1.8)])
def test_what_is_low_and_people_hide_nobody(other):
    assert seen_from(table(PERSON, other), NO_WALLS, EYE).all()


def test_a_house_hides_and_one_that_is_not_solid_does_not():
    footprints = np.array([[14.0, -3.0, 4.0, 1.0, 0.0]], np.float32)
    for solid, seen in ((True, False), (False, True)):
        walls = walls_of(footprints, np.array([9.0], np.float32), np.array([solid]))
        assert seen_from(table(PERSON), walls, EYE).tolist() == [seen]


def test_nobody_is_hidden_by_the_body_he_looks_out_of_and_none_is_seen_from_afar():
    street = table(PERSON, (0.0, 0.0, 4.5, 1.8, 1.5))
    assert not seen_from(street, NO_WALLS, EYE)[0]
    assert seen_from(street, NO_WALLS, EYE, own_id=2)[0]
    assert not seen_from(table((90.0, 0.0, 4.5, 1.8, 1.5)), NO_WALLS, EYE)[0]


def test_told_of_somebody_behind_a_truck_the_car_does_not_touch_whom_alone_it_hits():
    steps_out = replace(start(0, 1.2, 1.9), duration_s=7.5)
    alone, told = passed(steps_out, None), passed(steps_out, ADVISERS["true"])
    assert alone.contact_mps is not None
    assert alone.heeded == 0
    assert told.contact_mps is None
    assert told.heeded > 0
    assert told.in_sight_mps < alone.in_sight_mps
    assert told.least_gap_m > 0.3


@pytest.mark.parametrize("name", ["babble", "stop everywhere"])
def test_a_car_that_is_lied_to_drives_on_and_nothing_of_it_is_a_fault(name):
    episode = Episode(town=100, seed=3, rig=NO_CAMERAS)
    with AdvisedCar(episode, ADVISERS[name]) as car:
        for _ in range(25):
            act = car.act(episode, episode.observe(truth=True))
            assert act.command is not None
            episode.step(act.command)
        assert car.offboard.counters["advice_heeded"] > 0
        assert car.offboard.counters["advice_faults"] == 0
    assert episode.motion.speed_mps > 1.0


def test_the_bench_shows_every_way_of_being_told_beside_nobody(monkeypatch):
    hit = Passed(
        contact_mps=4.0, least_gap_m=0.0, in_sight_mps=5.0, hardest_brake_mps2=8.0, heeded=0,
        seconds=9.0,
    )  # fmt: skip
    missed = replace(hit, contact_mps=None, least_gap_m=0.5, hardest_brake_mps2=4.0, heeded=9)
    monkeypatch.setattr(bench_advice, "passed", lambda _, who, delay_s: missed if who else hit)
    driven = {"nobody": (1, 100.0), "babble": (2, 30.0)}
    monkeypatch.setattr(bench_advice, "_drive", lambda _, name: driven.get(name, (0, 90.0)))
    shares = []
    bench = advice_bench(frames=1, progress=shares.append, bundle=None)
    rows = {row["row"]: row for row in bench.rows}
    assert rows["occluded pedestrian (jaywalk_truck), nobody"]["contacts"] == 15
    assert rows["occluded pedestrian (jaywalk_truck), told, 0.1 s old"]["contacts"] == 0
    assert (
        rows["pair by pair, told, 0.3 s old"] | {"softer": 15, "harder": 0}
        == rows["pair by pair, told, 0.3 s old"]
    )
    assert rows["8 families, advised by: babble"]["progress_ratio"] == 0.3
    by_name = {must.figure.split(": ")[-1]: must.holds for must in bench.must}
    assert by_name["true"]
    assert not by_name["babble"]  # twice the contacts: the bench says so
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
