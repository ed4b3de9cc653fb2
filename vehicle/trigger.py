"""Campaigns evaluated on each tick: what is worth sending home."""

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.scene import Scene
from vehicle.trigger_code import Compiled

MAX_TRIGGERS: Final = 256
MAX_NODES: Final = 4_000
"""Of all campaigns of a car together: what one core answers in the stage's 300 us."""

HOUR_NS: Final = 3_600_000_000_000
_LONG_AGO: Final = -(1 << 62)


@dataclass(slots=True)
class _Hour:
    """The clips one campaign has begun in the last hour, and until when the last one goes."""

    campaign: Campaign
    begun_ns: deque[int] = field(default_factory=deque)
    until_ns: int = _LONG_AGO

    def allows(self, spec: TriggerSpec, now_ns: int) -> bool:
        """Take an event in; False where it would begin a clip too many."""
        if now_ns - round(spec.pre_s * 1e9) > self.until_ns:  # else its clip is open already
            while self.begun_ns and self.begun_ns[0] <= now_ns - HOUR_NS:
                self.begun_ns.popleft()
            if len(self.begun_ns) >= self.campaign.max_clips_per_hour:
                return False
            self.begun_ns.append(now_ns)
        self.until_ns = max(self.until_ns, now_ns + round(spec.post_s * 1e9))
        return True


@dataclass(slots=True)
class _Armed:
    """One trigger and where it stands: since when it holds, on which tick it last did."""

    spec: TriggerSpec
    hour: _Hour
    hold_ns: int
    debounce_ns: int
    quiet_ns: int
    since_ns: int = 0
    held_ns: int = _LONG_AGO
    held_tick: int = -2
    fired_ns: int = _LONG_AGO


class Triggers:
    """Fires the triggers of all campaigns of a car, each after its hold and with its quiet time.

    Depends on nothing but the signals it is given, so a replay fires where the car did.

    Args:
        campaigns: what to look out for. Expiry, cars, jurisdictions and upload budgets are for
            others to keep. Where all ask for more than a tick has time for, those of lower
            priority are left out, whole.
        rate_hz: ticks per second of the route.
    """

    def __init__(self, campaigns: Sequence[Campaign], rate_hz: float) -> None:
        kept, self.left_out = fitting(campaigns)
        self._armed = _armed(kept, round(1e9 / rate_hz))
        self._compiled = Compiled([armed.spec.pattern for armed in self._armed])
        self._tick, self._now_ns = 0, _LONG_AGO
        self.passed: Counter[str] = Counter()
        """Campaign -> events let pass because it had its clips of the hour."""

    def evaluate(
        self, values: dict[str, Any], scene: Scene | None, frame_id: int, now_ns: int
    ) -> tuple[TriggerEvent, ...]:
        """Return the events of this tick, in the order of campaigns and their triggers.

        Where time runs backwards, everything begins anew.

        Args:
            values: of `Signals.of`.
            scene: for triggers that look at single road users.
            frame_id, now_ns: of this tick.
        """
        if now_ns < self._now_ns:
            self._forget()
        self._tick, self._now_ns = self._tick + 1, now_ns
        holding = self._compiled.of(values, scene, now_ns)
        if not holding:
            return ()
        return tuple(
            _event(self._armed[number], value, threshold, frame_id, now_ns)
            for number, value, threshold in holding
            if self._fires(self._armed[number], now_ns)
        )

    def _forget(self) -> None:
        self._compiled.forget()
        for armed in self._armed:
            armed.held_ns, armed.held_tick, armed.fired_ns = _LONG_AGO, -2, _LONG_AGO
            armed.hour.until_ns = _LONG_AGO
            armed.hour.begun_ns.clear()

    def _fires(self, armed: _Armed, now_ns: int) -> bool:
        """Take note that a condition holds on this tick; return whether that is an event."""
        if armed.held_tick < self._tick - 1 and now_ns - armed.held_ns > armed.debounce_ns:
            armed.since_ns = now_ns
        armed.held_tick, armed.held_ns = self._tick, now_ns
        if now_ns - armed.since_ns < armed.hold_ns or now_ns - armed.fired_ns < armed.quiet_ns:
            return False
        if not armed.hour.allows(armed.spec, now_ns):
            self.passed[armed.hour.campaign.campaign_id] += 1
            return False
        armed.fired_ns = now_ns
        return True


def fitting(campaigns: Sequence[Campaign]) -> tuple[tuple[Campaign, ...], dict[str, str]]:
    """Return the campaigns a tick has time for, in their order, and why others are left out.

    Higher priorities are fitted in first, of equal ones those that come first.

    Returns:
        Those that fit, and "campaign NAME" -> reason of the others.
    """
    triggers, nodes, left_out = 0, 0, dict[str, str]()
    for campaign in sorted(campaigns, key=lambda c: -c.priority):
        count = len(campaign.triggers)
        size = sum(spec.pattern.nodes for spec in campaign.triggers)
        if triggers + count > MAX_TRIGGERS or nodes + size > MAX_NODES:
            left_out[f"campaign {campaign.campaign_id}"] = (
                f"left out: {count} triggers of {size} nodes beside {triggers} of {nodes}; a tick "
                f"has time for {MAX_TRIGGERS} of {MAX_NODES}"
            )
            continue
        triggers, nodes = triggers + count, nodes + size
    kept = (c for c in campaigns if f"campaign {c.campaign_id}" not in left_out)
    return tuple(kept), left_out


def _armed(campaigns: Sequence[Campaign], tick_ns: int) -> list[_Armed]:
    """Return all triggers; times are met to half a tick."""
    return [
        _Armed(
            spec=spec,
            hour=hour,
            hold_ns=round(spec.hold_s * 1e9) - tick_ns // 2,
            debounce_ns=round(spec.debounce_s * 1e9) + tick_ns * 3 // 2 if spec.debounce_s else 0,
            quiet_ns=round(spec.min_interval_s * 1e9) - tick_ns // 2,
        )
        for hour in map(_Hour, campaigns)
        for spec in hour.campaign.triggers
    ]


def _event(
    armed: _Armed, value: float, threshold: float, frame_id: int, now_ns: int
) -> TriggerEvent:
    if not (math.isfinite(value) and math.isfinite(threshold)):
        value = threshold = 1.0  # `not ttc_s < 2` holds where nothing is known
    return TriggerEvent(
        trigger=armed.spec.name,
        campaign_id=armed.hour.campaign.campaign_id,
        frame_id=frame_id,
        mono_ns=now_ns,
        value=float(value),
        threshold=float(threshold),
        priority=armed.hour.campaign.priority,
    )
