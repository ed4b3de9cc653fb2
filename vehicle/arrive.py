"""Ways to arrive at a goal: what they are, what they cost, how they are sampled. Compiled.

A way is a spiral and how far along it the ego is at each time: first a while of constant
acceleration (to let somebody pass), then a polynomial that ends where, when and as it should.
"""

import math
from typing import Final

import numpy as np
from numba import njit

from vehicle.proposals import STEP_S
from vehicle.spiral import SPIRAL, bend, end_pose, solve

POLY, TIME, COST, WAIT, PULL, SPEED, WAY = (SPIRAL + k for k in (0, 7, 8, 9, 10, 11, 12))
"""Columns of a way after its spiral: coefficients of s from t^0 to t^6 (t from the end of the
wait), seconds to arrive, cost, seconds of the wait, acceleration and first speed in it. WAY: width.
"""

STEER_RADPS: Final = 0.38
"""Fastest turn of the wheels a way may ask for: 0.4 of the usual car, less what rounding takes."""

GRIP_MPS2: Final = 9.0
POWER_M2PS3: Final = 80.0
"""What an engine gives per mass: acceleration times speed."""

_CHECKS: Final = 14
_DULL: Final = 0.02
_LEVELS: Final = (-1.0, 0.0, 1.0)
_WAIT_MPS2: Final = 5.0
_STOP_MPS2: Final = 2.5
_LEFT_S: Final = 0.25
"""After a wait there is at least this much time to arrive."""


@njit(cache=True)
def at(way: np.ndarray, t: float) -> tuple[float, float, float]:
    """Return distance, speed and acceleration after t seconds; a way rolls on past its end."""
    if t < way[WAIT]:
        v = way[SPEED] + way[PULL] * t
        if v <= 0.0 and way[PULL] < 0.0:
            return -0.5 * way[SPEED] ** 2 / way[PULL], 0.0, 0.0
        return 0.5 * (way[SPEED] + v) * t, v, way[PULL]
    t -= way[WAIT]
    late = max(0.0, t - way[TIME] + way[WAIT])
    t -= late
    s = v = a = 0.0
    for i in range(6, -1, -1):
        a = a * t + 2.0 * v
        v = v * t + s
        s = s * t + way[POLY + i]
    if late > 0.0:
        s, a = s + v * late, 0.0
    return s, v, a


@njit(cache=True)
def _pause(way: np.ndarray, v: float, wait: float, low: float) -> float:
    """Fill the columns of the wait; return the metres it takes. Who stops, stops soon."""
    way[WAIT], way[SPEED], way[PULL] = wait, v, 0.0
    if wait <= 0.0:
        return 0.0
    way[PULL] = (low - v) / wait
    if low > 0.0 or v <= 0.0:
        return 0.5 * (v + low) * wait
    way[PULL] = min(way[PULL], -_STOP_MPS2)
    return -0.5 * v * v / way[PULL]


@njit(cache=True)
def time_law(
    way: np.ndarray, v: float, a: float, then: float, end: float, wait: float, low: float,
    bulge: float,
) -> None:  # fmt: skip
    """Fill the time columns of a way whose spiral is known.

    Args:
        v, a: speed and acceleration now. then: speed on arrival. end: seconds to arrive.
        wait: seconds to change to the speed `low` in first, and to stand where that is 0; 0: none,
            `low` has no meaning.
        bulge: metres further on at half time than the plain polynomial would be.
    Source: Takahashi, Hongo, Ninomiya, Sugimoto, "Local path planning and motion control for AGV
        in positioning" (1989); the term t^3 (end - t)^3 that keeps both ends is own work.
    """
    way[TIME] = end
    done = _pause(way, v, wait, low)
    if wait > 0.0:
        v, a, end = low, 0.0, end - wait
    ds = way[0] - done - v * end - 0.5 * a * end * end
    dv = then - v - a * end
    e2, e3 = end * end, end * end * end
    k = bulge * 64.0 / (e3 * e3)
    way[POLY], way[POLY + 1], way[POLY + 2] = done, v, 0.5 * a
    way[POLY + 3] = (20.0 * ds - 8.0 * dv * end - a * e2) / (2.0 * e3) + k * e3
    way[POLY + 4] = (-30.0 * ds + 14.0 * dv * end + 2.0 * a * e2) / (2.0 * e3 * end) - 3.0 * k * e2
    way[POLY + 5] = (12.0 * ds - 6.0 * dv * end - a * e2) / (2.0 * e3 * e2) + 3.0 * k * end
    way[POLY + 6] = -k


