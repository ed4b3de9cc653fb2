"""Everybody else in a recorded scene: as recorded, or reacting to an ego that drives differently.

A reacting vehicle keeps to the path it was recorded on and to its timing, until somebody who is
not where the recording had him is in its way: then it follows by IDM, is late, and catches up. It
never goes backwards and is never ahead of its recording. People on foot are always replayed.
"""

from typing import Final

import numpy as np
from numba import njit

from sim.look.shapes import CAR_SHAPES
from sim.look.templates import SHAPES
from sim.recorded.logged_scene import LoggedScene
from sim.town.lanes import arc_length
from sim.users.actors import ACTOR
from sim.users.traffic import extent, gap_on_path, idm_accel
from vehicle.contracts.scene import KINDS

_PAINT: Final = np.array(
    [
        *((214, 214, 212), (26, 27, 30), (128, 132, 136), (74, 80, 88)),
        *((158, 24, 26), (28, 62, 128), (36, 92, 62), (188, 164, 108)),
    ],
    np.float64,
)
_CLOTHES: Final = np.array(
    [(186, 40, 44), (36, 70, 140), (226, 224, 218), (40, 42, 46), (224, 190, 60), (70, 128, 84)],
    np.float64,
)
_SKIN: Final = (206.0, 158.0, 128.0)
_BODIES: Final = {
    "truck": "truck", "bus": "bus", "motorcycle": "motorcycle", "cyclist": "cyclist",
    "animal": "deer", "cone": "cone", "debris": "crate", "trailer": "trailer",
    "emergency": "police", "other": "crate",
}  # fmt: skip
_VEHICLES: Final = tuple(
    KINDS.index(k) for k in ("car", "truck", "bus", "motorcycle", "cyclist", "trailer", "emergency")
)
_STEP_M: Final = 1.5
_AHEAD: Final = 40
_MOVED_M: Final = 2.0
_LATE_M: Final = 0.05
_FREE_MPS2: Final = 0.3


class Others:
    """The actors of a scene; `table` is ACTOR rows of those who are there now.

    Args:
        scene: recorded.
        reactive: vehicles follow by IDM on their recorded path when they must.
        seed: of colours.
    """

    def __init__(self, scene: LoggedScene, *, reactive: bool, seed: int) -> None:
        self.scene, self.reactive = scene, reactive
        count, steps = scene.valid.shape
        self._speeds = _speeds(scene.poses, scene.valid, scene.dt_s)
        self._every = _dress(scene, self._speeds, seed)
        self._along = np.zeros((count, steps))
        self._first = np.argmax(scene.valid, axis=1)
        self._last = steps - 1 - np.argmax(scene.valid[:, ::-1], axis=1)
        self._start = np.concatenate([[0], np.cumsum(self._last - self._first + 1)])
        self._way = np.zeros((int(self._start[-1]), 4))
        for i in range(count):
            part = slice(int(self._first[i]), int(self._last[i]) + 1)
            path = _filled(scene.poses[i, part], scene.valid[i, part])
            s = arc_length(path[:, :2]) if len(path) > 1 else np.zeros(1)
            self._along[i] = np.concatenate(
                [np.zeros(part.start), s, np.full(steps - part.stop, s[-1])]
            )
            self._way[self._start[i] : self._start[i + 1]] = np.column_stack([s, path])
        self._reacts = np.isin(scene.kinds, _VEHICLES) & (self._along[:, -1] > _MOVED_M)
        self._state = np.zeros((count, 3))  # s, speed, acceleration of those who are late
        self._late = np.zeros(count, np.bool_)
        self.t_s = 0.0
        self.table = self._show()

    def step(self, dt_s: float, ego: np.ndarray) -> None:
        """Move everybody on.

        Args:
            ego: x, y, yaw, speed, length, width of the ego's body.
        """
        before, self.t_s = self.t_s, self.t_s + dt_s
        if self.reactive and self._reacts.any():
            f0, f1 = before / self.scene.dt_s, self.t_s / self.scene.dt_s
            _react(
                self._every, self.table, ego, dt_s, _at(self._along, f0), _at(self._along, f1),
                _at(self._speeds, f1), self._first * self.scene.dt_s,
                self._last * self.scene.dt_s, before, self.t_s, self._way, self._start,
                self._reacts, self._late, self._state,
            )  # fmt: skip
        self.table = self._show()

    def _show(self) -> np.ndarray:
        """Return the rows of everybody who is there at the present time."""
        scene, f = self.scene, self.t_s / self.scene.dt_s
        k = min(int(f + 1e-6), scene.steps - 1)
        n = min(k + 1, scene.steps - 1)
        share = f - k if n > k else 0.0
        both = scene.valid[:, k] & scene.valid[:, n]
        here = (scene.valid[:, k] if share < 0.5 else scene.valid[:, n]) | both
        now = np.where(scene.valid[:, k, None], scene.poses[:, k], scene.poses[:, n])
        mixed = scene.poses[:, k] * (1 - share) + scene.poses[:, n] * share
        pose = np.where(both[:, None], mixed, now)
        rows = self._every
        speed = _at(self._speeds, f)
        rows["accel_mps2"] = (_at(self._speeds, f + 0.5) - _at(self._speeds, f - 0.5)) / scene.dt_s
        rows["gait_rad"] = self._along[:, k] * 4.2
        late = np.flatnonzero(self._late)
        for i in late:
            s = self._state[i, 0]
            way = self._way[self._start[i] : self._start[i + 1]]
            pose[i] = [np.interp(s, way[:, 0], way[:, c]) for c in (1, 2, 3)]
            here[i] = s < way[-1, 0] - 0.1 and s >= 0.0
        speed[late], rows["accel_mps2"][late] = self._state[late, 1], self._state[late, 2]
        rows["x_m"], rows["y_m"], rows["yaw_rad"] = pose.T
        rows["speed_mps"] = speed
        return rows[here].copy()


