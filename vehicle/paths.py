"""A path to follow: points of a lane centre, resampled by distance from where the ego stands."""

import math
from typing import Final

import numpy as np
from numba import njit

PATH_POINTS: Final = 256
PATH_STEP_M: Final = 1.0
PATH_BEHIND: Final = 6
"""Rows of a path that lie behind the ego; row PATH_BEHIND is where the ego projects to."""

# columns of a path
S, X, Y, YAW, KAPPA = range(5)


@njit(cache=True)
def _nearest(points: np.ndarray) -> tuple[int, float]:
    """Return segment and fraction nearest to the origin, among those that lead ahead if any do."""
    best, best_i, best_f = 1e18, 0, 0.0
    for ahead_only in (True, False):
        for i in range(points.shape[0] - 1):
            dx = points[i + 1, 0] - points[i, 0]
            dy = points[i + 1, 1] - points[i, 1]
            square = dx * dx + dy * dy
            if square < 1e-8 or (ahead_only and dx < 0.0):
                continue
            f = min(1.0, max(0.0, -(points[i, 0] * dx + points[i, 1] * dy) / square))
            px = points[i, 0] + f * dx
            py = points[i, 1] + f * dy
            d2 = px * px + py * py
            if d2 < best:
                best, best_i, best_f = d2, i, f
        if best < 400.0:
            break
    return best_i, best_f


@njit(cache=True)
def resample(points: np.ndarray) -> np.ndarray:
    """Return a path through `points`, longer than any plan.

    Args:
        points: [P, 2] float64, ego frame, ordered ahead; may begin behind the ego.
    Returns:
        [PATH_POINTS, 5] float64: distance along (0 at the ego's projection), x, y, yaw, curvature,
        one row a metre; straight before the first point and after the last.
    """
    count = points.shape[0]
    along = np.zeros(count)
    for i in range(1, count):
        along[i] = along[i - 1] + math.hypot(
            points[i, 0] - points[i - 1, 0], points[i, 1] - points[i - 1, 1]
        )
    seg, fraction = _nearest(points)
    s_ego = along[seg] + fraction * (along[seg + 1] - along[seg])
    path = np.zeros((PATH_POINTS, 5))
    j = 0
    for i in range(PATH_POINTS):
        s = (i - PATH_BEHIND) * PATH_STEP_M
        want = s_ego + s
        while j < count - 2 and (along[j + 1] < want or along[j + 1] - along[j] < 1e-6):
            j += 1
        k = j
        while k > 0 and along[k + 1] - along[k] < 1e-6:  # the last points repeat: no direction
            k -= 1
        span = max(along[k + 1] - along[k], 1e-6)
        f = (want - along[k]) / span  # outside 0..1 beyond either end: straight on
        path[i, S] = s
        path[i, X] = points[k, 0] + f * (points[k + 1, 0] - points[k, 0])
        path[i, Y] = points[k, 1] + f * (points[k + 1, 1] - points[k, 1])
    _directions(path)
    return path


@njit(cache=True)
def _directions(path: np.ndarray) -> None:
    n = path.shape[0]
    for i in range(n):
        a, b = max(0, i - 2), min(n - 1, i + 2)
        path[i, YAW] = math.atan2(path[b, Y] - path[a, Y], path[b, X] - path[a, X])
    for i in range(n):
        a, b = max(0, i - 3), min(n - 1, i + 3)
        turn = (path[b, YAW] - path[a, YAW] + math.pi) % (2.0 * math.pi) - math.pi
        path[i, KAPPA] = turn / ((b - a) * PATH_STEP_M)


@njit(cache=True)
def arc(curvature_1pm: float) -> np.ndarray:
    """Return points [120, 2] along the circle the ego is on, straight after a quarter of it."""
    points = np.zeros((120, 2))
    x, y, yaw = -5.0, 0.0, 0.0
    for i in range(120):
        points[i, 0], points[i, 1] = x, y
        turn = curvature_1pm if x > -0.5 and abs(yaw) < math.pi / 2 else 0.0
        x += math.cos(yaw + 0.5 * turn)
        y += math.sin(yaw + 0.5 * turn)
        yaw += turn
    return points


@njit(cache=True)
def nearest(path: np.ndarray, x: float, y: float, hint: int) -> int:
    """Return the row nearest to (x, y), searched downhill from `hint`."""
    n = path.shape[0]
    i: int = min(max(hint, 0), n - 1)
    here = (path[i, X] - x) ** 2 + (path[i, Y] - y) ** 2
    for step in (1, -1):
        while 0 <= i + step < n:
            there = (path[i + step, X] - x) ** 2 + (path[i + step, Y] - y) ** 2
            if there >= here:
                break
            i += step
            here = there
    return i


@njit(cache=True)
def locate(path: np.ndarray, x: float, y: float, hint: int) -> tuple[int, float, float]:
    """Return the row nearest to (x, y), searched downhill from `hint`, and s and offset there.

    The offset is positive to the left of the path.
    """
    i = nearest(path, x, y, hint)
    c, s = math.cos(path[i, YAW]), math.sin(path[i, YAW])
    dx, dy = x - path[i, X], y - path[i, Y]
    return i, path[i, S] + c * dx + s * dy, -s * dx + c * dy


@njit(cache=True)
def facing_of(path: np.ndarray) -> np.ndarray:
    """Return [N, 2] cos and sin of the yaw of each row, for who locates many points."""
    out = np.empty((path.shape[0], 2))
    for i in range(path.shape[0]):
        out[i, 0], out[i, 1] = math.cos(path[i, YAW]), math.sin(path[i, YAW])
    return out


@njit(cache=True)
def speed_profile(path: np.ndarray, limit: float, lateral: float, brake: float) -> np.ndarray:
    """Return for each row the speed from which every curve ahead can be taken.

    Args:
        path: from `resample`.
        limit: m/s.
        lateral: bound of the lateral acceleration, m/s2.
        brake: deceleration on the way to a curve, m/s2.
    """
    n = path.shape[0]
    out = np.empty(n)
    for i in range(n):
        out[i] = min(limit, math.sqrt(lateral / max(abs(path[i, KAPPA]), 1e-4)))
    for i in range(n - 2, -1, -1):
        out[i] = min(out[i], math.sqrt(out[i + 1] ** 2 + 2.0 * brake * PATH_STEP_M))
    return out
