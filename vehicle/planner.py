"""Scene and guidance in, one plan out: fifteen proposals rolled out and scored by rules."""

import math
from typing import Final

import numpy as np

from vehicle import proposals
from vehicle.config import VehicleConfig
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Plan, Rung, Trajectory
from vehicle.contracts.scene import Scene
from vehicle.contracts.wire import ContractError
from vehicle.controller import lateral_gains
from vehicle.geometry import to_ego_2d, to_local_2d
from vehicle.paths import arc, resample, speed_profile
from vehicle.proposals import CF, DAC, EP, LK, NC, SCORES, STEPS, TTC

SPEED_PERCENT: Final = (20, 40, 60, 80, 100)
WEIGHTS: Final = {EP: 5.0, TTC: 5.0, CF: 2.0, LK: 2.0}
"""Weights of the sub-scores that are summed; NC and DAC multiply (after PDMS, NAVSIM v1)."""

MAX_USERS: Final = 64
YOUNG_TICKS: Final = 3
"""Tracks younger than this have no velocity worth an emergency."""

MRM_BRAKE_MPS2: Final = 4.0
"""UN R157 5.5: largest deceleration a minimal risk manoeuvre aims at."""

_EMERGENCY_RATIO: Final = 0.75
_KEEP_SIDE: Final = 0.02
_NO_GRID: Final = np.zeros((0, 0), np.uint8)


class NoEgoMotionError(ContractError):
    """A plan was asked for without the vehicle's own motion."""


class Planner:
    """Chooses how to go on; remembers the last trusted path for when it is lost."""

    def __init__(self, config: VehicleConfig) -> None:
        self._config = config
        self._gains = lateral_gains(config.wheelbase_m)
        self._rear = config.rear_overhang_m
        self._body = np.array(
            [
                config.length_m - config.rear_overhang_m,
                config.width_m,
                config.max_curvature_1pm,
                config.max_jerk_mps3,
            ]
        )
        self._trusted: np.ndarray | None = None
        self._last: tuple[int, EgoState] | None = None
        self._warm_up()

    def plan(
        self, scene: Scene | None, obs: Observation, previous: Plan | None, rung: Rung
    ) -> Plan:
        """Return the plan from where the ego is now.

        Args:
            scene: road users and drivable space; None plans on guidance alone.
            obs: ego motion (needed) and guidance; without guidance the present curve is kept.
            previous: the plan of the tick before, None at the start.
            rung: "hold_plan" moves `previous` along, "mrm" stops; any other plans afresh.
        Raises:
            NoEgoMotionError: `obs.ego` is None.
        Source: proposals and scores after PDM-Closed (Dauner et al., "Parting with
            Misconceptions about Learning-based Vehicle Motion Planning", 2023).
        """
        ego = obs.ego
        if ego is None:
            raise NoEgoMotionError(f"frame {obs.frame.frame_id}: ego is None, expected its motion")
        points, lane = self._path_points(obs.guidance, ego)
        if rung == "mrm":
            made = self._stop(points, ego, "mrm/in-lane-stop" if lane else "mrm/straight-stop")
        elif rung == "hold_plan" and (held := self._held(previous, ego)) is not None:
            made = held
        else:
            made = self._choose(scene, obs.guidance, points, ego, previous, rung)
        states, proposal, scores = made
        self._last = (obs.frame.frame_id, ego)
        return Plan(
            frame_id=obs.frame.frame_id,
            mono_ns=obs.frame.mono_ns,
            trajectory=Trajectory(states=states),
            rung=rung,
            proposal=proposal,
            scores=scores,
        )

    def _path_points(self, guidance: Guidance | None, ego: EgoState) -> tuple[np.ndarray, bool]:
        if guidance is not None:
            points = np.ascontiguousarray(guidance.centreline_m, dtype=np.float64)
            self._trusted = to_local_2d(ego, points)
            return points, True
        if self._trusted is not None:
            return np.ascontiguousarray(to_ego_2d(ego, self._trusted)), False
        return arc(float(np.clip(ego.curvature_1pm, -0.1, 0.1))), False

    def _choose(
        self,
        scene: Scene | None,
        guidance: Guidance | None,
        points: np.ndarray,
        ego: EgoState,
        previous: Plan | None,
        rung: Rung,
    ) -> tuple[np.ndarray, str, dict[str, float]]:
        config = self._config
        limit = max(ego.speed_mps, 2.0) if guidance is None else guidance.speed_limit_mps
        if rung == "coast":  # what is only predicted is no reason to go faster
            limit = min(limit, max(ego.speed_mps, 2.0))
        width = 3.5 if guidance is None else guidance.lane_width_m
        side = min(1.0, max(0.2, 0.5 * (width - config.width_m) + 0.2))
        path = resample(points)
        profile = speed_profile(
            path, limit, 0.8 * config.max_lateral_mps2, 0.5 * config.comfort_brake_mps2
        )
        sides = (0.0, side, -side)
        offsets = np.array([s for s in sides for _ in SPEED_PERCENT] + [0.0, 0.0])
        targets = np.array([p / 100.0 * limit for _ in sides for p in SPEED_PERCENT] + [0.0, 0.0])
        brakes = np.zeros(offsets.size)
        brakes[-2:] = config.comfort_brake_mps2, _EMERGENCY_RATIO * config.max_brake_mps2
        names = [f"lateral{s:+.1f}/speed{p}" for s in sides for p in SPEED_PERCENT]
        names += ["stop/comfort", "emergency/stop"]
        users, young = _users(scene)
        states, scores, hits = self._roll(
            path, profile, ego, users, offsets, targets, brakes, scene
        )
        best, total = _pick(scores, hits, names, previous)
        if names[best] == "emergency/stop" and young.any():
            # a track of a tick or two is a reason to brake, not to slam the brakes
            old = self._roll(path, profile, ego, users[~young], offsets, targets, brakes, scene)
            if names[_pick(old[1], old[2], names, previous)[0]] != "emergency/stop":
                best, total = best - 1, 0.0
        return states[best], names[best], _named(scores[best], total)

    def _roll(
        self,
        path: np.ndarray,
        profile: np.ndarray,
        ego: EgoState,
        users: np.ndarray,
        offsets: np.ndarray,
        targets: np.ndarray,
        brakes: np.ndarray,
        scene: Scene | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = offsets.size
        states, scores = np.zeros((count, STEPS, 7)), np.zeros((count, len(SCORES)))
        hits = np.zeros(count)
        tight = self._config.max_curvature_1pm
        start = np.array(
            [
                max(ego.speed_mps, 0.0),
                min(self._config.max_accel_mps2, max(-8.0, ego.accel_mps2)),
                min(tight, max(-tight, ego.curvature_1pm)),
            ]
        )
        grid, corner = _NO_GRID, np.zeros(3)
        if scene is not None and scene.occupancy is not None:
            g = scene.occupancy.grid
            grid = np.ascontiguousarray(scene.occupancy.drivable)
            corner[:] = g.x_min_m, g.y_min_m, g.cell_m
        proposals.propose(
            states, scores, hits, start, path, profile, self._gains, users, offsets, targets,
            brakes, self._body, self._rear, grid, corner,
        )  # fmt: skip
        return states, scores, hits

    def _stop(
        self, points: np.ndarray, ego: EgoState, name: str
    ) -> tuple[np.ndarray, str, dict[str, float]]:
        brake = np.array([min(self._config.mrm_brake_mps2, MRM_BRAKE_MPS2)])
        path = resample(points)
        zero = np.zeros(1)
        users = np.zeros((0, 7))
        states, scores, _ = self._roll(path, path[:, 0], ego, users, zero, zero, brake, None)
        return states[0], name, {SCORES[CF]: float(scores[0, CF]), SCORES[LK]: float(scores[0, LK])}

    def _held(
        self, previous: Plan | None, ego: EgoState
    ) -> tuple[np.ndarray, str, dict[str, float]] | None:
        """Return the previous plan as seen from here, None when nothing of it is left."""
        if previous is None or self._last is None or self._last[0] != previous.frame_id:
            return None
        before = self._last[1]
        dt = (ego.mono_ns - before.mono_ns) * 1e-9
        states = previous.trajectory.states.copy()
        states[:, 1:3] = to_ego_2d(ego, to_local_2d(before, states[:, 1:3]))
        states[:, 3] += before.yaw_rad - ego.yaw_rad
        states[:, 3] = (states[:, 3] + math.pi) % (2.0 * math.pi) - math.pi
        states[:, 0] -= dt
        states = states[states[:, 0] > -proposals.STEP_S + 1e-6]
        if states.shape[0] < 10:
            return None
        name = previous.proposal
        return states, name if name.startswith("hold/") else f"hold/{name}", dict(previous.scores)

    def _warm_up(self) -> None:
        ego = EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=0.0, speed_mps=1.0)
        path = resample(arc(0.0))
        profile = speed_profile(path, 5.0, 1.0, 1.0)
        one = np.ones(1)
        self._roll(path, profile, ego, np.ones((1, 7)), one, one, 0.0 * one, None)


