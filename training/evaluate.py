"""A bundle on a labelled dataset -> a report. It runs the very graph the car runs.

Where a dataset has runs of frames, only those with a memory count, and they have it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from training import meters
from training.decode import detections
from training.frames import Frames, load_frames
from training.judge import LEAST_PROB, answers, judged_frames, match
from training.metrics import MATCH_M, NEAR_M, OPERATING_PROB, Matches
from vehicle.contracts import wire
from vehicle.contracts.bundle import ModelBundle
from vehicle.contracts.report import EvalReport, MetricResult
from vehicle.contracts.wire import RefusedError

Look = Callable[[int, dict[str, np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]], None]
OUTPUTS: Final = (
    *("heat", "box", "dense", "uncertainty"),
    *("lanes", "light", "flow", "ego_motion"),
)


class BundleUnreadableError(RefusedError):
    """A folder is no bundle, or its network is not the file its manifest names."""


def evaluate(
    bundle_folder: Path,
    dataset_folder: Path,
    *,
    forget: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvalReport:
    """Return how right each head of a bundle is on a dataset.

    Args:
        bundle_folder: with model.onnx and bundle.json.
        dataset_folder: labelled frames of the bundle's rig.
        forget: run without memory.
    Raises:
        BundleUnreadableError: no bundle, or tampered.
        DatasetError, DatasetRigError, EmptyDatasetError: the dataset cannot be used.
    """
    bundle, graph = open_bundle(bundle_folder)
    data = load_frames(dataset_folder, bundle.rig)
    return EvalReport(
        kind="perception",
        subject_digest=wire.digest((bundle_folder / "bundle.json").read_bytes()),
        subject=bundle.tag,
        data_digest=data.manifest.digest,
        metrics=tuple(measured(graph, data, bundle.kinds, forget=forget, progress=progress)),
        config=_config(data, forget),
    )


def measured(
    graph: onnxruntime.InferenceSession,
    data: Frames,
    kinds: tuple[str, ...],
    *,
    forget: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[MetricResult]:
    """Return every metric of a graph on frames; a head it does not have has none."""
    matches, heads = counted(graph, data, kinds, forget=forget, progress=progress)
    return [*meters.of_detections(matches), *heads.results()]


def counted(
    graph: onnxruntime.InferenceSession,
    data: Frames,
    kinds: tuple[str, ...],
    *,
    forget: bool = False,
    look: Look = lambda i, found, wanted: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Matches], meters.Meters]:
    """Return what metrics are made of, so that several datasets can be counted together.

    Args:
        look: shown every frame: its index, the detections by kind, and by kind the wanted boxes
            with the score each was found with.
    """
    matches = {kind: Matches([], []) for kind in kinds}
    heads = meters.Meters()
    for i, answer in answers(graph, data, list(OUTPUTS), forget=forget, progress=progress):
        found = detections(answer["heat"][0], answer["box"][0], kinds, LEAST_PROB)
        wanted = match(matches, found, data.boxes[i])
        heads.add(answer, data, i, wanted)
        look(i, found, wanted)
    return matches, heads


def _config(data: Frames, forget: bool) -> dict[str, str]:
    return {
        "dataset": data.manifest.name,
        "frames": str(len(judged_frames(data))),
        "memory": "no" if forget or data.before(judged_frames(data)[0]) is None else "yes",
        "match_m": str(MATCH_M),
        "operating_prob": str(OPERATING_PROB),
        "near_m": str(NEAR_M),
        **{f"tag.{k}": v for k, v in data.manifest.tags.items()},
    }


def open_bundle(folder: Path) -> tuple[ModelBundle, onnxruntime.InferenceSession]:
    """Return a bundle's manifest and its graph on one thread.

    Raises:
        BundleUnreadableError: no bundle, or tampered.
    """
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
