"""The batch tier: frames judged for later, where only the sum counts; clips that go by orbit.

Over the depot's Wi-Fi everything is asked for at once, as MLPerf's Offline scenario does. By a
sparse constellation nothing is measured: deliveries are computed from its contact plan.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from fleet.inference import loadgen_mlperf
from fleet.inference.client import AsyncClient
from fleet.inference.energy import PROCESSORS
from fleet.inference.loadgen import summary
from fleet.inference.loadgen_mlperf import LoadGenResult
from fleet.orbit.constellation import Declaration
from fleet.orbit.contacts import make_plan
from fleet.orbit.routing import Router, Wish
from sim.net.links import Link
from sim.tier.tier_site import SiteSetup, running_site
from sim.tier.tier_works import adjudication
from sim.tier.tiers import carried, link_words
from vehicle.contracts.bench import Bench, Must

Told = Callable[[float], None]

AT_ONCE: Final = 4
"""Questions on their way side by side: enough that the site never waits for the link."""

PROCESSOR: Final = "server-core"

START_UTC_NS: Final = 1_767_225_600 * 10**9
"""2026-01-01T00:00Z: the same plan every day."""

LIFETIME_NS: Final = 24 * 3_600 * 10**9
CLIPS_A_DAY: Final = 96
CLIP_BYTES: Final = 4_600_000
"""What the loop's bench makes of three seconds of eight cameras."""

CARS: Final = (("car-1", "ground-us", "US"), ("car-2", "ground-no", "NO"))
"""Who sends, where it lands, and under whose law both are."""


def batch_rows(bench: Bench, samples: int, told: Told) -> None:
    """Add frames per second and joules per frame of a depot's drive judged over its Wi-Fi."""
    work = adjudication(deadline_s=600.0, tier="batch")
    setup = SiteSetup(
        name="region-1", context="hyperscale", jurisdiction="DE", models=(work.model,)
    )
    with running_site(setup) as site, Link("wifi-depot", site.grpc, seed=4) as link:

        async def ask() -> tuple[LoadGenResult, float]:
            turn = asyncio.Semaphore(AT_ONCE)
            async with AsyncClient(link.address) as client:
                call, done = work.call(client), [0]

                async def one(number: int) -> Any:
                    async with turn:
                        answer = await call(number)
                    done[0] += 1
                    told(done[0] / samples)
                    return answer

                await one(0)  # the first answer is no measure of the next
                before_s = cpu_s(site.process.pid)
                found = await loadgen_mlperf.run(one, "Offline", rate_hz=20.0, count=samples)
                return found, cpu_s(site.process.pid) - before_s

        found, spent_s = asyncio.run(ask())
        joules = PROCESSORS[PROCESSOR].joules(spent_s)
        bench.rows.append(
            {
                "row": f"batch: {work.what}, {found.label}, Offline",
                "n": found.n,
                "failed": found.failed,
                "samples_per_s": round(found.per_s, 2),
                "cpu_s_per_sample": round(spent_s / found.n, 4),
                "joules_per_sample": round(joules / found.n, 3),
                "joules_source": f"modelled: CPU time x {PROCESSOR}",
                "link": link_words(link.profile),
                **carried(link.stats()),
            }
        )


def orbital_rows(bench: Bench) -> None:
    """Add when clips arrive that cars without coverage send by a sparse constellation.

    A clip every quarter of an hour for a day from each car, each by itself, within its own law.
    """
    plan = make_plan(Declaration.read("sparse"), START_UTC_NS, 48.0)
    router, took_min = Router(plan), []
    for car, station, country in CARS:
        for number in range(CLIPS_A_DAY):
            ready_ns = START_UTC_NS + number * (LIFETIME_NS // CLIPS_A_DAY)
            route = router.route(
                Wish(
                    source=car,
                    target=station,
                    ready_utc_ns=ready_ns,
                    size_bytes=CLIP_BYTES,
                    expires_utc_ns=ready_ns + LIFETIME_NS,
                    lands_in=(country,),
                )
            )
            arrive_ns = route.arrive_utc_ns - ready_ns if route else np.inf
            took_min.append(arrive_ns / 60e9)
    in_time = float(np.isfinite(took_min).mean())
    bench.rows.append(
        {
            "row": f"batch: clips of {CLIP_BYTES / 1e6:g} MB by orbit ({plan.name}), computed",
            "minutes": summary(np.array(took_min)),
            "delivered_in_time_ratio": in_time,
            "lifetime_h": LIFETIME_NS / 3_600e9,
            "link": "contact plan of a declared constellation that nobody flies; rates assumed",
        }
    )
    bench.must.append(
        Must(
            figure="batch by orbit, delivered before expiry",
            value=in_time,
            op="==",
            limit=1.0,
            unit="ratio",
            n=len(took_min),
            peer="computed from the contact plan; roadloop sim orbit sends real bundles",
        )
    )


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has spent, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
