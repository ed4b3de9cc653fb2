import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from training_parts import make_dataset, small

from training import export as exporting
from training.deploy import (
    OUTPUTS,
    ParityError,
    blank,
    check_parity,
    folded,
    half_cameras,
    half_order,
    to_onnx,
)
from training.export import BundleTooLargeError, RunUnfinishedError, export
from training.frames import load_frames
from training.model import NetR
from training.train import train
from training.weights import ParentBundleError, network_of, read_arrays, read_weights
from vehicle import bundles
from vehicle.contracts import wire
from vehicle.contracts.bundle import ModelBundle


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "noise", frames=6)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    train(small(steps=8, norm_until=8), [data], out)
    return out


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "bundle"
    export(run, out, name="base", version=3, odd={"light": "day"})
    return out


def as_exported(monkeypatch, bundle):
    """Let exports take the graphs of a bundle at hand: making them is what takes long."""
    for name, file in (("graph_of", "model.onnx"), ("half_graph_of", "half.onnx")):
        monkeypatch.setattr(exporting, name, lambda *_, file=file: onnx.load(bundle / file))


def session(folder):
    return onnxruntime.InferenceSession(str(folder / "model.onnx"))


def test_the_car_accepts_the_bundle(bundle):
    bundles.self_test(bundle)
    manifest = bundles.load(bundle)
    assert manifest.tag == "base@3"
    assert manifest.odd == {"light": "day"}
    assert [s.name for s in manifest.outputs] == list(OUTPUTS)
    assert {s.name: s.dtype for s in manifest.inputs} == {
        "front": "uint8",
        "side": "uint8",
        "memory": "float32",
    }


def test_pictures_enter_the_first_convolution_as_bytes(bundle):
    graph = onnx.load(bundle / "model.onnx").graph
    first = {n.op_type for n in graph.node if {"front", "side"} & set(n.input)}
    assert first == {"Transpose"}
    assert not any(n.op_type == "Cast" for n in graph.node)


def test_half_a_look_with_fresh_rows_of_the_other_cameras_is_a_whole_look(bundle, data):
    frames = load_frames(data)
    net = network_of(("car", "pedestrian"), read_arrays(bundle / "weights.npz"))
    whole = {**blank(net), "front": frames.front[0], "side": frames.side[0]}
    wanted = dict(zip(OUTPUTS, session(bundle).run(list(OUTPUTS), whole), strict=True))
    half = onnxruntime.InferenceSession(str(bundle / "half.onnx"))
    for odd in (False, True):
        front, side = half_cameras(odd)
        inputs = {
            "front": frames.front[0][front],
            "side": frames.side[0][side],
            "memory": whole["memory"],
            "cached": wanted["rows"],
            "order": half_order(odd),
        }
        found = dict(zip(OUTPUTS, half.run(list(OUTPUTS), inputs), strict=True))
        for name in ("heat", "dense", "light"):
            gap = np.abs(found[name] - wanted[name])
            assert gap.mean() < 0.05, name
        stale = dict(inputs, cached=np.zeros_like(wanted["rows"]))
        rows = half.run(["rows"], stale)[0][0]
        seen = np.abs(rows).sum(axis=1) > 0
        assert 0.4 < seen.mean() < 0.6


def test_weights_leave_room_for_processors_that_add_in_16_bits(bundle):
    graph = onnx.load(bundle / "model.onnx").graph
    kernels = [i for i in graph.initializer if i.data_type == onnx.TensorProto.INT8]
    wide = [onnx.numpy_helper.to_array(k).astype(int) for k in kernels if len(k.dims) == 4]
    assert wide
    assert max(abs(k).max() for k in wide) <= 64


def test_the_float_graph_computes_what_torch_computes(run, data, tmp_path):
    net = network_of(("car", "pedestrian"), read_arrays(run / "weights.npz"))
    to_onnx(net, tmp_path / "net.onnx")
    frames = load_frames(data)
    pictures = [{**blank(net), "front": frames.front[0], "side": frames.side[0]}]
    assert check_parity(net, tmp_path / "net.onnx", pictures) < 1e-3
    with torch.no_grad():
        net.heat[1].bias += 0.5
    with pytest.raises(ParityError, match="'heat'"):
        check_parity(net, tmp_path / "net.onnx", pictures)


def test_folding_leaves_the_network_it_was_given_alone(run):
    net = network_of(("car", "pedestrian"), read_arrays(run / "weights.npz"))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    folded(net)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_quantising_moves_probabilities_little(run, bundle, data):
    net = network_of(("car", "pedestrian"), read_arrays(run / "weights.npz")).eval()
    frames = load_frames(data)
    heat, dense = session(bundle).run(
        ["heat", "dense"], {**blank(net), "front": frames.front[1], "side": frames.side[1]}
    )
    with torch.no_grad():
        wanted = net(torch.from_numpy(frames.front[1:2]), torch.from_numpy(frames.side[1:2]))
    assert np.abs(heat - wanted["heat"].sigmoid().numpy()).mean() < 0.02
    assert np.abs(dense - wanted["dense"].sigmoid().numpy()).mean() < 0.03


