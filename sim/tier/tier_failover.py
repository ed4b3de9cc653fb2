"""Kills the region that answers, in the middle of a load, and says what it cost whom."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from fleet.inference import loadgen
from fleet.inference.client import AsyncClient
from fleet.inference.front import Front, Place, serve_front
from fleet.inference.loadgen import Load, Outcome, Told, summary
from fleet.inference.policy import Policy
from sim.net.link_profiles import profile_of
from sim.net.links import Link
from sim.tier.tier_site import RunningSite, SiteSetup, running_site
from sim.tier.tiers import Workload, answered_by, carried, link_words, must_in_band, stages_of
from vehicle.clock import SystemClock
from vehicle.contracts.bench import Bench
from vehicle.contracts.inference import TIER_BAND_MS

REGIONS: Final = (("berlin", "DE"), ("paris", "FR"))
"""Both inside the law that the pictures stand under."""

PHASES: Final = ("before", "during", "after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """What came of a load during which a region was killed."""

    outcome: Outcome
    killed: str
    counts: dict[str, dict[str, int]]
    links: list[dict[str, Any]]

    def phases(self) -> dict[str, np.ndarray]:
        """Return latencies of the three equal parts of the load; the kill is between the first."""
        third = self.outcome.load.count // len(PHASES)
        latencies = self.outcome.latencies_ms()
        return {p: latencies[i * third : (i + 1) * third] for i, p in enumerate(PHASES)}


def failover(work: Workload, link: str, load: Load, told: Told) -> Failover:
    """Ask two regions as one, each over a link of its own, and kill the one that answers.

    Args:
        load: its counted releases are three phases of equal length: before the kill, during (from
            the kill on), and after.
    """
    with ExitStack() as stack:
        sites = [
            stack.enter_context(running_site(_setup(work, name, where))) for name, where in REGIONS
        ]
        links = [
            stack.enter_context(Link(link, site.grpc, seed=number))
            for number, site in enumerate(sites)
        ]
        outcome, killed, front = asyncio.run(_ask(work, sites, links, load, told))
        counts = {r.site.name: dict(r.counts) for r in front.regions.regions}
        stats = [carried(each.stats()) for each in links]
        return Failover(outcome=outcome, killed=killed, counts=counts, links=stats)


def _setup(work: Workload, name: str, jurisdiction: str) -> SiteSetup:
    return SiteSetup(
        name=name, context="hyperscale", jurisdiction=jurisdiction, models=(work.model,)
    )


async def _ask(
    work: Workload, sites: list[RunningSite], links: list[Link], load: Load, told: Told
) -> tuple[Outcome, str, Front]:
    places = [Place(site=s.site, address=li.address) for s, li in zip(sites, links, strict=True)]
    kill_number, killed = load.warm_up + load.count // len(PHASES), []
    async with (
        serve_front(places, policy=Policy.default()) as front,
        AsyncClient(f"127.0.0.1:{front.port}") as client,
    ):
        ask = work.call(client)

        async def ask_and_kill(number: int) -> Any:
            if number == kill_number:
                preferred = min(front.regions.regions, key=lambda r: r.quantile_s(0.5)).site.name
                killed.append(preferred)
                site = next(s for s in sites if s.site.name == preferred)
                asyncio.get_running_loop().run_in_executor(None, site.kill)
            return await ask(number)

        outcome = await loadgen.run(ask_and_kill, load, SystemClock(), told)
    return outcome, killed[0], front


def failover_rows(bench: Bench, work: Workload, found: Failover, link: str) -> None:
    """Add what the three phases were like, and what must hold in each."""
    band, profile = TIER_BAND_MS[work.tier], profile_of(link)
    load = found.outcome.load
    for phase, latencies in found.phases().items():
        ms = summary(latencies)
        bench.rows.append(
            {
                "row": f"{work.tier}: {work.what}, {phase} {found.killed} was killed",
                "ms": ms,
                "band_ms": list(band),
                "on_time_ratio": round(float((latencies <= band[1]).mean()), 4),
                "link": link_words(profile),
            }
        )
        must = must_in_band(work.tier, ms)
        bench.must.append(replace(must, figure=f"{must.figure} {phase} a region is killed"))
    bench.rows.append(
        {
            "row": f"failover: region {found.killed} killed (-9)",
            "load": f"{load.arrivals}, {load.rate_hz:g} Hz, {load.warm_up} to warm up",
            "generator_late_ms": summary(found.outcome.late_ms()),
            "stages_us": stages_of(found.outcome),
            "answered_by": answered_by(found.outcome),
            "refused": found.outcome.refusals(),
            "regions": found.counts,
            "links": found.links,
        }
    )
