"""Poses of some sensor -> motion of the ego frame, smooth enough to fire no trigger by itself.

Differentiated poses are noisy: 2 cm of jitter at 10 Hz is 4 m/s2 of false braking. Velocities and
accelerations here are slopes of polynomials fitted to a window around each tick.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle.contracts.ego import DriverInput, EgoState, Guidance
from vehicle.geometry import to_ego_2d, wrap_angle
from vehicle.importers.layout import LogDamagedError

VELOCITY_WINDOW_S: Final = 0.6
ACCEL_WINDOW_S: Final = 1.0
JUMP_MPS: Final = 1.5
"""A step this far off its neighbours is a fault of the log: it would be 15 m/s2 at 10 Hz."""

HUMAN: Final = DriverInput(engaged=False)
"""Who drove every log there is an importer for."""

GUIDANCE_BEHIND_M: Final = 5.0
GUIDANCE_AHEAD_S: Final = 5.0
"""Guidance reaches as far as the fastest moment of the log goes in this time, 60 to 150 m."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounting:
    """Where the posed sensor sits: `lever_m` ahead of the rear axle, turned left by `yaw_rad`."""

    lever_m: float = 0.0
    yaw_rad: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Motion:
    """Ego motion at every tick, columns of EgoState; `t_s` counts from the first tick."""

    t_s: np.ndarray
    xy_m: np.ndarray
    yaw_rad: np.ndarray
    speed_mps: np.ndarray
    accel_mps2: np.ndarray
    yaw_rate_radps: np.ndarray
    latlon_deg: np.ndarray | None = None

    def states(self) -> list[EgoState]:
        """Return one EgoState per tick."""
        return [self.state(i) for i in range(len(self.t_s))]

    def state(self, i: int) -> EgoState:
        """Return the EgoState of tick `i`."""
        speed, yaw_rate = float(self.speed_mps[i]), float(self.yaw_rate_radps[i])
        curvature = yaw_rate / speed if abs(speed) > 1.0 else 0.0
        place = self.latlon_deg
        return EgoState(
            mono_ns=mono_times(self.t_s[[0, i]])[1],
            x_m=float(self.xy_m[i, 0]),
            y_m=float(self.xy_m[i, 1]),
            yaw_rad=float(wrap_angle(self.yaw_rad[i])),
            speed_mps=speed,
            accel_mps2=float(self.accel_mps2[i]),
            yaw_rate_radps=yaw_rate,
            curvature_1pm=min(max(curvature, -0.2), 0.2),
            latitude_deg=None if place is None else float(place[i, 0]),
            longitude_deg=None if place is None else float(place[i, 1]),
        )


def mono_times(t_s: np.ndarray) -> list[int]:
    """Return the route's monotonic nanoseconds of log times."""
    return [int(v) for v in np.rint((t_s - t_s[0]) * 1e9)]


