"""`roadloop bench loop`: the whole in-car loop on schedule, with everything beside it, and faults.

Latency counts from the scheduled release of a frame to its command, so that queueing shows.
"""

import gc
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from sim.benches.bench_load import loaded_car
from sim.benches.loop_faults import Fault, make_fault, windows
from sim.run.episode import Episode
from vehicle import bundles
from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.config import RIG_R
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.plan import RUNGS
from vehicle.contracts.telemetry import STAGE_BUDGET_US, TICK_BUDGET_US, Health
from vehicle.contracts.tick import Tick
from vehicle.drive import Drive
from vehicle.engine import Engine
from vehicle.engine_choice import EngineChoice, choose_for
from vehicle.preprocess import Preprocessor
from vehicle.processes import Car
from vehicle.realtime import in_words, ordinary, prepare
from vehicle.route import RouteWriter
from vehicle.stolen import Stolen

Told = Callable[[float], None]

FRAME_RATE_HZ: Final = 36.0
FRAMES: Final = 10_000
LONG_FRAMES: Final = 100_000
DISTINCT_FRAMES: Final = 120
WARM_UP_FRAMES: Final = 72
"""Two seconds driven on schedule before counting: pages are touched, compiled code is loaded."""

BARE_FRAMES: Final = 1_500
MEMORY_MB: Final = 600
WORST: Final = 3

LOAD: Final = Campaign(
    campaign_id="bench",
    triggers=(
        TriggerSpec(
            name="always",
            kind="uncertainty",
            threshold=0.0,
            pre_s=1.0,
            post_s=2.0,
            min_interval_s=8.0,
        ),
    ),
)
"""Three seconds of every eight become a clip: the recorder encodes and the uplink sends."""


@dataclass(slots=True)
class _Run:
    """What a measured drive left."""

    ticks: list[Tick] = field(default_factory=list)
    times_wrong: int = 0
    restarts: int = 0
    stolen_ms: float = 0.0
    late_and_stolen: int = 0


def rendered(count: int, light: str = "day", family: str = "town_drive") -> list[Observation]:
    """Return observations of a drive, so that the loop sees real pictures and traffic."""
    episode, out = Episode(town=101, seed=7, light=light, family=family), []
    for _ in range(count):
        out.append(episode.observe())
        episode.step(None)
    return out


def loop_bench(
    *,
    frames: int,
    progress: Told,
    bundle: Path | None,
    fifo: bool = True,
    fault: str = "",
    long: bool = False,
) -> Bench:
    """Measure the loop with recorder, shadow and uplink beside it.

    Args:
        frames: counted ticks.
        progress: told the share that is done, 0..1.
        bundle: what drives; None: the base.
        fifo: ask for the real-time class.
        fault: one of sim.benches.loop_faults.FAULTS, done over and over.
        long: 100,000 frames instead.
    Raises:
        UnknownFaultError; all errors of `loaded_car`.
    """
    bench, clock = Bench(name="loop"), SystemClock()
    folder = bundle or bundles.base_folder()
    seen = rendered(DISTINCT_FRAMES)
    engine = choose_for(folder)
    count = LONG_FRAMES if long else frames
    with TemporaryDirectory() as scratch:
        tags = {"source": "bench", **engine.metadata()}
        with loaded_car(Path(scratch), folder, FRAME_RATE_HZ, LOAD, tags) as car:
            drive = Drive(
                car_id="bench",
                route_id="bench",
                rig=RIG_R,
                bundle=folder,
                campaigns=(LOAD,),
                budget=Budget(enforce=True, clock=clock),
                sinks=(car,),
                rate_hz=FRAME_RATE_HZ,
                engine=engine,
                shadow=car.disagreement,
            )
            wrong = make_fault(fault, drive, car)
            granted = prepare(fifo=fifo)
            try:
                run = _run(drive, seen, count, clock, progress, wrong)
                bare_ms = _bare_ms(folder, engine, seen, min(count, BARE_FRAMES), clock, car)
            finally:
                _let_go()
            drive.close()
            parts = car.health()
    _rows(bench, run, granted, engine, fault)
    _health_rows(bench, [drive.sight.health, drive.pilot.health, *parts.values()])
    peer = f"peer: bare run of the same model, same frames, same {FRAME_RATE_HZ:g} Hz, same load"
    bench.rows.append({"row": peer, "ms": percentiles(bare_ms)})
    _musts(bench, run, fifo=fifo)
    if not fault:
        _overhead(bench, run, float(np.median(bare_ms)))
        _memory(bench, folder)
    return bench


