"""The conversational tier: why the car decided so, told word by word over an LTE link."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from fleet.inference import loadgen
from fleet.inference.explain_client import ExplainClient
from fleet.inference.loadgen import Load, summary
from sim.net.links import Link
from sim.story.scenarios import scenario_of
from sim.tier.tier_site import EXPLAINER, SiteSetup, running_site
from sim.tier.tiers import Workload, carried, link_words, must_in_band
from sim.why.decisions import records_of
from vehicle.clock import SystemClock
from vehicle.contracts.bench import Bench, Must
from vehicle.contracts.decision import DecisionRecord
from vehicle.contracts.explainer import MANIFEST
from vehicle.contracts.home import Home
from vehicle.contracts.inference import TIER_BAND_MS

Told = Callable[[float], None]

RATE_HZ: Final = 6.0
"""Explanations asked for per second, at random: some stream side by side."""

ITL_MS: Final = 100.0
"""Between two words: slower than that reads as halting."""

WORK: Final = Workload(
    tier="conversational",
    name="explanation",
    what="an explanation, streamed",
    model=EXPLAINER,
    inputs=lambda number: {},
    data_class="features",
    deadline_s=10.0,
)
_TICKS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """When the words of one answer came; monotonic, ns."""

    came_ns: tuple[int, ...]


def talk_rows(bench: Bench, count: int, told: Told) -> None:
    """Add time to the first word and between words, of `count` answers."""
    asked = _records()
    load = Load(rate_hz=RATE_HZ, count=count, warm_up=int(2 * RATE_HZ), arrivals="poisson", seed=6)
    with explainer(asked) as (folder, words):
        setup = SiteSetup(
            name="region-1",
            context="hyperscale",
            jurisdiction="DE",
            models=(EXPLAINER,),
            folder=str(folder),
        )
        with running_site(setup) as site, Link("lte", site.http, seed=6) as link:
            outcome = asyncio.run(_ask(f"http://{link.address}", asked, load, told))
            stats, profile = link.stats(), link.profile
    first_ms = np.array(
        [
            (a.value.came_ns[0] - a.scheduled_ns) * 1e-6 if not a.refusal else np.inf
            for a in outcome.answers
        ]
    )
    talks = [a.value.came_ns for a in outcome.answers if not a.refusal]
    gaps_ms = np.concatenate([np.diff(t) for t in talks] or [np.zeros(0)]) * 1e-6
    ttft, itl = summary(first_ms), summary(gaps_ms)
    bench.rows.append(
        {
            "row": f"conversational: {words}, first word",
            "ms": ttft,
            "band_ms": list(TIER_BAND_MS["conversational"]),
            "on_time_ratio": round(
                float((first_ms <= TIER_BAND_MS["conversational"][1]).mean()), 4
            ),
            "link": link_words(profile),
            "load": f"{load.arrivals}, {load.rate_hz:g} Hz, {load.warm_up} to warm up",
            "at_once": _at_once(talks, [a.scheduled_ns for a in outcome.answers if not a.refusal]),
            "refused": outcome.refusals(),
            **carried(stats),
        }
    )
    bench.rows.append(
        {
            "row": "conversational: between words",
            "ms": itl,
            "words_per_answer": round(float(np.mean([len(t) for t in talks])), 1) if talks else 0,
        }
    )
    bench.must.append(must_in_band("conversational", ttft))
    bench.must.append(
        Must(
            figure="conversational, between words p95",
            value=itl.get("p95"),
            op="<=",
            limit=ITL_MS,
            unit="ms",
            n=int(itl["n"]),
        )
    )


async def _ask(url: str, asked: list[DecisionRecord], load: Load, told: Told) -> loadgen.Outcome:
    clock = SystemClock()
    async with ExplainClient(url) as client:

        async def listen(number: int) -> Talk:
            came = []
            async for _ in client.explain(asked[number % len(asked)], WORK.request()):
                came.append(clock.mono_ns())
            return Talk(came_ns=tuple(came))

        return await loadgen.run(listen, load, clock, told)


def _at_once(talks: list[tuple[int, ...]], scheduled_ns: list[int]) -> dict[str, float]:
    """Return how many answers were under way when one more was asked for."""
    ends = np.array([t[-1] for t in talks])
    begins = np.array(scheduled_ns)
    under_way = [int(((begins < now) & (ends > now)).sum()) for now in begins]
    mean = round(float(np.mean(under_way)), 2) if under_way else 0.0
    return {"mean": mean, "most": max(under_way, default=0)}


def _records() -> list[DecisionRecord]:
    """Return decisions of a drive."""
    return [record for record, _ in records_of(scenario_of("town_drive", town=101, seed=7), _TICKS)]


@contextmanager
def explainer(records: Sequence[DecisionRecord]) -> Iterator[tuple[Path, str]]:
    """Yield the folder of an explainer and what it is: this home's, or one that learned nothing.

    Timing depends on its size and not on what it learned; words that it may not say are barred
    either way.
    """
    own = Home.here().models / "explainer"
    if (own / MANIFEST).is_file():
        yield own, WORK.what
        return
    from training.explain import RECIPES, train
    from training.explain_export import export
    from vehicle.contracts import wire

    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lines = b"".join(wire.to_bytes(record) + b"\n" for record in records)
        (folder / "why.jsonl").write_bytes(lines)
        config = replace(RECIPES["base"], steps=1, warmup=1)
        train(config, [folder / "why.jsonl"], folder / "run")
        export(folder / "run", folder / "explainer")
        yield folder / "explainer", f"{WORK.what} (a network of full size, untrained)"
