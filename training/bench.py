"""What each choice of network size costs in the car, before anything is trained."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import torch

from training.deploy import blank, to_onnx
from training.model import NetConfig, NetR, count_mmac, count_parameters
from training.quantize import PICTURES, as_floats, quantise
from vehicle.contracts.bench import Bench, percentiles
from vehicle.contracts.scene import KINDS

SIZES: Final = {
    "R48": NetConfig(eighth=48, sixteenth=64, bev=48, bev_half=64),
    "R48-64": NetConfig(eighth=48, sixteenth=96, bev=48, bev_half=96),
    "R48-96": NetConfig(eighth=48, sixteenth=96),
    "R64": NetConfig(),
    "R96": NetConfig(stem=24, quarter=48, eighth=96, sixteenth=128, bev=96, bev_half=128),
}
"""Sizes that were weighed; R64 ships (docs/decisions/0002-network-size.md)."""

WARM_UP_RUNS: Final = 5


def sizes_bench(
    *,
    runs: int = 150,
    threads: tuple[int, ...] = (1, 2),
    progress: Callable[[float], None] = lambda _: None,
) -> Bench:
    """Measure untrained networks of several sizes on noise pictures, in float and in uint8.

    Args:
        runs: per size, precision and number of threads.
        threads: of the runtime.
        progress: told the share that is done, 0..1.
    """
    bench = Bench(name="network-sizes")
    rng = np.random.default_rng(0)
    for i, (name, config) in enumerate(SIZES.items()):
        torch.manual_seed(0)
        net = NetR(KINDS, config).eval()
        frames = [_noise(net, rng) for _ in range(4)]
        facts = {"mmac": round(count_mmac(net)), "parameters": count_parameters(net)}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            to_onnx(net, path)
            graphs = {
                "float32": (path.read_bytes(), as_floats(frames[0])),
                "uint8": (quantise(path, frames).SerializeToString(), frames[0]),
            }
        for precision, (graph, feed) in graphs.items():
            for count in threads:
                times_ms = _time(graph, feed, runs, count)
                row = f"{name}, {precision}, {count} thread(s)"
                bench.rows.append({"row": row, **facts, "ms": percentiles(times_ms)})
        progress((i + 1) / len(SIZES))
    return bench


def _noise(net: NetR, rng: np.random.Generator) -> dict[str, np.ndarray]:
    inputs = blank(net)
    for name in PICTURES:
        inputs[name] = rng.integers(0, 256, inputs[name].shape, dtype=np.uint8)
    inputs["memory"] = rng.standard_normal(inputs["memory"].shape).astype(np.float32)
    return inputs


def _time(graph: bytes, feed: dict[str, np.ndarray], runs: int, threads: int) -> list[float]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    times_ms = []
    for i in range(WARM_UP_RUNS + runs):
        started_ns = time.perf_counter_ns()
        session.run(None, feed)
        if i >= WARM_UP_RUNS:
            times_ms.append((time.perf_counter_ns() - started_ns) * 1e-6)
    return times_ms
