"""What is believed over several frames: the light that rules the way, and the ego's own motion."""

import math
from typing import Final

import numpy as np

from vehicle.contracts.ego import EgoState
from vehicle.contracts.scene import SIGNAL_STATES, Signal
from vehicle.memory import GAP_S

LIGHT_TAU_S: Final = 0.15
"""A light is believed after about this long: one frame of another colour is no change."""

LEAVE_TAU_S: Final = 0.6
"""A light to stop for is given up this much more slowly. Stopping is the safer side: a red light
taken for green 20 m away is found again at 7 m, where only hard brakes help. A sure green light is
believed 0.4 s later, one that looks half red after seconds."""

MOTION_TAU_S: Final = 1.0
SPEED_MPS, SPEED_RATIO = 2.0, 0.25
YAW_RATE_RADPS, YAW_RATIO = 0.12, 0.8
"""Pictures and odometry disagree when they differ by more than this, on average over a second: the
absolute value or the share of what odometry says, the larger of both. The share of a turn is high
since the network shows about half of it: a turn that the pictures do not see at all is told."""

_RED, _YELLOW = SIGNAL_STATES.index("red"), SIGNAL_STATES.index("yellow")
_STOPS: Final = 0.5


class LightWatch:
    """Smooths what the network says of the traffic light ahead, and is slow to leave a red one."""

    def __init__(self) -> None:
        self._prob: np.ndarray | None = None
        self._stop_prob, self._colour = 0.0, _RED
        self._mono_ns = 0

    def see(self, light: np.ndarray, mono_ns: int) -> Signal:
        """Return the light as believed now.

        Args:
            light: float32 [5]: probability of each of SIGNAL_STATES, metres to the stop line.
            mono_ns: time of the frame on the route's clock.
        """
        prob = light[:4].astype(np.float64)
        stop_prob = float(prob[_RED] + prob[_YELLOW])
        passed_s = (mono_ns - self._mono_ns) * 1e-9
        self._mono_ns = mono_ns
        if self._prob is None or not 0.0 <= passed_s <= GAP_S:
            self._prob, self._stop_prob, self._colour = prob, stop_prob, _RED
        else:
            tau_s = LIGHT_TAU_S if stop_prob > self._stop_prob else LEAVE_TAU_S
            self._stop_prob += _share(passed_s, tau_s) * (stop_prob - self._stop_prob)
            self._prob = self._prob + _share(passed_s, LIGHT_TAU_S) * (prob - self._prob)
        best = int(np.argmax(self._prob))
        if best in (_RED, _YELLOW):
            self._colour = best
        stops = self._stop_prob >= _STOPS
        believed = self._stop_prob if stops else float(self._prob[best])
        return Signal(
            state=SIGNAL_STATES[self._colour if stops else best],
            prob=min(max(believed, 0.0), 1.0),
            distance_m=math.nan if best == 0 else float(light[4]),
        )


def _share(passed_s: float, tau_s: float) -> float:
    """Return how much of a new look is taken in."""
    return 1.0 - math.exp(-passed_s / tau_s)


class MotionWatch:
    """Compares the ego's motion as the pictures show it with what odometry says."""

    def __init__(self) -> None:
        self._off = np.zeros(3)
        self._weight = 0.0
        self._mono_ns: int | None = None

    def doubt(self, shown: np.ndarray, ego: EgoState | None, mono_ns: int) -> str:
        """Return what is doubtful about odometry in a few words, "" when it agrees.

        Args:
            shown: float32 [2]: speed_mps, yaw_rate_radps.
            ego: odometry of this frame.
            mono_ns: time of the frame on the route's clock.
        """
        passed_s = math.inf if self._mono_ns is None else (mono_ns - self._mono_ns) * 1e-9
        self._mono_ns = mono_ns
        if ego is None or not 0.0 <= passed_s <= GAP_S:
            self._off[:], self._weight, passed_s = 0.0, 0.0, 0.0
        if ego is None:
            return ""
        turn = ego.yaw_rate_radps
        off = np.array([float(shown[0]) - ego.speed_mps, float(shown[1]) - turn, abs(turn)])
        share = _share(passed_s, MOTION_TAU_S)
        self._off += share * (off - self._off)
        self._weight += share * (1.0 - self._weight)
        if self._weight < 0.5:  # too short a look
            return ""
        speed, yaw_rate, turned = self._off / self._weight
        if abs(speed) > max(SPEED_MPS, SPEED_RATIO * abs(ego.speed_mps)):
            return f"pictures show {speed:+.1f} m/s beside odometry"
        if abs(yaw_rate) > max(YAW_RATE_RADPS, YAW_RATIO * turned):
            return f"pictures show {yaw_rate:+.2f} rad/s beside odometry"
        return ""
