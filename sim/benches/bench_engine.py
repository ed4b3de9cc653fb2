"""`roadloop bench engine`: the same bundle on every runtime and precision, and what that costs.

Time: variants take turns on the same frame. Accuracy: detections and drivable space on labelled
simulator frames, for each variant as it would drive.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from sim.benches.bench_handover import handover_rows
from sim.sense.generate import generate
from vehicle import bundles
from vehicle.bench import engine_bench
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.bundle import ModelBundle
from vehicle.contracts.wire import RefusedError
from vehicle.engine import Engine, RuntimeMissingError
from vehicle.engine_choice import DEFAULT, choose_for

Told = Callable[[float], None]

TOWNS: Final = (101, 102, 103)
FRAMES: Final = 120
"""Labelled frames of towns that no base network was trained on; two make a memory and its use."""

WITHIN_RATIO: Final = 0.99
"""measures.md: the shipped default keeps accuracy within 1 %."""

FIGURES: Final = {"car AP within 30 m": "ap/car/near", "drivable IoU": "iou/drivable"}
WARM_UP_RUNS: Final = 5
FAR_NS: Final = 10_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run a bundle.

    Args:
        name: for the table.
        runtime: of vehicle.engine.
        floats: runs the float twin instead of the shipped file.
    """

    name: str
    runtime: str
    floats: bool


VARIANTS: Final = (
    Variant(name="onnxruntime uint8", runtime="onnxruntime", floats=False),
    Variant(name="onnxruntime fp32", runtime="onnxruntime", floats=True),
    Variant(name="openvino int8", runtime="openvino", floats=False),
    Variant(name="openvino bf16", runtime="openvino-bf16", floats=True),
)
"""The first one ships."""


