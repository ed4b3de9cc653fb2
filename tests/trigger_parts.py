"""Constructed ticks, and what the parts of the trigger stage make of them."""

import math
from typing import Any

import numpy as np

from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.ego import DriverInput, EgoState
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.plan import RUNGS, Plan, Trajectory
from vehicle.contracts.scene import TRACK, Scene
from vehicle.contracts.telemetry import StageTiming
from vehicle.lookout import Lookout

TICK_NS = 100_000_000
FRONT_M = 3.7


def scene_of(i: int, tick: dict[str, Any]) -> Scene | None:
    """Return a scene of one car ahead, `gap` metres before the bumper; ids and `lost` as given."""
    if tick.get("blind"):
        return None
    ids = tick.get("ids", (7,))
    tracks = np.zeros(len(ids), TRACK)
    tracks["track_id"] = ids
    tracks["x_m"] = tick.get("gap", 80.0) + FRONT_M + 2.25
    tracks["vx_mps"] = tick.get("their_speed", 0.0)
    tracks["length_m"], tracks["width_m"], tracks["age_ticks"] = 4.5, 1.8, 9
    tracks["coasted_ticks"] = [int(n in tick.get("lost", ())) for n in ids]
    doubt = tick.get("doubt", 0.1)
    return Scene(
        frame_id=i,
        mono_ns=i * TICK_NS,
        tracks=tracks,
        embedding=np.array(tick.get("embedding", ()), np.float32),
        uncertainty_ratio=doubt,
        fresh=not math.isnan(doubt),
    )


def plan_of(i: int, tick: dict[str, Any]) -> Plan:
    """Return a plan straight ahead at `planned` m/s, for 4 s."""
    t_s = np.arange(41) * 0.1
    states = np.zeros((41, 7))
    states[:, 0], states[:, 1] = t_s, tick.get("planned", 10.0) * t_s
    return Plan(
        frame_id=i,
        mono_ns=i * TICK_NS,
        trajectory=Trajectory(states=states),
        rung=tick.get("rung", "full"),
        proposal="lane",
        scores={},
    )


def observed(i: int, tick: dict[str, Any]) -> Observation:
    """Return an observation of a car that drives along x at 10 m/s unless told otherwise."""
    engaged = tick.get("engaged")
    ego = EgoState(
        mono_ns=i * TICK_NS,
        x_m=i * 0.1 * tick.get("drove", 10.0),
        y_m=0.0,
        yaw_rad=0.0,
        speed_mps=10.0,
        accel_mps2=tick.get("accel", 0.0),
        yaw_rate_radps=tick.get("yaw_rate", 0.0),
    )
    driver = None
    if engaged is not None:
        driver = DriverInput(engaged=engaged, bookmark=tick.get("bookmark", False))
    return Observation(
        frame=FrameSet(frame_id=i, mono_ns=i * TICK_NS),
        ego=None if tick.get("lame") else ego,
        driver=driver,
    )


def timed(i: int, tick: dict[str, Any]) -> StageTiming:
    """Return a timing of `took_us` on `rung`."""
    rung = tick.get("rung", "full")
    assert rung in RUNGS
    return StageTiming(
        frame_id=i, release_mono_ns=0, stage_us={}, total_us=tick.get("took_us", 100), rung=rung
    )


class Ticks:
    """One car's trigger stage over constructed ticks."""

    def __init__(self, *campaigns: Campaign, scores: dict[int, float] | None = None) -> None:
        self._frame = 0
        self._scores = scores or {}
        self.lookout = Lookout(
            car_id="car-1", route_id="r", campaigns=campaigns, rate_hz=10.0, shadow=self._score
        )

    def _score(self) -> tuple[float, int]:
        known = [i for i in self._scores if i <= self._frame]
        return (self._scores[known[-1]], known[-1]) if known else (math.nan, -1)

    def run(self, ticks: list[dict[str, Any]]) -> list[tuple[dict[str, float], tuple[Any, ...]]]:
        """Return signals and events of each tick."""
        out = []
        for i, tick in enumerate(ticks):
            self._frame = i
            plan = None if tick.get("planless") else plan_of(i, tick)
            seen, took = scene_of(i, tick), timed(i, tick)
            out.append(self.lookout.notice(observed(i, tick), seen, plan, None, took))
        return out


def fired(
    spec: TriggerSpec, ticks: list[dict[str, Any]], scores: dict[int, float] | None = None,
    **campaign: Any,
) -> list[int]:  # fmt: skip
    """Return the frames at which `spec` fires."""
    made = Campaign(campaign_id="c", triggers=(spec,), **campaign)
    events = [e for _, found in Ticks(made, scores=scores).run(ticks) for e in found]
    assert all(e.trigger == spec.name and e.campaign_id == "c" for e in events)
    return [e.frame_id for e in events]


def signal(name: str, ticks: list[dict[str, Any]], **campaign: Any) -> list[float | None]:
    """Return one signal over the ticks, None where it is unknown."""
    made = Campaign(campaign_id="c", triggers=(), **campaign)
    return [signals.get(name) for signals, _ in Ticks(made).run(ticks)]
