import numpy as np
import pytest
import tiny_bundle
from training_parts import SMALL_NET, make_dataset

from training.calibrate import (
    Fit,
    expected_calibration_error,
    fit_scores,
    platt,
    with_scores,
)
from training.frames import load_frames
from training.model import NetR


def drawn(scale: float, offset: float, n: int = 4000) -> tuple[list[float], list[bool]]:
    """Return scores whose true probability is sigmoid(scale * logit + offset)."""
    rng = np.random.default_rng(0)
    logit = rng.normal(0.0, 1.5, n)
    right = rng.random(n) < 1 / (1 + np.exp(-(scale * logit + offset)))
    return (1 / (1 + np.exp(-logit))).tolist(), right.tolist()


def test_a_fit_finds_how_far_scores_are_off():
    scale, offset = platt(*drawn(0.6, -0.8))
    assert scale == pytest.approx(0.6, abs=0.08)
    assert offset == pytest.approx(-0.8, abs=0.12)


def test_a_fit_makes_scores_probabilities():
    scores, right = drawn(1.6, -1.0)
    scale, offset = platt(scores, right)
    logit = np.log(np.array(scores) / (1 - np.array(scores)))
    fitted = (1 / (1 + np.exp(-(scale * logit + offset)))).tolist()
    before, after = (expected_calibration_error(s, right) for s in (scores, fitted))
    assert after < 0.03 < before


def test_the_calibration_error_of_known_scores():
    assert expected_calibration_error([0.95] * 10, [True] * 10) == pytest.approx(0.05)
    assert expected_calibration_error([0.95] * 10, [False] * 10) == pytest.approx(0.95)
    assert expected_calibration_error([], []) == 0.0


def test_a_kind_seen_too_seldom_keeps_its_scores(tmp_path):
    import onnx

    tiny_bundle.make(tmp_path / "bundle")
    data = load_frames(make_dataset(tmp_path / "data", frames=2))
    fit = fit_scores(onnx.load(tmp_path / "bundle" / "model.onnx"), data, ("car", "pedestrian"))
    assert fit.scale.tolist() == [1.0, 1.0]
    assert fit.offset.tolist() == [0.0, 0.0]


def test_a_second_fit_goes_on_top_of_the_first():
    net = NetR(("car", "pedestrian"), SMALL_NET)
    once = with_scores(net, Fit(scale=np.array([0.5, 1.0]), offset=np.array([0.2, 0.0])))
    twice = with_scores(once, Fit(scale=np.array([2.0, 1.0]), offset=np.array([-0.4, 0.1])))
    assert twice.heat_scale.tolist() == pytest.approx([1.0, 1.0])
    assert twice.heat_offset.tolist() == pytest.approx([0.0, 0.1])
