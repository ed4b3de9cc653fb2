"""Detections in, tracks out: one constant-velocity Kalman filter per road user.

Filters live in the local frame, so that the ego's own motion needs no compensation inside them;
detections are carried in and tracks out through the ego pose of their instant.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from vehicle.contracts.ego import EgoState
from vehicle.contracts.scene import KINDS, TRACK

# columns of the filter table
_X, _Y, _VX, _VY, _YAW, _LEN, _WID, _HGT, _SCORE, _KIND, _AGE, _MISS, _HITS = range(13)
_FREE: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """How tracks are born, matched and die.

    Args:
        birth_hits: detections in a row before a track is told to anyone.
        coast_ticks: ticks without a detection after which a track dies.
        gate_sigma2: largest squared Mahalanobis distance of a match (11.8: 99.7 % of 2-D).
        noise_m: standard deviation of a detected position, plus `noise_ratio` of its range.
        accel_mps2: process noise per kind (KINDS order): what road users do unannounced.
        speed_mps: standard deviation of the speed of a new track, per kind.
        max_tracks: rows of the table; the youngest detections beyond it are dropped.
    """

    birth_hits: int = 2
    coast_ticks: int = 6
    gate_sigma2: float = 11.8
    noise_m: float = 0.6
    noise_ratio: float = 0.04
    accel_mps2: tuple[float, ...] = (
        *(2.0, 0.8, 2.0, 1.5, 1.5),
        *(1.5, 2.5, 2.0, 0.3, 0.3, 2.0, 2.5),
    )
    speed_mps: tuple[float, ...] = (
        *(5.0, 1.2, 5.0, 3.0, 3.0),
        *(5.0, 6.0, 2.0, 0.5, 0.5, 5.0, 6.0),
    )
    max_tracks: int = 128


@njit(cache=True)
def assign(cost: np.ndarray, forbidden: float) -> np.ndarray:
    """Return for each row the column of the cheapest one-to-one matching, -1 for none.

    Args:
        cost: [N, M] float64; entries >= forbidden are never matched.
        forbidden: cost of leaving a pair apart.
    Source: Kuhn-Munkres by shortest augmenting paths (Jonker and Volgenant, 1987), own code.
    """
    n, m = cost.shape
    out = np.full(n, -1, np.int64)
    size = max(n, m)
    if n == 0 or m == 0:
        return out
    square = np.full((size + 1, size + 1), forbidden)
    for i in range(n):
        for j in range(m):
            square[i + 1, j + 1] = min(cost[i, j], forbidden)
    u = np.zeros(size + 1)
    v = np.zeros(size + 1)
    match = np.zeros(size + 1, np.int64)
    way = np.zeros(size + 1, np.int64)
    for i in range(1, size + 1):
        match[0] = i
        j0 = 0
        least = np.full(size + 1, 1e18)
        used = np.zeros(size + 1, np.bool_)
        while True:
            used[j0] = True
            i0 = match[j0]
            delta = 1e18
            j1 = 0
            for j in range(1, size + 1):
                if not used[j]:
                    reduced = square[i0, j] - u[i0] - v[j]
                    if reduced < least[j]:
                        least[j] = reduced
                        way[j] = j0
                    if least[j] < delta:
                        delta = least[j]
                        j1 = j
            for j in range(size + 1):
                if used[j]:
                    u[match[j]] += delta
                    v[j] -= delta
                else:
                    least[j] -= delta
            j0 = j1
            if match[j0] == 0:
                break
        while j0 != 0:
            match[j0] = match[way[j0]]
            j0 = way[j0]
    for j in range(1, m + 1):
        i = match[j] - 1
        if i < n and cost[i, j - 1] < forbidden:
            out[i] = j - 1
    return out


@njit(cache=True)
def _predict(table: np.ndarray, cov: np.ndarray, count: int, dt: float, accel: np.ndarray) -> None:
    for i in range(count):
        table[i, _X] += table[i, _VX] * dt
        table[i, _Y] += table[i, _VY] * dt
        q = accel[int(table[i, _KIND])] ** 2
        p = cov[i]  # xx, xv, vv: both axes share one covariance, noise being isotropic
        xx = p[0] + 2.0 * dt * p[1] + dt * dt * p[2] + q * dt**4 / 4.0
        xv = p[1] + dt * p[2] + q * dt**3 / 2.0
        p[2] += q * dt * dt
        p[0] = xx
        p[1] = xv


@njit(cache=True)
def _costs(
    table: np.ndarray, cov: np.ndarray, count: int, found: np.ndarray, noise2: np.ndarray
) -> np.ndarray:
    cost = np.full((count, found.shape[0]), _FREE)
    for i in range(count):
        for j in range(found.shape[0]):
            if table[i, _KIND] != found[j, _KIND]:
                continue
            s = cov[i, 0] + noise2[j]
            dx = found[j, _X] - table[i, _X]
            dy = found[j, _Y] - table[i, _Y]
            cost[i, j] = (dx * dx + dy * dy) / s
    return cost


@njit(cache=True)
def _correct(row: np.ndarray, p: np.ndarray, seen: np.ndarray, noise2: float) -> None:
    s = p[0] + noise2
    kx, kv = p[0] / s, p[1] / s
    dx, dy = seen[_X] - row[_X], seen[_Y] - row[_Y]
    row[_X] += kx * dx
    row[_Y] += kx * dy
    row[_VX] += kv * dx
    row[_VY] += kv * dy
    xx, xv = p[0], p[1]
    p[0] = (1.0 - kx) * xx
    p[1] = (1.0 - kx) * xv
    p[2] -= kv * xv
    turn = (seen[_YAW] - row[_YAW] + math.pi) % (2.0 * math.pi) - math.pi
    if abs(turn) > math.pi / 2:  # a box looks the same from behind: keep the way it was facing
        turn = (turn + math.pi + math.pi) % (2.0 * math.pi) - math.pi
    row[_YAW] += 0.4 * turn
    for c in (_LEN, _WID, _HGT, _SCORE):
        row[c] += 0.3 * (seen[c] - row[c])
    row[_MISS] = 0.0
    row[_HITS] += 1.0


@njit(cache=True)
def _step(
    table: np.ndarray,
    cov: np.ndarray,
    ids: np.ndarray,
    count: int,
    next_id: int,
    found: np.ndarray,
    noise2: np.ndarray,
    prior2: np.ndarray,
    gate: float,
    birth: int,
    coast: int,
) -> tuple[int, int]:
    taken = np.zeros(found.shape[0], np.bool_)
    match = assign(_costs(table, cov, count, found, noise2), gate)
    kept = 0
    for i in range(count):
        j = match[i]
        table[i, _AGE] += 1.0
        if j >= 0:
            taken[j] = True
            _correct(table[i], cov[i], found[j], noise2[j])
        else:
            table[i, _MISS] += 1.0
            table[i, _SCORE] *= 0.9
        if table[i, _MISS] > coast or (table[i, _HITS] < birth and table[i, _MISS] > 0):
            continue
        table[kept] = table[i]
        cov[kept] = cov[i]
        ids[kept] = ids[i]
        kept += 1
    for j in range(found.shape[0]):
        if taken[j] or kept == table.shape[0]:
            continue
        table[kept] = found[j]
        cov[kept, 0] = noise2[j]
        cov[kept, 1] = 0.0
        cov[kept, 2] = prior2[int(found[j, _KIND])]
        ids[kept] = next_id
        next_id += 1
        kept += 1
    return kept, next_id


class Tracker:
    """Keeps road users by number while they are seen, and for a while when they are not."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self._config = config or TrackerConfig()
        n = self._config.max_tracks
        self._accel = np.array(self._config.accel_mps2, dtype=np.float64)
        self._prior2 = np.array(self._config.speed_mps, dtype=np.float64) ** 2
        self._table = np.zeros((n, 13))
        self._cov = np.zeros((n, 3))
        self._ids = np.zeros(n, np.int64)
        self.reset()
        warm = np.zeros(2, TRACK)
        for mono_ns in (0, 100_000_000):  # compiles every kernel before the car moves
            self.update(warm, None, mono_ns)
        self.coast(None, 200_000_000)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._count, self._next_id = 0, 1
        self._mono_ns: int | None = None
        self._pose = (0.0, 0.0, 0.0)
        self._motion = (0.0, 0.0)

    def update(self, detections: np.ndarray, ego: EgoState | None, mono_ns: int) -> np.ndarray:
        """Take one frame's detections in and return the tracks at that instant.

        Args:
            detections: TRACK [N], ego frame of this instant; velocities are ignored.
            ego: pose and motion; None holds the last known motion.
            mono_ns: of the frame.
        Returns:
            TRACK [M] of tracks born by `birth_hits` detections, ego frame, velocity over ground.
        """
        self._advance(ego, mono_ns)
        found, noise2 = self._to_local(detections)
        self._match(found, noise2)
        return self._tracks()

    def coast(self, ego: EgoState | None, mono_ns: int) -> np.ndarray:
        """Return the tracks predicted to `mono_ns` when nothing could be detected."""
        self._advance(ego, mono_ns)
        self._match(np.zeros((0, 13)), np.zeros(0))
        return self._tracks()

    def _match(self, found: np.ndarray, noise2: np.ndarray) -> None:
        c = self._config
        self._count, self._next_id = _step(
            self._table,
            self._cov,
            self._ids,
            self._count,
            self._next_id,
            found,
            noise2,
            self._prior2,
            c.gate_sigma2,
            c.birth_hits,
            c.coast_ticks,
        )

    def _advance(self, ego: EgoState | None, mono_ns: int) -> None:
        dt = 0.0 if self._mono_ns is None else max(0.0, (mono_ns - self._mono_ns) * 1e-9)
        self._mono_ns = mono_ns
        if ego is not None:
            self._pose = (ego.x_m, ego.y_m, ego.yaw_rad)
            self._motion = (ego.speed_mps, ego.yaw_rate_radps)
            late = (mono_ns - ego.mono_ns) * 1e-9
            if 0.0 < abs(late) < 0.2:  # the pose is of another instant: carry it to the frame's
                self._pose = _carry(self._pose, self._motion, late)
        elif dt > 0.0:
            self._pose = _carry(self._pose, self._motion, dt)
        if dt > 2.0:  # a gap no prediction survives
            self._count = 0
        _predict(self._table, self._cov, self._count, dt, self._accel)

    def _to_local(self, detections: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x0, y0, yaw = self._pose
        c, s = math.cos(yaw), math.sin(yaw)
        x = detections["x_m"].astype(np.float64)
        y = detections["y_m"].astype(np.float64)
        found = np.zeros((detections.size, 13))
        found[:, _X] = c * x - s * y + x0
        found[:, _Y] = s * x + c * y + y0
        found[:, _YAW] = detections["yaw_rad"] + yaw
        found[:, _LEN] = detections["length_m"]
        found[:, _WID] = detections["width_m"]
        found[:, _HGT] = detections["height_m"]
        found[:, _SCORE] = detections["score_prob"]
        found[:, _KIND] = np.clip(detections["kind"], 0, len(KINDS) - 1)
        found[:, _HITS] = 1.0
        spread = self._config.noise_m + self._config.noise_ratio * np.sqrt(x * x + y * y)
        return found, spread * spread

    def _tracks(self) -> np.ndarray:
        table = self._table[: self._count]
        shown = table[:, _HITS] >= self._config.birth_hits
        rows = table[shown]
        out = np.zeros(rows.shape[0], TRACK)
        x0, y0, yaw = self._pose
        c, s = math.cos(yaw), math.sin(yaw)
        dx, dy = rows[:, _X] - x0, rows[:, _Y] - y0
        out["track_id"] = self._ids[: self._count][shown]
        out["kind"] = rows[:, _KIND]
        out["x_m"] = c * dx + s * dy
        out["y_m"] = -s * dx + c * dy
        out["yaw_rad"] = (rows[:, _YAW] - yaw + math.pi) % (2.0 * math.pi) - math.pi
        out["length_m"], out["width_m"] = rows[:, _LEN], rows[:, _WID]
        out["height_m"] = rows[:, _HGT]
        out["vx_mps"] = c * rows[:, _VX] + s * rows[:, _VY]
        out["vy_mps"] = -s * rows[:, _VX] + c * rows[:, _VY]
        out["score_prob"] = rows[:, _SCORE]
        out["age_ticks"], out["coasted_ticks"] = rows[:, _AGE], rows[:, _MISS]
        return out


def _carry(
    pose: tuple[float, float, float], motion: tuple[float, float], dt: float
) -> tuple[float, float, float]:
    x, y, yaw = pose
    speed, rate = motion
    middle = yaw + rate * dt / 2.0
    return x + speed * dt * math.cos(middle), y + speed * dt * math.sin(middle), yaw + rate * dt
