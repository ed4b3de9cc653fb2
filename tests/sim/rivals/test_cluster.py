"""Driven on a Ray cluster, scenarios come out as they do here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.rivals.cases import cases_of
from sim.rivals.evaluate import evaluate
from sim.rivals.workers import Spread


@pytest.fixture
def spread() -> Iterator[Spread]:
    import ray

    from sim.rivals.cluster import over_ray

    yield over_ray
    ray.shutdown()  # the next test may want a cluster of another size


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_cluster_gives_the_reports_that_one_process_gives(tmp_path: Path, spread: Spread) -> None:
    cases = cases_of("town_drive", [], seeds=2, seconds=3.0)
    subjects = ["constant-velocity", "idm"]
    here = evaluate(subjects, cases, tmp_path / "here", latency=0.0)
    there = evaluate(subjects, cases, tmp_path / "there", latency=0.0, spread=spread)
    assert there.reports == here.reports
    assert not there.failed
