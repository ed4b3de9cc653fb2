"""What the car intends: one trajectory and why it was chosen."""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from vehicle.contracts import wire
from vehicle.contracts.wire import require

STATE_COLUMNS: Final = (
    "t_s",
    "x_m",
    "y_m",
    "yaw_rad",
    "speed_mps",
    "accel_mps2",
    "curvature_1pm",
)
"""Columns of a trajectory's states."""

Rung = Literal["full", "fewer_cameras", "coast", "hold_plan", "mrm"]
"""The degrade ladder, best first (house.md section 4)."""

RUNGS: Final[tuple[Rung, ...]] = ("full", "fewer_cameras", "coast", "hold_plan", "mrm")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trajectory:
    """States [T, 7] float64 (STATE_COLUMNS) in the ego frame of the frame it was planned from."""

    states: np.ndarray

    def __post_init__(self) -> None:
        shape = self.states.shape
        require(
            len(shape) == 2 and shape[0] >= 2 and shape[1] == len(STATE_COLUMNS),
            f"Trajectory.states has shape {shape}, expected [T>=2, {len(STATE_COLUMNS)}]",
        )
        require(bool(np.isfinite(self.states).all()), "Trajectory.states is not finite")
        require(bool((np.diff(self.states[:, 0]) > 0).all()), "Trajectory times do not increase")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """The chosen trajectory.

    Args:
        frame_id: the frame it was planned from.
        rung: where on the degrade ladder the tick stood.
        proposal: which proposal won, e.g. "lateral+1.0/speed80"; "mrm/in-lane-stop" for an MRM.
        scores: the winner's sub-scores by name, 0..1.
    """

    SCHEMA: ClassVar[str] = "plan/1"
    frame_id: int
    mono_ns: int
    trajectory: Trajectory
    rung: Rung
    proposal: str
    scores: dict[str, float]

    def digest(self) -> str:
        """Return the sha256 over the numbers and words of the plan, the same on every run."""
        states = np.ascontiguousarray(self.trajectory.states, dtype="<f8").tobytes()
        words = wire.canonical(
            [self.frame_id, self.rung, self.proposal, {k: float(v) for k, v in self.scores.items()}]
        )
        return wire.digest(states + words)
