"""A network that is slow, or lost, on some pictures does not pass its self-test."""

from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import golden_inputs

from vehicle import bundles
from vehicle.bundles import SelfTestError, SlowImageError
from vehicle.contracts.bundle import TensorSpec
from vehicle.engine import Engine
from vehicle.hard_images import hard_images, worst_image

SIZE = 128


def spoiled(kind: str) -> bytes:
    """Return the tiny network with one flaw: slow on dark pictures, or NaN on black ones."""
    import onnx

    model = onnx.load_from_string(tiny_bundle.network())
    graph = model.graph
    (last,) = [n for n in graph.node if n.output[0] == "uncertainty"]
    last.output[0] = "honest"
    arrays: dict[str, object] = {}
    if kind == "nan":
        nodes = [
            helper.make_node("Div", ["side_level", "side_level"], ["one_or_nan"]),
            helper.make_node("Mul", ["honest", "one_or_nan"], ["uncertainty"]),
        ]
    else:
        arrays = {
            "rounds": np.float32(150.0),
            "full": np.float32(1.0),
            "always": np.array(True),
            "w": np.full((SIZE, SIZE), 1 / SIZE, np.float32),
            "start": np.ones((SIZE, SIZE), np.float32),
            "nought": np.zeros((1, 1), np.float32),
        }
        value = helper.make_tensor_value_info
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["go"], ["go_on"]),
                helper.make_node("MatMul", ["x", "w"], ["y"]),
            ],
            "body",
            [
                value("i", TensorProto.INT64, []),
                value("go", TensorProto.BOOL, []),
                value("x", TensorProto.FLOAT, [SIZE, SIZE]),
            ],
            [value("go_on", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, [SIZE, SIZE])],
        )
        nodes = [
            helper.make_node("Sub", ["full", "side_level"], ["darkness"]),
            helper.make_node("Mul", ["darkness", "rounds"], ["trips_f"]),
            helper.make_node("Cast", ["trips_f"], ["trips"], to=TensorProto.INT64),
            helper.make_node("Loop", ["trips", "always", "start"], ["end"], body=body),
            helper.make_node("ReduceMean", ["end"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "nought"], ["nothing_more"]),
            helper.make_node("Add", ["honest", "nothing_more"], ["uncertainty"]),
        ]
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in arrays.items())
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def rewrite(folder: Path, network: bytes) -> None:
    """Put another network, with its own golden answers, into a bundle."""
    tiny_bundle.make(folder)
    bundle = bundles.load(folder)
    (folder / bundles.MODEL).write_bytes(network)
    inputs = golden_inputs()
    with Engine(folder / bundles.MODEL) as engine:
        outputs = {n: a.copy() for n, a in engine.run(inputs).items()}
    golden = {f"in_{n}": a for n, a in inputs.items()} | {f"out_{n}": a for n, a in outputs.items()}
    fields = {n: getattr(bundle, n) for n in bundle.__slots__ if n != "files"}
    files = {bundles.MODEL: network, bundles.GOLDEN: tiny_bundle.npz(golden)}
    bundles.write(folder, files, **fields)


def test_a_network_that_is_slow_on_black_pictures_is_refused(tmp_path: Path) -> None:
    rewrite(tmp_path, spoiled("slow"))
    with pytest.raises(SlowImageError, match=r"a black picture takes .* allowed 1\.3"):
        bundles.self_test(tmp_path)


def test_a_network_that_answers_nan_on_black_pictures_is_refused(tmp_path: Path) -> None:
    rewrite(tmp_path, spoiled("nan"))
    with pytest.raises(SelfTestError, match="'uncertainty' is not finite on a black picture"):
        bundles.self_test(tmp_path)


def test_an_even_network_passes_however_busy_the_machine(tmp_path: Path) -> None:
    rewrite(tmp_path, tiny_bundle.network())
    bundles.self_test(tmp_path)


def test_the_network_for_half_of_the_cameras_is_tried_too(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path, rich=True)
    bundles.self_test(tmp_path)
    bundle = bundles.load(tmp_path)
    fields = {n: getattr(bundle, n) for n in bundle.__slots__ if n != "files"}
    files: dict[str, bytes | Path] = {entry.name: tmp_path / entry.name for entry in bundle.files}
    assert bundles.HALF in files
    bundles.write(tmp_path, files | {bundles.HALF: spoiled("nan")}, **fields)
    with pytest.raises(SelfTestError, match="not finite on a black picture"):
        bundles.self_test(tmp_path)


def test_what_is_measured_once_too_slow_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    images = {name: {"name": np.zeros(1)} for name in ("black", "white", "noise")}
    now_ns, runs = [0], dict.fromkeys(images, 0)
    monkeypatch.setattr("vehicle.hard_images.time.process_time_ns", lambda: now_ns[0])

    def run(inputs: dict[str, np.ndarray]) -> None:
        name = next(n for n, i in images.items() if i is inputs)
        runs[name] += 1
        busy = name == "white" and runs[name] <= 7
        now_ns[0] += 9_000_000 if busy else 4_000_000

    slowest, ratio, took_ms = worst_image(images, run)
    assert ratio == pytest.approx(1.0)
    assert took_ms[slowest] == pytest.approx(4.0)
    assert runs["white"] == 10


def test_pictures_are_made_for_foreign_networks_too() -> None:
    specs = (
        TensorSpec(name="data", shape=(1, 3, 32, 48), dtype="float32"),
        TensorSpec(name="memory", shape=(1, 32, 50, 32), dtype="float32"),
    )
    made = hard_images(specs, {"in_memory": np.full((1, 32, 50, 32), 7, np.float32)})
    assert set(made) == {"black", "white", "saturated", "noise"}
    assert made["white"]["data"].dtype == np.float32
    assert (made["white"]["data"] == 255).all()
    assert (made["black"]["memory"] == 7).all()
    assert set(np.unique(made["saturated"]["data"])) == {0.0, 255.0}
