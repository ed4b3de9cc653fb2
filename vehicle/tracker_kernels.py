"""The tracker's arithmetic: one call per tick, no array made on the way. See tracker.py.

Filters live in the local frame, so that the ego's own motion needs no compensation inside them;
detections are carried in and tracks out through the ego pose of their instant.
"""

import math
from typing import Final

import numpy as np
from numba import njit

from vehicle.overlap import overlaps_into
from vehicle.tracker_match import assign_into

COLUMNS: Final = 17
"""Columns of the filter table, one row per road user: see the names below."""

X, Y, Z, YAW, LEN, WID, HGT = range(7)  # as in vehicle/overlap.py
VX, VY, SCORE, KIND, VOTES, AGE, MISS, HITS, SEEN_S, LOST_S = range(7, COLUMNS)

GATE, BY_OVERLAP, LEAST_OVERLAP, SWITCH_COST, NOISE, RATIO, SPEED_NOISE = range(7)
BIRTH_PROB, BIRTH_HITS, TELL_TICKS, COAST_TICKS, COAST_S, YAW_GAIN, SHAPE_GAIN, SURE_PROB = range(
    7, 15
)
SETTINGS: Final = 15
"""Places of the numbers of a TrackerConfig in the array that kernels take."""

_FREE: Final = 1e6
_PI: Final = math.pi


@njit(cache=True)
def predict(table: np.ndarray, cov: np.ndarray, count: int, dt: float, accel2: np.ndarray) -> None:
    """Carry filters ahead by `dt` seconds at constant velocity.

    Args:
        table: [N, COLUMNS]. cov: [N, 3] of position, of both, of velocity; the axes share it.
        accel2: squared process noise per kind.
    """
    for i in range(count):
        row, p = table[i], cov[i]
        row[X] += row[VX] * dt
        row[Y] += row[VY] * dt
        q = accel2[int(row[KIND])]
        xx = p[0] + 2.0 * dt * p[1] + dt * dt * p[2] + q * dt**4 / 4.0
        p[1] = p[1] + dt * p[2] + q * dt**3 / 2.0
        p[2] += q * dt * dt
        p[0] = xx


@njit(cache=True)
def to_local(
    detections: np.ndarray,
    base_m: np.ndarray,
    noise_m: np.ndarray,
    pose: tuple[float, float, float],
    order: np.ndarray,
    kinds: int,
    settings: np.ndarray,
    found: np.ndarray,
    noise2: np.ndarray,
) -> None:
    """Fill `found` [N, COLUMNS] with detections carried into the local frame, and `noise2`.

    Args:
        noise_m: [N] standard deviation of each place; 0 for what the settings say of its range.
    """
    c, s = math.cos(pose[2]), math.sin(pose[2])
    for j in range(detections.size):
        d, row = detections[order[j]], found[j]
        x, y = float(d.x_m), float(d.y_m)
        row[:] = 0.0
        row[X] = c * x - s * y + pose[0]
        row[Y] = s * x + c * y + pose[1]
        row[Z] = base_m[order[j]]
        row[YAW] = float(d.yaw_rad) + pose[2]
        row[LEN], row[WID], row[HGT] = float(d.length_m), float(d.width_m), float(d.height_m)
        row[VX] = c * float(d.vx_mps) - s * float(d.vy_mps)
        row[VY] = s * float(d.vx_mps) + c * float(d.vy_mps)
        row[SCORE] = float(d.score_prob)
        row[KIND] = min(max(int(d.kind), 0), kinds - 1)
        row[HITS] = 1.0
        spread = noise_m[order[j]]
        if spread <= 0.0:
            spread = settings[NOISE] + settings[RATIO] * math.hypot(x, y)
        noise2[j] = spread * spread


@njit(cache=True)
def _costs(
    table: np.ndarray,
    cov: np.ndarray,
    count: int,
    found: np.ndarray,
    noise2: np.ndarray,
    family: np.ndarray,
    settings: np.ndarray,
    shared: np.ndarray,
    cost: np.ndarray,
) -> None:
    by_overlap = settings[BY_OVERLAP] > 0.0
    if by_overlap:
        overlaps_into(table[:count], found, True, shared)
    for i in range(count):
        kind = int(table[i, KIND])
        for j in range(found.shape[0]):
            cost[i, j] = _FREE
            other = int(found[j, KIND])
            if family[kind] != family[other]:
                continue
            if by_overlap:
                if shared[i, j] < settings[LEAST_OVERLAP]:
                    continue
                apart = 0.5 * (1.0 - shared[i, j]) * settings[GATE]
            else:
                dx, dy = found[j, X] - table[i, X], found[j, Y] - table[i, Y]
                apart = (dx * dx + dy * dy) / (cov[i, 0] + noise2[j])
            if kind != other:
                apart += settings[SWITCH_COST]
            cost[i, j] = apart


