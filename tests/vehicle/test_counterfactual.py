"""What caused a decision, found by asking planner and envelope again without it."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from vehicle import caution
from vehicle.budget import Budget
from vehicle.clock import FakeClock
from vehicle.config import VehicleConfig
from vehicle.contracts import explanation
from vehicle.contracts.decision import DecisionRecord, Factor
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.explanation import answer_of, candidates
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.scene import KINDS, TRACK, Scene, Signal
from vehicle.contracts.wire import ContractError
from vehicle.counterfactual import WhatIf, without
from vehicle.decisions import record_of
from vehicle.pilot import Pilot

CONFIG = VehicleConfig()
AHEAD = np.column_stack([np.arange(-10.0, 120.0), np.zeros(130)])


@pytest.fixture(scope="module")
def pilot() -> Pilot:
    return Pilot(CONFIG)


def track(
    track_id: int, kind: str, x_m: float, y_m: float = 0.0, vx_mps: float = 0.0
) -> np.ndarray:
    row = np.zeros(1, TRACK)
    row["track_id"], row["kind"], row["x_m"], row["y_m"] = track_id, KINDS.index(kind), x_m, y_m
    row["length_m"], row["width_m"], row["height_m"] = 4.5, 1.8, 1.5
    row["vx_mps"], row["score_prob"], row["age_ticks"] = vx_mps, 1.0, 50
    return row


def scene(*tracks: np.ndarray, signal: Signal | None = None) -> Scene:
    return Scene(
        frame_id=1,
        mono_ns=0,
        tracks=np.concatenate([np.zeros(0, TRACK), *tracks]),
        embedding=np.zeros(0, np.float32),
        uncertainty_ratio=0.0,
        fresh=True,
        signal=signal,
    )


def seen(speed_mps: float = 8.0, **guidance: float) -> Observation:
    ego = EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=speed_mps)
    way = Guidance(centreline_m=AHEAD, speed_limit_mps=guidance.pop("limit_mps", 10.0), **guidance)
    return Observation(frame=FrameSet(frame_id=1, mono_ns=0), ego=ego, guidance=way)


def asked(pilot: Pilot, around: Scene, obs: Observation) -> DecisionRecord:
    budget = Budget(enforce=False, clock=FakeClock())
    budget.begin(1)
    plan, command = copy.deepcopy(pilot).act(around, obs, "full", budget)
    assert plan is not None
    assert command is not None
    record = record_of("test", around, obs, plan, command, CONFIG)
    return WhatIf(pilot, around, obs, "full", record, CONFIG).causes()


def test_a_car_that_stands_in_the_lane_is_why_the_ego_slows_down(pilot: Pilot) -> None:
    record = asked(pilot, scene(track(7, "car", 26.0), track(8, "car", 30.0, 9.0)), seen())
    assert record.decision.longitudinal in ("slow down", "stop")
    assert record.causes == (Factor(kind="actor", actor_id=7),)
    assert not record.jointly


def test_two_that_would_each_be_enough_are_found_together(pilot: Pilot) -> None:
    record = asked(pilot, scene(track(7, "car", 17.0), track(8, "car", 22.5)), seen(5.0))
    assert record.jointly
    assert {f.actor_id for f in record.causes or ()} == {7, 8}


def test_a_red_light_is_why_and_a_green_one_is_nobodys_reason(pilot: Pilot) -> None:
    red = asked(pilot, scene(signal=Signal(state="red")), seen(stop_m=30.0))
    assert Factor(kind="light") in (red.causes or ())
    green = asked(pilot, scene(signal=Signal(state="green")), seen(stop_m=30.0))
    assert Factor(kind="light") not in candidates(green)


def test_the_limit_is_why_speed_is_kept(pilot: Pilot) -> None:
    record = asked(pilot, scene(), seen(10.0))
    assert record.decision.longitudinal == "keep speed"
    assert record.causes == (Factor(kind="limit"),)


def test_asking_what_if_changes_neither_the_pilot_nor_the_scene(pilot: Pilot) -> None:
    around, obs = scene(track(7, "car", 26.0)), seen()
    before = around.tracks.copy()
    first, second = asked(pilot, around, obs), asked(pilot, around, obs)
    assert first == second
    assert (around.tracks == before).all()


def test_each_factor_is_really_taken_away(pilot: Pilot) -> None:
    around = scene(track(7, "truck", 26.0, 3.0), signal=Signal(state="red"))
    obs = seen(yield_m=40.0)
    gone, _, _ = without(around, obs, CONFIG, [Factor(kind="actor", actor_id=7)])
    assert gone is not None
    assert gone.tracks.size == 0
    low, _, _ = without(around, obs, CONFIG, [Factor(kind="hides", actor_id=7)])
    assert low is not None
    assert low.tracks["height_m"][0] < caution.TALL_M
    every = [Factor(kind=k) for k in ("light", "yield line", "limit", "bend", "no lane left")]  # type: ignore[arg-type]
    left, free, config = without(around, obs, CONFIG, every)
    assert left is not None
    assert left.signal is None
    assert free.guidance is not None
    assert free.guidance.yield_m is None
    assert free.guidance.speed_limit_mps > 10.0
    assert free.guidance.left_lane_m > 0.0
    assert config.max_lateral_mps2 > CONFIG.max_lateral_mps2


def test_who_hides_others_is_the_same_in_the_language_as_in_the_planner() -> None:
    planner = {KINDS[i] for i in np.flatnonzero(caution.HIDES)}
    assert planner == set(explanation.HIDING_KINDS)
    assert (explanation.TALL_M, explanation.STILL_MPS) == (caution.TALL_M, caution._STILL_MPS)


def test_an_untested_record_explains_nothing(pilot: Pilot) -> None:
    record = asked(pilot, scene(track(7, "car", 26.0)), seen())
    with pytest.raises(ContractError, match="were not tested"):
        answer_of(replace(record, causes=None))
