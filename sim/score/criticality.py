"""How close it came: time and distance margins over an episode, per tick and as extremes."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from sim.score import boxes
from sim.score.faults import Contact, contacts
from sim.score.history import History
from sim.town.lanes import arc_length
from vehicle.contracts.plan import Plan

TTC_CRITICAL_S: Final = 1.5
DRAC_CONFLICT_MPS2: Final = 3.35
DRAC_MOST_MPS2: Final = 20.0
"""No tyre brakes harder: from here on a contact could not be avoided by braking."""

_AHEAD_M: Final = 100.0
_SPACING_M: Final = 2.0
_MOVING_MPS: Final = 0.5
_PET_S: Final = 5.0
_CROSSING: Final = 0.5  # sine of 30 degrees: paths that meet at less follow each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Criticality:
    """Margins of one episode. "Never" is inf (or 0 for DRAC, TET, TIT).

    Args:
        min_ttc_s: least time to collision with the actor ahead on the path, both keeping speed.
        min_ttc_straight_s: the same with anybody, all keeping speed and heading (2-D).
        min_thw_s: least time headway.
        max_drac_mps2: greatest deceleration needed to only just avoid the actor ahead.
        drac_conflict_s: time with DRAC over 3.35 m/s2.
        min_distance_m: least gap between bodies, any direction.
        min_pet_s: least post-encroachment time over paths that cross.
        tet_s: time exposed to a TTC under 1.5 s.
        tit_s2: integral of 1.5 s less TTC over that time.
        contacts, at_fault: first contacts per actor, and those that are the ego's fault.
        delta_v_mps: greatest speed change at a contact.
        mrm: times a minimal risk manoeuvre began.
        hardest_brake_mps2: as a positive number, unsmoothed.
    """

    min_ttc_s: float
    min_ttc_straight_s: float
    min_thw_s: float
    max_drac_mps2: float
    drac_conflict_s: float
    min_distance_m: float
    min_pet_s: float
    tet_s: float
    tit_s2: float
    contacts: int
    at_fault: int
    delta_v_mps: float
    mrm: int
    hardest_brake_mps2: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lead:
    """The actor ahead on the path at each tick, [T] each; gap inf where there is none.

    Args:
        actor_id: -1 where there is none.
        gap_m: along the path, bumper to body; 0 or less while they overlap.
        closing_mps: how fast it shrinks.
    """

    actor_id: np.ndarray
    gap_m: np.ndarray
    closing_mps: np.ndarray


def criticality(history: History, plans: tuple[Plan | None, ...] = ()) -> Criticality:
    """Return the margins of an episode.

    Source: formulas as in CommonRoad-CriMe (Lin and Althoff, 2023); TET and TIT Minderhoud and Bovy
        (2001); PET Allen, Shin and Cooper (1978); DRAC threshold Archer (2005).
    """
    lead = leader(history)
    speed = history.column("speed_mps")
    ttc, drac = ttc_s(lead), drac_mps2(lead)
    low = np.minimum(ttc, TTC_CRITICAL_S)
    found: tuple[Contact, ...] = contacts(history)
    return Criticality(
        min_ttc_s=float(ttc.min()),
        min_ttc_straight_s=float(straight_ttc_s(history).min()),
        min_thw_s=float(thw_s(lead, speed).min()),
        max_drac_mps2=float(drac.max()),
        drac_conflict_s=float((drac > DRAC_CONFLICT_MPS2).sum() * history.dt_s),
        min_distance_m=min_distance_m(history),
        min_pet_s=post_encroachment_s(history),
        tet_s=float((ttc < TTC_CRITICAL_S).sum() * history.dt_s),
        tit_s2=float((TTC_CRITICAL_S - low).sum() * history.dt_s),
        contacts=len(found),
        at_fault=sum(c.at_fault for c in found),
        delta_v_mps=max((c.delta_v_mps for c in found), default=0.0),
        mrm=mrm_count(plans),
        hardest_brake_mps2=max(0.0, -float(history.column("accel_mps2").min())),
    )


def leader(history: History) -> Lead:
    """Return who is ahead on the route, inside the corridor the ego's body sweeps.

    The corridor is the route's centreline moved to where the ego drives beside it, as wide as the
    ego; an actor is in it when its box reaches in.
    """
    h = history
    n, m = h.there.shape
    gap = np.full((n, m), np.inf)
    closing = np.zeros((n, m))
    if m:
        place = _places(h)
        near = h.there & np.isfinite(place[0])
        t, a = np.nonzero(near)
        s, d, yaw = (p[t, a] for p in place)
        turn = h.box[t, a, 2] - yaw
        c, k = np.abs(np.cos(turn)), np.abs(np.sin(turn))
        length, width = h.box[t, a, 3], h.box[t, a, 4]
        half_along, half_across = (c * length + k * width) / 2, (k * length + c * width) / 2
        inside = np.abs(d) < half_across + h.ego_box[t, 4] / 2
        t, a, s, half_along, turn = (
            t[inside],
            a[inside],
            s[inside],
            half_along[inside],
            turn[inside],
        )
        gap[t, a] = s - half_along - h.ego_box[t, 3] / 2
        closing[t, a] = h.column("speed_mps")[t] - h.speed[t, a] * np.cos(turn)
    who = gap.argmin(axis=1) if m else np.zeros(n, np.int64)
    rows = np.arange(n)
    least = gap[rows, who] if m else np.full(n, np.inf)
    return Lead(
        actor_id=np.where(np.isfinite(least), h.actor_ids[who] if m else -1, -1),
        gap_m=least,
        closing_mps=closing[rows, who] if m else np.zeros(n),
    )


def _places(h: History) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return [T, A] each: metres ahead of the ego's centre along the route, metres aside of the
    ego's own offset, heading of the route there; inf where not on the stretch ahead."""
    line = np.asarray(h.road.centreline(), np.float64)
    s_line = arc_length(line)
    knots = np.arange(0.0, s_line[-1] + _SPACING_M, _SPACING_M).clip(max=s_line[-1])
    line = np.stack([np.interp(knots, s_line, line[:, k]) for k in (0, 1)], axis=1)
    keep = np.append(np.diff(knots) > 1e-9, True)
    line, knots = line[keep], knots[keep]
    s_ego = h.along[0]
    out = np.full((3, *h.there.shape), np.inf)
    own = _aside(line, knots, h.centre[:, None], s_ego)
    reach = np.hypot(h.box[..., 0] - h.centre[:, None, 0], h.box[..., 1] - h.centre[:, None, 1])
    t, a = np.nonzero(h.there & (reach < _AHEAD_M))
    _project(line, knots, s_ego, np.ascontiguousarray(h.box[..., :2]), t, a, own, _AHEAD_M, out)
    return out[0], out[1], out[2]


