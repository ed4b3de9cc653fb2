"""A route file through the same loop as the car's, bit for bit, as fast as the machine can."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from vehicle.budget import Budget
from vehicle.clock import Clock, SystemClock
from vehicle.config import VehicleConfig
from vehicle.contracts.bench import percentiles
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign
from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.frame import Observation
from vehicle.contracts.tick import Sink, Tick
from vehicle.contracts.wire import RefusedError
from vehicle.drive import Drive
from vehicle.sources import RouteSource, Source

Speed = Literal["max"] | float


class ReplaySpeedError(RefusedError):
    """A speed that is neither "max" nor a positive factor of real time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay did.

    Args:
        planned: ticks that had ego motion, and so a plan and a command.
        plan_digest: sha256 over the digests of all plans in order, "" without a plan; the same on
            every run at speed "max".
        scene_digest: sha256 over all tracks in order, "" without a scene.
        rungs, limited_by, triggers: how often each.
        timing_us: percentiles per stage, and of the whole tick under "tick".
        missed: ticks over the deadline; only counts at a real speed.
        parts: which parts drove, and why others did not.
        health: of the loop: how perception answered, what failed, and the last fault in words.
        real_time_ratio: route seconds per wall second.
    """

    SCHEMA: ClassVar[str] = "replay/1"
    route: str
    car_id: str
    route_id: str
    source: str
    speed: str
    ticks: int
    planned: int
    plan_digest: str
    scene_digest: str
    rungs: dict[str, int]
    limited_by: dict[str, int]
    triggers: dict[str, int]
    events: tuple[TriggerEvent, ...]
    timing_us: dict[str, dict[str, float | int]]
    missed: int
    cancelled: int
    parts: dict[str, str]
    health: dict[str, int]
    fault: str
    seconds: float
    real_time_ratio: float


@dataclass(slots=True)
class _Tally:
    """Counts ticks as they come."""

    ticks: int = 0
    planned: int = 0
    missed: int = 0
    cancelled: int = 0
    plans: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    scenes: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    scene_count: int = 0
    rungs: Counter[str] = field(default_factory=Counter)
    limited: Counter[str] = field(default_factory=Counter)
    events: list[TriggerEvent] = field(default_factory=list)
    took_us: dict[str, list[float]] = field(default_factory=dict)
    span_ns: list[int] = field(default_factory=list)

    def take(self, obs: Observation, tick: Tick) -> None:
        self.ticks += 1
        self.span_ns = [*self.span_ns[:1], obs.frame.mono_ns]
        self.missed += tick.timing.missed
        self.cancelled += tick.timing.cancelled
        if tick.plan is not None:
            self.planned += 1
            self.plans.update(tick.plan.digest().encode())
        if tick.scene is not None:
            self.scene_count += 1
            self.scenes.update(tick.scene.tracks.tobytes())
        self.rungs[tick.timing.rung] += 1
        if tick.command is not None:
            self.limited.update(tick.command.limited_by)
        self.events += tick.events
        for stage, took in (*tick.timing.stage_us.items(), ("tick", tick.timing.total_us)):
            self.took_us.setdefault(stage, []).append(took)

    @property
    def route_s(self) -> float:
        return (self.span_ns[-1] - self.span_ns[0]) * 1e-9 if len(self.span_ns) > 1 else 0.0


def replay(
    route: Path | Source,
    *,
    bundle: Path | None,
    speed: Speed = "max",
    campaigns: Sequence[Campaign] = (DEFAULT_CAMPAIGN,),
    sinks: tuple[Sink, ...] = (),
    clock: Clock | None = None,
    adapt: bool = False,
    config: VehicleConfig | None = None,
    on_tick: Callable[[Observation, Tick], None] | None = None,
) -> ReplayReport:
    """Drive a recorded route again and return what happened.

    Args:
        route: a route file or an opened source.
        bundle: the network to perceive with; not opened when the route has no cameras.
        speed: "max" runs tick after tick, cuts nothing off and is deterministic; a number is a
            factor of real time: frames are released on schedule and late inference is cancelled.
        campaigns: their triggers are evaluated.
        sinks: told of every tick; those that can `settle` do so between ticks.
        clock: of this process.
        adapt: perceive through other cameras than the bundle's.
        on_tick: told of every tick after the sinks.
    Raises:
        ReplaySpeedError, and all errors of RouteReader and Perception.
    """
    factor = _factor(speed)
    clock = clock or SystemClock()
    source = route if not isinstance(route, Path) else RouteSource(route)
    about = source.metadata
    drive = Drive(
        car_id=about.get("car_id", ""),
        route_id=about.get("route_id", ""),
        rig=source.rig,
        bundle=bundle,
        campaigns=campaigns,
        budget=Budget(enforce=factor is not None, clock=clock),
        sinks=sinks,
        adapt=adapt,
        config=config,
        rate_hz=source.rate_hz,
    )
    tally = _Tally()
    start_ns = clock.mono_ns()
    try:
        for obs in source:
            release_ns = None
            if factor is not None:
                if not tally.span_ns:  # the first frame is decoded: the schedule begins
                    tally.span_ns, start_ns = [obs.frame.mono_ns], clock.mono_ns()
                release_ns = start_ns + int((obs.frame.mono_ns - tally.span_ns[0]) / factor)
                clock.sleep_until(release_ns)
            tally.span_ns = tally.span_ns or [obs.frame.mono_ns]
            tick = drive.tick(obs, release_ns)
            tally.take(obs, tick)
            for sink in sinks:
                getattr(sink, "settle", _nothing)()
            if on_tick is not None:
                on_tick(obs, tick)
    finally:
        drive.close()
    name = str(route) if isinstance(route, Path) else about.get("route_id", "")
    return _report(name, about, str(speed), tally, drive, (clock.mono_ns() - start_ns) * 1e-9)


def _nothing() -> None:
    return None


def _factor(speed: Speed) -> float | None:
    if speed == "max":
        return None
    if not isinstance(speed, int | float) or not 0.0 < speed <= 100.0:
        raise ReplaySpeedError(f"speed is {speed!r}, expected max or a factor in 0..100")
    return float(speed)


def _report(
    name: str,
    about: Mapping[str, str],
    speed: str,
    tally: _Tally,
    drive: Drive,
    seconds: float,
) -> ReplayReport:
    health = drive.pilot.joined(drive.sight.health)
    return ReplayReport(
        route=name,
        car_id=drive.car_id,
        route_id=drive.route_id,
        source=about.get("source", ""),
        speed=speed,
        ticks=tally.ticks,
        planned=tally.planned,
        plan_digest=tally.plans.hexdigest() if tally.planned else "",
        scene_digest=tally.scenes.hexdigest() if tally.scene_count else "",
        rungs=dict(tally.rungs),
        limited_by=dict(tally.limited),
        triggers=dict(Counter(e.trigger for e in tally.events)),
        events=tuple(tally.events),
        timing_us={stage: percentiles(took) for stage, took in tally.took_us.items()},
        missed=tally.missed if speed != "max" else 0,
        cancelled=tally.cancelled,
        parts=dict(drive.parts),
        health=dict(health.counters),
        fault=health.detail if drive.sight.state == "drives" else drive.pilot.health.detail,
        seconds=round(seconds, 3),
        real_time_ratio=round(tally.route_s / seconds, 3) if seconds > 0 else 0.0,
    )
