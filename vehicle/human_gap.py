"""What the car would have done against what the driver did: plans, and where the road led."""

import math
from collections import deque
from typing import Final

import numpy as np

from vehicle.contracts.ego import EgoState
from vehicle.contracts.plan import Plan

AGE_NS: Final = 1_500_000_000
"""A plan is judged by where the driver is this long after it."""

TOO_OLD_NS: Final = 2_000_000_000


class HumanGap:
    """Keeps the plans of the last seconds while a human drives, none of which was followed."""

    def __init__(self) -> None:
        self._plans: deque[tuple[int, EgoState, np.ndarray]] = deque()

    def of(self, ego: EgoState, plan: Plan, now_ns: int) -> float:
        """Return metres from where the plan of AGE_NS before led to where the driver went.

        NaN until there is a plan so old; one older than TOO_OLD_NS is no answer. Both points are
        of the rear axle, in the local frame, at this instant.

        Args:
            ego: where the driver is now.
            plan: made on this tick, from here; judged later.
            now_ns: of this tick.
        """
        plans = self._plans
        plans.append((now_ns, ego, plan.trajectory.states))
        while len(plans) > 1 and now_ns - plans[1][0] >= AGE_NS:
            plans.popleft()
        then_ns, there, states = plans[0]
        age_ns = now_ns - then_ns
        if not AGE_NS <= age_ns <= TOO_OLD_NS:
            if age_ns > TOO_OLD_NS:
                plans.popleft()
            return math.nan
        t_s = age_ns * 1e-9
        if t_s > states[-1, 0]:
            return math.nan
        x = float(np.interp(t_s, states[:, 0], states[:, 1]))
        y = float(np.interp(t_s, states[:, 0], states[:, 2]))
        cos, sin = math.cos(there.yaw_rad), math.sin(there.yaw_rad)
        return math.hypot(
            there.x_m + cos * x - sin * y - ego.x_m, there.y_m + sin * x + cos * y - ego.y_m
        )
