"""What the car saw, planned and commanded, as a record of what it decided and in what scene."""

from typing import Final

import numpy as np

from vehicle.config import VehicleConfig
from vehicle.contracts.decision import (
    MAX_ACTORS,
    Actor,
    Decision,
    DecisionRecord,
    Lateral,
    Longitudinal,
)
from vehicle.contracts.ego import ControlCommand, Guidance
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Plan
from vehicle.contracts.scene import KINDS, Scene
from vehicle.contracts.wire import require
from vehicle.paths import KAPPA, PATH_BEHIND, PATH_STEP_M, YAW, arc, locate, resample

HARD_MPS2: Final = 4.5
"""A brake beyond comfort and beyond a minimal risk manoeuvre."""

STANDS_MPS: Final = 0.3
_GOES_MPS: Final = 0.6
_STEADY_MPS2: Final = 0.25
_ASIDE_M: Final = 0.5
"""To end so far from the middle is to move; the planner weighs a third of a metre to either side
in every tick, and means little by it."""

_LOOK_S: Final = 2.0
_BEND_LOOK_M: Final = 60
_BEHIND_M, _REACH_M, _BESIDE_M = -15.0, 80.0, 20.0


def decision_of(plan: Plan, command: ControlCommand, speed_mps: float, aside_m: float) -> Decision:
    """Return the classes of what was actuated.

    Args:
        plan: chosen by the planner.
        command: after the safety envelope.
        speed_mps: of the ego now.
        aside_m: where the plan ends, left of the middle of the ego's way.
    """
    states = plan.trajectory.states
    t, v = states[:, 0], states[:, 4]
    soon = float(np.interp(_LOOK_S, t, v))
    demand = (soon - max(speed_mps, 0.0)) / _LOOK_S
    if command.limited_by and command.accel_mps2 < demand:
        demand = command.accel_mps2
    return Decision(
        longitudinal=_longitudinal(plan, command, speed_mps, soon, demand),
        lateral=_lateral(plan.proposal, aside_m),
        demand_mps2=round(demand, 3),
    )


def _longitudinal(
    plan: Plan, command: ControlCommand, speed_mps: float, soon_mps: float, demand_mps2: float
) -> Longitudinal:
    if speed_mps < STANDS_MPS:
        held = command.limited_by and command.accel_mps2 <= 0.0
        return "stay stopped" if soon_mps < _GOES_MPS or held else "move off"
    hard = "aeb" in command.limited_by or command.accel_mps2 <= -HARD_MPS2
    if hard or plan.proposal == "emergency/stop":
        return "brake hard"
    if float(plan.trajectory.states[:, 4].min()) < STANDS_MPS:
        return "stop"
    if demand_mps2 < -_STEADY_MPS2:
        return "slow down"
    return "speed up" if demand_mps2 > _STEADY_MPS2 else "keep speed"


def _lateral(proposal: str, aside_m: float) -> Lateral:
    place = proposal.removeprefix("hold/").partition("/")[0]
    if place in ("lane-left", "lane-right"):
        return "change lane left" if place == "lane-left" else "change lane right"
    if abs(aside_m) < _ASIDE_M:
        return "keep the lane"
    return "move left" if aside_m > 0.0 else "move right"


def differs(one: Decision, other: Decision) -> bool:
    """Return whether two decisions are not the same; a hair's breadth beside a border of the
    longitudinal classes is none."""
    if one.lateral != other.lateral:
        return True
    apart = abs(one.demand_mps2 - other.demand_mps2) >= 0.5 * _STEADY_MPS2
    return one.longitudinal != other.longitudinal and apart


