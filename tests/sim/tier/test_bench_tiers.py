"""The tiers' bench in small: real sites, real links, a real kill; and what is drawn of it."""

import asyncio
import io
import json
from xml.etree import ElementTree

import pytest
from rich.console import Console

from fleet.inference.client import AsyncClient
from fleet.inference.loadgen import Load
from sim.tier.tier_batch import orbital_rows
from sim.tier.tier_failover import failover, failover_rows
from sim.tier.tier_ladder import rungs_of, svg, table
from sim.tier.tier_site import ADJUDICATE, COLLECTIVE, SiteSetup, SiteStartError, running_site
from sim.tier.tier_talk import talk_rows
from sim.tier.tier_works import adjudication, collective_perception, roadside_camera
from sim.tier.tiers import measure_site
from vehicle.contracts.bench import Bench

EDGE = SiteSetup(name="edge-1", context="edge", jurisdiction="DE", models=(COLLECTIVE,))


def quiet(share: float) -> None:
    """Tell nobody."""


def test_an_edge_site_answers_over_5g_with_a_camera_beside() -> None:
    work = collective_perception()
    load = Load(rate_hz=10.0, count=20, warm_up=5)
    [row] = measure_site(work, EDGE, "5g-sa", load, quiet, beside=roadside_camera)
    assert row["ms"]["n"] == 20
    assert row["ms"]["p50"] > 8.0  # no answer beats the link
    assert row["link"] == "5g-sa (assumed)"
    assert "p95" not in row["ms"]  # of twenty there is none
    json.dumps(row, allow_nan=False)


def test_a_site_answers_a_judged_frame_with_advice() -> None:
    work = adjudication()
    setup = SiteSetup(
        name="region-1", context="hyperscale", jurisdiction="DE", models=(ADJUDICATE,)
    )

    async def ask(address: str) -> None:
        async with AsyncClient(address) as client:
            outputs, reply = await client.infer(
                work.model, work.inputs(0), work.request(), timeout_s=10.0
            )
            assert reply is not None
            assert b"advice/1" in outputs["advice"][0]

    with running_site(setup) as site:
        asyncio.run(ask(f"{site.grpc[0]}:{site.grpc[1]}"))


def test_a_site_that_cannot_serve_what_it_should_is_said_by_name() -> None:
    broken = SiteSetup(name="x", context="edge", jurisdiction="DE", models=("nothing",))
    with pytest.raises(SiteStartError, match="x ended at once"), running_site(broken):
        pass


@pytest.mark.slow
def test_a_region_is_killed_and_the_other_answers() -> None:
    work = adjudication(deadline_s=5.0)
    found = failover(work, "5g-sa", Load(rate_hz=4.0, count=18, warm_up=8), quiet)
    phases = found.phases()
    assert {name: len(part) for name, part in phases.items()} == dict.fromkeys(phases, 6)
    survivor = ({"berlin", "paris"} - {found.killed}).pop()
    assert found.counts[survivor]["answered"] >= 3
    assert (phases["after"] < 5_000.0).any()
    bench = Bench(name="tiers")
    failover_rows(bench, work, found, "5g-sa")
    assert [m.holds for m in bench.must] == [False] * 3  # six are too few for a p95
    json.dumps(bench.report(), allow_nan=False)


@pytest.mark.slow
def test_an_explanation_comes_word_by_word_over_lte() -> None:
    bench = Bench(name="tiers")
    talk_rows(bench, 6, quiet)
    first, between = bench.rows
    assert first["ms"]["n"] == 6
    assert first["refused"] == {}
    assert between["words_per_answer"] > 1.0
    json.dumps(bench.report(), allow_nan=False)


def test_clips_by_a_sparse_orbit_arrive_within_a_day_and_hours_late() -> None:
    bench = Bench(name="tiers")
    orbital_rows(bench)
    [must] = bench.must
    assert must.holds
    assert bench.rows[0]["minutes"]["p50"] > 30.0


def report() -> dict[str, object]:
    """Return a report of two tiers, one in its band and one that has too few answers."""
    rows = [
        {
            "row": "low: seen by others",
            "ms": {"n": 400, "unanswered": 0, "p50": 22.0, "p95": 31.0},
            "band_ms": [10.0, 50.0],
            "link": "5g-sa (assumed)",
        },
        {"row": "peer: low by LoadGen", "ms": {"n": 134, "p50": 23.0}},
        {
            "row": "interactive: a frame judged, <before> a kill",
            "ms": {"n": 20, "unanswered": 20},
            "band_ms": [50.0, 200.0],
            "link": "lte (assumed)",
        },
    ]
    machine = {"cores": 2, "load_1min": 0.4, "load_1min_after": 0.9}
    return {"bench": "tiers", "command": "x", "commit": "y", "machine": machine, "rows": rows}


def test_the_ladder_shows_every_tier_in_its_band() -> None:
    low, interactive = rungs_of(report())
    assert (low.holds, interactive.holds) == (True, False)
    root = ElementTree.fromstring(svg(report()))
    words = "".join(root.itertext())
    assert "p50 22.0, p95 31.0" in words
    assert "too few answers" in words
    console = Console(width=160, file=io.StringIO())
    with console.capture() as shown:
        console.print(table(report()))
    assert "█" in shown.get()
