"""A CommonRoad planning problem driven by our planner, closed loop, one step after another.

The planner is told what the benchmark tells everybody: who goes where in the recording, where the
road is, where and when to arrive. It plans afresh at every step; the car that obeys is the
benchmark's own kinematic single track. No controller and no safety envelope stand between.
"""

import math
import time
from dataclasses import dataclass, replace
from typing import Final, Protocol

import cv2
import numpy as np

from sim.problems.commonroad import Problem
from sim.problems.ks import BMW_320I, KsState, advance
from sim.recorded.logged import at_goal
from sim.recorded.logged_route import plan_route
from sim.recorded.logged_scene import Goal
from sim.users.dynamics import Motion
from vehicle.contracts import goal as contract
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.plan import Plan, Rung
from vehicle.contracts.scene import TRACK, BevGrid, Occupancy, Scene
from vehicle.geometry import to_ego_2d
from vehicle.goal import STEPS_FAR
from vehicle.planner import Planner
from vehicle.proposals import STEP_S

GRID: Final = BevGrid(x_min_m=-10.0, y_min_m=-25.0, cell_m=0.2, nx=500, ny=250)
"""Where the car is told which ground is road, at a cell fine enough for its edges."""

_FINE_M: Final = 0.1
_ROUND_M: Final = 120.0
_GONE_M: Final = 1e4
"""Somebody who is not there stands this far away."""