def _at(values: np.ndarray, f: float) -> np.ndarray:
    """Return columns of [A, T] at a fractional step."""
    f = min(max(f, 0.0), values.shape[1] - 1.0)
    k = min(int(f), values.shape[1] - 2)
    return values[:, k] * (k + 1 - f) + values[:, k + 1] * (f - k)


def _filled(path: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the poses with gaps run through straight."""
    at, known = np.arange(len(path)), np.flatnonzero(valid)
    yaw = np.unwrap(path[known, 2])
    columns = (path[known, 0], path[known, 1], yaw)
    return np.stack([np.interp(at, known, c) for c in columns], axis=1)


def _speeds(poses: np.ndarray, valid: np.ndarray, dt_s: float) -> np.ndarray:
    """Return speeds [A, T] along the heading, over three steps either side where they are valid.

    Annotated boxes jitter by centimetres: a difference of neighbours would be a speed itself.
    """
    count, steps = valid.shape
    out = np.zeros((count, steps))
    for i in range(count):
        known = np.flatnonzero(valid[i])
        if len(known) < 2:
            continue
        low = np.maximum(np.arange(len(known)) - 3, 0)
        high = np.minimum(np.arange(len(known)) + 3, len(known) - 1)
        a, b = known[low], known[high]
        d = (poses[i, b, :2] - poses[i, a, :2]) / ((b - a) * dt_s)[:, None]
        yaw = poses[i, known, 2]
        speed = d[:, 0] * np.cos(yaw) + d[:, 1] * np.sin(yaw)
        out[i] = np.interp(np.arange(steps), known, np.where(np.abs(speed) < 0.1, 0.0, speed))
    return out


def _dress(scene: LoggedScene, speeds: np.ndarray, seed: int) -> np.ndarray:
    """Return ACTOR rows with what does not change: id, kind, body, colours."""
    rows = np.zeros(len(scene.names), ACTOR)
    rows["actor_id"] = np.arange(1, len(rows) + 1)
    rows["kind"] = scene.kinds
    for k, name in enumerate(("length_m", "width_m", "height_m")):
        rows[name] = scene.sizes_m[:, k]
    for name in ("lane", "road", "next1", "next2"):
        rows[name] = -1
    rows["heading"] = 1
    for i, row in enumerate(rows):
        rng = np.random.default_rng((7_003, seed, i))
        kind = KINDS[row["kind"]]
        colours = _CLOTHES if kind == "pedestrian" else _PAINT
        body = np.clip(colours[rng.integers(len(colours))] + rng.uniform(-12, 12), 8, 245)
        row["colour"][0], row["colour"][1] = body, 0.6 * colours[rng.integers(len(colours))]
        row["colour"][2] = _SKIN
        if kind == "car":
            row["shape"] = 2 if row["height_m"] > 1.95 else int(row["height_m"] > 1.6)
            row["shape"] = min(row["shape"], CAR_SHAPES - 1)
        elif kind == "pedestrian":
            row["road"] = 0
        else:
            row["shape"] = SHAPES[_BODIES[kind]]
        row["moving"] = int(np.abs(speeds[i]).max() > 0.5 and row["kind"] in _VEHICLES)
    return rows


@njit(cache=True)
def _pose_at(way, first, last, s):  # type: ignore[no-untyped-def]
    """Return x, y, yaw on rows first..last-1 of `way` (s, x, y, yaw); straight on past the end."""
    k = first
    lo, hi = first, last - 1
    while lo < hi - 1:
        mid = (lo + hi) // 2
        if way[mid, 0] <= s:
            lo = mid
        else:
            hi = mid
    k = lo
    if k >= last - 1:
        return way[last - 1, 1], way[last - 1, 2], way[last - 1, 3]
    step = way[k + 1, 0] - way[k, 0]
    f = 0.0 if step < 1e-6 else (s - way[k, 0]) / step
    if f > 1.0:
        yaw = way[last - 1, 3]
        more = s - way[last - 1, 0]
        return way[last - 1, 1] + more * np.cos(yaw), way[last - 1, 2] + more * np.sin(yaw), yaw
    yaw = way[k, 3] + f * (way[k + 1, 3] - way[k, 3])
    return (
        way[k, 1] + f * (way[k + 1, 1] - way[k, 1]),
        way[k, 2] + f * (way[k + 1, 2] - way[k, 2]),
        yaw,
    )


@njit(cache=True)
def _react(
    every, table, ego, dt, s_now, s_next, v_next, begins, ends, before, after, way, start,
    reacts, late, state,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Move reacting vehicles on by `dt`; `late` and `state` (s, speed, accel) change in place."""
    path = np.empty((_AHEAD, 3))
    for i in range(len(every)):
        if not reacts[i] or (not late[i] and (after < begins[i] or after > ends[i])):
            continue
        car = every[i]
        appears = not late[i] and before < begins[i]
        s = state[i, 0] if late[i] else s_now[i]
        v = state[i, 1] if late[i] else car.speed_mps
        end = way[start[i + 1] - 1, 0]
        if late[i] and s >= end - 0.1:
            continue
        v = max(v, 0.0)
        waits = late[i] and s < 0.0
        if waits:
            s = 0.0
        n = min(_AHEAD, int((12.0 + v * 3.5) / _STEP_M) + 1)
        for k in range(n):
            path[k, 0], path[k, 1], path[k, 2] = _pose_at(
                way, start[i], start[i + 1], s + k * _STEP_M
            )
        gap, closing = _leader(path, n, car, v, table, ego, late)
        if appears or waits:
            if _covers(path[0], car, ego):  # the ego stands where it was first seen: not yet
                late[i] = True
                state[i, 0], state[i, 1], state[i, 2] = -1.0, v_next[i], 0.0
                continue
            if waits:
                state[i, 0] = 0.0
            else:
                continue
        wish = max(v_next[i], 0.0)
        if late[i]:
            wish = max(wish + 0.3 * (s_next[i] - s), 3.0)
        follow = (max(s_next[i] - s, 0.0) / dt - v) / dt
        by_idm = idm_accel(v, max(wish, 0.1), gap, closing)
        if not late[i] and not (by_idm < follow - _FREE_MPS2 and by_idm < -0.5 and gap < 1e8):
            continue
        new_v = max(0.0, v + by_idm * dt)
        ds = min(0.5 * (v + new_v) * dt, max(0.0, gap - 0.4))
        ds = min(ds, max(s_next[i] - s, 0.0))
        state[i, 0], state[i, 1], state[i, 2] = s + ds, min(new_v, ds / dt + 0.5), by_idm
        late[i] = s_next[i] - state[i, 0] > _LATE_M or after > ends[i]


@njit(cache=True)
def _covers(pose, car, ego):  # type: ignore[no-untyped-def]
    """Return whether the ego's body is within half a metre of a car at a pose."""
    c, s = np.cos(pose[2]), np.sin(pose[2])
    dx, dy = ego[0] - pose[0], ego[1] - pose[1]
    half_l, half_w = extent(ego[2] - pose[2], ego[4], ego[5])
    along, across = abs(c * dx + s * dy), abs(c * dy - s * dx)
    return along < half_l + car.length_m / 2.0 + 0.5 and across < half_w + car.width_m / 2.0 + 0.5


@njit(cache=True)
def _leader(path, n, car, v, table, ego, late):  # type: ignore[no-untyped-def]
    """Return gap and closing speed to who is first in the way: the ego, or somebody else when
    one of the two is not where the recording had it. What never moves was passed when recorded."""
    gap = gap_on_path(
        path, n, car.length_m, car.width_m, ego[0], ego[1], ego[2], ego[4], ego[5]
    )  # fmt: skip
    closing = v - ego[3] * np.cos(ego[2] - path[0, 2])
    reach = n * _STEP_M + 12.0
    mine = late[car.actor_id - 1]
    for j in range(len(table)):
        other = table[j]
        if other.actor_id == car.actor_id or not (mine or late[other.actor_id - 1]):
            continue
        if other.moving == 0 and abs(other.speed_mps) < 0.1:
            continue
        if abs(other.x_m - path[0, 0]) > reach or abs(other.y_m - path[0, 1]) > reach:
            continue
        g = gap_on_path(
            path, n, car.length_m, car.width_m, other.x_m, other.y_m, other.yaw_rad,
            other.length_m, other.width_m,
        )  # fmt: skip
        if g < gap:
            gap = g
            closing = v - other.speed_mps * np.cos(other.yaw_rad - path[0, 2])
    return gap, closing
