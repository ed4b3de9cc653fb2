"""A fifth of a second at the start: which runtime, and how many threads, on this machine, now."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from vehicle import bundles
from vehicle.engine import RUNTIMES, Engine, ModelFileError, RuntimeMissingError

BUDGET_S: Final = 0.2
LEAST_RUNS: Final = 3
GAIN_RATIO: Final = 0.9
"""Another choice than the default must be this much faster: a tie is no reason to differ."""

DEFAULT: Final = ("onnxruntime", 1)
OTHER_RUNTIME_SLACK: Final = 3.0
"""Another runtime rounds elsewhere than the one that made the golden answers: it may differ from
them this many times as far. `roadloop bench engine` measures what that does to accuracy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """What runs the network, and why.

    Args:
        runtime, threads: chosen.
        measured_ms: "runtime xthreads" -> best time of a run, milliseconds.
        refused: "runtime xthreads" -> why it could not be chosen.
    """

    runtime: str = DEFAULT[0]
    threads: int = DEFAULT[1]
    measured_ms: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """Return the choice and its figures in one line, for logs and people."""
        figures = ", ".join(f"{n} {ms:.2f} ms" for n, ms in self.measured_ms.items())
        lost = "; ".join(f"{n}: {why}" for n, why in self.refused.items())
        chosen = _name(self.runtime, self.threads)
        return f"{chosen} ({figures or 'not measured'}{'; ' + lost if lost else ''})"

    def metadata(self) -> dict[str, str]:
        """Return what a route file or a clip says about it."""
        return {"engine": _name(self.runtime, self.threads), "engine_measured": self.words}


def choose_for(bundle_folder: Path, *, alone: bool = False) -> EngineChoice:
    """Return what runs a verified bundle fastest here; see `choose`.

    Raises:
        All errors of `bundles.load`; ModelFileError.
    """
    bundle = bundles.load(bundle_folder)
    with np.load(bundle_folder / bundles.GOLDEN, allow_pickle=False) as archive:
        golden = {name: archive[name] for name in archive.files}
    return choose(bundle_folder / bundles.MODEL, golden, bundle.golden, alone=alone)


def choose(
    model_path: Path,
    golden: Mapping[str, np.ndarray],
    allowed: Mapping[str, float],
    *,
    alone: bool = False,
    budget_s: float = BUDGET_S,
) -> EngineChoice:
    """Return what runs a network fastest here and still gives its golden answers.

    Candidates take turns until the time is up, and the best run of each counts: on a busy machine
    that is what repeats.

    Args:
        model_path: the network.
        golden: in_NAME and out_NAME arrays, as in a bundle's golden.npz.
        allowed: output -> largest difference from its golden answer.
        alone: nothing else runs on this machine; otherwise one thread, for two get slower than one
            beside anybody else.
        budget_s: how long to measure, all candidates together; opening them comes on top.
    Raises:
        ModelFileError: the default runtime cannot open the network.
    """
    inputs = {n[3:]: np.ascontiguousarray(a) for n, a in golden.items() if n.startswith("in_")}
    threads = (1, 2) if alone and (os.cpu_count() or 1) > 1 else (1,)
    engines: dict[str, Engine] = {}
    refused: dict[str, str] = {}
    try:
        for runtime in RUNTIMES:
            for count in threads:
                name = _name(runtime, count)
                try:
                    engines[name] = Engine(model_path, count, runtime)
                except RuntimeMissingError:
                    refused[name] = "not installed"
                except ModelFileError as error:
                    if runtime == DEFAULT[0]:
                        raise
                    refused[name] = str(error)
                else:
                    why = _far_off(engines[name], inputs, golden, allowed)
                    if why and runtime != DEFAULT[0]:
                        refused[name] = why
                        engines.pop(name).close()
        measured = _measure(engines, inputs, budget_s)
        best = min(measured, key=lambda n: measured[n])
        usual = _name(*DEFAULT)
        if measured[best] > GAIN_RATIO * measured[usual]:
            best = usual
        runtime, count = engines[best].runtime, engines[best].threads
    finally:
        for engine in engines.values():
            engine.close()
    return EngineChoice(runtime=runtime, threads=count, measured_ms=measured, refused=refused)


def _name(runtime: str, threads: int) -> str:
    return f"{runtime} x{threads}"


def _measure(
    engines: Mapping[str, Engine], inputs: dict[str, np.ndarray], budget_s: float
) -> dict[str, float]:
    best = dict.fromkeys(engines, float("inf"))
    end_s, done = time.perf_counter() + budget_s, 0
    while done < LEAST_RUNS or time.perf_counter() < end_s:
        for name, engine in engines.items():
            began_ns = time.perf_counter_ns()
            engine.run(inputs)
            best[name] = min(best[name], (time.perf_counter_ns() - began_ns) * 1e-6)
        done += 1
    return {n: round(ms, 3) for n, ms in best.items()}


def _far_off(
    engine: Engine,
    inputs: dict[str, np.ndarray],
    golden: Mapping[str, np.ndarray],
    allowed: Mapping[str, float],
) -> str:
    """Return which output is too far from its golden answer, "" for none."""
    answer = engine.run(inputs)
    slack = 1.0 if engine.runtime == DEFAULT[0] else OTHER_RUNTIME_SLACK
    for name, most in allowed.items():
        far = float(np.max(np.abs(answer[name].astype(np.float64) - golden[f"out_{name}"])))
        if not far <= slack * most:
            return f"output {name!r} differs by {far:.3g}, allowed {slack * most:.3g}"
    return ""
