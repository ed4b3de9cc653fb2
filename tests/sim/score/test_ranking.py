"""Intervals are seeded, shrink with n, respect families and pairing."""

import numpy as np
import pytest

from sim.score.ranking import UnpairedScoresError, aggregate, mean_interval, paired_difference, rank

RNG = np.random.default_rng(5)


def test_same_seed_same_interval() -> None:
    v = RNG.random(50)
    assert mean_interval(v, seed=3) == mean_interval(v, seed=3)
    assert mean_interval(v, seed=3) != mean_interval(v, seed=4)


def test_interval_agrees_with_the_normal_one_and_shrinks() -> None:
    few, many = (RNG.normal(0.5, 0.2, n) for n in (100, 400))
    a, b = mean_interval(few), mean_interval(many)
    half = 1.96 * few.std() / 10
    assert (a.high - a.low) / 2 == pytest.approx(half, rel=0.1)
    assert (b.high - b.low) < 0.62 * (a.high - a.low)
    assert a.low < a.mean < a.high


def test_family_counts_once_however_many_episodes_it_has() -> None:
    values = [1.0] * 90 + [0.0] * 10
    families = ["common"] * 90 + ["rare"] * 10
    found = mean_interval(values, families)
    assert found.mean == 0.5
    assert (found.low, found.high, found.n) == (0.0, 1.0, 100)


def test_interval_over_families_is_wider_than_over_episodes() -> None:
    offsets = np.repeat(RNG.normal(0, 0.3, 8), 20)
    values = offsets + RNG.normal(0, 0.05, 160)
    families = [str(k) for k in np.repeat(np.arange(8), 20)]
    wide, narrow = mean_interval(values, families), mean_interval(values)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_nominal_coverage() -> None:
    hits = [
        (i := mean_interval(np.random.default_rng(k).normal(0, 1, 40), seed=k)).low < 0 < i.high
        for k in range(200)
    ]
    assert 0.90 <= np.mean(hits) <= 0.98


def test_pairing_finds_what_hard_episodes_hide() -> None:
    hard = RNG.random(60)
    ours, theirs = hard + 0.03 + RNG.normal(0, 0.01, 60), hard
    assert paired_difference(ours, theirs).low > 0.0
    assert mean_interval(ours).low < mean_interval(theirs).high
    swapped = paired_difference(theirs, ours)
    assert swapped.mean == pytest.approx(-paired_difference(ours, theirs).mean)


def test_rank_orders_and_says_what_is_separated() -> None:
    base = RNG.random(80)
    places = rank({"b": base - 0.2, "a": base, "c": base + RNG.normal(0, 1e-3, 80) - 1e-5})
    assert places[0].behind.mean == 0.0
    assert places[-1].name == "b"
    assert [p.separated for p in places] == [False, False, True]


def test_figures_an_episode_does_not_have_are_left_out() -> None:
    rows = [{"x": 1.0, "y": np.nan, "z": np.inf}, {"x": 3.0, "y": 5.0, "z": np.inf}]
    found = aggregate(rows)
    assert found["x"].mean == 2.0
    assert (found["y"].mean, found["y"].n) == (5.0, 1)
    assert "z" not in found
    line = found["x"].metric("x", "m", higher_is_better=False)
    assert (line.value, line.n, line.low) == (2.0, 2, found["x"].low)


def test_unpaired_scores_are_refused() -> None:
    with pytest.raises(UnpairedScoresError, match="3 scores against 2"):
        paired_difference([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(UnpairedScoresError, match="no finite"):
        mean_interval([np.nan])
    with pytest.raises(UnpairedScoresError, match="2 values but 1"):
        mean_interval([1.0, 2.0], ["a"])
