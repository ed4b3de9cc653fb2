"""Which way to arrive touches nobody and stays on the road: looked at closely, cheapest first."""

import math

import numpy as np
from numba import njit

from vehicle.arrive import COST, TIME, at
from vehicle.proposals import STEP_S, boxes_touch
from vehicle.spiral import bend, heading

_FIRST = 24


@njit(cache=True)
def drive(out: np.ndarray, last: int, way: np.ndarray) -> None:
    """Fill the first `last` + 1 states [T, 7] (STATE_COLUMNS) of a car that follows a way."""
    x = y = done = 0.0
    length = way[0]
    for k in range(last + 1):
        t = k * STEP_S
        s, v, a = at(way, t)
        middle = _yaw(way, 0.5 * (done + s) / length)  # a step turns too little for more than this
        x += (s - done) * math.cos(middle)
        y += (s - done) * math.sin(middle)
        done = s
        u = s / length
        out[k, 0], out[k, 1], out[k, 2], out[k, 3] = t, x, y, _yaw(way, u)
        out[k, 4], out[k, 5], out[k, 6] = max(0.0, v), a, bend(way, min(1.0, u))


@njit(cache=True)
def _yaw(way: np.ndarray, u: float) -> float:
    if u <= 1.0:
        return heading(way, u)
    return heading(way, 1.0) + (u - 1.0) * way[0] * bend(way, 1.0)


@njit(cache=True)
def clear(
    states: np.ndarray, last: int, users: np.ndarray, futures: np.ndarray, body: np.ndarray,
    margins: np.ndarray,
) -> int:  # fmt: skip
    """Return the first row of `margins` with which nobody is touched up to step `last`, or its
    length.

    Args:
        users: [N, 2] length and width.
        futures: [N, STEPS, 3] x, y, yaw at each step; where somebody is not there, x is NaN.
        body: front overhang from the rear axle, rear overhang, width.
        margins: [L, 3] metres along, across and of road; widest first.
    """
    length, width = 0.5 * (body[0] + body[1]), 0.5 * body[2]
    middle = 0.5 * (body[0] - body[1])
    steps = min(last + 1, futures.shape[1])
    level = 0
    for n in range(futures.shape[0]):
        half_l, half_w = 0.5 * users[n, 0], 0.5 * users[n, 1]
        reach = length + width + margins[0, 0] + margins[0, 1] + half_l + half_w + abs(middle)
        for k in range(steps):
            dx, dy = futures[n, k, 0] - states[k, 1], futures[n, k, 1] - states[k, 2]
            if not dx * dx + dy * dy < reach * reach:
                continue
            c, s = math.cos(states[k, 3]), math.sin(states[k, 3])
            yaw = futures[n, k, 2]
            co, si = math.cos(yaw), math.sin(yaw)
            while boxes_touch(
                states[k, 1] + c * middle, states[k, 2] + s * middle, c, s,
                length + margins[level, 0], width + margins[level, 1],
                futures[n, k, 0], futures[n, k, 1], co, si, half_l, half_w,
            ):  # fmt: skip
                level += 1
                if level == margins.shape[0]:
                    return level
    return level


@njit(cache=True)
def on_road(
    states: np.ndarray, last: int, grid: np.ndarray, corner: np.ndarray, body: np.ndarray,
    margins: np.ndarray, level: int,
) -> int:  # fmt: skip
    """Return the first row of `margins` from `level` on with which the rim of the body stays on
    drivable cells, or its length; unknown ground counts as road.

    Args:
        grid: uint8 drivable probability, empty when unknown; corner: x_min, y_min, cell.
    """
    if grid.shape[0] == 0:
        return level
    for k in range(last + 1):
        c, s = math.cos(states[k, 3]), math.sin(states[k, 3])
        for p in range(5):
            for side in (-1.0, 1.0):
                while level < margins.shape[0]:
                    more = margins[level, 2]
                    front, rear = body[0] + more, -body[1] - more
                    along, across = rear + (front - rear) * p / 4.0, side * (0.5 * body[2] + more)
                    x = states[k, 1] + c * along - s * across
                    y = states[k, 2] + s * along + c * across
                    if (
                        drivable(grid, (x - corner[0]) / corner[2], (y - corner[1]) / corner[2])
                        > 127.5
                    ):
                        break
                    level += 1
        if level == margins.shape[0]:
            return level
    return level


@njit(cache=True)
def drivable(grid: np.ndarray, row: float, column: float) -> float:
    """Return the value at a place in cells, between the centres of the four around it."""
    row, column = row - 0.5, column - 0.5
    i, j = math.floor(row), math.floor(column)
    if i < 0 or j < 0 or i + 1 >= grid.shape[0] or j + 1 >= grid.shape[1]:
        return 255.0
    f, g = row - i, column - j
    low = (1.0 - g) * grid[i, j] + g * grid[i, j + 1]
    high = (1.0 - g) * grid[i + 1, j] + g * grid[i + 1, j + 1]
    return (1.0 - f) * low + f * high


@njit(cache=True)
def choose(
    states: np.ndarray, ways: np.ndarray, count: int, most: int, users: np.ndarray,
    futures: np.ndarray, body: np.ndarray, grid: np.ndarray, corner: np.ndarray,
    margins: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    """Return the cheapest way that touches nobody and stays on the road, and with which margin.

    The cheapest are looked at one by one, then others spread over all the rest, `most` together;
    the first with the widest margin wins, else the first with the next. -1 when there is none.

    Args:
        states: [T, 7], to work in.
        margins: [L, 3] along, across, road; widest first.
    """
    order = np.argsort(ways[:count, COST])
    best, kept = -1, margins.shape[0]
    first = min(_FIRST, most)
    stride = max(1.0, (count - first) / max(1, most - first))
    for r in range(min(count, most)):
        row = order[r if r < first else min(count - 1, first + int((r - first) * stride))]
        w = ways[row]
        last = round(w[TIME] / STEP_S)
        drive(states, last, w)
        level = clear(states, last, users, futures, body, margins)
        if level < kept:
            level = on_road(states, last, grid, corner, body, margins, level)
        if level < kept:
            best, kept = row, level
        if kept == 0:
            break
    return best, kept
