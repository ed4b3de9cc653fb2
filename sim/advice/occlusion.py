"""Who can be seen from where: lines of sight over the ground, past cars and houses.

For closed loops in which nothing is drawn: a road user is seen when the line from an eye to one of
five points of it passes above or beside everything that stands in between.
"""

import math
from typing import Final

import numpy as np
from numba import njit

SEES_M: Final = 80.0
BLOCKS_M: Final = 0.9
"""Lower things hide nobody."""

_PERSON_M: Final = 1.2
"""Narrower and shorter than this on the ground: a person, who hides nobody either."""

_AIMED_RATIO: Final = 0.7
"""Where on its height somebody is looked for."""

BLOCKER: Final = 6
"""Columns of a blocker: x, y, half length, half width, yaw, height."""


def walls_of(footprints: np.ndarray, heights_m: np.ndarray, solid: np.ndarray) -> np.ndarray:
    """Return what of a town's scenery hides people, float64 [K, 6] (see BLOCKER)."""
    rows = np.column_stack([footprints, heights_m]).astype(np.float64)
    return np.ascontiguousarray(rows[solid & (heights_m >= BLOCKS_M)])


def seen_from(
    table: np.ndarray, walls: np.ndarray, eye_m: np.ndarray, own_id: int = -1
) -> np.ndarray:
    """Return which actors an eye sees, bool [N].

    Args:
        table: ACTOR [N].
        walls: from `walls_of`.
        eye_m: x, y, height in town.
        own_id: the actor whose eye it is, who is seen by itself and hides nobody.
    """
    columns = ("x_m", "y_m", "length_m", "width_m", "yaw_rad", "height_m")
    boxes = np.column_stack([table[c].astype(np.float64) for c in columns])
    boxes[:, 2:4] *= 0.5
    person = (table["length_m"] < _PERSON_M) & (table["width_m"] < _PERSON_M)
    hides = (table["height_m"] >= BLOCKS_M) & ~person
    return _seen(boxes, hides, table["actor_id"] == own_id, walls, eye_m)


@njit(cache=True)
def _seen(
    boxes: np.ndarray, hides: np.ndarray, own: np.ndarray, walls: np.ndarray, eye: np.ndarray
) -> np.ndarray:
    out = np.zeros(len(boxes), np.bool_)
    near = np.zeros(len(walls), np.bool_)
    for k in range(len(walls)):
        reach = SEES_M + walls[k, 2] + walls[k, 3]
        near[k] = math.hypot(walls[k, 0] - eye[0], walls[k, 1] - eye[1]) < reach
    for n in range(len(boxes)):
        b = boxes[n]
        if math.hypot(b[0] - eye[0], b[1] - eye[1]) > SEES_M:
            continue
        c, s = math.cos(b[4]), math.sin(b[4])
        for corner in range(5):
            u, v = 0.0, 0.0
            if corner < 4:
                u, v = 0.8 * b[2] * (1 - 2 * (corner // 2)), 0.8 * b[3] * (1 - 2 * (corner % 2))
            x, y, z = b[0] + c * u - s * v, b[1] + s * u + c * v, _AIMED_RATIO * b[5]
            clear = True
            for m in range(len(boxes)):
                if m != n and hides[m] and not own[m] and _blocks(boxes[m], eye, x, y, z):
                    clear = False
                    break
            if clear:
                for k in range(len(walls)):
                    if near[k] and _blocks(walls[k], eye, x, y, z):
                        clear = False
                        break
            if clear:
                out[n] = True
                break
    return out


@njit(cache=True)
def _blocks(box: np.ndarray, eye: np.ndarray, x: float, y: float, z: float) -> bool:
    """Return whether a box stands in the line from the eye to a point, high enough."""
    c, s = math.cos(box[4]), math.sin(box[4])
    ax, ay = eye[0] - box[0], eye[1] - box[1]
    bx, by = x - box[0], y - box[1]
    au, av = c * ax + s * ay, -s * ax + c * ay
    du, dv = c * bx + s * by - au, -s * bx + c * by - av
    first, last = 0.0, 1.0  # of the line, inside of the box's two strips
    for start, way, half in ((au, du, box[2]), (av, dv, box[3])):
        if abs(way) < 1e-9:
            if abs(start) > half:
                return False
            continue
        one, two = (-half - start) / way, (half - start) / way
        first, last = max(first, min(one, two)), min(last, max(one, two))
    if first >= last:
        return False
    low = min(eye[2] + first * (z - eye[2]), eye[2] + last * (z - eye[2]))
    return low < box[5]
