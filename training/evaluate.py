"""A bundle on a labelled dataset -> a report. It runs the very graph the car runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from training.batches import Frames, load_frames
from training.decode import detections
from training.losses import dense_target
from training.metrics import MATCH_M, OPERATING_PROB, Matches, wilson
from training.model import DENSE_CHANNELS
from vehicle.contracts import wire
from vehicle.contracts.bundle import ModelBundle
from vehicle.contracts.report import EvalReport, MetricResult
from vehicle.contracts.sample import LABEL_MIN_PIXELS
from vehicle.contracts.scene import BEV_BOX, KINDS
from vehicle.contracts.wire import RefusedError

LEAST_PROB: Final = 0.05
"""Detections below count for nothing, not even for average precision."""

NEAR_M: Final = 30.0


class BundleUnreadableError(RefusedError):
    """A folder is no bundle, or its network is not the file its manifest names."""


def evaluate(
    bundle_folder: Path,
    dataset_folder: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvalReport:
    """Return average precision, recall, raster overlap and uncertainty of a bundle on a dataset.

    Args:
        bundle_folder: with model.onnx and bundle.json.
        dataset_folder: labelled frames of the bundle's rig.
    Raises:
        BundleUnreadableError: no bundle, or tampered.
        DatasetError, DatasetRigError, EmptyDatasetError: the dataset cannot be used.
    """
    bundle, session = _open(bundle_folder)
    data = load_frames(dataset_folder, bundle.rig)
    matches = {kind: Matches([], []) for kind in bundle.kinds}
    overlap = np.zeros((2, len(DENSE_CHANNELS)), dtype=np.int64)
    uncertainty = []
    for i in range(len(data)):
        answer = session.run(
            ["heat", "box", "dense", "uncertainty"], {"front": data.front[i], "side": data.side[i]}
        )
        heat, box, dense, unsure = answer
        _match(matches, detections(heat[0], box[0], bundle.kinds, LEAST_PROB), data.boxes[i])
        said, wanted = dense[0] >= 0.5, dense_target(data.bev[i]) > 0.5
        overlap += [(said & wanted).sum(axis=(1, 2)), (said | wanted).sum(axis=(1, 2))]
        uncertainty.append(float(unsure[0, 0]))
        progress(i + 1, len(data))
    metrics = [m for kind in bundle.kinds for m in _detection_metrics(kind, matches[kind])]
    metrics += _raster_metrics(overlap, len(data))
    metrics.append(_uncertainty_metric(uncertainty))
    return EvalReport(
        kind="perception",
        subject_digest=wire.digest((bundle_folder / "bundle.json").read_bytes()),
        subject=bundle.tag,
        data_digest=data.manifest.digest,
        metrics=tuple(metrics),
        config=_config(data),
    )


def _config(data: Frames) -> dict[str, str]:
    return {
        "dataset": data.manifest.name,
        "match_m": str(MATCH_M),
        "operating_prob": str(OPERATING_PROB),
        "near_m": str(NEAR_M),
        **{f"tag.{k}": v for k, v in data.manifest.tags.items()},
    }


def _open(folder: Path) -> tuple[ModelBundle, onnxruntime.InferenceSession]:
    manifest, model = folder / "bundle.json", folder / "model.onnx"
    if not manifest.is_file() or not model.is_file():
        raise BundleUnreadableError(f"{folder} is not a bundle: no bundle.json or model.onnx in it")
    bundle = wire.from_bytes(ModelBundle, manifest.read_bytes())
    entry = next((f for f in bundle.files if f.name == model.name), None)
    if entry is None or wire.digest_file(model) != entry.sha256:
        raise BundleUnreadableError(f"{model} is not the file its manifest names; export it again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return bundle, onnxruntime.InferenceSession(
        str(model), options, providers=["CPUExecutionProvider"]
    )


def _match(matches: dict[str, Matches], found: dict[str, np.ndarray], boxes: np.ndarray) -> None:
    x, y = boxes[:, 1], boxes[:, 2]
    far_x, far_y = (
        BEV_BOX.x_min_m + BEV_BOX.nx * BEV_BOX.cell_m,
        BEV_BOX.y_min_m + BEV_BOX.ny * BEV_BOX.cell_m,
    )
    inside = (x >= BEV_BOX.x_min_m) & (x < far_x) & (y >= BEV_BOX.y_min_m) & (y < far_y)
    visible = boxes[:, 7] >= LABEL_MIN_PIXELS
    for kind, matched in matches.items():
        of_kind = boxes[:, 0] == KINDS.index(kind)
        other = ~np.isin(boxes[:, 0], [KINDS.index(k) for k in matches])
        wanted = boxes[of_kind & visible & inside, 1:3]
        ignored = boxes[(of_kind & ~(visible & inside)) | other, 1:3]
        matched.add(found[kind], wanted, ignored, NEAR_M)


def _share(name: str, hits: int, n: int) -> MetricResult:
    low, high = wilson(hits, n)
    value = hits / n if n else 0.0
    return MetricResult(name=name, value=value, unit="ratio", n=n, low=low, high=high)


def _detection_metrics(kind: str, m: Matches) -> list[MetricResult]:
    precise, believed = m.precision()
    return [
        MetricResult(name=f"ap/{kind}", value=m.average_precision(), unit="ratio", n=m.labels),
        _share(f"recall/{kind}", m.found, m.labels),
        _share(f"recall/{kind}/near", m.near_found, m.near_labels),
        _share(f"precision/{kind}", precise, believed),
    ]


def _raster_metrics(overlap: np.ndarray, frames: int) -> list[MetricResult]:
    return [
        MetricResult(name=f"iou/{name}", value=float(both / max(either, 1)), unit="ratio", n=frames)
        for name, both, either in zip(DENSE_CHANNELS, *overlap, strict=True)
    ]


def _uncertainty_metric(values: list[float]) -> MetricResult:
    mean = float(np.mean(values))
    half = 1.96 * float(np.std(values)) / max(len(values) - 1, 1) ** 0.5
    return MetricResult(
        name="uncertainty/mean",
        value=mean,
        unit="1 at infinity",
        n=len(values),
        low=mean - half,
        high=mean + half,
        higher_is_better=False,
    )
