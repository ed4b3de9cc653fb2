"""The engine runs, refuses what it cannot run, and stops a run that is late."""

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from tiny_bundle import golden_inputs, model, network

from vehicle.contracts.bundle import TensorSpec
from vehicle.engine import (
    Engine,
    InferenceCancelledError,
    InferenceError,
    InferenceHungError,
    ModelFileError,
    ModelInputError,
    RuntimeMissingError,
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


def test_a_run_leaves_the_outputs_of_the_one_before_as_they_are(tiny_path: Path) -> None:
    inputs, dark = golden_inputs(), {n: np.zeros_like(a) for n, a in golden_inputs().items()}
    with Engine(tiny_path) as engine:
        first = engine.run(inputs)
        kept = {n: a.copy() for n, a in first.items()}
        second = engine.run(dark)
        assert all(np.array_equal(first[n], kept[n]) for n in first)
        assert second["uncertainty"] != first["uncertainty"]
        third = engine.run(dark)
        assert all(first[n] is third[n] for n in first)


def _cancelled(slow_path: Path) -> tuple[float, float]:
    """Return when control was back, and a whole run after that, in units of a whole run."""
    x = {"x": np.ones((SIZE, SIZE), np.float32)}
    with Engine(slow_path) as engine:
        began_ns = time.monotonic_ns()
        engine.run(x)
        whole_ns = time.monotonic_ns() - began_ns
        began_ns = time.monotonic_ns()
        with pytest.raises(InferenceCancelledError, match="stopped at its deadline"):
            engine.run(x, began_ns + whole_ns // 10)
        cancelled_ns = time.monotonic_ns() - began_ns
        answer = engine.run(x)["y"]  # without a deadline: waits for the stopped one first
        stopped_ns = time.monotonic_ns() - began_ns
    assert np.allclose(answer, 1.0, atol=1e-3)
    return cancelled_ns / whole_ns, stopped_ns / whole_ns


def test_late_run_is_cancelled_and_the_engine_runs_again(slow_path: Path) -> None:
    tries = [_cancelled(slow_path) for _ in range(3)]
    assert min(cancelled for cancelled, _ in tries) < 0.7
    assert min(stopped for _, stopped in tries) < 1.9, "the stopped run ran on to its end"


def test_every_late_run_of_many_is_cancelled_without_new_threads(slow_path: Path) -> None:
    x = {"x": np.ones((SIZE, SIZE), np.float32)}
    with Engine(slow_path) as engine:
        before = threading.active_count()
        for _ in range(20):
            with pytest.raises(InferenceCancelledError):
                engine.run(x, time.monotonic_ns() + 2_000_000)
        assert threading.active_count() == before
        assert engine.thread_id in {t.native_id for t in threading.enumerate()}


class Hung:
    """A runtime that blocks in one node and hears no cancel until told."""

    name, flushes_denormals = "hung", False

    def __init__(self) -> None:
        self.inputs = (TensorSpec(name="x", shape=(1,), dtype="float32"),)
        self.outputs = {"y": np.zeros(1)}, {"y": np.zeros(1)}
        self.free = threading.Event()
        self.free.set()
        self.runs = 0

    def bind(self, side: int, name: str, array: np.ndarray) -> None:
        pass

    def prepare(self) -> None:
        pass

    def infer(self, side: int) -> None:
        self.runs += 1
        number = self.runs
        self.outputs[side]["y"][:] = -number  # half an answer
        assert self.free.wait(20.0)
        self.outputs[side]["y"][:] = number

    def cancel(self) -> None:
        pass


def test_a_run_that_never_comes_back_does_not_keep_the_loop(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, x = Hung(), {"x": np.zeros(1, np.float32)}
    monkeypatch.setattr("vehicle.engine.open_runtime", lambda *_: hung)
    with Engine(tiny_path) as engine:
        answer = engine.run(x, time.monotonic_ns() + 10**9)
        assert answer["y"] == 1
        hung.free.clear()
        began = time.monotonic()
        with pytest.raises(InferenceCancelledError, match="stopped at its deadline"):
            engine.run(x, time.monotonic_ns() + 60_000_000)
        for _ in range(5):
            with pytest.raises(InferenceHungError, match="has not come back"):
                engine.run(x, time.monotonic_ns() + 60_000_000)
        assert time.monotonic() - began < 1.0
        assert (hung.runs, answer["y"][0]) == (2, 1), "a late run wrote where the loop reads"
        hung.free.set()
        time.sleep(0.05)
        assert answer["y"] == 1
        assert engine.run(x, time.monotonic_ns() + 10**9)["y"] == 3
        assert answer["y"] == 1


def test_the_helper_thread_stands_one_step_below_the_loop(tiny_path: Path) -> None:
    inputs, before = golden_inputs(), os.sched_getaffinity(0)
    with Engine(tiny_path) as engine:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
        except PermissionError:
            pytest.skip("no SCHED_FIFO on this machine")
        try:
            os.sched_setaffinity(0, {max(before)})
            engine.run(inputs, time.monotonic_ns() + 10**10)
            assert os.sched_getscheduler(engine.thread_id) == os.SCHED_FIFO
            assert os.sched_getparam(engine.thread_id).sched_priority == 19
            assert os.sched_getaffinity(engine.thread_id) == {max(before)}
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            os.sched_setaffinity(0, before)
        engine.run(inputs, time.monotonic_ns() + 10**10)
        assert os.sched_getscheduler(engine.thread_id) == os.SCHED_OTHER


def test_a_late_run_leaves_the_real_time_class_and_the_next_one_is_back_in_it(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, x = Hung(), {"x": np.zeros(1, np.float32)}
    monkeypatch.setattr("vehicle.engine.open_runtime", lambda *_: hung)
    with Engine(tiny_path) as engine:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
        except PermissionError:
            pytest.skip("no SCHED_FIFO on this machine")
        try:
            hung.free.clear()
            with pytest.raises(InferenceCancelledError):
                engine.run(x, time.monotonic_ns() + 2_000_000)
            assert os.sched_getscheduler(engine.thread_id) == os.SCHED_OTHER
            hung.free.set()
            time.sleep(0.05)
            engine.run(x, time.monotonic_ns() + 10**10)
            assert os.sched_getscheduler(engine.thread_id) == os.SCHED_FIFO
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


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


def test_openvino_runs_the_same_file_and_comes_back_at_the_deadline(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
    path = tmp_path / "model.onnx"
    path.write_bytes(network())
    inputs = golden_inputs()
    with Engine(path) as usual, Engine(path, runtime="openvino") as other:
        assert (other.runtime, other.inputs) == ("openvino", usual.inputs)
        assert {s.name: s.shape for s in other.outputs} == {s.name: s.shape for s in usual.outputs}
        for deadline_ns in (None, time.monotonic_ns() + 10**10):
            wanted, found = usual.run(inputs), other.run(inputs, deadline_ns)
            assert all(np.allclose(found[n], wanted[n], atol=1e-4) for n in wanted)
        first = other.run(inputs)
        kept = {n: a.copy() for n, a in first.items()}
        other.run({n: np.zeros_like(a) for n, a in inputs.items()})
        assert all(np.array_equal(first[n], kept[n]) for n in first)


def test_openvino_keeps_the_names_of_the_file(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Add", ["x", "x"], ["inside"]),
        helper.make_node("Identity", ["inside"], ["rows"]),
        helper.make_node("Mul", ["inside", "x"], ["y"]),
    ]
    x, y, rows = (value(n, TensorProto.FLOAT, [4]) for n in ("x", "y", "rows"))
    path = tmp_path / "model.onnx"
    path.write_bytes(model([x], [y, rows], nodes, {}))
    with Engine(path, runtime="openvino") as engine:
        assert [s.name for s in engine.outputs] == ["y", "rows"]
        answer = engine.run({"x": np.full(4, 3.0, np.float32)})
    assert (answer["rows"] == 6.0).all()
    assert (answer["y"] == 18.0).all()


def test_openvino_names_a_file_it_cannot_run(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a network")
    for file in (path, tmp_path / "absent.onnx"):
        with pytest.raises(ModelFileError, match=r"\.onnx"):
            Engine(file, runtime="openvino")


def test_late_openvino_does_not_keep_the_loop(slow_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
    x = {"x": np.ones((SIZE, SIZE), np.float32)}
    with Engine(slow_path, runtime="openvino") as engine:
        whole_s = min(_took_s(lambda: engine.run(x)) for _ in range(2))
        began = time.monotonic()
        with pytest.raises(InferenceCancelledError):
            engine.run(x, time.monotonic_ns() + int(whole_s * 1e8))
        assert time.monotonic() - began < 0.7 * whole_s
        assert np.allclose(engine.run(x)["y"], 1.0, atol=1e-3)


def _took_s(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def test_unknown_or_absent_runtime_is_named(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeMissingError, match="'tensorrt' is unknown"):
        Engine(tiny_path, runtime="tensorrt")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'roadloop\[openvino\]'"):
        Engine(tiny_path, runtime="openvino")
