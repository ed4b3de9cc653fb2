"""Scripted behaviours on a straight road: cues come when they should, laws do what they say."""

import math

import numpy as np
import pytest

from sim.story.behaviours import FRONT_M, EgoView, Phase, Player, ended, lead_m, step, wish_mps
from sim.users.actors import ACTOR, SCRIPTED, blank
from vehicle.contracts.scene import KINDS

ROAD = np.stack([np.arange(200.0), np.zeros(200), np.zeros(200)], axis=1)
ACROSS = np.stack([np.full(120, 80.0), np.arange(120.0) - 60.0, np.full(120, math.pi / 2)], axis=1)
DT_S = 0.1


def ego_at(x_m: float, speed_mps: float) -> EgoView:
    body = np.array([x_m + 1.4, 0.0, 0.0, speed_mps, 4.7, 1.9])
    return EgoView(index=int(x_m), body=body)


def table_of(kind: str, size: tuple[float, float, float]) -> np.ndarray:
    row = blank(KINDS.index(kind))
    row["actor_id"], row["moving"] = 1, SCRIPTED
    row["length_m"], row["width_m"], row["height_m"] = size
    row["x_m"], row["y_m"] = 1e3, 1e3
    return np.array([row], ACTOR)


def test_the_eta_cue_comes_when_the_front_bumper_is_that_near() -> None:
    player = Player(actor_id=1, path=ROAD, at_m=100.0, mark_m=100.0, mark_index=100)
    phase = Phase(until="eta", value=2.0)
    assert not ended(player, phase, ego_at(100 - FRONT_M - 21, 10.0), 4.0)
    assert ended(player, phase, ego_at(100 - FRONT_M - 19, 10.0), 4.0)
    slow = ego_at(100 - FRONT_M - 5, 0.0)
    assert slow.eta_s(100) < 3.0, "who stands is taken to creep, or it would never begin"


def test_the_gap_time_and_ahead_cues() -> None:
    player = Player(actor_id=1, path=ROAD, at_m=30.0, mark_m=100.0, mark_index=100)
    ego = ego_at(10.0, 5.0)
    assert ended(player, Phase(until="gap", value=17.0), ego, 4.0)
    assert not ended(player, Phase(until="gap", value=15.0), ego, 4.0)
    assert lead_m(player, ego, 4.0) == pytest.approx(30 - 2 - 10 - FRONT_M)
    assert ended(player, Phase(until="ahead", value=14.0), ego, 4.0)
    player.since_s = 1.0
    assert ended(player, Phase(until="time", value=1.0), ego, 4.0)
    assert not ended(player, Phase(), ego, 4.0)


def test_pace_keeps_its_distance_to_the_ego() -> None:
    table = table_of("car", (4.4, 1.8, 1.5))
    player = Player(
        actor_id=1, path=ROAD, at_m=20.0, mark_m=100.0, mark_index=100, speed_mps=5.0,
        phases=(Phase(law="pace", speed_mps=8.0, accel_mps2=4.0, blind=True),),
    )  # fmt: skip
    for k in range(100):
        step(player, table, 0, ego_at(0.8 * k, 8.0), DT_S)
    assert lead_m(player, ego_at(0.8 * 99, 8.0), 4.4) == pytest.approx(8.0, abs=1.5)
    assert table["speed_mps"][0] == pytest.approx(8.0, abs=1.0)


@pytest.mark.parametrize("ego_mps", [6.0, 9.0, 12.0])
def test_meet_is_at_the_mark_just_before_the_ego(ego_mps: float) -> None:
    table = table_of("cyclist", (1.8, 0.6, 1.75))
    player = Player(
        actor_id=1, path=ACROSS, at_m=30.0, mark_m=60.0, mark_index=80,
        phases=(Phase(law="meet", speed_mps=14.0, lead_s=1.0, accel_mps2=4.0, blind=True),),
    )  # fmt: skip
    x = 80.0 - FRONT_M - 7.0 * ego_mps
    while x + FRONT_M + 1.0 * ego_mps < 80.0:
        step(player, table, 0, ego_at(x, ego_mps), DT_S)
        x += ego_mps * DT_S
    assert player.at_m == pytest.approx(60.0, abs=2.5)
    assert table["yaw_rad"][0] == pytest.approx(math.pi / 2, abs=1e-6)


def test_a_walker_does_not_walk_into_the_side_of_the_ego() -> None:
    table = table_of("pedestrian", (0.55, 0.6, 1.75))
    player = Player(
        actor_id=1, path=ROAD, at_m=51.0, left_m=-4.0, mark_m=51.0, mark_index=51,
        phases=(Phase(left_m=4.0, slide_mps=1.5),),
    )  # fmt: skip
    for _ in range(60):
        step(player, table, 0, ego_at(50.0, 0.0), DT_S)
    assert -2.2 < player.left_m < -1.2, "it waits beside the standing car"
    for _ in range(60):
        step(player, table, 0, ego_at(90.0, 0.0), DT_S)
    assert player.left_m == pytest.approx(4.0)


def test_a_car_with_eyes_stops_behind_what_stands_and_a_blind_one_does_not() -> None:
    ends = []
    for blind in (False, True):
        table = np.concatenate([table_of("car", (4.4, 1.8, 1.5)), table_of("car", (4.4, 1.8, 1.5))])
        table["x_m"][1], table["y_m"][1], table["actor_id"][1] = 60.0, 0.0, 2
        player = Player(
            actor_id=1, path=ROAD, at_m=20.0, speed_mps=8.0,
            phases=(Phase(speed_mps=8.0, blind=blind),),
        )  # fmt: skip
        for _ in range(120):
            step(player, table, 0, ego_at(150.0, 0.0), DT_S)
        ends.append(player.at_m)
    assert 50.0 < ends[0] < 55.6
    assert ends[1] > 90.0


def test_a_door_turns_about_its_hinge() -> None:
    table = table_of("other", (1.0, 0.1, 1.4))
    player = Player(
        actor_id=1, path=ROAD, at_m=10.0, left_m=1.0,
        phases=(Phase(law="swing", speed_mps=1.5, left_m=1.2),),
    )  # fmt: skip
    for _ in range(20):
        step(player, table, 0, ego_at(100.0, 0.0), DT_S)
        row = table[0]
        hinge = (
            row["x_m"] + math.cos(row["yaw_rad"]) / 2,
            row["y_m"] + math.sin(row["yaw_rad"]) / 2,
        )
        assert hinge == pytest.approx((10.0, 1.0))
    assert table["yaw_rad"][0] == pytest.approx(-1.2)
    assert table["y_m"][0] > 1.4, "it opens to the left, into the lane"


def test_who_drives_against_the_path_faces_that_way() -> None:
    table = table_of("car", (4.4, 1.8, 1.5))
    player = Player(
        actor_id=1, path=ROAD, at_m=100.0, way=-1, speed_mps=6.0,
        phases=(Phase(speed_mps=6.0, blind=True),),
    )  # fmt: skip
    step(player, table, 0, ego_at(0.0, 8.0), DT_S)
    assert player.at_m == pytest.approx(99.4)
    assert abs(math.remainder(table["yaw_rad"][0], 2 * math.pi)) == pytest.approx(math.pi)
    assert wish_mps(player, Phase(law="keep"), ego_at(0.0, 8.0), 4.4) == pytest.approx(6.0)
