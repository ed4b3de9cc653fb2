"""The degrade ladder: how well perception answers decides how boldly the car may plan."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from vehicle.contracts.frame import FrameSet, Rig
from vehicle.contracts.plan import RUNGS, Rung

Outcome = Literal["fresh", "partial", "late", "failed"]
"""How perception answered a tick: all cameras; some cameras; cut off in time; not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderConfig:
    """How long each rung may last.

    Args:
        coast_s: without an answer, planning on predicted tracks goes on this long.
        hold_s: then the last plan is held this long, before the minimal risk manoeuvre.
        recover_ticks: answers in a row before a better rung is taken again.
    """

    coast_s: float = 0.5
    hold_s: float = 0.5
    recover_ticks: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Where the car stands on the ladder: a value, moved only by `step`.

    Args:
        rung: of this tick.
        bad_since_ns: first frame without an answer, None after an answer.
        good_ticks: answers in a row that deserve a better rung.
    """

    rung: Rung = "full"
    bad_since_ns: int | None = None
    good_ticks: int = 0


DEFAULT: Final = LadderConfig()


def step(ladder: Ladder, outcome: Outcome, mono_ns: int, config: LadderConfig = DEFAULT) -> Ladder:
    """Return the ladder after one tick.

    Down at once, up after `recover_ticks` answers in a row. A minimal risk manoeuvre is never left
    by itself: UN R157 wants a person to restart.

    Args:
        ladder: before.
        outcome: of perception on this tick.
        mono_ns: of the frame, so that a replay decides as the car did.
    """
    if ladder.rung == "mrm":
        return ladder
    if outcome in ("late", "failed"):
        since = mono_ns if ladder.bad_since_ns is None else ladder.bad_since_ns
        bad_s = (mono_ns - since) * 1e-9
        rung: Rung = "coast"
        if bad_s >= config.coast_s:
            rung = "hold_plan" if bad_s < config.coast_s + config.hold_s else "mrm"
        return Ladder(rung=_worse(rung, ladder.rung), bad_since_ns=since)
    wanted: Rung = "fewer_cameras" if outcome == "partial" else "full"
    good = ladder.good_ticks + 1
    if _worse(wanted, ladder.rung) == wanted or good >= config.recover_ticks:
        return Ladder(rung=wanted)
    # there is a scene again, so planning goes on, still without trusting it fully
    held: Rung = "coast" if ladder.rung == "hold_plan" else ladder.rung
    return replace(ladder, rung=held, bad_since_ns=None, good_ticks=good)


def _worse(a: Rung, b: Rung) -> Rung:
    return max(a, b, key=RUNGS.index)


class FrameMender:
    """Keeps perception going when some cameras of a frame are missing or broken.

    Args:
        rig: the cameras every frame should have.
        keep_s: a camera's last image stands in this long; then the network gets none of it.
    """

    def __init__(self, rig: Rig, keep_s: float = 0.5) -> None:
        self._shapes = {c.name: (c.height_px, c.width_px, 3) for c in rig.cameras}
        self._keep_ns = int(keep_s * 1e9)
        self._last: dict[str, tuple[int, np.ndarray]] = {}

    def mend(self, frame: FrameSet) -> tuple[FrameSet, dict[str, str]]:
        """Return a frame perception can take, and what is wrong with which camera."""
        faults: dict[str, str] = {}
        images: dict[str, np.ndarray] = {}
        for name, shape in self._shapes.items():
            image = frame.images.get(name)
            fault = _fault(image, shape)
            if fault is None:
                assert image is not None
                images[name] = image
                self._last[name] = (frame.mono_ns, image)
                continue
            faults[name] = fault
        if len(faults) == len(self._shapes):
            return replace(frame, images={}), faults
        for name in faults:
            seen = self._last.get(name)
            if seen is not None and frame.mono_ns - seen[0] <= self._keep_ns:
                images[name] = seen[1]
        return (replace(frame, images=images), faults) if faults else (frame, {})


def _fault(image: np.ndarray | None, shape: tuple[int, ...]) -> str | None:
    if image is None:
        return "no image"
    if image.shape != shape or image.dtype != np.uint8:
        return f"image is {image.dtype} {list(image.shape)}, expected uint8 {list(shape)}"
    return None


def describe(faults: Mapping[str, str]) -> str:
    """Return faults per camera in one line."""
    return "; ".join(f"{name}: {fault}" for name, fault in faults.items())
