"""Benches that span packages; what must hold stands next to what measures it."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from sim import speed
from sim.bench_tracker import tracker_bench
from sim.episode import Episode
from vehicle import bundles
from vehicle.bench import engine_bench
from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.telemetry import STAGE_BUDGET_US, TICK_BUDGET_US
from vehicle.contracts.tick import Tick
from vehicle.contracts.wire import RefusedError
from vehicle.drive import Drive
from vehicle.engine import Engine
from vehicle.preprocess import Preprocessor
from vehicle.realtime import prepare
from vehicle.recorder import Recorder
from vehicle.route import RouteWriter

Told = Callable[[float], None]


class UnknownBenchError(RefusedError):
    """There is no bench of that name."""


FRAME_RATE_HZ = 36.0
DISTINCT_FRAMES = 120
WARM_UP_FRAMES = 72
"""Two seconds driven on schedule before counting: pages are touched, compiled code is loaded."""


def rendered(count: int, light: str = "day") -> list[Observation]:
    """Return observations of a town drive, so that the loop sees real pictures and traffic."""
    episode, out = Episode(town=101, seed=7, light=light), []
    for _ in range(count):
        out.append(episode.observe())
        episode.step(None)
    return out


def loop_bench(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure the whole in-car loop, frames released on schedule, recorder running beside it.

    Latency counts from the scheduled release of a frame to its command, so that queueing shows.
    """
    bench, clock = Bench(name="loop"), SystemClock()
    folder = bundle or bundles.base_folder()
    seen = rendered(DISTINCT_FRAMES)
    with TemporaryDirectory() as scratch:
        recorder = Recorder(
            outbox=Path(scratch),
            rig=RIG_R,
            rate_hz=FRAME_RATE_HZ,
            car_id="bench",
            route_id="bench",
            model=bundles.load(folder).tag,
            jurisdiction="ZZ",
            tags={},
            lossless=False,
        )
        drive = Drive(
            car_id="bench",
            route_id="bench",
            rig=RIG_R,
            bundle=folder,
            campaign=DEFAULT_CAMPAIGN,
            budget=Budget(enforce=True, clock=clock),
            sinks=(recorder,),
            rate_hz=FRAME_RATE_HZ,
        )
        granted = prepare()
        ticks = _run(drive, seen, frames + WARM_UP_FRAMES, clock, progress)[WARM_UP_FRAMES:]
        drive.close()
        recorder.close()
    _loop_rows(bench, ticks, granted)
    bare_ms = _bare_ms(folder, seen, min(frames, 1_500))
    peer = f"peer: bare session.run, same frames, same {FRAME_RATE_HZ:g} Hz"
    bench.rows.append({"row": peer, "ms": percentiles(bare_ms)})
    total_ms = np.array([t.timing.total_us for t in ticks]) * 1e-3
    _loop_musts(bench, total_ms, ticks, float(np.median(bare_ms)))
    memory_mb = _memory_mb(folder)
    bench.must.append(
        Must(
            figure="memory of the car process, peak",
            value=memory_mb,
            op="<=",
            limit=600,
            unit="MB",
            n=1,
        )
    )
    return bench


def _run(
    drive: Drive, seen: list[Observation], frames: int, clock: SystemClock, progress: Told
) -> list[Tick]:
    period_ns = round(1e9 / FRAME_RATE_HZ)
    start_ns, ticks = clock.mono_ns() + period_ns, []
    for i in range(frames):
        release_ns = start_ns + i * period_ns
        source = seen[_to_and_fro(i, len(seen))]
        observation = Observation(
            frame=FrameSet(frame_id=len(seen) + i, mono_ns=release_ns, images=source.frame.images),
            ego=replace(source.ego, mono_ns=release_ns) if source.ego else None,
            guidance=source.guidance,
        )
        clock.sleep_until(release_ns)
        ticks.append(drive.tick(observation, release_mono_ns=release_ns))
        if i % 100 == 0:
            progress(i / frames)
    return ticks


def _to_and_fro(i: int, n: int) -> int:
    """Return 0..n-1..0..: a drive played forth and back has no jump that would flatter or fail."""
    phase = i % (2 * n - 2)
    return phase if phase < n else 2 * n - 2 - phase


def _bare_ms(folder: Path, seen: list[Observation], runs: int) -> np.ndarray:
    clock = SystemClock()
    engine = Engine(folder / "model.onnx")
    preprocess = Preprocessor(RIG_R, RIG_R)
    taken = []
    period_ns, begin_ns = round(1e9 / FRAME_RATE_HZ), clock.mono_ns()
    for i in range(runs):
        inputs = preprocess(seen[_to_and_fro(i, len(seen))].frame)
        clock.sleep_until(begin_ns + i * period_ns)
        start_ns = clock.mono_ns()
        engine.run(inputs, None)
        taken.append((clock.mono_ns() - start_ns) * 1e-6)
    engine.close()
    return np.array(taken)


