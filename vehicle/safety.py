"""The last word before the actuators: it can only make a command more careful."""

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numba import njit

from vehicle.config import VehicleConfig
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.scene import Scene
from vehicle.course import straighten
from vehicle.proposals import TLEN, TVX, TVY, TWID, TX, TY, TYAW, box_contact

CONTACT_HORIZON_S: Final = 3.0
MIN_AGE_TICKS: Final = 3
"""Younger tracks have no velocity worth acting on; a scene built from truth sets its ages."""

_LOOK_STEP_S: Final = 0.05
_LOOK_STEPS: Final = round(CONTACT_HORIZON_S / _LOOK_STEP_S)
_NEVER_S: Final = 1e9
_LATERAL_RATIO: Final = 1.5
_MAX_BEND_RAD: Final = 1.0
_LEAST_CURVATURE_1PM: Final = 1e-4
_LEAST_SIZE_M: Final = 0.2
_LARGEST_SIZE_M: Final = 25.0
_DRIFT_MPS: Final = 1.5
_ONCOMING_MPS: Final = -0.5
_STANDING_MPS: Final = 0.05
_SAFE, _LONGITUDINAL, _OPPOSITE, _LATERAL = 0, 1, 2, 3
_RULES: Final = {
    _LONGITUDINAL: "rss_longitudinal",
    _OPPOSITE: "rss_opposite",
    _LATERAL: "rss_lateral",
}


@njit(cache=True)
def rss_same_direction(
    rear_mps: float,
    front_mps: float,
    rho_s: float,
    accel: float,
    brake_min: float,
    brake_max: float,
) -> float:
    """Return the least gap in metres that stays safe behind a vehicle that may brake.

    Source: Shalev-Shwartz, Shammah, Shashua, "On a Formal Model of Safe and Scalable Self-driving
    Cars" (2017), definition 1.
    """
    after = rear_mps + rho_s * accel
    need = rear_mps * rho_s + 0.5 * accel * rho_s * rho_s + after * after / (2.0 * brake_min)
    return max(0.0, need - front_mps * front_mps / (2.0 * brake_max))


@njit(cache=True)
def rss_opposite(
    own_mps: float,
    other_mps: float,
    rho_s: float,
    accel: float,
    brake_own: float,
    brake_other: float,
) -> float:
    """Return the least gap in metres between vehicles that approach; both speeds positive.

    Source: as above, definition 2.
    """
    own, other = own_mps + rho_s * accel, other_mps + rho_s * accel
    first = 0.5 * (own_mps + own) * rho_s + own * own / (2.0 * brake_own)
    return first + 0.5 * (other_mps + other) * rho_s + other * other / (2.0 * brake_other)


@njit(cache=True)
def _sideways(v: float, sign: float, rho_s: float, accel: float, brake: float) -> float:
    after = v + sign * rho_s * accel
    stop = max(0.0, sign * after)  # already moving the other way, nothing is left to brake
    return 0.5 * (v + after) * rho_s + sign * stop * stop / (2.0 * brake)


@njit(cache=True)
def rss_lateral(
    left_mps: float,
    right_mps: float,
    rho_left_s: float,
    rho_right_s: float,
    accel: float,
    brake: float,
    margin: float,
) -> float:
    """Return the least gap in metres beside each other; velocities positive towards the right.

    Source: as above, definition 6.
    """
    left = _sideways(left_mps, 1.0, rho_left_s, accel, brake)
    return max(0.0, margin + left - _sideways(right_mps, -1.0, rho_right_s, accel, brake))


@njit(cache=True)
def _contact(
    u: np.ndarray,
    speed: float,
    curvature: float,
    front: float,
    rear: float,
    width: float,
    until: float,
) -> tuple[float, float]:
    """Return when one road user is touched up to `until`, and its speed along the ego then."""
    middle, half_l, half_w = 0.5 * (front - rear), 0.5 * (front + rear), 0.5 * width
    facing = np.array([math.cos(u[TYAW]), math.sin(u[TYAW])])
    if box_contact(u, facing, 0.0, 0.0, 0.0, 1.0, 0.0, middle, half_l, half_w):
        return _NEVER_S, 0.0
    x, y, yaw = 0.0, 0.0, 0.0
    step = speed * _LOOK_STEP_S
    for k in range(1, _LOOK_STEPS + 1):
        t = k * _LOOK_STEP_S
        if t > until:
            break
        x += step * math.cos(yaw + 0.5 * curvature * step)
        y += step * math.sin(yaw + 0.5 * curvature * step)
        yaw += curvature * step
        c, s = math.cos(yaw), math.sin(yaw)
        if box_contact(u, facing, t, x, y, c, s, middle, half_l, half_w):
            if (u[TX] + u[TVX] * t - x) * c + (u[TY] + u[TVY] * t - y) * s > middle - half_l:
                return t, u[TVX] * c + u[TVY] * s
            break
    return _NEVER_S, 0.0


