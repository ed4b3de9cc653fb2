"""Upright boxes on the ground, many at a time: do they touch, how far apart, when will they meet.

A box is x, y, yaw, length, width (metres, radians) in the last axis; leading axes broadcast.
Boxes that share only a border touch.
"""

import numpy as np

_SIGNS = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
_TOUCH_M = 1e-9
"""Rounding allowance, so that a shared border counts as touching in every rotation."""


def corners(box: np.ndarray) -> np.ndarray:
    """Return [..., 4, 2]: front left, rear left, rear right, front right."""
    half = _SIGNS * box[..., None, 3:5] / 2
    c, s = np.cos(box[..., 2, None]), np.sin(box[..., 2, None])
    x, y = half[..., 0], half[..., 1]
    return np.stack([box[..., 0, None] + c * x - s * y, box[..., 1, None] + s * x + c * y], axis=-1)


def touch(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return bool [...]: whether the boxes overlap or share a border.

    Source: separating axis theorem (Gottschalk, "OBBTree", 1996).
    """
    gaps = [np.abs(gap) - reach for gap, _, reach in _on_axes(a, b, None)]
    return np.asarray(np.logical_and.reduce([g <= _TOUCH_M for g in gaps]))


def contact_window(
    a: np.ndarray, b: np.ndarray, velocity_ab: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return when boxes that keep speed and heading touch: from and until, seconds from now.

    Both are inf where they never do; the beginning is below 0 where they touch already.

    Args:
        velocity_ab: [..., 2] velocity of b less that of a, m/s, world frame.
    Source: separating axis theorem for moving convex shapes (Eberly, "Method of separating axes",
        2001): the intersection of the time intervals in which each axis overlaps.
    """
    enter: np.ndarray | None = None
    leave: np.ndarray | None = None
    for gap, rate, reach in _on_axes(a, b, velocity_ab):
        still = np.abs(rate) < 1e-12
        speed = np.where(still, 1.0, rate)
        t0, t1 = (-reach - _TOUCH_M - gap) / speed, (reach + _TOUCH_M - gap) / speed
        inside = np.abs(gap) <= reach + _TOUCH_M
        first = np.where(still, np.where(inside, -np.inf, np.inf), np.minimum(t0, t1))
        last = np.where(still, np.where(inside, np.inf, -np.inf), np.maximum(t0, t1))
        enter = first if enter is None else np.maximum(enter, first)
        leave = last if leave is None else np.minimum(leave, last)
    assert enter is not None
    assert leave is not None
    never = (enter > leave) | (leave < 0.0)
    return np.where(never, np.inf, enter), np.where(never, np.inf, leave)


def _on_axes(
    a: np.ndarray, b: np.ndarray, velocity_ab: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return per axis of both boxes: centre offset, its rate, and the sum of half extents."""
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    turn = b[..., 2] - a[..., 2]
    c, s = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    out = []
    for box, other in ((a, b), (b, a)):
        ux, uy = np.cos(box[..., 2]), np.sin(box[..., 2])
        length, width = box[..., 3], box[..., 4]
        along, across = other[..., 3], other[..., 4]
        for ax, ay, own, reach in (
            (ux, uy, length, c * along + s * across),
            (-uy, ux, width, s * along + c * across),
        ):
            rate = dx * 0.0
            if velocity_ab is not None:
                rate = velocity_ab[..., 0] * ax + velocity_ab[..., 1] * ay
            out.append((dx * ax + dy * ay, rate, (own + reach) / 2))
    return out


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return [...]: the shortest distance between the boxes in metres, 0 where they touch."""
    near = np.minimum(_corner_distance(a, b), _corner_distance(b, a))
    return np.where(touch(a, b), 0.0, near)


def _corner_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the least distance of a corner of `a` to box `b`."""
    d = corners(a) - b[..., None, :2]
    c, s = np.cos(b[..., 2, None]), np.sin(b[..., 2, None])
    x = np.abs(c * d[..., 0] + s * d[..., 1]) - b[..., 3, None] / 2
    y = np.abs(-s * d[..., 0] + c * d[..., 1]) - b[..., 4, None] / 2
    return np.asarray(np.hypot(np.maximum(x, 0.0), np.maximum(y, 0.0)).min(axis=-1))


def touches_quads(box: np.ndarray, quads_m: np.ndarray) -> np.ndarray:
    """Return bool [K]: whether one box [5] touches convex quads [K, 4, 2] of either winding."""
    if not len(quads_m):
        return np.zeros(0, np.bool_)
    own = corners(box)
    edges = np.roll(quads_m, -1, axis=1) - quads_m
    normals = np.stack([-edges[..., 1], edges[..., 0]], axis=-1)
    size = np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    c, s = np.cos(box[2]), np.sin(box[2])
    axes = np.concatenate(
        [normals / size, np.tile([[c, s], [-s, c]], (len(quads_m), 1, 1))], axis=1
    )
    a = np.einsum("kij,cj->kic", axes, own)
    b = np.einsum("kij,kcj->kic", axes, quads_m)
    apart = (a.min(-1) > b.max(-1) + _TOUCH_M) | (b.min(-1) > a.max(-1) + _TOUCH_M)
    return np.asarray(~apart.any(axis=1))


def bumper(box: np.ndarray) -> np.ndarray:
    """Return the front edge as a box of no length."""
    half = box[..., 3] / 2
    return np.stack(
        [
            box[..., 0] + half * np.cos(box[..., 2]),
            box[..., 1] + half * np.sin(box[..., 2]),
            box[..., 2],
            np.zeros_like(half),
            box[..., 4],
        ],
        axis=-1,
    )
