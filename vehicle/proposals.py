"""Roll out what the car could do next: the compiled inside of the planner."""

import math
from typing import Final

import numpy as np
from numba import njit

from vehicle.controller import GAIN_STEP_MPS
from vehicle.paths import KAPPA, PATH_BEHIND, YAW, S, X, Y, locate, nearest

STEPS: Final = 41
STEP_S: Final = 0.1

# columns of a road user handed to the kernels
TX, TY, TYAW, TLEN, TWID, TVX, TVY = range(7)
# columns of a candidate: metres left of the path, m/s to reach, m/s2 to brake by (0: follow),
# metres along the path where the front has to stand, m/s to move sideways at most
OFFSET, TARGET, BRAKE, STOP, RATE = range(5)
NOWHERE_M: Final = 1e9

_IDM_ACCEL: Final = 1.5
_IDM_BRAKE: Final = 2.5
_IDM_HARDEST: Final = 3.8
"""Nearly all that comfort allows (-4.05 m/s2, NAVSIM)."""
_SLOW_DOWN: Final = 1.8
_IDM_GAP_M: Final = 2.0
_IDM_HEADWAY_S: Final = 1.5
_LINE_GAP_M: Final = 1.0
_JERK: Final = 4.0
_RELEASE_JERK: Final = 2.5
_ASIDE_1PS: Final = 0.9
_CURVATURE_RATE: Final = 0.25
_LATERAL_HARD: Final = 4.5
_EMERGENCY_JERK: Final = 40.0
_FIRM_BRAKE: Final = 4.0
_ALONG_ROWS: Final = 21


@njit(cache=True)
def along_path(path: np.ndarray, users: np.ndarray, futures: np.ndarray) -> np.ndarray:
    """Return where road users will be on the path at every second step.

    Args:
        futures: [N, STEPS, 3] x, y, yaw of each at each step.
    Returns:
        [N, 21, 5] float64: s, offset, half length along, half width across, speed along.
    """
    out = np.zeros((users.shape[0], _ALONG_ROWS, 5))
    for n in range(users.shape[0]):
        u, f = users[n], futures[n]
        hint, best = 0, 1e18
        for i in range(0, path.shape[0], 4):
            d2 = (path[i, 1] - u[TX]) ** 2 + (path[i, 2] - u[TY]) ** 2
            if d2 < best:
                best, hint = d2, i
        for k in range(_ALONG_ROWS):
            hint, s, d = locate(path, f[2 * k, 0], f[2 * k, 1], hint)
            turn = f[2 * k, 2] - path[hint, YAW]
            c, si = abs(math.cos(turn)), abs(math.sin(turn))
            out[n, k, 0], out[n, k, 1] = s, d
            out[n, k, 2] = 0.5 * (u[TLEN] * c + u[TWID] * si)
            out[n, k, 3] = 0.5 * (u[TLEN] * si + u[TWID] * c)
        for k in range(_ALONG_ROWS):
            low, high = max(k - 1, 0), min(k + 1, _ALONG_ROWS - 1)
            out[n, k, 4] = (out[n, high, 0] - out[n, low, 0]) / (2.0 * STEP_S * (high - low))
    return out


@njit(cache=True)
def edges_of(along: np.ndarray) -> np.ndarray:
    """Return [21, 5, N] of `along_path`, by time: left, right, far and near edge, speed along."""
    out = np.empty((along.shape[1], 5, along.shape[0]))
    for n in range(along.shape[0]):
        for k in range(along.shape[1]):
            a = along[n, k]
            out[k, 0, n], out[k, 1, n] = a[1] + a[3], a[1] - a[3]
            out[k, 2, n], out[k, 3, n], out[k, 4, n] = a[0] + a[2], a[0] - a[2], a[4]
    return out


@njit(cache=True)
def _leader(
    edges: np.ndarray, s: float, d: float, offset: float, front: float, half: float
) -> tuple[float, float]:
    low, high = min(d, offset) - half, max(d, offset) + half
    gap, speed = NOWHERE_M, 0.0
    for n in range(edges.shape[1]):
        if edges[0, n] < low or edges[1, n] > high or edges[2, n] <= s + front:
            continue
        g = edges[3, n] - s - front
        if g < gap:
            gap, speed = g, edges[4, n]
    return gap, speed


@njit(cache=True)
def _pull(v: float, gap: float, lead: float) -> float:
    closing = v * (v - lead) / (2.0 * math.sqrt(_IDM_ACCEL * _IDM_BRAKE))
    near = _IDM_GAP_M + max(0.0, v * _IDM_HEADWAY_S + closing)
    return (near / max(gap, 0.1)) ** 2


@njit(cache=True)
def follow(v: float, free: float, gap: float, lead: float) -> float:
    """Return the acceleration of the intelligent driver model, gentle where only a speed asks."""
    want = _IDM_ACCEL * (1.0 - min(v / free, 3.0) ** 10)
    want = max(want, -_SLOW_DOWN)
    if gap < 1e8:
        want -= _IDM_ACCEL * _pull(v, gap, lead)
    return min(_IDM_ACCEL, max(-_IDM_HARDEST, want))


