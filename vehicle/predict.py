"""Where everybody will be: road users followed along lanes, through turns, or straight on.

A velocity that is held drives every car out of its bend and into the ego's lane. Whoever keeps to
the ego's own path, in its direction or against it, is taken to go on along it; whoever turns, to go
on turning until a road would lead on; who brakes, to brake on a while. People and animals hold
their velocity.
"""

import math
from typing import Final

import numpy as np
from numba import njit

from vehicle.contracts.ego import EgoState
from vehicle.contracts.scene import KINDS, TRACK
from vehicle.paths import KAPPA, YAW, S, X, Y, locate
from vehicle.proposals import STEP_S, STEPS, TVX, TVY, TX, TY, TYAW

USERS: Final = ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "vx_mps", "vy_mps")
MAX_USERS: Final = 64
_ON_WHEELS: Final = np.array(
    [k in ("car", "truck", "cyclist", "bus", "motorcycle", "trailer", "emergency") for k in KINDS]
)
_STILL_MPS: Final = 0.3
_ALONG_RAD: Final = 0.45
_BESIDE_M: Final = 8.0
_DRIFT_S: Final = 1.5
_BRAKES_S: Final = 1.5
_TURN_RADPS: Final = 0.06
_MAX_TURN_RADPS: Final = 0.8
_HARDEST_MPS2: Final = 7.0
_MOST: Final = np.array([1.5, _HARDEST_MPS2])
"""Turn and acceleration beyond which nobody is believed."""
_OLD_NS: Final = 500_000_000
_GROWN_TICKS: Final = 3


@njit(cache=True)
def futures_of(
    users: np.ndarray, motion: np.ndarray, wheels: np.ndarray, path: np.ndarray
) -> np.ndarray:
    """Return where road users will be at each 0.1 s of the next 4 s.

    Args:
        users: [N, 7] float64, ego frame, columns TX...TVY.
        motion: [N, 2] turn in rad/s (left positive) and acceleration in m/s2, 0 where not known.
        wheels: bool [N], drives rather than walks.
        path: from `vehicle.paths.resample`.
    Returns:
        [N, STEPS, 3] float64: x, y, yaw.
    """
    out = np.empty((users.shape[0], STEPS, 3))
    for n in range(users.shape[0]):
        u = users[n]
        v = math.hypot(u[TVX], u[TVY])
        if v < _STILL_MPS or not wheels[n]:
            for k in range(STEPS):
                out[n, k, 0] = u[TX] + u[TVX] * k * STEP_S
                out[n, k, 1] = u[TY] + u[TVY] * k * STEP_S
                out[n, k, 2] = u[TYAW]
            continue
        hint, best = 0, 1e18
        for i in range(0, path.shape[0], 4):
            d2 = (path[i, X] - u[TX]) ** 2 + (path[i, Y] - u[TY]) ** 2
            if d2 < best:
                best, hint = d2, i
        row, s, d = locate(path, u[TX], u[TY], hint)
        heading = math.atan2(u[TVY], u[TVX])
        off = _wrap(heading - path[row, YAW])
        way = 1.0 if abs(off) < math.pi / 2 else -1.0
        lean = off if way > 0.0 else _wrap(off - math.pi)
        bend = way * v * path[row, KAPPA]
        keeps = abs(lean) < _ALONG_RAD and abs(d) < _BESIDE_M
        if keeps and (abs(motion[n, 0]) < _TURN_RADPS or abs(motion[n, 0] - bend) < 0.25):
            _along(out[n], u, path, s, d, v, way, lean, motion[n, 1])
        else:
            _turning(out[n], u, v, heading, off, motion[n])
    return out


@njit(cache=True)
def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


@njit(cache=True)
def _slowed(v: float, accel: float, k: int) -> float:
    """Return the speed after k steps: who brakes goes on braking for a while; nobody speeds up."""
    return max(0.0, v + min(0.0, accel) * min(k * STEP_S, _BRAKES_S))


@njit(cache=True)
def _along(
    out: np.ndarray, u: np.ndarray, path: np.ndarray, s: float, d: float, v: float, way: float,
    lean: float, accel: float,
) -> None:  # fmt: skip
    """Follow the path at the present distance beside it, drifting on as now for a moment."""
    side, at = d, s - path[0, S]
    lead = u[TYAW] - math.atan2(u[TVY], u[TVX]) + (0.0 if way > 0.0 else math.pi)
    for k in range(STEPS):
        fade = max(0.0, 1.0 - k * STEP_S / _DRIFT_S)
        row = min(max(math.floor(at + 0.5), 0), path.shape[0] - 1)
        c, si = math.cos(path[row, YAW]), math.sin(path[row, YAW])
        over = at - row  # the rows of a path are a metre apart
        out[k, 0] = path[row, X] + c * over - si * side
        out[k, 1] = path[row, Y] + si * over + c * side
        out[k, 2] = path[row, YAW] + lean * fade + lead
        step = _slowed(v, accel, k) * STEP_S
        side += way * step * math.sin(lean) * fade
        at += way * step * math.cos(lean * fade)


