"""A run folder -> a bundle folder: the graph a car runs, the weights to go on from, golden vectors.

Batch norms are folded, the graph is compared with torch before it is quantised, the uncertainty is
fitted on what the quantised graph itself says about the training frames, and the manifest is
written last.
"""

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from training.calibrate import fit_scores, set_scores, with_scores
from training.deploy import check_parity, half_cameras, half_order, session, to_onnx
from training.frames import Frames, load_frames
from training.mirror import looked_twice
from training.model import NetR
from training.quantize import as_floats, quantise
from training.recall import See, inputs_of, spread_over
from training.train import WEIGHTS, read_run
from training.weights import meaned, network_of, read_arrays, write_weights
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.bundle import Lineage, ModelBundle, TensorSpec
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.scene import BEV, BEV_BOX
from vehicle.contracts.wire import RefusedError

MODEL: Final = "model.onnx"
HALF: Final = "half.onnx"
GOLDEN: Final = "golden.npz"
GOLDEN_TOLERANCE: Final = {
    **{"heat": 0.25, "box": 2.0, "dense": 0.25, "uncertainty": 0.05, "lanes": 8.0, "light": 3.0},
    **{"flow": 2.0, "ego_motion": 0.3, "memory_out": 0.4, "rows": 2.0},
}
"""Largest difference another processor or runtime may show in any cell: a few uint8 steps of each
output, seen when kernels round differently (openvino: heat 0.14, velocity 1.0, raster 0.13); the
embedding's is a tenth of its own spread. A step of a velocity is 0.2 m/s, scores are stretched by
their calibration, and a lane nobody sees may jump."""

CALIBRATION_FRAMES: Final = 64
STATISTICS_FRAMES: Final = 1_500
SHRINKAGE: Final = 0.02
"""Share of the mean variance added to every direction: keeps 64 x 64 covariances invertible."""

LATENCY_BUDGET_US: Final = 5_500
MAX_BUNDLE_BYTES: Final = 6_000_000


class RunUnfinishedError(RefusedError):
    """The run folder has no weights: training did not end."""


class BundleTooLargeError(RefusedError):
    """The bundle would be larger than what may ship."""


def export(
    run_folder: Path,
    out: Path,
    datasets: Sequence[Path] = (),
    *,
    name: str,
    version: int,
    odd: dict[str, str],
    scores: Path | None = None,
    mirrored: bool = False,
    mean_with: Path | None = None,
) -> ModelBundle:
    """Write the bundle folder `out` from a finished run, and return its manifest.

    Args:
        run_folder: of `training.train.train`.
        datasets: calibrate the scales and the uncertainty; by default the run's own.
        odd: where it was trained to work.
        scores: dataset of towns it was not trained on, to make scores probabilities; by default
            they stay as the parent's were.
        mirrored: look at every frame a second time in a mirror; there is no half of such a graph.
        mean_with: bundle that it grew from; its weights are meaned with the run's.
    Raises:
        RunUnfinishedError, ParityError, BundleTooLargeError: nothing is left in `out`.
    """
    if not (run_folder / WEIGHTS).is_file():
        raise RunUnfinishedError(f"{run_folder} has no {WEIGHTS}: run `training train` to its end")
    run = read_run(run_folder)
    lineage = Lineage(
        recipe=run.config.recipe,
        dataset_digest=wire.digest("\n".join(run.dataset_digests).encode())
        if len(run.dataset_digests) > 1
        else run.dataset_digests[0],
        parent_digest=run.parent_digest,
        config_digest=run.config.digest,
        seed=run.config.seed,
        steps=run.config.steps,
    )
    net = network_of(run.config.kinds, read_arrays(run_folder / WEIGHTS))
    if mean_with is not None:
        net = meaned(net, mean_with)
    frames = [load_frames(folder) for folder in datasets or map(Path, run.datasets)]
    model = graph_of(net, frames)
    if mirrored:
        model = looked_twice(model)
    if scores:
        net = with_scores(net, fit_scores(model, load_frames(scores), net.kinds))
        set_scores(model, net)
    half = None if mirrored else half_graph_of(net, frames, model)
    return _write(out, net, model, half, frames[0], lineage, name=name, version=version, odd=odd)


def graph_of(net: NetR, frames: Sequence[Frames]) -> onnx.ModelProto:
    """Return the uint8 graph of a network, calibrated and fitted on frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        to_onnx(net, path)
        float_graph = session(path.read_bytes())
        shape = tuple(net.no_memory(1).shape)

        def see(inputs: dict[str, np.ndarray]) -> np.ndarray:
            return float_graph.run(["memory_out"], as_floats(inputs))[0]

        check_parity(net, path, list(_inputs(frames, 3, see, shape)))
        model = quantise(path, _inputs(frames, CALIBRATION_FRAMES, see, shape))
    fit_uncertainty(model, frames)
    set_scores(model, net)
    return model


def half_graph_of(net: NetR, frames: Sequence[Frames], model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the uint8 graph that looks through half the cameras, beside the whole one.

    Args:
        model: the whole graph; its embedding statistics and memories are taken over.
    """
    whole, shape = session(model.SerializeToString()), tuple(net.no_memory(1).shape)

    def halves() -> Iterator[dict[str, np.ndarray]]:
        for i, inputs in enumerate(_inputs(frames, CALIBRATION_FRAMES, see_with(whole), shape)):
            front, side = half_cameras(bool(i % 2))
            yield {
                "front": inputs["front"][front],
                "side": inputs["side"][side],
                "memory": inputs["memory"],
                "cached": whole.run(["rows"], inputs)[0],
                "order": half_order(bool(i % 2)),
            }

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.onnx"
        to_onnx(net, path, half=True)
        half = quantise(path, halves())
    for name in _STATISTICS:
        _set(half, name, _get(model, name))
    set_scores(half, net)
    return half


