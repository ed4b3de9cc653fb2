"""How a drive feels: smoothed acceleration, jerk and turning against the limits of nuPlan."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from sim.score.history import History
from vehicle.contracts.plan import STATE_COLUMNS, Plan

STEP_S: Final = 0.1
"""All windows below count samples at 10 Hz; other rates are interpolated to it."""

LIMITS: Final = {
    "lon_accel_mps2": (-4.05, 2.40),
    "lat_accel_mps2": (-4.89, 4.89),
    "jerk_mps3": (-8.37, 8.37),
    "lon_jerk_mps3": (-4.13, 4.13),
    "yaw_accel_radps2": (-1.93, 1.93),
    "yaw_rate_radps": (-0.95, 0.95),
}
"""A signal must stay strictly between; nuPlan took them from human driving."""

EXTENDED: Final = {
    "accel_mps2": 0.7,
    "jerk_mps3": 0.5,
    "yaw_rate_radps": 0.1,
    "yaw_accel_radps2": 0.1,
}
"""Largest root mean square difference between two plans (NAVSIM v2)."""

_ACCEL_WINDOW, _JERK_WINDOW, _YAW_WINDOW = 8, 15, 5
_PAIR_S = 0.5
_DECIMALS = 8


@lru_cache(maxsize=64)
def _weights(window: int, order: int, derivative: int, at: float) -> np.ndarray:
    """Return the weights that give the derivative of the least-squares polynomial at `at`."""
    x = np.arange(window) - at
    powers = np.arange(order + 1)
    fit = np.linalg.pinv(x[:, None] ** powers)
    return np.asarray(fit[derivative] * math.factorial(derivative))


def savgol(
    signal: np.ndarray, window: int, order: int, derivative: int = 0, step_s: float = 1.0
) -> np.ndarray:
    """Return a smoothed signal or its derivative, sample by sample.

    Half a window at each end comes from the polynomial of the first or last whole window. An even
    window has its polynomial read half a sample late, as the field's own filter does. A signal
    shorter than the window is fitted as one; the order drops where samples run out.

    Args:
        signal: [N].
        window: samples per polynomial.
        order: of the polynomial.
        derivative: 0 for the value itself.
        step_s: between samples.
    Source: Savitzky and Golay, "Smoothing and differentiation of data by simplified least squares
        procedures" (1964); ends as `scipy.signal.savgol_filter(mode="interp")` has them.
    """
    n = len(signal)
    window = min(window, n)
    order = min(order, window - 1)
    if derivative > order:
        return np.zeros(n)
    scale = step_s**-derivative
    half = window // 2
    out = np.empty(n)
    middle = _weights(window, order, derivative, (window - 1) / 2)
    first = half - (1 - window % 2)
    whole = np.correlate(signal, middle, mode="valid")
    out[first : first + len(whole)] = whole
    for i in range(half):
        out[i] = _weights(window, order, derivative, float(i)) @ signal[:window]
        late = window - 1.0 - i
        out[n - 1 - i] = _weights(window, order, derivative, late) @ signal[n - window :]
    return np.asarray(out * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comfort:
    """Extremes of a drive and whether all of them are within LIMITS.

    Args:
        within: per name of LIMITS.
        least, most: the extremes of each signal.
    """

    within: dict[str, bool]
    least: dict[str, float]
    most: dict[str, float]

    @property
    def comfortable(self) -> bool:
        """Return whether every limit holds."""
        return all(self.within.values())


def comfort(history: History) -> Comfort:
    """Return the comfort of a driven trace (nuPlan's `ego_is_comfortable`, NAVSIM's C).

    Lateral acceleration is speed times yaw rate, as measured under the rear axle.

    Source: nuplan-devkit, metrics `ego_is_comfortable` and those it calls; windows and limits as
        listed in docs/reference/metrics.md.
    """
    speed, rate = history.column("speed_mps"), history.column("yaw_rate_radps")
    t = history.t_s
    grid = t[0] + STEP_S * np.arange(math.floor((t[-1] - t[0]) / STEP_S + 1e-6) + 1)
    if len(grid) < 2:
        grid = t
    lon = np.interp(grid, t, history.column("accel_mps2"))
    lat = np.interp(grid, t, speed * rate)
    yaw = np.interp(grid, t, np.unwrap(history.column("yaw_rad")))
    signals = _signals(lon, lat, yaw)
    return Comfort(
        within={
            name: bool(((signals[name] > low) & (signals[name] < high)).all())
            for name, (low, high) in LIMITS.items()
        },
        least={name: float(v.min()) for name, v in signals.items()},
        most={name: float(v.max()) for name, v in signals.items()},
    )


def _signals(lon: np.ndarray, lat: np.ndarray, yaw: np.ndarray) -> dict[str, np.ndarray]:
    smooth_lon = _accel(lon)
    return {
        "lon_accel_mps2": smooth_lon,
        "lat_accel_mps2": _accel(lat),
        "jerk_mps3": _slope(_accel(np.hypot(lon, lat)), _JERK_WINDOW),
        "lon_jerk_mps3": _slope(smooth_lon, _JERK_WINDOW),
        "yaw_accel_radps2": savgol(yaw, _YAW_WINDOW, 3, 2, STEP_S).round(_DECIMALS),
        "yaw_rate_radps": _slope(yaw, _YAW_WINDOW),
    }


def _accel(signal: np.ndarray) -> np.ndarray:
    return savgol(signal, _ACCEL_WINDOW, 2).round(_DECIMALS)


def _slope(signal: np.ndarray, window: int) -> np.ndarray:
    return savgol(signal, window, 2, 1, STEP_S).round(_DECIMALS)


def extended_comfort(t_s: np.ndarray, plans: tuple[Plan | None, ...]) -> float:
    """Return the share of plan pairs half a second apart that agree; NaN without any pair.

    Two plans agree when over the time both cover, acceleration, jerk, yaw rate and yaw
    acceleration differ by no more than EXTENDED (root mean square). NAVSIM asks it of one pair per
    scene and averages over scenes; an episode is as many scenes as it has pairs.

    Args:
        t_s: [T] when each plan was made.
        plans: one per snapshot.
    Source: NAVSIM v2, `ego_is_two_frame_extended_comfort`.
    """
    if len(plans) != len(t_s):
        return math.nan
    agree = []
    for i, later in enumerate(plans):
        j = int(np.searchsorted(t_s, t_s[i] - _PAIR_S - 1e-6))
        earlier = plans[j] if t_s[i] - t_s[0] > _PAIR_S - 1e-6 else None
        if later is None or earlier is None:
            continue
        agree.append(plans_agree(earlier, later, float(t_s[i] - t_s[j])))
    return float(np.mean(agree)) if agree else math.nan


def plans_agree(earlier: Plan, later: Plan, apart_s: float) -> bool:
    """Return whether two plans made `apart_s` apart intend the same motion within EXTENDED."""
    a, b = earlier.trajectory.states, later.trajectory.states
    begin = max(float(a[0, 0]) - apart_s, float(b[0, 0]))
    end = min(float(a[-1, 0]) - apart_s, float(b[-1, 0]))
    steps = math.floor((end - begin) / STEP_S + 1e-6) + 1
    if steps < 2:
        return True
    grid = begin + STEP_S * np.arange(steps)
    one, two = _features(a, grid + apart_s), _features(b, grid)
    rms = {k: float(np.sqrt(np.mean((one[k] - two[k]) ** 2))) for k in EXTENDED}
    return all(rms[k] <= EXTENDED[k] for k in EXTENDED)


def _features(states: np.ndarray, at_s: np.ndarray) -> dict[str, np.ndarray]:
    col = {name: states[:, i] for i, name in enumerate(STATE_COLUMNS)}
    t = col["t_s"]
    lateral = col["speed_mps"] ** 2 * col["curvature_1pm"]
    size = np.hypot(np.interp(at_s, t, col["accel_mps2"]), np.interp(at_s, t, lateral))
    yaw = np.interp(at_s, t, np.unwrap(col["yaw_rad"]))
    accel = _accel(size)
    return {
        "accel_mps2": accel,
        "jerk_mps3": _slope(accel, _JERK_WINDOW),
        "yaw_rate_radps": _slope(yaw, _YAW_WINDOW),
        "yaw_accel_radps2": savgol(yaw, _YAW_WINDOW, 2, 2, STEP_S).round(_DECIMALS),
    }
