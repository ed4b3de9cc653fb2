"""CommonRoad planning problems: what a scenario asks, for the car it is judged by."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from sim.problems.ks import BMW_320I, TO_REAR_M, KsState
from sim.recorded.logged_commonroad import document, goals_of, read_commonroad
from sim.recorded.logged_scene import Goal, LoggedScene, LoggedSceneError, SceneDamagedError
from vehicle.config import VehicleConfig

_SURE_MPS: Final = 1.0
"""Below this speed a recorded yaw rate says nothing about the wheels."""

_BEND_1PM: Final = 0.2


class NoGoalError(LoggedSceneError):
    """A planning problem without goal: nothing to be judged by."""


class SeveralEgosError(LoggedSceneError):
    """A cooperative scenario: several cars would have to be planned for together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """One planning problem.

    Args:
        scene: the recording; its goal holds the regions of all goals, for navigation.
        goals: any one of which is to be reached; times from the recording's begin.
        start: of the car; the wheels as the recorded yaw rate says, else straight.
        first: the step it starts at.
        ident, benchmark, version: as a solution has to name them.
    """

    scene: LoggedScene
    goals: tuple[Goal, ...]
    start: KsState
    first: int
    ident: str
    benchmark: str
    version: str

    @property
    def last(self) -> int:
        """Return the last step at which a goal can be reached."""
        return math.floor(max(g.to_s for g in self.goals) / self.scene.dt_s + 1e-6)


def read_problem(path: Path) -> Problem:
    """Return the planning problem of a scenario.

    Raises:
        NoGoalError, SeveralEgosError: nothing, or too much, to be judged by.
        LoggedSceneError: malformed.
    """
    root, scene = document(path), read_commonroad(path)
    problems = root.findall("planningProblem")
    if len(problems) != 1:
        raise SeveralEgosError(f"{path} has {len(problems)} planning problems, expected one")
    lanes = {lane.name: lane for lane in scene.lanes}
    origin = np.array(scene.origin_m)
    goals = goals_of(problems[0], scene.dt_s, lanes, origin, str(path))
    if not goals:
        raise NoGoalError(f"{path}: its planning problem has no goal state")
    merged = replace(goals[0], regions_m=tuple(r for g in goals for r in g.regions_m))
    initial = problems[0].find("initialState")

    def said(what: str, otherwise: float) -> float:
        text = None if initial is None else initial.findtext(f"{what}/exact")
        try:
            return otherwise if text is None else float(text)
        except ValueError:
            raise SceneDamagedError(f"{path}: initial {what} is {text!r}, a number?") from None

    x, y, yaw, speed = (float(v) for v in scene.start)
    usual = VehicleConfig()
    shift = usual.length_m / 2 - usual.rear_overhang_m - TO_REAR_M
    bend = said("yawRate", 0.0) / speed if speed > _SURE_MPS else 0.0
    bend = min(_BEND_1PM, max(-_BEND_1PM, bend))
    start = KsState(
        x_m=x + shift * math.cos(yaw),
        y_m=y + shift * math.sin(yaw),
        yaw_rad=yaw,
        steer_rad=math.atan(BMW_320I.wheelbase_m * bend),
        speed_mps=speed,
    )
    return Problem(
        scene=replace(scene, goal=merged),
        goals=goals,
        start=start,
        first=round(said("time", 0.0)),
        ident=str(problems[0].get("id")),
        benchmark=str(root.get("benchmarkID") or path.stem),
        version=str(root.get("commonRoadVersion") or "2020a"),
    )
