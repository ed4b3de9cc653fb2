"""Which boxes touch."""

import math

import numpy as np


def boxes_touch(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two boxes (x, y, yaw, length, width) overlap.

    Source: separating axis theorem for convex shapes (Gottschalk, OBBTree, 1996).
    """
    axes = [
        np.array([math.cos(yaw + k), math.sin(yaw + k)])
        for yaw in (a[2], b[2])
        for k in (0.0, math.pi / 2)
    ]
    gap = b[:2] - a[:2]
    for axis in axes:
        reach = 0.0
        for box in (a, b):
            along = np.array([math.cos(box[2]), math.sin(box[2])])
            reach += abs(axis @ along) * box[3] / 2
            reach += abs(axis @ np.array([-along[1], along[0]])) * box[4] / 2
        if abs(axis @ gap) > reach:
            return False
    return True


def touched(table: np.ndarray, body: np.ndarray) -> list[int]:
    """Return the ids of ACTOR rows a body (x, y, yaw, speed, length, width) touches."""
    reach = np.hypot(table["length_m"], table["width_m"]) / 2 + math.hypot(body[4], body[5]) / 2
    near = table[np.hypot(table["x_m"] - body[0], table["y_m"] - body[1]) <= reach]
    ego = body[[0, 1, 2, 4, 5]]
    boxes = np.stack(
        [near[n] for n in ("x_m", "y_m", "yaw_rad", "length_m", "width_m")], axis=1
    ).astype(np.float64)
    return [int(a) for a, box in zip(near["actor_id"], boxes, strict=True) if boxes_touch(ego, box)]
