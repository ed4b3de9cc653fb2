"""`roadloop bench advice`: what advice is worth, and that no advice does harm.

Two suites, both with the car's own tracker, planner, controller and envelope in undrawn towns, and
advice a tenth of a second old. In the first somebody hides whom others see. In the second, families
of the everyday and of the long tail are driven with nobody to ask, with the truth, and with lies.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.advice.advisors import ADVISERS, AdvisedCar
from sim.advice.occluded import FAMILY, STEPS_OUT_S, WALKS_MPS, Passed, passed, start
from sim.rivals.cases import NO_CAMERAS, Case, town_cases
from sim.rivals.jobs import record
from sim.score.epdms import progress_m
from sim.score.faults import contacts
from sim.score.history import history_of
from vehicle.contracts.bench import Bench, Must

SEEDS: Final = 2
SECONDS: Final = 20.0
FAMILIES: Final = (
    *("town_drive", "jaywalker", "school_run", "rush_hour"),
    *("child_runs_out", "jaywalk_truck", "cut_in", "red_runner"),
)
DELAYS_S: Final = (0.1, 0.3)
ALONE: Final = "nobody"

Told = Callable[[float], None]


def advice_bench(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure advice in closed loop; nothing is timed, so the load of the machine does not matter.

    Args:
        frames: seeds of each start.
        progress: told the share that is done.
        bundle: plays no part: what is in sight is seen.
    """
    bench = Bench(name="advice")
    _occluded(bench, frames, lambda share: progress(0.4 * share))
    _harm(bench, frames, lambda share: progress(0.4 + 0.6 * share))
    return bench


def _occluded(bench: Bench, seeds: int, progress: Told) -> None:
    starts = [start(n, out, v) for n in range(seeds) for out in STEPS_OUT_S for v in WALKS_MPS]
    ways = [(ALONE, None, 0.0), *((f"told, {d:g} s old", ADVISERS["true"], d) for d in DELAYS_S)]
    found: dict[str, list[Passed]] = {}
    for number, (words, adviser, delay_s) in enumerate(ways):
        runs = found.setdefault(words, [])
        for done, scenario in enumerate(starts):
            runs.append(passed(scenario, adviser, delay_s))
            progress((number + (done + 1) / len(starts)) / len(ways))
        bench.rows.append({"row": f"occluded pedestrian ({FAMILY}), {words}", **_passings(runs)})
    alone = found[ALONE]
    for words, runs in found.items():
        if words == ALONE:
            continue
        worse = [_hit(r) > _hit(a) for r, a in zip(runs, alone, strict=True)]
        better = [_hit(r) < _hit(a) for r, a in zip(runs, alone, strict=True)]
        row = {"row": f"pair by pair, {words}", "softer": sum(better), "harder": sum(worse)}
        bench.rows.append(row)
    told = found["told, 0.1 s old"]
    for figure, of in (("contacts", _contacts), ("sum of contact speeds squared", _energy)):
        bench.must.append(
            Must(
                figure=f"occluded pedestrian, told 0.1 s old: {figure}", value=of(told), op="<=",
                limit=of(alone), unit="", n=len(starts), peer=f"the same car, told nothing: "
                f"{of(alone):g}",
            )
        )  # fmt: skip


def _hit(run: Passed) -> float:
    return -1.0 if run.contact_mps is None else run.contact_mps


def _contacts(runs: Sequence[Passed]) -> float:
    return float(sum(r.contact_mps is not None for r in runs))


def _energy(runs: Sequence[Passed]) -> float:
    return round(sum((r.contact_mps or 0.0) ** 2 for r in runs), 2)


def _passings(runs: Sequence[Passed]) -> dict[str, Any]:
    hits = [r.contact_mps for r in runs if r.contact_mps is not None]
    return {
        "n": len(runs),
        "contacts": len(hits),
        "contact_mps_mean": round(float(np.mean(hits)), 2) if hits else None,
        "least_gap_m_p50": round(float(np.median([r.least_gap_m for r in runs])), 2),
        "in_sight_mps_p50": round(float(np.nanmedian([r.in_sight_mps for r in runs])), 2),
        "hardest_brake_mps2_p50": round(float(np.median([r.hardest_brake_mps2 for r in runs])), 2),
        "emergency_brakes": sum(r.hardest_brake_mps2 > 5.0 for r in runs),
        "heeded_ticks": sum(r.heeded for r in runs),
        "seconds_to_be_past_p50": round(float(np.median([r.seconds for r in runs])), 2),
    }


def _harm(bench: Bench, seeds: int, progress: Told) -> None:
    cases = town_cases(FAMILIES, seeds=seeds, seconds=SECONDS)
    names = (ALONE, *ADVISERS)
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
    for done, case in enumerate(cases):
        for n, name in enumerate(names):
            found[name].append(_drive(case, name))
            progress((done + (n + 1) / len(names)) / len(cases))
    alone = found[ALONE]
    whole_m = sum(way for _, way in alone)
    for name, runs in found.items():
        pairs = list(zip(runs, alone, strict=True))
        bench.rows.append(
            {
                "row": f"{len(FAMILIES)} families, advised by: {name}",
                "n": len(runs),
                "at_fault": sum(faults for faults, _ in runs),
                "episodes_with_more": sum(r[0] > a[0] for r, a in pairs),
                "episodes_with_fewer": sum(r[0] < a[0] for r, a in pairs),
                "progress_ratio": round(sum(way for _, way in runs) / whole_m, 3),
            }
        )
        if name != ALONE:
            bench.must.append(
                Must(
                    figure=f"at-fault contacts, advised by: {name}",
                    value=float(sum(faults for faults, _ in runs)), op="<=",
                    limit=float(sum(faults for faults, _ in alone)), unit="contacts",
                    n=len(runs), peer="the same car, told nothing",
                )
            )  # fmt: skip


def _drive(case: Case, name: str) -> tuple[int, float]:
    """Return at-fault contacts and the metres of progress of one drive."""
    world = case.open(NO_CAMERAS)
    with AdvisedCar(world, ADVISERS.get(name)) as car:
        history = history_of(record(world, car, 0.0, case.seconds)[0])
    return sum(c.at_fault for c in contacts(history)), progress_m(history)
