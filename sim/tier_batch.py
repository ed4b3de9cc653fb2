"""The batch tier: frames judged for later, where only the sum counts, and what each costs."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fleet.inference import loadgen_mlperf
from fleet.inference.client import AsyncClient
from fleet.inference.energy import PROCESSORS
from fleet.inference.loadgen_mlperf import LoadGenResult
from sim.links import Link
from sim.tier_site import SiteSetup, running_site
from sim.tier_works import adjudication
from sim.tiers import carried, link_words
from vehicle.contracts.bench import Bench

Told = Callable[[float], None]

AT_ONCE: Final = 4
"""Questions on their way side by side: enough that the site never waits for the link."""

PROCESSOR: Final = "server-core"


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


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has spent, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
