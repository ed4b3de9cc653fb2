"""The degrade ladder: how well perception answers decides how boldly the car may plan.

It also decides what perception is asked for. A core on which a whole frame always comes too late
is asked for half the cameras a tick, and for all of them again once half of them has become so
cheap that all would fit.
"""

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

from vehicle.contracts.plan import RUNGS, Rung

Outcome = Literal["fresh", "partial", "half", "late", "failed"]
"""How perception answered a tick: all cameras; some cameras, the others being broken; half the
cameras, as it was asked; cut off in time; not at all."""

Ask = Literal["full", "half"]
"""What perception is asked for: every camera, or every second one, the others remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderConfig:
    """How long each rung may last.

    Args:
        coast_s: without an answer, planning on predicted tracks goes on this long.
        hold_s: then the last plan is held this long, before the minimal risk manoeuvre.
        recover_ticks: answers in a row before a better rung is taken again.
        probe_s: half the cameras at least this long before all are asked for again.
        probe_most_s: that wait doubles with each failure, up to this.
        settle_s: all cameras without a late answer this long, and failures are forgotten.
        fits_ratio: all cameras must be expected in this share of the time there is.
        doubt_ratio: where they are not, they are asked for after this many times the wait, lest a
            wrong expectation last for ever.
    """

    coast_s: float = 0.5
    hold_s: float = 0.5
    recover_ticks: int = 5
    probe_s: float = 0.5
    probe_most_s: float = 64.0
    settle_s: float = 10.0
    fits_ratio: float = 0.9
    doubt_ratio: float = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What this tick's answer cost; only where time is short, so never in a replay at full speed.

    Args:
        took_us: from the frame to its detections.
        room_us: what there was until perception would have been cut off.
    """

    took_us: float
    room_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Where the car stands on the ladder: a value, moved only by `step`.

    Args:
        rung: of this tick.
        ask: what perception is asked for on the next tick.
        halves: perception can refresh half the cameras; without, that rung is left out.
        full_ratio: what all cameras cost, in units of what half of them costs.
        bad_since_ns: first frame without an answer, None after an answer.
        good_ticks: answers in a row that deserve a better rung.
        half_us: what half the cameras has cost lately, up at once and down slowly.
        probe_ns: all cameras are not asked for before this.
        doubt_ns: nor before this where they are not expected to fit.
        wait_s: how long that wait was.
        full_since_ns: since when all cameras are asked for again; None: since ever.
    """

    rung: Rung = "full"
    ask: Ask = "full"
    halves: bool = False
    full_ratio: float = 2.0
    bad_since_ns: int | None = None
    good_ticks: int = 0
    half_us: float = math.nan
    probe_ns: int = 0
    doubt_ns: int = 0
    wait_s: float = 0.0
    full_since_ns: int | None = None


DEFAULT: Final = LadderConfig()
_FORGET_RATIO: Final = 0.1
"""Share by which a cost that has fallen is believed, per tick."""


def step(
    ladder: Ladder,
    outcome: Outcome,
    mono_ns: int,
    config: LadderConfig = DEFAULT,
    cost: Cost | None = None,
) -> Ladder:
    """Return the ladder after one tick.

    Down at once, up one rung at a time, after `recover_ticks` answers in a row each. A minimal
    risk manoeuvre is never left by itself: UN R157 5.5 wants a person to restart.

    Args:
        ladder: before.
        outcome: of perception on this tick.
        mono_ns: of the frame, so that a replay decides as the car did.
        cost: of an answer, where time is short.
    """
    if outcome in ("late", "failed"):
        moved = _down(ladder, mono_ns, config)
        if outcome == "late" and ladder.ask == "full" and ladder.halves:
            moved = _ask_half(moved, mono_ns, config)
    else:
        moved = _learnt(_up(ladder, outcome, config), ladder, outcome, cost)
        if outcome == "half":
            moved = _ask_full(_priced(moved, cost), mono_ns, config, cost)
    return replace(moved, rung="mrm") if ladder.rung == "mrm" else moved


def worse(a: Rung, b: Rung) -> Rung:
    """Return the rung that trusts less."""
    return max(a, b, key=RUNGS.index)


def _down(ladder: Ladder, mono_ns: int, config: LadderConfig) -> Ladder:
    since = mono_ns if ladder.bad_since_ns is None else ladder.bad_since_ns
    bad_s = (mono_ns - since) * 1e-9
    rung: Rung = "coast"
    if bad_s >= config.coast_s:
        rung = "hold_plan" if bad_s < config.coast_s + config.hold_s else "mrm"
    return replace(ladder, rung=worse(rung, ladder.rung), bad_since_ns=since, good_ticks=0)


def _up(ladder: Ladder, outcome: Outcome, config: LadderConfig) -> Ladder:
    wanted: Rung = "full" if outcome == "fresh" else "fewer_cameras"
    good = ladder.good_ticks + 1
    rung = ladder.rung
    if worse(wanted, rung) == wanted:
        steady = rung == wanted and outcome == "half"  # counts towards asking for all of them
        good, rung = (good if steady else 0), wanted
    elif rung == "hold_plan":
        rung = "coast"  # there is a scene again, so planning goes on, not yet trusting it fully
    elif good >= config.recover_ticks:
        between = rung == "coast" and (ladder.halves or outcome != "fresh")
        good, rung = 0, "fewer_cameras" if between else wanted
    return replace(ladder, rung=rung, bad_since_ns=None, good_ticks=good)


def _learnt(ladder: Ladder, before: Ladder, outcome: Outcome, cost: Cost | None) -> Ladder:
    """Take the price of all cameras beside half of them from the first look at all after some
    looks at half."""
    climbing = before.full_since_ns is not None and before.rung == "fewer_cameras"
    if outcome != "fresh" or cost is None or not climbing or math.isnan(before.half_us):
        return ladder
    return replace(ladder, full_ratio=max(1.0, cost.took_us / max(before.half_us, 1.0)))


def _ask_half(ladder: Ladder, mono_ns: int, config: LadderConfig) -> Ladder:
    """Ask for half the cameras; for all of them the later, the sooner that failed last time."""
    since = ladder.full_since_ns
    soon = since is not None and (mono_ns - since) * 1e-9 < config.settle_s
    wait_s = min(2.0 * ladder.wait_s, config.probe_most_s) if soon else config.probe_s
    doubt_s = min(config.doubt_ratio * wait_s, config.probe_most_s)
    return replace(
        ladder,
        ask="half",
        wait_s=wait_s,
        probe_ns=mono_ns + round(wait_s * 1e9),
        doubt_ns=mono_ns + round(doubt_s * 1e9),
        good_ticks=0,
    )


def _priced(ladder: Ladder, cost: Cost | None) -> Ladder:
    if cost is None:
        return ladder
    before, now = ladder.half_us, cost.took_us
    if not now >= before:  # also the first one: NaN is never exceeded
        now = now if math.isnan(before) else before + _FORGET_RATIO * (now - before)
    return replace(ladder, half_us=now)


def _ask_full(ladder: Ladder, mono_ns: int, config: LadderConfig, cost: Cost | None) -> Ladder:
    """Ask for all cameras where half of them answers steadily and all would fit, or in doubt."""
    ready = ladder.rung == "fewer_cameras" and ladder.good_ticks >= config.recover_ticks
    if not ready or mono_ns < ladder.probe_ns:
        return ladder
    fits = cost is None or ladder.full_ratio * ladder.half_us <= config.fits_ratio * cost.room_us
    if not fits and mono_ns < ladder.doubt_ns:
        return ladder
    return replace(ladder, ask="full", full_since_ns=mono_ns, good_ticks=0)
