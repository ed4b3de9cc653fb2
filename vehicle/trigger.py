"""Campaigns evaluated on each tick: what is worth sending home."""

import math

import numpy as np

from vehicle.config import VehicleConfig
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import Scene
from vehicle.contracts.telemetry import StageTiming
from vehicle.safety import first_contact, road_users


class Triggers:
    """Fires the triggers of one campaign, each after its hold and with its quiet time.

    Depends on nothing but the ticks it is given, so a replay fires where the car did; only
    deadline_miss looks at the wall clock, through the timing it is handed.

    Args:
        campaign: what to look out for. Its expiry and upload budget are the uplink's to keep.
        rate_hz: ticks per second of the route.
        config: the body, for the time to collision.
    """

    def __init__(
        self, campaign: Campaign, rate_hz: float, config: VehicleConfig | None = None
    ) -> None:
        self._campaign = campaign
        self._half_tick_s = 0.5 / rate_hz
        config = config or VehicleConfig()
        self._body = (
            config.length_m - config.rear_overhang_m,
            config.rear_overhang_m,
            config.width_m,
        )
        self._since: dict[str, int] = {}
        self._fired: dict[str, int] = {}
        self._late_ticks = 0
        first_contact(np.ones((1, 7)), 1.0, 0.0, *self._body)

    def evaluate(
        self,
        obs: Observation,
        scene: Scene | None,
        plan: Plan | None,
        command: ControlCommand | None,
        timing: StageTiming,
    ) -> tuple[TriggerEvent, ...]:
        """Return the events of this tick, in the campaign's order.

        Args:
            obs: measured ego motion.
            scene: tracks and uncertainty.
            plan, command: for triggers to come; none of the four looks at them.
            timing: whether the tick was late.
        """
        self._late_ticks = self._late_ticks + 1 if timing.missed else 0
        values: dict[str, float] = {}
        events = []
        for spec in self._campaign.triggers:
            if spec.kind not in values:
                values[spec.kind] = self._value(spec, obs.ego, scene)
            value = values[spec.kind]
            if self._fires(spec, value, obs.frame.mono_ns):
                events.append(
                    TriggerEvent(
                        trigger=spec.name,
                        campaign_id=self._campaign.campaign_id,
                        frame_id=obs.frame.frame_id,
                        mono_ns=obs.frame.mono_ns,
                        value=value,
                        threshold=spec.threshold,
                    )
                )
        return tuple(events)

    def _value(self, spec: TriggerSpec, ego: EgoState | None, scene: Scene | None) -> float:
        """Return what the trigger compares; NaN when it cannot be known on this tick."""
        if spec.kind == "deadline_miss":
            return float(self._late_ticks)
        if spec.kind == "hard_brake":
            return math.nan if ego is None else -ego.accel_mps2
        if spec.kind == "uncertainty":
            return math.nan if scene is None or not scene.fresh else float(scene.uncertainty_ratio)
        if ego is None or scene is None or ego.speed_mps < 0.5:
            return math.nan
        contact_s, _ = first_contact(
            road_users(scene), ego.speed_mps, ego.curvature_1pm, *self._body
        )
        return math.nan if contact_s > 1e8 else float(contact_s)

    def _fires(self, spec: TriggerSpec, value: float, mono_ns: int) -> bool:
        # NaN compares false both ways: what is not known does not fire
        holds = value <= spec.threshold if spec.kind == "ttc" else value >= spec.threshold
        if not holds:
            self._since.pop(spec.name, None)
            return False
        since = self._since.setdefault(spec.name, mono_ns)
        if (mono_ns - since) * 1e-9 < spec.hold_s - self._half_tick_s:
            return False
        last = self._fired.get(spec.name)
        if last is not None and (mono_ns - last) * 1e-9 < spec.min_interval_s - self._half_tick_s:
            return False
        self._fired[spec.name] = mono_ns
        return True
