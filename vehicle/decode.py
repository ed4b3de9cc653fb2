"""Network outputs to road users, lines and grids: compiled, bit-equal on every machine.

Peaks of the heat map are boxes; two boxes of a kind whose centres are too close are one road user.
"""

import math
from typing import Final

import numba
import numpy as np

from vehicle.contracts.scene import FLOW_STEP_MPS, KINDS, TRACK, BevGrid, LaneLine

MAX_BOXES: Final = 64
"""Most boxes of one frame; the best by score are kept."""

HEIGHT_M: Final = {
    **{"car": 1.5, "pedestrian": 1.75, "truck": 3.2, "cyclist": 1.75, "other": 1.2},
    **{"bus": 3.1, "motorcycle": 1.6, "animal": 1.2, "cone": 0.75, "debris": 0.6},
    **{"trailer": 2.0, "emergency": 2.6},
}
"""Height of a kind: the network sees footprints on the ground; planning does not use heights."""

SEPARATION_M: Final = {
    **{"car": 2.0, "pedestrian": 0.8, "truck": 3.0, "cyclist": 1.2, "other": 1.0},
    **{"bus": 3.0, "motorcycle": 1.2, "animal": 0.8, "cone": 0.6, "debris": 0.8},
    **{"trailer": 2.0, "emergency": 2.5},
}
"""Centres of two road users of a kind are at least this far apart: about a body's width."""

LEAST_LINE_PROB: Final = 0.5
LEAST_LINE_POINTS: Final = 3
"""A lane line is told where it is this likely, and when it has this many points."""

STILL_CHANNELS, MOVING_CHANNELS = 6, 8
"""Of a box map: without and with the velocity over ground."""

_COLUMNS: Final = 8
"""Of a decoded box: x, y, yaw, length, width, score, velocity along x and y."""

_HEIGHTS: Final = np.array([HEIGHT_M[k] for k in KINDS], dtype=np.float32)
_LOG_SIZE_MIN, _LOG_SIZE_MAX = math.log(0.2), math.log(25.0)


