"""How much more careful advice makes a command: the same envelope, with a shorter arm."""

import math
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numba import njit

from vehicle.config import VehicleConfig
from vehicle.contracts.advice import ADVISED_COLUMNS, MAX_CAPS, MAX_TRACKS, Verdict
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.scene import TRACK, Scene
from vehicle.proposals import TLEN, TVX, TVY, TWID, TX, TY, TYAW
from vehicle.safety import Envelope, road_users

LEAST_MPS: Final = 2.0
"""Walking pace: at it and below, advice does not count. The car stops from it in a quarter of a
metre and its reaction time, so its own eyes are enough."""

BRAKE_MPS2: Final = 4.0
"""Advice brakes with this at most: who follows can follow, as in a minimal risk manoeuvre (UN R157,
5.5). What the car cannot see itself is no reason for an emergency."""

NEEDED_MPS2: Final = 1.0
"""A contact ahead that needs more than this to avoid is a reason to brake."""

REACH_M: Final = 300.0
"""Road users further away than this are none of ours."""

CAP_REACH_M: Final = 20_000.0
CAP_BRAKE_MPS2: Final = 1.5
"""What a cap ahead is slowed down for with."""

_CAP_GAIN_1PS: Final = 1.0
_SAME_M: Final = 0.75
_SAME_MPS: Final = 1.0
_KIND, _X, _Y, _YAW, _LEN, _WID, _HGT, _VX, _VY, _PROB = range(len(ADVISED_COLUMNS))
_NOTHING: Final = np.zeros(0, np.float32)
_FASTEST_MPS: Final = 60.0


def usable(letter: Any, ego: EgoState) -> Verdict | None:
    """Return why advice cannot be used: its memory is not whole, or it speaks of no place here."""
    tracks_n, caps_n = int(letter["tracks_n"]), int(letter["caps_n"])
    if not (0 <= tracks_n <= MAX_TRACKS and 0 <= caps_n <= MAX_CAPS):
        return "torn"
    tracks, caps = letter["tracks"][:tracks_n], letter["caps"][:caps_n]
    if not (np.isfinite(tracks).all() and np.isfinite(caps).all()):
        return "torn"
    near = np.hypot(tracks[:, _X] - ego.x_m, tracks[:, _Y] - ego.y_m) < REACH_M
    there = np.hypot(caps[:, 1] - ego.x_m, caps[:, 2] - ego.y_m) < CAP_REACH_M
    return None if near.any() or there.any() or not (tracks_n or caps_n) else "unplaced"


class Heeding:
    """Answers what a command becomes when advice is true.

    The envelope is the car's own (`vehicle/safety.py`) with two numbers changed: it asks for
    BRAKE_MPS2 at most, and earlier. What it makes of a command is taken only where it asks
    for less acceleration, and of that nothing but the acceleration.

    Args:
        config: of the vehicle.
    """

    def __init__(self, config: VehicleConfig) -> None:
        self._cap_mps2 = config.comfort_brake_mps2
        self._most_mps2 = min(BRAKE_MPS2, config.max_brake_mps2)
        self._envelope = Envelope(
            replace(config, aeb_needed_mps2=NEEDED_MPS2, max_brake_mps2=self._most_mps2)
        )
        self._body = np.array(
            [config.length_m - config.rear_overhang_m, config.rear_overhang_m, config.width_m]
        )
        self._there = np.zeros(MAX_TRACKS, TRACK)
        self._there["age_ticks"] = 100
        self._known, self._pose, self._count = np.zeros((0, 7)), np.zeros(3), 0
        self._ahead = np.column_stack([np.linspace(0.0, 100.0, 51), np.zeros((51, 2))])
        self._warm()

    def begin(self, scene: Scene | None, ego: EgoState) -> None:
        """Start a tick: nobody is advised of yet.

        Args:
            scene: what the car sees; whom it sees itself is left out of what is added.
            ego: as for `Envelope.limit`.
        """
        self._known, self._count = road_users(scene), 0
        self._pose[:] = ego.x_m, ego.y_m, ego.yaw_rad

    def add(self, tracks: np.ndarray, age_s: float) -> int:
        """Take in tracks of one piece of advice; return how many are news to the car.

        At most MAX_TRACKS of all together count, those of the nearest context first.

        Args:
            tracks: [N, 10] ADVISED_COLUMNS, local frame, true `age_s` ago.
        """
        if not len(tracks):
            return 0
        place = self._there[self._count :]
        found = int(_place(tracks, age_s, self._pose, self._known, self._body, place))
        self._count += found
        return found

    def limit(
        self, command: ControlCommand, ego: EgoState, course: np.ndarray | None
    ) -> ControlCommand:
        """Return `command`, or one that brakes more for those who were added.

        Args:
            command: the car's own.
            ego, course: as for `Envelope.limit`.
        """
        if not self._count or ego.speed_mps <= LEAST_MPS:
            return command
        others = Scene(
            frame_id=command.frame_id,
            mono_ns=command.mono_ns,
            tracks=self._there[: self._count],
            embedding=_NOTHING,
            uncertainty_ratio=math.nan,
            fresh=True,
        )
        found = self._envelope.limit(command, others, ego, course)
        if found.accel_mps2 >= command.accel_mps2:
            return command
        new = found.limited_by[len(command.limited_by) :]
        rules = (f"advice_{r}" for r in new if not r.startswith("actuator"))
        return replace(
            command, accel_mps2=found.accel_mps2, limited_by=(*command.limited_by, *rules)
        )

    def cap(
        self, command: ControlCommand, caps: np.ndarray, ego: EgoState, course: np.ndarray | None
    ) -> ControlCommand:
        """Return `command`, or one that brakes more for caps on the way.

        Args:
            caps: [M, 4] speed, x, y, radius, local frame.
        """
        speed = ego.speed_mps
        if not len(caps) or speed <= LEAST_MPS:
            return command
        way = self._ahead if course is None else course
        most = max(float(_capped(caps, self._pose, way, speed)), -self._cap_mps2)
        if most >= command.accel_mps2:
            return command
        return replace(command, accel_mps2=most, limited_by=(*command.limited_by, "advice_cap"))

    def _warm(self) -> None:
        ego = EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=5.0)
        ask = ControlCommand(frame_id=0, mono_ns=0, accel_mps2=1.0, curvature_1pm=0.0)
        row = np.array([[1.0, 9.0, 0.0, 0.0, 0.5, 0.5, 1.7, 0.0, 0.0, 1.0]])
        for course in (None, self._ahead):
            self.begin(None, ego)
            self.add(row, 0.0)
            self.limit(ask, ego, course)
            self.cap(ask, np.array([[3.0, 20.0, 0.0, 5.0]]), ego, course)


