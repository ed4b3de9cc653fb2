"""What the network kept of an earlier frame, moved to where the car is now.

The network writes a map of the ground on every frame and reads the one that is about as old as
those it was trained with: what has moved since then has a speed. Kept maps go with the pose they
were made at; a gap in time, a jump of the odometry or no odometry forgets them all.
"""

import math
from typing import Final

import numba
import numpy as np

from vehicle.contracts.ego import EgoState
from vehicle.contracts.scene import BevGrid

GAP_S: Final = 0.5
"""Frames further apart than this have nothing to tell each other."""

SLOTS: Final = 6
"""Maps kept: at 36 Hz the one of 0.1 s before is the fourth last."""

YOUNGEST_RATIO, OLDEST_RATIO = 0.7, 1.5
"""A map is read at this much of the age it was trained at: a speed is read off by how far things
moved, so one of another age would lie."""

_JUMP_M, _JUMP_MPS = 1.0, 80.0


class Memory:
    """Keeps the maps of the last frames; state of the loop, the same in every replay.

    Args:
        channels: of a map.
        grid: its cells, ego frame.
        age_s: how old the map is that the network was trained to read.
    """

    def __init__(self, channels: int, grid: BevGrid, age_s: float) -> None:
        self._grid = (float(grid.x_min_m), float(grid.y_min_m), float(grid.cell_m))
        self._age_s = age_s
        shape = (channels, grid.nx, grid.ny)
        self._maps = np.zeros((SLOTS, *shape), np.float32)
        self._poses = np.zeros((SLOTS, 3))
        self._made_ns: list[int | None] = [None] * SLOTS
        self._next = 0
        self._cells = np.zeros((4, grid.nx * grid.ny), np.int32)
        self._shares = np.zeros((4, grid.nx * grid.ny), np.float32)
        self._blank = True
        self.input = np.zeros((1, *shape), np.float32)
        """What the network reads: always this array."""
        self.used = False
        """Whether there was a map to read for the last frame."""

    def recall(self, ego: EgoState | None, mono_ns: int) -> np.ndarray:
        """Return `input`: the map of about `age_s` ago seen from here, zeros when there is none.

        Args:
            ego: motion now; None forgets everything.
            mono_ns: time of the frame on the route's clock.
        """
        if ego is None or self._torn(ego, mono_ns):
            self.forget()
        slot = self._choose(mono_ns)
        self.used = ego is not None and slot is not None
        if ego is None or slot is None:
            if not self._blank:
                self.input[...] = 0.0
            self._blank = True
            return self.input
        then = self._poses[slot]
        c, s = math.cos(then[2]), math.sin(then[2])
        dx, dy = ego.x_m - then[0], ego.y_m - then[1]
        move = (c * dx + s * dy, -s * dx + c * dy, ego.yaw_rad - float(then[2]))
        warp(self._maps[slot], move, self._grid, self._cells, self._shares, self.input[0])
        self._blank = False
        return self.input

    def keep(self, made: np.ndarray, ego: EgoState | None, mono_ns: int) -> bool:
        """Keep the map of this frame, [1, channels, nx, ny]; return whether all of it is finite."""
        if ego is None:
            return True
        slot = self._next
        if not _copy_finite(made.reshape(-1), self._maps[slot].reshape(-1)):
            self.forget()
            return False
        self._poses[slot] = ego.x_m, ego.y_m, ego.yaw_rad
        self._made_ns[slot] = mono_ns
        self._next = (slot + 1) % SLOTS
        return True

    def forget(self) -> None:
        """Forget all maps."""
        self._made_ns = [None] * SLOTS
        self._next = 0

    def _torn(self, ego: EgoState, mono_ns: int) -> bool:
        """Return whether time or place jumped since the last map."""
        last = (self._next - 1) % SLOTS
        made_ns = self._made_ns[last]
        if made_ns is None:
            return False
        passed_s = (mono_ns - made_ns) * 1e-9
        x, y, _ = self._poses[last]
        moved_m = math.hypot(ego.x_m - x, ego.y_m - y)
        return not 0.0 <= passed_s <= GAP_S or moved_m > _JUMP_M + _JUMP_MPS * passed_s

    def _choose(self, mono_ns: int) -> int | None:
        """Return the slot whose age is nearest to the one trained with, None if none is near."""
        best, slot = math.inf, None
        for i, made_ns in enumerate(self._made_ns):
            if made_ns is None:
                continue
            age_s = (mono_ns - made_ns) * 1e-9
            off_s = abs(age_s - self._age_s)
            fits = YOUNGEST_RATIO * self._age_s <= age_s <= OLDEST_RATIO * self._age_s
            if fits and off_s < best:
                best, slot = off_s, i
        return slot


@numba.njit(cache=True)
def warp(
    made: np.ndarray,
    move: tuple[float, float, float],
    grid: tuple[float, float, float],
    cells: np.ndarray,
    shares: np.ndarray,
    out: np.ndarray,
) -> None:
    """Sample a map where the cells of this frame lay in the frame it was made in.

    Args:
        made: float32 [C, nx, ny].
        move: x_m, y_m, yaw_rad of the ego frame now in the ego frame then.
        grid: x_min_m, y_min_m, cell_m.
        cells, shares: [4, nx * ny] work space.
        out: float32 [C, nx, ny]; bilinear between cell centres, zero beyond the outermost.
    Source: torch.nn.functional.grid_sample, mode "bilinear", padding "zeros", align_corners False.
    """
    channels, nx, ny = made.shape
    x_min, y_min, cell = grid
    dx, dy, turn = move
    c, s = math.cos(turn), math.sin(turn)
    for ix in range(nx):
        x = x_min + (ix + 0.5) * cell
        for iy in range(ny):
            y = y_min + (iy + 0.5) * cell
            along = (c * x - s * y + dx - x_min) / cell - 0.5
            across = (s * x + c * y + dy - y_min) / cell - 0.5
            i, j = math.floor(along), math.floor(across)
            f, g = along - i, across - j
            row = ix * ny + iy
            for corner in range(4):
                a, b = i + corner // 2, j + corner % 2
                share = (f if corner >= 2 else 1.0 - f) * (g if corner % 2 == 1 else 1.0 - g)
                inside = 0 <= a < nx and 0 <= b < ny
                cells[corner, row] = a * ny + b if inside else 0
                shares[corner, row] = share if inside else 0.0
    count = nx * ny
    for k in range(channels):
        plane, target = made[k].reshape(count), out[k].reshape(count)
        for row in range(count):
            target[row] = (
                shares[0, row] * plane[cells[0, row]]
                + shares[1, row] * plane[cells[1, row]]
                + shares[2, row] * plane[cells[2, row]]
                + shares[3, row] * plane[cells[3, row]]
            )


@numba.njit(cache=True)
def _copy_finite(source: np.ndarray, target: np.ndarray) -> bool:
    """Copy, and return whether no value is NaN or infinite."""
    full = False
    bits = source.view(np.int32)
    for i in range(source.size):
        target[i] = source[i]
        full |= (bits[i] & 0x7F800000) == 0x7F800000
    return not full
