"""Slower where somebody could step out: past what hides people, no faster than one could stop.

A camera sees nobody behind a parked van. Beside everything that stands and is tall enough to hide
a person, speed is held to what can be stopped from within the time somebody who walks out takes to
reach the middle of the ego's way.
"""

from typing import Final

import numpy as np
from numba import njit

from vehicle.contracts.scene import KINDS
from vehicle.paths import PATH_BEHIND, PATH_STEP_M

HIDES: Final = np.array(
    [k in ("car", "truck", "bus", "trailer", "emergency") for k in KINDS], np.bool_
)
"""Kinds that a person may stand behind."""

TALL_M: Final = 1.1
_STILL_MPS: Final = 0.7
_WALKS_MPS: Final = 1.5
_REACTS_S: Final = 0.3
_BRAKE_MPS2: Final = 7.0
_LEAST_MPS: Final = 4.0
_BESIDE_M: Final = 4.0
_LOOK_M: Final = 60
_SOFT_MPS2: Final = 1.5


def slow_down(
    profile: np.ndarray, along: np.ndarray, tracks: np.ndarray, width_m: float
) -> np.ndarray:
    """Return a speed profile that is careful beside what hides people.

    Args:
        profile: from `vehicle.paths.speed_profile`, m/s for each row of the path.
        along: [N, 4] s, offset, half length, half width of each track along the path.
        tracks: TRACK [N].
        width_m: of the ego's body.
    Source: own work; the assumption of a person who walks is that of reachable sets (Orzechowski,
        Meyer, Lauer, "Tackling Occlusions & Limited Sensor Range with Set-based Safety
        Verification" (2018)), kept to the one that matters beside parked cars.
    """
    hides = HIDES[tracks["kind"]] & (tracks["height_m"] >= TALL_M)
    hides &= np.hypot(tracks["vx_mps"], tracks["vy_mps"]) < _STILL_MPS
    if not hides.any():
        return profile
    return _slowed(profile, along[hides], 0.5 * width_m)


@njit(cache=True)
def _slowed(profile: np.ndarray, along: np.ndarray, half: float) -> np.ndarray:
    out = profile.copy()
    for n in range(along.shape[0]):
        s, d, half_l, half_w = along[n, 0], along[n, 1], along[n, 2], along[n, 3]
        clear = abs(d) - half_w - half
        if clear < 0.0 or clear > _BESIDE_M:
            continue
        time_s = (clear + half) / _WALKS_MPS
        most = max(_LEAST_MPS, _BRAKE_MPS2 * (time_s - _REACTS_S))
        edge = int((s + half_l) / PATH_STEP_M) + PATH_BEHIND
        for i in range(max(edge - 3, 0), min(edge + 2, PATH_BEHIND + _LOOK_M)):
            out[i] = min(out[i], most)
    for i in range(out.shape[0] - 2, -1, -1):
        out[i] = min(out[i], np.sqrt(out[i + 1] ** 2 + 2.0 * _SOFT_MPS2 * PATH_STEP_M))
    return out
