"""The bench of the planner times plans over busy streets, and says what it did not measure."""

import pytest

from sim.benches.bench_planner import TRACKS, busy_scenes, planner_bench


@pytest.mark.slow
def test_plans_are_timed_on_32_road_users_and_45_proposals_and_few_samples_hold_nothing() -> None:
    shares: list[float] = []
    bench = planner_bench(frames=100, progress=shares.append, bundle=None)
    busy, crossed = bench.rows[:2]
    assert busy["proposals"] >= 45
    assert busy["ms"]["n"] == 100
    assert crossed["ms"]["n"] == 25
    assert [m.figure for m in bench.must] == ["plan time p99"]
    assert not bench.must[0].holds  # 100 samples give no p99
    assert shares == sorted(shares)


@pytest.mark.slow
def test_every_busy_scene_has_as_many_road_users() -> None:
    scenes = busy_scenes(4)
    assert {scene.tracks.size for scene, _ in scenes} == {TRACKS}
    assert all(obs.guidance is not None for _, obs in scenes)