@njit(cache=True)
def _turning(
    out: np.ndarray, u: np.ndarray, v: float, heading: float, off: float, motion: np.ndarray
) -> None:
    """Go on turning until along or across the path, as roads lie, then straight on."""
    turn = min(_MAX_TURN_RADPS, max(-_MAX_TURN_RADPS, motion[0]))
    left = 0.0
    if abs(turn) >= _TURN_RADPS:
        quarter = math.pi / 2
        at = off / quarter
        goal = math.ceil(at - 0.1) if turn > 0.0 else math.floor(at + 0.1)
        left = abs(goal * quarter - off)
    x, y, lean = u[TX], u[TY], u[TYAW] - heading
    for k in range(STEPS):
        out[k, 0], out[k, 1], out[k, 2] = x, y, heading + lean
        step = _slowed(v, motion[1], k) * STEP_S
        bend = min(left, abs(turn) * step / max(v, 0.1)) * (1.0 if turn > 0.0 else -1.0)
        left -= abs(bend)
        x += step * math.cos(heading + 0.5 * bend)
        y += step * math.sin(heading + 0.5 * bend)
        heading += bend


class Predictor:
    """Remembers how every track was heading, and so knows who turns and who brakes."""

    def __init__(self) -> None:
        self._ids = np.zeros(0, np.int64)
        self._yaw, self._speed = np.zeros(0), np.zeros(0)
        self._motion = np.zeros((0, 2))
        self._mono_ns = 0
        futures_of(np.ones((1, 7)), np.zeros((1, 2)), np.ones(1, np.bool_), _straight())

    def users(self, tracks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest tracks (TRACK, at most MAX_USERS) and their users [N, 7]."""
        if tracks.size > MAX_USERS:
            away = tracks["x_m"] ** 2 + tracks["y_m"] ** 2
            tracks = tracks[np.argsort(away, kind="stable")[:MAX_USERS]]
        users = np.empty((tracks.size, 7))
        for i, column in enumerate(USERS):
            users[:, i] = tracks[column]
        return tracks, users

    def predict(
        self, tracks: np.ndarray, users: np.ndarray, ego: EgoState, path: np.ndarray
    ) -> np.ndarray:
        """Return where road users will be, [N, STEPS, 3] x, y, yaw, ego frame.

        Args:
            tracks, users: from `users`.
            ego: motion of the ego, to tell its turning from theirs.
            path: from `vehicle.paths.resample`, where lanes lead.
        """
        motion = self._watch(tracks, users, ego)
        return futures_of(users, motion, _ON_WHEELS[tracks["kind"]], path)

    def _watch(self, tracks: np.ndarray, users: np.ndarray, ego: EgoState) -> np.ndarray:
        """Return turn and acceleration of each track, averaged over about a third of a second."""
        ids = tracks["track_id"].astype(np.int64)
        speed = np.hypot(users[:, TVX], users[:, TVY])
        yaw = users[:, TYAW] + ego.yaw_rad
        motion = np.zeros((ids.size, 2))
        dt_s = (ego.mono_ns - self._mono_ns) * 1e-9
        if self._ids.size and ids.size and 0.0 < dt_s <= _OLD_NS * 1e-9:
            at = np.minimum(np.searchsorted(self._ids, ids), self._ids.size - 1)
            known = (self._ids[at] == ids) & (tracks["age_ticks"] > _GROWN_TICKS)
            turned = (yaw - self._yaw[at] + math.pi) % (2 * math.pi) - math.pi
            seen = np.empty((ids.size, 2))
            seen[:, 0], seen[:, 1] = turned / dt_s, (speed - self._speed[at]) / dt_s
            seen[speed < 1.0, 0] = 0.0
            seen = np.minimum(np.maximum(seen, -_MOST), _MOST)
            share = 1.0 - math.exp(-dt_s / 0.15)
            before = self._motion[at]
            motion = np.where(known[:, None], before + share * (seen - before), 0.0)
        order = np.argsort(ids, kind="stable")
        self._ids, self._yaw, self._speed = ids[order], yaw[order], speed[order]
        self._motion, self._mono_ns = motion[order], ego.mono_ns
        return np.ascontiguousarray(motion)


def _straight() -> np.ndarray:
    path = np.zeros((8, 5))
    path[:, 0] = path[:, 1] = np.arange(8.0)
    return path


def no_users() -> tuple[np.ndarray, np.ndarray]:
    """Return nobody: TRACK [0] and users [0, 7]."""
    return np.zeros(0, TRACK), np.zeros((0, 7))
