"""The bench of clips measures what it says, in small."""

from pathlib import Path

import pytest
import tiny_bundle

from sim.benches import bench_clip
from sim.benches.bench_codecs import CODECS


@pytest.mark.slow
def test_the_recorder_the_codecs_and_who_opens_their_clips_are_all_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_clip, "DISTINCT", 10)
    tiny_bundle.make(tmp_path)
    bench = bench_clip.clip_bench(frames=48, progress=lambda share: None, bundle=tmp_path)
    rows = {row["row"]: row for row in bench.rows}
    for codec in ("h264", "av1"):
        assert rows[f"recorder, {codec}, 8 cameras at 36 Hz"]["health"]["frames"] == 48
        assert rows[f"random picture, {codec}, to RGB"]["ms"]["n"] == bench_clip.SEEKS
    for name in CODECS:
        assert rows[f"codec {name}"]["n"] == 80
    ratios = [m for m in bench.must if m.unit == "ratio"]
    assert len(ratios) >= 4
    assert all(m.holds for m in ratios), [m for m in ratios if not m.holds]
