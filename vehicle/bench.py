"""How long one bundle takes on this machine, whatever the pixels are."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from vehicle import bundles
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.bundle import ModelBundle
from vehicle.contracts.frame import FrameSet
from vehicle.engine import Engine
from vehicle.hard_images import WORST_IMAGE_RATIO, hard_images
from vehicle.perception import Perception

RUNS: Final = 700
"""Runs per image: enough for a p99 (vehicle.contracts.bench.MIN_SAMPLES)."""

WARM_UP_RUNS: Final = 5


def engine_bench(
    bundle_folder: Path | None = None,
    *,
    runs: int = RUNS,
    threads: tuple[int, ...] = (1, 2),
    progress: Callable[[float], None] = lambda _: None,
) -> Bench:
    """Measure inference on black, white, saturated, noise and real images, and the whole stage.

    Images take turns, so that a busy moment of the machine falls on all of them alike.

    Args:
        bundle_folder: the shipped bundle when None.
        runs: per image and number of threads.
        threads: of the runtime.
        progress: told the share that is done, 0..1.
    Returns:
        Rows of milliseconds per image, then of microseconds per stage; the figure is the slowest
        image's median over the median of all images' medians, with the first number of threads.
    Raises:
        All errors of `bundles.load` and `Perception`.
    """
    folder = bundle_folder or bundles.base_folder()
    bundle = bundles.load(folder)
    images = _images(bundle, folder)
    bench = Bench(name="engine")
    parts = len(threads) + 1
    for i, count in enumerate(threads):

        def part(share: float, done: int = i) -> None:
            progress((done + share) / parts)

        rows = _inference(bundle, folder, images, runs, count, part)
        bench.rows += rows
        if count == threads[0]:
            bench.must.append(_worst_image(rows, runs))
    bench.rows += _stages(bundle, folder, images, runs)
    progress(1.0)
    return bench


def _images(bundle: ModelBundle, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return the network inputs to measure by name."""
    with np.load(folder / bundles.GOLDEN, allow_pickle=False) as golden:
        return hard_images(bundle.inputs, dict(golden))


def _inference(
    bundle: ModelBundle,
    folder: Path,
    images: dict[str, dict[str, np.ndarray]],
    runs: int,
    threads: int,
    progress: Callable[[float], None],
) -> list[dict[str, Any]]:
    took_ms: dict[str, list[float]] = {name: [] for name in images}
    with Engine(folder / bundles.MODEL, threads) as engine:
        for i in range(runs + WARM_UP_RUNS):
            progress(i / (runs + WARM_UP_RUNS))
            for name, inputs in images.items():
                began_ns = time.perf_counter_ns()
                engine.run(inputs)
                if i >= WARM_UP_RUNS:
                    took_ms[name].append((time.perf_counter_ns() - began_ns) * 1e-6)
    return [
        {
            "row": f"shipped network, {name} picture, {threads} thread(s)",
            "stage": "inference",
            "bundle": bundle.tag,
            "precision": bundle.precision,
            "threads": threads,
            "image": name,
            "unit": "ms",
            **percentiles(values),
        }
        for name, values in took_ms.items()
    ]


def _worst_image(rows: list[dict[str, Any]], runs: int) -> Must:
    medians = [float(row["p50"]) for row in rows if "p50" in row]
    ratio = round(max(medians) / float(np.median(medians)), 4) if medians else None
    return Must(
        figure="worst image / median image, p50 of inference",
        value=ratio,
        op="<=",
        limit=WORST_IMAGE_RATIO,
        unit="ratio",
        n=runs,
    )


def _stages(
    bundle: ModelBundle, folder: Path, images: dict[str, dict[str, np.ndarray]], runs: int
) -> list[dict[str, Any]]:
    """Return rows of every stage of perception on the most real of the images."""
    inputs = images.get("golden", images["noise"])
    arrays = (*inputs["front"], *inputs["side"])
    by_camera = dict(zip((c.name for c in bundle.rig.cameras), arrays, strict=True))
    perception = Perception(folder, bundle.rig)
    took_us: dict[str, list[float]] = {}
    for i in range(runs):
        perception.perceive(FrameSet(frame_id=i, mono_ns=0, images=by_camera))
        for stage, value in perception.stage_us.items():
            took_us.setdefault(stage, []).append(value)
    perception.close()
    return [
        {
            "row": f"perception, {s}",
            "stage": s,
            "bundle": bundle.tag,
            "threads": 1,
            "unit": "us",
            **percentiles(v),
        }
        for s, v in took_us.items()
    ]
