"""The kinematic single track with a BMW 320i's limits: the car CommonRoad judges by.

Source: Althoff, Wuersching, CommonRoad: Vehicle Models (2020), section 5 and table 6, vehicle 2.
"""

import math
from dataclasses import dataclass
from typing import Final

from vehicle.config import VehicleConfig

TO_REAR_M: Final = 1.4227170936
"""From the middle of the body, which CommonRoad states name, back to the rear axle."""

STEER_RADPS: Final = 0.4
STEER_RAD: Final = 1.066
ACCEL_MPS2: Final = 11.5
"""Largest acceleration of any direction (friction circle)."""

SWITCH_MPS: Final = 7.319
"""Above this speed the engine's power bounds the acceleration."""

BMW_320I: Final = VehicleConfig(
    wheelbase_m=1.1561957064 + TO_REAR_M,
    length_m=4.508,
    width_m=1.61,
    rear_overhang_m=4.508 / 2 - TO_REAR_M,
    max_accel_mps2=5.0,
    max_brake_mps2=8.0,
    max_curvature_1pm=0.6,
)
"""The same car to our planner; it is asked for less than the 11.5 m/s2 the judge allows."""

_PARTS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class KsState:
    """Rear axle, heading, angle of the front wheels, speed."""

    x_m: float
    y_m: float
    yaw_rad: float
    steer_rad: float
    speed_mps: float

    @property
    def middle_m(self) -> tuple[float, float]:
        """Return the middle of the body."""
        return (
            self.x_m + TO_REAR_M * math.cos(self.yaw_rad),
            self.y_m + TO_REAR_M * math.sin(self.yaw_rad),
        )

    @property
    def curvature_1pm(self) -> float:
        """Return the curvature of the path of the rear axle."""
        return math.tan(self.steer_rad) / BMW_320I.wheelbase_m


def advance(state: KsState, accel_mps2: float, steer_radps: float, dt_s: float) -> KsState:
    """Return the state after `dt_s` of constant acceleration and turn of the wheels.

    Demands are cut to what the model can; braking ends at standstill. Classic Runge-Kutta.
    """
    power = ACCEL_MPS2 * min(1.0, SWITCH_MPS / max(state.speed_mps, 0.1))
    a = min(power, max(-ACCEL_MPS2, accel_mps2))
    a = max(a, -state.speed_mps / dt_s)
    low, high = (-STEER_RAD - state.steer_rad) / dt_s, (STEER_RAD - state.steer_rad) / dt_s
    rate = min(high, max(low, min(STEER_RADPS, max(-STEER_RADPS, steer_radps))))
    h = dt_s / _PARTS
    x, y, yaw = state.x_m, state.y_m, state.yaw_rad
    wheel, v = state.steer_rad, state.speed_mps

    def slope(t: float, angle: float) -> tuple[float, float, float]:
        """Return the change of x, y and yaw."""
        now = v + a * t
        turn = now / BMW_320I.wheelbase_m * math.tan(wheel + rate * t)
        return now * math.cos(angle), now * math.sin(angle), turn

    for i in range(_PARTS):
        t = i * h
        k1 = slope(t, yaw)
        k2 = slope(t + h / 2, yaw + h / 2 * k1[2])
        k3 = slope(t + h / 2, yaw + h / 2 * k2[2])
        k4 = slope(t + h, yaw + h * k3[2])
        x += h / 6 * (k1[0] + 2 * k2[0] + 2 * k3[0] + k4[0])
        y += h / 6 * (k1[1] + 2 * k2[1] + 2 * k3[1] + k4[1])
        yaw += h / 6 * (k1[2] + 2 * k2[2] + 2 * k3[2] + k4[2])
    return KsState(
        x_m=x, y_m=y, yaw_rad=yaw, steer_rad=wheel + rate * dt_s, speed_mps=max(0.0, v + a * dt_s)
    )
