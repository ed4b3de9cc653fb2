"""How the ego moves: a kinematic bicycle about the rear axle, with actuators that take time."""

import math
from dataclasses import dataclass, replace

from vehicle.config import VehicleConfig
from vehicle.contracts.ego import EgoState

STEER_RATE_1PMPS = 0.4
"""Fastest change of path curvature, 1/m per second."""
ACTUATOR_JERK_MPS3 = 40.0
"""Fastest change of acceleration the drive train and brakes do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """Pose of the rear axle in town, speed, what the actuators do."""

    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float = 0.0
    accel_mps2: float = 0.0
    curvature_1pm: float = 0.0

    def ego_state(self, mono_ns: int, origin_m: tuple[float, float]) -> EgoState:
        """Return what the car is told of it, in the local frame that begins at `origin_m`."""
        return EgoState(
            mono_ns=mono_ns,
            x_m=self.x_m - origin_m[0],
            y_m=self.y_m - origin_m[1],
            yaw_rad=self.yaw_rad,
            speed_mps=self.speed_mps,
            accel_mps2=self.accel_mps2,
            yaw_rate_radps=self.speed_mps * self.curvature_1pm,
            curvature_1pm=self.curvature_1pm,
        )


def advance(
    motion: Motion, accel_mps2: float, curvature_1pm: float, dt_s: float, config: VehicleConfig
) -> Motion:
    """Return the motion after `dt_s` under a demand, within the limits of the actuators.

    The car never rolls backwards: braking ends at standstill.

    Args:
        accel_mps2: demand, cut to -max_brake..max_accel and to the actuator's rate.
        curvature_1pm: demand, cut to the tightest turn and to the steering rate.
        dt_s: at most 0.2.
    Source: kinematic bicycle with the rear axle as reference (Rajamani, Vehicle Dynamics and
        Control (2012), section 2.2), exact along an arc of constant curvature.
    """
    wish_a = min(max(accel_mps2, -config.max_brake_mps2), config.max_accel_mps2)
    wish_k = min(max(curvature_1pm, -config.max_curvature_1pm), config.max_curvature_1pm)
    a = _towards(motion.accel_mps2, wish_a, ACTUATOR_JERK_MPS3 * dt_s)
    k = _towards(motion.curvature_1pm, wish_k, STEER_RATE_1PMPS * dt_s)
    speed = max(0.0, motion.speed_mps + a * dt_s)
    if speed == 0.0 and a < 0.0:
        a = 0.0 if motion.speed_mps == 0.0 else -motion.speed_mps / dt_s
    way = 0.5 * (motion.speed_mps + speed) * dt_s
    turn = k * way
    if abs(turn) < 1e-6:
        dx, dy = way, 0.5 * turn * way
    else:
        dx, dy = math.sin(turn) / k, (1.0 - math.cos(turn)) / k
    c, s = math.cos(motion.yaw_rad), math.sin(motion.yaw_rad)
    return replace(
        motion,
        x_m=motion.x_m + c * dx - s * dy,
        y_m=motion.y_m + s * dx + c * dy,
        yaw_rad=motion.yaw_rad + turn,
        speed_mps=speed,
        accel_mps2=a,
        curvature_1pm=k,
    )


def _towards(now: float, wish: float, most: float) -> float:
    return now + min(max(wish - now, -most), most)
