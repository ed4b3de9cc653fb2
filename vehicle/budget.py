"""The clock of a tick: who took how long, when inference must stop, what came too late."""

from collections.abc import Mapping
from typing import Final

from vehicle.clock import Clock
from vehicle.contracts.plan import Rung
from vehicle.contracts.telemetry import (
    STAGE_BUDGET_US,
    TICK_BUDGET_US,
    DeadlineMiss,
    StageTiming,
)

WAKE_MARGIN_US: Final = 1_000
"""Kept between the end of inference and what follows. The loop's thread wakes from its wait 13 us
later at the median, but what follows is rarely gone through without detections, and slower for it:
with 600 us the one late run of 10,000 frames left its command at 10.26 ms (`bench loop`)."""

AFTER_INFERENCE_US: Final = sum(STAGE_BUDGET_US[s] for s in ("track", "plan", "control"))


class Budget:
    """Times the stages of one tick after another.

    Args:
        enforce: cut inference off so that the command leaves in time. False (simulation, replay
            at full speed): nobody waits, nothing is cut off, and plans never depend on the clock.
        clock: of this process; inference deadlines are on its monotonic time.
    """

    def __init__(self, *, enforce: bool, clock: Clock) -> None:
        self.enforce = enforce
        self.clock = clock
        self._frame_id = 0
        self._release_ns = self._last_ns = 0
        self._stage_us: dict[str, int] = {}
        self._total_us = 0

    def begin(self, frame_id: int, release_mono_ns: int | None = None) -> None:
        """Start a tick that was due at `release_mono_ns` (None: now)."""
        self._last_ns = self.clock.mono_ns()
        self._release_ns = self._last_ns if release_mono_ns is None else release_mono_ns
        self._frame_id, self._stage_us, self._total_us = frame_id, {}, 0

    @property
    def inference_deadline_ns(self) -> int | None:
        """Return when inference must have stopped (monotonic); None when nothing is cut off."""
        if not self.enforce:
            return None
        left_us = TICK_BUDGET_US - AFTER_INFERENCE_US - WAKE_MARGIN_US
        return self._release_ns + left_us * 1_000

    @property
    def inference_room_us(self) -> float | None:
        """Return the time from now until inference must have stopped; None: no limit."""
        deadline_ns = self.inference_deadline_ns
        return None if deadline_ns is None else (deadline_ns - self.clock.mono_ns()) * 1e-3

    def mark(self, stage: str) -> None:
        """Charge the time since the last mark to `stage`."""
        now_ns = self.clock.mono_ns()
        self._charge(stage, (now_ns - self._last_ns) / 1_000)
        self._last_ns = now_ns

    def charge(self, stage_us: Mapping[str, float]) -> None:
        """Take over stages that a part has timed itself, and start counting afresh."""
        for stage, took_us in stage_us.items():
            self._charge("track" if stage == "decode" else stage, took_us)
        self._last_ns = self.clock.mono_ns()

    def _charge(self, stage: str, took_us: float) -> None:
        self._stage_us[stage] = self._stage_us.get(stage, 0) + round(took_us)

    def command_left(self) -> None:
        """Note that the command is out: the tick's latency ends here."""
        self._total_us = (self.clock.mono_ns() - self._release_ns) // 1_000

    def timing(self, rung: Rung, cancelled: bool) -> StageTiming:
        """Return what has been timed so far."""
        return StageTiming(
            frame_id=self._frame_id,
            release_mono_ns=self._release_ns,
            stage_us=dict(self._stage_us),
            total_us=self._total_us,
            rung=rung,
            cancelled=cancelled,
        )

    @staticmethod
    def misses(timing: StageTiming) -> tuple[DeadlineMiss, ...]:
        """Return the stages over their budget, and the tick when it was late."""
        limits = {**STAGE_BUDGET_US, "tick": TICK_BUDGET_US}
        took = {**timing.stage_us, "tick": timing.total_us}
        return tuple(
            DeadlineMiss(frame_id=timing.frame_id, stage=s, took_us=took[s], budget_us=limits[s])
            for s in limits
            if took.get(s, 0) > limits[s]
        )
