"""What was so, against what the car noticed: the truth behind each family of triggers.

Truth comes from the simulator's own state (poses, every road user, what is visible), or from what
the trial did to the car on purpose. docs/reference/triggers.md says it family by family.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from sim.rivals.compare import wilson
from sim.run.episode import Episode
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Plan
from vehicle.contracts.sample import BOX_COLUMNS
from vehicle.contracts.scene import Scene
from vehicle.flicker import NEAR_M
from vehicle.human_gap import HumanGap
from vehicle.planner import Planner
from vehicle.rss_margin import RssMargin
from vehicle.safety import first_contact, road_users
from vehicle.signals import MOVING_MPS

QUIET_S: Final = 2.0
TOLERANCE_S: Final = 0.5
PIECE_S: Final = 10.0
"""Weather lasts as long as a drive: it is cut into pieces of this length."""

NEARLY: Final = " nearly"
"""Suffix of a truth that came near the threshold: an estimate may be a little off."""

MATCH_M: Final = 2.0
VISIBLE_PX: Final = 6.0
"""As in the labels: who shows less is neither wanted nor punished."""

_BACK_S: Final = 0.3
_X, _Y, _PX, _ID = (BOX_COLUMNS.index(n) for n in ("x_m", "y_m", "visible_px", "actor_id"))


def _spec(kind: Any, threshold: float = 0.0, hold_s: float = 0.0) -> TriggerSpec:
    return TriggerSpec(
        name=kind, kind=kind, threshold=threshold, hold_s=hold_s, min_interval_s=QUIET_S
    )


FAMILY_TRIGGERS: Final = Campaign(
    campaign_id="families",
    max_clips_per_hour=3_600.0,
    triggers=(
        _spec("hard_brake", 3.5),
        _spec("harsh_steer", 2.5),
        _spec("ttc", 1.5),
        _spec("rss", 0.0),
        _spec("human_disagreement", 2.0, 0.3),
        _spec("shadow_disagreement", 0.5, 0.3),
        _spec("flicker", 0.4),
        _spec("uncertainty", 0.6, 0.3),
        _spec("novelty", 1.4, 0.3),
        _spec("deadline_miss", 2.0),
        _spec("rung", 2.0),
        _spec("mrm"),
        _spec("takeover"),
        _spec("bookmark"),
        _spec("random", 0.01),
    ),
)
"""Every family once, at the thresholds the table is for; `random` fires on a hundredth."""

THRESHOLD: Final = {spec.name: spec.threshold for spec in FAMILY_TRIGGERS.triggers}


class TrueState:
    """Reads off the world, tick by tick, where the measured families should hold.

    Args:
        episode: the world that is driven.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        c = episode.config
        self._body = (c.length_m - c.rear_overhang_m, c.rear_overhang_m, c.width_m)
        self._margin, self._gap = RssMargin(c), HumanGap()
        self._planner, self._previous = Planner(c), None
        self._past: deque[tuple[float, float, float]] = deque()
        self._blinks = TrueFlicker(episode.rate_hz)

    def of(
        self, obs: Observation, scene: Scene | None, plan: Plan | None, *, human: bool
    ) -> dict[str, bool]:
        """Return which families hold on this tick, before the world moves on.

        Args:
            obs: what the car was given.
            scene: what it saw; only for `flicker`, which is about what it saw of what is there.
            plan: the way its safe distances are taken along.
            human: a human drives: ask what a planner would do that is told every road user.
        """
        everybody = self._episode.observe(truth=True).traffic
        assert everybody is not None
        holds = self._motion()
        holds |= self._distances(obs, everybody, plan)
        boxes, _ = self._episode.truth()
        if scene is not None:
            share = self._blinks.of(boxes, scene)
            holds |= _at_least("flicker", share, 0.75)
        if human and obs.ego is not None:
            told: Plan = self._planner.plan(everybody, obs, self._previous, "full")
            self._previous = told
            gap_m = self._gap.of(obs.ego, told, obs.frame.mono_ns)
            holds |= _at_least("human_disagreement", gap_m, 0.75)
        return holds

    def _motion(self) -> dict[str, bool]:
        """Compare poses 0.3 s apart: what acceleration and turning they amount to."""
        m = self._episode.motion
        self._past.append((m.speed_mps, m.yaw_rad, self._episode.t_s))
        while self._past[-1][2] - self._past[0][2] > _BACK_S + 1e-6:
            self._past.popleft()
        speed, yaw, before_s = self._past[0]
        dt = max(self._past[-1][2] - before_s, 1e-9)
        turned = (m.yaw_rad - yaw + math.pi) % (2.0 * math.pi) - math.pi
        sideways = abs(turned) / dt * 0.5 * (m.speed_mps + speed)
        brake = _at_least("hard_brake", (speed - m.speed_mps) / dt, 0.75)
        return brake | _at_least("harsh_steer", sideways, 0.75)

    def _distances(self, obs: Observation, everybody: Scene, plan: Plan | None) -> dict[str, bool]:
        ego = obs.ego
        if ego is None or ego.speed_mps < MOVING_MPS:
            return dict.fromkeys(("ttc", "ttc" + NEARLY, "rss", "rss" + NEARLY), False)
        users = road_users(everybody)
        contact_s, _ = first_contact(users, ego.speed_mps, ego.curvature_1pm, *self._body)
        margin_m = math.nan
        if plan is not None:
            margin_m = self._margin.of(users, ego.speed_mps, plan.trajectory.states[:, 1:4])
        return {
            "ttc": contact_s <= THRESHOLD["ttc"],
            "ttc" + NEARLY: contact_s <= 1.5 * THRESHOLD["ttc"],
            "rss": margin_m <= THRESHOLD["rss"],
            "rss" + NEARLY: margin_m <= THRESHOLD["rss"] + 1.5,
        }


