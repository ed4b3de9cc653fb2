"""Published figures with their sources, and joules that add up."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.inference.carbon import MEANS_2023, Trace, UnknownLocationError, grams, synthetic
from fleet.inference.chips import chips
from fleet.inference.energy import (
    NETWORKS,
    PROCESSORS,
    NoMeterError,
    NoPowerModelError,
    NvidiaMeter,
    joules,
)
from sim.net.links import PROFILES
from vehicle.contracts.inference import CONTEXTS
from vehicle.contracts.wire import ContractError

NOON = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_every_figure_names_its_source_and_what_is_not_known_is_none() -> None:
    table = {c.name: c for c in chips()}
    assert len(table) == len(chips())
    cells = [
        cell
        for c in table.values()
        for cell in (*c.tops.values(), c.watts, c.bandwidth_gbps, c.memory_gb)
        if cell
    ]
    assert len(cells) > 50
    assert all(len(cell.source) > 10 for cell in cells)
    unknown = table["Tesla D3 / Dojo3"]
    assert unknown.tops_per_watt is unknown.context_tokens is unknown.watts is None
    assert {c.context for c in table.values()} == set(CONTEXTS)


def test_ratios_are_those_of_the_published_figures() -> None:
    table = {c.name: c for c in chips()}
    assert table["NVIDIA H100 SXM"].tops_per_watt == ("fp8", pytest.approx(1979 / 700))
    assert table["NVIDIA Jetson Thor T5000"].tops_per_watt == (
        "fp4-sparse",
        pytest.approx(15.9, abs=0.1),
    )
    # 80 GB less 16.06 GB of weights, at 128 KiB a token
    assert table["NVIDIA H100 SXM"].context_tokens == 487_823
    assert table["NVIDIA A2"].context_tokens == 0


def test_the_page_shows_the_table_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "inference-contexts.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    shown = {row[1]: row for row in rows if len(row) == 8}
    for chip in chips():
        row = shown[chip.name]
        assert row[0] == f"| {chip.context}"
        assert row[2] == (", ".join(f"{p} {c.value:g}" for p, c in chip.tops.items()) or "?")
        for cell, text in ((chip.watts, row[3]), (chip.bandwidth_gbps, row[5])):
            assert text == (f"{cell.value:,g}" if cell else "?")
        tokens = f"{chip.context_tokens:,}" if chip.context_tokens is not None else "?"
        assert row[7] == f"{tokens} |"


def test_joules_are_of_what_is_busy_and_what_is_sent() -> None:
    found = joules("server-core", "lte", 0.01, 100_000)
    assert found.compute == pytest.approx(4.4 * 0.01 * 1.5)
    assert found.link == pytest.approx(0.14 * 3.6e6 * 1e-4)
    assert found.total == found.compute + found.link
    assert found.source == "modelled"
    assert joules("car-core", "cabinet", 0.0, 0).total == 0.0


def test_every_link_and_processor_has_a_power_model_with_a_source() -> None:
    assert set(NETWORKS) == set(PROFILES)
    assert all(m.source for m in (*NETWORKS.values(), *PROCESSORS.values()))
    with pytest.raises(NoPowerModelError, match="there are cabinet"):
        joules("car-core", "pigeon", 0.0, 1)
    with pytest.raises(ContractError):
        joules("car-core", "lte", -1.0, 1)


def test_a_meter_counts_joules_or_says_that_there_is_none() -> None:
    try:
        meter = NvidiaMeter()
    except NoMeterError:
        with pytest.raises(NoMeterError, match=r"NVML|no NVIDIA driver"):
            NvidiaMeter()
        return
    before = meter.joules()
    assert meter.joules() >= before > 0.0


def test_a_synthetic_day_keeps_the_published_mean_and_dips_at_noon() -> None:
    trace = synthetic(datetime(2026, 6, 1, tzinfo=UTC))
    assert "synthetic" in trace.source
    day = (datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 2, tzinfo=UTC))
    for location, mean in MEANS_2023.items():
        assert trace.get_average_carbon_intensity(location, *day) == pytest.approx(mean)
    best = trace.get_best_emissions_data(["DE", "FR"], *day)
    assert [(b.location, b.time.hour) for b in best] == [("FR", 13)]
    assert trace.get_average_carbon_intensity("DE", NOON, NOON + HOUR) < MEANS_2023["DE"]
    assert grams(3.6e6, 381.0) == 381.0


def test_a_trace_is_read_from_a_file_and_unknown_places_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("location,time,rating,duration\nDE,2026-06-01T12:00:00+00:00,300,3600\n")
    trace = Trace.read(path)
    assert trace.get_emissions_data(["DE"], NOON, NOON + HOUR)[0].rating == 300.0
    with pytest.raises(UnknownLocationError, match="no trace of 'US'"):
        trace.get_emissions_data(["US"], NOON, NOON + HOUR)
    with pytest.raises(UnknownLocationError, match="nothing of DE"):
        trace.get_emissions_data(["DE"], NOON + HOUR, NOON + 2 * HOUR)
    path.write_text("location,time,rating,duration\nDE,yesterday,300,3600\n")
    with pytest.raises(UnknownLocationError, match="is no trace"):
        Trace.read(path)
