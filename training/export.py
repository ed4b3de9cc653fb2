"""A run folder -> a bundle folder: the graph a car runs, the weights to go on from, golden vectors.

Batch norms are folded, the graph is compared with torch before it is quantised, the uncertainty is
fitted on what the quantised graph itself says about the training frames, and the manifest is
written last.
"""

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.batches import Frames, load_frames
from training.model import NetR
from training.quantize import PICTURES, quantise, scaled
from training.train import WEIGHTS, read_run
from training.weights import network_of, read_arrays, write_weights
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.bundle import Lineage, ModelBundle, TensorSpec
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.scene import BEV, BEV_BOX
from vehicle.contracts.wire import RefusedError

OUTPUTS: Final = ("heat", "box", "dense", "embedding", "uncertainty")
GOLDEN_TOLERANCE: Final = {"heat": 0.05, "box": 0.15, "dense": 0.06, "uncertainty": 0.05}
"""Largest difference another processor may show: a few uint8 steps of each output, seen when
kernels round differently; the embedding's is a tenth of its own spread."""

PARITY_LIMIT: Final = 1e-3
CALIBRATION_FRAMES: Final = 64
STATISTICS_FRAMES: Final = 1_500
SHRINKAGE: Final = 0.02
"""Share of the mean variance added to every direction: keeps 64 x 64 covariances invertible."""

LATENCY_BUDGET_US: Final = 5_500
MAX_BUNDLE_BYTES: Final = 5_000_000


class RunUnfinishedError(RefusedError):
    """The run folder has no weights: training did not end."""


class ParityError(RefusedError):
    """The exported graph does not compute what torch computes."""


class BundleTooLargeError(RefusedError):
    """The bundle would be larger than what may ship."""


class _Deploy(nn.Module):
    """What a car runs: probabilities instead of logits, and the network's view of itself."""

    def __init__(self, net: NetR) -> None:
        super().__init__()
        self.net = net
        size = net.embedding_size
        self.register_buffer("embedding_mean", torch.full((size,), 0.5))
        self.register_buffer("embedding_whiten", torch.full((size, size), 0.5))

    def forward(self, front: Tensor, side: Tensor) -> tuple[Tensor, ...]:
        out = self.net.view(front, side, batch=1)
        white = (out["embedding"] - self.embedding_mean) @ self.embedding_whiten
        distance = white.square().sum(dim=1, keepdim=True)
        return (
            out["heat"].sigmoid(),
            out["box"],
            out["dense"].sigmoid(),
            out["embedding"],
            distance / (1.0 + distance),
        )


def export(
    run_folder: Path,
    out: Path,
    datasets: Sequence[Path] = (),
    *,
    name: str,
    version: int,
    odd: dict[str, str],
) -> ModelBundle:
    """Write the bundle folder `out` from a finished run, and return its manifest.

    Args:
        run_folder: of `training.train.train`.
        datasets: calibrate the scales and the uncertainty; by default the run's own.
        odd: where it was trained to work.
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
    frames = [load_frames(folder) for folder in datasets or map(Path, run.datasets)]
    model = graph_of(net, frames)
    return _write(out, net, model, frames[0], lineage, name=name, version=version, odd=odd)


def graph_of(net: NetR, frames: Sequence[Frames]) -> onnx.ModelProto:
    """Return the uint8 graph of a network, calibrated and fitted on frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        to_onnx(net, path)
        check_parity(net, path, list(_pictures(frames, 3)))
        model = quantise(path, _pictures(frames, CALIBRATION_FRAMES))
    fit_uncertainty(model, frames)
    return model


def to_onnx(net: NetR, path: Path) -> None:
    """Write the float graph with folded batch norms; inputs are scaled float NCHW pictures."""
    deploy = _Deploy(folded(net)).eval()
    pictures = tuple(torch.zeros(n, 3, h, w) for n, h, w, _ in (a.shape for a in _blank().values()))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            deploy,
            pictures,
            str(path),
            input_names=list(PICTURES),
            output_names=list(OUTPUTS),
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def folded(net: NetR) -> NetR:
    """Return a copy whose batch norms are folded into their convolutions."""
    copy = NetR(net.kinds, net.config)
    copy.load_state_dict(net.state_dict())
    copy.eval()
    for module in list(copy.modules()):
        if isinstance(module, nn.Sequential) and isinstance(module[1], nn.BatchNorm2d):
            module[0] = fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    return copy


