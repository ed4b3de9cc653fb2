"""A path from where the ego stands to a pose: curvature as a cubic of the way, solved by Newton.

The kinematic bicycle can drive such a path exactly, and what is left of it is of the same kind.
"""

import math

import numpy as np
from numba import njit

S_M, A_1PM, B_1PM, C_1PM, K0_1PM = range(5)
"""Columns of a spiral: length, the three coefficients of u, u^2, u^3, curvature at the start."""

SPIRAL = 5
_NODES = 24
_TURNS = 12
_CLOSE_M = 1e-3


@njit(cache=True)
def bend(spiral: np.ndarray, u: float) -> float:
    """Return the curvature at the share `u` of the way."""
    return spiral[4] + u * (spiral[1] + u * (spiral[2] + u * spiral[3]))


@njit(cache=True)
def heading(spiral: np.ndarray, u: float) -> float:
    """Return the yaw at the share `u` of the way."""
    return (
        spiral[0]
        * u
        * (spiral[4] + u * (spiral[1] / 2.0 + u * (spiral[2] / 3.0 + u * spiral[3] / 4.0)))
    )


@njit(cache=True)
def end_pose(spiral: np.ndarray) -> tuple[float, float, float]:
    """Return x, y, yaw at the end of a spiral that begins at the origin, facing along x."""
    x = y = 0.0
    for i in range(_NODES + 1):
        w = (1.0 if i in (0, _NODES) else (4.0 if i % 2 else 2.0)) / (3.0 * _NODES)
        th = heading(spiral, i / _NODES)
        x += w * math.cos(th)
        y += w * math.sin(th)
    return spiral[0] * x, spiral[0] * y, heading(spiral, 1.0)


@njit(cache=True)
def _others(
    free: bool, a: float, s: float, yaw: float, base: float, bend_now: float, bend_then: float
) -> tuple[float, float]:
    """Return the coefficients that `a`, the length and the final heading and curvature leave."""
    if free:
        return 3.0 * (yaw / s - base - a / 2.0), 0.0
    b = 12.0 * (yaw / s - base - a / 4.0)
    return b, bend_then - bend_now - a - b


@njit(cache=True)
def solve(
    out: np.ndarray, x: float, y: float, yaw: float, bend_now: float, bend_then: float
) -> bool:
    """Fill `out` with the spiral from the origin, facing along x, to a pose; False if none is near.

    Args:
        out: [SPIRAL] float64.
        x, y, yaw: the pose to reach, ego frame.
        bend_now, bend_then: curvature at both ends, 1/m; NaN then: whatever needs no cubic term.
    Source: Kelly, Nagy, "Reactive nonholonomic trajectory generation via parametric optimal
        control" (2003); eliminating one coefficient by the final heading is own work.
    """
    chord = math.hypot(x, y)
    if chord < 0.2:
        return False
    s = chord * (1.0 + yaw * yaw / 24.0)
    free = math.isnan(bend_then)
    base = bend_now if free else 0.75 * bend_now + 0.25 * bend_then
    # for small angles the way aside is S * mean heading, in which `a` counts with S / 60 or S / 24
    b, c = _others(free, 0.0, s, yaw, base, bend_now, bend_then)
    mean = s * (bend_now / 2.0 + b / 12.0 + c / 20.0)
    a = (24.0 if free else 60.0) / s * (y / s - mean)
    for _ in range(_TURNS):
        b, c = _others(free, a, s, yaw, base, bend_now, bend_then)
        px = py = xa = ya = xs = ys = 0.0
        for i in range(_NODES + 1):
            u = i / _NODES
            w = (1.0 if i in (0, _NODES) else (4.0 if i % 2 else 2.0)) / (3.0 * _NODES)
            th = s * u * (bend_now + u * (a / 2.0 + u * (b / 3.0 + u * c / 4.0)))
            si, co = math.sin(th), math.cos(th)
            px += w * co
            py += w * si
            if free:
                by_a = s * u * u * (1.0 - u) / 2.0
                by_s = th / s - yaw / s * u * u * u
            else:
                by_a = s * u * u * (1.0 - u) * (1.0 - u) / 2.0
                by_s = th / s - 12.0 * yaw / s * u * u * u * (1.0 / 3.0 - u / 4.0)
            xa -= w * si * by_a
            ya += w * co * by_a
            xs -= w * si * by_s
            ys += w * co * by_s
        ex, ey = x - s * px, y - s * py
        if ex * ex + ey * ey < _CLOSE_M * _CLOSE_M:
            out[0], out[1], out[2], out[3], out[4] = s, a, b, c, bend_now
            return True
        xa, ya = s * xa, s * ya
        xs, ys = px + s * xs, py + s * ys
        det = xa * ys - ya * xs
        if abs(det) < 1e-9:
            return False
        da, ds = (ex * ys - ey * xs) / det, (xa * ey - ya * ex) / det
        ds = min(0.3 * s, max(-0.3 * s, ds))
        a += da
        s += ds
        if s < 0.5 * chord or s > 3.0 * chord + 1.0:
            return False
    return False
