"""MLPerf's own load generator on the same calls, beside ours: SingleStream, Server, Offline.

For comparison and for people who know it. Runs this short are "INVALID" by its rules, and nothing
here was submitted: results are labelled "LoadGen, unofficial". Needs the extra [dev].
"""

import asyncio
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

from fleet.inference.loadgen import Call
from vehicle.contracts.wire import RefusedError

Scenario = Literal["SingleStream", "Server", "Offline"]
LABEL: Final = "LoadGen, unofficial"
_SAMPLES: Final = 64
_LINE: Final = re.compile(r"^(?P<name>[^:=]+?)\s*:\s*(?P<value>.+?)\s*$", re.MULTILINE)
_PERCENTILE: Final = re.compile(r"([0-9.]+) percentile latency \(ns\)")


class LoadGenMissingError(RefusedError):
    """mlcommons-loadgen is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGenResult:
    """What LoadGen wrote of a run.

    Args:
        scenario: of MLPerf.
        n: queries; their failures `failed` are counted here, LoadGen does not know of any.
        latency_ms: percentile -> ms, e.g. {"50": 4.1, "99": 8.9}.
        per_s: completed samples per second.
        verdict: LoadGen's own, "VALID" or "INVALID".
    """

    scenario: Scenario
    n: int
    failed: int
    latency_ms: dict[str, float]
    per_s: float
    verdict: str
    label: str = LABEL


async def run(
    call: Call,
    scenario: Scenario,
    *,
    rate_hz: float = 10.0,
    count: int = 100,
    target_ms: float = 200.0,
) -> LoadGenResult:
    """Let LoadGen issue `count` queries or a little more, and return what it says.

    Args:
        call: asks once.
        scenario: SingleStream asks, waits and asks again; Server has Poisson arrivals at `rate_hz`;
            Offline asks for everything at once.
        rate_hz: expected samples per second.
        count: of queries; of samples in Offline.
        target_ms: Server's bound.
    Raises:
        LoadGenMissingError: the extra is not installed.
    """
    try:
        import mlperf_loadgen as lg
    except ImportError as error:
        raise LoadGenMissingError("install the extra [dev] for mlcommons-loadgen") from error
    loop, numbers, tally = asyncio.get_running_loop(), itertools.count(), [0, 0]

    async def answer(sample_id: int) -> None:
        try:
            await call(next(numbers))
        except Exception:  # LoadGen has no word for a failure; counted beside it
            tally[1] += 1
        tally[0] += 1
        lg.QuerySamplesComplete([lg.QuerySampleResponse(sample_id, 0, 0)])

    def issue(samples: list[Any]) -> None:
        for sample in samples:
            asyncio.run_coroutine_threadsafe(answer(sample.id), loop)

    sut = lg.ConstructSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(_SAMPLES, _SAMPLES, lambda _: None, lambda _: None)
    try:
        with TemporaryDirectory() as folder:
            settings = _settings(lg, scenario, rate_hz, count, target_ms)
            logs = _logs(lg, folder)
            await asyncio.to_thread(lg.StartTestWithLogSettings, sut, qsl, settings, logs)
            text = (Path(folder) / "mlperf_log_summary.txt").read_text()
    finally:
        lg.DestroyQSL(qsl)
        lg.DestroySUT(sut)
    return _read(text, scenario, tally[0], tally[1])


def _settings(lg: Any, scenario: Scenario, rate_hz: float, count: int, target_ms: float) -> Any:
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = 0
    settings.min_query_count = 1 if scenario == "Offline" else count
    settings.max_query_count = 1 if scenario == "Offline" else count
    settings.performance_sample_count_override = _SAMPLES
    if scenario == "Server":
        settings.server_target_qps = rate_hz
        settings.server_target_latency_ns = round(target_ms * 1e6)
    elif scenario == "SingleStream":
        settings.single_stream_expected_latency_ns = round(1e9 / rate_hz)
    else:
        # samples = 1.1 x expected x the minimal minute's worth; here its minimum is what is asked
        settings.offline_expected_qps = rate_hz
        settings.min_duration_ms = round(1e3 * count / rate_hz / 1.1)
    return settings


def _logs(lg: Any, folder: str) -> Any:
    output = lg.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = folder, False
    logs = lg.LogSettings()
    logs.log_output, logs.enable_trace = output, False
    return logs


def _read(text: str, scenario: Scenario, n: int, failed: int) -> LoadGenResult:
    """Return what a summary says."""
    facts = {m["name"].strip(): m["value"] for m in _LINE.finditer(text)}
    latency_ms = {
        m[1]: float(value) * 1e-6
        for name, value in facts.items()
        if (m := _PERCENTILE.fullmatch(name))
    }
    rates = ("Completed samples per second", "Samples per second", "QPS w/o loadgen overhead")
    per_s = next((float(facts[name]) for name in rates if name in facts), 0.0)
    return LoadGenResult(
        scenario=scenario,
        n=n,
        failed=failed,
        latency_ms={f"{float(k):g}": v for k, v in latency_ms.items()},
        per_s=per_s,
        verdict=facts.get("Result is", "?"),
    )
