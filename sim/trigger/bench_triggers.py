"""The trigger stage, measured: how long 64 triggers take, and how often each family is right."""

import gc
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from sim.rivals.compare import wilson
from sim.trigger.tree_walk import Past, past_of, value
from sim.trigger.trigger_trials import RATE_HZ, TRIALS, Drove, Kept, drive_trial, known_embeddings
from sim.trigger.trigger_truth import FAMILY_TRIGGERS, NEARLY, THRESHOLD, Score
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.campaign import FAMILIES, Campaign, TriggerSpec
from vehicle.contracts.scene import KINDS
from vehicle.contracts.telemetry import STAGE_BUDGET_US
from vehicle.lookout import Lookout
from vehicle.signals import Signals

FRAMES: Final = 8_840
"""Ticks driven, shared out over the trials; the 99.9th percentile asks for 6,636."""

PEER_FRAMES: Final = 700
WORKERS: Final = 2
KNOWN: Final = 250
WARM_UP: Final = 20


def _mined() -> tuple[str, ...]:
    """Return 49 expressions as a fleet engineer writes them: tracks, windows, sequences."""
    near = [f"tracks(kind == '{k}' and range_m < 15) >= 1 and speed_mps > 5" for k in KINDS[:8]]
    ahead = [f"nearest(kind == '{k}' and abs(y_m) < 2 and x_m > 0) < 8" for k in KINDS[:6]]
    new = [f"appears(kind == '{k}' and range_m < 20) >= 1" for k in KINDS[:6]]
    after = [
        f"rises(tracks(range_m < {r}) >= 1) then accel_mps2 <= -3 within 2 s"
        for r in (8, 10, 12, 15, 20, 25)
    ]
    doubt = [f"held(uncertainty_ratio > {u}, 1) and speed_mps > 3" for u in (0.5, 0.6, 0.7, 0.8)]
    loose = [f"highest(flicker_ratio, 3) > {f} and average(speed_mps, 5) > 5" for f in (0.3, 0.5)]
    rare = [f"lowest(ttc_s, 2) < {t} and change(speed_mps, 2) < -3" for t in (0.8, 1, 1.5, 2)]
    jerk = [f"abs(jerk_mps3) > {j} and not seen(accel_mps2 < -1, 2)" for j in (4, 6, 9)]
    cuts = [
        f"tracks(x_m > 0 and abs(y_m) < 1.5 and vx_mps < {v}) >= 1 and rss_margin_m < 2"
        for v in (1, 3, 5, 8)
    ]
    late = [f"times(rises(missed >= 1), 30) >= {n} or rung == 'hold_plan'" for n in (2, 3)]
    gaps = [f"human_gap_m > {g} and not limited_by == '' and engaged < 1" for g in (1, 2, 3, 4)]
    return (*near, *ahead, *new, *after, *doubt, *loose, *rare, *jerk, *cuts, *late, *gaps)


def campaign_of_64() -> Campaign:
    """Return the campaign that is timed: every family, and 49 expressions of its own."""
    own = (
        TriggerSpec(name=f"own{i}", kind="expression", when=when) for i, when in enumerate(_mined())
    )
    return Campaign(
        campaign_id="timed", triggers=(*FAMILY_TRIGGERS.triggers, *own), max_clips_per_hour=3_600.0
    )


def triggers_bench(
    *, frames: int, progress: Callable[[float], None], bundle: Path | None = None
) -> Bench:
    """Drive the trials, time the stage over their ticks, compare every family with the truth.

    Args:
        frames: ticks in all.
        bundle: plays no part: the shipped network drives.
    """
    bench = Bench(name="triggers")
    ticks = max(5, round(frames / len(TRIALS)))
    known = known_embeddings(min(KNOWN, frames))
    progress(0.05)
    drives = _drive_all(ticks, known, lambda share: progress(0.05 + 0.75 * share))
    kept = [drove.ticks for drove in drives]
    _time_rows(bench, kept, known)
    progress(0.9)
    _peer_row(bench, kept)
    for family in FAMILIES:
        bench.rows.append(_family_row(family, drives))
    progress(1.0)
    return bench


