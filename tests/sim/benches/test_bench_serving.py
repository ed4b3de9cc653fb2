"""The bench of serving measures every path, in small."""

import pytest

from sim.benches import bench_serving


@pytest.mark.slow
def test_every_wire_is_measured_beside_a_bare_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_serving, "SIZES", (bench_serving.PICTURE,))
    bench = bench_serving.serving_bench(frames=20, progress=lambda share: None, bundle=None)
    flood = [row for row in bench.rows if row["row"].startswith(("a fleet", "refusals"))]
    assert flood[2]["TooManyRequestsError flooding"] > 20
    assert "TooManyRequestsError quiet" not in flood[2]
    rows = {row["row"].partition(",")[0]: row for row in bench.rows}
    assert {"bare gRPC", "our gRPC client", "httpx"} <= set(rows)
    assert all(row["overhead_ms"]["n"] == 20 for row in bench.rows if "overhead_ms" in row)
    assert [m.n for m in bench.must] == [20, 20]