def _at_least(family: str, measured: float, nearly: float) -> dict[str, bool]:
    limit = THRESHOLD[family]
    return {family: measured >= limit, family + NEARLY: measured >= nearly * limit}


class TrueFlicker:
    """What of the near surroundings the network saw, lost and saw again within a second.

    Visible road users that were detected, lost and found again, and tracks where nobody visible is
    that come and go: both are inconsistent in time, and nobody in the world was.

    Args:
        rate_hz: ticks per second.
    """

    def __init__(self, rate_hz: float) -> None:
        self._second = round(rate_hz)
        self._seen: dict[int, deque[bool]] = {}
        self._blinked: dict[int, int] = {}
        self._ghosts: dict[int, _Ghost] = {}
        self._tick = 0

    def of(self, boxes: np.ndarray, scene: Scene) -> float:
        """Return the share of what was detected near in the last second that blinked in it."""
        self._tick += 1
        near = boxes[
            (np.hypot(boxes[:, _X], boxes[:, _Y]) <= NEAR_M) & (boxes[:, _PX] >= VISIBLE_PX)
        ]
        found = scene.tracks[scene.tracks["coasted_ticks"] == 0]
        here = set(near[:, _ID].astype(int).tolist())
        for gone in [actor for actor in self._seen if actor not in here]:
            del self._seen[gone]  # hidden or far: what it was before says nothing
        for box in near:
            apart = np.hypot(found["x_m"] - box[_X], found["y_m"] - box[_Y])
            detected = bool(apart.size) and float(apart.min()) < MATCH_M
            past = self._seen.setdefault(int(box[_ID]), deque(maxlen=self._second + 1))
            past.append(detected)
            row = list(past)
            if detected and True in row[:-1] and not row[-2]:
                self._blinked[int(box[_ID])] = self._tick
        recent = sum(self._tick - t <= self._second for a, t in self._blinked.items() if a in here)
        blinking, ghosts = self._blinking_ghosts(near, scene.tracks)
        detected_lately = sum(any(self._seen[actor]) for actor in here)
        return (recent + blinking) / max(1, detected_lately + ghosts)

    def _blinking_ghosts(self, near: np.ndarray, tracks: np.ndarray) -> tuple[int, int]:
        """Return how many tracks at nobody came and went in the last second, and how many were."""
        present, lately = set(tracks["track_id"].tolist()), self._tick - self._second
        for track in tracks:
            number, x, y = int(track["track_id"]), float(track["x_m"]), float(track["y_m"])
            apart = np.hypot(near[:, _X] - x, near[:, _Y] - y)
            if apart.size and float(apart.min()) < MATCH_M:
                self._ghosts.pop(number, None)
            elif math.hypot(x, y) <= NEAR_M:
                ghost = self._ghosts.setdefault(number, _Ghost(self._tick))
                lost = bool(track["coasted_ticks"])
                ghost.blinked = self._tick if ghost.lost and not lost else ghost.blinked
                ghost.last, ghost.lost = self._tick, lost
        for number in [n for n, ghost in self._ghosts.items() if ghost.last < lately]:
            del self._ghosts[number]
        for number, ghost in self._ghosts.items():
            if number not in present and ghost.last - ghost.first < self._second:
                ghost.blinked = ghost.last
        blinking = sum(ghost.blinked >= lately for ghost in self._ghosts.values())
        return blinking, len(self._ghosts)


