"""Everything one pass of the loop produced."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vehicle.contracts.advice import AdviceNote
from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import Scene
from vehicle.contracts.telemetry import DeadlineMiss, StageTiming


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tick:
    """One pass of the loop over one observation.

    Args:
        scene: None when no camera fed the network.
        plan, command: None when the route has no ego motion to plan from.
        events: triggers that fired on this tick.
        advice: what became of each piece of advice that was there.
        signals: what was computed for the triggers, by the names of vocabulary.py that are
            `logged`; one that is absent was unknown.
    """

    frame_id: int
    scene: Scene | None
    plan: Plan | None
    command: ControlCommand | None
    timing: StageTiming
    misses: tuple[DeadlineMiss, ...] = ()
    events: tuple[TriggerEvent, ...] = ()
    signals: Mapping[str, float] = field(default_factory=dict)
    advice: tuple[AdviceNote, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """One tick as a route or clip holds it, without pictures.

    Args:
        observation: what the tick was given; `frame.images` is empty.
        tick: what the loop made of it; None where nothing has driven the log yet.
        cameras: names of the cameras that have a picture of this frame in the file.
    """

    observation: Observation
    tick: Tick | None
    cameras: tuple[str, ...] = ()


class Sink(Protocol):
    """Whoever is told of every tick (recorder, route writer)."""

    def publish(self, obs: Observation, tick: Tick) -> None:
        """Take one tick; must not wait for anyone."""
        ...