def _aside(
    line: np.ndarray, knots: np.ndarray, points: np.ndarray, s_ego: np.ndarray
) -> np.ndarray:
    """Return [T] how far left of the route the ego is."""
    n = len(points)
    out = np.full((3, n, 1), np.inf)
    rows = np.arange(n)
    zero = np.zeros(n, np.int64)
    _project(line, knots, s_ego, points, rows, zero, np.zeros(n), 5.0, out)
    return np.where(np.isfinite(out[1, :, 0]), out[1, :, 0], 0.0)


@njit(cache=True)
def _project(line, knots, s_ego, points, ts, rows, own, ahead, out):  # type: ignore[no-untyped-def]
    """Write along, aside (less `own`) and heading of each (tick, actor) into out [3, T, A]."""
    for i in range(len(ts)):
        t, a = ts[i], rows[i]
        low = max(np.searchsorted(knots, s_ego[t] - 5.0) - 1, 0)
        high = min(np.searchsorted(knots, s_ego[t] + ahead), len(knots) - 1)
        best = 1e18
        for k in range(low, high):
            ex, ey = line[k + 1, 0] - line[k, 0], line[k + 1, 1] - line[k, 1]
            px, py = points[t, a, 0] - line[k, 0], points[t, a, 1] - line[k, 1]
            size = np.hypot(ex, ey)
            u = (px * ex + py * ey) / size
            clamped = min(max(u, 0.0), size)
            dx, dy = px - clamped * ex / size, py - clamped * ey / size
            d = dx * dx + dy * dy
            if d < best:
                best = d
                over = (u < 0.0 and k == low) or (u > size and k == high - 1)
                out[0, t, a] = np.inf if over else knots[k] + clamped - s_ego[t]
                out[1, t, a] = (ex * py - ey * px) / size - own[t]
                out[2, t, a] = np.arctan2(ey, ex)
        if out[0, t, a] < 0.0:
            out[0, t, a] = np.inf


def ttc_s(lead: Lead) -> np.ndarray:
    """Return [T] gap over closing speed; inf where the gap does not shrink, 0 in contact."""
    closes = (lead.closing_mps > 1e-6) & np.isfinite(lead.gap_m)
    gap = np.where(closes, np.maximum(lead.gap_m, 0.0), 0.0)
    return np.where(closes, gap / np.where(closes, lead.closing_mps, 1.0), np.inf)