def record_of(
    source: str,
    scene: Scene | None,
    obs: Observation,
    plan: Plan,
    command: ControlCommand,
    config: VehicleConfig,
) -> DecisionRecord:
    """Return the record of one tick, its causes not tested yet.

    Args:
        source: scenario or clip.
        scene: what the car believed.
        obs: its ego motion (needed) and guidance.
        plan, command: what it made of them.
    Raises:
        ContractError: there is no ego motion.
    """
    ego = obs.ego
    require(ego is not None, f"frame {obs.frame.frame_id}: a decision needs the ego's motion")
    assert ego is not None
    path, guidance = _way(obs)
    front = config.length_m - config.rear_overhang_m
    at, _, aside = locate(path, 0.0, 0.0, PATH_BEHIND)
    end = plan.trajectory.states[-1]
    ahead = min(PATH_BEHIND + int(np.hypot(end[1], end[2]) / PATH_STEP_M), len(path) - 1)
    _, _, end_aside = locate(path, end[1], end[2], ahead)
    decision = decision_of(plan, command, ego.speed_mps, float(end_aside))
    bend = np.abs(path[at : at + _BEND_LOOK_M, KAPPA])
    tightest = int(bend.argmax())
    signal = scene.signal if scene is not None else None
    line = None if guidance is None else guidance.stop_m
    if signal is not None and line is None and np.isfinite(signal.distance_m):
        line = signal.distance_m
    light = "none" if signal is None else signal.state
    return DecisionRecord(
        source=source,
        frame_id=obs.frame.frame_id,
        speed_mps=round(ego.speed_mps, 2),
        accel_mps2=round(ego.accel_mps2, 2),
        aside_m=round(float(aside), 2),
        limit_mps=round(ego.speed_mps if guidance is None else guidance.speed_limit_mps, 2),
        lane_width_m=3.5 if guidance is None else guidance.lane_width_m,
        light=light,
        light_m=None if light == "none" or line is None else round(line - front, 1),
        yield_m=None
        if guidance is None or guidance.yield_m is None
        else round(guidance.yield_m - front, 1),
        bend_m=round(max(tightest * PATH_STEP_M - front, 0.0), 1),
        bend_1pm=round(float(path[at + tightest, KAPPA]), 4),
        left_lane_m=0.0 if guidance is None else round(guidance.left_lane_m, 1),
        right_lane_m=0.0 if guidance is None else round(guidance.right_lane_m, 1),
        rung=plan.rung,
        actors=() if scene is None else _actors(scene, path, front),
        decision=decision,
        limited_by=command.limited_by,
    )


def _way(obs: Observation) -> tuple[np.ndarray, Guidance | None]:
    if obs.guidance is not None:
        points = np.ascontiguousarray(obs.guidance.centreline_m, dtype=np.float64)
        return resample(points), obs.guidance
    assert obs.ego is not None
    return resample(arc(float(np.clip(obs.ego.curvature_1pm, -0.1, 0.1)))), None


def _actors(scene: Scene, path: np.ndarray, front_m: float) -> tuple[Actor, ...]:
    found: list[tuple[float, Actor]] = []
    for row in scene.tracks:
        x, y = float(row["x_m"]), float(row["y_m"])
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        hint = int(((path[:, 1] - x) ** 2 + (path[:, 2] - y) ** 2).argmin())
        hint, s, d = locate(path, x, y, hint)
        way = float(path[hint, YAW])
        turn = float(row["yaw_rad"]) - way
        half = 0.5 * abs(np.cos(turn)) * row["length_m"] + 0.5 * abs(np.sin(turn)) * row["width_m"]
        if not _BEHIND_M < s < _REACH_M or abs(d) > _BESIDE_M:
            continue
        c, si = np.cos(way), np.sin(way)
        near = float(s - half - front_m)
        rank = (near if near > 0.0 else 10.0 - s) + 3.0 * max(0.0, abs(d) - 2.0)
        actor = Actor(
            actor_id=int(row["track_id"]),
            kind=KINDS[int(row["kind"])],
            ahead_m=round(near if s + half > front_m and near > 0.0 else min(0.0, float(s)), 1),
            aside_m=round(float(d), 1),
            along_mps=round(float(c * row["vx_mps"] + si * row["vy_mps"]), 1),
            across_mps=round(float(c * row["vy_mps"] - si * row["vx_mps"]), 1),
            length_m=round(float(row["length_m"]), 1),
            width_m=round(float(row["width_m"]), 1),
            height_m=round(float(row["height_m"]), 1),
        )
        found.append((rank, actor))
    found.sort(key=lambda pair: (pair[0], pair[1].actor_id))
    seen: dict[int, Actor] = {}
    for _, actor in found:
        if actor.actor_id:  # 0: a detection that no track owns yet
            seen.setdefault(actor.actor_id, actor)
    return tuple(seen.values())[:MAX_ACTORS]
