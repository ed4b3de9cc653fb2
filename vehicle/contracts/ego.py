"""The vehicle's own motion, who drives it, where navigation leads, what actuators are asked for."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from vehicle.contracts.goal import Goal
from vehicle.contracts.wire import require, require_finite


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoState:
    """Motion of the ego frame (ISO 8855, under the rear axle) in the local frame (east-north-up).

    Args:
        mono_ns: time of validity, the route's monotonic clock.
        x_m, y_m, yaw_rad: pose in the local frame; yaw counter-clockwise from east.
        speed_mps: along ego x, negative in reverse.
        accel_mps2: longitudinal.
        yaw_rate_radps, curvature_1pm: positive to the left.
        latitude_deg, longitude_deg: WGS84 where known, for people and maps; None otherwise.
    """

    SCHEMA: ClassVar[str] = "ego/1"
    mono_ns: int
    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    accel_mps2: float = 0.0
    yaw_rate_radps: float = 0.0
    curvature_1pm: float = 0.0
    latitude_deg: float | None = None
    longitude_deg: float | None = None

    def __post_init__(self) -> None:
        require_finite(
            "EgoState",
            x_m=self.x_m,
            y_m=self.y_m,
            yaw_rad=self.yaw_rad,
            speed_mps=self.speed_mps,
            accel_mps2=self.accel_mps2,
            yaw_rate_radps=self.yaw_rate_radps,
            curvature_1pm=self.curvature_1pm,
        )
        require(abs(self.speed_mps) < 150.0, f"EgoState.speed_mps is {self.speed_mps}, over 150")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guidance:
    """Where navigation leads: the lane centre to follow.

    Args:
        centreline_m: [P, 2] float64, ego frame, P >= 2, ordered ahead, spacing about 1 m;
            may begin behind the ego.
        speed_limit_mps: of the lane.
        lane_width_m: of the lane.
        source: "map" (simulator or HD map) or "log" (the path the recorded driver took).
        stop_m: along the centreline, from the rear axle to the next stop line that a traffic light
            rules; None where there is none ahead. What the light shows is in the scene.
        yield_m: the same, to the line before which others may have the right of way.
        left_lane_m, right_lane_m: how far along the centreline a lane of the same direction goes
            on at that side; 0 where there is none.
        goal: where and when to arrive, where navigation asks for that; None: just go on.
    """

    centreline_m: np.ndarray
    speed_limit_mps: float
    lane_width_m: float = 3.5
    source: Literal["map", "log"] = "map"
    stop_m: float | None = None
    yield_m: float | None = None
    left_lane_m: float = 0.0
    right_lane_m: float = 0.0
    goal: Goal | None = None

    def __post_init__(self) -> None:
        shape = self.centreline_m.shape
        require(
            len(shape) == 2 and shape[0] >= 2 and shape[1] == 2,
            f"Guidance.centreline_m has shape {shape}, expected [P>=2, 2]",
        )
        require(bool(np.isfinite(self.centreline_m).all()), "Guidance.centreline_m is not finite")
        require(self.speed_limit_mps > 0, "Guidance.speed_limit_mps must be positive")
        require_finite(
            "Guidance",
            stop_m=self.stop_m or 0.0,
            yield_m=self.yield_m or 0.0,
            left_lane_m=self.left_lane_m,
            right_lane_m=self.right_lane_m,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverInput:
    """What the person on board did by the time of this frame.

    Args:
        engaged: the car drives; False while a human does.
        bookmark: somebody asked to keep what is happening, since the frame before.
    """

    SCHEMA: ClassVar[str] = "driver/1"
    engaged: bool
    bookmark: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlCommand:
    """What the actuators are asked for in one tick.

    Args:
        frame_id: the frame this answers.
        accel_mps2: longitudinal demand, negative brakes.
        curvature_1pm: path curvature demand, positive to the left.
        hazard_lights: on from the start of a minimal risk manoeuvre.
        limited_by: the safety rules that made the demand more careful, in order.
    """

    SCHEMA: ClassVar[str] = "command/1"
    frame_id: int
    mono_ns: int
    accel_mps2: float
    curvature_1pm: float
    hazard_lights: bool = False
    limited_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_finite(
            "ControlCommand", accel_mps2=self.accel_mps2, curvature_1pm=self.curvature_1pm
        )
