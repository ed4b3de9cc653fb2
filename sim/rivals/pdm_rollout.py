"""The compiled inside of the PDM-style peer: its proposals rolled out, and scored as they are.

It has kernels of its own, so that the yardstick stays where it is while the car's planner moves.
"""

import math
from typing import Final

import numpy as np
from numba import njit

from vehicle.controller import GAIN_STEP_MPS
from vehicle.paths import KAPPA, PATH_BEHIND, YAW, locate
from vehicle.proposals import TLEN, TVX, TVY, TWID, TX, TY, TYAW, box_contact

STEPS: Final = 41
STEP_S: Final = 0.1
SCORES: Final = ("no_collision", "progress", "ttc", "comfort", "lane_keeping")
NC, EP, TTC, CF, LK = range(5)

_IDM_ACCEL: Final = 1.5
_IDM_BRAKE: Final = 3.0
_IDM_GAP_M: Final = 2.0
_IDM_HEADWAY_S: Final = 1.5
_CURVATURE_RATE: Final = 0.25
_LATERAL_HARD: Final = 4.5
_EMERGENCY_JERK: Final = 40.0
_ALONG_ROWS: Final = 21


@njit(cache=True)
def along_path(path: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Return where road users will be on the path at every second step.

    Returns:
        [N, 21, 5] float64: s, offset, half length along, half width across, speed along.
    """
    out = np.zeros((users.shape[0], _ALONG_ROWS, 5))
    for n in range(users.shape[0]):
        u = users[n]
        hint, best = 0, 1e18
        for i in range(0, path.shape[0], 4):
            d2 = (path[i, 1] - u[TX]) ** 2 + (path[i, 2] - u[TY]) ** 2
            if d2 < best:
                best, hint = d2, i
        for k in range(_ALONG_ROWS):
            t = 2 * k * STEP_S
            hint, s, d = locate(path, u[TX] + u[TVX] * t, u[TY] + u[TVY] * t, hint)
            turn = u[TYAW] - path[hint, YAW]
            c, si = abs(math.cos(turn)), abs(math.sin(turn))
            out[n, k, 0], out[n, k, 1] = s, d
            out[n, k, 2] = 0.5 * (u[TLEN] * c + u[TWID] * si)
            out[n, k, 3] = 0.5 * (u[TLEN] * si + u[TWID] * c)
            out[n, k, 4] = u[TVX] * math.cos(path[hint, YAW]) + u[TVY] * math.sin(path[hint, YAW])
    return out


@njit(cache=True)
def _leader(
    along: np.ndarray, k: int, s: float, d: float, offset: float, front: float, half: float
) -> tuple[float, float]:
    low, high = min(d, offset) - half, max(d, offset) + half
    gap, speed = 1e9, 0.0
    for n in range(along.shape[0]):
        a = along[n, k // 2]
        if a[1] + a[3] < low or a[1] - a[3] > high or a[0] + a[2] <= s + front:
            continue
        g = a[0] - a[2] - s - front
        if g < gap:
            gap, speed = g, a[4]
    return gap, speed


@njit(cache=True)
def _follow(v: float, free: float, gap: float, lead: float) -> float:
    """Return the acceleration of the intelligent driver model."""
    closing = v * (v - lead) / (2.0 * math.sqrt(_IDM_ACCEL * _IDM_BRAKE))
    near = _IDM_GAP_M + max(0.0, v * _IDM_HEADWAY_S + closing)
    pull = 0.0 if gap > 1e8 else (near / max(gap, 0.1)) ** 2
    want = _IDM_ACCEL * (1.0 - min(v / free, 3.0) ** 10 - pull)
    return min(_IDM_ACCEL, max(-_IDM_BRAKE, want))


@njit(cache=True)
def rollout(
    out: np.ndarray,
    start: np.ndarray,
    path: np.ndarray,
    profile: np.ndarray,
    along: np.ndarray,
    gains: np.ndarray,
    offset: float,
    target: float,
    brake: float,
    body: np.ndarray,
) -> float:
    """Drive one proposal: IDM (or a constant brake) along, LQR across, on a kinematic bicycle.

    Args:
        out: [STEPS, 7] float64, filled with STATE_COLUMNS.
        start: speed, acceleration, curvature now.
        path, profile, along: from `resample`, `speed_profile` and `along_path`.
        gains: from `lateral_gains`.
        offset: metres left of the path to keep.
        target: m/s to reach.
        brake: > 0 brakes by that many m/s2 instead of following the IDM.
        body: front overhang from the rear axle, width, largest curvature, jerk limit.
    Returns:
        Metres gained along the path.
    Source: IDM: Treiber, Hennecke, Helbing (2000); proposals: Dauner et al., PDM (2023).
    """
    x, y, yaw = 0.0, 0.0, 0.0
    v, a, kappa = start[0], start[1], start[2]
    row, s, d = locate(path, x, y, PATH_BEHIND)
    s0, gap, lead = s, 1e9, 0.0
    jerk = body[3] if brake <= 4.0 else _EMERGENCY_JERK
    for k in range(STEPS):
        row, s, d = locate(path, x, y, row)
        if brake > 0.0:
            want = -brake
        else:
            if k % 2 == 0:
                gap, lead = _leader(along, k, s, d, offset, body[0], 0.5 * body[1] + 0.2)
            ahead = min(row + int(0.5 * v), profile.shape[0] - 1)
            free = max(min(target, profile[row], profile[ahead]), 0.1)
            want = _follow(v, free, gap, lead)
        a += min(jerk * STEP_S, max(-jerk * STEP_S, want - a))
        if v <= 0.0 and a < 0.0:
            a = 0.0
        out[k, 0], out[k, 1], out[k, 2], out[k, 3] = k * STEP_S, x, y, yaw
        out[k, 4], out[k, 5], out[k, 6] = v, a, kappa
        turn = (yaw - path[row, YAW] + math.pi) % (2.0 * math.pi) - math.pi
        bend = path[row, KAPPA] / max(0.3, 1.0 - offset * path[row, KAPPA])
        g = gains[min(int(v / GAIN_STEP_MPS), gains.shape[0] - 1)]
        error = min(3.0, max(-3.0, d - offset))
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
def collisions(
    states: np.ndarray,
    users: np.ndarray,
    facing: np.ndarray,
    front: float,
    rear: float,
    width: float,
) -> tuple[float, float]:
    """Return seconds to the first collision at fault, and whether TTC stays above 0.95 s.

    Contacts that exist already, at standstill or by somebody faster from behind are no fault of
    the plan's. Time to collision holds speed and heading for 0.3, 0.6, 0.9 s.

    Source: NAVSIM v1 sub-scores NC and TTC (Dauner et al., 2024), on predicted tracks.
    """
    middle, half_l, half_w = 0.5 * (front - rear), 0.5 * (front + rear), 0.5 * width
    hit, ttc = 1e9, 1.0
    for n in range(users.shape[0]):
        u, f = users[n], facing[n]
        if box_contact(u, f, 0.0, 0.0, 0.0, 1.0, 0.0, middle, half_l, half_w):
            continue
        for k in range(states.shape[0]):
            t, x, y, v = states[k, 0], states[k, 1], states[k, 2], states[k, 4]
            if t >= hit and ttc == 0.0:
                break
            if v < 0.05:
                continue
            c, s = math.cos(states[k, 3]), math.sin(states[k, 3])
            ahead = (u[TX] + u[TVX] * t - x) * c + (u[TY] + u[TVY] * t - y) * s
            if ahead < 0.0:
                continue
            if box_contact(u, f, t, x, y, c, s, middle, half_l, half_w):
                hit = min(hit, t)
                ttc = 0.0
                break
            if ttc > 0.0 and k % 2 == 0 and t <= 3.1:
                for look in (0.3, 0.6, 0.9):
                    lx, ly = x + c * v * look, y + s * v * look
                    if box_contact(u, f, t + look, lx, ly, c, s, middle, half_l, half_w):
                        ttc = 0.0
                        break
    return hit, ttc


@njit(cache=True)
def manners(states: np.ndarray, path: np.ndarray) -> tuple[float, float]:
    """Return comfort and lane keeping, 0..1."""
    worst, away = 0.0, 0.0
    row = PATH_BEHIND
    for k in range(states.shape[0]):
        worst = max(worst, states[k, 4] ** 2 * abs(states[k, 6]))
        row, _, d = locate(path, states[k, 1], states[k, 2], row)
        away += abs(d)
    away /= states.shape[0]
    return max(0.0, 1.0 - max(0.0, worst - 2.0) / 3.0), max(0.0, 1.0 - away / 1.5)


@njit(cache=True)
def propose(
    states: np.ndarray, scores: np.ndarray, hits: np.ndarray, start: np.ndarray, path: np.ndarray,
    profile: np.ndarray, gains: np.ndarray, users: np.ndarray, offsets: np.ndarray,
    targets: np.ndarray, brakes: np.ndarray, body: np.ndarray, rear: float,
) -> None:  # fmt: skip
    """Fill states [P, STEPS, 7], scores [P, 5] and seconds to collision [P] of P proposals.

    Args:
        start, path, profile, gains, body: as in `rollout`.
        users: [N, 7] road users, constant velocity.
        offsets, targets, brakes: [P] what each proposal does.
        rear: rear axle to rear bumper.
    """
    along = along_path(path, users)
    facing = np.empty((users.shape[0], 2))
    for n in range(users.shape[0]):
        facing[n, 0], facing[n, 1] = math.cos(users[n, TYAW]), math.sin(users[n, TYAW])
    for p in range(offsets.shape[0]):
        gained = rollout(
            states[p], start, path, profile, along, gains, offsets[p], targets[p], brakes[p], body
        )
        hits[p], scores[p, TTC] = collisions(states[p], users, facing, body[0], rear, body[1])
        scores[p, NC] = 1.0 if hits[p] > 1e8 else 0.0
        scores[p, EP] = max(0.0, gained)
        scores[p, CF], scores[p, LK] = manners(states[p], path)
