"""From a scene to a command, whatever happens: planner, controller and safety envelope.

Each of them can fail, on a value that nobody thought of. Then the last plan is held, after half a
second the car stops, and a command leaves all the same; what failed is named and counted.
"""

import math
from dataclasses import replace
from typing import Final

import numpy as np

from vehicle.budget import Budget
from vehicle.config import VehicleConfig
from vehicle.contracts.advice import AdviceNote
from vehicle.contracts.ego import ControlCommand, EgoState, Guidance
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.plan import RUNGS, Plan, Rung, Trajectory
from vehicle.contracts.scene import BEV, TRACK, Occupancy, Scene
from vehicle.contracts.telemetry import Health
from vehicle.controller import Controller
from vehicle.fallback import Ladder, LadderConfig, Outcome, step, worse
from vehicle.geometry import to_ego_2d, to_local_2d
from vehicle.offboard import Offboard
from vehicle.planner import Planner
from vehicle.safety import Envelope

LADDER: Final = LadderConfig(coast_s=0.0)
"""Without a plan there is nothing to coast on: hold the last one at once, then stop."""

MRM_BRAKE_MPS2: Final = 4.0
"""UN R157 5.5: a minimal risk manoeuvre brakes with at most this."""

STEP_S: Final = 0.1
STEPS: Final = 41
LEAST_S: Final = 1.0
"""A held plan that ends sooner is no plan any more."""


class Pilot:
    """Answers every tick that has ego motion with a plan and a command.

    Args:
        config: the body and its limits.
        offboard: where advice lies, if any is asked for.
    """

    def __init__(self, config: VehicleConfig, offboard: Offboard | None = None) -> None:
        self._offboard = offboard
        self.planner = Planner(config)
        self.controller, self.envelope = Controller(config), Envelope(config)
        self._brake_mps2 = min(config.mrm_brake_mps2, MRM_BRAKE_MPS2)
        self._ladder = Ladder()
        self._previous: tuple[Plan, EgoState] | None = None
        self._curvature_1pm = 0.0
        self.health = Health(part="pilot", mono_ns=0, ok=True, counters={"answered": 0})
        _rehearse(config)

    def restart(self) -> None:
        """Leave a minimal risk manoeuvre: a person says that the car may go on."""
        self._ladder = Ladder()

    @property
    def advice(self) -> tuple[AdviceNote, ...]:
        """Return what the last tick did with what advice."""
        return () if self._offboard is None else self._offboard.notes

    def joined(self, seeing: Health) -> Health:
        """Return the loop's own health: this, and that of what sees."""
        words = "; ".join(h.detail for h in (seeing, self.health) if h.detail)
        failed = {n: c for n, c in self.health.counters.items() if n != "answered"}
        heard = {} if self._offboard is None else self._offboard.counters
        return replace(
            seeing,
            ok=seeing.ok and self.health.ok,
            detail=words,
            counters={**seeing.counters, **failed, **heard},
        )

    def act(
        self, scene: Scene | None, obs: Observation, rung: Rung, budget: Budget
    ) -> tuple[Plan | None, ControlCommand | None]:
        """Return plan and command of this tick; neither without ego motion to plan from.

        Args:
            scene: what is known of the world.
            obs: ego motion and guidance.
            rung: what perception allows; a pilot that failed allows less (see the plan's rung).
            budget: charged with "plan" and "control".
        """
        ego = obs.ego
        if ego is None:
            self._previous = None
            return None, None
        faults: list[str] = []
        plan = self._plan(scene, obs, ego, rung, faults)
        budget.mark("plan")
        command = self._command(plan, scene, ego, faults)
        if self._offboard is not None:  # the car's own command stands; advice may make it brake
            command = self._offboard.heed(command, scene, ego, self.planner.course(plan))
        budget.mark("control")
        self._note(faults, plan)
        self._previous, self._curvature_1pm = (plan, ego), command.curvature_1pm
        self.controller.sent(command)
        return plan, command

    def _plan(
        self, scene: Scene | None, obs: Observation, ego: EgoState, rung: Rung, faults: list[str]
    ) -> Plan:
        before = self._previous[0] if self._previous is not None else None
        try:
            return self.planner.plan(scene, obs, before, worse(rung, self._ladder.rung))
        except Exception as error:  # whatever a scene does to the planner, the car goes on
            faults.append(f"planner: {type(error).__name__}: {error}")
        rung = worse(rung, step(self._ladder, "failed", obs.frame.mono_ns, LADDER).rung)
        states = None if rung == "mrm" else self._held(ego)
        if states is None:
            name: str = "mrm/straight-stop"
            states, rung = stop_states(ego, self._brake_mps2), "mrm"
        else:
            assert before is not None
            name = "hold/" + before.proposal.removeprefix("hold/")
        return Plan(
            frame_id=obs.frame.frame_id,
            mono_ns=obs.frame.mono_ns,
            trajectory=Trajectory(states=states),
            rung=rung,
            proposal=name,
            scores={},
        )

    def _command(
        self, plan: Plan, scene: Scene | None, ego: EgoState, faults: list[str]
    ) -> ControlCommand:
        """Return the safe command that follows a plan; where that fails, brake as steered."""
        try:
            command = self.controller.command(plan, ego, plan.frame_id, plan.mono_ns)
        except Exception as error:
            faults.append(f"controller: {type(error).__name__}: {error}")
            command = self._braking(plan, "controller_fault")
        try:
            return self.envelope.limit(command, scene, ego, self.planner.course(plan))
        except Exception as error:
            faults.append(f"safety: {type(error).__name__}: {error}")
            return self._braking(plan, "envelope_fault")

    def _braking(self, plan: Plan, rule: str) -> ControlCommand:
        return ControlCommand(
            frame_id=plan.frame_id,
            mono_ns=plan.mono_ns,
            accel_mps2=-self._brake_mps2,
            curvature_1pm=self._curvature_1pm,
            hazard_lights=True,
            limited_by=(rule,),
        )

    def _held(self, ego: EgoState) -> np.ndarray | None:
        """Return the states of the last plan as seen from here; None when too little is left."""
        if self._previous is None:
            return None
        plan, before = self._previous
        states = plan.trajectory.states.copy()
        states[:, 1:3] = to_ego_2d(ego, to_local_2d(before, states[:, 1:3]))
        states[:, 3] += before.yaw_rad - ego.yaw_rad
        states[:, 3] = (states[:, 3] + math.pi) % (2.0 * math.pi) - math.pi
        states[:, 0] -= max(0.0, (ego.mono_ns - before.mono_ns) * 1e-9)
        states = states[states[:, 0] > -STEP_S]
        usable = len(states) >= 2 and states[-1, 0] >= LEAST_S and np.isfinite(states).all()
        return states if usable else None

    def _note(self, faults: list[str], plan: Plan) -> None:
        outcome: Outcome = "failed" if faults else "fresh"
        self._ladder = step(self._ladder, outcome, plan.mono_ns, LADDER)
        if plan.rung == "mrm" and faults:
            self._ladder = replace(self._ladder, rung="mrm")
        counters = dict(self.health.counters)
        for word in ("answered", *(f.split(":")[0] for f in faults)):
            counters[word] = counters.get(word, 0) + 1
        self.health = replace(
            self.health,
            mono_ns=plan.mono_ns,
            ok=not faults,
            detail="; ".join(faults) or self.health.detail,
            counters=counters,
        )


