"""The bench of the planner: how long a plan takes, and how it drives beside others, on truth."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from sim.rivals.cases import NO_CAMERAS, Case, cases_of, town_cases
from sim.rivals.evaluate import evaluate
from vehicle.clock import SystemClock
from vehicle.config import VehicleConfig
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import TRACK, Scene
from vehicle.planner import Planner
from vehicle.realtime import punctual

FRAMES: Final = 7_000
TRACKS: Final = 32
BUSY: Final = ("rush_hour", "market_day", "boulevard", "roundabouts", "traffic_lights")
OURS: Final = "planner-truth"
SIMPLE: Final = ("constant-velocity", "idm", "idm-mobil")
CEILING: Final = "pdm-truth"
SEEDS: Final = 2
MOST_MS: Final = 1.5
PUBLISHED: Final = (
    {"row": "peer, published: PDM-Closed", "ms": 91.0, "source": "tuplan_garage, README, Val14"},
    {"row": "peer, published: PDM-Open", "ms": 7.0, "source": "tuplan_garage, README, Val14"},
    {"row": "peer, published: IDM", "ms": 27.0, "source": "tuplan_garage, README, Val14"},
    {
        "row": "peer, published: Frenetix, 800 trajectories", "ms": 8.0,
        "source": "Trauth et al., arXiv 2402.01443",
    },
)  # fmt: skip
"""Milliseconds a cycle, each on its authors' machine."""

Seen = list[tuple[Scene, Observation]]


