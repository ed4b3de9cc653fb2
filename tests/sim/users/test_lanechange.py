"""MOBIL on hand-built cases, and traffic that changes lanes without touching anybody."""

import math

import numpy as np
import pytest

from sim.run.collisions import boxes_touch
from sim.run.episode import Episode
from sim.users.lanechange import POLITENESS, SAFE_MPS2, THRESHOLD_MPS2, mobil
from sim.users.traffic import idm_accel, must_stop
from vehicle.contracts.frame import Rig

BLIND = Rig(name="blind", cameras=())


def test_mobil_changes_for_a_gain_above_the_threshold_only() -> None:
    assert mobil(0.0, THRESHOLD_MPS2 + 0.01, 0.0, 0.0, 0.0, 0.0)
    assert not mobil(0.0, THRESHOLD_MPS2 - 0.01, 0.0, 0.0, 0.0, 0.0)


def test_mobil_never_makes_the_new_follower_brake_harder_than_is_safe() -> None:
    assert mobil(-5.0, 1.0, 0.0, -SAFE_MPS2, 0.0, 0.0)
    assert not mobil(-5.0, 1.0, 0.0, -SAFE_MPS2 - 0.01, 0.0, 0.0)


def test_mobil_weighs_what_others_lose_by_politeness() -> None:
    loss = 1.5
    gain = THRESHOLD_MPS2 + POLITENESS * loss
    assert mobil(0.0, gain + 0.01, 0.0, -loss, 0.0, 0.0)
    assert not mobil(0.0, gain - 0.01, 0.0, -loss, 0.0, 0.0)
    assert mobil(0.0, 0.0, 0.0, 0.0, -1.5, 0.0), "who follows now gains enough"


@pytest.mark.parametrize(
    ("speed", "gap"),
    [(3.0, 5.0), (8.0, 8.0), (8.0, 25.0), (14.0, 25.0), (14.0, 60.0), (20.0, 45.0), (20.0, 120.0)],
)
def test_idm_never_hits_a_standing_leader_it_could_stop_for(speed: float, gap: float) -> None:
    at, v = 0.0, speed
    for _ in range(2000):
        v = max(0.0, v + 0.05 * idm_accel(v, speed, gap - at, v))
        at += 0.05 * v
        assert at < gap
    assert v < 0.05


def test_a_light_means_stop_only_where_one_still_can() -> None:
    assert must_stop(10.0, 40.0, 0)
    assert must_stop(10.0, 40.0, 1)
    assert not must_stop(10.0, 40.0, 2)
    assert not must_stop(10.0, 12.0, 1), "5 m are too few for yellow at 10 m/s"
    assert must_stop(0.0, 5.0, 0), "standing at the line"
    assert not must_stop(3.0, 2.0, 0), "already beyond the line"


def test_traffic_changes_lanes_on_a_boulevard_and_touches_nobody() -> None:
    episode = Episode(town=100, seed=3, family="boulevard", rig=BLIND)
    changed = 0
    names = ["x_m", "y_m", "yaw_rad", "length_m", "width_m"]
    for tick in range(300):
        episode.step(None)
        table = episode.actors.table
        aside = np.abs(table["lateral_m"]) > 1.0
        changed = max(changed, int(aside.sum()))
        if tick % 30:
            continue
        small = (table["moving"] == 1) & (table["length_m"] < 6.0)
        rows = np.stack([table[small][n] for n in names], axis=1)
        for i in range(len(rows)):
            near = np.hypot(*(rows[i + 1 :, :2] - rows[i, :2]).T) < 5.5
            for j in np.flatnonzero(near) + i + 1:
                assert not boxes_touch(rows[i], rows[j]), (tick, i, j)
    assert changed >= 1


def test_traffic_waits_at_red_and_goes_at_green() -> None:
    episode = Episode(town=100, seed=4, family="traffic_lights", rig=BLIND)
    assert episode.signals is not None
    lanes, ran, waited = episode.town.lanes, 0, 0
    before = episode.actors.table.copy()
    for _ in range(400):
        state = episode.signals.lane_state(episode.t_s)
        episode.step(None)
        table = episode.actors.table
        if len(table) == len(before):
            was, now = before["lane"], table["lane"]
            entered = (table["moving"] == 1) & (was >= 0) & (was != now)
            entered &= (lanes.junction[now] >= 0) & (lanes.junction[was] < 0)
            ran += int((state[was[entered]] == 0).sum())
            held = (table["moving"] == 1) & (table["speed_mps"] < 0.2)
            left = lanes.length_m[now] - table["s_m"]
            waited += int((held & (left < 12.0) & (state[np.maximum(now, 0)] == 0)).sum())
        before = table.copy()
    assert waited > 20
    assert ran <= 2, "only who could not stop any more"


def test_lane_changes_do_not_turn_cars_sideways() -> None:
    episode = Episode(town=100, seed=3, family="boulevard", rig=BLIND)
    lanes = episode.town.lanes
    for _ in range(100):
        episode.step(None)
        table = episode.actors.table
        for row in table[(table["moving"] == 1) & (np.abs(table["lateral_m"]) > 0.2)]:
            yaw = lanes.pose(int(row["lane"]), float(row["s_m"]))[2]
            assert abs(math.remainder(row["yaw_rad"] - yaw, 2 * math.pi)) < 0.75