def thw_s(lead: Lead, speed_mps: np.ndarray) -> np.ndarray:
    """Return [T] gap over the ego's speed; inf at standstill."""
    moves = speed_mps > 0.1
    gap = np.maximum(lead.gap_m, 0.0)
    return np.where(moves, gap / np.where(moves, speed_mps, 1.0), np.inf)


def drac_mps2(lead: Lead) -> np.ndarray:
    """Return [T] closing speed squared over twice the gap, at most 20; 0 where it grows."""
    closes = (lead.closing_mps > 1e-6) & np.isfinite(lead.gap_m)
    gap = np.where(closes, np.maximum(lead.gap_m, 1e-3), 1.0)
    needed = np.minimum(lead.closing_mps**2 / (2.0 * gap), DRAC_MOST_MPS2)
    return np.where(closes, needed, 0.0)


def straight_ttc_s(history: History) -> np.ndarray:
    """Return [T] seconds until the first contact if all keep speed and heading."""
    h = history
    out = np.full(len(h.t_s), np.inf)
    t, a = np.nonzero(h.there)
    other = np.where(h.static[a, None], 0.0, h.velocity[t, a])
    begin, _ = boxes.contact_window(h.ego_box[t], h.box[t, a], other - h.ego_velocity[t])
    np.minimum.at(out, t, np.maximum(begin, 0.0))
    return out


def min_distance_m(history: History) -> float:
    """Return the least distance between the ego's body and any other, inf where nobody was."""
    h = history
    t, a = np.nonzero(h.there)
    if not len(t):
        return float("inf")
    size = np.hypot(h.box[t, a, 3], h.box[t, a, 4]) / 2
    own = np.hypot(h.ego_box[t, 3], h.ego_box[t, 4]) / 2
    apart = np.hypot(h.box[t, a, 0] - h.centre[t, 0], h.box[t, a, 1] - h.centre[t, 1])
    near = apart - size - own <= apart.min()
    return float(boxes.distance(h.ego_box[t[near]], h.box[t[near], a[near]]).min())


def post_encroachment_s(history: History) -> float:
    """Return the least time between one body leaving ground and another, crossing, entering it.

    Over pairs of instants up to 5 s apart at which the ego's and the actor's boxes cover common
    ground, both moving, their headings 30 to 150 degrees apart. 0 in a collision, inf if none.
    """
    h = history
    moving = h.there & (np.abs(h.speed) > _MOVING_MPS) & ~h.static
    ego_moving = np.abs(h.column("speed_mps")) > _MOVING_MPS
    if not moving.any() or not ego_moving.any():
        return float("inf")
    return float(_pet(h.t_s, h.ego_box, ego_moving, h.box, moving, _PET_S, _CROSSING))


@njit(cache=True)
def _pet(t_s, ego, ego_moving, box, moving, limit_s, crossing):  # type: ignore[no-untyped-def]
    best = np.inf
    n, m = moving.shape
    near = int(limit_s * (n - 1) / (t_s[n - 1] - t_s[0])) + 2
    for a in range(m):
        for j in range(n):
            if not moving[j, a]:
                continue
            for i in range(max(j - near, 0), min(j + near + 1, n)):
                apart = abs(t_s[i] - t_s[j])
                if apart > limit_s or apart >= best or not ego_moving[i]:
                    continue
                dx, dy = box[j, a, 0] - ego[i, 0], box[j, a, 1] - ego[i, 1]
                reach = box[j, a, 3] + box[j, a, 4] + ego[i, 3] + ego[i, 4]
                if 4.0 * (dx * dx + dy * dy) > reach * reach:
                    continue
                turn = box[j, a, 2] - ego[i, 2]
                c, s = abs(np.cos(turn)), abs(np.sin(turn))
                if s < crossing:
                    continue
                if _overlap(dx, dy, ego[i], box[j, a], c, s):
                    best = apart
    return best


@njit(cache=True)
def _overlap(dx, dy, one, two, c, s):  # type: ignore[no-untyped-def]
    for k in range(2):
        a, b = (one, two) if k == 0 else (two, one)
        ux, uy = np.cos(a[2]), np.sin(a[2])
        if abs(dx * ux + dy * uy) > (a[3] + c * b[3] + s * b[4]) / 2:
            return False
        if abs(dy * ux - dx * uy) > (a[4] + s * b[3] + c * b[4]) / 2:
            return False
    return True


def mrm_count(plans: tuple[Plan | None, ...]) -> int:
    """Return how often the car began a minimal risk manoeuvre."""
    on = [plan is not None and plan.rung == "mrm" for plan in plans]
    return sum(now and not before for before, now in zip([False, *on], on, strict=False))
