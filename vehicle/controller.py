"""Trajectory in, command out: the same bicycle and LQR with which proposals were rolled out."""

import math
from typing import Final

import numpy as np
from numba import njit

from vehicle.config import VehicleConfig
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.plan import Plan

GAIN_STEP_MPS: Final = 0.5
_TRACK_STEPS: Final = 10
_STEP_S: Final = 0.1
_STANDSTILL_MPS: Final = 0.2
_HOLD_MPS2: Final = -0.5
_SOFT_STOP_1PS: Final = 2.0
_FORGET_NS: Final = 500_000_000


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
def _track(states: np.ndarray, speed: float, begin_s: float, tick_s: float) -> tuple[float, ...]:
    """Return what follows `states` from `begin_s` on, when this command begins to act.

    Args:
        states: [T, 7] of the plan.
        speed: the ego will have by then.
        begin_s: into the plan.
        tick_s: how long the command will act.
    Returns:
        Acceleration that fits the next second; highest speed ahead; how much the curvature grows
        over the tick; x, y, yaw, curvature of the plan at `begin_s`.
    """
    up, down, top = 0.0, 1.0, 0.0
    for k in range(1, _TRACK_STEPS + 1):
        t = k * _STEP_S
        v = np.interp(begin_s + t, states[:, 0], states[:, 4])
        up += 10.0 * t * (v - speed)
        down += 10.0 * t * t
        top = max(top, v)
    curvature = np.interp(begin_s, states[:, 0], states[:, 6])
    grows = np.interp(begin_s + tick_s, states[:, 0], states[:, 6]) - curvature
    x = np.interp(begin_s, states[:, 0], states[:, 1])
    y = np.interp(begin_s, states[:, 0], states[:, 2])
    yaw = np.interp(begin_s, states[:, 0], states[:, 3])
    return up / down, top, grows, x, y, yaw, curvature


class Controller:
    """Asks the actuators for what the plan needs, no faster than they and passengers can bear.

    A command acts `actuator_delay_s` after the frame it answers. What was sent and has not acted
    yet is driven ahead in thought, and the plan is followed from there. Rates are limited against
    what was really sent: tell it with `sent` what the envelope made of a command.

    Source: predictor for a known dead time (Smith 1959); LQR tracking on a kinematic bicycle after
        PDM-Closed (Dauner et al., 2023).
    """

    def __init__(self, config: VehicleConfig) -> None:
        self._config = config
        self._gains = lateral_gains(config.wheelbase_m)
        self._sent: list[tuple[int, float, float]] = []
        _track(np.zeros((2, 7)), 0.0, 0.0, 0.0)

    def reset(self) -> None:
        """Forget what was sent."""
        self._sent.clear()

    def command(self, plan: Plan, ego: EgoState, frame_id: int, mono_ns: int) -> ControlCommand:
        """Return the demand that follows `plan` from here.

        Args:
            plan: trajectory in the ego frame of this instant.
            ego: measured motion.
            frame_id, mono_ns: of the frame this answers.
        """
        c, states = self._config, plan.trajectory.states
        self._sent = [s for s in self._sent if 0 < mono_ns - s[0] < _FORGET_NS]
        tick_s = (mono_ns - self._sent[-1][0]) * 1e-9 if self._sent else _STEP_S
        x, y, yaw, speed, bend = self._foresee(ego, mono_ns)
        accel, top, grows, *planned = _track(states, speed, c.actuator_delay_s, tick_s)
        if top < _STANDSTILL_MPS and abs(ego.speed_mps) < _STANDSTILL_MPS:
            accel, curvature = _HOLD_MPS2, ego.curvature_1pm  # hold the brake, leave the wheel
        else:
            if not plan.proposal.removeprefix("hold/").startswith("emergency"):
                accel = self._bearable(accel, ego, speed, tick_s)
            curvature = bend + grows + tick_s * self._feedback((x, y, yaw, bend), planned, speed)
        turn = c.max_curvature_rate_1pmps * tick_s
        curvature = min(bend + turn, max(bend - turn, curvature))
        curvature = min(c.max_curvature_1pm, max(-c.max_curvature_1pm, curvature))
        command = ControlCommand(
            frame_id=frame_id,
            mono_ns=mono_ns,
            accel_mps2=float(accel),
            curvature_1pm=float(curvature),
            hazard_lights=plan.rung == "mrm",
        )
        self._sent.append((mono_ns, command.accel_mps2, command.curvature_1pm))
        return command

    def sent(self, command: ControlCommand) -> None:
        """Take note of what really went to the actuators in answer to the last frame."""
        if self._sent and self._sent[-1][0] == command.mono_ns:
            self._sent[-1] = (command.mono_ns, command.accel_mps2, command.curvature_1pm)

    def _foresee(self, ego: EgoState, mono_ns: int) -> tuple[float, float, float, float, float]:
        """Return x, y, yaw, speed, curvature of when this command begins to act, from here."""
        delay_ns = round(self._config.actuator_delay_s * 1e9)
        x = y = yaw = 0.0
        speed, at_ns, end_ns = ego.speed_mps, mono_ns, mono_ns + delay_ns
        accel, curvature = ego.accel_mps2, ego.curvature_1pm
        for sent_ns, next_accel, next_curvature in (*self._sent, (mono_ns, 0.0, 0.0)):
            until_ns = min(max(sent_ns + delay_ns, at_ns), end_ns)
            dt = (until_ns - at_ns) * 1e-9
            way = max(0.0, speed + 0.5 * accel * dt) * dt
            x += way * math.cos(yaw + 0.5 * curvature * way)
            y += way * math.sin(yaw + 0.5 * curvature * way)
            yaw += curvature * way
            speed = speed + accel * dt if speed < 0.0 else max(0.0, speed + accel * dt)
            if sent_ns == mono_ns:
                break
            accel, curvature, at_ns = next_accel, next_curvature, until_ns
        return x, y, yaw, speed, curvature

    def _bearable(self, accel: float, ego: EgoState, speed: float, tick_s: float) -> float:
        """Return the acceleration within the jerk limit, and softer where the car comes to rest.

        From an emergency's brake it goes back to a comfortable one at once.
        """
        c = self._config
        before = self._sent[-1][1] if self._sent else ego.accel_mps2
        before = max(before, -c.comfort_brake_mps2)
        step = c.max_jerk_mps3 * tick_s
        softest = _HOLD_MPS2 - _SOFT_STOP_1PS * max(0.0, speed)
        return max(min(before + step, max(before - step, accel)), softest)

    def _feedback(self, foreseen: tuple[float, ...], planned: list[float], speed: float) -> float:
        """Return the curvature rate against the error to the plan; standing, none is steered away.

        Almost zero for a plan made from this very pose; a held plan has drifted from it.
        """
        x, y, yaw, bend = (f - p for f, p in zip(foreseen, planned, strict=True))
        row = min(int(max(speed, 0.0) / GAIN_STEP_MPS), self._gains.shape[0] - 1)
        error = -math.sin(planned[2]) * x + math.cos(planned[2]) * y
        gain = self._gains[row]
        rate = -(gain[0] * error + gain[1] * yaw + gain[2] * bend)
        return float(rate * min(1.0, 0.5 * max(0.0, speed)))
