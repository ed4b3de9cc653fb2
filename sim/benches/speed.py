"""How fast the proving ground is: a tick of cameras, the whole closed loop, a town, its memory."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from sim.rivals.cases import Case
from sim.run.episode import Episode
from sim.town.world import build_town
from vehicle import bundles
from vehicle.clock import SystemClock
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.scenario import Scenario

Told = Callable[[float], None]

TICK_MS: Final = 17.8
SKIES: Final = (("day", "clear"), ("night", "clear"), ("day", "rain"), ("night", "rain"))
LOOPS: Final = ((36.0, 10.0, 1.0), (10.0, 30.0, 4.0))
"""Ticks per second, seconds driven, least real-time factor."""

MEMORY_MB: Final = 500.0
TOWN_S: Final = 1.0
_REACH_M: Final = 130.0

_CHILD: Final = """
import json, re, sys, time
from pathlib import Path
from sim.rivals.cases import Case
from sim.rivals.jobs import driven
from sim.rivals.peers import Car
from vehicle.config import RIG_R
from vehicle.contracts import wire
case = wire.from_plain(Case, json.loads(sys.argv[1]))
world, car = case.open(RIG_R), Car(Path(sys.argv[2]), case.scenario.rate_hz)
drive = driven(world, car, "measured")
for _ in range(10):
    next(drive)
ticks, late = 0, []
wall, cpu = time.perf_counter(), time.process_time()
for _, _, late_s in drive:
    world.snapshot()
    ticks, late = ticks + 1, [*late, late_s]
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
car.close()
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps({"ticks": ticks, "wall_s": wall, "cpu_s": cpu, "peak_mb": peak / 1024,
                  "late_ms": [x * 1e3 for x in late]}))
"""  # not ru_maxrss: that survives exec, and would count the process that asks


def camera_rows(bench: Bench, frames: int, progress: Told) -> None:
    """Measure an 8-camera tick by day, by night and in rain, on one core."""
    clock = SystemClock()
    for number, (light, weather) in enumerate(SKIES):
        episode = Episode(town=101, seed=7, light=light, weather=weather)
        taken, near = [], []
        for i in range(frames + 5):
            begin_ns = clock.mono_ns()
            episode.observe()
            taken.append((clock.mono_ns() - begin_ns) * 1e-6)
            near.append(_near(episode))
            episode.step(None)
            progress((number + i / (frames + 5)) / len(SKIES))
        sky = light if weather == "clear" else f"{light}, {weather}"
        row = {"row": f"8-camera tick, rig R, {sky}", "ms": percentiles(taken[5:])}
        bench.rows.append({**row, "actors_within_130_m": int(np.median(near))})
        bench.must.append(
            Must(
                figure=f"render tick p50, {sky}",
                value=round(float(np.median(taken[5:])), 2),
                op="<=",
                limit=TICK_MS,
                unit="ms",
                n=frames,
                peer="prototype of the research note: 17.8 ms (60 actors, larger pictures)",
            )
        )


def _near(episode: Episode) -> int:
    table, m = episode.actors.table, episode.motion
    return int((np.hypot(table["x_m"] - m.x_m, table["y_m"] - m.y_m) < _REACH_M).sum())


def loop_rows(bench: Bench, bundle: Path | None, progress: Told) -> None:
    """Measure the whole closed loop in a process of its own: world, cameras, car with network."""
    folder = str(bundle or bundles.base_folder())
    for number, (rate_hz, seconds, least) in enumerate(LOOPS):
        progress(number / len(LOOPS))
        found = _drive_in_child(rate_hz, seconds, folder)
        driven_s, n = found["ticks"] / rate_hz, int(found["ticks"])
        factor = round(driven_s / found["wall_s"], 2)
        bench.rows.append(
            {
                "row": f"closed loop with perception, {rate_hz:g} Hz, one process",
                "real_time_factor": factor,
                "per_cpu_second": round(driven_s / found["cpu_s"], 2),
                "tick_ms": round(1e3 * found["wall_s"] / n, 2),
                "car_ms": percentiles(found["late_ms"]),
                "n": n,
            }
        )
        bench.must.append(
            Must(
                figure=f"closed loop at {rate_hz:g} Hz, real-time factor",
                value=factor, op=">=", limit=least, unit="x", n=n,
            )
        )  # fmt: skip
    peak_mb = round(found["peak_mb"], 1)
    bench.must.append(
        Must(
            figure="memory of one episode with its car, peak",
            value=peak_mb, op="<=", limit=MEMORY_MB, unit="MB", n=1,
        )
    )  # fmt: skip


def _drive_in_child(rate_hz: float, seconds: float, bundle: str) -> dict:  # type: ignore[type-arg]
    from vehicle.contracts import wire

    scenario = Scenario(town=101, seed=7, rate_hz=rate_hz, duration_s=seconds)
    case = Case(name="bench", group="bench", scenario=scenario, seconds=seconds)
    words = [sys.executable, "-c", _CHILD, wire.canonical(wire.to_plain(case)).decode(), bundle]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def town_rows(bench: Bench, towns: int = 20) -> None:
    """Measure building towns, compiled code warm."""
    clock, taken = SystemClock(), []
    for number in range(towns + 1):
        begin_ns = clock.mono_ns()
        build_town.__wrapped__(200 + number)
        taken.append((clock.mono_ns() - begin_ns) * 1e-9)
    taken = taken[1:]
    bench.rows.append({"row": "town build", "s": percentiles(taken)})
    bench.must.append(
        Must(
            figure="town build, slowest", value=round(max(taken), 3), op="<=", limit=TOWN_S,
            unit="s", n=len(taken),
        )
    )  # fmt: skip
