"""The frame loop on the clock: frames released on schedule, the other processes beside it.

What a car's computer runs. Between two frames nothing is waited for but the next release; a source
that cannot keep up loses frames, as a camera would, and they are counted.
"""

import math
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from vehicle import bundles
from vehicle.bookmark import Bell, listening
from vehicle.budget import Budget
from vehicle.clock import Clock, SystemClock
from vehicle.contracts.bench import percentiles
from vehicle.contracts.frame import Observation
from vehicle.contracts.telemetry import Health, StageTiming
from vehicle.contracts.tick import Tick
from vehicle.contracts.wire import RefusedError
from vehicle.drive import Drive
from vehicle.engine_choice import choose_for
from vehicle.processes import Car, CarSetup
from vehicle.realtime import in_words, prepare
from vehicle.sources import Source
from vehicle.stolen import Stolen

WARM_UP_TICKS: Final = 36
"""Driven like all others, and left out of the percentiles: pages are touched, code is loaded."""

WORST: Final = 5
AFTER_COMMAND: Final = ("trigger", "publish")


class NothingToDriveError(RefusedError, ValueError):
    """The source has no frame, or no time to drive was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadOptions:
    """How a drive runs.

    Args:
        rate_hz: frames per second; None as the source says.
        seconds: how long; the source begins again when it ends. None: once through the source.
        real_time: ask for the real-time class; without it the loop is an ordinary process.
        adapt: see through other cameras than the bundle's.
        parent: process that must be there; the drive ends after it.
    """

    rate_hz: float | None = None
    seconds: float | None = None
    real_time: bool = True
    adapt: bool = True
    parent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadReport:
    """What a drive did.

    Args:
        frames_lost: the source was not ready in time; no tick was made for them.
        tick_ms: percentiles of release to command.
        missed: ticks over the deadline, cancelled: inferences cut off, after warm-up.
        unanswered: ticks with ego motion and without a command.
        stolen_ms: what the host of a virtual machine took of our cores meanwhile; missed_stolen:
            late ticks in which it took some.
        worst: of the slowest ticks: frame, total_us, and where it went by stage; "before" is how
            late the tick began.
        punctuality: in words, what could be had of the real-time class.
        engine: in words, what runs the network and why.
        disagreement: the shadow's last score, None without one.
        parts: last health of each process.
        stopped: ended by ctrl-C or SIGTERM before its time.
    """

    SCHEMA: ClassVar[str] = "road/1"
    car_id: str
    route_id: str
    ticks: int
    frames_lost: int
    seconds: float
    tick_ms: dict[str, float | int]
    missed: int
    cancelled: int
    unanswered: int
    stolen_ms: float
    missed_stolen: int
    rungs: dict[str, int]
    events: dict[str, int]
    worst: tuple[dict[str, int], ...]
    punctuality: str
    engine: str
    disagreement: float | None
    parts: dict[str, Health]
    stopped: bool = False


@dataclass(slots=True)
class _Tally:
    """Counts ticks as they come."""

    ticks: int = 0
    lost: int = 0
    missed: int = 0
    cancelled: int = 0
    unanswered: int = 0
    stolen_ms: float = 0.0
    missed_stolen: int = 0
    rungs: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    total_us: list[int] = field(default_factory=list)
    worst: list[dict[str, int]] = field(default_factory=list)

    def take(self, tick: Tick, moving: bool, stolen_ms: float) -> None:
        self.ticks += 1
        self.stolen_ms += stolen_ms
        self.rungs[tick.timing.rung] += 1
        self.events.update(e.trigger for e in tick.events)
        self.unanswered += moving and tick.command is None
        if self.ticks > WARM_UP_TICKS:
            self.total_us.append(tick.timing.total_us)
            self._rank(tick.timing)
            self.missed += tick.timing.missed
            self.missed_stolen += tick.timing.missed and stolen_ms > 0.0
            self.cancelled += tick.timing.cancelled

    def _rank(self, timing: StageTiming) -> None:
        if len(self.worst) == WORST and timing.total_us <= self.worst[-1]["total_us"]:
            return
        shown = {s: us for s, us in timing.stage_us.items() if s not in AFTER_COMMAND}
        before = max(0, timing.total_us - sum(shown.values()))
        row = {"frame_id": timing.frame_id, "total_us": timing.total_us, "before": before, **shown}
        self.worst = sorted([*self.worst, row], key=lambda r: -r["total_us"])[:WORST]

    @property
    def note(self) -> dict[str, Any]:
        counts = {"ticks": self.ticks, "frames_lost": self.lost, "missed": self.missed}
        counts |= {"cancelled": self.cancelled, "unanswered": self.unanswered}
        return {**counts, **{f"rung_{name}": n for name, n in self.rungs.items()}}


def drive_on_road(
    source: Source,
    setup: CarSetup,
    bundle: Path,
    options: RoadOptions,
    clock: Clock | None = None,
    told: Callable[[str], None] = lambda words: None,
) -> RoadReport:
    """Drive a source at its frame rate with recorder, shadow and uplink beside the loop.

    Args:
        source: where frames come from. One that has `answer` is told of every tick, between
            ticks: a simulator moves its world on.
        setup: the processes; its rig and rate are the source's.
        bundle: the network that drives.
        options: see RoadOptions.
        told: before the first tick, in words: what could be had of the real-time class, and what
            runs the network.
    Raises:
        NothingToDriveError, CarStartError, and all errors of Drive.
    """
    clock = clock or SystemClock()
    has_eyes = source.rig is not None and bool(source.rig.cameras)
    engine = choose_for(bundle) if has_eyes else None
    words = engine.words if engine else "no cameras, no network"
    rate_hz = options.rate_hz or source.rate_hz
    setup = replace(
        setup,
        rig=source.rig,
        rate_hz=rate_hz,
        model=bundles.load(bundle).tag if has_eyes else "none",
        tags={**setup.tags, **(engine.metadata() if engine else {})},
    )
    stopped = False
    with Car(setup, clock) as car:
        drive = Drive(
            car_id=setup.car_id,
            route_id=setup.route_id,
            rig=source.rig,
            bundle=bundle,
            campaigns=setup.campaigns,
            budget=Budget(enforce=True, clock=clock),
            sinks=(car,),
            adapt=options.adapt,
            rate_hz=rate_hz,
            engine=engine,
            shadow=car.disagreement if setup.shadow is not None else None,
            offboard=car.advice(),
        )
        granted = prepare(fifo=options.real_time)
        punctuality, tally, began_ns = in_words(granted), _Tally(), clock.mono_ns()
        left_out = (f"{n}: {why}" for n, why in drive.parts.items() if n.startswith("campaign "))
        told("; ".join((punctuality, words, *left_out)))
        try:
            with _stoppable(), listening() as bell:
                _loop(drive, car, source, options, rate_hz, clock, tally, punctuality, bell)
        except KeyboardInterrupt:
            stopped = True
        _tell(car, drive, tally, punctuality)
        drove_s = round((clock.mono_ns() - began_ns) * 1e-9, 3)
        drive.close()
        parts, score = car.close(), car.disagreement()[0]
    return RoadReport(
        car_id=setup.car_id,
        route_id=setup.route_id,
        ticks=tally.ticks,
        frames_lost=tally.lost,
        seconds=drove_s,
        tick_ms=percentiles([us * 1e-3 for us in tally.total_us]),
        missed=tally.missed,
        cancelled=tally.cancelled,
        unanswered=tally.unanswered,
        stolen_ms=tally.stolen_ms,
        missed_stolen=tally.missed_stolen,
        rungs=dict(tally.rungs),
        events=dict(tally.events),
        worst=tuple(tally.worst),
        punctuality=punctuality,
        engine=words,
        disagreement=score if math.isfinite(score) else None,
        parts=parts,
        stopped=stopped,
    )


def _loop(
    drive: Drive,
    car: Car,
    source: Source,
    options: RoadOptions,
    rate_hz: float,
    clock: Clock,
    tally: _Tally,
    punctuality: str,
    bell: Bell,
) -> None:
    period_ns = round(1e9 / rate_hz)
    frames = _frames(source, forever=options.seconds is not None)
    answer: Callable[[Tick], None] | None = getattr(source, "answer", None)
    found = next(frames, None)  # the first frame is decoded: the schedule begins
    start_ns, number = clock.mono_ns() + period_ns, 0
    end = None if options.seconds is None else max(1, round(options.seconds * rate_hz))
    if found is None:
        raise NothingToDriveError("the source has no frame to drive on")
    stolen, a_second = Stolen(), max(1, round(rate_hz))
    while found is not None and (end is None or number < end):
        release_ns = start_ns + number * period_ns
        clock.sleep_until(release_ns)
        obs = bell.heard_by(_stamped(found, number, release_ns))
        tick = drive.tick(obs, release_ns)
        tally.take(tick, obs.ego is not None, stolen.since_last_ms())
        if (tally.ticks - 1) % a_second == 0:
            _tell(car, drive, tally, punctuality)
            if options.parent not in (None, os.getppid()):
                raise KeyboardInterrupt
        if answer is not None:
            answer(tick)
        found = next(frames, None)
        newest = (clock.mono_ns() - start_ns) // period_ns  # a camera keeps no queue
        newest = newest if end is None else min(newest, end)
        tally.lost += max(0, newest - number - 1)
        number = max(number + 1, newest)


def _tell(car: Car, drive: Drive, tally: _Tally, punctuality: str) -> None:
    """Leave the loop's own health for the others to show."""
    health = drive.pilot.joined(drive.sight.health)
    facts = {**tally.note, "pid": os.getpid(), "words": punctuality}
    car.tell(**facts, ok=health.ok, detail=health.detail)


def _frames(source: Source, *, forever: bool) -> Iterator[Observation]:
    """Yield the source's observations, again from its start when there is time left."""
    while True:
        some = False
        for observation in source:
            some = True
            yield observation
        if not (forever and some):
            return


def _stamped(obs: Observation, number: int, release_ns: int) -> Observation:
    """Return a frame as if it was exposed now, as number `number` of this drive."""
    frame = replace(obs.frame, frame_id=number, mono_ns=release_ns)
    ego = replace(obs.ego, mono_ns=release_ns) if obs.ego is not None else None
    traffic = obs.traffic
    if traffic is not None:
        traffic = replace(traffic, frame_id=number, mono_ns=release_ns)
    return replace(obs, frame=frame, ego=ego, traffic=traffic)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and the first ctrl-C end the loop; further ones do not hurt its end."""

    def stop(number: int, frame: object) -> None:
        ignore()
        raise KeyboardInterrupt

    def ignore() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals go elsewhere
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    yield
    ignore()