@njit(cache=True)
def _place(
    rows: np.ndarray,
    age_s: float,
    pose: np.ndarray,
    known: np.ndarray,
    body: np.ndarray,
    out: np.ndarray,
) -> int:
    """Put advised tracks into the ego frame as they are now; return how many are news.

    Left out: who is far away, faster than anybody, seen by the car itself, or the car itself.

    Args:
        rows: ADVISED_COLUMNS, local frame, `age_s` ago. pose: x, y, yaw of the ego in it.
        known: [N, 7] whom the car sees, columns of `vehicle.proposals`.
        body: front and rear overhang from the rear axle, width.
        out: TRACK; no more are put than it is long.
    """
    c, s = math.cos(pose[2]), math.sin(pose[2])
    count = 0
    for n in range(rows.shape[0]):
        if count == out.shape[0]:
            break
        r = rows[n]
        dx, dy = r[_X] + r[_VX] * age_s - pose[0], r[_Y] + r[_VY] * age_s - pose[1]
        x, y = c * dx + s * dy, -s * dx + c * dy
        if math.hypot(x, y) > REACH_M or math.hypot(r[_VX], r[_VY]) > _FASTEST_MPS:
            continue
        if -body[1] <= x <= body[0] and abs(y) <= 0.5 * body[2]:
            continue
        vx, vy = c * r[_VX] + s * r[_VY], -s * r[_VX] + c * r[_VY]
        if _is_known(known, x, y, r[_LEN], vx, vy):
            continue
        t = out[count]
        t.kind = int(r[_KIND])
        t.x_m, t.y_m, t.yaw_rad = x, y, r[_YAW] - pose[2]
        t.length_m, t.width_m, t.height_m = r[_LEN], r[_WID], r[_HGT]
        t.vx_mps, t.vy_mps = vx, vy
        t.score_prob = r[_PROB]
        count += 1
    return count


@njit(cache=True)
def _is_known(known: np.ndarray, x: float, y: float, length: float, vx: float, vy: float) -> bool:
    """Return whether the car sees somebody of about this length there, moving about like this.

    Where it has only begun to see somebody, it cannot know how fast yet: then advice still counts.
    """
    for n in range(known.shape[0]):
        k = known[n]
        c, s = math.cos(k[TYAW]), math.sin(k[TYAW])
        along = abs(c * (x - k[TX]) + s * (y - k[TY]))
        across = abs(-s * (x - k[TX]) + c * (y - k[TY]))
        inside = along < 0.5 * k[TLEN] + _SAME_M and across < 0.5 * k[TWID] + _SAME_M
        alike = 0.5 * k[TLEN] < length < 2.0 * k[TLEN]
        if inside and alike and math.hypot(vx - k[TVX], vy - k[TVY]) < _SAME_MPS:
            return True
    return False


@njit(cache=True)
def _capped(caps: np.ndarray, pose: np.ndarray, course: np.ndarray, speed: float) -> float:
    """Return the most acceleration that keeps all caps, those ahead on the course too."""
    c, s = math.cos(pose[2]), math.sin(pose[2])
    most = 1e9
    for n in range(caps.shape[0]):
        cap, dx, dy, radius = caps[n, 0], caps[n, 1] - pose[0], caps[n, 2] - pose[1], caps[n, 3]
        x, y, way, there = c * dx + s * dy, -s * dx + c * dy, 0.0, False
        if math.hypot(x, y) <= radius:
            there = True
        else:
            for i in range(course.shape[0]):
                if i:
                    way += math.hypot(
                        course[i, 0] - course[i - 1, 0], course[i, 1] - course[i - 1, 1]
                    )
                if math.hypot(course[i, 0] - x, course[i, 1] - y) <= radius:
                    there = True
                    break
        if there:
            cap = max(cap, LEAST_MPS)
            allowed = math.sqrt(cap * cap + 2.0 * CAP_BRAKE_MPS2 * way)
            most = min(most, _CAP_GAIN_1PS * (allowed - speed))
    return most
