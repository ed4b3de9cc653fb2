"""Means, intervals and paired differences."""

import math

import numpy as np
import pytest

from sim.rivals.compare import bootstrap, interval, paired, summarise, wilson


def test_paired_difference_only_changes_its_sign_when_exchanged() -> None:
    rng = np.random.default_rng(3)
    ours = {f"case{i}": float(v) for i, v in enumerate(rng.random(40))}
    theirs = {f"case{i}": float(v) for i, v in enumerate(rng.random(40))}
    a, b = paired(ours, theirs), paired(theirs, ours)
    assert a is not None
    assert b is not None
    assert a.value == pytest.approx(-b.value)
    assert (a.low, a.high) == pytest.approx((-(b.high or 0), -(b.low or 0)))


def test_a_subject_does_not_differ_from_itself() -> None:
    scores = {"a": 0.2, "b": 0.9}
    same = paired(scores, scores)
    assert same is not None
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_only_scenarios_that_both_drove_are_compared() -> None:
    gap = paired({"a": 1.0, "b": 0.0, "c": math.nan}, {"a": 0.5, "c": 1.0, "d": 1.0})
    assert gap is not None
    assert (gap.n, gap.value, gap.low) == (1, 0.5, None)
    assert paired({"a": 1.0}, {"b": 1.0}) is None


def test_pairing_is_sharper_than_two_intervals() -> None:
    hard = np.linspace(0.0, 0.8, 30)
    ours = {str(i): float(h + 0.1) for i, h in enumerate(hard)}
    theirs = {str(i): float(h) for i, h in enumerate(hard)}
    gap = paired(ours, theirs)
    assert gap is not None
    assert gap.low == pytest.approx(0.1)
    low, high = bootstrap(hard)
    assert high - low > 0.1


def test_shares_have_an_interval_even_when_nothing_happened() -> None:
    assert interval(np.zeros(10)) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson(10, 10)[0] == pytest.approx(0.7225, abs=1e-3)
    assert interval(np.array([1.0])) == (None, None)


def test_scores_that_do_not_apply_are_not_counted() -> None:
    runs = [
        {"case": "a", "group": "g", "scores": {"ttc": 1.0, "light": None}},
        {"case": "b", "group": "g", "scores": {"ttc": 0.5, "light": 1.0}},
    ]
    found = {m.name: m for m in summarise(runs)}
    assert (found["ttc"].value, found["ttc"].n) == (0.75, 2)
    assert (found["light"].value, found["light"].n) == (1.0, 1)