def check_parity(net: NetR, path: Path, frames: Sequence[dict[str, np.ndarray]]) -> float:
    """Return the largest difference between torch and the float graph.

    Raises:
        ParityError: it is over PARITY_LIMIT; names the output.
    """
    session = _session(path.read_bytes())
    net.eval()
    worst = 0.0
    for frame in frames:
        answer = dict(
            zip(OUTPUTS, session.run(None, {k: scaled(v) for k, v in frame.items()}), strict=True)
        )
        with torch.no_grad():
            wanted = net(*(torch.from_numpy(frame[k])[None] for k in PICTURES))
        for name in ("heat", "dense"):
            wanted[name] = wanted[name].sigmoid()
        for name, value in wanted.items():
            gap = float(np.abs(answer[name] - value.numpy()).max())
            if gap > PARITY_LIMIT:
                raise ParityError(f"output {name!r} differs from torch by {gap:.2g}")
            worst = max(worst, gap)
    return worst


def fit_uncertainty(model: onnx.ModelProto, frames: Sequence[Frames]) -> None:
    """Set the embedding statistics in the graph: distance 1 is the 99th percentile of `frames`."""
    session = _session(model.SerializeToString())
    seen = [session.run(["embedding"], f)[0][0] for f in _pictures(frames, STATISTICS_FRAMES)]
    embedding_NE = np.stack(seen).astype(np.float64)
    mean_E = embedding_NE.mean(axis=0)
    centred = embedding_NE - mean_E
    covariance = centred.T @ centred / max(len(centred) - 1, 1)
    size = len(mean_E)
    covariance += np.eye(size) * (SHRINKAGE * np.trace(covariance) / size + 1e-9)
    whiten = np.linalg.cholesky(np.linalg.inv(covariance))
    squared = ((centred @ whiten) ** 2).sum(axis=1)
    whiten /= np.sqrt(np.percentile(squared, 99))
    for name, value in (("embedding_mean", mean_E), ("embedding_whiten", whiten)):
        entry = next(i for i in model.graph.initializer if i.name == name)
        entry.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def _pictures(frames: Sequence[Frames], limit: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield up to `limit` frames spread evenly over each dataset."""
    each = max(limit // len(frames), 1)
    for data in frames:
        for i in np.unique(np.linspace(0, len(data) - 1, min(each, len(data))).astype(int)):
            yield {"front": data.front[i], "side": data.side[i]}


def _blank() -> dict[str, np.ndarray]:
    front, side = RIG_R.cameras[0], RIG_R.cameras[-1]
    return {
        "front": np.zeros((2, front.height_px, front.width_px, 3), np.uint8),
        "side": np.zeros((len(RIG_R.cameras) - 2, side.height_px, side.width_px, 3), np.uint8),
    }


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


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
    frames: Frames,
    lineage: Lineage,
    *,
    name: str,
    version: int,
    odd: dict[str, str],
) -> ModelBundle:
    data = without_traces(model).SerializeToString()
    frame = {k: np.ascontiguousarray(v) for k, v in next(_pictures([frames], 1)).items()}
    answer = dict(zip(OUTPUTS, _session(data).run(list(OUTPUTS), frame), strict=True))
    golden = {f"in_{k}": v for k, v in frame.items()} | {f"out_{k}": v for k, v in answer.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **golden)
    out.mkdir(parents=True, exist_ok=True)
    (out / "bundle.json").unlink(missing_ok=True)
    wire.atomic_write(out / "model.onnx", data)
    wire.atomic_write(out / "golden.npz", buffer.getvalue())
    write_weights(out / WEIGHTS, net)
    files = tuple(_entry(out / n) for n in ("golden.npz", "model.onnx", WEIGHTS))
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
        outputs=tuple(_spec(k, answer[k]) for k in OUTPUTS),
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