def see_with(graph: onnxruntime.InferenceSession) -> See:
    """Return what runs a uint8 graph on one frame for its memory."""
    return lambda inputs: graph.run(["memory_out"], inputs)[0]


def _inputs(
    frames: Sequence[Frames], limit: int, see: See, shape: tuple[int, ...]
) -> Iterator[dict[str, np.ndarray]]:
    for data, index in spread_over(frames, limit):
        yield inputs_of(data, index, see, shape)


_STATISTICS: Final = ("embedding_mean", "embedding_whiten")


def _get(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(i for i in model.graph.initializer if i.name == name))


def _set(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    entry = next(i for i in model.graph.initializer if i.name == name)
    entry.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def fit_uncertainty(model: onnx.ModelProto, frames: Sequence[Frames]) -> None:
    """Set the embedding statistics in the graph: distance 1 is the 99th percentile of `frames`."""
    graph = session(model.SerializeToString())
    shape = tuple(graph.get_inputs()[2].shape)
    seen = [
        graph.run(["embedding"], inputs)[0][0]
        for inputs in _inputs(frames, STATISTICS_FRAMES, see_with(graph), shape)
    ]
    embedding_NE = np.stack(seen).astype(np.float64)
    mean_E = embedding_NE.mean(axis=0)
    centred = embedding_NE - mean_E
    covariance = centred.T @ centred / max(len(centred) - 1, 1)
    size = len(mean_E)
    covariance += np.eye(size) * (SHRINKAGE * np.trace(covariance) / size + 1e-9)
    whiten = np.linalg.cholesky(np.linalg.inv(covariance))
    squared = ((centred @ whiten) ** 2).sum(axis=1)
    whiten /= np.sqrt(np.percentile(squared, 99))
    for name, value in zip(_STATISTICS, (mean_E, whiten), strict=True):
        _set(model, name, value)


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without the exporter's notes: stack traces name the maker's own folders."""
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    for noted in (clean, clean.graph, *clean.graph.node, *clean.graph.value_info):
        noted.ClearField("doc_string")
        noted.ClearField("metadata_props")
    return clean


def _write(
    out: Path,
    net: NetR,
    model: onnx.ModelProto,
    half: onnx.ModelProto | None,
    frames: Frames,
    lineage: Lineage,
    *,
    name: str,
    version: int,
    odd: dict[str, str],
) -> ModelBundle:
    data = without_traces(model).SerializeToString()
    graph = session(data)
    frame = next(_inputs([frames], 1, see_with(graph), tuple(graph.get_inputs()[2].shape)))
    given = [o.name for o in graph.get_outputs()]
    answer = dict(zip(given, graph.run(given, frame), strict=True))
    golden = {f"in_{k}": v for k, v in frame.items()} | {f"out_{k}": v for k, v in answer.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **golden)
    out.mkdir(parents=True, exist_ok=True)
    (out / "bundle.json").unlink(missing_ok=True)
    wire.atomic_write(out / MODEL, data)
    if half is not None:
        wire.atomic_write(out / HALF, without_traces(half).SerializeToString())
    wire.atomic_write(out / GOLDEN, buffer.getvalue())
    write_weights(out / WEIGHTS, net, half=True)
    files = tuple(
        _entry(out / n) for n in (GOLDEN, HALF, MODEL, WEIGHTS) if n != HALF or half is not None
    )
    size = sum(f.size_bytes for f in files)
    if size > MAX_BUNDLE_BYTES:
        raise BundleTooLargeError(f"{out} is {size} bytes, expected at most {MAX_BUNDLE_BYTES}")
    spread = float(np.abs(answer["embedding"]).mean())
    bundle = ModelBundle(
        name=name,
        version=version,
        odd=odd,
        rig=RIG_R,
        inputs=tuple(_spec(k, v) for k, v in frame.items()),
        outputs=tuple(_spec(k, answer[k]) for k in given),
        kinds=net.kinds,
        bev=BEV,
        bev_box=BEV_BOX,
        precision="uint8-qdq",
        latency_budget_us=LATENCY_BUDGET_US,
        golden={**GOLDEN_TOLERANCE, "embedding": round(max(0.1 * spread, 1e-3), 4)},
        lineage=lineage,
        files=files,
    )
    wire.atomic_write(out / "bundle.json", wire.to_bytes(bundle))
    return bundle


def _entry(path: Path) -> FileEntry:
    return FileEntry(name=path.name, sha256=wire.digest_file(path), size_bytes=path.stat().st_size)


def _spec(name: str, value: np.ndarray) -> TensorSpec:
    return TensorSpec(name=name, shape=value.shape, dtype=str(value.dtype))
