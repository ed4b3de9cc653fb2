"""The float twin of a bundle takes the same pictures and gives what the trained network gives."""

from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
import torch

from training.deploy import OUTPUTS, Deploy, blank
from training.float_graph import float_graph
from training.model import NetConfig, NetR
from training.quantize import as_floats
from training.weights import ParentBundleError, write_weights
from vehicle import bundles
from vehicle.engine import Engine

SMALL = NetConfig(stem=8, quarter=16, eighth=16, sixteenth=16, bev=16, bev_half=16)


@pytest.mark.slow
def test_the_float_twin_answers_as_the_trained_network_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = NetR(("car", "pedestrian"), SMALL).eval()
    tiny_bundle.make(tmp_path)
    made = bundles.load(tmp_path)
    write_weights(tmp_path / bundles.WEIGHTS, net)
    fields = {n: getattr(made, n) for n in made.__slots__ if n != "files"}
    names = (bundles.MODEL, bundles.WEIGHTS, bundles.GOLDEN)
    bundles.write(tmp_path, {n: tmp_path / n for n in names}, **fields)
    inputs, rng = blank(net), np.random.default_rng(2)
    for name in ("front", "side"):
        inputs[name] = rng.integers(0, 256, inputs[name].shape, dtype=np.uint8)
    path = tmp_path / "float.onnx"
    path.write_bytes(float_graph(tmp_path))
    with Engine(path) as engine, torch.no_grad():
        answer = engine.run(inputs)
        said = Deploy(net)(*(torch.from_numpy(a) for a in as_floats(inputs).values()))
    wanted = dict(zip(OUTPUTS, said, strict=True))
    for name in ("box", "dense", "memory_out"):
        assert np.allclose(answer[name], wanted[name].numpy(), atol=1e-3), name
    score = torch.logit(wanted["heat"]) - 0.25
    scale, offset = (v.view(1, -1, 1, 1) for v in (net.heat_scale, net.heat_offset))
    heat = torch.sigmoid(score / 0.5 * scale + offset)
    assert np.allclose(answer["heat"], heat.numpy(), atol=1e-3)


def test_a_bundle_without_weights_of_this_network_has_no_twin(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path)
    with pytest.raises(ParentBundleError):
        float_graph(tmp_path)
