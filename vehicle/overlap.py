"""How much two upright boxes overlap: in plan, in space, and against what encloses both.

A box is seven numbers: x, y, z of the middle of its base, yaw, length, width, height; metres and
radians, in any frame whose z points up.
"""

import math
from typing import Final

import numpy as np
from numba import njit

BOX_COLUMNS: Final = ("x_m", "y_m", "z_m", "yaw_rad", "length_m", "width_m", "height_m")
_MOST: Final = 16
"""Corners of two rectangles' intersection (8) or of the list before its hull (8), with room."""


@njit(cache=True)
def corners(box: np.ndarray, out: np.ndarray) -> None:
    """Fill [4, 2] with the corners of a box in plan, anticlockwise from front left."""
    c, s = math.cos(box[3]), math.sin(box[3])
    half_l, half_w = 0.5 * box[4], 0.5 * box[5]
    for i in range(4):
        forward = half_l if i == 0 or i == 3 else -half_l
        left = half_w if i < 2 else -half_w
        out[i, 0] = box[0] + c * forward - s * left
        out[i, 1] = box[1] + s * forward + c * left


@njit(cache=True)
def _area(points: np.ndarray, count: int) -> float:
    twice = 0.0
    for i in range(count):
        j = (i + 1) % count
        twice += points[i, 0] * points[j, 1] - points[j, 0] * points[i, 1]
    return 0.5 * abs(twice)


@njit(cache=True)
def _common_area(a: np.ndarray, b: np.ndarray, work: np.ndarray) -> float:
    """Return the area two rectangles share, cutting one along the sides of the other.

    Args:
        a, b: [4, 2] corners, anticlockwise.
        work: [2, 16, 2] scratch.
    Source: Sutherland and Hodgman, Reentrant Polygon Clipping (1974), own code.
    """
    count, now = 4, 0
    for i in range(4):
        work[0, i, 0], work[0, i, 1] = a[i, 0], a[i, 1]
    for k in range(4):
        x0, y0 = b[k, 0], b[k, 1]
        ex, ey = b[(k + 1) % 4, 0] - x0, b[(k + 1) % 4, 1] - y0
        made, then = 0, 1 - now
        for i in range(count):
            j = (i + 1) % count
            px, py, qx, qy = (
                work[now, i, 0],
                work[now, i, 1],
                work[now, j, 0],
                work[now, j, 1],
            )
            p_side = ex * (py - y0) - ey * (px - x0)
            q_side = ex * (qy - y0) - ey * (qx - x0)
            if p_side >= 0.0:
                work[then, made, 0], work[then, made, 1] = px, py
                made += 1
            if (p_side >= 0.0) != (q_side >= 0.0):
                t = p_side / (p_side - q_side)
                work[then, made, 0] = px + t * (qx - px)
                work[then, made, 1] = py + t * (qy - py)
                made += 1
        count, now = made, then
        if count == 0:
            return 0.0
    return _area(work[now], count)


@njit(cache=True)
def _hull_area(a: np.ndarray, b: np.ndarray, work: np.ndarray) -> float:
    """Return the area of the convex hull of two rectangles' corners.

    Source: Andrew, Another efficient algorithm for convex hulls in two dimensions (1979), own code.
    """
    points, chain = work[0], work[1]
    for i in range(4):
        points[i, 0], points[i, 1] = a[i, 0], a[i, 1]
        points[4 + i, 0], points[4 + i, 1] = b[i, 0], b[i, 1]
    for i in range(1, 8):  # by x, then y
        x, y = points[i, 0], points[i, 1]
        j = i - 1
        while j >= 0 and (points[j, 0] > x or (points[j, 0] == x and points[j, 1] > y)):
            points[j + 1, 0], points[j + 1, 1] = points[j, 0], points[j, 1]
            j -= 1
        points[j + 1, 0], points[j + 1, 1] = x, y
    count = 0
    for turn in range(2):  # the lower chain forth, the upper chain back
        base = count
        for n in range(8):
            i = n if turn == 0 else 7 - n
            while count >= base + 2:
                ax, ay = chain[count - 2, 0], chain[count - 2, 1]
                bx, by = chain[count - 1, 0], chain[count - 1, 1]
                if (bx - ax) * (points[i, 1] - ay) - (by - ay) * (points[i, 0] - ax) > 0.0:
                    break
                count -= 1
            chain[count, 0], chain[count, 1] = points[i, 0], points[i, 1]
            count += 1
        count -= 1  # the end of a chain is the beginning of the other
    return _area(chain, count)


@njit(cache=True)
def overlaps(a: np.ndarray, b: np.ndarray, generalised: bool) -> np.ndarray:
    """Return the overlap of every box of `a` [N, 7] with every box of `b` [M, 7], float64 [N, M].

    Args:
        generalised: False gives intersection over union by volume, 0..1. True takes away the share
            of the enclosing space that neither fills, -1..1, so that boxes apart compare too.
    Source: Rezatofighi et al., Generalized Intersection over Union (2019), with the enclosing
        space as the hull in plan times the span of heights.
    """
    out = np.zeros((a.shape[0], b.shape[0]))
    overlaps_into(a, b, generalised, out)
    return out


@njit(cache=True)
def overlaps_into(a: np.ndarray, b: np.ndarray, generalised: bool, out: np.ndarray) -> None:
    """Fill the corner [N, M] of `out` with `overlaps`; columns of the boxes beyond 7 are unused."""
    ca, cb = np.empty((4, 2)), np.empty((4, 2))
    work = np.empty((2, _MOST, 2))
    for i in range(a.shape[0]):
        corners(a[i], ca)
        radius_a = 0.5 * math.hypot(a[i, 4], a[i, 5])
        for j in range(b.shape[0]):
            out[i, j] = 0.0
            reach = radius_a + 0.5 * math.hypot(b[j, 4], b[j, 5])
            apart = math.hypot(a[i, 0] - b[j, 0], a[i, 1] - b[j, 1]) > reach
            if apart and not generalised:
                continue
            corners(b[j], cb)
            tall = min(a[i, 2] + a[i, 6], b[j, 2] + b[j, 6]) - max(a[i, 2], b[j, 2])
            shared = 0.0
            if not apart and tall > 0.0:
                shared = tall * _common_area(ca, cb, work)
            union = a[i, 4] * a[i, 5] * a[i, 6] + b[j, 4] * b[j, 5] * b[j, 6] - shared
            out[i, j] = shared / union if union > 0.0 else 0.0
            if generalised:
                span = max(a[i, 2] + a[i, 6], b[j, 2] + b[j, 6]) - min(a[i, 2], b[j, 2])
                space = span * _hull_area(ca, cb, work)
                if space > 0.0:
                    out[i, j] -= (space - union) / space