def _drive_all(
    ticks: int, known: tuple[tuple[float, ...], ...], progress: Callable[[float], None]
) -> list[Drove]:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        going = [pool.submit(drive_trial, trial, ticks, known) for trial in TRIALS]
        drives = []
        for done, one in enumerate(going, start=1):
            drives.append(one.result())
            progress(done / len(going))
    return drives


def _time_rows(bench: Bench, kept: list[list[Kept]], known: Any) -> None:
    """Time the whole stage and its two parts over every tick, the collector off as in the car."""
    campaign = campaign_of_64()
    stage, signals, triggers = list[float](), list[float](), list[float]()
    clock = time.perf_counter_ns
    gc.collect()
    gc.disable()
    try:
        for ticks in kept:
            lookout = Lookout(
                car_id="c", route_id="r", campaigns=(campaign,), rate_hz=RATE_HZ,
                shadow=lambda: (0.25, 0),
            )  # fmt: skip
            parts = Signals(car_id="c", route_id="r", rate_hz=RATE_HZ, known=known)
            for i, k in enumerate(ticks):
                frame = k.obs.frame
                a = clock()
                values = parts.of(k.obs, k.scene, k.plan, k.command, k.timing)
                b = clock()
                lookout.triggers.evaluate(values, k.scene, frame.frame_id, frame.mono_ns)
                c = clock()
                if i >= min(WARM_UP, len(ticks) // 2):
                    signals.append((b - a) / 1e3)
                    triggers.append((c - b) / 1e3)
                    stage.append((c - a) / 1e3)
    finally:
        gc.enable()
    for name, took in (("stage", stage), ("signals", signals), ("64 triggers", triggers)):
        bench.rows.append({"row": f"{name}, us a tick", **percentiles(took)})
    whole = percentiles(stage)
    bench.must.append(
        Must(
            figure="signals and 64 triggers, 99.9th percentile", value=_float(whole.get("p99.9")),
            op="<=", limit=float(STAGE_BUDGET_US["trigger"]), unit="us", n=len(stage),
            peer=f"64 triggers alone: {percentiles(triggers).get('p99.9')} us",
        )
    )  # fmt: skip


def _peer_row(bench: Bench, kept: list[list[Kept]]) -> None:
    """Time the plain reading of the same 64 expressions: the tree walked anew on each tick."""
    patterns = [spec.pattern for spec in campaign_of_64().triggers]
    took: list[float] = []
    for ticks in kept:
        signals = Signals(car_id="c", route_id="r", rate_hz=RATE_HZ)
        past: list[Past] = []
        for k in ticks[: max(1, PEER_FRAMES // len(kept))]:
            values = signals.of(k.obs, k.scene, k.plan, k.command, k.timing)
            past.append(past_of(values, k.scene, k.obs.frame.mono_ns))
            begun = time.perf_counter_ns()
            for pattern in patterns:
                value(pattern.steps[-1], past)
            took.append((time.perf_counter_ns() - begun) / 1e3)
    bench.rows.append({"row": "peer: the tree walked on each tick, us", **percentiles(took)})


def _family_row(family: str, drives: list[Drove]) -> dict[str, Any]:
    score = Score()
    if family == "random":
        return _random_row(drives)
    for drove in drives:
        if family in drove.truth_s:
            fired_s, truth_s = drove.fired_s.get(family, []), drove.truth_s[family]
            score.add(fired_s, truth_s, drove.seconds, drove.truth_s.get(family + NEARLY))
    return score.row(family)


def _random_row(drives: list[Drove]) -> dict[str, Any]:
    """Return how often the control group's draw came, against how often it should."""
    drawn = ticks = 0
    for number, drove in enumerate(drives):
        signals = Signals(car_id="trial", route_id=str(number), rate_hz=RATE_HZ)
        for k in drove.ticks:
            values = signals.of(k.obs, None, None, None, k.timing)
            drawn, ticks = drawn + (values["random_prob"] < THRESHOLD["random"]), ticks + 1
    low, high = wilson(drawn, ticks)
    return {
        "row": "family random", "ticks": ticks, "drawn": drawn,
        "share": round(drawn / ticks, 4), "share_95": [round(low, 4), round(high, 4)],
        "asked": THRESHOLD["random"],
    }  # fmt: skip


def _float(value: float | int | None) -> float | None:
    return None if value is None else float(value)
