"""The frame loop: what follows what in one tick, and which parts drive."""

from dataclasses import replace
from pathlib import Path

from vehicle.budget import Budget
from vehicle.config import VehicleConfig
from vehicle.contracts.campaign import Campaign
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.frame import Observation, Rig
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import Scene
from vehicle.contracts.tick import Sink, Tick
from vehicle.controller import Controller
from vehicle.planner import Planner
from vehicle.safety import Envelope
from vehicle.sight import Sight
from vehicle.trigger import Triggers


class Drive:
    """One car's loop; `parts` says which parts drive, and why others do not."""

    def __init__(
        self, *, car_id: str, route_id: str, rig: Rig | None, bundle: Path | None,
        campaign: Campaign, budget: Budget, sinks: tuple[Sink, ...] = (), adapt: bool = False,
        config: VehicleConfig | None = None, rate_hz: float = 10.0,
    ) -> None:  # fmt: skip
        config = config or VehicleConfig()
        self.car_id, self.route_id, self._budget, self._sinks = car_id, route_id, budget, sinks
        self.sight = Sight.open(bundle, rig, adapt, config)
        self.parts = {"perception": self.sight.state, "tracker": self.sight.tracking}
        self._planner = Planner(config)
        self._previous: Plan | None = None
        self._controller, self._envelope = Controller(config), Envelope(config)
        # in a run that nobody waits for, no tick is late
        kept = tuple(t for t in campaign.triggers if budget.enforce or t.kind != "deadline_miss")
        self._triggers = Triggers(replace(campaign, triggers=kept), rate_hz, config)

    def tick(self, obs: Observation, release_mono_ns: int | None = None) -> Tick:
        """Take one observation through every stage; the command is out before anyone is told."""
        budget, sight, frame = self._budget, self.sight, obs.frame
        budget.begin(frame.frame_id, release_mono_ns)
        scene = sight.see(obs, budget)
        plan, command = self._act(obs, scene)
        budget.command_left()
        timing = budget.timing(sight.rung, sight.cancelled)
        events = self._triggers.evaluate(obs, scene, plan, command, timing)
        budget.mark("trigger")
        timing = budget.timing(sight.rung, sight.cancelled)
        tick = Tick(
            frame_id=frame.frame_id, scene=scene, plan=plan, command=command, timing=timing,
            misses=budget.misses(timing), events=events,
        )  # fmt: skip
        for sink in self._sinks:
            sink.publish(obs, tick)
        budget.mark("publish")
        return replace(tick, timing=budget.timing(sight.rung, sight.cancelled))

    def _act(
        self, obs: Observation, scene: Scene | None
    ) -> tuple[Plan | None, ControlCommand | None]:
        budget, ego = self._budget, obs.ego
        state = "drives" if ego is not None else f"no ego motion in frame {obs.frame.frame_id}"
        self.parts |= dict.fromkeys(("planner", "controller", "safety"), state)
        self.parts["tracker"] = self.sight.tracking
        if ego is None:
            self._previous = None
            return None, None
        self._previous = plan = self._planner.plan(scene, obs, self._previous, self.sight.rung)
        budget.mark("plan")
        command = self._controller.command(plan, ego, plan.frame_id, plan.mono_ns)
        command = self._envelope.limit(command, scene, ego)
        budget.mark("control")
        return plan, command

    def close(self) -> None:
        """Stop perception; sinks are closed by whoever opened them."""
        self.sight.close()
