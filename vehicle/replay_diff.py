"""What two ticks over the same frame disagree on, and how two drives over a route differ in all."""

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from vehicle.contracts.bench import percentiles
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import KINDS, TRACK, Scene
from vehicle.contracts.tick import Tick

MATCH_M: Final = 2.0
"""Centres of the same kind nearer than this are one road user (the radius of our AP)."""

LOOKS_S: Final = (1.0, 2.0, 3.0)
DRIVABLE_LEVEL: Final = 128
_BOX, _EVENT, _RUNG, _PUSH = 0.5, 2.0, 2.0, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TickDiff:
    """How one tick differs between an old bundle and a new one.

    Args:
        matched, missed, extra: road users seen on this tick, by kind: by both, only by the old
            bundle, only by the new one.
        drivable_iou_ratio: of what both hold drivable; None where one knows nothing.
        moved_m: how far apart the plans are after 1, 2 and 3 s; empty without two plans.
        accel_mps2, curvature_1pm: new command less old command; None without two.
        only_old, only_new: triggers that fired for one of them.
        old_rung, new_rung: of the ladder.
        same: not a bit of scene, plan and command differs.
    """

    SCHEMA: ClassVar[str] = "tick-diff/1"
    frame_id: int
    mono_ns: int
    matched: dict[str, int]
    missed: dict[str, int]
    extra: dict[str, int]
    drivable_iou_ratio: float | None
    moved_m: tuple[float, ...]
    accel_mps2: float | None
    curvature_1pm: float | None
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    old_rung: str
    new_rung: str
    same: bool

    @property
    def size(self) -> float:
        """Return how different the ticks are, for sorting: metres of plan, and what weighs as much.

        A metre at 2 s weighs as much as two road users that only one sees, as 2 m/s2 of command
        or half an event or rung.
        """
        boxes = sum(self.missed.values()) + sum(self.extra.values())
        out = self.moved_m[1] if self.moved_m else 0.0
        out += _BOX * boxes + _PUSH * abs(self.accel_mps2 or 0.0)
        out += _EVENT * (len(self.only_old) + len(self.only_new))
        out += _RUNG * (self.old_rung != self.new_rung)
        if self.drivable_iou_ratio is not None:
            out += 1.0 - self.drivable_iou_ratio
        return float(out)


def compare_ticks(obs: Observation, old: Tick, new: Tick) -> TickDiff:
    """Return what two drives made of one observation."""
    matched, missed, extra = _boxes(old.scene, new.scene)
    a, b = old.command, new.command
    fired_old = Counter(e.trigger for e in old.events)
    fired_new = Counter(e.trigger for e in new.events)
    return TickDiff(
        frame_id=obs.frame.frame_id,
        mono_ns=obs.frame.mono_ns,
        matched=matched,
        missed=missed,
        extra=extra,
        drivable_iou_ratio=_drivable(old.scene, new.scene),
        moved_m=_moved(old.plan, new.plan),
        accel_mps2=None if a is None or b is None else b.accel_mps2 - a.accel_mps2,
        curvature_1pm=None if a is None or b is None else b.curvature_1pm - a.curvature_1pm,
        only_old=tuple(sorted((fired_old - fired_new).elements())),
        only_new=tuple(sorted((fired_new - fired_old).elements())),
        old_rung=old.timing.rung,
        new_rung=new.timing.rung,
        same=_same(old, new),
    )


def _same(old: Tick, new: Tick) -> bool:
    scenes = [None if t.scene is None else t.scene.tracks.tobytes() for t in (old, new)]
    plans = [None if t.plan is None else t.plan.digest() for t in (old, new)]
    return scenes[0] == scenes[1] and plans[0] == plans[1] and old.command == new.command


