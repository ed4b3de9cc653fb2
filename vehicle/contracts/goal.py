"""Where and when navigation wants the ego to arrive, where that matters more than to follow."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vehicle.contracts.wire import require, require_finite


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Goal:
    """A region of states that the middle of the ego's body should come to; ego frame, from now.

    It is reached at a time inside the window at which speed and yaw are inside theirs and the
    middle of the body lies in one of the regions.

    Args:
        regions_m: polygons float64 [P >= 3, 2]; none: anywhere.
        from_s, to_s: time from the frame it is given with; negative once past.
        speed_mps: (least, most); None: any.
        yaw_rad: (least, most) to the left of the ego's present heading, at most a turn apart;
            None: any.
    Source: the terms of a planning problem of Althoff, Koschi, Manzinger, CommonRoad (2017).
    """

    SCHEMA: ClassVar[str] = "goal/1"
    regions_m: tuple[np.ndarray, ...] = ()
    from_s: float
    to_s: float
    speed_mps: tuple[float, float] | None = None
    yaw_rad: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for i, region in enumerate(self.regions_m):
            where = f"Goal.regions_m[{i}]"
            require(
                region.ndim == 2 and region.shape[0] >= 3 and region.shape[1] == 2,
                f"{where} has shape {region.shape}, expected [P>=3, 2]",
            )
            require(bool(np.isfinite(region).all()), f"{where} is not finite")
        require_finite("Goal", from_s=self.from_s, to_s=self.to_s)
        require(
            self.from_s <= self.to_s,
            f"Goal.from_s is {self.from_s}, expected at most to_s, {self.to_s}",
        )
        for name in ("speed_mps", "yaw_rad"):
            span = getattr(self, name)
            if span is None:
                continue
            require(len(span) == 2, f"Goal.{name} is {span}, expected (least, most)")
            require_finite(f"Goal.{name}", least=span[0], most=span[1])
            require(span[0] <= span[1], f"Goal.{name} is {span}, expected (least, most)")
        if self.yaw_rad is not None:
            turn = self.yaw_rad[1] - self.yaw_rad[0]
            require(turn <= 2.0 * math.pi + 1e-9, f"Goal.yaw_rad spans {turn} rad, over a turn")
