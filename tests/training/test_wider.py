"""A wider network begins as good as the one it grew from."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_parts import SMALL_NET

from training.model import NetR
from training.recipes import recipe
from training.weights import ParentBundleError, grown, meaned

KINDS = ("car", "pedestrian")
WIDER = replace(SMALL_NET, stem=16, quarter=16, eighth=24, sixteenth=32, bev=24, bev_half=32)


def parent() -> tuple[NetR, dict[str, np.ndarray]]:
    torch.manual_seed(1)
    net = NetR(KINDS, SMALL_NET)
    for value in net.state_dict().values():
        if value.is_floating_point():
            noise = 0.02 * torch.randn_like(value)
            value.add_(noise if value.ndim > 1 else noise.abs())
    return net.eval(), {
        k: v.numpy().copy() for k, v in net.state_dict().items() if v.is_floating_point()
    }


def test_a_wider_network_first_answers_as_its_parent_did():
    net, weights = parent()
    wide = grown(KINDS, WIDER, KINDS, weights).eval()
    front = torch.randint(0, 256, (1, 2, 128, 256, 3), dtype=torch.uint8)
    side = torch.randint(0, 256, (1, 6, 96, 192, 3), dtype=torch.uint8)
    with torch.no_grad():
        was, now = net(front, side), wide(front, side)
    for name, value in was.items():
        assert torch.allclose(value, now[name], atol=1e-3), name


def test_what_is_new_in_a_wider_network_can_learn():
    wide = grown(KINDS, WIDER, KINDS, parent()[1])
    stem = wide.backbone.stem[0].weight
    assert float(stem[SMALL_NET.stem :].abs().min(dim=0).values.max()) > 0.0


def test_a_narrower_network_is_refused():
    _, weights = parent()
    with pytest.raises(ParentBundleError, match="of the parent is"):
        grown(KINDS, replace(SMALL_NET, eighth=8), KINDS, weights)


def test_weights_meaned_with_the_parents_lie_halfway(tmp_path, monkeypatch):
    _, weights = parent()
    net = grown(KINDS, WIDER, KINDS, weights).eval()
    for value in net.parameters():
        value.data.add_(1.0)
    bundle = SimpleNamespace(kinds=KINDS)
    monkeypatch.setattr("training.weights.read_weights", lambda folder: (bundle, weights))
    half = meaned(net, tmp_path).state_dict()
    small, stem = weights["backbone.stem.0.weight"], half["backbone.stem.0.weight"]
    assert np.allclose(stem[: len(small)], small + 0.5, atol=1e-6)
    assert torch.equal(stem[len(small) :], net.state_dict()["backbone.stem.0.weight"][len(small) :])


def test_the_teacher_is_wider_than_what_the_car_runs():
    teacher, base = recipe("teacher"), recipe("base")
    assert teacher.grow
    assert teacher.net.eighth > base.net.eighth
    assert teacher.kinds == base.kinds
