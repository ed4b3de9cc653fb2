"""What the fleet asks cars to look out for."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from vehicle.contracts.wire import require

TriggerKind = Literal["hard_brake", "ttc", "uncertainty", "deadline_miss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSpec:
    """One condition on a tick, and how much of the drive around it to keep.

    Args:
        kind: hard_brake (deceleration >= threshold, m/s2), ttc (time to collision <= threshold, s),
            uncertainty (Scene.uncertainty_ratio >= threshold), deadline_miss (ticks late >= it).
        hold_s: the condition must hold this long before it fires.
        pre_s, post_s: kept before and after.
        min_interval_s: quiet time after firing.
    """

    SCHEMA: ClassVar[str] = "trigger/1"
    name: str
    kind: TriggerKind
    threshold: float
    hold_s: float = 0.0
    pre_s: float = 3.0
    post_s: float = 2.0
    min_interval_s: float = 10.0

    def __post_init__(self) -> None:
        where = f"trigger {self.name!r}"
        require(0.0 <= self.pre_s <= 30.0, f"{where}: pre_s is {self.pre_s}, expected 0..30")
        require(0.0 <= self.post_s <= 30.0, f"{where}: post_s is {self.post_s}, expected 0..30")
        require(self.pre_s + self.post_s > 0.0, f"{where}: the clip would be empty")
        require(self.min_interval_s >= 0.0, f"{where}: min_interval_s is negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadBudget:
    """How much a campaign may send per car."""

    SCHEMA: ClassVar[str] = "uploadbudget/1"
    max_clips: int = 100
    max_bytes: int = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A set of triggers for some cars."""

    SCHEMA: ClassVar[str] = "campaign/1"
    campaign_id: str
    cars: tuple[str, ...] = ("*",)
    triggers: tuple[TriggerSpec, ...]
    budget: UploadBudget = UploadBudget()
    expires_utc_ns: int | None = None

    def __post_init__(self) -> None:
        names = [t.name for t in self.triggers]
        require(len(set(names)) == len(names), f"campaign {self.campaign_id!r}: names repeat")


DEFAULT_CAMPAIGN = Campaign(
    campaign_id="default",
    triggers=(
        TriggerSpec(name="hard_brake", kind="hard_brake", threshold=3.5),
        TriggerSpec(name="ttc", kind="ttc", threshold=1.5),
        TriggerSpec(name="uncertainty", kind="uncertainty", threshold=0.6, hold_s=0.3),
        TriggerSpec(name="deadline_miss", kind="deadline_miss", threshold=1.0),
    ),
)
"""What a car looks out for until a campaign tells it otherwise."""