@njit(cache=True)
def first_contact(
    users: np.ndarray, speed: float, curvature: float, front: float, rear: float, width: float
) -> tuple[float, float]:
    """Return when the ego, holding speed and curvature, touches somebody ahead.

    Args:
        users: [N, 7] columns of `vehicle.proposals`, holding their velocity.
        speed, curvature: of the ego.
        front, rear: from the rear axle to the bumpers; width of the body.
    Returns:
        Seconds, 1e9 when there is no contact within CONTACT_HORIZON_S; and how fast the other one
        then moves along the ego's heading. Contacts that exist already and those from behind do
        not count.
    """
    first, along = _NEVER_S, 0.0
    for n in range(users.shape[0]):
        t, v = _contact(users[n], speed, curvature, front, rear, width, first)
        if t < first:
            first, along = t, v
    return first, along


@njit(cache=True)
def needed_brake(
    users: np.ndarray, speed: float, curvature: float, front: float, rear: float, width: float
) -> float:
    """Return the deceleration in m/s2 that avoids every contact ahead of `first_contact`'s kind.

    Closing v over a gap of v t takes v^2 / (2 v t); the speed of who comes towards the ego is not
    the ego's to take away.

    Source: deceleration rate to avoid a crash (Almqvist, Hydén, Risser 1991).
    """
    most = 0.0
    for n in range(users.shape[0]):
        t, along = _contact(users[n], speed, curvature, front, rear, width, CONTACT_HORIZON_S)
        most = max(most, (speed - max(along, 0.0)) / (2.0 * t))
    return most


@njit(cache=True)
def _check_rss(
    users: np.ndarray, speed: float, curvature: float, body: np.ndarray, p: np.ndarray
) -> tuple[int, float]:
    """Return the rule that asks for the strongest brake, and that brake in m/s2.

    The brake grows from nothing at the safe gap to all of it a fifth of the gap further in.

    Args:
        body: front and rear overhang from the rear axle, width.
        p: as `Envelope` puts them together.
    """
    front, width = body[0], body[2]
    rho, accel, brake, front_brake, lat_accel, lat_brake, margin, side_brake = p
    rule, strongest = _SAFE, 0.0
    side = math.copysign(1.0, curvature)
    r = 1.0 / max(abs(curvature), _LEAST_CURVATURE_1PM)
    for n in range(users.shape[0]):
        u = users[n]
        x, y = u[TX], u[TY] * side  # mirrored so that the turn is to the left
        angle = math.atan2(x, r - y)
        d = r - math.hypot(x, r - y)
        c, s = math.cos(angle), math.sin(angle)
        vs = u[TVX] * c + side * u[TVY] * s
        vd = -u[TVX] * s + side * u[TVY] * c
        turn = side * u[TYAW] - angle
        ct, st = abs(math.cos(turn)), abs(math.sin(turn))
        half_along = 0.5 * (u[TLEN] * ct + u[TWID] * st)
        half_across = 0.5 * (u[TLEN] * st + u[TWID] * ct)
        # not ahead of the front bumper, or so far round the bend that the circle means nothing
        if r * angle + half_along < front or angle > _MAX_BEND_RAD:
            continue
        gap = max(0.0, r * angle - half_along - front)
        beside = abs(d) - half_across - 0.5 * width
        # faster across than a lane change: crossing traffic, which needed_brake answers
        towards = min(_DRIFT_MPS, -math.copysign(1.0, d) * vd)
        if beside > rss_lateral(0.0, -towards, rho, rho, lat_accel, lat_brake, margin):
            continue
        if vs >= _ONCOMING_MPS:
            need = rss_same_direction(speed, max(vs, 0.0), rho, accel, brake, front_brake)
            broken = _LONGITUDINAL
        else:
            need = rss_opposite(speed, -vs, rho, accel, brake, brake)
            broken = _OPPOSITE
        full = brake
        if beside > 0.0:
            full, broken = side_brake, _LATERAL
        asked = full * min(1.0, (need - gap) / (0.2 * need + 0.2))
        if asked > strongest:
            rule, strongest = broken, asked
    return rule, strongest


