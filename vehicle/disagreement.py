"""How far two networks disagree about one frame: 0 not at all, 1 in everything."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import Occupancy, Scene

MATCH_M: Final = 2.0
"""Two boxes farther apart are two road users (the distance at which detections are scored)."""

NEAR_M: Final = 40.0
"""Road users beyond are left out: there two good networks differ in what they see at all."""

PLAN_S: Final = 3.0
PLAN_M: Final = 2.0
"""Plans that lie half a lane and more apart over three seconds disagree in everything."""

UNSEEN_TICKS: Final = 3
"""Tracks nobody has seen for so long are a tracker's guess, not a network's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One frame's disagreement by part, each 0..1; None where one side has no such answer."""

    boxes: float | None
    drivable: float | None
    plan: float | None

    @property
    def score(self) -> float:
        """Return the mean of the parts there are, NaN without any."""
        parts = [p for p in (self.boxes, self.drivable, self.plan) if p is not None]
        return sum(parts) / len(parts) if parts else float("nan")


def disagreement(
    ours: Scene | None, theirs: Scene | None, our_plan: Plan | None, their_plan: Plan | None
) -> Disagreement:
    """Compare what drives with what is on trial, on the same frame.

    Args:
        ours, theirs: scenes of the driving and of the candidate network; without two fresh ones
            there is nothing to compare: a car that coasts plans otherwise for that alone.
        our_plan, their_plan: what either would do.
    """
    boxes = drivable = plan = None
    fresh = ours is not None and theirs is not None and ours.fresh and theirs.fresh
    if fresh and ours is not None and theirs is not None:
        boxes = box_distance(ours.tracks, theirs.tracks)
        drivable = drivable_distance(ours.occupancy, theirs.occupancy)
    if fresh and our_plan is not None and their_plan is not None:
        plan = plan_distance(our_plan, their_plan)
    return Disagreement(boxes=boxes, drivable=drivable, plan=plan)


def box_distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return how far two sets of road users are apart, 0..1; 0 where both see nobody.

    Each pair of the same kind within MATCH_M counts its distance, everybody without a partner
    counts fully. Pairs are made nearest first, which is not always the optimal assignment.

    Args:
        ours, theirs: TRACK arrays, ego frame.
    Source: generalised OSPA with p = 1, alpha = 2 and c = MATCH_M, divided by its largest value:
        Rahmathullah, Garcia-Fernandez, Svensson, "Generalized Optimal Sub-Pattern Assignment
        Metric" (2017), eq. 1.
    """
    a, b = _near(ours), _near(theirs)
    total = len(a) + len(b)
    if total == 0:
        return 0.0
    if not len(a) or not len(b):
        return 1.0
    apart = np.hypot(
        a["x_m"][:, None] - b["x_m"][None, :], a["y_m"][:, None] - b["y_m"][None, :]
    ).astype(np.float64)
    apart[a["kind"][:, None] != b["kind"][None, :]] = np.inf
    matched, cost = 0, 0.0
    for flat in np.argsort(apart, axis=None, kind="stable"):
        i, j = divmod(int(flat), len(b))
        if apart[i, j] < MATCH_M:
            matched, cost = matched + 1, cost + apart[i, j] / MATCH_M
            apart[i, :] = apart[:, j] = np.inf
    return float((2.0 * cost + total - 2 * matched) / total)


def drivable_distance(ours: Occupancy | None, theirs: Occupancy | None) -> float | None:
    """Return 1 - the IoU of drivable space, probabilities as they are; None on other grids.

    Source: weighted Jaccard distance, 1 - sum(min) / sum(max).
    """
    if ours is None or theirs is None or ours.grid != theirs.grid:
        return None
    either = int(np.maximum(ours.drivable, theirs.drivable).sum(dtype=np.int64))
    both = int(np.minimum(ours.drivable, theirs.drivable).sum(dtype=np.int64))
    return 1.0 - both / either if either else 0.0


def plan_distance(ours: Plan, theirs: Plan) -> float:
    """Return the mean distance of two trajectories over PLAN_S in parts of PLAN_M, at most 1.

    Source: average displacement error; own work in the bounds.
    """
    a, b = ours.trajectory.states, theirs.trajectory.states
    until_s = min(PLAN_S, float(a[-1, 0]), float(b[-1, 0]))
    t_s = np.linspace(0.0, until_s, 31)[1:]
    dx, dy = (np.interp(t_s, a[:, 0], a[:, c]) - np.interp(t_s, b[:, 0], b[:, c]) for c in (1, 2))
    return min(1.0, float(np.hypot(dx, dy).mean()) / PLAN_M)


def _near(tracks: np.ndarray) -> np.ndarray:
    seen = tracks["coasted_ticks"] < UNSEEN_TICKS
    return tracks[seen & (np.hypot(tracks["x_m"], tracks["y_m"]) <= NEAR_M)]
