"""The frame loop: what follows what in one tick, and which parts drive."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vehicle.budget import Budget
from vehicle.config import VehicleConfig
from vehicle.contracts.campaign import Campaign
from vehicle.contracts.frame import Observation, Rig
from vehicle.contracts.tick import Sink, Tick
from vehicle.engine_choice import EngineChoice
from vehicle.lookout import Lookout
from vehicle.offboard import Offboard
from vehicle.pilot import Pilot
from vehicle.sight import Sight


class Drive:
    """One car's loop; `parts` says which parts drive, and why others do not."""

    def __init__(
        self, *, car_id: str, route_id: str, rig: Rig | None, bundle: Path | None,
        campaigns: Sequence[Campaign], budget: Budget, sinks: tuple[Sink, ...] = (),
        adapt: bool = False, config: VehicleConfig | None = None, rate_hz: float = 10.0,
        engine: EngineChoice | None = None, shadow: Callable[[], tuple[float, int]] | None = None,
        offboard: Offboard | None = None,
    ) -> None:  # fmt: skip
        config = config or VehicleConfig()
        self.car_id, self.route_id, self._budget, self._sinks = car_id, route_id, budget, sinks
        self.sight = Sight.open(bundle, rig, adapt, config, engine)
        self.pilot = Pilot(config, offboard)
        self.parts = {"perception": self.sight.state, "tracker": self.sight.tracking}
        self._lookout = Lookout(
            car_id=car_id, route_id=route_id, campaigns=campaigns, rate_hz=rate_hz, config=config,
            timed=budget.enforce, shadow=shadow)  # fmt: skip
        self.parts |= self._lookout.triggers.left_out

    def tick(self, obs: Observation, release_mono_ns: int | None = None) -> Tick:
        """Take one observation through every stage; the command is out before anyone is told."""
        budget, sight, frame = self._budget, self.sight, obs.frame
        budget.begin(frame.frame_id, release_mono_ns)
        scene = sight.see(obs, budget)
        plan, command = self.pilot.act(scene, obs, sight.rung, budget)
        budget.command_left()
        rung = plan.rung if plan is not None else sight.rung
        timing = budget.timing(rung, sight.cancelled)
        noticed = self._try("trigger", self._lookout.notice, obs, scene, plan, command, timing)
        signals, events = noticed or ({}, ())
        budget.mark("trigger")
        timing = budget.timing(rung, sight.cancelled)
        tick = Tick(
            frame_id=frame.frame_id, scene=scene, plan=plan, command=command, timing=timing,
            misses=budget.misses(timing), events=events, signals=signals, advice=self.pilot.advice,
        )  # fmt: skip
        for sink in self._sinks:
            self._try(type(sink).__name__, sink.publish, obs, tick)
        budget.mark("publish")
        self._note(obs)
        return replace(tick, timing=budget.timing(rung, sight.cancelled))

    def _try(self, part: str, act: Callable[..., Any], *what: Any) -> Any:
        """Do what is no part of the command; on the road a fault of it is named, not raised."""
        try:
            return act(*what)
        except Exception as error:
            if not self._budget.enforce:
                raise
            self.parts[part] = f"{type(error).__name__}: {error}"

    def _note(self, obs: Observation) -> None:
        state = "drives" if obs.ego is not None else f"no ego motion in frame {obs.frame.frame_id}"
        self.parts |= dict.fromkeys(("planner", "controller", "safety"), state)
        self.parts["tracker"] = self.sight.tracking

    def close(self) -> None:
        """Stop perception; sinks are closed by whoever opened them."""
        self.sight.close()
