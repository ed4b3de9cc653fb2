"""What is wrong with which camera, found in microseconds, and a frame that can be used anyway."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numba import njit

from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet, Rig

FaultKind = Literal[
    *("missing", "wrong_size", "wrong_type", "black", "covered", "overexposed"),
    *("frozen", "late", "early", "out_of_order"),
]

SAMPLES: Final = (8, 32)
"""Rows and columns of the pixels that are looked at: 256 of a camera's 18,000 or more. A new
picture is not in the processor's caches: what is looked at costs, not what is computed."""

GREEN: Final = 1
"""The channel that is looked at: most of what a sensor sees; all three take three times as long."""

DARK_LEVEL: Final = 10
BRIGHT_LEVEL: Final = 245
BLACK_RATIO: Final = 0.98
"""Share of dark samples; simulated underexposed night reaches 0.86."""

BRIGHT_RATIO: Final = 0.95
"""Share of bright samples; simulated overexposed day reaches 0.65."""

PLAIN_LEVELS: Final = 2.0
"""Standard deviation below which a picture shows nothing; simulated underexposed night has 5.5."""

FROZEN_FRAMES: Final = 3
FROZEN_M: Final = 1.0
FROZEN_RAD: Final = 0.05
"""As many equal pictures, while the car drove or turned as far, are not the world's doing."""

LATE_NS: Final = 50_000_000
"""A picture this much older than its frame shows where things were."""

RESTART_NS: Final = 1_000_000_000
"""A frame that lies back further is no straggler: its source has started again."""


class Fault(NamedTuple):
    """What is wrong with one camera: its kind, and words with figures."""

    kind: FaultKind
    words: str


class FrameMender:
    """Keeps perception going when some cameras of a frame are missing or broken.

    Args:
        rig: the cameras every frame should have.
        keep_s: a camera's last image stands in this long; then the network gets none of it.
    """

    def __init__(self, rig: Rig, keep_s: float = 0.5) -> None:
        self._shapes = {c.name: (c.height_px, c.width_px, 3) for c in rig.cameras}
        self._grids = {n: _grid(s[0], s[1]) for n, s in self._shapes.items()}
        self._keep_ns = int(keep_s * 1e9)
        count = len(self._shapes)
        self._now = np.zeros((count, *SAMPLES), np.uint8)
        self._before = np.zeros_like(self._now)
        self._seen = np.zeros(count, np.bool_)
        self._had = np.zeros(count, np.bool_)
        self._found = np.zeros((count, 4))
        self._last: dict[str, tuple[int, np.ndarray]] = {}
        self._still: dict[str, tuple[int, EgoState | None]] = {}
        self._exposed: dict[str, int] = {}
        _look(self._now, self._before, self._had, self._seen, self._found)

    def mend(
        self, frame: FrameSet, ego: EgoState | None = None
    ) -> tuple[FrameSet, dict[str, Fault]]:
        """Return a frame perception can take, and what is wrong with which camera.

        Args:
            frame: as it came.
            ego: tells a camera that froze from a car that stands; None: nothing is called frozen.
        """
        faults: dict[str, Fault] = {}
        for i, (name, shape) in enumerate(self._shapes.items()):
            image = frame.images.get(name)
            fault = _shape_fault(image, shape)
            self._seen[i] = fault is None
            if fault is None and image is not None:
                self._now[i] = image[self._grids[name]]
            else:
                faults[name] = fault or Fault("missing", "no image")
        _look(self._now, self._before, self._had, self._seen, self._found)
        found = self._found.tolist()
        for i, name in enumerate(self._shapes):
            if name not in faults:
                fault = self._picture_fault(name, found[i], frame, ego)
                if fault is not None:
                    faults[name] = fault
                elif not found[i][0]:
                    self._last[name] = (frame.mono_ns, frame.images[name])
        self._now, self._before = self._before, self._now
        self._had[:] = self._seen
        return (self._stand_in(frame, faults), faults) if faults else (frame, faults)

    def _stand_in(self, frame: FrameSet, faults: Mapping[str, Fault]) -> FrameSet:
        """Return the frame with recent pictures in place of broken ones; with none left, empty."""
        images: dict[str, np.ndarray] = {}
        if len(faults) < len(self._shapes):
            for name in self._shapes:
                if name not in faults:
                    images[name] = frame.images[name]
                    continue
                seen = self._last.get(name)
                if seen is not None and 0 <= frame.mono_ns - seen[0] <= self._keep_ns:
                    images[name] = seen[1]
        return replace(frame, images=images)

    def _picture_fault(
        self, name: str, found: list[float], frame: FrameSet, ego: EgoState | None
    ) -> Fault | None:
        same, dark, bright, spread = found
        frozen = self._frozen(name, bool(same), ego)
        if dark >= BLACK_RATIO:
            return Fault("black", f"black: {dark:.0%} of it is dark")
        if bright >= BRIGHT_RATIO:
            return Fault("overexposed", f"overexposed: {bright:.0%} of it is white")
        if spread < PLAIN_LEVELS:
            return Fault("covered", f"covered: levels differ by {spread:.1f} of 255")
        return frozen or (self._time_fault(name, frame) if frame.exposed_ns else None)

    def _frozen(self, name: str, same: bool, ego: EgoState | None) -> Fault | None:
        """Return a fault where equal pictures came while the car moved."""
        if not same or ego is None:
            self._still[name] = (1, ego)
            return None
        count, since = self._still.get(name, (1, ego))
        self._still[name] = (count + 1, since if since is not None else ego)
        if count + 1 < FROZEN_FRAMES or since is None:
            return None
        moved_m = float(np.hypot(ego.x_m - since.x_m, ego.y_m - since.y_m))
        turned_rad = abs(ego.yaw_rad - since.yaw_rad)
        if moved_m < FROZEN_M and min(turned_rad, 2 * np.pi - turned_rad) < FROZEN_RAD:
            return None
        return Fault(
            "frozen", f"frozen: {count + 1} equal pictures while the car moved {moved_m:.1f} m"
        )

    def _time_fault(self, name: str, frame: FrameSet) -> Fault | None:
        exposed_ns = frame.exposed_ns.get(name, frame.mono_ns)
        before_ns = self._exposed.get(name)
        self._exposed[name] = exposed_ns
        if before_ns is not None and 0 < before_ns - exposed_ns < RESTART_NS:
            self._exposed[name] = before_ns
            back_ms = (before_ns - exposed_ns) * 1e-6
            return Fault("out_of_order", f"out of order: {back_ms:.0f} ms before the one it had")
        behind_ns = frame.mono_ns - exposed_ns
        if behind_ns > LATE_NS:
            return Fault("late", f"late: {behind_ns * 1e-6:.0f} ms older than its frame")
        if behind_ns < -LATE_NS:
            return Fault("early", f"early: {-behind_ns * 1e-6:.0f} ms after its frame; clocks?")
        return None


