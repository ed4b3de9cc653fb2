"""When and where to go round what stands or crawls in the lane: inside it, or over the next one."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle.candidates import passes
from vehicle.contracts.ego import EgoState, Guidance

_SLOW_MPS: Final = 1.0
_CRAWL_RATIO: Final = 0.45
_PATIENCE_S: Final = 2.5
_AHEAD_M: Final = 35.0
_LANE_M: Final = 40.0
"""A lane beside that ends sooner is not changed to."""
_BACK_M: Final = 40.0
_GAP_M: Final = 3.0
_CLOSES_S: Final = 3.0
_OVER_M: Final = 0.3
"""A body may lean this far over the left edge of its lane, as drivers do past parked cars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Where a tick may lead: offsets inside the lane, and of lanes beside it; how much room."""

    aside_m: tuple[float, ...] = ()
    lanes_m: tuple[float, ...] = ()
    left_m: float
    right_m: float


class Passing:
    """Remembers how long somebody slow has been in the way: lanes are changed with patience."""

    def __init__(self, width_m: float, rear_m: float) -> None:
        self._width, self._rear = width_m, rear_m
        self._since_ns: int | None = None
        self._over = 0.0

    def ways(
        self, along: np.ndarray, ego: EgoState, guidance: Guidance | None, lane_m: float
    ) -> Ways:
        """Return where proposals may lead.

        Args:
            along: [N, 5] now: s, offset, half length, half width, speed along the path.
            ego: measured motion.
            guidance: lanes beside; None: there are none.
            lane_m: width of the lane.
        """
        half = 0.5 * lane_m
        left, right = half + _OVER_M, half + 0.05
        slow = np.abs(along[:, 4]) < _SLOW_MPS
        aside = passes(
            along, slow, left - 0.5 * self._width - 0.05, right - 0.5 * self._width - 0.1,
            self._width,
        )  # fmt: skip
        if guidance is None:
            return Ways(aside_m=aside, left_m=left, right_m=right)
        lanes = self._lanes(along, ego, guidance, lane_m)
        for side in lanes:
            if side > 0.0:
                left += lane_m
            else:
                right += lane_m
        return Ways(aside_m=aside, lanes_m=lanes, left_m=left, right_m=right)

    def _lanes(
        self, along: np.ndarray, ego: EgoState, guidance: Guidance, lane_m: float
    ) -> tuple[float, ...]:
        near = (np.abs(along[:, 1]) - along[:, 3] < 0.5 * self._width) & (along[:, 0] > -2.0)
        near &= along[:, 0] - along[:, 2] < _AHEAD_M
        crawls = near & (along[:, 4] < _CRAWL_RATIO * guidance.speed_limit_mps)
        if not crawls.any():
            self._since_ns = None
        elif self._since_ns is None:
            self._since_ns = ego.mono_ns
        waited = self._since_ns is not None and ego.mono_ns - self._since_ns >= _PATIENCE_S * 1e9
        if not waited:
            return ()
        out = []
        for side, goes_on in ((lane_m, guidance.left_lane_m), (-lane_m, guidance.right_lane_m)):
            if goes_on > _LANE_M and self._free(along, ego.speed_mps, side):
                out.append(side)
        return tuple(out)

    def _free(self, along: np.ndarray, speed_mps: float, side_m: float) -> bool:
        """Return whether nobody is beside, or comes from behind too fast, in the lane there."""
        inside = np.abs(along[:, 1] - side_m) < along[:, 3] + 0.5 * self._width + 0.4
        behind = -(along[:, 0] + along[:, 2]) - self._rear
        close = inside & (along[:, 0] < _GAP_M + along[:, 2] + 4.0) & (behind < _BACK_M)
        need = _GAP_M + _CLOSES_S * np.maximum(along[:, 4] - speed_mps, 0.0)
        return not bool((close & (behind < need)).any())
