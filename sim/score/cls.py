"""CLS-style score of a closed-loop episode: the formulas of nuPlan's closed-loop score.

The same whether the others replay a log (NR) or react (R); say which when reporting it.
Rules, sources and what differs here: docs/reference/metrics.md.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from sim.score import boxes
from sim.score.comfort import comfort
from sim.score.epdms import graded, windowed
from sim.score.faults import AHEAD_RAD, BEHIND_RAD, Contact, contacts
from sim.score.history import History

NAME: Final = "CLS-style (our scenarios)"

MULTIPLIERS: Final = (
    "no_at_fault_collisions",
    "drivable_area_compliance",
    "making_progress",
    "driving_direction_compliance",
)
WEIGHTS: Final = {"progress": 5.0, "ttc": 5.0, "speed_limit": 4.0, "comfort": 2.0}

_AREA_M: Final = 0.3
_TTC_STEP_S: Final = 0.1
_TTC_HORIZON_S: Final = 3.0
_TTC_LEAST_S: Final = 0.95
_STILL_MPS: Final = 0.005
_OVERSPEED_MPS: Final = 2.23
_PROGRESS_FLOOR_M: Final = 2.0
_MAKING_PROGRESS: Final = 0.2
_RINGS: Final = np.array(
    [
        [r * math.cos(k * math.pi / 8), r * math.sin(k * math.pi / 8)]
        for r in (0.1, 0.2, 0.299)
        for k in range(16)
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClsScore:
    """Sub-scores (names of MULTIPLIERS and WEIGHTS), each 0..1, and the total."""

    total: float
    parts: dict[str, float]
    min_ttc_s: float


def cls(history: History, *, reference_progress_m: float) -> ClsScore:
    """Return the CLS-style score of a whole episode.

    Args:
        history: what was driven.
        reference_progress_m: along the route, of the expert or of the reference driver.
    """
    found = contacts(history)
    s = history.along[0]
    ratio = progress_ratio(float(s[-1] - s[0]), reference_progress_m)
    ttc = time_to_collision(history, found).min()
    parts = {
        "no_at_fault_collisions": no_at_fault(found),
        "drivable_area_compliance": float(not far_off_road(history).any()),
        "making_progress": float(ratio >= _MAKING_PROGRESS),
        "driving_direction_compliance": driving_direction(history),
        "progress": ratio,
        "ttc": float(ttc > _TTC_LEAST_S),
        "speed_limit": speed_limit(history),
        "comfort": float(comfort(history).comfortable),
    }
    mean = sum(w * parts[k] for k, w in WEIGHTS.items()) / sum(WEIGHTS.values())
    product = math.prod(parts[k] for k in MULTIPLIERS)
    return ClsScore(total=product * mean, parts=parts, min_ttc_s=float(ttc))


def no_at_fault(found: tuple[Contact, ...]) -> float:
    """Return 0 after a contact at fault with a road user; one thing costs a half, two all."""
    faults = [c for c in found if c.at_fault]
    if any(not c.static for c in faults):
        return 0.0
    return max(0.0, 1.0 - len(faults) / 2)


def far_off_road(history: History) -> np.ndarray:
    """Return bool [T]: a corner of the body is 0.3 m or more outside the drivable area.

    The road answers for points only, so 48 points around the corner are asked.
    """
    out = np.zeros(len(history.t_s), np.bool_)
    t, corner = np.nonzero(~history.corner_drivable)
    if len(t):
        around = history.corners[t, corner][:, None] + _RINGS
        road = np.asarray(history.road.drivable(around.reshape(-1, 2))).reshape(len(t), -1)
        out[t[~road.any(axis=1)]] = True
    return out


def driving_direction(history: History) -> float:
    """Return 1, 0.5 or 0 by the metres driven against the flow of the lane within a second.

    Steps that change lane, or end in no lane, do not count.
    """
    h = history
    flow = np.asarray(h.road.flow_yaw(h.centre), np.float64)
    lane = np.asarray(h.road.inside_one_lane(h.centre))
    step = np.diff(h.centre, axis=0, prepend=h.centre[:1])
    same = np.concatenate([[False], (lane[1:] == lane[:-1]) & (lane[1:] >= 0)])
    same &= np.isfinite(flow)
    yaw = np.where(same, flow, 0.0)
    forward = np.where(same, step[:, 0] * np.cos(yaw) + step[:, 1] * np.sin(yaw), 0.0)
    return graded(max(0.0, -float(windowed(forward, h.dt_s, 1.0).min())))


def time_to_collision(history: History, found: tuple[Contact, ...]) -> np.ndarray:
    """Return [T]: seconds until contact if all keep speed and heading, inf beyond 3 s.

    Asked at multiples of 0.1 s; 0 at a contact at fault; actors that were hit before are out.
    Actors count as in `sim.score.epdms.ttc_violations`, by where they are now.
    """
    h = history
    out = np.full(len(h.t_s), np.inf)
    out[[c.tick for c in found if c.at_fault]] = 0.0
    if not h.there.shape[1]:
        return out
    wide = (h.off_lane | h.in_junction)[:, None]
    counts = h.there & ((h.bearing < AHEAD_RAD) | (wide & (h.bearing <= BEHIND_RAD)))
    counts &= ~np.logical_or.accumulate(h.contact, axis=0)
    counts &= (np.abs(h.column("speed_mps")) > _STILL_MPS)[:, None]
    t, a = np.nonzero(counts)
    velocity = np.where(h.static[a, None], 0.0, h.velocity[t, a]) - h.ego_velocity[t]
    enter, leave = boxes.contact_window(h.ego_box[t], h.box[t, a], velocity)
    near = enter < _TTC_HORIZON_S
    t, enter, leave = t[near], enter[near], leave[near]
    step = np.maximum(np.ceil(enter / _TTC_STEP_S - 1e-6), 1.0)
    when = step * _TTC_STEP_S
    meets = (when <= leave + 1e-6) & (when < _TTC_HORIZON_S - 1e-6)
    np.minimum.at(out, t[meets], when[meets])
    return out


def speed_limit(history: History) -> float:
    """Return 1 less the overspeed averaged over time, 2.23 m/s being a loss of all.

    Ground outside every lane and junction has no limit.
    """
    h = history
    limit = np.asarray(h.road.speed_limit_mps(h.centre), np.float64)
    known = np.isfinite(limit) & (
        (np.asarray(h.road.inside_one_lane(h.centre)) >= 0) | h.in_junction
    )
    over = np.where(
        known, np.maximum(h.column("speed_mps") - np.where(known, limit, 0.0), 0.0), 0.0
    )
    lasted = float(h.t_s[-1] - h.t_s[0])
    return max(0.0, 1.0 - float(over.sum()) * h.dt_s / (_OVERSPEED_MPS * lasted))


def progress_ratio(made_m: float, reference_m: float) -> float:
    """Return progress over the reference's, 0..1; where neither moves 2 m, 1; backwards, 0."""
    if made_m < -_PROGRESS_FLOOR_M:
        return 0.0
    return min(1.0, max(made_m, _PROGRESS_FLOOR_M) / max(reference_m, _PROGRESS_FLOOR_M))