class Decoder:
    """Decodes the outputs of networks with one set of kinds and one box grid.

    Args:
        kinds: names by heat-map channel, from KINDS.
        grid: of heat and box maps.
        min_score_prob: peaks below are no detections.
    """

    def __init__(self, kinds: tuple[str, ...], grid: BevGrid, min_score_prob: float) -> None:
        self._kind_of = np.array([KINDS.index(k) for k in kinds], dtype=np.int8)
        self._separation_m = np.array([SEPARATION_M[k] for k in kinds], dtype=np.float32)
        self._grid = (float(grid.x_min_m), float(grid.y_min_m), float(grid.cell_m))
        self._min_score = float(np.float32(min_score_prob))
        self._boxes = np.empty((MAX_BOXES, _COLUMNS), dtype=np.float32)
        self._channel = np.empty(MAX_BOXES, dtype=np.int32)
        self._cell = np.empty(MAX_BOXES, dtype=np.int32)

    def boxes(self, heat: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Return the road users as TRACK rows, best score first, with track_id 0.

        Args:
            heat: float32 [K, nx, ny] probabilities.
            box: float32 [6 or 8, nx, ny]: dx_m, dy_m, log length, log width, sin yaw, cos yaw and,
                with 8, vx_mps, vy_mps over ground along ego axes.
        """
        found = _peaks(heat, self._min_score, self._boxes, self._channel, self._cell)
        kept = _boxes(
            found, box, self._grid, self._separation_m, self._boxes, self._channel, self._cell
        )
        tracks = np.zeros(kept, dtype=TRACK)
        _fill(self._boxes, self._channel, self._kind_of, _HEIGHTS, tracks)
        return tracks


def lane_lines(found: np.ndarray, grid: BevGrid) -> tuple[LaneLine, ...]:
    """Return the boundaries that are there, from the ego's left to its right.

    Args:
        found: float32 [lines, nx, 2]: y_m and probability at the rows of `grid`.
    """
    x_m = grid.x_min_m + (np.arange(grid.nx) + 0.5) * grid.cell_m
    there = found[:, :, 1] >= LEAST_LINE_PROB
    lines = []
    for line, rows in zip(found, there, strict=True):
        if np.count_nonzero(rows) >= LEAST_LINE_POINTS:
            points_m = np.column_stack([x_m[rows], line[rows, 0]])
            lines.append(LaneLine(kind="boundary", points_m=points_m))
    return tuple(lines)


def to_levels(prob: np.ndarray) -> np.ndarray:
    """Return probabilities as uint8: 0..255 for 0..1, rounded to the nearest level."""
    levels = np.empty(prob.shape, dtype=np.uint8)
    _to_levels(prob.reshape(-1), levels.reshape(-1))
    return levels


def to_steps(flow_mps: np.ndarray) -> np.ndarray:
    """Return velocities as int8 in steps of FLOW_STEP_MPS, rounded to the nearest."""
    steps = np.empty(flow_mps.shape, dtype=np.int8)
    _to_steps(flow_mps.reshape(-1), steps.reshape(-1), np.float32(1.0 / FLOW_STEP_MPS))
    return steps


def all_finite(values: np.ndarray) -> bool:
    """Return whether no value of a float32 array is NaN or infinite, without allocating."""
    return not _has_full_exponent(values.reshape(-1).view(np.int32))


@numba.njit(cache=True)
def _has_full_exponent(bits: np.ndarray) -> bool:
    """Source: IEEE 754-2019, 3.4: NaN and infinity are what has all exponent bits set."""
    full = False
    for i in range(bits.size):
        full |= (bits[i] & 0x7F800000) == 0x7F800000
    return full


@numba.njit(cache=True)
def _to_levels(prob: np.ndarray, levels: np.ndarray) -> None:
    for i in range(prob.size):
        level = prob[i] * np.float32(255.0) + np.float32(0.5)
        levels[i] = np.uint8(min(max(level, np.float32(0.0)), np.float32(255.0)))


@numba.njit(cache=True)
def _to_steps(flow: np.ndarray, steps: np.ndarray, per_mps: float) -> None:
    for i in range(flow.size):
        step = math.floor(flow[i] * per_mps + np.float32(0.5))
        steps[i] = np.int8(min(max(step, -127.0), 127.0))


@numba.njit(cache=True)
def _is_peak(plane: np.ndarray, x: int, y: int) -> bool:
    """Return whether a cell is the largest of its 3x3; of equal cells the first is."""
    nx, ny = plane.shape
    value = plane[x, y]
    for dx in range(-1, 2):
        for dy in range(-1, 2):
            i, j = x + dx, y + dy
            if (dx == 0 and dy == 0) or i < 0 or j < 0 or i >= nx or j >= ny:
                continue
            earlier = dx < 0 or (dx == 0 and dy < 0)
            if plane[i, j] > value or (earlier and plane[i, j] == value):
                return False
    return True


@numba.njit(cache=True)
def _peaks(
    heat: np.ndarray, least: float, boxes: np.ndarray, channel: np.ndarray, cell: np.ndarray
) -> int:
    """Fill score, channel and cell of the best peaks, best first; return how many there are."""
    kinds, nx, ny = heat.shape
    room, found = channel.size, 0
    for k in range(kinds):
        plane = heat[k]
        for x in range(nx):
            for y in range(ny):
                score = plane[x, y]
                if not score >= least or (found == room and score <= boxes[room - 1, 5]):
                    continue
                if not _is_peak(plane, x, y):
                    continue
                i = min(found, room - 1)
                while i > 0 and boxes[i - 1, 5] < score:
                    boxes[i, 5], channel[i], cell[i] = boxes[i - 1, 5], channel[i - 1], cell[i - 1]
                    i -= 1
                boxes[i, 5], channel[i], cell[i] = score, k, x * ny + y
                found = min(found + 1, room)
    return found


@numba.njit(cache=True)
def _boxes(
    found: int,
    box: np.ndarray,
    grid: tuple[float, float, float],
    separation_m: np.ndarray,
    boxes: np.ndarray,
    channel: np.ndarray,
    cell: np.ndarray,
) -> int:
    """Decode the peaks in place, drop those too near a better one; return how many are left."""
    x_min, y_min, cell_m = grid
    ny, kept, moving = box.shape[2], 0, box.shape[0] >= MOVING_CHANNELS
    for i in range(found):
        x, y = cell[i] // ny, cell[i] % ny
        k = channel[i]
        x_m = x_min + (x + 0.5) * cell_m + box[0, x, y]
        y_m = y_min + (y + 0.5) * cell_m + box[1, x, y]
        double = False
        for j in range(kept):
            if channel[j] == k:
                dx, dy = boxes[j, 0] - x_m, boxes[j, 1] - y_m
                double = double or dx * dx + dy * dy < separation_m[k] * separation_m[k]
        if double:
            continue
        boxes[kept, 0], boxes[kept, 1] = x_m, y_m
        boxes[kept, 2] = math.atan2(box[4, x, y], box[5, x, y])
        boxes[kept, 3] = math.exp(min(max(box[2, x, y], _LOG_SIZE_MIN), _LOG_SIZE_MAX))
        boxes[kept, 4] = math.exp(min(max(box[3, x, y], _LOG_SIZE_MIN), _LOG_SIZE_MAX))
        boxes[kept, 5] = boxes[i, 5]
        boxes[kept, 6] = box[6, x, y] if moving else 0.0
        boxes[kept, 7] = box[7, x, y] if moving else 0.0
        channel[kept] = k
        kept += 1
    return kept


@numba.njit(cache=True)
def _fill(
    boxes: np.ndarray,
    channel: np.ndarray,
    kind_of: np.ndarray,
    height_m: np.ndarray,
    tracks: np.ndarray,
) -> None:
    """Fill zeroed TRACK rows from the first rows of `boxes`: a numpy call a column costs more."""
    for i in range(tracks.size):
        row, b = tracks[i], boxes[i]
        row.kind = kind_of[channel[i]]
        row.x_m, row.y_m, row.yaw_rad = b[0], b[1], b[2]
        row.length_m, row.width_m, row.score_prob = b[3], b[4], b[5]
        row.vx_mps, row.vy_mps = b[6], b[7]
        row.height_m = height_m[row.kind]