@njit(cache=True)
def _correct(
    row: np.ndarray, p: np.ndarray, seen: np.ndarray, noise2: float, moving: bool,
    settings: np.ndarray,
) -> None:  # fmt: skip
    s = p[0] + noise2
    kx, kv = p[0] / s, p[1] / s
    dx, dy = seen[X] - row[X], seen[Y] - row[Y]
    row[X] += kx * dx
    row[Y] += kx * dy
    row[Z] += kx * (seen[Z] - row[Z])
    row[VX] += kv * dx
    row[VY] += kv * dy
    xx, xv = p[0], p[1]
    p[0] = (1.0 - kx) * xx
    p[1] = (1.0 - kx) * xv
    p[2] -= kv * xv
    if moving:
        s = p[2] + settings[SPEED_NOISE] ** 2
        kx, kv = p[1] / s, p[2] / s
        dx, dy = seen[VX] - row[VX], seen[VY] - row[VY]
        row[X] += kx * dx
        row[Y] += kx * dy
        row[VX] += kv * dx
        row[VY] += kv * dy
        xv, vv = p[1], p[2]
        p[0] -= kx * xv
        p[1] = (1.0 - kv) * xv
        p[2] = (1.0 - kv) * vv
    turn = (seen[YAW] - row[YAW] + _PI) % (2.0 * _PI) - _PI
    if abs(turn) > _PI / 2.0:  # a box looks the same from behind: keep the way it was facing
        turn = (turn + 2.0 * _PI) % (2.0 * _PI) - _PI
    row[YAW] += settings[YAW_GAIN] * turn
    for c in (LEN, WID, HGT):
        row[c] += settings[SHAPE_GAIN] * (seen[c] - row[c])
    row[SCORE] += 0.3 * (seen[SCORE] - row[SCORE])
    if row[KIND] == seen[KIND]:
        row[VOTES] = min(row[VOTES] + seen[SCORE], 5.0)
    else:
        row[VOTES] -= seen[SCORE]
        if row[VOTES] < 0.0:  # outvoted: it was taken for another kind
            row[KIND], row[VOTES] = seen[KIND], -row[VOTES]
    row[MISS] = 0.0
    row[LOST_S] = 0.0
    row[HITS] += 1.0
    if seen[SCORE] >= settings[SURE_PROB]:
        row[HITS] = max(row[HITS], settings[BIRTH_HITS])


@njit(cache=True)
def step(
    table: np.ndarray,
    cov: np.ndarray,
    ids: np.ndarray,
    source: np.ndarray,
    count: int,
    next_id: int,
    found: np.ndarray,
    order: np.ndarray,
    noise2: np.ndarray,
    prior2: np.ndarray,
    family: np.ndarray,
    settings: np.ndarray,
    moving: bool,
    dt: float,
    shared: np.ndarray,
    cost: np.ndarray,
    work: np.ndarray,
) -> tuple[int, int]:
    """Match, correct, let die and let be born; return how many tracks there are, and the next id.

    Args:
        found: [N, COLUMNS] detections, surest first; `order` holds where each was given.
        moving: their velocities were measured. dt: seconds since the tick before.
        shared, cost, work: scratch; see `tick`.
    """
    if count > 0:
        _costs(table, cov, count, found, noise2, family, settings, shared, cost)
        assign_into(cost[:count, : found.shape[0]], settings[GATE], work)
    kept = 0
    for i in range(count):
        j, row = int(work[0, i]), table[i]
        row[AGE] += 1.0
        row[SEEN_S] += dt
        if j >= 0:
            found[j, AGE] = 1.0  # taken
            _correct(row, cov[i], found[j], noise2[j], moving, settings)
            source[i] = order[j]
        else:
            row[MISS] += 1.0
            row[LOST_S] += dt
            row[SCORE] *= 0.9
            source[i] = -1
            patience = min(settings[COAST_S], row[SEEN_S] - row[LOST_S])
            tentative = row[HITS] < settings[BIRTH_HITS]
            if tentative or (row[MISS] > settings[COAST_TICKS] and row[LOST_S] > patience + 1e-6):
                continue
        table[kept] = row
        cov[kept] = cov[i]
        ids[kept] = ids[i]
        source[kept] = source[i]
        kept += 1
    for j in range(found.shape[0]):
        if found[j, AGE] > 0.0 or kept == table.shape[0] or found[j, SCORE] < settings[BIRTH_PROB]:
            continue
        row = table[kept]
        row[:] = found[j]
        row[VOTES] = found[j, SCORE]
        if found[j, SCORE] >= settings[SURE_PROB]:
            row[HITS] = settings[BIRTH_HITS]
        cov[kept, 0], cov[kept, 1] = noise2[j], 0.0
        cov[kept, 2] = prior2[int(row[KIND])]
        if moving:
            cov[kept, 2] = settings[SPEED_NOISE] ** 2
        else:
            row[VX] = row[VY] = 0.0
        ids[kept] = next_id
        source[kept] = order[j]
        next_id += 1
        kept += 1
    return kept, next_id