def _loop_rows(bench: Bench, ticks: list[Tick], granted: dict[str, str]) -> None:
    total = [t.timing.total_us * 1e-3 for t in ticks]
    bench.rows.append({"row": "tick, release to command", "ms": percentiles(total)})
    for stage, budget_us in STAGE_BUDGET_US.items():
        taken = [t.timing.stage_us[stage] * 1e-3 for t in ticks if stage in t.timing.stage_us]
        bench.rows.append(
            {"row": f"stage {stage}", "ms": percentiles(taken), "budget_ms": budget_us * 1e-3}
        )
    bench.rows.append({"row": "rungs", **Counter(t.timing.rung for t in ticks)})
    bench.rows.append({"row": "cancelled inferences", "n": sum(t.timing.cancelled for t in ticks)})
    bench.rows.append({"row": "real-time class", **granted})


def _loop_musts(bench: Bench, total_ms: np.ndarray, ticks: list[Tick], bare_ms: float) -> None:
    measured, n = percentiles(total_ms), len(ticks)
    limit_ms = TICK_BUDGET_US * 1e-3
    for name in ("p99", "p99.9", "max"):
        value = measured.get(name)
        bench.must.append(
            Must(figure=f"tick {name}", value=value, op="<=", limit=limit_ms, unit="ms", n=n)
        )
    missed = float(sum(t.timing.missed for t in ticks))
    bench.must.append(
        Must(figure="missed frames", value=missed, op="==", limit=0, unit="frames", n=n)
    )
    answered = sum(t.command is not None for t in ticks) / max(n, 1)
    bench.must.append(
        Must(figure="ticks answered", value=answered, op="==", limit=1.0, unit="ratio", n=n)
    )
    loop_ms = float(np.median(total_ms))
    bench.must.append(
        Must(
            figure="loop p50 (limit: the larger of 1.35 x the bare p50 and 1.2 ms above it)",
            value=round(loop_ms, 2),
            op="<=",
            limit=round(max(1.35 * bare_ms, bare_ms + 1.2), 2),
            unit="ms",
            n=n,
            peer=f"bare session.run p50 {bare_ms:.2f} ms",
        )
    )


def _memory_mb(folder: Path) -> float:
    """Return the peak resident memory of a process that holds the car and nothing else."""
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
    return round(int(done.stdout) / 1024, 1)


def sim_bench(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure the simulator: an 8-camera tick, the whole closed loop, a town, an episode's size."""
    bench = Bench(name="sim")
    speed.town_rows(bench)
    speed.camera_rows(bench, frames, lambda share: progress(0.6 * share))
    speed.loop_rows(bench, bundle, lambda share: progress(0.6 + 0.4 * share))
    return bench


def engine_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure a bundle on the engine: threads, and black, white and noisy pictures."""
    return engine_bench(bundle, runs=frames, progress=progress)


def sizes_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure untrained networks of the sizes that were weighed; `bundle` plays no part."""
    from training.bench import sizes_bench

    return sizes_bench(runs=frames, progress=progress)


BENCHES: dict[str, tuple[Callable[..., Bench], int]] = {
    "sim": (sim_bench, 200),
    "engine": (engine_row, 700),
    "tracker": (tracker_bench, 2_000),
    "network-sizes": (sizes_row, 150),
    "loop": (loop_bench, 7_000),
}
"""Name -> how it is measured, and its usual sample count; loop last, for it stays real-time."""


def run(
    name: str, *, frames: int | None, bundle: Path | None, page: Path | None, as_json: bool
) -> None:
    """Measure `name` (or all), print it, and keep a page where one is asked for.

    Raises:
        UnknownBenchError: names the ones there are.
    """
    if name != "all" and name not in BENCHES:
        raise UnknownBenchError(f"bench {name!r} is unknown; there are: all, {', '.join(BENCHES)}")
    console = Console(stderr=as_json)
    reports = []
    for each in BENCHES if name == "all" else (name,):
        measure, usual = BENCHES[each]
        with Progress(console=console, transient=True) as bar:
            row = bar.add_task(f"bench {each}", total=1.0)
            options = {"frames": frames or usual, "bundle": bundle}
            made = measure(
                progress=lambda share, row=row: bar.update(row, completed=share), **options
            )
        reports.append(made.report())
    if as_json:
        print(json.dumps(reports[0] if len(reports) == 1 else reports))
    else:
        console.print("\n".join(text(r) for r in reports), highlight=False)
    if page is not None:
        wire.atomic_write(page, "\n".join(["# Benches\n", *map(text, reports)]).encode())


def text(report: dict[str, Any]) -> str:
    """Return one bench as a person reads it; also good Markdown."""
    machine = report["machine"]
    lines = [
        f"## {report['bench']}",
        f"`{report['command']}` at {report['commit']}, {machine['cores']} cores, "
        f"{machine['model']}, load {machine['load_1min']} before, "
        f"{machine['load_1min_after']} after",
        "",
    ]
    for row in report["rows"]:
        rest = {k: v for k, v in row.items() if k != "row"}
        lines.append(f"- {row['row']}: " + ", ".join(f"{k} {v}" for k, v in rest.items()))
    for must in report["must"]:
        mark = "holds" if must["holds"] else "MISSED"
        lines.append(
            f"- **{mark}** {must['figure']}: {must['value']} {must['unit']} "
            f"({must['op']} {must['limit']}, n = {must['n']}) {must['peer']}".rstrip()
        )
    return "\n".join(lines) + "\n"
