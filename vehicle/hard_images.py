"""Pictures that some networks are slow on, and how much slower this one is.

A float network of 5.4 GMAC took 75 ms on random pictures and 1,114 ms on black ones, because of
subnormal numbers; a loop that fits its budget by day would miss it in a tunnel.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from vehicle.contracts.bundle import TensorSpec

WORST_IMAGE_RATIO: Final = 1.3
"""The slowest picture may cost this much of the median one."""

ROUNDS: Final = 5
RETRIES: Final = 8
"""Rounds of runs, and how often more are taken before a network is called slow: on a busy machine
the best run of each picture only gets truer."""

NOISE_US: Final = 150.0
"""Differences below this are the machine's, not the network's."""

Inputs = dict[str, np.ndarray]


def hard_images(
    specs: tuple[TensorSpec, ...], golden: Mapping[str, np.ndarray]
) -> dict[str, Inputs]:
    """Return inputs by name of picture: black, white, saturated, noise and golden.

    Pictures are the uint8 inputs, and float inputs of one or three channels (levels 0..255, as
    foreign detectors take them); what else a network takes is as in the golden inputs, else zero.

    Args:
        specs: inputs of the network.
        golden: in_NAME arrays of a bundle's golden.npz; without them there is no "golden".
    """
    rng = np.random.default_rng(0)
    makers: dict[str, Callable[[tuple[int, ...]], np.ndarray]] = {
        "black": lambda s: np.zeros(s),
        "white": lambda s: np.full(s, 255),
        "saturated": lambda s: rng.integers(0, 2, s) * 255,
        "noise": lambda s: rng.integers(0, 256, s),
    }
    given = {n.removeprefix("in_"): a for n, a in golden.items() if n.startswith("in_")}
    made: dict[str, Inputs] = {}
    for name, maker in makers.items():
        made[name] = {}
        for spec in specs:
            whole = given.get(spec.name)
            if _is_picture(spec) or whole is None:
                filled = maker(spec.shape) if _is_picture(spec) else np.zeros(spec.shape)
                made[name][spec.name] = filled.astype(spec.dtype)
            else:
                made[name][spec.name] = np.ascontiguousarray(whole)
    if all(spec.name in given for spec in specs):
        made["golden"] = {s.name: np.ascontiguousarray(given[s.name]) for s in specs}
    return made


def worst_image(
    images: Mapping[str, Inputs], run: Callable[[Inputs], object]
) -> tuple[str, float, dict[str, float]]:
    """Return the slowest picture, its time over the median picture's, and all times in ms.

    Pictures take turns, processor time is counted and the best run of each, so that a busy moment
    of the machine falls on none of them; too large a ratio is measured again before it is believed.

    Args:
        images: from `hard_images`.
        run: runs the network once.
    """
    best = dict.fromkeys(images, float("inf"))
    for _ in range(RETRIES + 1):
        for _ in range(ROUNDS):
            for name, inputs in images.items():
                began_ns = time.process_time_ns()
                run(inputs)
                best[name] = min(best[name], (time.process_time_ns() - began_ns) * 1e-6)
        slowest = max(best, key=lambda n: best[n])
        median = float(np.median(list(best.values())))
        ratio = best[slowest] / median
        if best[slowest] - median < NOISE_US * 1e-3:
            ratio = min(ratio, 1.0)
        if ratio <= WORST_IMAGE_RATIO:
            break
    return slowest, ratio, best


def _is_picture(spec: TensorSpec) -> bool:
    if spec.dtype == "uint8":
        return True
    channels = {spec.shape[1], spec.shape[-1]} if len(spec.shape) == 4 else set()
    return spec.dtype == "float32" and bool(channels & {1, 3}) and min(spec.shape[1:]) < 4