def _run(
    drive: Drive,
    seen: list[Observation],
    frames: int,
    clock: SystemClock,
    progress: Told,
    fault: Fault,
) -> _Run:
    period_ns = round(1e9 / FRAME_RATE_HZ)
    start_ns, run = clock.mono_ns() + period_ns, _Run()
    turns = list(windows(frames, FRAME_RATE_HZ))
    begins, ends = {a: s for a, _, s in turns}, {b for _, b, _ in turns}
    spoilt, stolen = False, Stolen()
    for number in range(frames + WARM_UP_FRAMES):
        i = number - WARM_UP_FRAMES
        if i in begins:
            fault.begin(begins[i])
            spoilt, run.times_wrong = True, run.times_wrong + 1
        elif i in ends and spoilt:
            fault.end()
            spoilt = False
        release_ns = start_ns + number * period_ns
        observation = observation_of(seen, number, release_ns)
        if spoilt:
            observation = replace(observation, frame=fault.spoil(observation.frame))
        clock.sleep_until(release_ns)
        tick = drive.tick(observation, release_mono_ns=release_ns)
        taken_ms = stolen.since_last_ms()
        if i >= 0:
            run.ticks.append(tick)
            run.late_and_stolen += tick.timing.missed and taken_ms > 0.0
        if tick.timing.rung == "mrm" and not spoilt and tick.scene is not None and tick.scene.fresh:
            drive.sight.restart()  # the person that UN R157 asks for
            drive.pilot.restart()
            run.restarts += 1
        if number % 100 == 0:
            progress(0.9 * number / frames)
    fault.end()
    run.stolen_ms = stolen.whole_ms()
    return run


def observation_of(seen: list[Observation], number: int, release_ns: int) -> Observation:
    """Return frame `number` of a drive that goes to and fro over `seen`, exposed at its release."""
    source = seen[_to_and_fro(number, len(seen))]
    return Observation(
        frame=FrameSet(frame_id=len(seen) + number, mono_ns=release_ns, images=source.frame.images),
        ego=replace(source.ego, mono_ns=release_ns) if source.ego else None,
        guidance=source.guidance,
    )


def _to_and_fro(i: int, n: int) -> int:
    """Return 0..n-1..0..: a drive played forth and back has no jump that would flatter or fail."""
    phase = i % (2 * n - 2)
    return phase if phase < n else 2 * n - 2 - phase


def _bare_ms(
    folder: Path,
    choice: EngineChoice,
    seen: list[Observation],
    runs: int,
    clock: SystemClock,
    car: Car,
) -> np.ndarray:
    """Return what the network alone takes; the others get every frame as before."""
    taken = []
    with Engine(folder / bundles.MODEL, choice.threads, choice.runtime) as engine:
        preprocess = Preprocessor(RIG_R, RIG_R)
        more = {
            s.name: np.zeros(s.shape, s.dtype)
            for s in engine.inputs
            if s.name not in ("front", "side")
        }
        period_ns, begin_ns = round(1e9 / FRAME_RATE_HZ), clock.mono_ns() + 10_000_000
        for i in range(runs):
            release_ns = begin_ns + i * period_ns
            observation = observation_of(seen, 1_000_000 + i, release_ns)
            inputs = {**preprocess(observation.frame), **more}
            clock.sleep_until(release_ns)
            start_ns = clock.mono_ns()
            engine.run(inputs, None)
            taken.append((clock.mono_ns() - start_ns) * 1e-6)
            car.publish(observation, None)
    return np.array(taken)


def _let_go() -> None:
    """Be an ordinary process again: what follows is no loop."""
    ordinary()
    gc.enable()
    gc.unfreeze()


