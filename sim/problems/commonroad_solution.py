"""A drive as a CommonRoad solution file, and our own checks of it where no judge is installed."""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from sim.problems.commonroad import Problem
from sim.problems.commonroad_drive import RoadRaster, Run
from sim.problems.ks import ACCEL_MPS2, BMW_320I, STEER_RADPS, KsState
from vehicle.contracts import wire

_LEAST: Final = 128
_SLACK: Final = 1e-6


def solution_xml(problem: Problem, run: Run, when: datetime) -> bytes:
    """Return a solution by a kinematic single track, BMW 320i, as the benchmark reads it.

    Source: CommonRoad XML format documentation, solution files (2018b, 2020a).
    """
    ox, oy = problem.scene.origin_m
    rows = []
    for step, state in enumerate(run.states, problem.first):
        x, y = state.middle_m
        values = {
            "x": x + ox, "y": y + oy, "steeringAngle": state.steer_rad,
            "velocity": state.speed_mps, "orientation": state.yaw_rad, "time": step,
        }  # fmt: skip
        rows.append("".join(f"<{k}>{v!r}</{k}>" for k, v in values.items()))
    states = "\n".join(f"<ksState>{row}</ksState>" for row in rows)
    name = f"KS2:TR1:{problem.benchmark}:{problem.version}"
    return (
        f'<?xml version="1.0" ?>\n<CommonRoadSolution benchmark_id="{name}"'
        f' date="{when.astimezone(UTC):%Y-%m-%dT%H:%M:%S}">\n'
        f'<ksTrajectory planningProblem="{problem.ident}">\n{states}\n'
        "</ksTrajectory>\n</CommonRoadSolution>\n"
    ).encode()


def write_solution(problem: Problem, run: Run, path: Path) -> None:
    """Write the solution of a drive.

    The date is a fixed one, so that two runs give the same bytes.
    """
    wire.atomic_write(path, solution_xml(problem, run, datetime(2026, 1, 1, tzinfo=UTC)))


def own_verdict(problem: Problem, run: Run) -> str:
    """Return "valid", or the first rule a drive breaks, as far as we can tell ourselves.

    The judge's own triangles and shapes are not asked: this is a stand-in, and is named so.
    """
    if not run.reached:
        return "goal not reached"
    raster = RoadRaster(problem)
    for i, state in enumerate(run.states):
        if _touched(problem, state, problem.first + i):
            return f"collision at step {problem.first + i}"
        if not _on_road(raster, state):
            return f"off the road at step {problem.first + i}"
    for i, (a, b) in enumerate(zip(run.states, run.states[1:], strict=False)):
        if not _feasible(a, b, problem.scene.dt_s):
            return f"not feasible after step {problem.first + i}"
    return "valid"


def _corners(state: KsState) -> np.ndarray:
    """Return points around the body [P, 2], scene frame."""
    c, s = math.cos(state.yaw_rad), math.sin(state.yaw_rad)
    along = np.linspace(-BMW_320I.length_m / 2, BMW_320I.length_m / 2, 9)
    across = np.array([-BMW_320I.width_m / 2, BMW_320I.width_m / 2])
    grid = np.stack(np.meshgrid(along, across), axis=-1).reshape(-1, 2)
    return grid @ np.array([[c, s], [-s, c]]) + state.middle_m


def _touched(problem: Problem, state: KsState, step: int) -> bool:
    """Return whether the body overlaps anybody recorded (separating axes)."""
    scene = problem.scene
    if step >= scene.steps:
        return False
    here = np.flatnonzero(scene.valid[:, step])
    mine = np.array([*state.middle_m, state.yaw_rad])
    size = np.array([BMW_320I.length_m, BMW_320I.width_m])
    return any(
        _overlap(mine, size, scene.poses[i, step], scene.sizes_m[i, :2]) for i in here.tolist()
    )


def _overlap(a: np.ndarray, a_size: np.ndarray, b: np.ndarray, b_size: np.ndarray) -> bool:
    d = b[:2] - a[:2]
    axes = [np.array([math.cos(p[2] + q), math.sin(p[2] + q)]) for p in (a, b) for q in (0, 1.5708)]
    for axis in axes:
        reach = 0.0
        for pose, size in ((a, a_size), (b, b_size)):
            along = np.array([math.cos(pose[2]), math.sin(pose[2])])
            across = np.array([-along[1], along[0]])
            reach += abs(axis @ along) * size[0] / 2 + abs(axis @ across) * size[1] / 2
        if abs(axis @ d) > reach:
            return False
    return True


def _on_road(raster: RoadRaster, state: KsState) -> bool:
    return bool((raster.at(_corners(state)) >= _LEAST).all())


def _feasible(a: KsState, b: KsState, dt: float) -> bool:
    accel, steer = (b.speed_mps - a.speed_mps) / dt, (b.steer_rad - a.steer_rad) / dt
    side = a.speed_mps**2 * a.curvature_1pm
    within = abs(steer) <= STEER_RADPS + _SLACK
    return within and math.hypot(accel, side) <= ACCEL_MPS2 + _SLACK
