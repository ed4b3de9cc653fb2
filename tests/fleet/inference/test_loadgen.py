"""The load generator: on schedule whatever the server does, and counting from there."""

import asyncio

import numpy as np
import pytest

from fleet.inference import loadgen, loadgen_mlperf
from fleet.inference.loadgen import Load, Outcome, summary
from vehicle.clock import SystemClock
from vehicle.contracts.bench import MIN_SAMPLES
from vehicle.contracts.wire import ContractError


def run(call: loadgen.Call, load: Load) -> Outcome:
    return asyncio.run(loadgen.run(call, load, SystemClock()))


async def at_once(number: int) -> int:
    return number


def test_constant_releases_are_evenly_spaced() -> None:
    assert Load(rate_hz=40.0, count=4).schedule_ns().tolist() == [0, 25e6, 50e6, 75e6]


def test_poisson_releases_have_the_rate_and_the_spread_of_chance() -> None:
    load = Load(rate_hz=100.0, count=50_000, arrivals="poisson", seed=1)
    gaps_s = np.diff(load.schedule_ns()) * 1e-9
    assert gaps_s.mean() == pytest.approx(0.01, rel=0.02)
    assert gaps_s.std() == pytest.approx(0.01, rel=0.03)
    again = Load(rate_hz=100.0, count=50_000, arrivals="poisson", seed=1).schedule_ns()
    assert (again == load.schedule_ns()).all()


def test_a_slow_server_does_not_slow_the_schedule_down() -> None:
    async def half_a_second(number: int) -> None:
        await asyncio.sleep(0.5)

    outcome = run(half_a_second, Load(rate_hz=200.0, count=60))
    released = [a.released_ns for a in outcome.answers]
    assert (released[-1] - released[0]) * 1e-9 < 0.45  # all out before the first answer


def test_a_stall_is_seen_by_all_that_were_due_meanwhile() -> None:
    turn = asyncio.Lock()

    async def one_at_a_time(number: int) -> None:
        async with turn:
            await asyncio.sleep(0.3 if number == 0 else 0.0)

    outcome = run(one_at_a_time, Load(rate_hz=100.0, count=30))
    latencies = outcome.latencies_ms()
    assert (latencies[:20] > 90.0).all()  # a closed loop would have shown one slow answer of thirty
    assert latencies[0] == pytest.approx(300.0, abs=60.0)


def test_releases_are_never_early_and_can_be_punctual() -> None:
    late_ms = run(at_once, Load(rate_hz=100.0, count=60)).late_ms()
    assert late_ms.min() >= 0.0
    assert late_ms.min() < 0.5  # an event loop by itself wakes to the millisecond


def test_warm_up_is_asked_and_not_counted() -> None:
    outcome = run(at_once, Load(rate_hz=500.0, count=5, warm_up=7))
    assert [a.value for a in outcome.answers] == [7, 8, 9, 10, 11]
    assert [a.number for a in outcome.answers] == [0, 1, 2, 3, 4]


def test_refusals_are_counted_by_name_and_slower_than_everything() -> None:
    async def sometimes(number: int) -> None:
        if number % 4 == 0:
            raise ConnectionResetError("gone")
        if number == 5:
            await asyncio.sleep(60.0)

    outcome = run(sometimes, Load(rate_hz=1_000.0, count=200, timeout_s=0.05))
    assert outcome.refusals() == {"ConnectionResetError": 50, "TimeoutError": 1}
    row = summary(outcome.latencies_ms())
    assert row["n"] == 200
    assert row["unanswered"] == 51
    assert "p50" in row
    assert "p95" not in row  # it falls among what was not answered
    assert "max" not in row


def test_percentiles_stand_only_on_samples_enough() -> None:
    assert "p99.9" in summary(np.ones(MIN_SAMPLES["p99.9"]))
    assert "p99.9" not in summary(np.ones(MIN_SAMPLES["p99.9"] - 1))
    assert "p95" not in summary(np.ones(MIN_SAMPLES["p95"] - 1))


def test_a_load_without_rate_or_count_is_refused() -> None:
    with pytest.raises(ContractError, match="rate_hz"):
        Load(rate_hz=0.0, count=3)
    with pytest.raises(ContractError, match="count"):
        Load(rate_hz=1.0, count=0)


def test_mlperf_loadgen_and_ours_see_the_same_server() -> None:
    pytest.importorskip("mlperf_loadgen")

    async def eight_ms(number: int) -> None:
        await asyncio.sleep(0.008)

    async def both() -> tuple[Outcome, loadgen_mlperf.LoadGenResult]:
        load = Load(rate_hz=120.0, count=150, arrivals="poisson")
        ours = await loadgen.run(eight_ms, load, SystemClock())
        return ours, await loadgen_mlperf.run(eight_ms, "Server", rate_hz=120.0, count=150)

    ours, theirs = asyncio.run(both())
    assert theirs.n == 150
    assert theirs.label == "LoadGen, unofficial"
    assert theirs.latency_ms["50"] == pytest.approx(np.median(ours.latencies_ms()), abs=3.0)


@pytest.mark.parametrize("scenario", ["SingleStream", "Offline"])
def test_mlperfs_other_scenarios_run_and_count_failures(
    scenario: loadgen_mlperf.Scenario,
) -> None:
    pytest.importorskip("mlperf_loadgen")

    async def fails_once(number: int) -> None:
        await asyncio.sleep(0.002)
        if number == 3:
            raise ConnectionResetError("gone")

    found = asyncio.run(loadgen_mlperf.run(fails_once, scenario, rate_hz=300.0, count=60))
    assert found.n >= 60
    assert found.failed == 1
    assert found.per_s > 50.0
