import pytest

from sim.benches.bench_similar import DRIVES, similar_bench


@pytest.mark.slow
def test_the_bench_of_the_lakes_eye_answers_every_question() -> None:
    seen: list[float] = []
    bench = similar_bench(frames=100, progress=seen.append, bundle=None)
    rows = {row["row"]: row for row in bench.rows}
    assert rows["all cameras, as it is"]["n"] == len(DRIVES)
    assert any(name.startswith("front picture, less the shift") for name in rows)
    assert {"rarity of day fog", "duplicates at 0.999", "known: 8 centres of clear days"} <= set(
        rows
    )
    assert all(m.value is not None for m in bench.must)
    assert seen[-1] == 1.0