@njit(cache=True)
def tell(
    table: np.ndarray,
    ids: np.ndarray,
    source: np.ndarray,
    count: int,
    pose: tuple[float, float, float],
    settings: np.ndarray,
    out: np.ndarray,
    base_m: np.ndarray,
    told_source: np.ndarray,
) -> int:
    """Fill `out` (TRACK) with the tracks that are told, ego frame; return how many."""
    c, s = math.cos(pose[2]), math.sin(pose[2])
    told = 0
    for i in range(count):
        row = table[i]
        if row[HITS] < settings[BIRTH_HITS] or row[MISS] > settings[TELL_TICKS]:
            continue
        o = out[told]
        dx, dy = row[X] - pose[0], row[Y] - pose[1]
        o.track_id, o.kind = ids[i], np.int8(row[KIND])
        o.x_m, o.y_m = c * dx + s * dy, -s * dx + c * dy
        o.yaw_rad = (row[YAW] - pose[2] + _PI) % (2.0 * _PI) - _PI
        o.length_m, o.width_m, o.height_m = row[LEN], row[WID], row[HGT]
        o.vx_mps = c * row[VX] + s * row[VY]
        o.vy_mps = -s * row[VX] + c * row[VY]
        o.score_prob = row[SCORE]
        o.age_ticks, o.coasted_ticks = int(row[AGE]), int(row[MISS])
        base_m[told], told_source[told] = row[Z], source[i]
        told += 1
    return told


@njit(cache=True)
def sort(detections: np.ndarray, order: np.ndarray) -> None:
    """Fill `order` with the rows of TRACK detections, best score first, equal ones as given."""
    for j in range(detections.size):
        i = j
        while i > 0 and detections[order[i - 1]].score_prob < detections[j].score_prob:
            order[i] = order[i - 1]
            i -= 1
        order[i] = j


@njit(cache=True)
def tick(
    detections: np.ndarray, base_m: np.ndarray, noise_m: np.ndarray,
    pose: tuple[float, float, float], dt: float, moving: bool, count: int, next_id: int,
    settings: np.ndarray, accel2: np.ndarray, prior2: np.ndarray, family: np.ndarray,
    table: np.ndarray, cov: np.ndarray, ids: np.ndarray, source: np.ndarray, found: np.ndarray,
    noise2: np.ndarray, order: np.ndarray, shared: np.ndarray, cost: np.ndarray,
    work: np.ndarray, out: np.ndarray, out_base_m: np.ndarray, out_source: np.ndarray,
) -> tuple[int, int, int]:  # fmt: skip
    """Do one tick; return how many tracks there are, the next id, and how many are told."""
    predict(table, cov, count, dt, accel2)
    sort(detections, order)
    to_local(detections, base_m, noise_m, pose, order, family.size, settings, found, noise2)
    n = detections.size
    count, next_id = step(
        table, cov, ids, source, count, next_id, found[:n], order, noise2[:n], prior2, family,
        settings, moving, dt, shared, cost, work,
    )  # fmt: skip
    told = tell(table, ids, source, count, pose, settings, out, out_base_m, out_source)
    return count, next_id, told
