"""Measures one tier: a load on schedule, over an emulated link, against a site that is a process.

A row says what ran, over which link, with how many samples; percentiles count from the scheduled
release. What was not answered counts as slower than everything.
"""

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from fleet.inference import loadgen, loadgen_mlperf
from fleet.inference.client import AsyncClient
from fleet.inference.loadgen import Load, Outcome, Told, summary
from fleet.inference.loadgen_mlperf import LoadGenResult
from fleet.inference.variants import ANSWERED_BY
from sim.net.links import Link, Profile
from sim.tier.tier_site import RunningSite, SiteSetup, running_site
from vehicle.clock import SystemClock
from vehicle.contracts.bench import MIN_SAMPLES, Must
from vehicle.contracts.inference import TIER_BAND_MS, DataClass, InferenceRequest, Tier

JURISDICTION: Final = "DE"
PRIORITY: Final = -10


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked in a tier.

    Args:
        tier: whose band counts.
        name: of the workload, as in InferenceRequest.
        what: in words.
        model: asked for by this name.
        inputs: release number -> arrays.
        data_class: what leaves the car.
        deadline_s: from the release; what would be later is refused by the site.
        car_id: who asks.
    """

    tier: Tier
    name: str
    what: str
    model: str
    inputs: Callable[[int], Mapping[str, np.ndarray]]
    data_class: DataClass
    deadline_s: float
    car_id: str = "car-1"

    def request(self) -> InferenceRequest:
        """Return a request about an input of this instant."""
        now_ns = SystemClock().utc_ns()
        return InferenceRequest(
            request_id=secrets.token_hex(16),
            tenant="home",
            car_id=self.car_id,
            workload=self.name,
            tier=self.tier,
            input_utc_ns=now_ns,
            freshness_s=self.deadline_s,
            deadline_utc_ns=now_ns + round(self.deadline_s * 1e9),
            data_class=self.data_class,
            jurisdiction=JURISDICTION,
        )

    def call(self, client: AsyncClient) -> loadgen.Call:
        """Return what a load generator calls: one question to `client`."""

        async def ask(number: int) -> Any:
            inputs = self.inputs(number)
            outputs, reply = await client.infer(
                self.model, inputs, self.request(), timeout_s=self.deadline_s + 1.0
            )
            by = outputs[ANSWERED_BY][0].decode() if ANSWERED_BY in outputs else self.model
            return Said(timings_us=reply.timings_us if reply else {}, by=by)

        return ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is kept of an answer: where its time went, and which network it is from."""

    timings_us: Mapping[str, int]
    by: str


def answered_by(outcome: Outcome) -> dict[str, int]:
    """Return how many answers each network gave."""
    return dict(Counter(a.value.by for a in outcome.answers if isinstance(a.value, Said)))


@contextmanager
def prompt() -> Iterator[str]:
    """Go before the machine's other work, where that is allowed, with all processes started here.

    What is measured is a tier and not who else is at work. Linux weighs sessions against each
    other where they are grouped by themselves (sched(7), autogroup), else single processes. Yields
    in words what could be had.
    """
    before, words = os.getpriority(os.PRIO_PROCESS, 0), f"nice {PRIORITY}"
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        _weigh_session(PRIORITY)
    except PermissionError:
        words = f"nice {before}"
    try:
        yield words
    finally:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)
            _weigh_session(0)


def _weigh_session(nice: int) -> None:
    with suppress(FileNotFoundError, BlockingIOError):  # no groups here; or asked too often
        Path("/proc/self/autogroup").write_text(str(nice))


Beside = Callable[[RunningSite], AbstractAsyncContextManager[None]]
"""What goes on at a site while it is measured."""


