"""What the fleet asks cars to look out for."""

import math
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from vehicle.contracts.expression import Pattern, number_text, parse
from vehicle.contracts.wire import require

TriggerKind = Literal[
    "hard_brake", "harsh_steer", "ttc", "rss", "human_disagreement", "shadow_disagreement",
    "flicker", "uncertainty", "novelty", "deadline_miss", "rung", "mrm", "takeover", "bookmark",
    "random", "expression",
]  # fmt: skip

FAMILIES: Final[dict[str, str]] = {
    "hard_brake": "accel_mps2 <= -{threshold}",
    "harsh_steer": "abs(lateral_accel_mps2) >= {threshold}",
    "ttc": "ttc_s <= {threshold}",
    "rss": "rss_margin_m <= {threshold}",
    "human_disagreement": "human_gap_m >= {threshold}",
    "shadow_disagreement": "shadow_disagreement >= {threshold}",
    "flicker": "flicker_ratio >= {threshold}",
    "uncertainty": "uncertainty_ratio >= {threshold}",
    "novelty": "novelty >= {threshold}",
    "deadline_miss": "late_ticks >= {threshold}",
    "rung": "rung_index >= {threshold}",
    "mrm": "mrm >= 1",
    "takeover": "takeover >= 1",
    "bookmark": "bookmark >= 1",
    "random": "random_prob < {threshold}",
}
"""What the kinds of trigger are short for."""

MAX_TRIGGERS: Final = 64
MAX_KNOWN: Final = 256
MAX_EMBEDDING: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSpec:
    """One condition on the ticks, and how much of the drive around it to keep.

    Args:
        kind: one of FAMILIES, or "expression" for a condition of one's own.
        threshold: what the family compares against, in the unit of its signal; those without
            {threshold} in FAMILIES do not read it.
        when: the expression of kind "expression" (docs/reference/triggers.md); "" for families.
        hold_s: the condition must hold this long before it fires.
        debounce_s: the condition may fail for this long without a hold beginning anew.
        pre_s, post_s: kept before and after.
        min_interval_s: quiet time after firing.
    """

    SCHEMA: ClassVar[str] = "trigger/1"
    name: str
    kind: TriggerKind
    threshold: float = 0.0
    when: str = ""
    hold_s: float = 0.0
    debounce_s: float = 0.0
    pre_s: float = 3.0
    post_s: float = 2.0
    min_interval_s: float = 10.0

    def __post_init__(self) -> None:
        where = f"trigger {self.name!r}"
        require(0 < len(self.name) <= 64, f"{where}: the name has {len(self.name)} characters")
        require(0.0 <= self.pre_s <= 30.0, f"{where}: pre_s is {self.pre_s}, expected 0..30")
        require(0.0 <= self.post_s <= 30.0, f"{where}: post_s is {self.post_s}, expected 0..30")
        require(self.pre_s + self.post_s > 0.0, f"{where}: the clip would be empty")
        for name in ("hold_s", "debounce_s", "min_interval_s"):
            value = getattr(self, name)
            require(0.0 <= value <= 86_400.0, f"{where}: {name} is {value}, expected 0..86400")
        require(math.isfinite(self.threshold), f"{where}: threshold is {self.threshold}")
        own = self.kind == "expression"
        require(
            own == bool(self.when),
            f"{where}: `when` is {self.when[:80]!r}, expected "
            + ("an expression" if own else f"none: {self.kind} says it already"),
        )
        parse(self.expression)

    @property
    def expression(self) -> str:
        """Return the text of the condition."""
        threshold = number_text(self.threshold)
        return self.when or FAMILIES[self.kind].replace("{threshold}", threshold)

    @property
    def pattern(self) -> Pattern:
        """Return the tree of the condition."""
        return parse(self.expression)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadBudget:
    """How much a campaign may send per car in 24 hours; summaries do not count."""

    SCHEMA: ClassVar[str] = "uploadbudget/1"
    max_clips: int = 100
    max_bytes: int = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A set of triggers for some cars.

    Args:
        campaign_id: a plain name; a newer version replaces an older one of the same name.
        cars: names, or "*" for all.
        expires_utc_ns: from then on no car drives with it; None: never.
        version: counts up with every change; a car refuses to go back.
        priority: 0..9; what higher ones noticed is kept and sent first.
        max_clips_per_hour: beyond it the car lets its triggers pass.
        full: send the whole clip after its summary, or only when home asks for it.
        known: embeddings of frames of which home has enough; `novelty` is measured from them.
        jurisdictions: where it holds (ISO 3166, "ZZ" in simulation), or "*" for everywhere.
    """

    SCHEMA: ClassVar[str] = "campaign/1"
    campaign_id: str
    cars: tuple[str, ...] = ("*",)
    triggers: tuple[TriggerSpec, ...]
    budget: UploadBudget = UploadBudget()
    expires_utc_ns: int | None = None
    version: int = 1
    priority: int = 0
    max_clips_per_hour: float = 60.0
    full: Literal["always", "on_request"] = "always"
    known: tuple[tuple[float, ...], ...] = ()
    jurisdictions: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        where = f"campaign {self.campaign_id!r}"
        names = [t.name for t in self.triggers]
        require(len(set(names)) == len(names), f"{where}: names repeat")
        require(len(names) <= MAX_TRIGGERS, f"{where}: {len(names)} triggers, over {MAX_TRIGGERS}")
        require(self.version >= 1, f"{where}: version is {self.version}, expected 1 or more")
        require(0 <= self.priority <= 9, f"{where}: priority is {self.priority}, expected 0..9")
        rate = self.max_clips_per_hour
        require(0.0 < rate <= 3_600.0, f"{where}: max_clips_per_hour is {rate}, expected 0..3600")
        require(len(self.jurisdictions) > 0, f"{where}: no jurisdiction; '*' means everywhere")
        self._check_known(where)

    def _check_known(self, where: str) -> None:
        require(len(self.known) <= MAX_KNOWN, f"{where}: {len(self.known)} known, over {MAX_KNOWN}")
        sizes = {len(row) for row in self.known}
        require(len(sizes) <= 1, f"{where}: known embeddings have sizes {sorted(sizes)}")
        require(
            all(0 < size <= MAX_EMBEDDING for size in sizes), f"{where}: a known embedding is empty"
        )
        finite = all(math.isfinite(x) for row in self.known for x in row)
        require(finite and all(any(row) for row in self.known), f"{where}: known is not finite")


DEFAULT_CAMPAIGN = Campaign(
    campaign_id="default",
    triggers=(
        TriggerSpec(name="hard_brake", kind="hard_brake", threshold=3.5),
        TriggerSpec(name="ttc", kind="ttc", threshold=1.5),
        TriggerSpec(name="uncertainty", kind="uncertainty", threshold=0.6, hold_s=0.3),
        TriggerSpec(name="deadline_miss", kind="deadline_miss", threshold=1.0),
        TriggerSpec(name="mrm", kind="mrm"),
        TriggerSpec(name="takeover", kind="takeover"),
        TriggerSpec(name="bookmark", kind="bookmark"),
    ),
)
"""What a car looks out for until a campaign tells it otherwise."""
