"""Triggers fire when their condition holds long enough, and then keep quiet."""

import math

import numpy as np

from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.scene import TRACK, Scene
from vehicle.contracts.telemetry import StageTiming
from vehicle.trigger import Triggers

TICK_NS = 100_000_000


def fired(spec: TriggerSpec, ticks: list[dict[str, float]]) -> list[int]:
    """Return the frames at which `spec` fires over ticks of accel, gap, doubt or took_us."""
    triggers = Triggers(Campaign(campaign_id="c", triggers=(spec,)), rate_hz=10.0)
    out = []
    for i, tick in enumerate(ticks):
        tracks = np.zeros(1, TRACK)
        tracks["x_m"] = tick.get("gap", 80.0) + 3.7 + 2.25
        tracks["length_m"], tracks["width_m"], tracks["age_ticks"] = 4.5, 1.8, 9
        scene = Scene(
            frame_id=i,
            mono_ns=i * TICK_NS,
            tracks=tracks,
            embedding=np.zeros(0, np.float32),
            uncertainty_ratio=tick.get("doubt", 0.1),
            fresh=not math.isnan(tick.get("doubt", 0.1)),
        )
        ego = EgoState(
            mono_ns=i * TICK_NS,
            x_m=0,
            y_m=0,
            yaw_rad=0,
            speed_mps=10.0,
            accel_mps2=tick.get("accel", 0.0),
        )
        timing = StageTiming(
            frame_id=i,
            release_mono_ns=0,
            stage_us={},
            total_us=int(tick.get("took_us", 100)),
            rung="full",
        )
        obs = Observation(frame=FrameSet(frame_id=i, mono_ns=i * TICK_NS), ego=ego)
        events = triggers.evaluate(obs, scene, None, None, timing)
        assert all(e.frame_id == i and e.campaign_id == "c" for e in events)
        out += [e.frame_id for e in events]
    return out


def test_measured_hard_braking_fires() -> None:
    spec = TriggerSpec(name="b", kind="hard_brake", threshold=3.5)
    assert fired(spec, [{"accel": a} for a in (0, -3.4, -3.5, -6, 0)]) == [2]


def test_a_short_time_to_collision_fires() -> None:
    spec = TriggerSpec(name="t", kind="ttc", threshold=1.5, min_interval_s=0.0)
    assert fired(spec, [{"gap": g} for g in (40, 20, 16, 14, 12)]) == [3, 4]


def test_doubt_must_last_for_its_hold_time() -> None:
    spec = TriggerSpec(name="u", kind="uncertainty", threshold=0.6, hold_s=0.3)
    short = [{"doubt": d} for d in (0.7, 0.7, 0.7, 0.1, 0.7, 0.7)]
    assert fired(spec, short) == []
    assert fired(spec, [{"doubt": 0.7}] * 6) == [3]


def test_a_frame_the_network_did_not_see_is_no_doubt_of_it() -> None:
    spec = TriggerSpec(name="u", kind="uncertainty", threshold=0.6)
    assert fired(spec, [{"doubt": math.nan}] * 3) == []


def test_quiet_time_passes_before_it_fires_again() -> None:
    spec = TriggerSpec(name="b", kind="hard_brake", threshold=3.0, min_interval_s=1.0)
    assert fired(spec, [{"accel": -4.0}] * 25) == [0, 10, 20]


def test_late_ticks_are_counted_in_a_row() -> None:
    spec = TriggerSpec(name="d", kind="deadline_miss", threshold=2.0)
    took = [20_000, 100, 20_000, 20_000, 100]
    assert fired(spec, [{"took_us": t} for t in took]) == [3]


def test_nothing_is_known_without_ego_motion_or_scene() -> None:
    specs = tuple(
        TriggerSpec(name=k, kind=k, threshold=0.0) for k in ("hard_brake", "ttc", "uncertainty")
    )
    triggers = Triggers(Campaign(campaign_id="c", triggers=specs), rate_hz=10.0)
    timing = StageTiming(frame_id=0, release_mono_ns=0, stage_us={}, total_us=1, rung="full")
    obs = Observation(frame=FrameSet(frame_id=0, mono_ns=0))
    assert triggers.evaluate(obs, None, None, None, timing) == ()
