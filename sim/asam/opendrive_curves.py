"""The curves of OpenDRIVE evaluated: reference lines, widths and offsets along them.

Source: ASAM OpenDRIVE 1.7.0, 7.3 (line, arc, spiral, poly3, paramPoly3) and 9.3 to 9.5 (lanes).
"""

from collections.abc import Sequence

import numpy as np

from sim.asam.opendrive_parse import OdrRoad, Piece, Poly, Section

_FINE = 0.05
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)


def reference(road: OdrRoad, s_m: np.ndarray) -> np.ndarray:
    """Return x, y, yaw [N, 3] of the reference line at places along it."""
    begins = np.array([p.s_m for p in road.pieces])
    own = np.clip(np.searchsorted(begins, s_m + 1e-9, side="right") - 1, 0, len(begins) - 1)
    out = np.zeros((len(s_m), 3))
    for k in np.unique(own):
        rows, piece = own == k, road.pieces[k]
        at = np.clip(s_m[rows] - piece.s_m, 0.0, None)
        u, v, turn = local_curve(piece, at)
        c, n = np.cos(piece.yaw_rad), np.sin(piece.yaw_rad)
        out[rows, 0] = piece.x_m + c * u - n * v
        out[rows, 1] = piece.y_m + n * u + c * v
        out[rows, 2] = piece.yaw_rad + turn
    return out


def local_curve(piece: Piece, at_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return u, v and the heading at places along a piece, in the frame of its beginning."""
    if piece.kind == "poly3":
        return _cubic(piece, at_m)
    if piece.kind == "paramPoly3":
        p = np.clip(at_m / piece.length_m, 0.0, 1.0)
        p = p if piece.normalized else p * piece.length_m
        au, bu, cu, du, av, bv, cv, dv = piece.numbers
        slope_u, slope_v = bu + (2 * cu + 3 * du * p) * p, bv + (2 * cv + 3 * dv * p) * p
        u, v = au + (bu + (cu + du * p) * p) * p, av + (bv + (cv + dv * p) * p) * p
        return u, v, np.arctan2(slope_v, slope_u)
    first, last = 0.0, 0.0
    if piece.kind == "arc":
        first = last = piece.numbers[0]
    elif piece.kind == "spiral":
        first, last = piece.numbers
    change = (last - first) / piece.length_m
    u, v = _clothoid(first, change, at_m)
    return u, v, first * at_m + change * at_m**2 / 2


def _clothoid(first: float, change: float, at_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the integral of the direction, by Gauss-Legendre over steps of at most a metre."""
    end = float(at_m.max(initial=0.0))
    knots = np.unique(np.concatenate([[0.0], at_m, np.arange(0.0, end, 1.0)]))
    half = np.diff(knots) / 2
    inner = knots[:-1, None] + half[:, None] * (1.0 + _NODES)
    turn = first * inner + change * inner**2 / 2
    steps = np.stack([np.cos(turn) @ _WEIGHTS, np.sin(turn) @ _WEIGHTS], axis=1) * half[:, None]
    place = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    found = place[np.searchsorted(knots, at_m)]
    return found[:, 0], found[:, 1]


def _cubic(piece: Piece, at_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a poly3: v is a cubic of u, and u is found from the length along it."""
    a, b, c, d = piece.numbers
    u = np.arange(0.0, piece.length_m + 2 * _FINE, _FINE)
    v = a + (b + (c + d * u) * u) * u
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(u), np.diff(v)))])
    at = np.interp(at_m, along, u)
    slope = b + (2 * c + 3 * d * at) * at
    return at, a + (b + (c + d * at) * at) * at, np.arctan(slope)


def cubics(polys: Sequence[Poly], at_m: np.ndarray) -> np.ndarray:
    """Return piecewise cubics (begin, a, b, c, d) at places; 0 without any."""
    if not polys:
        return np.zeros(len(at_m))
    table = np.array(polys)
    row = np.clip(np.searchsorted(table[:, 0], at_m + 1e-9, side="right") - 1, 0, len(table) - 1)
    t = at_m - table[row, 0]
    a, b, c, d = table[row, 1:].T
    return a + (b + (c + d * t) * t) * t


def edges(road: OdrRoad, section: Section, at_m: np.ndarray) -> dict[int, np.ndarray]:
    """Return where each lane ends outwards, to the left of the reference line, [N] by lane id.

    Args:
        at_m: along the road, within the section; id 0 is the lanes' own centre.
    """
    centre = cubics(road.offsets, at_m)
    out = {0: centre}
    for sign in (1, -1):
        edge, number = centre, sign
        while number in section.lanes:
            lane = section.lanes[number]
            if lane.borders and not lane.widths:
                edge = cubics(lane.borders, at_m - section.s_m)
            else:
                wide = cubics(lane.widths, at_m - section.s_m)
                edge = edge + sign * np.maximum(wide, 0.0)
            out[number] = edge
            number += sign
    return out