@njit(cache=True)
def rollout(
    out: np.ndarray,
    beside: np.ndarray,
    start: np.ndarray,
    path: np.ndarray,
    facing: np.ndarray,
    profile: np.ndarray,
    edges: np.ndarray,
    gains: np.ndarray,
    row: np.ndarray,
    body: np.ndarray,
) -> float:
    """Drive one proposal: IDM (or a constant brake) along, LQR across, on a kinematic bicycle.

    Args:
        out: [STEPS, 7] float64, filled with STATE_COLUMNS.
        beside: [STEPS], filled with metres left of the path.
        start: speed, acceleration, curvature now.
        path, facing, profile: from `resample`, `facing_of` and `speed_profile`.
        edges: of road users, from `edges_of`.
        gains: from `lateral_gains`.
        row: one candidate: OFFSET, TARGET, BRAKE, STOP, RATE.
        body: front overhang from the rear axle, width, largest curvature, jerk limit.
    Returns:
        Metres gained along the path.
    Source: IDM: Treiber, Hennecke, Helbing (2000); proposals: Dauner et al., PDM (2023).
    """
    x, y, yaw = 0.0, 0.0, 0.0
    v, a, kappa = start[0], start[1], start[2]
    at, s, d = locate(path, x, y, PATH_BEHIND)
    s0, gap, lead, aim = s, NOWHERE_M, 0.0, d
    brake, offset = row[BRAKE], row[OFFSET]
    jerk = min(_JERK, body[3])
    if brake > 0.0:
        jerk = body[3] if brake <= _FIRM_BRAKE else _EMERGENCY_JERK
    for k in range(STEPS):
        at = nearest(path, x, y, at)
        dx, dy, c, si = x - path[at, X], y - path[at, Y], facing[at, 0], facing[at, 1]
        s, d = path[at, S] + c * dx + si * dy, -si * dx + c * dy
        beside[k] = d
        if brake > 0.0:
            want = -brake
        else:
            if k % 2 == 0:
                gap, lead = _leader(edges[k // 2], s, d, offset, body[0], 0.5 * body[1] + 0.2)
            line = row[STOP] - s - body[0] + _IDM_GAP_M - _LINE_GAP_M
            ahead = min(at + int(0.5 * v), profile.shape[0] - 1)
            free = max(min(row[TARGET], profile[at], profile[ahead]), 0.1)
            if line < gap:
                want = min(follow(v, free, line, 0.0), follow(v, free, gap, lead))
            else:
                want = follow(v, free, gap, lead)
        a += min((_JERK if a >= 0.0 else _RELEASE_JERK) * STEP_S, max(-jerk * STEP_S, want - a))
        if v <= 0.0 and a < 0.0:
            a = 0.0
        out[k, 0], out[k, 1], out[k, 2], out[k, 3] = k * STEP_S, x, y, yaw
        out[k, 4], out[k, 5], out[k, 6] = v, a, kappa
        aside = min(row[RATE], 0.4 * v) * STEP_S
        moved = min(aside, max(-aside, _ASIDE_1PS * STEP_S * (offset - aim)))
        aim += moved
        turn = yaw - path[at, YAW] + math.pi
        if turn < 0.0 or turn >= 2.0 * math.pi:  # a division that is seldom needed
            turn %= 2.0 * math.pi
        turn -= math.pi
        turn -= moved / (max(v, 1.0) * STEP_S)
        bend = path[at, KAPPA] / max(0.3, 1.0 - offset * path[at, KAPPA])
        g = gains[min(int(v / GAIN_STEP_MPS), gains.shape[0] - 1)]
        error = min(3.0, max(-3.0, d - aim))
        turn = min(0.6, max(-0.6, turn))
        rate = -(g[0] * error + g[1] * turn + g[2] * (kappa - bend))
        rate *= min(1.0, 0.5 * v)  # standing, no error can be steered away
        kappa += STEP_S * min(_CURVATURE_RATE, max(-_CURVATURE_RATE, rate))
        tight = min(body[2], _LATERAL_HARD / max(v * v, 0.01))
        kappa = min(tight, max(-tight, kappa))
        step = max(0.0, v + 0.5 * a * STEP_S) * STEP_S
        middle = yaw + 0.5 * kappa * step
        x += step * math.cos(middle)
        y += step * math.sin(middle)
        yaw += kappa * step
        v = max(0.0, v + a * STEP_S)
    return s - s0


@njit(cache=True)
def boxes_touch(
    ax: float, ay: float, ac: float, as_: float, al: float, aw: float,
    bx: float, by: float, bc: float, bs: float, bl: float, bw: float,
) -> bool:  # fmt: skip
    """Return whether two boxes (centre, cos and sin of yaw, half length, half width) overlap.

    Source: separating axis theorem (Gottschalk 1996).
    """
    dx, dy = bx - ax, by - ay
    c, s = abs(ac * bc + as_ * bs), abs(ac * bs - as_ * bc)
    if abs(dx * ac + dy * as_) > al + bl * c + bw * s:
        return False
    if abs(-dx * as_ + dy * ac) > aw + bl * s + bw * c:
        return False
    if abs(dx * bc + dy * bs) > bl + al * c + aw * s:
        return False
    return not abs(-dx * bs + dy * bc) > bw + al * s + aw * c


@njit(cache=True)
def box_contact(
    u: np.ndarray, facing: np.ndarray, t: float, x: float, y: float, c: float, s: float,
    middle: float, half_l: float, half_w: float,
) -> bool:  # fmt: skip
    """Return whether the ego at (x, y), facing (c, s), overlaps road user `u` after `t` seconds."""
    cx, cy = x + c * middle, y + s * middle
    ux, uy = u[TX] + u[TVX] * t, u[TY] + u[TVY] * t
    reach = half_l + half_w + 0.5 * (u[TLEN] + u[TWID])
    dx, dy = ux - cx, uy - cy
    if dx * dx + dy * dy > reach * reach:
        return False
    return boxes_touch(
        cx, cy, c, s, half_l, half_w,
        ux, uy, facing[0], facing[1], 0.5 * u[TLEN], 0.5 * u[TWID],
    )  # fmt: skip
