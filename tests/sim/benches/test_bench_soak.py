"""The long drive in small: what it measures, and that all its processes work together."""

import os

import pytest

from sim.benches import bench_soak
from sim.benches.bench_soak import Memory, own_mb, soak_bench


def test_own_memory_of_a_process_is_read_and_of_a_dead_one_is_none() -> None:
    found = own_mb(os.getpid())
    assert found is not None
    assert found > 10.0
    assert own_mb(4_000_000) is None


def test_growth_is_the_line_through_the_samples_after_warm_up(monkeypatch) -> None:
    memory, now_ns = Memory(), [0]
    monkeypatch.setattr(memory, "_clock", type("C", (), {"mono_ns": lambda _: now_ns[0]})())
    for second in range(100):
        now_ns[0] = second * 1_000_000_000
        grown_mb = 50.0 if second < 20 else 100.0 + 0.01 * second  # 6 MB in ten minutes
        monkeypatch.setattr(bench_soak, "own_mb", lambda pid, mb=grown_mb: mb if pid == 7 else None)
        memory.sample({"recorder": {"counters": {"pid": 7}}, "ring": {"counters": {}}})
    growth = memory.growth()
    assert set(growth) == {"recorder"}
    assert growth["recorder"]["n"] == 80
    assert growth["recorder"]["mb_per_10_min"] == pytest.approx(6.0, abs=0.01)


def test_swelling_with_every_clip_is_no_growth_and_a_creeping_floor_is() -> None:
    memory = Memory()
    swing = [(float(s), 60.0 + (40.0 if s % 30 > 20 else 0.0)) for s in range(1_200)]
    memory.series = {
        ("recorder", 1): swing,
        ("shadow", 2): [(s, mb + 0.005 * s) for s, mb in swing],
    }
    growth = memory.growth()
    assert growth["recorder"]["mb_per_10_min"] == pytest.approx(0.0, abs=1e-6)
    assert growth["shadow"]["mb_per_10_min"] == pytest.approx(3.0, abs=0.1)
    assert growth["recorder"]["peak_mb"] == 100.0


def test_of_a_part_that_was_started_again_the_longest_life_counts() -> None:
    memory = Memory()
    memory.series = {
        ("shadow", 1): [(0.0, 10.0), (1.0, 10.0)],
        ("shadow", 2): [(float(s), 20.0) for s in range(2, 12)],
    }
    assert memory.growth()["shadow"]["first_mb"] == 20.0


@pytest.mark.slow
def test_soak_drives_records_compares_and_sends() -> None:
    bench = soak_bench(frames=108, progress=lambda share: None, bundle=None)
    rows = {row["row"]: row for row in bench.rows}
    assert rows["counts"]["ticks"] + rows["counts"]["frames_lost"] == 108
    assert rows["counts"]["unanswered"] == 0
    assert {"own memory of drive", "own memory of recorder"} <= set(rows)
    figures = {must.figure: must for must in bench.must}
    assert figures["parts that died"].holds
    assert figures["ticks without a command"].holds