@dataclass(slots=True)
class _Ghost:
    """A track where nobody visible is: first and last tick, last blink, whether it is lost now."""

    first: int
    last: int = 0
    blinked: int = -(1 << 62)
    lost: bool = False


def intervals(
    holds: list[bool], rate_hz: float, *, hold_s: float = 0.0, piece_s: float = 0.0
) -> list[tuple[float, float]]:
    """Return from when to when (s) something held.

    Args:
        holds: per tick.
        hold_s: shorter ones are left out, as the trigger leaves them out.
        piece_s: longer ones are cut; 0 cuts none. Those nearer than QUIET_S are one otherwise.
    """
    runs: list[list[float]] = []
    for i, held in enumerate(holds):
        t = i / rate_hz
        if held and runs and t - runs[-1][1] <= (1.5 / rate_hz if piece_s else QUIET_S):
            runs[-1][1] = t
        elif held:
            runs.append([t, t])
    out = []
    for start, end in runs:
        if end - start < hold_s - 0.5 / rate_hz:
            continue
        while piece_s and end - start > 1.5 * piece_s:
            out.append((start, start + piece_s))
            start += piece_s
        out.append((start, end))
    return out


@dataclass(slots=True)
class Score:
    """Events of one family against its truth, over all drives where it was asked."""

    events: int = 0
    right: int = 0
    truths: int = 0
    found: int = 0
    nearly: int | None = None
    drives: int = 0
    seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    def add(
        self, fired_s: list[float], truth: list[tuple[float, float]], seconds: float,
        nearly: list[tuple[float, float]] | None = None,
    ) -> None:  # fmt: skip
        """Take one drive in: an event is right within TOLERANCE_S of a truth, and finds it.

        Args:
            nearly: where the truth came near the threshold.
        """
        near = _beside(fired_s, truth)
        if nearly is not None:
            close = _beside(fired_s, nearly)
            count = sum(any(row[i] for row in close) for i in range(len(fired_s)))
            self.nearly = (self.nearly or 0) + count
        self.events += len(fired_s)
        self.right += sum(any(row[i] for row in near) for i in range(len(fired_s)))
        self.truths += len(truth)
        self.found += sum(any(row) for row in near)
        self.drives += 1
        self.seconds += seconds

    def row(self, family: str) -> dict[str, Any]:
        """Return the row of the table; 95 % intervals by Wilson, as if events were independent."""
        out: dict[str, Any] = {"row": f"family {family}", "drives": self.drives}
        out |= {"seconds": round(self.seconds), "events": self.events, "truths": self.truths}
        for name, hits, n in (
            ("precision", self.right, self.events),
            ("recall", self.found, self.truths),
        ):
            if n:
                low, high = wilson(hits, n)
                out[name], out[f"{name}_95"] = round(hits / n, 3), [round(low, 3), round(high, 3)]
        if self.nearly is not None and self.events:
            out["nearly_right"] = round(self.nearly / self.events, 3)
        return out


def _beside(times_s: list[float], spans: list[tuple[float, float]]) -> list[list[bool]]:
    return [[a - TOLERANCE_S <= t <= b + TOLERANCE_S for t in times_s] for a, b in spans]