class _Graph:
    """An engine with the face of an onnxruntime session, for `training.evaluate`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=s.name, shape=s.shape) for s in self._engine.inputs]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name=s.name, shape=s.shape) for s in self._engine.outputs]

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        whole = {n: np.ascontiguousarray(a) for n, a in inputs.items()}
        answer = self._engine.run(whole)
        return [answer[n].copy() for n in names]


def engines_bench(
    *, frames: int, progress: Told, bundle: Path | None, accuracy_frames: int = FRAMES
) -> Bench:
    """Measure every variant of a bundle, then the shipped one on hard pictures and by stages.

    Args:
        frames: runs per variant and number of threads.
        progress: told the share that is done, 0..1.
        bundle: the shipped one when None.
        accuracy_frames: labelled frames.
    """
    folder = bundle or bundles.base_folder()
    manifest = bundles.load(folder)
    bench = Bench(name="engine")
    with tempfile.TemporaryDirectory() as scratch:
        paths, lacks = _files(folder, Path(scratch))
        times = _times(bench, manifest, folder, paths, lacks, frames, lambda s: progress(0.4 * s))
        rates = _accuracy(
            bench,
            manifest,
            paths,
            Path(scratch),
            accuracy_frames,
            lambda s: progress(0.4 + 0.3 * s),
        )
    _musts(bench, times, rates, frames, accuracy_frames)
    _thread_rows(bench, folder, frames)
    handover_rows(bench)
    choice = choose_for(folder)
    bench.rows.append({"row": "self-benchmark at the start of a drive", **choice.metadata()})
    hard = engine_bench(folder, runs=frames, progress=lambda s: progress(0.7 + 0.3 * s))
    bench.rows += hard.rows
    bench.must += hard.must
    return bench


def _files(folder: Path, scratch: Path) -> tuple[dict[bool, Path], str]:
    """Return the network by whether it is the float twin, and why there is no twin ("": it is)."""
    paths = {False: folder / bundles.MODEL}
    try:
        from training.float_graph import float_graph

        path = scratch / "float.onnx"
        path.write_bytes(float_graph(folder))
    except (ImportError, RefusedError, RuntimeError, KeyError, ValueError) as error:
        return paths, f"no float twin: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return {**paths, True: path}, ""


def _opened(
    stack: ExitStack, paths: dict[bool, Path], threads: int
) -> Iterator[tuple[Variant, Engine | str]]:
    """Yield each variant with its engine, or why there is none."""
    for variant in VARIANTS:
        if variant.floats not in paths:
            yield variant, "no float twin"
            continue
        try:
            engine = Engine(paths[variant.floats], threads, variant.runtime)
        except RuntimeMissingError:
            yield variant, "not installed"
            continue
        yield variant, stack.enter_context(engine)


def _times(
    bench: Bench,
    manifest: ModelBundle,
    folder: Path,
    paths: dict[bool, Path],
    lacks: str,
    runs: int,
    progress: Told,
) -> dict[str, float]:
    """Add a row per variant and number of threads; return medians in ms of one thread by name."""
    with np.load(folder / bundles.GOLDEN, allow_pickle=False) as golden:
        inputs = {s.name: np.ascontiguousarray(golden[f"in_{s.name}"]) for s in manifest.inputs}
    medians: dict[str, float] = {}
    for turn, threads in enumerate((1, 2)):
        with ExitStack() as stack:
            opened = {v.name: engine for v, engine in _opened(stack, paths, threads)}
            running = {n: e for n, e in opened.items() if isinstance(e, Engine)}
            took_ms: dict[str, list[float]] = {name: [] for name in running}
            for i in range(runs + WARM_UP_RUNS):
                progress((turn + i / (runs + WARM_UP_RUNS)) / 2)
                for name, engine in running.items():
                    began_ns = time.perf_counter_ns()
                    engine.run(inputs)
                    if i >= WARM_UP_RUNS:
                        took_ms[name].append((time.perf_counter_ns() - began_ns) * 1e-6)
        for name, engine in opened.items():
            row: dict[str, Any] = {"row": f"{name}, {threads} thread(s)", "bundle": manifest.tag}
            if isinstance(engine, Engine):
                row["ms"] = percentiles(took_ms[name])
                if threads == 1:
                    medians[name] = float(np.median(took_ms[name]))
            else:
                row["lacks"] = lacks or engine
            bench.rows.append(row)
    return medians


def _thread_rows(bench: Bench, folder: Path, runs: int) -> None:
    """Add what a deadline costs: the same runs in the caller's thread and in the engine's own."""
    manifest = bundles.load(folder)
    with np.load(folder / bundles.GOLDEN, allow_pickle=False) as golden:
        inputs = {s.name: np.ascontiguousarray(golden[f"in_{s.name}"]) for s in manifest.inputs}
    took_ms: dict[str, list[float]] = {"in the caller's thread": [], "with a deadline": []}
    with Engine(folder / bundles.MODEL) as engine:
        for _ in range(runs):
            for name in took_ms:
                late_ns = time.monotonic_ns() + FAR_NS if name == "with a deadline" else None
                began_ns = time.perf_counter_ns()
                engine.run(inputs, late_ns)
                took_ms[name].append((time.perf_counter_ns() - began_ns) * 1e-6)
    for name, values in took_ms.items():
        bench.rows.append({"row": f"shipped network {name}", "ms": percentiles(values)})


def _accuracy(
    bench: Bench,
    manifest: ModelBundle,
    paths: dict[bool, Path],
    scratch: Path,
    frames: int,
    progress: Told,
) -> dict[str, dict[str, float]]:
    """Add a row of figures per variant; return them by variant and figure."""
    from training.evaluate import measured
    from training.frames import load_frames

    dataset = scratch / "frames"
    generate(dataset, towns=TOWNS, frames=frames, seed=11, sequence=2)
    progress(0.4)
    data = load_frames(dataset, manifest.rig)
    found: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        for number, (variant, engine) in enumerate(_opened(stack, paths, 1)):
            progress(0.4 + 0.6 * number / len(VARIANTS))
            if not isinstance(engine, Engine):
                continue
            graph: Any = _Graph(engine)
            results = {m.name: m for m in measured(graph, data, manifest.kinds)}
            named = {f: results[n] for f, n in FIGURES.items() if n in results}
            found[variant.name] = {f: float(m.value) for f, m in named.items()}
            rounded = {f: round(float(m.value), 4) for f, m in named.items()}
            counts = {f"n of {f}": m.n for f, m in named.items()}
            bench.rows.append({"row": f"accuracy, {variant.name}", **rounded, **counts})
    return found


def _musts(
    bench: Bench,
    times_ms: dict[str, float],
    rates: dict[str, dict[str, float]],
    runs: int,
    frames: int,
) -> None:
    shipped, floats = VARIANTS[0].name, VARIANTS[1].name
    best = {n for n in rates if _kept(rates, n, floats)}
    for figure in FIGURES:
        value = None
        if floats in rates and figure in rates[floats]:
            value = round(rates[shipped][figure] / max(rates[floats][figure], 1e-9), 4)
        bench.must.append(
            Must(
                figure=f"{figure} of the shipped network, share of its float twin's",
                value=value, op=">=", limit=WITHIN_RATIO, unit="ratio", n=frames,
            )
        )  # fmt: skip
    ours = {n: ms for n, ms in times_ms.items() if n.startswith(DEFAULT[0]) and n in best}
    value = round(times_ms[shipped] / min(ours.values()), 4) if ours else None
    bench.must.append(
        Must(
            figure="shipped default over the fastest accurate variant of its runtime, p50",
            value=value, op="<=", limit=1.0, unit="ratio", n=runs,
            peer=", ".join(f"{n} {ms:.2f} ms" for n, ms in times_ms.items()),
        )
    )  # fmt: skip


def _kept(rates: dict[str, dict[str, float]], name: str, floats: str) -> bool:
    """Return whether a variant keeps the accuracy of the float network."""
    if floats not in rates:
        return True
    return all(rates[name][f] >= WITHIN_RATIO * v for f, v in rates[floats].items())
