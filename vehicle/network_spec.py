"""What a network may take and give, and whether one does: checked once, when a bundle is opened.

Five outputs are needed; the others tell more where they are there. A network with an input `memory`
reads what it wrote on an earlier frame; one with `rows` can be run on half of the cameras.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle.contracts.bundle import ModelBundle, TensorSpec
from vehicle.contracts.frame import Rig
from vehicle.contracts.sample import LANE_LINES
from vehicle.contracts.scene import KINDS, SIGNAL_STATES
from vehicle.contracts.wire import RefusedError
from vehicle.decode import MOVING_CHANNELS, STILL_CHANNELS
from vehicle.engine import Engine
from vehicle.preprocess import half_of, input_shapes

NEEDED: Final = ("heat", "box", "dense", "embedding", "uncertainty")
FURTHER: Final = ("lanes", "light", "flow", "ego_motion", "memory_out", "rows")
"""Outputs every network has, and those that it may have."""

Found = dict[str, tuple[str, tuple[int, ...]]]


class NetworkShapeError(RefusedError):
    """A network takes or gives other arrays than perception does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What the network of a bundle can do beyond the least.

    Args:
        outputs: all it gives.
        velocity: boxes come with their velocity over ground.
        memory_channels: of the map it keeps; 0: it keeps none.
        rows: shape of `rows`; () when it gives none.
    """

    outputs: frozenset[str]
    velocity: bool
    memory_channels: int
    rows: tuple[int, ...]


def check_kinds(bundle: ModelBundle) -> None:
    """Refuse kinds of road user that nobody knows."""
    unknown = sorted(set(bundle.kinds) - set(KINDS))
    if unknown:
        raise NetworkShapeError(f"bundle {bundle.tag} detects {unknown}, known kinds: {KINDS}")


def check_network(bundle: ModelBundle, engine: Engine) -> Abilities:
    """Return what a network can do after comparing it with its manifest.

    Raises:
        NetworkShapeError: an array is missing, unknown or of another shape; names it.
    """
    front, side = input_shapes(bundle.rig)
    found = _found(engine.inputs, engine.outputs)
    expected = {"front": ("uint8", front), "side": ("uint8", side), **_outputs(bundle, found)}
    if "memory" in found or "memory_out" in found:
        expected["memory"] = found.get("memory_out", ("float32", ()))
    _compare(bundle, "the network", found, expected)
    return Abilities(
        outputs=frozenset(s.name for s in engine.outputs),
        velocity=found["box"][1][1] == MOVING_CHANNELS,
        memory_channels=found["memory"][1][1] if "memory" in found else 0,
        rows=found["rows"][1] if "rows" in found else (),
    )


def check_half(bundle: ModelBundle, whole: Engine, half: Engine) -> None:
    """Refuse a network for half of the cameras that does not answer as the whole one does.

    Raises:
        NetworkShapeError: names the array.
    """
    both = _found(whole.inputs, whole.outputs)
    front, side = input_shapes(bundle.rig)
    _, rows = both.get("rows", ("", (1, 0)))
    expected = {
        **both,
        "front": ("uint8", (front[0] // 2, *front[1:])),
        "side": ("uint8", (side[0] // 2, *side[1:])),
        "cached": ("float32", rows),
        "order": ("int64", (rows[1],)),
    }
    _compare(bundle, "the network for half", _found(half.inputs, half.outputs), expected)


def half_order(bundle: ModelBundle, rows: int, odd: int) -> np.ndarray:
    """Return int64 [rows]: where each camera row comes from when half of the cameras are fresh.

    Args:
        rows: feature rows of all cameras, in camera order.
        odd: 0 or 1, which half is fresh.
    Returns:
        index into the fresh rows followed by all rows of the tick before.
    Raises:
        NetworkShapeError: the rows are no whole number of pixels of each camera.
    """
    counts = _rows_by_camera(bundle.rig, rows)
    if sum(counts) != rows:
        raise NetworkShapeError(
            f"bundle {bundle.tag}: {rows} feature rows do not share the pixels of rig "
            f"{bundle.rig.name!r} evenly"
        )
    starts = np.concatenate([[0], np.cumsum(counts)])
    fresh = half_of(len(counts), odd)
    order = sum(counts[i] for i in fresh) + np.arange(rows)
    done = 0
    for i in fresh:
        order[starts[i] : starts[i + 1]] = np.arange(done, done + counts[i])
        done += counts[i]
    return order.astype(np.int64)


def _rows_by_camera(rig: Rig, rows: int) -> list[int]:
    pixels = [c.height_px * c.width_px for c in rig.cameras]
    stride = max(math.isqrt(sum(pixels) // max(rows, 1)), 1)
    return [(c.height_px // stride) * (c.width_px // stride) for c in rig.cameras]


def _found(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Found:
    return {s.name: (s.dtype, s.shape) for s in (*inputs, *outputs)}


def _outputs(bundle: ModelBundle, found: Found) -> Found:
    """Return the outputs a network should have: the needed ones, and those further ones it has."""
    box, bev = (bundle.bev_box.nx, bundle.bev_box.ny), (bundle.bev.nx, bundle.bev.ny)
    moving = found.get("box", ("", (0, 0)))[1][1:2] == (MOVING_CHANNELS,)
    size = math.prod(found.get("embedding", ("", (0,)))[1])
    kept = found.get("memory_out", found.get("memory", ("", (0, 0))))[1]
    rows = found.get("rows", ("", (0, 0, 0)))[1]
    shapes: dict[str, tuple[int, ...]] = {
        "heat": (1, len(bundle.kinds), *box),
        "box": (1, MOVING_CHANNELS if moving else STILL_CHANNELS, *box),
        "dense": (1, 3, *bev),
        "embedding": (1, size),
        "uncertainty": (1, 1),
        "lanes": (1, len(LANE_LINES), bundle.bev_box.nx, 2),
        "light": (1, len(SIGNAL_STATES) + 1),
        "flow": (1, 2, *box),
        "ego_motion": (1, 2),
        "memory_out": (1, kept[1] if len(kept) > 1 else 0, *box),
        "rows": (1, *rows[1:3]) if len(rows) == 3 else (1, 0, 0),
    }
    told = {name for name in FURTHER if name in found}
    if "memory" in found:
        told.add("memory_out")
    return {n: ("float32", s) for n, s in shapes.items() if n in NEEDED or n in told}


def _compare(bundle: ModelBundle, what: str, found: Found, expected: Found) -> None:
    for name in {**expected, **found}:
        if found.get(name) != expected.get(name):
            raise NetworkShapeError(
                f"bundle {bundle.tag}: {name!r} of {what} is {found.get(name)}, expected "
                f"{expected.get(name)} from its manifest"
            )