class FrameOrder:
    """Notices frames that come twice or in the wrong order; takes a source that starts again."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    def check(self, frame: FrameSet) -> tuple[str, bool]:
        """Return what is wrong with the place of a frame ("": nothing), and whether all restarts.

        A frame that is wrong leaves the order as it was.
        """
        last, now = self._last, (frame.frame_id, frame.mono_ns)
        if last is not None and last[1] - now[1] < RESTART_NS:
            back_ms = (last[1] - now[1]) * 1e-6
            if now[0] == last[0]:
                return f"duplicate: frame {now[0]} came before, {-back_ms:.0f} ms ago", False
            if now[0] < last[0] or now[1] < last[1]:
                return (
                    f"out of order: frame {now[0]} after frame {last[0]}, {back_ms:.0f} ms older",
                    False,
                )
        self._last = now
        return "", last is not None and now[1] < last[1]


def describe(faults: Mapping[str, Fault]) -> str:
    """Return faults per camera in one line."""
    return "; ".join(f"{name}: {fault.words}" for name, fault in faults.items())


def _shape_fault(image: np.ndarray | None, shape: tuple[int, ...]) -> Fault | None:
    if image is None:
        return Fault("missing", "no image")
    if image.shape == shape and image.dtype == np.uint8:
        return None
    words = f"image is {image.dtype} {list(image.shape)}, expected uint8 {list(shape)}"
    return Fault("wrong_size" if image.dtype == np.uint8 else "wrong_type", words)


def _grid(height_px: int, width_px: int) -> tuple[Any, Any, int]:
    """Return the index of SAMPLES pixels spread over an image: slices where they divide it."""
    rows, columns = SAMPLES
    if height_px % rows or width_px % columns:
        v = ((np.arange(rows) + 0.5) * height_px / rows).astype(np.intp)
        u = ((np.arange(columns) + 0.5) * width_px / columns).astype(np.intp)
        return v[:, None], u[None, :], GREEN
    down, across = height_px // rows, width_px // columns
    return slice(down // 2, None, down), slice(across // 2, None, across), GREEN


@njit(cache=True)
def _look(
    now: np.ndarray, before: np.ndarray, had: np.ndarray, seen: np.ndarray, out: np.ndarray
) -> None:
    """Fill `out` [N, 4]: equal to before (0 or 1), dark share, bright share, spread of levels."""
    for k in range(now.shape[0]):
        if not seen[k]:
            continue
        same, dark, bright, total, squares = had[k], 0, 0, 0.0, 0.0
        for v in range(now.shape[1]):
            for u in range(now.shape[2]):
                same = same and now[k, v, u] == before[k, v, u]
                level = float(now[k, v, u])
                dark += level < DARK_LEVEL
                bright += level > BRIGHT_LEVEL
                total += level
                squares += level * level
        count = now.shape[1] * now.shape[2]
        out[k, 0] = 1.0 if same else 0.0
        out[k, 1], out[k, 2] = dark / count, bright / count
        variance = squares / count - (total / count) ** 2
        out[k, 3] = np.sqrt(max(0.0, variance))
