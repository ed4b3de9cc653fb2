"""A planner with nothing to guess: every road user and the true road, scored as PDM-Closed scores.

It knows all road users, who keep their velocity in its eyes, and the map; no envelope stands
behind it. It is the yardstick for what rules of this kind reach behind perfect perception, and
keeps its own roll-out (sim/rivals/pdm_rollout.py), so that work on the car's planner does not move
it.
"""

import math
from typing import Final

import numpy as np

from sim.rivals import pdm_rollout
from sim.rivals.pdm_rollout import CF, EP, LK, NC, SCORES, STEP_S, STEPS, TTC
from sim.rivals.peers import Act, NoGuidanceError, tell_red_lights
from sim.score.trace import World
from vehicle.config import VehicleConfig
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Plan, Trajectory
from vehicle.contracts.scene import TRACK
from vehicle.controller import Controller, lateral_gains
from vehicle.paths import resample, speed_profile

_SIDES_M: Final = (0.0, 1.0, -1.0)
_SPEEDS: Final = (0.2, 0.4, 0.6, 0.8, 1.0)
_BRAKE_MPS2: Final = 4.05
_BRAKE_WITHIN_S: Final = 2.0
_BRAKE_BELOW_MPS: Final = 5.0
_MAX_USERS: Final = 64