def road_users(scene: Scene | None, min_age_ticks: int = MIN_AGE_TICKS) -> np.ndarray:
    """Return the tracks old enough to act on as [N, 7] float64, columns of `vehicle.proposals`.

    What a broken track leaves unknown is taken so that arithmetic goes on: a place that is not
    finite is nowhere and left out, a velocity or heading that is not finite is zero, a size is at
    least 0.2 m (what the decoder gives at least) and at most 25 m.
    """
    if scene is None:
        return np.zeros((0, 7))
    tracks = scene.tracks[scene.tracks["age_ticks"] >= min_age_ticks]
    users = np.empty((tracks.size, 7))
    columns = ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "vx_mps", "vy_mps")
    for i, column in enumerate(columns):
        users[:, i] = tracks[column]
    if not np.isfinite(users).all():
        somewhere = np.isfinite(users[:, TX]) & np.isfinite(users[:, TY])
        users = np.nan_to_num(users[somewhere], nan=0.0, posinf=0.0, neginf=0.0)
    sizes = users[:, TLEN : TWID + 1]
    np.clip(sizes, _LEAST_SIZE_M, _LARGEST_SIZE_M, out=sizes)
    return users


class Envelope:
    """Responsibility-sensitive safety, emergency braking and actuator limits, in that order."""

    def __init__(self, config: VehicleConfig) -> None:
        self._config = c = config
        self._body = np.array([c.length_m - c.rear_overhang_m, c.rear_overhang_m, c.width_m])
        self._rss = np.array(
            [
                c.reaction_s,
                c.max_accel_mps2,
                c.rss_brake_mps2,
                c.rss_front_brake_mps2,
                c.rss_lateral_accel_mps2,
                c.rss_lateral_brake_mps2,
                c.rss_lateral_margin_m,
                c.comfort_brake_mps2,
            ]
        )
        warm = np.ones((1, 7))
        _check_rss(straighten(warm, warm[:, :3].copy()), 1.0, 0.0, self._body, self._rss)
        needed_brake(warm, 1.0, 0.0, *self._body)

    def limit(
        self,
        command: ControlCommand,
        scene: Scene | None,
        ego: EgoState,
        course: np.ndarray | None = None,
    ) -> ControlCommand:
        """Return `command` or a more careful one; no track, however broken, stops it.

        More careful is: no stronger acceleration, no larger curvature; the one exception is the
        brake, which cannot be stronger than the actuator. The rules that acted are named in
        `limited_by`. Rates are the controller's to limit (docs/decisions/0013).

        Args:
            command: demand of the controller.
            scene: tracks; None leaves the actuator limits.
            ego: measured motion; a car that rolls back is treated as standing.
            course: [M, 3] float64 x, y, yaw of the rear axle that the plan leads along; distances
                to keep are measured along it. None: along the circle of the present curvature.
        """
        c = self._config
        rules: list[str] = []
        speed = max(ego.speed_mps, 0.0)
        curvature = self._limit_curvature(command.curvature_1pm, speed, rules)
        accel = min(command.accel_mps2, 0.0) if "lateral_accel" in rules else command.accel_mps2
        users = road_users(scene)
        if speed > _STANDING_MPS:
            placed, bend = users, ego.curvature_1pm
            if course is not None:
                placed, bend = straighten(users, course), 0.0
            rule, brake = _check_rss(placed, speed, bend, self._body, self._rss)
            if rule != _SAFE and accel > -brake:
                accel = -brake
                rules.append(_RULES[rule])
            needed = needed_brake(users, speed, ego.curvature_1pm, *self._body)
            if needed >= c.aeb_needed_mps2 and accel > -c.max_brake_mps2:
                accel = -c.max_brake_mps2
                rules.append("aeb")
        if accel > c.max_accel_mps2:
            accel = c.max_accel_mps2
            rules.append("actuator_accel")
        if accel < -c.max_brake_mps2:
            accel = -c.max_brake_mps2
            rules.append("actuator_brake")
        if not rules:
            return command
        return replace(
            command,
            accel_mps2=float(accel),
            curvature_1pm=float(curvature),
            limited_by=(*command.limited_by, *rules),
        )

    def _limit_curvature(self, curvature: float, speed: float, rules: list[str]) -> float:
        c = self._config
        for bound, name in (
            (c.max_curvature_1pm, "actuator_curvature"),
            (_LATERAL_RATIO * c.max_lateral_mps2 / max(speed * speed, 0.01), "lateral_accel"),
        ):
            if abs(curvature) > bound:
                curvature = math.copysign(bound, curvature)
                rules.append(name)
        return curvature
