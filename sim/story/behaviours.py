"""Scripted behaviours: actors that do something on cue, told as data, played step by step.

A `Player` moves along a path (the ego's own route, or lanes that cross it) and beside it. What it
does is a row of `Phase`s; each ends on a cue relative to the ego: how soon the ego will be at the
player's mark, how near it is, or a time. Own work, after the triggers and the "synchronise" action
of ASAM OpenSCENARIO.
"""

import math
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from sim.users.actors import REVERSING
from sim.users.traffic import idm_accel, inside, nearest_gap

Cue = Literal["never", "eta", "gap", "time", "ahead"]
Law = Literal["hold", "keep", "pace", "pass", "meet", "swing"]
FRONT_M: Final = 3.75
"""From the ego's rear axle to its front bumper (vehicle.config: 4.7 m long, 0.95 m overhang)."""
_STEP_M: Final = 1.5
_LOOK: Final = 24
_ON_FOOT_MPS2: Final = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What a player does, and until when.

    Args:
        until: cue that ends the phase: "eta" the ego is `value` s or less from the mark, "gap" its
            front is `value` m or less from the player, "time" `value` s have gone by, "ahead" the
            player's tail is `value` m before the ego's front, "never".
        law: "hold" drives at `speed_mps`; "keep" at the speed it has; "pace" stays `speed_mps`
            metres before the ego's front; "pass" is `speed_mps` faster than the ego; "meet" is at
            the mark `lead_s` before the ego, at `speed_mps` at most; "swing" turns
            about the player's tail (a door) at `speed_mps` rad/s up to `left_m` rad.
        accel_mps2: how fast the speed may change.
        left_m: where to beside the path, left positive; None stays where it is.
        slide_mps: how fast it gets there.
        blind: does not look out for anybody.
    """

    until: Cue = "never"
    value: float = 0.0
    law: Law = "hold"
    speed_mps: float = 0.0
    accel_mps2: float = 3.0
    lead_s: float = 0.0
    left_m: float | None = None
    slide_mps: float = 0.0
    blind: bool = False


@dataclass(slots=True, kw_only=True)
class Player:
    """An actor with a script.

    Args:
        actor_id: whose row it moves.
        path: [N, 3] x, y, yaw in town, about 1 m apart.
        at_m, left_m: place along and beside the path; way: +1 along it, -1 against.
        mark_m: the place on the path that cues refer to; mark_index: the same on the ego's route.
        acts_from: the phase in which what the family is about begins.
        exit: at the end of the path it "stays", "leaves" when far, or "joins" the traffic.
    """

    actor_id: int
    path: np.ndarray
    at_m: float
    left_m: float = 0.0
    way: int = 1
    mark_m: float = 0.0
    mark_index: int = 0
    phases: tuple[Phase, ...] = ()
    acts_from: int = 1
    exit: Literal["stays", "leaves", "joins"] = "stays"
    speed_mps: float = 0.0
    turned_rad: float = 0.0
    phase: int = 0
    since_s: float = 0.0
    arc_m: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        steps = np.hypot(*np.diff(self.path[:, :2], axis=0).T)
        self.arc_m = np.concatenate([[0.0], np.cumsum(steps)])
        self.path = np.column_stack([self.path[:, :2], np.unwrap(self.path[:, 2])])

    @property
    def acting(self) -> bool:
        """Return whether it does what it was cast for."""
        return self.phase >= self.acts_from

    def place(self, at_m: float, left_m: float) -> tuple[float, float, float]:
        """Return x, y, yaw of a place along and beside the path; straight on beyond its ends."""
        x, y, yaw = (float(np.interp(at_m, self.arc_m, self.path[:, k])) for k in range(3))
        over = at_m - min(max(at_m, 0.0), float(self.arc_m[-1]))
        x += over * math.cos(yaw) - left_m * math.sin(yaw)
        return x, y + over * math.sin(yaw) + left_m * math.cos(yaw), yaw


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoView:
    """What a script may know of the ego: index on its route, speed, body (x, y, yaw, speed,
    length, width)."""

    index: int
    body: np.ndarray

    def eta_s(self, mark_index: int) -> float:
        """Return seconds until the front bumper is at a point of the route, negative behind it."""
        return (mark_index - self.index - FRONT_M) / max(float(self.body[3]), 2.0)


def lead_m(player: Player, ego: EgoView, length_m: float) -> float:
    """Return how far a player's tail is before the ego's front, along its path."""
    return player.at_m - length_m / 2 - player.mark_m - ego.index - FRONT_M + player.mark_index


def ended(player: Player, phase: Phase, ego: EgoView, length_m: float) -> bool:
    """Return whether the cue of a phase has come."""
    if phase.until == "eta":
        return ego.eta_s(player.mark_index) <= phase.value
    if phase.until == "gap":
        x, y, _ = player.place(player.at_m, player.left_m)
        return math.hypot(x - ego.body[0], y - ego.body[1]) - ego.body[4] / 2 <= phase.value
    if phase.until == "time":
        return player.since_s >= phase.value
    if phase.until == "ahead":
        return lead_m(player, ego, length_m) >= phase.value
    return False


def wish_mps(player: Player, phase: Phase, ego: EgoView, length_m: float) -> float:
    """Return the speed a phase asks for now."""
    if phase.law == "pace":
        gap = lead_m(player, ego, length_m)
        return min(max(float(ego.body[3]) + 0.9 * (phase.speed_mps - gap), 0.0), 20.0)
    if phase.law == "keep":
        return player.speed_mps
    if phase.law == "pass":
        return float(ego.body[3]) + phase.speed_mps
    if phase.law == "meet":
        left = player.way * (player.mark_m - player.at_m)
        soon = ego.eta_s(player.mark_index) - phase.lead_s
        if left <= 0.0:
            return phase.speed_mps
        return min(max(left / max(soon, 0.2), 0.25 * phase.speed_mps), phase.speed_mps)
    return phase.speed_mps if phase.law == "hold" else 0.0


def step(player: Player, table: np.ndarray, row: int, ego: EgoView, dt_s: float) -> None:
    """Move one player on by `dt_s` and write its row of the ACTOR table."""
    actor, phases = table[row], player.phases
    player.since_s += dt_s
    while player.phase < len(phases) - 1 and ended(
        player, phases[player.phase], ego, float(actor["length_m"])
    ):
        player.phase, player.since_s = player.phase + 1, 0.0
    phase = phases[player.phase]
    if phase.law == "swing":
        _swing(player, actor, phase, dt_s)
        return
    wish = wish_mps(player, phase, ego, float(actor["length_m"]))
    before = player.speed_mps
    change = min(max(wish - before, -phase.accel_mps2 * dt_s), phase.accel_mps2 * dt_s)
    aside = 0.0
    if phase.left_m is not None:
        far = phase.left_m - player.left_m
        aside = math.copysign(min(abs(far), phase.slide_mps * dt_s), far)
    if not phase.blind:
        change = min(change, _careful(player, table, row, ego.body) * dt_s)
        if _blocked(player, actor, aside, ego.body):
            change, aside = -_ON_FOOT_MPS2 * dt_s, 0.0
    player.speed_mps = max(0.0, before + change)
    along = player.way * (before + player.speed_mps) / 2 * dt_s
    player.at_m += along
    player.left_m += aside
    x, y, yaw = player.place(player.at_m, player.left_m)
    actor["x_m"], actor["y_m"] = x, y
    way = math.hypot(along, aside)
    if way > 1e-4 and dt_s > 0.0:
        reverse = math.pi if actor["moving"] == REVERSING else 0.0
        actor["yaw_rad"] = yaw + math.atan2(aside, along) + reverse
    back = -1.0 if actor["moving"] == REVERSING else 1.0
    actor["speed_mps"] = back * way / dt_s if dt_s > 0.0 else 0.0
    actor["accel_mps2"] = (player.speed_mps - before) / dt_s if dt_s > 0.0 else 0.0
    actor["gait_rad"] += way * 4.2


def _swing(player: Player, actor: np.void, phase: Phase, dt_s: float) -> None:
    """Turn about the end of the body that leads, as a door does about its hinge."""
    player.turned_rad = min(player.turned_rad + phase.speed_mps * dt_s, float(phase.left_m or 0.0))
    x, y, yaw = player.place(player.at_m, player.left_m)
    turned = yaw - player.turned_rad
    actor["x_m"] = x - math.cos(turned) * actor["length_m"] / 2
    actor["y_m"] = y - math.sin(turned) * actor["length_m"] / 2
    actor["yaw_rad"] = turned


def _careful(player: Player, table: np.ndarray, row: int, ego_body: np.ndarray) -> float:
    """Return the acceleration IDM allows behind whatever is on the player's own way."""
    if player.speed_mps < 0.1 or player.way < 0:
        return 1e9
    at = player.at_m + np.arange(_LOOK) * _STEP_M
    places = np.array([player.place(float(s), player.left_m) for s in at])
    actor = table[row]
    gap, closing = nearest_gap(
        places, _LOOK, float(actor["length_m"]), float(actor["width_m"]), player.speed_mps, row,
        table, ego_body,
    )  # fmt: skip
    if gap > 60.0:
        return 1e9
    return float(idm_accel(player.speed_mps, 30.0, gap, closing))


def _blocked(player: Player, actor: np.void, aside: float, ego_body: np.ndarray) -> bool:
    """Return whether a step to the side would end in the ego."""
    if aside == 0.0:
        return False
    reach = math.copysign(actor["width_m"] / 2 + 0.3, aside)
    x, y, _ = player.place(player.at_m, player.left_m + aside + reach)
    b = ego_body
    return bool(inside(x, y, b[0], b[1], b[2], b[4], b[5]))