class Pdm:
    """Fifteen proposals, simulated and scored on the truth; the best is driven.

    Source: Dauner et al., "Parting with Misconceptions about Learning-based Vehicle Motion
        Planning" (2023): 3 lateral offsets x 5 IDM speeds; NC x DAC x DDC x (5 progress + 5 TTC +
        2 lane keeping + 2 comfort) / 14, lane keeping as NAVSIM v2 added it; emergency brake of
        4.05 m/s2 below 5 m/s.
    """

    truth = True

    def __init__(self, config: VehicleConfig | None = None) -> None:
        self.config = c = config or VehicleConfig()
        self._controller, self._gains = Controller(c), lateral_gains(c.wheelbase_m)
        self._body = np.array(
            [c.length_m - c.rear_overhang_m, c.width_m, c.max_curvature_1pm, c.max_jerk_mps3]
        )
        self._offsets = np.array([s for s in _SIDES_M for _ in _SPEEDS] + [0.0])
        self._brakes = np.array([0.0] * len(_SIDES_M) * len(_SPEEDS) + [_BRAKE_MPS2])
        self._names = [f"lateral{s:+.1f}/speed{p:.0%}" for s in _SIDES_M for p in _SPEEDS]

    def act(self, world: World, obs: Observation) -> Act:
        """Return the command that follows the best proposal.

        Raises:
            NoGuidanceError: the world says neither where the ego is nor where it should go.
        """
        obs = tell_red_lights(obs, world)
        ego, guidance = obs.ego, obs.guidance
        if ego is None or guidance is None:
            raise NoGuidanceError(f"frame {obs.frame.frame_id} has no ego motion or no guidance")
        states, scores, hits = self._propose(obs, ego, guidance)
        total = self._total(states[:-1], scores[:-1], world)
        best = int(np.argmax(total))
        name, score = self._names[best], float(total[best])
        if hits[best] <= _BRAKE_WITHIN_S and ego.speed_mps <= _BRAKE_BELOW_MPS:
            best, name = len(total), "emergency/stop"
        plan = Plan(
            frame_id=obs.frame.frame_id,
            mono_ns=obs.frame.mono_ns,
            trajectory=Trajectory(states=states[best]),
            rung="full",
            proposal=name,
            scores={**dict(zip(SCORES, map(float, scores[best]), strict=True)), "total": score},
        )
        command = self._controller.command(plan, ego, plan.frame_id, plan.mono_ns)
        return Act(command=command, plan=plan)

    def close(self) -> None:
        """Do nothing."""

    def _propose(
        self, obs: Observation, ego: EgoState, guidance: Guidance
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        c, limit = self.config, guidance.speed_limit_mps
        path = resample(np.ascontiguousarray(guidance.centreline_m, dtype=np.float64))
        profile = speed_profile(path, limit, 0.8 * c.max_lateral_mps2, 0.5 * c.comfort_brake_mps2)
        count = len(self._offsets)
        states, scores = np.zeros((count, STEPS, 7)), np.zeros((count, len(SCORES)))
        hits, tight = np.zeros(count), c.max_curvature_1pm
        start = np.array(
            [
                max(ego.speed_mps, 0.0),
                min(c.max_accel_mps2, max(-8.0, ego.accel_mps2)),
                min(tight, max(-tight, ego.curvature_1pm)),
            ]
        )
        targets = np.array([p * limit for _ in _SIDES_M for p in _SPEEDS] + [0.0])
        pdm_rollout.propose(
            states, scores, hits, start, path, profile, self._gains, _users(obs), self._offsets,
            targets, self._brakes, self._body, c.rear_overhang_m,
        )  # fmt: skip
        return states, scores, hits

    def _total(self, states: np.ndarray, scores: np.ndarray, world: World) -> np.ndarray:
        """Return the score of each proposal; progress counts against the best that is allowed."""
        allowed = scores[:, NC] * self._map_rules(states, world)
        top = float((scores[:, EP] * (allowed > 0)).max())
        progress = np.ones(len(scores)) if top <= 0.1 else np.minimum(1.0, scores[:, EP] / top)
        weighed = 5.0 * progress + 5.0 * scores[:, TTC] + 2.0 * (scores[:, LK] + scores[:, CF])
        return allowed * weighed / 14.0

    def _map_rules(self, states: np.ndarray, world: World) -> np.ndarray:
        """Return drivable area (0 or 1) times driving direction (0, 0.5 or 1) of each proposal."""
        c, body = self.config, world.snapshot().ego
        reach = c.length_m / 2 - c.rear_overhang_m
        cos0, sin0 = math.cos(body.yaw_rad), math.sin(body.yaw_rad)
        yaw = states[..., 3] + body.yaw_rad
        x, y = states[..., 1] - reach, states[..., 2]
        wx, wy = body.x_m + cos0 * x - sin0 * y, body.y_m + sin0 * x + cos0 * y
        middle = np.stack([wx + reach * np.cos(yaw), wy + reach * np.sin(yaw)], axis=-1)
        along = np.stack([np.cos(yaw), np.sin(yaw)], axis=-1) * c.length_m / 2
        across = np.stack([-np.sin(yaw), np.cos(yaw)], axis=-1) * c.width_m / 2
        corners = [middle + a * along + b * across for a in (1, -1) for b in (1, -1)]
        road = world.road
        on = np.stack([road.drivable(p.reshape(-1, 2)).reshape(wx.shape) for p in corners])
        good = on | ~on[:, :, :1]  # where a corner is off already, the plan is not to blame
        flat = middle.reshape(-1, 2)
        fine = (road.on_route_lane(flat) | road.in_junction(flat)).reshape(wx.shape)
        steps = np.hypot(*np.moveaxis(np.diff(middle, axis=1), -1, 0)) * ~fine[:, 1:]
        window = round(1.0 / STEP_S)
        sums = np.cumsum(np.pad(steps, ((0, 0), (window, 0))), axis=1)
        wrong = (sums[:, window:] - sums[:, :-window]).max(axis=1)
        direction = np.where(wrong < 2.0, 1.0, np.where(wrong < 6.0, 0.5, 0.0))
        return good.all(axis=(0, 2)) * direction


def _users(obs: Observation) -> np.ndarray:
    """Return the nearest road users [N, 7] in the order of the planner's kernels."""
    tracks = obs.traffic.tracks if obs.traffic is not None else np.zeros(0, TRACK)
    away = np.hypot(tracks["x_m"], tracks["y_m"])
    tracks = tracks[np.argsort(away, kind="stable")[:_MAX_USERS]]
    names = ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "vx_mps", "vy_mps")
    return np.column_stack([tracks[name].astype(np.float64) for name in names])
