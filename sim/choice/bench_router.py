"""`roadloop bench router`: the router beside simple rules, over the same requests and outcomes.

Outcomes are real: sockets, servers, emulated links. Quality is measured: road users that the car
knew of, with and without the answer. Joules are modelled. What each way to choose learns of a link,
it learns from its own requests.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from fleet.inference.arrival import LOST, Calibration, Sample, calibration
from fleet.inference.policy import Policy
from sim.choice.router_play import WAYS, WEIGHTS, Field, Tally, new_link, play
from sim.choice.router_quality import Judged, judge
from sim.choice.router_sites import PLACES, TWICE
from sim.choice.router_trace import CLASSES, COUNTRIES, Asked, attempt, draw, measure
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.inference import InferenceRequest

Told = Callable[[float], None]

FRAMES: Final = 160
SEED: Final = 11


def router_bench(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure the router beside always-local, always-nearest, always-biggest.

    Args:
        frames: requests in the trace.
        progress: told the share that is done, 0..1.
        bundle: of the larger network that regions run; None: they run the shipped one, which looks
            twice.
    """
    bench, rng = Bench(name="router"), np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as scratch:
        judged = judge(Path(scratch), FRAMES, bundle, lambda s: progress(0.25 * s))
    networks = {p.site.name: p.network if p.network in judged.busy_s else TWICE for p in PLACES}
    busy_s = {name: judged.busy_s[network] for name, network in networks.items()}
    known, held = np.array_split(rng.permutation(len(judged.labels)), 2)
    gains = {n: float(judged.gains(n)[known].mean()) for n in judged.known_with}
    trace = list(draw(frames, judged.size_bytes, held, rng))
    trace = measure(trace, busy_s, lambda s: progress(0.25 + 0.65 * s))
    _quality_rows(bench, judged, gains, held)
    _link_rows(bench, trace)
    policy = Policy.default()
    sites = [p.site for p in PLACES]
    made = Field(
        trace=trace,
        judged=judged,
        gains=gains,
        held_gains={n: float(judged.gains(n)[held].mean()) for n in gains},
        networks=networks,
        busy_s=busy_s,
        decisions=[
            dict(zip((s.name for s in sites), policy.decide_many(a.request, sites), strict=True))
            for a in trace
        ],
    )
    forecasts = _forecasts(made)
    _forecast_rows(bench, forecasts)
    tallies = {name: play(name, choose(), made) for name, choose in WAYS.items()}
    for tally in tallies.values():
        bench.rows.append(_row(tally, len(trace) - made.first))
    wrong = _wrong(policy)
    answers = attempt(busy_s, wrong)
    bench.rows.append(
        {
            "row": "residency violations attempted on purpose",
            "attempted": len(wrong),
            **{name: answers.count(name) for name in sorted(set(answers))},
        }
    )
    _musts(bench, tallies, forecasts["all links"], wrong, answers, len(trace) - made.first)
    progress(1.0)
    return bench


def _forecasts(made: Field) -> dict[str, Calibration]:
    """State a chance for every request over every link before it is sent, as one who asks all."""
    by_link: dict[str, tuple[list[float], list[bool]]] = {}
    for link in {p.link: None for p in PLACES}:
        places, model = [p.site.name for p in PLACES if p.link == link], new_link(link)
        stated, came = by_link.setdefault(link, ([], []))
        for number, asked in enumerate(made.trace):
            if asked.request.tier == "batch":
                continue
            seen = []
            for name in (n for n in places if n in asked.took_s):
                busy_s = made.busy_s[name]
                took_s, left_s = max(asked.took_s[name] - busy_s, 0.0), asked.deadline_s - busy_s
                seen.append(Sample(at_s=asked.at_s, size_bytes=asked.size_bytes, took_s=took_s))
                if number >= made.first:
                    stated.append(model.p_on_time(asked.size_bytes, left_s, asked.at_s))
                    came.append(took_s <= left_s)
            for sample in seen:
                model.observe(sample)
    found = {link: calibration(s, c) for link, (s, c) in by_link.items() if s}
    every = [(s, c) for stated, came in by_link.values() for s, c in zip(stated, came, strict=True)]
    return {**found, "all links": calibration([s for s, _ in every], [c for _, c in every])}


def _wrong(policy: Policy) -> list[tuple[str, InferenceRequest]]:
    """Return every place with every request that its policy should refuse for where data may be."""
    found = []
    template = next(iter(draw(1, np.ones(1), np.zeros(1, int), np.random.default_rng(0)))).request
    for place in PLACES:
        if place.site.tenants:
            continue
        for data_class, _ in CLASSES:
            for country, _ in COUNTRIES:
                asked = replace(template, data_class=data_class, jurisdiction=country)
                if not policy.decide(asked, place.site).allowed:
                    found.append((place.site.name, asked))
    return found


