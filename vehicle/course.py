"""The way a plan leads, pulled straight: who stands on it, beside it, and how far ahead.

The rules of responsibility-sensitive safety are written for lanes, not for a ruler laid along the
bonnet: in a bend, a car parked outside it lies straight ahead and is in nobody's way.
"""

import math
from typing import Final

import numpy as np
from numba import njit

from vehicle.proposals import TVX, TVY, TX, TY, TYAW

_STEP_M: Final = 0.5
"""Poses nearer together than this say nothing about direction."""


@njit(cache=True)
def straighten(users: np.ndarray, course: np.ndarray) -> np.ndarray:
    """Return road users as they lie along a course: x along it, y to its left, yaw against it.

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
        best, k = 1e300, 0
        for i in range(count):
            away = (u[TX] - marks[i, 0]) ** 2 + (u[TY] - marks[i, 1]) ** 2
            if away < best:
                best, k = away, i
        c, s = math.cos(marks[k, 2]), math.sin(marks[k, 2])
        dx, dy = u[TX] - marks[k, 0], u[TY] - marks[k, 1]
        out[n, TX], out[n, TY] = marks[k, 3] + c * dx + s * dy, -s * dx + c * dy
        out[n, TYAW] = u[TYAW] - marks[k, 2]
        out[n, TVX], out[n, TVY] = c * u[TVX] + s * u[TVY], -s * u[TVX] + c * u[TVY]
    return out
