"""Chances of being in time that come true as often as they say."""

import math
from itertools import pairwise

import numpy as np
import pytest

from fleet.inference.arrival import LOST, LinkModel, Sample, calibration
from vehicle.contracts.wire import ContractError


def steady(rng: np.random.Generator, size: int) -> float:
    return 0.04 + size * 8 / 20e6 + float(rng.exponential(0.008))


def forecasts(
    model: LinkModel, took: list[tuple[float, int, float]], budgets: np.ndarray, after: int
) -> tuple[list[float], list[bool]]:
    """State a chance before each answer, then show it to the model."""
    stated, came = [], []
    for i, (at_s, size, took_s) in enumerate(took):
        if i >= after:
            budget_s = float(budgets[i % len(budgets)])
            stated.append(model.p_on_time(size, budget_s, at_s))
            came.append(took_s <= budget_s)
        model.observe(Sample(at_s=at_s, size_bytes=size, took_s=took_s))
    return stated, came


def test_nothing_known_gives_a_chance_between_and_no_time_gives_none() -> None:
    model = LinkModel(prior_s=0.1)
    assert 0.0 < model.p_on_time(1_000, 0.1, 0.0) < 1.0
    assert model.p_on_time(1_000, 0.0, 0.0) == 0.0
    assert model.p_on_time(1_000, -1.0, 0.0) == 0.0


def test_more_time_is_never_less_likely_and_more_bytes_never_more() -> None:
    rng, model = np.random.default_rng(1), LinkModel()
    for i in range(300):
        size = int(rng.integers(1_000, 200_000))
        model.observe(Sample(at_s=i * 0.2, size_bytes=size, took_s=steady(rng, size)))
    chances = [model.p_on_time(50_000, b, 60.0) for b in np.linspace(0.0, 0.4, 80)]
    assert all(b >= a for a, b in pairwise(chances))
    sizes = [model.p_on_time(s, 0.09, 60.0) for s in range(1_000, 200_000, 5_000)]
    assert all(b <= a for a, b in pairwise(sizes))
    assert model.expected_s(50_000) == pytest.approx(0.04 + 0.02 + 0.0055, abs=0.004)


def test_stated_chances_come_true_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    took = [(i * 0.3, s, steady(rng, s)) for i, s in enumerate(rng.integers(2_000, 90_000, 1_200))]
    found = calibration(*forecasts(LinkModel(), took, np.linspace(0.045, 0.12, 7), after=200))
    assert found.skill > 0.5
    assert found.error < 0.04


def test_a_burst_of_loss_is_known_while_it_lasts() -> None:
    rng, bad, took = np.random.default_rng(3), False, []
    for i in range(1_500):
        bad = rng.random() < (0.85 if bad else 0.03)
        took.append((i * 0.2, 10_000, 1.0 if bad else 0.05 + float(rng.exponential(0.004))))
    knows = calibration(*forecasts(LinkModel(), took, np.array([0.1]), after=300))
    assert knows.skill > 0.4
    assert knows.error < 0.05


def test_the_phase_of_a_satellite_link_is_learnt() -> None:
    rng, took = np.random.default_rng(4), []
    for i in range(1_500):
        at_s = i * 1.7
        out = at_s % 15.0 < 1.0
        took.append((at_s, 10_000, LOST if out else 0.05 + float(rng.exponential(0.004))))
    told = calibration(*forecasts(LinkModel(period_s=15.0), took, np.array([0.2]), after=500))
    untold = calibration(*forecasts(LinkModel(), took, np.array([0.2]), after=500))
    assert told.skill > 0.6
    assert told.brier < untold.brier / 2


def test_a_link_that_only_loses_is_not_believed_in() -> None:
    model = LinkModel()
    for i in range(40):
        model.observe(Sample(at_s=float(i), size_bytes=1_000, took_s=LOST))
    assert model.p_on_time(1_000, 10.0, 40.0) < 0.1


def test_the_future_of_an_answer_that_is_out_is_not_used() -> None:
    quick, slow = LinkModel(), LinkModel()
    for i in range(64):
        for model in (quick, slow):
            model.observe(Sample(at_s=i * 1.0, size_bytes=1_000, took_s=0.05 + i % 3 * 1e-3))
    quick.observe(Sample(at_s=64.00, size_bytes=1_000, took_s=0.05))
    slow.observe(Sample(at_s=64.00, size_bytes=1_000, took_s=0.9))
    at = {"size_bytes": 1_000, "budget_s": 0.06}
    assert quick.p_on_time(at_s=64.01, **at) == slow.p_on_time(at_s=64.01, **at)
    assert quick.p_on_time(at_s=64.90, **at) >= slow.p_on_time(at_s=64.90, **at)


def test_an_answer_that_stays_out_lowers_the_chance_before_it_is_given_up() -> None:
    rng, model = np.random.default_rng(5), LinkModel()
    for i in range(395):
        lost = i % 40 > 34  # cut for a while, again and again
        took_s = LOST if lost else 0.05 + float(rng.exponential(0.003))
        model.observe(Sample(at_s=i * 0.3, size_bytes=1_000, took_s=took_s))
    at_s = 395 * 0.3
    before = model.p_on_time(1_000, 0.1, at_s + 2.0)
    numbers = [model.asked(at_s + d, 1_000) for d in (0.5, 0.9, 1.2, 1.5)]
    assert model.p_on_time(1_000, 0.1, at_s + 2.0) < before - 0.2
    for number in numbers:
        model.answered(number, 0.05)
    assert model.p_on_time(1_000, 0.1, at_s + 2.0) > before - 0.05


def test_samples_may_come_in_any_order_and_memory_is_bounded() -> None:
    model, turned = LinkModel(), LinkModel()
    samples = [Sample(at_s=float(i), size_bytes=i, took_s=0.1) for i in range(600)]
    for sample in samples:
        model.observe(sample)
    for sample in (*samples[1::2], *samples[::2]):
        turned.observe(sample)
    assert model.count == turned.count == 512


def test_what_is_no_sample_is_refused() -> None:
    for broken in ({"took_s": -1.0}, {"took_s": math.nan}, {"at_s": math.inf}, {"size_bytes": -1}):
        words = {"at_s": 0.0, "size_bytes": 1, "took_s": 1.0, **broken}
        with pytest.raises(ContractError):
            Sample(**words)
    with pytest.raises(ContractError):
        calibration([], [])


def test_a_brier_score_is_that_of_the_textbook() -> None:
    found = calibration([0.9, 0.1, 0.8, 0.3], [True, False, False, True])
    assert found.brier == pytest.approx((0.01 + 0.01 + 0.64 + 0.49) / 4)
    assert found.base_brier == 0.25
    assert sum(count for _, _, count in found.table) == found.n == 4