def _boxes(
    old: Scene | None, new: Scene | None
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Match road users seen on this tick, nearest pairs first."""
    a, b = (_seen(scene) for scene in (old, new))
    apart = np.hypot(
        a["x_m"][:, None].astype(float) - b["x_m"], a["y_m"][:, None].astype(float) - b["y_m"]
    )
    apart[a["kind"][:, None] != b["kind"]] = np.inf
    matched: Counter[str] = Counter()
    left_a, left_b = set(range(len(a))), set(range(len(b)))
    for pair in np.argsort(apart, axis=None, kind="stable"):
        i, j = (int(n) for n in np.unravel_index(pair, apart.shape))
        if not apart[i, j] < MATCH_M:
            break
        if i in left_a and j in left_b:
            left_a.remove(i)
            left_b.remove(j)
            matched[KINDS[a["kind"][i]]] += 1
    missed = Counter(KINDS[a["kind"][i]] for i in left_a)
    extra = Counter(KINDS[b["kind"][j]] for j in left_b)
    return dict(matched), dict(missed), dict(extra)


def _seen(scene: Scene | None) -> np.ndarray:
    if scene is None:
        return np.zeros(0, TRACK)
    return scene.tracks[scene.tracks["coasted_ticks"] == 0]


def _drivable(old: Scene | None, new: Scene | None) -> float | None:
    if old is None or new is None or old.occupancy is None or new.occupancy is None:
        return None
    a, b = (s.occupancy.drivable >= DRIVABLE_LEVEL for s in (old, new) if s.occupancy)
    if a.shape != b.shape:
        return None
    either = int((a | b).sum())
    return 1.0 if either == 0 else float((a & b).sum()) / either


def _moved(old: Plan | None, new: Plan | None) -> tuple[float, ...]:
    if old is None or new is None:
        return ()
    at = [
        np.array([np.interp(LOOKS_S, p.trajectory.states[:, 0], p.trajectory.states[:, c])
                  for c in (1, 2)])
        for p in (old, new)
    ]  # fmt: skip
    return tuple(float(d) for d in np.hypot(*(at[1] - at[0])))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayDiff:
    """How a new bundle drives a route, against an old one.

    Args:
        old, new: tags of the bundles.
        same_ticks: ticks on which not a bit differs.
        first_frame: where they first differ, None when nowhere.
        matched, missed, extra: as in TickDiff, over all ticks.
        drivable_iou_ratio: mean and least; empty where never known.
        moved_m: percentiles of the plans' distance, by "1s", "2s", "3s".
        accel_mps2, curvature_1pm: percentiles of the commands' absolute differences.
        only_old, only_new: events fired by one of them, by trigger.
        rungs: ticks with old rung and new rung, "full > coast".
        worst: the most different ticks, worst first.
    """

    SCHEMA: ClassVar[str] = "replay-diff/1"
    route: str
    old: str
    new: str
    ticks: int
    same_ticks: int
    first_frame: int | None
    matched: dict[str, int]
    missed: dict[str, int]
    extra: dict[str, int]
    drivable_iou_ratio: dict[str, float]
    moved_m: dict[str, dict[str, float | int]]
    accel_mps2: dict[str, float | int]
    curvature_1pm: dict[str, float | int]
    only_old: dict[str, int]
    only_new: dict[str, int]
    rungs: dict[str, int]
    worst: tuple[TickDiff, ...]
    seconds: float


@dataclass(slots=True)
class Tally:
    """Counts differences as ticks come, and keeps the worst with what led to them.

    Args:
        keep: how many of the worst.
        apart_ns: the worst of one moment stand for it: two kept ticks are at least this far apart.
    """

    keep: int
    apart_ns: int = 500_000_000
    ticks: int = 0
    same: int = 0
    first: int | None = None
    boxes: tuple[Counter[str], Counter[str], Counter[str]] = field(
        default_factory=lambda: (Counter(), Counter(), Counter())
    )
    iou: list[float] = field(default_factory=list)
    moved: list[tuple[float, ...]] = field(default_factory=list)
    push: list[tuple[float, float]] = field(default_factory=list)
    only: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    rungs: Counter[str] = field(default_factory=Counter)
    worst: list[tuple[TickDiff, Observation, Tick, Tick]] = field(default_factory=list)

    def take(self, diff: TickDiff, obs: Observation, old: Tick, new: Tick) -> None:
        """Add one tick."""
        self.ticks += 1
        self.same += diff.same
        if not diff.same and self.first is None:
            self.first = diff.frame_id
        for counter, found in zip(self.boxes, (diff.matched, diff.missed, diff.extra), strict=True):
            counter.update(found)
        if diff.drivable_iou_ratio is not None:
            self.iou.append(diff.drivable_iou_ratio)
        if diff.moved_m:
            self.moved.append(diff.moved_m)
        if diff.accel_mps2 is not None and diff.curvature_1pm is not None:
            self.push.append((abs(diff.accel_mps2), abs(diff.curvature_1pm)))
        self.only[0].update(diff.only_old)
        self.only[1].update(diff.only_new)
        if diff.old_rung != diff.new_rung:
            self.rungs[f"{diff.old_rung} > {diff.new_rung}"] += 1
        if not diff.same:
            self._keep(diff, obs, old, new)

    def _keep(self, diff: TickDiff, obs: Observation, old: Tick, new: Tick) -> None:
        near = [w for w in self.worst if abs(w[0].mono_ns - diff.mono_ns) < self.apart_ns]
        if any(w[0].size >= diff.size for w in near):
            return
        kept = [w for w in self.worst if w not in near]
        self.worst = heapq.nlargest(
            self.keep, [*kept, (diff, obs, old, new)], key=lambda w: w[0].size
        )

    def report(self, *, route: str, old: str, new: str, seconds: float) -> ReplayDiff:
        """Return what was counted."""
        moved = np.array(self.moved).reshape(-1, len(LOOKS_S))
        push = np.array(self.push).reshape(-1, 2)
        iou = {"mean": float(np.mean(self.iou)), "least": min(self.iou)} if self.iou else {}
        matched, missed, extra = (dict(c) for c in self.boxes)
        return ReplayDiff(
            route=route,
            old=old,
            new=new,
            ticks=self.ticks,
            same_ticks=self.same,
            first_frame=self.first,
            matched=matched,
            missed=missed,
            extra=extra,
            drivable_iou_ratio=iou,
            moved_m={f"{t:g}s": _spread(moved[:, i]) for i, t in enumerate(LOOKS_S)},
            accel_mps2=_spread(push[:, 0]),
            curvature_1pm=_spread(push[:, 1]),
            only_old=dict(self.only[0]),
            only_new=dict(self.only[1]),
            rungs=dict(self.rungs),
            worst=tuple(w[0] for w in self.worst),
            seconds=round(seconds, 3),
        )


def _spread(values: np.ndarray) -> dict[str, float | int]:
    return percentiles([float(v) for v in values]) if values.size else {}


def lines(diff: ReplayDiff) -> list[str]:
    """Return the comparison as a person reads it."""
    kinds = [k for k in KINDS if k in {**diff.matched, **diff.missed, **diff.extra}]
    share = diff.same_ticks / max(diff.ticks, 1)
    out = [
        f"{diff.route}: {diff.ticks:,} ticks, {diff.new} against {diff.old}, {diff.seconds:.1f} s",
        f"the same to the bit  {diff.same_ticks:,} ticks ({share:.0%})"
        + ("" if diff.first_frame is None else f"; they part at frame {diff.first_frame}"),
        f"{'road users':20} {'both':>8} {'only old':>9} {'only new':>9}",
        *(
            f"  {k:18} {diff.matched.get(k, 0):8,} {diff.missed.get(k, 0):9,} "
            f"{diff.extra.get(k, 0):9,}"
            for k in kinds
        ),
    ]
    if diff.drivable_iou_ratio:
        iou = diff.drivable_iou_ratio
        out.append(f"drivable IoU         mean {iou['mean']:.3f}, least {iou['least']:.3f}")
    for name, spread, unit in (
        *((f"plan after {t}", s, "m") for t, s in diff.moved_m.items()),
        ("acceleration", diff.accel_mps2, "m/s2"),
        ("curvature", diff.curvature_1pm, "1/m"),
    ):
        if spread:
            shown = ", ".join(f"{p} {spread[p]:.3g}" for p in ("p50", "p99", "max") if p in spread)
            out.append(f"{name:20} {shown} {unit} apart")
    for name, counts in (
        ("events only old", diff.only_old), ("events only new", diff.only_new),
        ("rungs", diff.rungs),
    ):  # fmt: skip
        out.append(f"{name:20} {_counts(counts)}")
    out += [f"worst: {summary(w)}" for w in diff.worst]
    return out


def _counts(of: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in of.items()) or "none"


def summary(w: TickDiff) -> str:
    """Return one different tick in one line."""
    parts = [f"frame {w.frame_id} ({w.mono_ns * 1e-9:.1f} s)"]
    if w.moved_m:
        parts.append(f"plan {w.moved_m[1]:.2f} m apart after 2 s")
    if w.accel_mps2 is not None:
        parts.append(f"acceleration {w.accel_mps2:+.2f} m/s2")
    if w.missed or w.extra:
        parts.append(f"only old: {_counts(w.missed)}; only new: {_counts(w.extra)}")
    if w.only_old or w.only_new:
        parts.append(f"events {list(w.only_old)} > {list(w.only_new)}")
    if w.old_rung != w.new_rung:
        parts.append(f"{w.old_rung} > {w.new_rung}")
    return ", ".join(parts)
