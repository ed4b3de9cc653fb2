"""Who hit whom, and whose fault it was, by the rules nuPlan and NAVSIM share."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from sim.score import boxes
from sim.score.history import History
from vehicle.contracts.scene import KINDS

ContactType = Literal["stopped_ego", "stopped_track", "rear", "front", "lateral"]

EGO_STOPPED_MPS: Final = 0.05
TRACK_STOPPED_MPS: Final = 0.005
BEHIND_RAD: Final = float(np.deg2rad(150.0))
AHEAD_RAD: Final = float(np.deg2rad(20.0))

_VULNERABLE: Final = frozenset({"pedestrian", "cyclist"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """The first touch of the ego and one actor.

    Args:
        tick: snapshot it happened at.
        t_s: its time.
        actor_id, kind: whom; kind is a word of KINDS.
        type: how, in the order the rules are asked: ego stood, the other stood, hit from behind,
            the ego's front bumper, or any other side.
        at_fault: whether driving differently would have prevented it.
        static: the other is a thing, not a road user.
        delta_v_mps: speed change of the ego if both stick together with equal mass.
    """

    tick: int
    t_s: float
    actor_id: int
    kind: str
    type: ContactType
    at_fault: bool
    static: bool
    delta_v_mps: float

    @property
    def vulnerable(self) -> bool:
        """Return whether the other was on foot or on a bicycle."""
        return self.kind in _VULNERABLE


def contacts(history: History) -> tuple[Contact, ...]:
    """Return the first contact with each actor, in order of time.

    Whoever overlaps the ego in the first snapshot is left out for good: nobody could have helped
    it. Later contacts with the same actor are the same collision.

    Source: nuplan-devkit `no_ego_at_fault_collisions`, navsim `_calculate_no_at_fault_collision`.
    """
    touching = history.contact
    found = []
    for a in np.flatnonzero(touching.any(axis=0) & ~touching[0]):
        found.append(_contact(history, int(np.argmax(touching[:, a])), int(a)))
    return tuple(sorted(found, key=lambda c: (c.tick, c.actor_id)))


def _contact(h: History, t: int, a: int) -> Contact:
    way = _type(h, t, a)
    fault = way in ("front", "stopped_track") or (way == "lateral" and bool(h.off_lane[t]))
    other = np.zeros(2) if h.static[a] else h.velocity[t, a]
    kind = int(h.kind[a])
    return Contact(
        tick=t, t_s=float(h.t_s[t]), actor_id=int(h.actor_ids[a]),
        kind=KINDS[kind] if 0 <= kind < len(KINDS) else "other",
        type=way, at_fault=fault, static=bool(h.static[a]),
        delta_v_mps=float(np.hypot(*(h.ego_velocity[t] - other)) / 2),
    )  # fmt: skip


def _type(h: History, t: int, a: int) -> ContactType:
    if abs(h.column("speed_mps")[t]) <= EGO_STOPPED_MPS:
        return "stopped_ego"
    if h.static[a] or abs(h.speed[t, a]) <= TRACK_STOPPED_MPS:
        return "stopped_track"
    if h.bearing[t, a] > BEHIND_RAD:
        return "rear"
    if bool(boxes.touch(boxes.bumper(h.ego_box[t]), h.box[t, a])):
        return "front"
    return "lateral"
