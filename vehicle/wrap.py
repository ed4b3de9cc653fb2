"""Somebody's ONNX detector of boxes in pictures, made a bundle that drives."""

import io
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from vehicle import bundles
from vehicle.contracts.bundle import Detector2D, Lineage, ModelBundle
from vehicle.contracts.frame import MissingCalibrationError, Rig
from vehicle.contracts.scene import BEV, BEV_BOX, KINDS
from vehicle.contracts.telemetry import STAGE_BUDGET_US
from vehicle.contracts.wire import RefusedError
from vehicle.detector2d import Reader
from vehicle.engine import Engine

_COCO: Final = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog"),
    *("horse", "sheep", "cow"),
)
"""The first of COCO's 80 classes; of the others none is a road user."""

_OURS: Final = {
    **{"person": "pedestrian", "bicycle": "cyclist", "car": "car", "motorcycle": "motorcycle"},
    **{"bus": "bus", "truck": "truck", "cat": "animal", "dog": "animal", "horse": "animal"},
    **{"sheep": "animal", "cow": "animal"},
}
COCO_KINDS: Final = tuple(_OURS.get(name, "") for name in _COCO) + ("",) * (80 - len(_COCO))
"""Kind of road user per class of a COCO detector, "" for what is none."""

GOLDEN_RATIO: Final = 0.02
"""Largest difference from a golden output, as a share of its largest number: another machine sums
in another order."""

LIKE: Final = {
    "fastestdet": Detector2D(
        cameras=("front",),
        resize="stretch",
        layout="NCHW",
        channels="BGR",
        scale=(1 / 255, 1 / 255, 1 / 255),
        offset=(0.0, 0.0, 0.0),
        output="fastestdet",
        classes=COCO_KINDS,
        min_score_prob=0.5,
    ),
    "yolox": Detector2D(
        cameras=("front",),
        resize="letterbox",
        layout="NCHW",
        channels="BGR",
        scale=(1.0, 1.0, 1.0),
        offset=(0.0, 0.0, 0.0),
        output="yolox",
        classes=COCO_KINDS,
    ),
    "boxes": Detector2D(
        cameras=("front",),
        resize="letterbox",
        layout="NCHW",
        channels="RGB",
        scale=(1 / 255, 1 / 255, 1 / 255),
        offset=(0.0, 0.0, 0.0),
        output="boxes",
        classes=COCO_KINDS,
    ),
}
"""How known families of detectors are fed and read; sources in vehicle/detector2d.py."""


class UnknownDetectorError(RefusedError, ValueError):
    """There is no such family of detectors."""


class ClassListError(RefusedError, ValueError):
    """A file of classes does not read."""


def wrap(
    model: Path,
    out: Path,
    *,
    like: str,
    rig: Rig,
    cameras: tuple[str, ...],
    classes: tuple[str, ...] | None = None,
    min_score_prob: float | None = None,
) -> ModelBundle:
    """Write a bundle folder round a detector, after it has read a picture here.

    Args:
        model: an ONNX file with fixed sizes.
        out: the bundle's folder.
        like: one of LIKE.
        rig: the car's cameras. cameras: those of them that the detector looks through.
        classes: kind per class of the network, "" for none; None: COCO's 80.
        min_score_prob: boxes below are no detections; None: the family's usual.
    Raises:
        UnknownDetectorError: it names the families there are.
        MissingCalibrationError: the rig has no such camera.
        DetectorShapeError: the network is not of that family.
        ModelFileError: not a network that runs here; ContractError: a value out of range.
    """
    if like not in LIKE:
        raise UnknownDetectorError(f"no detector like {like!r}; there are: {', '.join(LIKE)}")
    if not cameras:
        raise MissingCalibrationError("name the camera the detector looks through, with --camera")
    for name in cameras:
        rig.camera(name)
    spec = replace(LIKE[like], cameras=cameras)
    if classes is not None:
        spec = replace(spec, classes=classes)
    if min_score_prob is not None:
        spec = replace(spec, min_score_prob=min_score_prob)
    with Engine(model) as engine:
        reader = Reader(spec, engine.inputs, engine.outputs)
        inputs = reader.feed(_test_picture())
        outputs = {name: array.copy() for name, array in engine.run(inputs).items()}
        given, gives = engine.inputs, engine.outputs
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"in_{n}": a for n, a in inputs.items()}
    arrays |= {f"out_{n}": a for n, a in outputs.items()}
    np.savez_compressed(buffer, **arrays)
    return bundles.write(
        out,
        {bundles.MODEL: model, bundles.GOLDEN: buffer.getvalue()},
        name=re.sub(r"[^a-z0-9-]+", "-", model.stem.lower()).strip("-") or "detector",
        version=1,
        rig=rig,
        inputs=given,
        outputs=gives,
        kinds=tuple(k for k in KINDS if k in spec.classes),
        bev=BEV,
        bev_box=BEV_BOX,
        precision=given[0].dtype,
        latency_budget_us=int(STAGE_BUDGET_US["inference"]),
        golden={n: GOLDEN_RATIO * float(np.abs(a).max() or 1.0) for n, a in outputs.items()},
        lineage=Lineage(recipe=f"wrapped like {like}", dataset_digest=""),
        detector=spec,
    )


def best_run_ms(folder: Path, runs: int = 10) -> float:
    """Return how long a wrapped network takes on this machine at best, one thread, milliseconds.

    Raises:
        All errors of `bundles.load` and `Engine`.
    """
    bundle = bundles.load(folder)
    with Engine(folder / bundles.MODEL) as engine:
        inputs = {s.name: np.zeros(s.shape, s.dtype) for s in bundle.inputs}
        taken = []
        for _ in range(runs):
            began_ns = time.perf_counter_ns()
            engine.run(inputs)
            taken.append(time.perf_counter_ns() - began_ns)
    return min(taken) * 1e-6


def read_classes(path: Path) -> tuple[str, ...]:
    """Return a kind per class from a text file: one line per class, "-" for none of ours.

    Raises:
        ClassListError: no such file, or a line is no kind; it is named.
    """
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ClassListError(f"{path} does not read: {error}") from error
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if line not in (*KINDS, "-"):
            raise ClassListError(
                f"{path}, line {number}: {line!r}, expected one of {', '.join(KINDS)}, or -"
            )
    if not lines:
        raise ClassListError(f"{path} is empty, expected a line per class of the network")
    return tuple("" if line == "-" else line for line in lines)


def _test_picture() -> np.ndarray:
    """Return the picture of the golden answer: sky, road and noise, the same on every machine."""
    rng = np.random.default_rng(1)
    picture = np.full((480, 640, 3), (150, 180, 210), np.int64)
    picture[240:] = (90, 90, 95)
    picture[250:330, 280:360] = (160, 30, 30)
    noisy = picture + rng.integers(-12, 13, picture.shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)