def _rehearse(config: VehicleConfig) -> None:
    """Go through every rung once, so that none is compiled or loaded when it is needed."""
    tracks = np.zeros(1, TRACK)
    tracks["x_m"], tracks["length_m"], tracks["width_m"] = 40.0, 4.5, 1.8
    level = np.full((BEV.nx, BEV.ny), 255, np.uint8)
    scene = Scene(
        frame_id=0,
        mono_ns=0,
        tracks=tracks,
        occupancy=Occupancy(grid=BEV, drivable=level, lane=level * 0, occupied=level * 0),
        embedding=np.zeros(0, np.float32),
        uncertainty_ratio=0.0,
        fresh=True,
    )
    ahead = np.column_stack([np.arange(-10.0, 100.0), np.zeros(110)])
    ego = EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=5.0)
    planner, controller, envelope = Planner(config), Controller(config), Envelope(config)
    for guidance in (Guidance(centreline_m=ahead, speed_limit_mps=10.0), None):
        plan: Plan | None = None
        for rung in (*RUNGS, "full"):
            for seen in (scene, None):
                obs = Observation(frame=FrameSet(frame_id=0, mono_ns=0), ego=ego, guidance=guidance)
                plan = planner.plan(seen, obs, plan, rung)
                command = controller.command(plan, ego, 0, 0)
                envelope.limit(command, seen, ego, planner.course(plan))


def stop_states(ego: EgoState, brake_mps2: float) -> np.ndarray:
    """Return states [STEPS, 7] of a stop on the circle the ego is on; needs no planner.

    Source: UN R157 5.5: slow down in lane with at most 4 m/s2 to standstill.
    """
    speed, curvature = max(ego.speed_mps, 0.0), min(0.2, max(-0.2, ego.curvature_1pm))
    t_s = np.arange(STEPS) * STEP_S
    driven_s = np.minimum(t_s, speed / brake_mps2)
    way_m = speed * driven_s - 0.5 * brake_mps2 * driven_s**2
    yaw = curvature * way_m
    states = np.zeros((STEPS, 7))
    states[:, 0], states[:, 3], states[:, 6] = t_s, yaw, curvature
    states[:, 1] = way_m * np.sinc(yaw / math.pi)
    states[:, 2] = way_m * np.sinc(yaw / (2.0 * math.pi)) * np.sin(yaw / 2.0)
    states[:, 4] = speed - brake_mps2 * driven_s
    states[:, 5] = np.where(states[:, 4] > 0.0, -brake_mps2, 0.0)
    return states
