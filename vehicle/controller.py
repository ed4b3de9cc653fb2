"""Trajectory in, command out: the same bicycle and LQR with which proposals were rolled out."""

import math
from typing import Final

import numpy as np
from numba import njit

from vehicle.config import VehicleConfig
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.plan import Plan

GAIN_STEP_MPS: Final = 0.5
_LOOK_S: Final = 0.2
_TRACK_STEPS: Final = 10
_STEP_S: Final = 0.1
_STANDSTILL_MPS: Final = 0.2


@njit(cache=True)
def lateral_gains(wheelbase_m: float) -> np.ndarray:
    """Return LQR gains by speed, rows of GAIN_STEP_MPS from standstill to 60 m/s.

    State: lateral error, heading error, curvature error; input: curvature rate. The input's weight
    grows with the fourth power of speed, which keeps the bandwidth near 2 rad/s at any speed.

    Returns:
        [121, 3] float64: curvature rate = -gain @ state.
    Source: discrete Riccati recursion; weights q = 1, 10, 0 after PDM-Closed (Dauner et al., 2023).
    """
    gains = np.zeros((121, 3))
    dt = _STEP_S
    for n in range(121):
        v = max(n * GAIN_STEP_MPS, 0.5)
        a = np.array([[1.0, v * dt, 0.5 * v * v * dt * dt], [0.0, 1.0, v * dt], [0.0, 0.0, 1.0]])
        b = np.array([v * v * dt**3 / 6.0, 0.5 * v * dt * dt, dt])
        r = wheelbase_m * wheelbase_m * max(1.0, 25.0 * (v / 10.0) ** 4)
        p = np.diag(np.array([1.0, 10.0, 0.0]))
        k = np.zeros(3)
        for _ in range(80):  # written out: products of this size need no BLAS
            pb = np.zeros(3)
            for i in range(3):
                for j in range(3):
                    pb[i] += p[i, j] * b[j]
            den = r + b[0] * pb[0] + b[1] * pb[1] + b[2] * pb[2]
            pa = np.zeros((3, 3))
            closed = np.zeros((3, 3))
            for i in range(3):
                k[i] = (pb[0] * a[0, i] + pb[1] * a[1, i] + pb[2] * a[2, i]) / den
            for i in range(3):
                for j in range(3):
                    closed[i, j] = a[i, j] - b[i] * k[j]
            for i in range(3):
                for j in range(3):
                    for m in range(3):
                        pa[i, j] += p[i, m] * closed[m, j]
            p = np.diag(np.array([1.0, 10.0, 0.0]))
            for i in range(3):
                for j in range(3):
                    for m in range(3):
                        p[i, j] += a[m, i] * pa[m, j]
        gains[n] = k
    return gains


@njit(cache=True)
def _track(states: np.ndarray, speed: float, accel: float) -> tuple[float, float, float]:
    """Return acceleration and curvature that follow `states`, and the highest speed ahead."""
    up, down, top = 0.0, 1.0, 0.0
    for k in range(1, _TRACK_STEPS + 1):
        t = k * _STEP_S
        v = np.interp(t, states[:, 0], states[:, 4])
        up += 10.0 * t * (v - speed)
        down += 10.0 * t * t
        top = max(top, v)
    curvature = np.interp(_LOOK_S, states[:, 0], states[:, 6])
    return up / down, curvature, top


class Controller:
    """Asks the actuators for what the plan needs, no faster than the jerk limit allows."""

    def __init__(self, config: VehicleConfig) -> None:
        self._config = config
        self._gains = lateral_gains(config.wheelbase_m)
        self._last: tuple[int, float] | None = None
        _track(np.zeros((2, 7)), 0.0, 0.0)

    def reset(self) -> None:
        """Forget the last command."""
        self._last = None

    def command(self, plan: Plan, ego: EgoState, frame_id: int, mono_ns: int) -> ControlCommand:
        """Return the demand that follows `plan` from here.

        Args:
            plan: trajectory in the ego frame of this instant.
            ego: measured motion.
            frame_id, mono_ns: of the frame this answers.
        """
        states = plan.trajectory.states
        accel, curvature, top = _track(states, ego.speed_mps, ego.accel_mps2)
        if top < _STANDSTILL_MPS and abs(ego.speed_mps) < _STANDSTILL_MPS:
            accel = -0.5  # hold the brake
        elif not plan.proposal.startswith("emergency"):
            accel = self._limit_jerk(accel, ego, mono_ns)
        self._last = (mono_ns, accel)
        curvature += self._feedback(states[0], ego) * _LOOK_S
        limit = self._config.max_curvature_1pm
        return ControlCommand(
            frame_id=frame_id,
            mono_ns=mono_ns,
            accel_mps2=float(accel),
            curvature_1pm=float(min(limit, max(-limit, curvature))),
            hazard_lights=plan.rung == "mrm",
        )

    def _limit_jerk(self, accel: float, ego: EgoState, mono_ns: int) -> float:
        before, dt = ego.accel_mps2, _STEP_S
        if self._last is not None and 0 < mono_ns - self._last[0] < 500_000_000:
            dt = (mono_ns - self._last[0]) * 1e-9
            before = self._last[1]
        step = self._config.max_jerk_mps3 * dt
        return min(before + step, max(before - step, accel))

    def _feedback(self, first: np.ndarray, ego: EgoState) -> float:
        """Return the curvature rate against the error to the plan's first state.

        Zero for a plan made from this very pose; a held plan has drifted from it.
        """
        row = min(int(max(ego.speed_mps, 0.0) / GAIN_STEP_MPS), self._gains.shape[0] - 1)
        c, s = math.cos(first[3]), math.sin(first[3])
        error = s * first[1] - c * first[2]
        gain = self._gains[row]
        return float(-(gain[0] * error + gain[1] * -first[3]))
