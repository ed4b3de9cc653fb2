"""The router's bench: counting over made-up outcomes, and one short trace over real links."""

from dataclasses import replace

import numpy as np
import pytest

from fleet.inference.arrival import LOST
from fleet.inference.policy import Policy
from sim.choice import bench_router
from sim.choice.router_play import WARM_SHARE, WAYS, Field, Tally, play
from sim.choice.router_quality import Judged
from sim.choice.router_sites import PLACES, TWICE
from sim.choice.router_trace import Asked, attempt, draw, measure
from vehicle.contracts.bench import Bench

FRAMES = 40
BUSY_S = {place.site.name: 0.01 for place in PLACES}
EDGE, ORBIT = "edge-munich", "relay-dense"


def judged() -> Judged:
    """Return frames in which a second look finds one more of ten, and adds nothing false."""
    known = np.full(FRAMES, 8)
    return Judged(
        labels=np.full(FRAMES, 10),
        known=known,
        known_with={TWICE: known + 1},
        false_with={TWICE: np.zeros(FRAMES, int)},
        size_bytes=np.full(FRAMES, 50_000),
        busy_s={TWICE: 0.01},
    )


def drawn(count: int, took_s: dict[str, float]) -> list[Asked]:
    rng = np.random.default_rng(3)
    trace = draw(count, np.full(FRAMES, 50_000), np.arange(FRAMES), rng)
    return [replace(asked, took_s=took_s) for asked in trace]


def field(trace: list[Asked]) -> Field:
    policy, sites = Policy.default(), [p.site for p in PLACES]
    return Field(
        trace=trace,
        judged=judged(),
        gains={TWICE: 0.1},
        held_gains={TWICE: 0.1},
        networks={s.name: TWICE for s in sites},
        busy_s=BUSY_S,
        decisions=[
            dict(zip((s.name for s in sites), policy.decide_many(a.request, sites), strict=True))
            for a in trace
        ],
    )


def played(trace: list[Asked]) -> dict[str, Tally]:
    made = field(trace)
    return {name: play(name, choose(), made) for name, choose in WAYS.items()}


QUICK = {p.site.name: 0.05 for p in PLACES}


def test_every_way_counts_the_same_requests_and_the_law_costs_bytes_to_break() -> None:
    tallies = played(drawn(240, QUICK))
    assert {len(t.recalls) for t in tallies.values()} == {240 - int(WARM_SHARE * 240)}
    local = tallies["always local"]
    assert (local.asked, local.size_bytes, set(local.recalls)) == (0, 0, {0.8})
    careless, lawful = tallies["always nearest"], tallies["always nearest, within the law"]
    assert careless.refused > 0
    assert careless.size_bytes > lawful.size_bytes
    assert careless.in_time == lawful.in_time
    assert lawful.refused == tallies["router"].refused == 0


def test_the_router_leaves_a_link_that_stopped_answering() -> None:
    trace = [
        replace(a, took_s={**QUICK, EDGE: LOST} if i > 90 else QUICK)
        for i, a in enumerate(drawn(240, QUICK))
    ]
    tallies = played(trace)
    router, nearest = tallies["router"], tallies["always nearest, within the law"]
    assert router.in_time > 0.9 * router.asked
    assert nearest.in_time < 0.5 * nearest.asked


def test_late_answers_help_nobody_and_are_paid_for() -> None:
    late = played(drawn(120, {p.site.name: 0.9 for p in PLACES}))
    nearest = late["always nearest"]
    assert nearest.in_time < nearest.asked
    assert nearest.size_bytes == nearest.asked * 51_024
    assert late["router"].asked < nearest.asked


def test_nobody_is_ever_left_knowing_less() -> None:
    assert {t.harmed for t in played(drawn(120, QUICK)).values()} == {0}


@pytest.mark.slow
def test_a_short_trace_over_real_links_is_measured_and_wrong_requests_are_refused() -> None:
    rng = np.random.default_rng(1)
    trace = list(draw(8, np.full(FRAMES, 20_000), np.arange(FRAMES), rng))
    found = measure(trace, BUSY_S, lambda share: None)
    assert [set(a.took_s) >= {EDGE, ORBIT} for a in found] == [True] * 8
    assert 0.02 < min(a.took_s[EDGE] for a in found) < 1.0
    assert min(a.took_s[ORBIT] for a in found) > 0.04
    wrong = bench_router._wrong(Policy.default())
    answers = attempt(BUSY_S, wrong)
    assert len(answers) == len(wrong) > 20
    assert set(answers) == {"PolicyRefusedError"}


def test_figures_that_must_hold_name_their_peers() -> None:
    bench, tallies = Bench(name="router"), played(drawn(120, QUICK))
    overall = bench_router.calibration([0.9, 0.1], [True, False])
    bench_router._musts(bench, tallies, overall, ["x"], ["PolicyRefusedError"], 150)
    report = bench.report()
    assert len(report["must"]) == 6
    assert all(m["holds"] for m in report["must"])