def fit(t_s: np.ndarray, values: np.ndarray, *, window_s: float, degree: int) -> np.ndarray:
    """Return value and slope of local polynomials at every sample.

    Args:
        t_s: [N] increasing, any spacing.
        values: [N] or [N, D].
        window_s: width of the window; at the ends it is shifted inwards, not shortened.
        degree: of the polynomial, 1 or 2.
    Returns:
        [2, N] or [2, N, D]: fitted values, then slopes per second.
    Source: Savitzky, Golay, Smoothing and Differentiation of Data by Simplified Least Squares
        Procedures (1964), for uneven spacing.
    """
    columns = values.reshape(len(t_s), -1)
    step = float(np.median(np.diff(t_s)))
    count = min(len(t_s), max(degree + 2, 2 * round(window_s / step / 2) + 1))
    first = np.clip(np.arange(len(t_s)) - count // 2, 0, len(t_s) - count)
    index = first[:, None] + np.arange(count)
    dt = t_s[index] - t_s[:, None]
    basis = np.stack([dt**k for k in range(degree + 1)], axis=-1)
    offset = columns[index] - columns[:, None]  # differences keep precision far from the origin
    gram = np.swapaxes(basis, 1, 2) @ basis
    solved = np.linalg.solve(gram, np.swapaxes(basis, 1, 2) @ offset)
    return np.stack([solved[:, 0] + columns, solved[:, 1]]).reshape(2, *values.shape)


def check_times(t_s: np.ndarray, where: str) -> None:
    """Raise LogDamagedError unless there are three or more times and they increase."""
    if len(t_s) < 3:
        raise LogDamagedError(f"{where} holds {len(t_s)} poses; ego motion needs 3 or more")
    backwards = np.flatnonzero(np.diff(t_s) <= 0)
    if len(backwards):
        raise LogDamagedError(f"{where}: time does not increase at row {backwards[0] + 1}")


def split_jumps(t_s: np.ndarray, xy_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the track without its jumps [N, 2], and what the jumps add to each point [N, 2].

    Logs hold poses that are out of order or a frame late: one step is then metres per second off
    its neighbours. Such a step is replaced by their median; the ground it covered is kept apart,
    except after the last step, where nothing confirms it.
    """
    dt = np.diff(t_s)[:, None]
    velocity = np.diff(xy_m, axis=0) / dt
    count = min(5, len(velocity))
    first = np.clip(np.arange(len(velocity)) - count // 2, 0, len(velocity) - count)
    usual = np.median(velocity[first[:, None] + np.arange(count)], axis=1)
    apart = np.linalg.norm(velocity - usual, axis=1)
    jump = apart > np.maximum(JUMP_MPS, 0.15 * np.linalg.norm(usual, axis=1))
    steps = np.where(jump[:, None], usual, velocity) * dt
    steady = xy_m[0] + np.vstack([np.zeros(2), np.cumsum(steps, axis=0)])
    offset = xy_m - steady
    if jump[-1]:
        offset[-1] = offset[-2]
    return steady, np.where(jump.any(), offset, 0.0)


def motion_from_poses(
    t_s: np.ndarray,
    xy_m: np.ndarray,
    yaw_rad: np.ndarray,
    *,
    mounting: Mounting,
    latlon_deg: np.ndarray | None = None,
) -> Motion:
    """Return ego motion from the track of a sensor mounted on it.

    Args:
        t_s: [N] seconds.
        xy_m: [N, 2] sensor positions, local frame.
        yaw_rad: [N] sensor yaw, local frame.
        mounting: of the sensor on the ego.
        latlon_deg: [N, 2] where known.
    """
    yaw = np.unwrap(yaw_rad) - mounting.yaw_rad
    yaw, yaw_rate = fit(t_s, yaw, window_s=VELOCITY_WINDOW_S, degree=2)
    heading = np.column_stack([np.cos(yaw), np.sin(yaw)])
    steady, offset = split_jumps(t_s, xy_m - mounting.lever_m * heading)
    xy_m, velocity = fit(t_s, steady, window_s=VELOCITY_WINDOW_S, degree=2)
    speed = (velocity * heading).sum(axis=1)
    return Motion(
        t_s=t_s - t_s[0],
        xy_m=xy_m + offset,
        yaw_rad=yaw,
        speed_mps=speed,
        accel_mps2=fit(t_s, speed, window_s=ACCEL_WINDOW_S, degree=1)[1],
        yaw_rate_radps=yaw_rate,
        latlon_deg=latlon_deg,
    )


def estimate_mounting(
    t_s: np.ndarray, xy_m: np.ndarray, yaw_rad: np.ndarray, *, lever_m: float
) -> Mounting:
    """Return how a sensor is mounted, from the drive itself: the rear axle never slides sideways.

    Sideways velocity of the sensor is lever * yaw rate + speed * sin(yaw of mounting); both are
    solved for by least squares where the car moves. A drive with too little turning keeps
    `lever_m`, a drive that never moves keeps both.

    Source: kinematic bicycle model; own work.
    """
    velocity = fit(t_s, split_jumps(t_s, xy_m)[0], window_s=VELOCITY_WINDOW_S, degree=2)[1]
    yaw_rate = fit(t_s, np.unwrap(yaw_rad), window_s=VELOCITY_WINDOW_S, degree=2)[1]
    speed = np.hypot(velocity[:, 0], velocity[:, 1])
    moving = speed > 3.0
    if moving.sum() < 20:
        return Mounting(lever_m=lever_m)
    course = np.arctan2(velocity[:, 1], velocity[:, 0])
    offset = float(np.angle(np.exp(1j * (yaw_rad - course)[moving]).mean()))
    sideways = (speed * np.sin(course - yaw_rad + offset))[moving]
    turning, forward = yaw_rate[moving], speed[moving]
    if float((turning**2).sum()) > 1.0:
        rows = np.column_stack([turning, forward])
        lever, slope = np.linalg.lstsq(rows, sideways, rcond=None)[0]
        if 0.0 <= lever <= 4.0:
            return Mounting(lever_m=float(lever), yaw_rad=offset - float(slope))
    slope = float((sideways - lever_m * turning) @ forward / (forward @ forward))
    return Mounting(lever_m=lever_m, yaw_rad=offset - slope)


def driven_path(motion: Motion) -> Iterator[Guidance]:
    """Yield, per tick, the path the recorded driver took from there, as guidance.

    It begins 5 m behind and has a point a metre; past the end of the log it goes straight on. The
    speed limit is the highest speed of the log, at least 5 m/s: a log does not say what was
    allowed.
    """
    limit = max(5.0, float(motion.speed_mps.max()))
    ahead_m = float(np.clip(round(limit * GUIDANCE_AHEAD_S), 60, 150))
    keep, last = [0], motion.xy_m[0]
    for i, point in enumerate(motion.xy_m):
        if np.hypot(*(point - last)) >= 0.25:  # standing still adds no path
            keep.append(i)
            last = point
    path = motion.xy_m[keep]
    ends = np.array([motion.yaw_rad[keep[0]], motion.yaw_rad[keep[-1]]])
    ahead = np.column_stack([np.cos(ends), np.sin(ends)])
    path = np.vstack(
        [
            path[0] - GUIDANCE_BEHIND_M * ahead[0],
            path,
            path[-1] + (ahead_m + 1.0) * ahead[1],
        ]
    )
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    places = along[np.searchsorted(keep, np.arange(len(motion.t_s)), side="right")]
    reach = np.arange(-GUIDANCE_BEHIND_M, ahead_m + 0.5)
    for place, state in zip(places, motion.states(), strict=True):
        at = np.clip(place + reach, 0.0, along[-1])
        points = np.column_stack([np.interp(at, along, path[:, k]) for k in (0, 1)])
        points = np.round(to_ego_2d(state, points), 3)  # millimetres pack into half the bytes
        yield Guidance(centreline_m=points, speed_limit_mps=limit, source="log")
