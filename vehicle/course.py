"""The way a plan leads, pulled straight: who stands on it, beside it, and how far ahead.

The rules of responsibility-sensitive safety are written for lanes, not for a ruler laid along the
bonnet: in a bend, a car parked outside it lies straight ahead and is in nobody's way.
"""

import math
from typing import Final

import numpy as np
from numba import njit

from vehicle.proposals import TLEN, TVX, TVY, TWID, TX, TY, TYAW

_STEP_M: Final = 0.5
"""Poses nearer together than this say nothing about direction."""


@njit(cache=True)
def straighten(users: np.ndarray, course: np.ndarray) -> np.ndarray:
    """Return road users as they lie along a course: x along it, y to its left, yaw 0.

    Sizes are those of the stretch and the strip of the course that each covers, corner by corner.

    Args:
        users: [N, 7] float64, columns of `vehicle.proposals`, ego frame.
        course: [M, 3] float64 x, y, yaw of the rear axle, from here on; it goes on straight after
            its end and before its begin.
    """
    marks = np.empty((course.shape[0], 4))
    marks[0, :3], marks[0, 3] = course[0], 0.0
    count = 1
    for i in range(1, course.shape[0]):
        last = marks[count - 1]
        step = math.hypot(course[i, 0] - last[0], course[i, 1] - last[1])
        if step >= _STEP_M:
            marks[count, :3], marks[count, 3] = course[i], last[3] + step
            count += 1
    out = users.copy()
    for n in range(users.shape[0]):
        u = users[n]
        uc, us = math.cos(u[TYAW]), math.sin(u[TYAW])
        low_s, high_s, low_d, high_d, k = 1e300, -1e300, 1e300, -1e300, 0
        for a in (0.5, 0.0, -0.5):
            for b in (0.5, -0.5):
                x = u[TX] + a * u[TLEN] * uc - b * u[TWID] * us
                y = u[TY] + a * u[TLEN] * us + b * u[TWID] * uc
                k = _mark(marks, count, x, y)
                c, s = math.cos(marks[k, 2]), math.sin(marks[k, 2])
                along = marks[k, 3] + c * (x - marks[k, 0]) + s * (y - marks[k, 1])
                beside = -s * (x - marks[k, 0]) + c * (y - marks[k, 1])
                low_s, high_s = min(low_s, along), max(high_s, along)
                low_d, high_d = min(low_d, beside), max(high_d, beside)
        k = _mark(marks, count, u[TX], u[TY])
        c, s = math.cos(marks[k, 2]), math.sin(marks[k, 2])
        out[n, TX], out[n, TY] = 0.5 * (low_s + high_s), 0.5 * (low_d + high_d)
        out[n, TLEN], out[n, TWID], out[n, TYAW] = high_s - low_s, high_d - low_d, 0.0
        out[n, TVX], out[n, TVY] = c * u[TVX] + s * u[TVY], -s * u[TVX] + c * u[TVY]
    return out


@njit(cache=True)
def _mark(marks: np.ndarray, count: int, x: float, y: float) -> int:
    best, k = 1e300, 0
    for i in range(count):
        away = (x - marks[i, 0]) ** 2 + (y - marks[i, 1]) ** 2
        if away < best:
            best, k = away, i
    return k
