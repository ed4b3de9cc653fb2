"""The engine runs, refuses what it cannot run, and stops a run that is late."""

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from tiny_bundle import golden_inputs, model, network

from vehicle.engine import (
    Engine,
    InferenceCancelledError,
    InferenceError,
    ModelFileError,
    ModelInputError,
)

SIZE, STEPS = 256, 400


@pytest.fixture(scope="module")
def slow_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a network of many matrix products: hundreds of milliseconds, cancellable between."""
    names = ["x", *(f"x{i}" for i in range(1, STEPS)), "y"]
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
    value = helper.make_tensor_value_info
    weights = {"w": np.full((SIZE, SIZE), 1 / SIZE, np.float32)}
    path = tmp_path_factory.mktemp("slow") / "slow.onnx"
    shape = [SIZE, SIZE]
    path.write_bytes(
        model(
            [value("x", TensorProto.FLOAT, shape)],
            [value("y", TensorProto.FLOAT, shape)],
            nodes,
            weights,
        )
    )
    return path


@pytest.fixture
def tiny_path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(network())
    return path


def test_outputs_follow_the_inputs(tiny_path: Path) -> None:
    inputs = golden_inputs()
    with Engine(tiny_path) as engine:
        first = engine.run(inputs)["uncertainty"].copy()
        inputs["side"][...] = 255
        again = engine.run(inputs)["uncertainty"].copy()
        other = {n: np.zeros_like(a) for n, a in inputs.items()}
        third = engine.run(other)["uncertainty"].copy()
    assert first == pytest.approx(0.5, abs=0.01)
    assert again == pytest.approx(1.0)
    assert third == pytest.approx(0.0)


def test_outputs_stay_at_one_place_in_memory(tiny_path: Path) -> None:
    with Engine(tiny_path) as engine:
        first = engine.run(golden_inputs())
        second = engine.run(golden_inputs())
    assert all(first[n] is second[n] for n in first)


def test_late_run_is_cancelled_and_the_engine_runs_again(slow_path: Path) -> None:
    x = {"x": np.ones((SIZE, SIZE), np.float32)}
    with Engine(slow_path) as engine:
        began_ns = time.monotonic_ns()
        engine.run(x)
        whole_ns = time.monotonic_ns() - began_ns
        began_ns = time.monotonic_ns()
        with pytest.raises(InferenceCancelledError, match="stopped at its deadline"):
            engine.run(x, began_ns + whole_ns // 10)
        cancelled_ns = time.monotonic_ns() - began_ns
        answer = engine.run(x, time.monotonic_ns() + 60_000_000_000)["y"]
    assert cancelled_ns < whole_ns * 0.7
    assert np.allclose(answer, 1.0, atol=1e-3)


def test_every_late_run_of_many_is_cancelled_without_new_threads(slow_path: Path) -> None:
    x = {"x": np.ones((SIZE, SIZE), np.float32)}
    with Engine(slow_path) as engine:
        before = threading.active_count()
        for _ in range(20):
            with pytest.raises(InferenceCancelledError):
                engine.run(x, time.monotonic_ns() + 2_000_000)
        assert threading.active_count() == before
        assert engine.watchdog_thread_id in {t.native_id for t in threading.enumerate()}


def test_past_deadline_is_refused_before_it_runs(slow_path: Path) -> None:
    with (
        Engine(slow_path) as engine,
        pytest.raises(InferenceCancelledError, match="before inference began"),
    ):
        engine.run({"x": np.ones((SIZE, SIZE), np.float32)}, time.monotonic_ns() - 1)


def test_run_in_time_is_not_cancelled_by_an_older_deadline(tiny_path: Path) -> None:
    inputs = golden_inputs()
    with Engine(tiny_path) as engine:
        for _ in range(20):
            engine.run(inputs, time.monotonic_ns() + 20_000_000)
        time.sleep(0.03)
        assert engine.run(inputs)["uncertainty"].shape == (1, 1)


def test_closed_engine_refuses_and_leaves_no_thread(tiny_path: Path) -> None:
    before = threading.active_count()
    engine = Engine(tiny_path)
    engine.close()
    assert threading.active_count() == before
    with pytest.raises(InferenceError, match="closed"):
        engine.run(golden_inputs())


@pytest.mark.parametrize("content", [None, b"", b"not a network", "cut"])
def test_missing_or_corrupt_file_is_named(content: bytes | str | None, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(network()[:5000] if isinstance(content, str) else content)
    before = threading.active_count()
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        Engine(path)
    assert threading.active_count() == before


def test_network_of_unknown_size_is_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    x, y = (value(n, TensorProto.FLOAT, ["batch", 3]) for n in "xy")
    path = tmp_path / "model.onnx"
    path.write_bytes(model([x], [y], nodes, {}))
    with pytest.raises(ModelFileError, match="dynamic axes"):
        Engine(path)


def test_wrong_inputs_are_named(tiny_path: Path) -> None:
    good = golden_inputs()
    bad = {
        "expected": {"front": good["front"]},
        "'side' is missing": {"front": good["front"], "sides": good["side"]},
        "float32": {**good, "front": good["front"].astype(np.float32)},
        r"\[1, 128": {**good, "front": good["front"][:1]},
        "contiguous": {**good, "front": good["front"][:, :, :, ::-1]},
    }
    with Engine(tiny_path) as engine:
        for message, inputs in bad.items():
            with pytest.raises(ModelInputError, match=message):
                engine.run(inputs)
        assert engine.run(good)


def test_subnormal_numbers_are_zero_in_the_network_and_only_there(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Mul", ["x", "one"], ["y"])]
    shape = [1024]
    x, y = (value(n, TensorProto.FLOAT, shape) for n in "xy")
    path = tmp_path / "model.onnx"
    path.write_bytes(model([x], [y], nodes, {"one": np.full(shape, 0.5, np.float32)}))
    tiny = np.full(shape, 1e-39, np.float32)
    with Engine(path) as engine:
        if not engine.flushes_denormals:
            pytest.skip("no control word to set on this machine")
        answer = engine.run({"x": tiny})["y"]
        assert (answer == 0.0).all()
        assert (tiny * np.float32(0.5) > 0.0).all()