class GoalPlanner(Protocol):
    """What is asked of a planner here; `vehicle.planner.Planner` is one."""

    def plan(
        self,
        scene: Scene | None,
        obs: Observation,
        previous: Plan | None,
        rung: Rung,
        futures: np.ndarray | None = None,
    ) -> Plan:
        """Return the plan of one step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """What was driven.

    Args:
        states: from the start, one per step of the scenario.
        proposals: what the planner chose at each step.
        wall_ms, cpu_ms: [steps] what each step's plan took.
        reached: the last state is in a goal.
    """

    states: tuple[KsState, ...]
    proposals: tuple[str, ...]
    wall_ms: np.ndarray
    cpu_ms: np.ndarray
    reached: bool


class RoadRaster:
    """Which ground is road, turned into the frame of the ego at each step."""

    def __init__(self, problem: Problem) -> None:
        scene, start = problem.scene, np.array([problem.start.x_m, problem.start.y_m])
        places = [start[None], *(r for g in problem.goals for r in g.regions_m)]
        every = np.clip(np.concatenate(places), start - 2 * _ROUND_M, start + 2 * _ROUND_M)
        self._low = every.min(axis=0) - _ROUND_M
        size = np.ceil((every.max(axis=0) + _ROUND_M - self._low) / _FINE_M).astype(int)
        fine = np.zeros(size[::-1], np.uint8)
        for lane in scene.lanes:
            ring = np.clip((lane.outline_m - self._low) / _FINE_M - 0.5, -1e5, 1e5)
            cv2.fillPoly(fine, [np.round(ring * 16).astype(np.int32)], 255, shift=4)
        self._fine = cv2.blur(fine, (3, 3))  # 128 where the edge is, between cells too

    def at(self, points_m: np.ndarray) -> np.ndarray:
        """Return float64 [N]: how much of the ground at points of the scene is road, 0..255."""
        px = (points_m - self._low) / _FINE_M - 0.5
        x, y = px[:, 0].astype(np.float32), px[:, 1].astype(np.float32)
        found = cv2.remap(self._fine, x, y, cv2.INTER_LINEAR, borderValue=0.0)
        return np.asarray(found, np.float64).ravel()

    def seen_from(self, state: KsState) -> np.ndarray:
        """Return uint8 [GRID.nx, GRID.ny]: the share of each cell that is road."""
        c, s = math.cos(state.yaw_rad), math.sin(state.yaw_rad)
        first = np.array([GRID.x_min_m, GRID.y_min_m]) + GRID.cell_m / 2
        corner = np.array([c * first[0] - s * first[1], s * first[0] + c * first[1]])
        corner += np.array([state.x_m, state.y_m]) - self._low
        corner = corner / _FINE_M - 0.5
        step = GRID.cell_m / _FINE_M
        map_ = np.array([[-s * step, c * step, corner[0]], [c * step, s * step, corner[1]]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self._fine, map_, (GRID.ny, GRID.nx), flags=how, borderValue=0.0)


def drive(problem: Problem, planner: GoalPlanner | None = None) -> Run:
    """Drive from the start until a goal is reached or can no longer be.

    Args:
        planner: fresh for this run; None: the car's own.
    """
    planner = planner or Planner(BMW_320I)
    scene, dt = problem.scene, problem.scene.dt_s
    raster, route = RoadRaster(problem), plan_route(scene)
    state, accel, previous = problem.start, 0.0, None
    states, names, wall_ms, cpu_ms = [state], [], [], []
    goal = 0
    step = problem.first
    while not (reached := _at_goal(problem, state, step)) and step < problem.last:
        motion = Motion(
            x_m=state.x_m, y_m=state.y_m, yaw_rad=state.yaw_rad, speed_mps=state.speed_mps,
            accel_mps2=accel, curvature_1pm=state.curvature_1pm,
        )  # fmt: skip
        route.follow(motion)
        t_s, mono_ns = step * dt, round(step * dt * 1e9)
        asked = problem.goals[goal % len(problem.goals)]
        guidance = replace(route.guidance(motion), goal=goal_from(asked, state, t_s))
        obs = Observation(
            frame=FrameSet(frame_id=step, mono_ns=mono_ns),
            ego=motion.ego_state(mono_ns, (0.0, 0.0)),
            guidance=guidance,
        )
        seen, futures = known(problem, state, step, raster)
        begin_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        plan = planner.plan(seen, obs, previous, "full", futures)
        cpu_ms.append((time.thread_time_ns() - cpu_ns) * 1e-6)
        wall_ms.append((time.perf_counter_ns() - begin_ns) * 1e-6)
        if not plan.proposal.startswith("goal/"):
            goal += 1  # of several goals another may be in reach
        accel_ask, steer, accel = _first_move(plan, state, dt)
        state = advance(state, accel_ask, steer, dt)
        previous, step = plan, step + 1
        states.append(state)
        names.append(plan.proposal)
    return Run(
        states=tuple(states),
        proposals=tuple(names),
        wall_ms=np.array(wall_ms),
        cpu_ms=np.array(cpu_ms),
        reached=reached,
    )


def goal_from(goal: Goal, state: KsState, t_s: float) -> contract.Goal:
    """Return a goal as the car is told it: in its own frame, from now."""
    ego = EgoState(
        mono_ns=0, x_m=state.x_m, y_m=state.y_m, yaw_rad=state.yaw_rad, speed_mps=state.speed_mps
    )
    yaw = None
    if goal.yaw_rad is not None:
        middle = sum(goal.yaw_rad) / 2
        off = math.remainder(middle - state.yaw_rad, 2.0 * math.pi) - middle
        yaw = (goal.yaw_rad[0] + off, min(goal.yaw_rad[1], goal.yaw_rad[0] + 2 * math.pi) + off)
    return contract.Goal(
        regions_m=tuple(to_ego_2d(ego, r) for r in goal.regions_m),
        from_s=goal.from_s - t_s,
        to_s=goal.to_s - t_s,
        speed_mps=goal.speed_mps,
        yaw_rad=yaw,
    )


def known(
    problem: Problem, state: KsState, step: int, raster: RoadRaster
) -> tuple[Scene, np.ndarray]:
    """Return what the car is told of others and the road, and where others will be.

    Returns:
        The scene, its tracks everybody who is there now or will be; futures float64
        [N, STEPS_FAR, 3] x, y, yaw of each track at each of the planner's steps, ego frame.
    """
    scene = problem.scene
    at = step + np.arange(STEPS_FAR) * (STEP_S / scene.dt_s)
    low = np.minimum(np.floor(at + 1e-6).astype(int), scene.steps - 1)
    high = np.minimum(low + 1, scene.steps - 1)
    share = np.where(at - low > 1e-6, np.clip(at - low, 0.0, 1.0), 0.0)
    there = scene.valid[:, low] & (scene.valid[:, high] | (share == 0.0))
    there &= at <= scene.steps - 1 + 1e-6
    keep = np.flatnonzero(there.any(axis=1))
    poses = scene.poses[keep]
    turn = poses[:, high, 2] - poses[:, low, 2]
    turn = (turn + math.pi) % (2.0 * math.pi) - math.pi
    mixed = poses[:, low].copy()
    mixed[..., :2] += share[:, None] * (poses[:, high, :2] - poses[:, low, :2])
    mixed[..., 2] += share * turn
    c, s = math.cos(state.yaw_rad), math.sin(state.yaw_rad)
    dx, dy = mixed[..., 0] - state.x_m, mixed[..., 1] - state.y_m
    futures = np.stack([c * dx + s * dy, c * dy - s * dx, mixed[..., 2] - state.yaw_rad], axis=-1)
    futures[~there[keep]] = (_GONE_M, _GONE_M, 0.0)
    tracks = np.zeros(len(keep), TRACK)
    tracks["track_id"] = keep + 1
    tracks["kind"] = scene.kinds[keep]
    for k, name in enumerate(("length_m", "width_m", "height_m")):
        tracks[name] = scene.sizes_m[keep, k]
    for k, name in enumerate(("x_m", "y_m", "yaw_rad")):
        tracks[name] = futures[:, 0, k]
    both = there[keep, 0] & there[keep, 1]
    for k, name in enumerate(("vx_mps", "vy_mps")):
        tracks[name] = np.where(both, (futures[:, 1, k] - futures[:, 0, k]) / STEP_S, 0.0)
    tracks["score_prob"], tracks["age_ticks"] = 1.0, 100
    road = raster.seen_from(state)
    empty = np.zeros_like(road)
    told = Scene(
        frame_id=step, mono_ns=round(step * scene.dt_s * 1e9), tracks=tracks,
        occupancy=Occupancy(grid=GRID, drivable=road, lane=empty, occupied=empty),
        embedding=np.zeros(0, np.float32), uncertainty_ratio=math.nan, fresh=True,
    )  # fmt: skip
    return told, futures


def _first_move(plan: Plan, state: KsState, dt: float) -> tuple[float, float, float]:
    """Return acceleration and turn of the wheels over one step of the scenario that follow a
    plan, and the acceleration it has at the step's end."""
    rows = plan.trajectory.states
    wheels = np.arctan(BMW_320I.wheelbase_m * rows[:, 6])
    speed, wheel, then = (
        float(np.interp(dt, rows[:, 0], v)) for v in (rows[:, 4], wheels, rows[:, 5])
    )
    return (speed - state.speed_mps) / dt, (wheel - state.steer_rad) / dt, then


def _at_goal(problem: Problem, state: KsState, step: int) -> bool:
    body = np.array([*state.middle_m, state.yaw_rad, state.speed_mps])
    return any(at_goal(goal, body, step * problem.scene.dt_s) for goal in problem.goals)