def measure_site(
    work: Workload,
    setup: SiteSetup,
    link: str,
    load: Load,
    told: Told,
    *,
    beside: Beside | None = None,
    peer_count: int = 0,
    seed: int = 1,
) -> list[dict[str, Any]]:
    """Return the row of one tier: `work` asked of one site over one link.

    Args:
        beside: what goes on at the site meanwhile.
        peer_count: so many queries of MLPerf's Server scenario follow, as a second row; 0: none.
    """
    with running_site(setup) as site, Link(link, site.grpc, seed=seed) as between:

        async def ask() -> tuple[Outcome, dict[str, Any], LoadGenResult | None]:
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(AsyncClient(between.address))
                if beside is not None:
                    await stack.enter_async_context(beside(site))
                call = work.call(client)
                outcome = await loadgen.run(call, load, SystemClock(), told)
                stats = between.stats()
                if not peer_count:
                    return outcome, stats, None
                found = await loadgen_mlperf.run(
                    call,
                    "Server",
                    rate_hz=load.rate_hz,
                    count=peer_count,
                    target_ms=TIER_BAND_MS[work.tier][1],
                )
                return outcome, stats, found

        outcome, stats, peer = asyncio.run(ask())
        rows = [row_of(work, between.profile, outcome, stats)]
        return rows if peer is None else [*rows, peer_row(work, between.profile, peer)]


def peer_row(work: Workload, profile: Profile, peer: LoadGenResult) -> dict[str, Any]:
    """Return what MLPerf's generator saw of the same question over the same link."""
    enough = {name: MIN_SAMPLES[name] <= peer.n for name in MIN_SAMPLES}
    return {
        "row": f"peer: {work.tier} by {peer.label}, {peer.scenario}",
        "ms": {
            "n": peer.n,
            **{
                n: round(peer.latency_ms[n[1:]], 4)
                for n in MIN_SAMPLES
                if enough[n] and n[1:] in peer.latency_ms
            },
        },
        "failed": peer.failed,
        "per_s": round(peer.per_s, 2),
        "verdict": peer.verdict,
        "link": link_words(profile),
    }


def row_of(
    work: Workload, profile: Profile, outcome: Outcome, stats: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a tier's measurement prints."""
    latencies = outcome.latencies_ms()
    band = TIER_BAND_MS[work.tier]
    load = outcome.load
    return {
        "row": f"{work.tier}: {work.what}",
        "ms": summary(latencies),
        "band_ms": list(band),
        "on_time_ratio": round(float((latencies <= band[1]).mean()), 4),
        "stages_us": stages_of(outcome),
        "answered_by": answered_by(outcome),
        "link": link_words(profile),
        "load": f"{load.arrivals}, {load.rate_hz:g} Hz, {load.warm_up} to warm up",
        "generator_late_ms": summary(outcome.late_ms()),
        "refused": outcome.refusals(),
        **carried(stats),
    }


def link_words(profile: Profile) -> str:
    """Return a link's name, marked where its figures are assumptions."""
    return f"{profile.name} (assumed)" if profile.assumed else profile.name


def carried(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a link did, in a few figures."""
    up, down = stats["up"], stats["down"]
    lost = sum(way[k] for way in (up, down) for k in ("lost_burst", "lost_queue", "lost_out"))
    late = np.array(stats["late_s"]) * 1e3
    return {
        "up_bytes": up["size_bytes"],
        "down_bytes": down["size_bytes"],
        "packets": up["packets"] + down["packets"],
        "packets_lost": lost,
        "packets_repaired": stats["repaired"],
        "link_late_ms": summary(late),
    }


def stages_of(outcome: Outcome) -> dict[str, int]:
    """Return the median of what the replies say of their time, us."""
    said = [a.value.timings_us for a in outcome.answers if isinstance(a.value, Said)]
    return {k: int(np.median([s[k] for s in said])) for k in said[0]} if said else {}


def must_in_band(tier: Tier, ms: Mapping[str, float | int], peer: str = "") -> Must:
    """Return the figure of measures.md: the tier's p95 below the end of its band."""
    return Must(
        figure=f"{tier} p95",
        value=ms.get("p95"),
        op="<=",
        limit=TIER_BAND_MS[tier][1],
        unit="ms",
        n=int(ms["n"]),
        peer=peer,
    )