def _users(scene: Scene | None) -> tuple[np.ndarray, np.ndarray]:
    """Return road users [N, 7] for the kernels, the nearest MAX_USERS, and which are young."""
    if scene is None or scene.tracks.size == 0:
        return np.zeros((0, 7)), np.zeros(0, np.bool_)
    tracks = scene.tracks
    if tracks.size > MAX_USERS:
        away = tracks["x_m"] ** 2 + tracks["y_m"] ** 2
        tracks = tracks[np.argsort(away, kind="stable")[:MAX_USERS]]
    users = np.empty((tracks.size, 7))
    columns = ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "vx_mps", "vy_mps")
    for i, column in enumerate(columns):
        users[:, i] = tracks[column]
    return users, tracks["age_ticks"] < YOUNG_TICKS


def _pick(
    scores: np.ndarray, hits: np.ndarray, names: list[str], previous: Plan | None
) -> tuple[int, float]:
    """Return the winner and its total; makes the progress column relative (0..1).

    The two stops at the end only win when every proposal collides.
    """
    driving = scores[:-2]
    top = float((driving[:, EP] * (driving[:, NC] > 0)).max())
    scores[:, EP] = 1.0 if top <= 0.1 else np.minimum(1.0, scores[:, EP] / top)
    total = np.zeros(scores.shape[0])
    for column, weight in WEIGHTS.items():
        total += weight * scores[:, column]
    total *= scores[:, NC] * scores[:, DAC] / sum(WEIGHTS.values())
    wanted = total[:-2].copy()
    if previous is not None:
        side = previous.proposal.removeprefix("hold/").split("/")[0]
        wanted += [_KEEP_SIDE * name.startswith(side) for name in names[:-2]]
    best = int(np.argmax(wanted))
    if scores[best, NC] == 0.0:
        best = len(names) - 2 if hits[-2] > 1e8 else len(names) - 1
    return best, float(total[best])


def _named(scores: np.ndarray, total: float) -> dict[str, float]:
    return {**{name: float(scores[i]) for i, name in enumerate(SCORES)}, "total": total}
