"""The trigger stage of a tick: compute the signals, ask the triggers."""

from collections.abc import Callable, Sequence

from vehicle.config import VehicleConfig
from vehicle.contracts.campaign import Campaign
from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import Scene
from vehicle.contracts.telemetry import StageTiming
from vehicle.signals import Signals, logged
from vehicle.trigger import Triggers

Noticed = tuple[dict[str, float], tuple[TriggerEvent, ...]]
"""What goes into the log, and the events."""


class Lookout:
    """Signals and triggers of one drive; see both for their arguments and refusals."""

    def __init__(
        self, *, car_id: str, route_id: str, campaigns: Sequence[Campaign], rate_hz: float,
        config: VehicleConfig | None = None, timed: bool = True,
        shadow: Callable[[], tuple[float, int]] | None = None,
    ) -> None:  # fmt: skip
        known = [row for campaign in campaigns for row in campaign.known]
        self._signals = Signals(
            car_id=car_id, route_id=route_id, rate_hz=rate_hz, config=config, known=known,
            timed=timed, shadow=shadow,
        )  # fmt: skip
        self.triggers = Triggers(campaigns, rate_hz)

    def notice(
        self, obs: Observation, scene: Scene | None, plan: Plan | None,
        command: ControlCommand | None, timing: StageTiming,
    ) -> Noticed:  # fmt: skip
        """Return what one tick shows, and what of it is worth sending home."""
        values, frame = self._signals.of(obs, scene, plan, command, timing), obs.frame
        events = self.triggers.evaluate(values, scene, frame.frame_id, frame.mono_ns)
        return logged(values), events
