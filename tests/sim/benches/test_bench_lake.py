from pathlib import Path

import pytest

from sim.benches import bench_lake


@pytest.mark.slow
def test_the_bench_measures_every_figure_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(bench_lake, "SMALL_FILES", 5)
    monkeypatch.setattr(bench_lake, "WRITE_ROWS", 12_000)
    monkeypatch.setattr(bench_lake, "WRITERS", 2)
    monkeypatch.setattr(bench_lake, "COMMITS", 3)
    monkeypatch.setattr(bench_lake, "SECONDS", 0.1)
    told: list[float] = []
    report = bench_lake.lake_bench(frames=30_000, progress=told.append, bundle=None).report()
    assert [m["figure"].split(",")[0] for m in report["must"]] == [
        *bench_lake.QUESTIONS,
        "nearest 10 of 3000 x 128",
        "batches lost or twice",
    ]
    assert all(m["value"] is not None for m in report["must"])
    assert report["must"][-1]["holds"]
    assert told[-1] == 1.0
    assert list(tmp_path.iterdir()) == []
