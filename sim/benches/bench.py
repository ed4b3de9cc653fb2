"""Benches that span packages; what must hold stands next to what measures it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from sim.benches import speed
from sim.benches.bench_loop import FRAMES as LOOP_FRAMES
from sim.benches.bench_loop import loop_bench
from sim.benches.bench_planner import FRAMES as PLANNER_FRAMES
from sim.benches.bench_planner import planner_bench
from sim.benches.bench_soak import FRAMES as SOAK_FRAMES
from sim.benches.bench_soak import soak_bench
from sim.problems.bench_commonroad import FRAMES as COMMONROAD_CYCLES
from sim.problems.bench_commonroad import commonroad_bench
from sim.tier import tier_ladder
from sim.tracking.bench_tracker import tracker_bench
from sim.trigger.bench_triggers import FRAMES as TRIGGER_FRAMES
from sim.trigger.bench_triggers import triggers_bench
from vehicle.contracts import wire
from vehicle.contracts.bench import Bench
from vehicle.contracts.wire import RefusedError

Told = Callable[[float], None]


class UnknownBenchError(RefusedError):
    """There is no bench of that name."""


def sim_bench(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure the simulator: an 8-camera tick, the whole closed loop, a town, an episode's size."""
    bench = Bench(name="sim")
    speed.town_rows(bench)
    speed.camera_rows(bench, frames, lambda share: progress(0.6 * share))
    speed.loop_rows(bench, bundle, lambda share: progress(0.6 + 0.4 * share))
    return bench


def engine_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure a bundle on every runtime and precision: time, accuracy, hard pictures."""
    from sim.benches.bench_engine import engines_bench

    return engines_bench(frames=frames, progress=progress, bundle=bundle)


def sizes_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure untrained networks of the sizes that were weighed; `bundle` plays no part."""
    from training.bench import sizes_bench

    return sizes_bench(runs=frames, progress=progress)


def uplink_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Kill recorder, uplink, gateway and ingest at random; count what became of every event."""
    from sim.benches.bench_uplink import uplink_bench

    return uplink_bench(frames=frames, progress=progress, bundle=bundle)


def clip_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure what recording costs and keeps, beside other codecs, and who opens the clips."""
    from sim.benches.bench_clip import clip_bench

    return clip_bench(frames=frames, progress=progress, bundle=bundle)


def lake_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Ask the lake and plain DuckDB the same; search by embedding beside numpy; commit, compact."""
    from sim.benches.bench_lake import lake_bench

    return lake_bench(frames=frames, progress=progress, bundle=bundle)


def similar_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Let pictures look for their own frames; rate rare weather, duplicates and novelty."""
    from sim.benches.bench_similar import similar_bench

    return similar_bench(frames=frames, progress=progress, bundle=bundle)


def scrub_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure how many of the faces and plates in sight are blurred, and what else is."""
    from sim.benches.bench_scrub import scrub_bench

    return scrub_bench(frames=frames, progress=progress, bundle=bundle)


def serving_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure what asking a site costs beside the work itself, by every wire."""
    from sim.benches.bench_serving import serving_bench

    return serving_bench(frames=frames, progress=progress, bundle=bundle)


def hyperscale_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Ask a Ray Serve cluster and a plain site the same; label and embed clips."""
    from sim.benches.bench_hyperscale import hyperscale_bench

    return hyperscale_bench(frames=frames, progress=progress, bundle=bundle)


def router_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Choose where to ask by the router and by simple rules, over the same requests and links."""
    from sim.choice.bench_router import router_bench

    return router_bench(frames=frames, progress=progress, bundle=bundle)


def links_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure the emulator of links by itself: delay, rate, loss, punctuality."""
    from sim.net.bench_links import links_bench

    return links_bench(frames=frames, progress=progress, bundle=bundle)


def explain_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Explain decisions of families no explainer was trained on; ask a site, many at once."""
    from sim.why.bench_explain import explain_bench

    return explain_bench(frames=frames, progress=progress, bundle=bundle)


def advice_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Drive past somebody hidden, told and not; drive every family with the truth and with lies."""
    from sim.advice.bench_advice import advice_bench

    return advice_bench(frames=frames, progress=progress, bundle=bundle)


def tiers_row(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure the five latency tiers over emulated links, all links cut, and a killed region."""
    from sim.tier.bench_tiers import tiers_bench

    return tiers_bench(frames=frames, progress=progress, bundle=bundle)


BENCHES: dict[str, tuple[Callable[..., Bench], int]] = {
    "sim": (sim_bench, 200),
    "engine": (engine_row, 700),
    "tracker": (tracker_bench, 2_000),
    "planner": (planner_bench, PLANNER_FRAMES),
    "commonroad": (commonroad_bench, COMMONROAD_CYCLES),
    "network-sizes": (sizes_row, 150),
    "loop": (loop_bench, LOOP_FRAMES),
    "triggers": (triggers_bench, TRIGGER_FRAMES),
    "clip": (clip_row, 720),
    "uplink": (uplink_row, 200),
    "lake": (lake_row, 10_000_000),
    "scrub": (scrub_row, 700),
    "similar": (similar_row, 1_500),
    "serving": (serving_row, 1_000),
    "hyperscale": (hyperscale_row, 700),
    "links": (links_row, 1_000),
    "tiers": (tiers_row, 402),
    "advice": (advice_row, 2),
    "router": (router_row, 240),
    "explain": (explain_row, 30),
    "soak": (soak_bench, SOAK_FRAMES),
}
"""Name -> how it is measured, and its usual sample count."""

ONLY_BY_NAME = ("soak",)
"""Not part of "all": half an hour each."""


def run(
    name: str,
    *,
    frames: int | None,
    bundle: Path | None,
    page: Path | None,
    as_json: bool,
    loop: dict[str, Any] | None = None,
) -> None:
    """Measure `name` (or all), print it, and keep a page where one is asked for.

    Args:
        loop: further options of `loop_bench`.
    Raises:
        UnknownBenchError: names the ones there are.
    """
    if name != "all" and name not in BENCHES:
        raise UnknownBenchError(f"bench {name!r} is unknown; there are: all, {', '.join(BENCHES)}")
    console = Console(stderr=as_json)
    reports = []
    everyday = tuple(b for b in BENCHES if b not in ONLY_BY_NAME)
    for each in everyday if name == "all" else (name,):
        measure, usual = BENCHES[each]
        # no thread of the bar's own: it would hold the interpreter's lock in the middle of a tick
        with Progress(console=console, transient=True, auto_refresh=False) as bar:
            row = bar.add_task(f"bench {each}", total=1.0)
            options = {"frames": frames or usual, "bundle": bundle}
            options |= (loop or {}) if each == "loop" else {}

            def tell(share: float, bar: Progress = bar, row: Any = row) -> None:
                bar.update(row, completed=share, refresh=True)

            made = measure(progress=tell, **options)
        reports.append(made.report())
    if as_json:
        print(json.dumps(reports[0] if len(reports) == 1 else reports))
    else:
        console.print("\n".join(text(r) for r in reports), highlight=False)
        for report in reports:
            if report["bench"] == "tiers":
                console.print(tier_ladder.table(report))
    if page is not None and page.suffix == ".svg":
        ladders = [tier_ladder.svg(r) for r in reports if r["bench"] == "tiers"]
        wire.atomic_write(page, "".join(ladders).encode())
    elif page is not None:
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
