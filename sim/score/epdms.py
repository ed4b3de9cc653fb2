"""EPDMS-style score of a closed-loop episode: the formulas of NAVSIM v2 on our own scenarios.

Never to be compared with the public leaderboard: that one scores 4 s open-loop plans on recorded
data. Rules, sources and what differs here: docs/reference/metrics.md.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from sim.score import boxes
from sim.score.comfort import comfort
from sim.score.faults import AHEAD_RAD, BEHIND_RAD, Contact, contacts
from sim.score.history import History, bearing_from

NAME: Final = "EPDMS-style (our scenarios)"

MULTIPLIERS: Final = ("NC", "DAC", "DDC", "TLC")
WEIGHTS: Final = {"EP": 5.0, "TTC": 5.0, "LK": 2.0, "HC": 2.0, "EC": 2.0}

_HORIZON_S: Final = 4.0
_LOOK_S: Final = (0.0, 0.3, 0.6, 0.9)
_STILL_MPS: Final = 0.005
_WRONG_WAY_S: Final = 1.0
_WRONG_WAY_M: Final = (2.0, 6.0)
_LANE_M: Final = 0.5
_LANE_S: Final = 2.0
_NO_PROGRESS_M: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpdmsScore:
    """Sub-scores by their field names, each 0..1, and the total.

    Args:
        total: product of MULTIPLIERS times the mean of the rest by WEIGHTS.
        parts: NC, DAC, DDC, TLC, EP, TTC, LK, HC, EC. EC is NaN for a driver without plans; the
            total then leaves its weight out.
        forgiven: sub-scores that are 1 only because the human's own was 0.
        progress_m: along the route.
    """

    total: float
    parts: dict[str, float]
    forgiven: tuple[str, ...]
    progress_m: float


def epdms(
    history: History,
    *,
    plan_comfort: float = math.nan,
    reference_progress_m: float,
    human: dict[str, float] | None = None,
) -> EpdmsScore:
    """Return the EPDMS-style score of a whole episode.

    Args:
        history: what was driven.
        plan_comfort: `sim.score.comfort.extended_comfort` of the car's plans, NaN without plans.
        reference_progress_m: what the reference driver (PDM-style on truth, or the expert) made
            from the same start, times its own multipliers.
        human: the expert's own sub-scores; where one is 0 ours becomes 1 (not EC).
    """
    parts = rules(history)
    product = math.prod(parts[k] for k in MULTIPLIERS)
    made = progress_m(history)
    parts["EP"] = progress_score(made, product, reference_progress_m)
    parts["EC"] = plan_comfort
    forgiven = tuple(k for k, v in (human or {}).items() if v == 0.0 and k != "EC" and k in parts)
    forgiven = tuple(k for k in forgiven if parts[k] < 1.0)
    parts.update(dict.fromkeys(forgiven, 1.0))
    return EpdmsScore(total=total(parts), parts=parts, forgiven=forgiven, progress_m=made)


def total(parts: dict[str, float]) -> float:
    """Return the weighted and multiplied sum; a NaN sub-score leaves its weight out."""
    known = {k: w for k, w in WEIGHTS.items() if not math.isnan(parts[k])}
    mean = sum(w * parts[k] for k, w in known.items()) / sum(known.values())
    return math.prod(parts[k] for k in MULTIPLIERS) * mean


def rules(history: History) -> dict[str, float]:
    """Return every sub-score that needs neither a reference nor plans."""
    return {
        "NC": no_collision(contacts(history)),
        "DAC": float(history.corner_drivable.all()),
        "DDC": driving_direction(history),
        "TLC": float(not ran_red_light(history).any()),
        "TTC": float(not ttc_violations(history)),
        "LK": lane_keeping(history),
        "HC": float(comfort(history).comfortable),
    }


def no_collision(found: tuple[Contact, ...]) -> float:
    """Return NC: 0 after a contact at fault with a road user, 0.5 with things only, else 1."""
    faults = [c for c in found if c.at_fault]
    return min((0.5 if c.static else 0.0 for c in faults), default=1.0)


def driving_direction(history: History) -> float:
    """Return DDC: path off every lane of the route, outside junctions, within about a second.

    A window holds as many steps as fit into one second and one more, as in the field's code.
    """
    step = np.hypot(*np.diff(history.centre, axis=0, prepend=history.centre[:1]).T)
    on_route = np.asarray(history.road.on_route_lane(history.centre), np.bool_)
    step = np.where(on_route | history.in_junction, 0.0, step)
    return graded(windowed(step, history.dt_s, _WRONG_WAY_S).max())


def windowed(values: np.ndarray, dt_s: float, seconds: float) -> np.ndarray:
    """Return the sum over the last `seconds`, both ends included."""
    n = int(seconds / dt_s + 1e-6) + 1
    sums = np.concatenate([np.zeros(n), np.cumsum(values)])
    return np.asarray(sums[n:] - sums[:-n])


def graded(wrong_m: float) -> float:
    low, high = (limit - 1e-9 for limit in _WRONG_WAY_M)
    return 1.0 if wrong_m < low else 0.5 if wrong_m < high else 0.0


def ran_red_light(history: History) -> np.ndarray:
    """Return bool [T]: where the ego's body came onto an area closed by a red light.

    Standing on it already when the light changes is no violation: a loop that goes on for a
    minute meets that often, a plan of 4 s hardly ever.
    """
    out = np.zeros(len(history.t_s), np.bool_)
    for t in range(1, len(out)):
        quads = history.red_light_m[t]
        if len(quads):
            now = boxes.touches_quads(history.ego_box[t], quads)
            before = boxes.touches_quads(history.ego_box[t - 1], quads)
            out[t] = bool((now & ~before).any())
    return out


def ttc_violations(history: History) -> list[tuple[int, int]]:
    """Return (tick, actor id) where the ego, keeping speed and heading, runs into somebody.

    The ego's box is moved by 0, 0.3, 0.6 and 0.9 s and compared with the boxes the others then
    really have. It counts for actors ahead of the rear axle, and for all that are not behind while
    the ego is not fully in one lane or in a junction. Any other meeting makes that actor ignored
    for the 4 s a NAVSIM scene lasts. Ticks whose 0.9 s end after the trace are not asked.
    """
    h = history
    steps = [round(s / h.dt_s) for s in _LOOK_S]
    n = len(h.t_s) - steps[-1]
    if n <= 0 or not h.there.shape[1]:
        return []
    hits = np.stack([_meets(h, n, k, s) for k, s in zip(steps, _LOOK_S, strict=True)], axis=1)
    hits &= ~h.contact[0][None, None]
    hits &= (np.abs(h.column("speed_mps")[:n]) >= _STILL_MPS)[:, None, None]
    wide = h.off_lane | h.in_junction
    out: list[tuple[int, int]] = []
    muted = np.full(h.there.shape[1], -np.inf)
    for t, k, a in zip(*np.nonzero(hits), strict=True):
        if h.t_s[t] < muted[a]:
            continue
        at = h.box[t + steps[k], a, :2]
        angle = float(bearing_from(h.rear_axle[t], h.ego_box[t, 2], at))
        if angle < AHEAD_RAD or (wide[t] and angle <= BEHIND_RAD):
            out.append((int(t), int(h.actor_ids[a])))
        else:
            muted[a] = h.t_s[t] + _HORIZON_S
    return out


def _meets(h: History, n: int, k: int, seconds: float) -> np.ndarray:
    """Return bool [n, A]: the ego's box moved on by `seconds` touches the box k ticks later."""
    ego = h.ego_box[:n].copy()
    ego[:, :2] += h.ego_velocity[:n] * seconds
    other = h.box[k : k + n]
    size = np.hypot(other[..., 3], other[..., 4]) / 2 + np.hypot(ego[:, 3], ego[:, 4])[:, None] / 2
    gap = np.hypot(other[..., 0] - ego[:, None, 0], other[..., 1] - ego[:, None, 1])
    out = np.zeros(other.shape[:2], np.bool_)
    t, a = np.nonzero(h.there[k : k + n] & (gap <= size + 0.1))
    out[t, a] = boxes.touch(ego[t], other[t, a])
    return out


def lane_keeping(history: History) -> float:
    """Return LK: 0 where the centre is over 0.5 m off the centreline for 2 s on end.

    Ticks inside junctions neither count nor break the row.
    """
    need = math.ceil(_LANE_S / history.dt_s - 1e-6)
    off = history.along[1] > _LANE_M + 1e-9
    row = 0
    for away in off[~history.in_junction]:
        row = row + 1 if away else 0
        if row >= need:
            return 0.0
    return 1.0


def progress_m(history: History) -> float:
    """Return how far the centre came along the route, at least 0."""
    s = history.along[0]
    return max(float(s[-1] - s[0]), 0.0)


def progress_score(made_m: float, product: float, reference_m: float) -> float:
    """Return EP: progress over the better of ego and reference, each times its multipliers.

    The numerator is not multiplied (as in NAVSIM v2); where neither came further than 5 m, 1.
    """
    best = max(made_m * product, reference_m)
    return 1.0 if best <= _NO_PROGRESS_M else min(max(made_m / best, 0.0), 1.0)