@njit(cache=True)
def later(way: np.ndarray, dt: float, v: float, longer: float) -> None:
    """Begin a way `dt` seconds later, at the speed `v` the ego really has, over a path that turned
    out `longer` metres longer; what is off is made up for until the arrival."""
    done = at(way, dt)[0]
    waited = min(way[WAIT], dt)
    way[SPEED] = max(0.0, way[SPEED] + way[PULL] * waited)
    way[WAIT] -= waited
    way[TIME] -= dt
    h = dt - waited
    for i in range(7):  # Taylor shift of the polynomial by h, Horner's way
        for j in range(5, i - 1, -1):
            way[POLY + j] += h * way[POLY + j + 1]
    way[POLY] -= done
    low, off = way[POLY + 1], 0.0
    if way[WAIT] > 1e-6:
        was = way[POLY]
        way[POLY] = _pause(way, v, way[WAIT], low)
        longer -= way[POLY] - was
    else:
        way[WAIT], way[POLY], off = 0.0, 0.0, v - low
    fix = np.zeros(WAY)
    fix[0] = longer
    time_law(fix, off, 0.0, 0.0, way[TIME] - way[WAIT], 0.0, 0.0, 0.0)
    for i in range(7):
        way[POLY + i] += fix[POLY + i]


@njit(cache=True)
def effort(way: np.ndarray, limits: np.ndarray) -> float:
    """Return what a way costs (mean squares of what a passenger feels), inf where it cannot be.

    Args:
        limits: largest acceleration, braking, curvature; wheelbase.
    """
    end, length, cost = way[TIME], way[0], 0.0
    before = 0.0
    for i in range(_CHECKS + 1):
        s, v, a = at(way, end * i / _CHECKS)
        if v < -_DULL or s > length + _DULL or s < -_DULL:
            return math.inf
        u = min(1.0, max(0.0, s / length))
        k = bend(way, u)
        slope = (way[1] + u * (2.0 * way[2] + u * 3.0 * way[3])) / length
        lean = limits[3] * k
        steer = limits[3] * slope * v / (1.0 + lean * lean)
        most = min(limits[0], POWER_M2PS3 / max(v, 0.1))
        # the acceleration now is a fact, and may lie beyond what one would ask for
        if i > 0 and (a > most or a < -limits[1]):
            return math.inf
        if abs(k) > limits[2] or abs(steer) > STEER_RADPS:
            return math.inf
        side = v * v * k
        if a * a + side * side > GRIP_MPS2 * GRIP_MPS2:
            return math.inf
        jerk = 0.0 if i == 0 else (a - before) * _CHECKS / end
        before = a
        cost += a * a + side * side + 0.2 * jerk * jerk + 20.0 * steer * steer
    return cost / (_CHECKS + 1)


@njit(cache=True)
def to_poses(
    ways: np.ndarray, n: int, start: np.ndarray, poses: np.ndarray, times: np.ndarray,
    speeds: np.ndarray, laws: np.ndarray, limits: np.ndarray,
) -> int:  # fmt: skip
    """Fill `ways` from row n on with what can be driven to a pose at a time; return the next row.

    Args:
        ways: [W, WAY] float64.
        start: speed, acceleration, curvature now.
        poses: [M, 5] rear axle x, y, yaw, curvature there (NaN: any), cost of choosing it.
        times: [K] seconds. speeds: least and most on arrival.
        laws: [B, 3] bulge in metres; wait as a share of the time; speed after it as a share of now.
        limits: as in `effort`.
    """
    spiral = np.empty(SPIRAL)
    for m in range(poses.shape[0]):
        p = poses[m]
        if not solve(spiral, p[0], p[1], p[2], start[2], p[3]):
            continue
        for end in times:
            n = _laws(ways, n, spiral, start, end, speeds, laws, p[4], limits)
    return n


