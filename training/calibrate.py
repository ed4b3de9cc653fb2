"""Scores that mean what they say: of detections scored 0.7, seven in ten are right.

Per kind, logits are stretched and shifted (Platt scaling) to fit what was right on towns that the
network was not trained on. The order of detections of a kind stays, so average precision does too.
Source: Platt, "Probabilistic outputs for support vector machines" (1999); Guo et al., "On
calibration of modern neural networks" (2017) for the expected calibration error.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from training.deploy import session
from training.frames import Frames
from training.judge import detected
from training.model import NetR

LEAST_OBJECTS: Final = 20
"""A kind with fewer right detections is fitted together with all kinds that are as rare."""

BINS: Final = 10
_SCALES: Final = (0.3, 3.0)
_OFFSETS: Final = (-3.0, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Per kind: probability = sigmoid(scale * logit + offset)."""

    scale: np.ndarray
    offset: np.ndarray


def fit_scores(model: onnx.ModelProto, data: Frames, kinds: tuple[str, ...]) -> Fit:
    """Return what makes the scores of a graph's detections probabilities on a dataset."""
    found = detected(session(model.SerializeToString()), data, kinds)
    fit = Fit(scale=np.ones(len(kinds)), offset=np.zeros(len(kinds)))
    rare: list[int] = []
    for k, kind in enumerate(kinds):
        if sum(found[kind].right) >= LEAST_OBJECTS:
            fit.scale[k], fit.offset[k] = platt(found[kind].scores, found[kind].right)
        else:
            rare.append(k)
    scores = [s for k in rare for s in found[kinds[k]].scores]
    right = [r for k in rare for r in found[kinds[k]].right]
    if sum(right) >= LEAST_OBJECTS:
        fit.scale[rare], fit.offset[rare] = platt(scores, right)
    return fit


def platt(scores: list[float], right: list[bool]) -> tuple[float, float]:
    """Return scale and offset of logits, by Newton's method on the log likelihood."""
    prob = np.clip(np.array(scores), 1e-4, 1 - 1e-4)
    logit, target = np.log(prob / (1 - prob)), np.array(right, dtype=np.float64)
    basis, value = np.stack([logit, np.ones_like(logit)], axis=1), np.array([1.0, 0.0])
    for _ in range(50):
        said = 1 / (1 + np.exp(-basis @ value))
        slope = basis.T @ (said - target) + 1e-3 * (value - (1.0, 0.0))
        bend = (basis * (said * (1 - said))[:, None]).T @ basis + 1e-3 * np.eye(2)
        value = value - np.linalg.solve(bend, slope)
    return float(np.clip(value[0], *_SCALES)), float(np.clip(value[1], *_OFFSETS))


def expected_calibration_error(scores: list[float], right: list[bool]) -> float:
    """Return the mean gap between score and share of right detections, over BINS equal bins."""
    if not scores:
        return 0.0
    said, hit = np.array(scores), np.array(right, dtype=np.float64)
    place = np.minimum((said * BINS).astype(int), BINS - 1)
    total = sum(abs(said[place == b].sum() - hit[place == b].sum()) for b in range(BINS))
    return float(total / len(said))


def with_scores(net: NetR, fit: Fit) -> NetR:
    """Return the network with a fit put on top of the scores it gives."""
    copy = NetR(net.kinds, net.config)
    copy.load_state_dict(net.state_dict())
    scale, offset = torch.from_numpy(fit.scale).float(), torch.from_numpy(fit.offset).float()
    copy.heat_offset.copy_(net.heat_offset * scale + offset)
    copy.heat_scale.copy_(net.heat_scale * scale)
    return copy.eval()


def set_scores(model: onnx.ModelProto, net: NetR) -> None:
    """Write the scales and offsets of a network's scores into its graph."""
    for name, value in (("score_scale", net.heat_scale), ("score_offset", net.heat_offset)):
        entry = next(i for i in model.graph.initializer if i.name == name)
        array = value.numpy().reshape(1, -1, 1, 1).astype(np.float32)
        entry.CopyFrom(numpy_helper.from_array(array, name))