def planner_bench(*, frames: int, progress: Callable[[float], None], bundle: Path | None) -> Bench:
    """Measure plan time over busy scenes, and closed-loop scores beside four other drivers.

    Recorded scenes are left out, and nothing about them holds, where ROADLOOP_DATA is not at hand.

    Args:
        frames: plans that are timed. bundle: plays no part: all are told the truth.
    """
    bench = Bench(name="planner")
    scenes = busy_scenes(min(200, max(frames // 5, 20)))
    progress(0.1)
    wall, cpu, proposals = _timed(scenes, frames)
    bench.rows.append(
        {
            "row": f"a plan, {TRACKS} road users of busy streets", "proposals": proposals,
            "steps": 41, "ms": percentiles(wall), "cpu_ms": percentiles(cpu),
        }
    )  # fmt: skip
    hard, hard_cpu, _ = _timed(_crossed(scenes), max(frames // 4, 20))
    bench.rows.append(
        {
            "row": f"a plan, the same with {TRACKS} of them crossing the way ahead",
            "ms": percentiles(hard), "cpu_ms": percentiles(hard_cpu),
        }
    )  # fmt: skip
    bench.rows += [dict(row) for row in PUBLISHED]
    progress(0.2)
    if frames >= FRAMES:
        _drive(bench, lambda share: progress(0.2 + 0.8 * share))
    p99 = percentiles(wall).get("p99")
    bench.must.append(
        Must(
            figure="plan time p99", value=None if p99 is None else float(p99), op="<=",
            limit=MOST_MS, unit="ms", n=len(wall), peer="PDM-Closed 91 ms, Frenetix 8 ms published",
        )
    )  # fmt: skip
    return bench


def busy_scenes(ticks: int) -> Seen:
    """Return what the planner is given in busy streets, the TRACKS nearest road users of each."""
    from sim.rivals.jobs import driven
    from sim.rivals.subjects import subject_of

    seen: Seen = []
    for case in town_cases(BUSY, seeds=1, seconds=ticks / 10.0):
        world, driver = case.open(NO_CAMERAS), subject_of(OURS).open(None, 10.0)
        for obs, act, _ in driven(world, driver, 0.002, case.seconds):
            scene = act.tick.scene if act.tick is not None else None
            if scene is not None:
                seen.append((replace(scene, tracks=_nearest(scene.tracks)), obs))
        driver.close()
    return seen


def _nearest(tracks: np.ndarray) -> np.ndarray:
    away = np.hypot(tracks["x_m"], tracks["y_m"])
    near = tracks[np.argsort(away, kind="stable")[:TRACKS]]
    more = np.zeros(TRACKS - len(near), TRACK)
    more["x_m"], more["y_m"] = 20.0 + np.arange(len(more)) * 2.0, 6.0
    more["length_m"], more["width_m"], more["height_m"] = 4.5, 1.8, 1.5
    more["track_id"], more["age_ticks"] = 2_000_000 + np.arange(len(more)), 100
    return np.concatenate([near, more])


def _crossed(scenes: Seen) -> Seen:
    """Return the scenes with everybody driving across the way ahead: nobody can be left out."""
    out: Seen = []
    for scene, obs in scenes:
        tracks = scene.tracks.copy()
        n = np.arange(len(tracks))
        tracks["x_m"], tracks["y_m"] = 8.0 + 1.2 * n, np.where(n % 2, -6.0, 6.0)
        tracks["vx_mps"], tracks["vy_mps"] = 0.0, np.where(n % 2, 3.5, -3.5)
        tracks["yaw_rad"] = np.where(n % 2, np.pi / 2, -np.pi / 2)
        out.append((replace(scene, tracks=tracks), obs))
    return out


def _timed(scenes: Seen, frames: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return wall and CPU milliseconds of each plan, on one core, and how many proposals it had."""
    clock, planner = SystemClock(), Planner(VehicleConfig())
    before: Plan | None = None
    cores = os.sched_getaffinity(0)
    wall, cpu = np.zeros(frames), np.zeros(frames)
    with suppress(OSError):
        os.sched_setaffinity(0, {max(cores)})
    try:
        with punctual():
            for i in range(frames):
                scene, obs = scenes[i % len(scenes)]
                begin, begin_cpu = clock.mono_ns(), time.thread_time_ns()
                before = planner.plan(scene, obs, before, "full")
                wall[i], cpu[i] = clock.mono_ns() - begin, time.thread_time_ns() - begin_cpu
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, cores)
    return wall * 1e-6, cpu * 1e-6, planner.proposals


def _recorded() -> Sequence[Case]:
    data = Path(os.environ.get("ROADLOOP_DATA") or "../shared/data")
    folders = [data / name for name in ("scenes-nuscenes", "commonroad")]
    here = [folder for folder in folders if folder.is_dir()]
    return cases_of("none", here, seeds=1, seconds=20.0) if here else ()


def _drive(bench: Bench, progress: Callable[[float], None]) -> None:
    """Let everybody drive every family and every recorded scene; add a row for each."""
    subjects = (*SIMPLE, CEILING, OURS)
    cases = [*cases_of("all", [], seeds=SEEDS, seconds=20.0), *_recorded()]
    with TemporaryDirectory() as scratch:
        verdict = evaluate(
            subjects, cases, Path(scratch), latency=0.002, workers=1,
            progress=lambda done, total, name: progress(done / max(total, 1)),
        )  # fmt: skip
    scores: dict[str, dict[str, list[float]]] = {}
    for result in verdict.results:
        if result["scores"]:
            each = scores.setdefault(result["group"], {})
            each.setdefault(result["subject"], []).append(float(result["scores"]["epdms"]))
    for group, each in scores.items():
        row: dict[str, Any] = {"row": group, "n": len(each.get(OURS, []))}
        bench.rows.append(row | {name: round(float(np.mean(v)), 4) for name, v in each.items()})
    _musts(bench, scores)


def _musts(bench: Bench, scores: dict[str, dict[str, list[float]]]) -> None:
    whole = {
        name: float(np.mean([x for each in scores.values() for x in each.get(name, [])]))
        for name in (*SIMPLE, CEILING, OURS)
    }
    n = sum(len(each.get(OURS, [])) for each in scores.values())
    for peer in SIMPLE:
        above = [np.mean(each[OURS]) > np.mean(each[peer]) for each in scores.values()]
        bench.must.append(
            Must(
                figure=f"families with EPDMS-style above {peer}",
                value=round(float(np.mean(above)), 4), op=">=", limit=1.0, unit="ratio",
                n=len(above), peer=f"{peer} {whole[peer]:.3f}, ours {whole[OURS]:.3f}",
            )
        )  # fmt: skip
    bench.must.append(
        Must(
            figure=f"EPDMS-style, less {CEILING}'s",
            value=round(whole[OURS] - whole[CEILING], 4), op=">=", limit=0.0, unit="score", n=n,
            peer=f"{CEILING} {whole[CEILING]:.3f}, ours {whole[OURS]:.3f}",
        )
    )  # fmt: skip