@njit(cache=True)
def _laws(
    ways: np.ndarray, n: int, spiral: np.ndarray, start: np.ndarray, end: float,
    speeds: np.ndarray, laws: np.ndarray, cost: float, limits: np.ndarray,
) -> int:  # fmt: skip
    """Add the ways along one spiral in one time that can be driven."""
    for law in range(laws.shape[0]):
        bulge, low = laws[law, 0], laws[law, 2] * start[0]
        wait = round(laws[law, 1] * end / STEP_S) * STEP_S
        left = spiral[0]
        if n >= ways.shape[0]:
            return n
        if wait > 0.0:
            if start[0] - low > _WAIT_MPS2 * wait or end - wait < _LEFT_S:
                continue
            left -= _pause(ways[n], start[0], wait, low)
        else:
            low = start[0]
        mean = left / (end - wait)
        if mean <= 0.0:
            continue
        last = -1.0
        for choice in range(4):
            # constant acceleration, steady in the mean, as now, in between
            then = 2.0 * mean - low
            if choice == 1:
                then = mean
            elif choice == 2:
                then = low
            elif choice == 3:
                then = 1.5 * mean - 0.5 * low
            then = min(speeds[1], max(speeds[0], then))
            if then == last or n >= ways.shape[0]:
                continue
            last = then
            w = ways[n]
            w[:SPIRAL] = spiral
            time_law(w, start[0], start[1], then, end, wait, low, bulge)
            w[COST] = effort(w, limits) + cost + 0.05 * abs(bulge) + 0.1 * wait
            if w[COST] < math.inf:
                n += 1
    return n


@njit(cache=True)
def onward(
    ways: np.ndarray, n: int, start: np.ndarray, rings: np.ndarray, ends: np.ndarray,
    yaws: np.ndarray, times: np.ndarray, speeds: np.ndarray, limits: np.ndarray, middle: float,
) -> int:  # fmt: skip
    """Add ways that the wheels can always take and that happen to end in the goal.

    Where time is short no chosen pose may be within reach of the wheels; these start from what
    the wheels can do: curvature changes at a rate drawn from a few at start, middle and end.

    Args:
        rings: [Q, 2] corners of all regions; ends: [R] where each stops; none: anywhere.
        yaws: least and most yaw on arrival.
        middle: from the rear axle to the middle of the body.
    """
    spiral, plain = np.empty(SPIRAL), np.zeros((1, 3))
    one = np.empty(2)
    for end in times:
        for pick in range(5):
            then = start[0] + (0.0, -1.5, 1.5, -4.0, 3.0)[pick] * end
            then = min(speeds[1], max(speeds[0], then))
            length = 0.5 * (start[0] + then) * end
            if length < 0.5:
                continue
            top = max(start[0], then)
            rate = 0.9 * STEER_RADPS / (limits[3] * max(top, 0.5)) * length
            one[0] = one[1] = then
            for a in _LEVELS:
                for b in _LEVELS:
                    for c in _LEVELS:
                        spiral[0], spiral[4] = length, start[2]
                        spiral[1] = rate * a
                        spiral[2] = rate * (-3.0 * a + 4.0 * b - c) / 2.0
                        spiral[3] = rate * (2.0 * a - 4.0 * b + 2.0 * c) / 3.0
                        x, y, yaw = end_pose(spiral)
                        if not yaws[0] <= yaw <= yaws[1]:
                            continue
                        x, y = x + middle * math.cos(yaw), y + middle * math.sin(yaw)
                        if ends.shape[0] and not within(rings, ends, x, y):
                            continue
                        n = _laws(ways, n, spiral, start, end, one, plain, 0.5, limits)
    return n


@njit(cache=True)
def all_within(ring: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return bool [N]: which points [N, 2] lie in a polygon."""
    ends = np.array([ring.shape[0]])
    out = np.empty(points.shape[0], np.bool_)
    for i in range(points.shape[0]):
        out[i] = within(ring, ends, points[i, 0], points[i, 1])
    return out


@njit(cache=True)
def within(rings: np.ndarray, ends: np.ndarray, x: float, y: float) -> bool:
    """Return whether a point lies in one of the polygons (even-odd)."""
    first = 0
    for end in ends:
        odd = False
        j = end - 1
        for i in range(first, end):
            if (rings[i, 1] > y) != (rings[j, 1] > y):
                share = (y - rings[i, 1]) / (rings[j, 1] - rings[i, 1])
                if x < rings[i, 0] + share * (rings[j, 0] - rings[i, 0]):
                    odd = not odd
            j = i
        if odd:
            return True
        first = end
    return False
