"""`roadloop bench tiers`: the five latency tiers, each measured over a link that behaves like one.

Servers are processes, links are emulated (`sim/net/links.py`), loads are on schedule and count from
the scheduled release (`fleet/inference/loadgen.py`). A tier's p95 must lie inside its band; no
tier's absence may change the car's loop.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from fleet.inference.loadgen import Load
from sim.advice.link_cut import cut_rows, link_cut
from sim.benches.bench_loop import FRAME_RATE_HZ
from sim.tier.tier_batch import batch_rows, orbital_rows
from sim.tier.tier_failover import failover, failover_rows
from sim.tier.tier_site import SiteSetup
from sim.tier.tier_talk import talk_rows
from sim.tier.tier_works import adjudication, collective_perception, roadside_camera
from sim.tier.tiers import measure_site, must_in_band, prompt
from vehicle.contracts.bench import Bench, percentiles
from vehicle.contracts.inference import TIER_BAND_MS

Told = Callable[[float], None]

FRAMES: Final = 402
"""Requests of a tier that are counted: three phases of 134, for 133 give a p95."""

LONGER: Final = 3
"""What is compared part by part takes this many times the frames: the p95 of 134 requests over a
link with bursts of loss is a matter of luck."""

LOW_HZ: Final = 20.0
INTERACTIVE_HZ: Final = 12.0


def tiers_bench(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure the five tiers.

    Args:
        frames: counted requests of a tier, and three times as many of the interactive one; the loop
            makes about as many as that with its links there, and with all of them cut.
        progress: told the share that is done, 0..1.
        bundle: what drives; None: the base.
    """
    bench = Bench(name="tiers")
    _ultra_low(bench, frames, lambda share: progress(0.25 * share), bundle)
    done = 0.25
    with prompt() as priority:
        bench.rows.append({"row": "priority of sites and clients", "words": priority})
        for part in (_low, _interactive, _conversational, _batch):

            def told(share: float, done: float = done) -> None:
                progress(done + 0.75 / 4 * share)

            part(bench, frames, told)
            done += 0.75 / 4
    return bench


def _ultra_low(bench: Bench, frames: int, told: Told, bundle: Path | None) -> None:
    found = link_cut(LONGER * frames, told, bundle)
    ms = percentiles(found.linked_ms)
    band = TIER_BAND_MS["ultra-low"]
    bench.rows.append(
        {
            "row": "ultra-low: the car's loop, release to command",
            "ms": ms,
            "band_ms": list(band),
            "on_time_ratio": round(float(np.mean(np.array(found.linked_ms) <= band[1])), 4),
            "link": "no link",
            "load": f"constant, {FRAME_RATE_HZ:g} Hz",
        }
    )
    long = "roadloop bench loop judges p99.9 and the slowest of 10,000"
    bench.must.append(must_in_band("ultra-low", ms, peer=long))
    cut_rows(bench, found)


def _low(bench: Bench, frames: int, told: Told) -> None:
    work = collective_perception()
    setup = SiteSetup(name="edge-1", context="edge", jurisdiction="DE", models=(work.model,))
    load = Load(rate_hz=LOW_HZ, count=frames, warm_up=int(LOW_HZ))
    rows = measure_site(
        work, setup, "5g-sa", load, told, beside=roadside_camera, peer_count=max(frames // 3, 10)
    )
    bench.rows += rows
    bench.must.append(must_in_band("low", rows[0]["ms"], peer=_peer(rows[1])))


def _interactive(bench: Bench, frames: int, told: Told) -> None:
    work = adjudication()
    load = Load(rate_hz=INTERACTIVE_HZ, count=LONGER * frames, warm_up=int(3 * INTERACTIVE_HZ))
    failover_rows(bench, work, failover(work, "lte", load, told), "lte")


def _conversational(bench: Bench, frames: int, told: Told) -> None:
    talk_rows(bench, max(frames // 3, 2), told)


def _batch(bench: Bench, frames: int, told: Told) -> None:
    batch_rows(bench, max(frames // 2, 10), told)
    orbital_rows(bench)


def _peer(row: Mapping[str, Any]) -> str:
    return f"{row['row'].removeprefix('peer: ')}: p95 {row['ms'].get('p95')} ms"