def test_half_means_as_far_out_as_the_99th_percentile_of_training(bundle, data):
    frames, net = load_frames(data), session(bundle)
    none = {"memory": np.zeros((1, 4, 50, 32), np.float32)}
    seen = [
        net.run(["uncertainty"], {"front": f, "side": s, **none})[0].item()
        for f, s in zip(frames.front, frames.side, strict=True)
    ]
    assert np.percentile(seen, 99) == pytest.approx(0.5, abs=0.02)
    black = {"front": frames.front[0] * 0, "side": frames.side[0] * 0, **none}
    assert net.run(["uncertainty"], black)[0].item() > 0.9


def test_a_fine_tune_goes_on_from_the_weights_of_its_parent(bundle, data, tmp_path, monkeypatch):
    as_exported(monkeypatch, bundle)
    config = small(steps=2, norm_until=0, learning_rate=1e-9, weight_decay=0.0)
    result = train(config, [data], tmp_path / "run", parent=bundle)
    assert result.run.parent_digest == bundles.digest_of(bundle)
    _, before = read_weights(bundle)
    after = read_arrays(tmp_path / "run" / "weights.npz")
    assert all(np.allclose(before[k], after[k], atol=1e-6) for k in before)
    statistics = [k for k in before if "running" in k]
    assert statistics
    assert all(np.array_equal(before[k], after[k]) for k in statistics)
    child = export(tmp_path / "run", tmp_path / "b", name="base", version=4, odd={})
    assert child.lineage.parent_digest == bundles.digest_of(bundle)


def test_an_unfinished_run_is_not_exported(data, tmp_path):
    train(small(steps=4), [data], tmp_path / "run", stop_at=2)
    with pytest.raises(RunUnfinishedError):
        export(tmp_path / "run", tmp_path / "b", name="base", version=1, odd={})
    assert not (tmp_path / "b").exists()


def test_a_bundle_over_the_limit_is_refused_without_a_manifest(run, bundle, tmp_path, monkeypatch):
    as_exported(monkeypatch, bundle)
    monkeypatch.setattr(exporting, "MAX_BUNDLE_BYTES", 1000)
    with pytest.raises(BundleTooLargeError, match="at most 1000"):
        export(run, tmp_path / "b", name="base", version=1, odd={})
    assert not (tmp_path / "b" / "bundle.json").exists()


def test_a_parent_with_changed_weights_is_refused(bundle, tmp_path):
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "weights.npz"
    data = bytearray(weights.read_bytes())
    data[500] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ParentBundleError, match="not the file its manifest names"):
        read_weights(tmp_path)


def test_a_parent_for_other_cameras_is_refused(bundle, tmp_path):
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = wire.from_bytes(ModelBundle, (bundle / "bundle.json").read_bytes())
    other = replace(manifest, rig=replace(manifest.rig, name="X"))
    (tmp_path / "bundle.json").write_bytes(wire.to_bytes(other))
    with pytest.raises(ParentBundleError, match="rig 'X', expected 'R'"):
        read_weights(tmp_path)


def test_weights_of_another_network_are_refused(run):
    weights = read_arrays(run / "weights.npz")
    del weights["box.1.bias"]
    with pytest.raises(ParentBundleError, match=r"box\.1\.bias"):
        network_of(("car", "pedestrian"), weights)


def test_sizes_are_read_off_the_weights(run):
    config = json.loads((run / "run.json").read_text())["config"]["net"]
    net = network_of(("car", "pedestrian"), read_arrays(run / "weights.npz"))
    assert isinstance(net, NetR)
    assert wire.to_plain(net.config) == config


def test_the_graph_names_no_folder_of_whoever_made_it() -> None:
    graph = (Path(__file__).parents[2] / "vehicle" / "base" / "model.onnx").read_bytes()
    assert b".py" not in graph
    assert b"site-packages" not in graph


def test_a_teacher_looks_twice_and_has_no_half(run, bundle, data, tmp_path, monkeypatch):
    as_exported(monkeypatch, bundle)
    made = export(run, tmp_path / "t", [data], name="teacher", version=1, odd={}, mirrored=True)
    assert bundles.load(tmp_path / "t") == made
    assert "rows" not in {s.name for s in made.outputs}
    assert "half.onnx" not in {f.name for f in made.files}
    memory = next(s for s in made.inputs if s.name == "memory")
    assert memory.shape[1] == 2 * 4
