"""How a tick went: stage timings, missed deadlines, health of the parts."""

from dataclasses import dataclass
from typing import ClassVar, Final

from vehicle.contracts.plan import Rung

STAGE_BUDGET_US: Final = {
    "preprocess": 800,
    "inference": 5_500,
    "track": 400,
    "plan": 1_500,
    "control": 200,
    "trigger": 300,
    "publish": 300,
}
"""Stages of a tick in order, with their budgets (house.md section 4); 1,000 us margin on top."""

TICK_BUDGET_US: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTiming:
    """Microseconds of one tick, counted from the scheduled release of its frame.

    Args:
        release_mono_ns: when the frame was due (monotonic clock of this process).
        stage_us: stage -> microseconds; a stage that did not run is absent.
        total_us: release to command (triggers and publishing come after the command).
        cancelled: inference was cut off.
    """

    SCHEMA: ClassVar[str] = "timing/1"
    frame_id: int
    release_mono_ns: int
    stage_us: dict[str, int]
    total_us: int
    rung: Rung
    cancelled: bool = False

    @property
    def missed(self) -> bool:
        """Return whether the command left after the deadline."""
        return self.total_us > TICK_BUDGET_US


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineMiss:
    """A stage over its budget, or a tick over its deadline (stage "tick")."""

    SCHEMA: ClassVar[str] = "miss/1"
    frame_id: int
    stage: str
    took_us: int
    budget_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """State of one part: `ok`, or what is wrong in words; counters only grow, but for what waits
    (`left`, `backlog_frames`)."""

    SCHEMA: ClassVar[str] = "health/1"
    part: str
    mono_ns: int
    ok: bool
    detail: str = ""
    counters: dict[str, int]