def _rows(
    bench: Bench, run: _Run, granted: dict[str, str], engine: EngineChoice, fault: str
) -> None:
    ticks = run.ticks
    total = [t.timing.total_us * 1e-3 for t in ticks]
    bench.rows.append({"row": "tick, release to command", "ms": percentiles(total)})
    for stage, budget_us in STAGE_BUDGET_US.items():
        taken = [t.timing.stage_us[stage] * 1e-3 for t in ticks if stage in t.timing.stage_us]
        bench.rows.append(
            {"row": f"stage {stage}", "ms": percentiles(taken), "budget_ms": budget_us * 1e-3}
        )
    for tick in sorted(ticks, key=lambda t: -t.timing.total_us)[:WORST]:
        t = tick.timing
        bench.rows.append(
            {
                "row": f"one of the worst ticks, frame {t.frame_id}",
                "total_us": t.total_us,
                "rung": t.rung,
                "cancelled": t.cancelled,
                **t.stage_us,
            }
        )
    counts = Counter(t.timing.rung for t in ticks)
    bench.rows.append({"row": "rungs", **{rung: counts[rung] for rung in RUNGS}})
    bench.rows.append({"row": "cancelled inferences", "n": sum(t.timing.cancelled for t in ticks)})
    bench.rows.append({"row": "real-time class", "words": in_words(granted), **granted})
    bench.rows.append({"row": "engine", **engine.metadata()})
    bench.rows.append(
        {
            "row": "taken by the host (steal)",
            "ms": round(run.stolen_ms),
            "late_ticks_meanwhile": run.late_and_stolen,
        }
    )
    if fault:
        bench.rows.append(
            {
                "row": f"fault {fault}",
                "times": run.times_wrong,
                "restarts_after_mrm": run.restarts,
            }
        )


def _health_rows(bench: Bench, parts: list[Health]) -> None:
    for health in parts:
        bench.rows.append(
            {
                "row": f"health of {health.part}",
                "ok": health.ok,
                **health.counters,
                "last": health.detail,
            }
        )


def _musts(bench: Bench, run: _Run, *, fifo: bool) -> None:
    total_ms = np.array([t.timing.total_us for t in run.ticks]) * 1e-3
    measured, n = percentiles(total_ms), len(run.ticks)
    limit_ms, peer = TICK_BUDGET_US * 1e-3, "" if fifo else "without SCHED_FIFO: best effort"

    def must(figure: str, value: Any, op: Any, limit: float, unit: str) -> None:
        bench.must.append(
            Must(figure=figure, value=value, op=op, limit=limit, unit=unit, n=n, peer=peer)
        )

    for name in ("p99", "p99.9", "max"):
        must(f"tick {name}", measured.get(name), "<=", limit_ms, "ms")
    must("missed frames", float(sum(t.timing.missed for t in run.ticks)), "==", 0, "frames")
    in_time = sum(t.command is not None and not t.timing.missed for t in run.ticks) / max(n, 1)
    must("ticks answered in time", in_time, "==", 1.0, "ratio")


def _overhead(bench: Bench, run: _Run, bare_ms: float) -> None:
    loop_ms = float(np.median([t.timing.total_us for t in run.ticks])) * 1e-3
    bench.must.append(
        Must(
            figure="loop p50 (limit: the larger of 1.35 x the bare p50 and 1.2 ms above it)",
            value=round(loop_ms, 2),
            op="<=",
            limit=round(max(1.35 * bare_ms, bare_ms + 1.2), 2),
            unit="ms",
            n=len(run.ticks),
            peer=f"bare run p50 {bare_ms:.2f} ms",
        )
    )


def _memory(bench: Bench, folder: Path) -> None:
    """Add the peak resident memory of a process that holds the car and nothing else."""
    with TemporaryDirectory() as scratch:
        route = Path(scratch) / "route.mcap"
        about = {"car_id": "bench", "route_id": "bench", "source": "simulator"}
        with RouteWriter(route, RIG_R, rate_hz=10.0, metadata=about) as writer:
            for observation in rendered(DISTINCT_FRAMES):
                writer.write(observation, None)
        code = (
            "import re, sys; from pathlib import Path; from vehicle.replay import replay; "
            "replay(Path(sys.argv[1]), bundle=Path(sys.argv[2])); "
            "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
        )  # not ru_maxrss: that survives exec, and would count this process
        words = [sys.executable, "-c", code, str(route), str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    bench.must.append(
        Must(
            figure="memory of the car process, peak",
            value=round(int(done.stdout) / 1024, 1),
            op="<=",
            limit=MEMORY_MB,
            unit="MB",
            n=1,
        )
    )
