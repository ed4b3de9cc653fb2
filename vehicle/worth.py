"""What a clip is worth to home: what sending and eviction rank by. Pure.

A value is a number in 0..10. Its whole part is the priority of the most urgent campaign that one
of the clip's events is of, so that no amount of anything outranks a campaign. The rest, below one,
says how much there is to learn from the clip among those of the same priority:

    rarity of an event    1 / (1 + clips this car has kept before with that trigger)
    strength of an event  r / (1 + r), r = how far beyond its threshold, as a share of the threshold
    worth of an event     half of each
    worth of a clip       1 - product of (1 - worth) over its triggers, the strongest event of each

Many different triggers in one clip add up and never reach one. The first clip of a trigger is
worth at least a half, the tenth of a weak one a twentieth. A random sample has no strength to speak
of: a control group that must survive a full disk needs a priority.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from vehicle.contracts.clip import TriggerEvent

MOST: Final = 0.999
"""Of the part below one."""


def value_of(events: Sequence[TriggerEvent], kept_before: Mapping[str, int]) -> float:
    """Return what a clip with these events is worth.

    Args:
        events: of the clip.
        kept_before: `key_of` an event -> clips this car has kept with that trigger.
    Returns:
        Value, 0..10: the whole part is the highest priority, the rest rarity and strength.
    """
    best: dict[str, float] = {}
    for event in events:
        key = key_of(event)
        worth = 0.5 / (1 + kept_before.get(key, 0)) + 0.5 * strength_ratio(event)
        best[key] = max(best.get(key, 0.0), worth)
    nothing_new = math.prod(1.0 - worth for worth in best.values())
    priority = max((event.priority for event in events), default=0)
    return round(priority + MOST * (1.0 - nothing_new), 6)


def key_of(event: TriggerEvent) -> str:
    """Return what counts as the same kind of event: a trigger of a campaign, in any version."""
    return f"{event.campaign_id}/{event.trigger}"


def strength_ratio(event: TriggerEvent) -> float:
    """Return how far beyond its threshold an event went, 0..1; 0 where that cannot be said."""
    beyond = abs(event.value - event.threshold)
    if not math.isfinite(beyond):
        return 0.0
    share = beyond / abs(event.threshold) if event.threshold else beyond
    return share / (1.0 + share)