def _quality_rows(
    bench: Bench, judged: Judged, gains: Mapping[str, float], held: np.ndarray
) -> None:
    for network, gain in gains.items():
        bench.rows.append(
            {
                "row": f"quality of a second look, {network}",
                "near road users": int(judged.labels.sum()),
                "known to the car": round(float(judged.known.sum() / judged.labels.sum()), 4),
                "known with it": round(
                    float(judged.known_with[network].sum() / judged.labels.sum()), 4
                ),
                "gain a frame, stated": round(gain, 4),
                "gain a frame, held out": round(float(judged.gains(network)[held].mean()), 4),
                "false added a frame": round(float(judged.false_with[network].mean()), 4),
                "busy_ms": round(judged.busy_s[network] * 1e3, 2),
                "n": len(judged.labels),
            }
        )
    bench.rows.append({"row": "bytes of a frame as JPEG", **percentiles(judged.size_bytes)})


def _link_rows(bench: Bench, trace: Sequence[Asked]) -> None:
    for place in PLACES:
        took = [a.took_s[place.site.name] for a in trace if place.site.name in a.took_s]
        came = [t * 1e3 for t in took if t != LOST]
        lost = len(took) - len(came)
        row = f"outcomes at {place.site.name} over {place.link}"
        bench.rows.append({"row": row, "lost": lost, "ms": percentiles(came)})


def _forecast_rows(bench: Bench, forecasts: Mapping[str, Calibration]) -> None:
    for link, found in forecasts.items():
        bench.rows.append(
            {
                "row": f"chance of being in time, {link}",
                "n": found.n,
                "brier": round(found.brier, 4),
                "brier of the base rate": round(found.base_brier, 4),
                "skill": round(found.skill, 3),
                "calibration error": round(found.error, 4),
                "stated/came/n": " ".join(f"{s:.2f}/{c:.2f}/{n}" for s, c, n in found.table),
            }
        )


def _row(tally: Tally, requests: int) -> dict[str, Any]:
    return {
        "row": tally.name,
        "requests": requests,
        "asked": tally.asked,
        "in time": tally.in_time,
        "of asked in time": round(tally.in_time / tally.asked, 4) if tally.asked else None,
        "violations refused": tally.refused,
        "megabytes": round(tally.size_bytes / 1e6, 3),
        "joules, modelled": round(tally.joules, 1),
        "recall": round(float(np.mean(tally.recalls)), 4),
        "worth": round(tally.worth, 4),
        "false added": tally.false_added,
        "harmed": tally.harmed,
        "where": ", ".join(f"{c} {n}" for c, n in sorted(tally.contexts.items())),
    }


def _musts(
    bench: Bench,
    tallies: Mapping[str, Tally],
    overall: Calibration,
    wrong: Sequence[Any],
    answers: Sequence[str],
    requests: int,
) -> None:
    router = tallies["router"]
    others = {n: t.worth for n, t in tallies.items() if n != "router"}
    best = max(others, key=lambda n: others[n])
    rows: list[tuple[str, float | None, Any, float, str, int, str]] = [
        ("policy violations of the router", router.refused, "==", 0, "requests", router.asked, ""),
        ("answers that left the car knowing less", sum(t.harmed for t in tallies.values()), "==",
         0, "answers", sum(t.in_time for t in tallies.values()), "by construction: it only adds"),
        ("violations attempted on purpose and answered", answers.count("answered"), "==", 0,
         "requests", len(wrong), ""),
        ("worth of the router less the best simple rule's", round(router.worth - others[best], 4),
         ">=", 0, "recall summed", requests, f"{best} {others[best]:.4f}"),
        ("share in time of what the router asked", _share(router), ">=", WEIGHTS.p_on_time,
         "ratio", router.asked, ", ".join(f"{t.name} {_share(t)}" for t in tallies.values())),
        ("skill of stated chances over the base rate", round(overall.skill, 3), ">=", 0.0, "ratio",
         overall.n, f"Brier {overall.brier:.4f} against {overall.base_brier:.4f}"),
    ]  # fmt: skip
    for figure, value, op, limit, unit, n, peer in rows:
        bench.must.append(
            Must(figure=figure, value=value, op=op, limit=limit, unit=unit, n=n, peer=peer)
        )


def _share(tally: Tally) -> float | None:
    return round(tally.in_time / tally.asked, 4) if tally.asked else None
