"""The comparison of triggers with the truth compares what it says it does."""

import numpy as np
import pytest

from sim.trigger.bench_triggers import campaign_of_64
from sim.trigger.trigger_trials import TRIALS, drive_trial
from sim.trigger.trigger_truth import FAMILY_TRIGGERS, Score, TrueFlicker, intervals
from vehicle.contracts.campaign import FAMILIES
from vehicle.contracts.sample import BOX_COLUMNS
from vehicle.contracts.scene import TRACK, Scene
from vehicle.trigger import Triggers


def holds(text: str) -> list[bool]:
    return [c == "x" for c in text]


def test_truths_closer_than_the_quiet_time_of_a_trigger_are_one() -> None:
    assert intervals(holds("..xx......x" + "." * 21 + "x"), 10.0) == [(0.2, 1.0), (3.2, 3.2)]


def test_a_truth_shorter_than_the_hold_of_its_trigger_is_none() -> None:
    assert intervals(holds(".x" + "." * 30 + "xxxx."), 10.0, hold_s=0.3) == [(3.2, 3.5)]


def test_weather_is_cut_into_pieces() -> None:
    assert intervals(holds("x" * 260), 10.0, piece_s=10.0) == [
        (0.0, 10.0),
        (10.0, 20.0),
        (20.0, pytest.approx(25.9)),
    ]


def test_an_event_is_right_near_a_truth_and_a_truth_is_found_by_one() -> None:
    score = Score()
    score.add([0.9, 2.4, 9.0], [(1.0, 2.0), (5.0, 6.0)], 10.0)
    score.add([], [], 10.0)
    row = score.row("ttc")
    assert (row["events"], row["truths"], row["drives"], row["seconds"]) == (3, 2, 2, 20)
    assert (row["precision"], row["recall"]) == (0.667, 0.5)
    assert row["recall_95"][0] < 0.5 < row["recall_95"][1]
    assert "precision" not in Score().row("ttc")


def box(x: float, actor: int, px: float = 100.0) -> list[float]:
    row = dict.fromkeys(BOX_COLUMNS, 0.0) | {"x_m": x, "actor_id": actor, "visible_px": px}
    return list(row.values())


def seen(*x: float) -> Scene:
    tracks = np.zeros(len(x), TRACK)
    tracks["x_m"] = x
    empty = np.zeros(0, np.float32)
    return Scene(
        frame_id=0, mono_ns=0, tracks=tracks, embedding=empty, uncertainty_ratio=0.0, fresh=True
    )


def test_a_visible_road_user_that_is_lost_and_found_again_blinks_for_a_second() -> None:
    both = np.array([box(10.0, 1), box(20.0, 2)])
    truth = TrueFlicker(10.0)
    shares = [truth.of(both, seen(10.0, 20.0)), truth.of(both, seen(10.0))]
    shares += [truth.of(both, seen(10.3, 19.5)) for _ in range(12)]
    assert shares == [0.0, 0.0] + [0.5] * 11 + [0.0]


def test_a_road_user_that_was_hidden_meanwhile_did_not_blink() -> None:
    truth = TrueFlicker(10.0)
    here, hidden = np.array([box(10.0, 1)]), np.array([box(10.0, 1, px=3.0)])
    assert [truth.of(b, seen(*s)) for b, s in ((here, (10,)), (hidden, ()), (here, (10,)))] == [
        0
    ] * 3


def test_every_family_is_asked_once_and_sixty_four_triggers_are_timed() -> None:
    assert {spec.kind for spec in FAMILY_TRIGGERS.triggers} == set(FAMILIES)
    assert len(campaign_of_64().triggers) == 64
    Triggers((campaign_of_64(),), 36.0)


@pytest.mark.slow
def test_a_trial_drives_the_car_and_asks_every_family_it_can() -> None:
    drove = drive_trial(TRIALS[0], 6, ())
    assert len(drove.ticks) == 6
    assert {"ttc", "rss", "flicker", "uncertainty", "takeover", "rung"} <= set(drove.truth_s)
    assert all(tick.obs.frame.images == {} for tick in drove.ticks)
