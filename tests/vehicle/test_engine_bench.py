"""The bench of the engine measures every image and prints the figure it promises."""

from pathlib import Path

import tiny_bundle

from vehicle.bench import engine_bench
from vehicle.hard_images import WORST_IMAGE_RATIO


def test_bench_has_a_row_per_image_and_thread_count_and_one_figure(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path)
    bench = engine_bench(tmp_path, runs=25)
    inference = [r for r in bench.rows if r["stage"] == "inference" and r["unit"] == "ms"]
    images = {"black", "white", "saturated", "noise", "golden"}
    assert {(r["threads"], r["image"]) for r in inference} == {
        (t, i) for t in (1, 2) for i in images
    }
    assert all(r["n"] == 25 and r["p50"] > 0 for r in inference)
    stages = [r["stage"] for r in bench.rows if r["unit"] == "us"]
    assert stages == ["preprocess", "inference", "decode"]
    (figure,) = bench.report()["must"]
    assert (figure["op"], figure["limit"], figure["n"]) == ("<=", WORST_IMAGE_RATIO, 25)
    assert figure["value"] >= 1.0


def test_figure_without_samples_does_not_hold(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path)
    told: list[float] = []
    bench = engine_bench(tmp_path, runs=3, threads=(1,), progress=told.append)
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
    assert bench.must[0].value is None
    assert not bench.must[0].holds
