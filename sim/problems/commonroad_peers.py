"""The judge of CommonRoad and two planners of others, in an environment of their own.

Run by the Python of `.venv-peers` (`make peers`), never imported by the house, and importing
nothing of it: what goes in are scenario files, what comes out are solution files and JSON lines.

    .venv-peers/bin/python -P sim/problems/commonroad_peers.py judge --solutions OUT FILE...
    .venv-peers/bin/python -P sim/problems/commonroad_peers.py reactive --solutions OUT FILE...
    .venv-peers/bin/python -P sim/problems/commonroad_peers.py frenetix --solutions OUT FILE...
"""

import argparse
import itertools
import json
import logging
import math
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

# The judge's module names polygon3 at import and never calls it. It has no wheel, and the clipper
# inside is for non-commercial use: an empty module stands in its place, and would raise if asked.
_GPC = types.ModuleType("Polygon")
_GPC.Utils = types.ModuleType("Polygon.Utils")  # type: ignore[attr-defined]
sys.modules.update({"Polygon": _GPC, "Polygon.Utils": _GPC.Utils})  # type: ignore[attr-defined]
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
from commonroad.common import solution as crs  # noqa: E402
from commonroad.common.file_reader import CommonRoadFileReader  # noqa: E402
from commonroad.scenario.state import KSState  # noqa: E402
from commonroad.scenario.trajectory import Trajectory  # noqa: E402
from commonroad_dc.feasibility import solution_checker as judge  # noqa: E402

BEFORE_M, AFTER_M = 30.0, 150.0
"""The stock code raises a projection error where a trajectory leaves its reference path."""

MOST_S = 120.0
"""CPU seconds after which the harness gives up on a scenario; wall time says too much of others."""


class NoTrajectoryError(Exception):
    """A planner found no way to go on."""


class TooLateError(Exception):
    """The goal was not reached in time, or the harness gave up waiting."""


def reference(scenario: Any, problem: Any) -> np.ndarray:
    """Return the route planner's shortest path, gone on straight at both ends."""
    from commonroad_route_planner.fast_api.fast_api import (
        generate_reference_path_from_scenario_and_planning_problem as generate,
    )

    path = np.asarray(generate(scenario, problem).reference_path)

    def straight(at: np.ndarray, towards: np.ndarray, length_m: float) -> np.ndarray:
        step = (at - towards) / max(float(np.hypot(*(at - towards))), 1e-9)
        return at + step * np.arange(1.0, length_m + 1.0)[:, None]

    first = straight(path[0], path[min(3, len(path) - 1)], BEFORE_M)[::-1]
    last = straight(path[-1], path[-min(4, len(path))], AFTER_M)
    return np.concatenate([first, path, last])


def latest(problem: Any) -> int:
    """Return the last time step at which the goal may be reached."""
    return max(int(s.time_step.end) for s in problem.goal.state_list)


def road_edges(scenario: Any, *_: Any, **__: Any) -> tuple[None, Any]:
    """Return the road's boundary as the judge builds it, for planners that ask for one."""
    from commonroad_dc.boundary import construction

    built = construction.construct(scenario, ["section_triangles", "triangulation"])
    return None, built["triangulation"]


class Reactive:
    """commonroad-reactive-planner with its defaults, but one process instead of six."""

    def __init__(self, scenario: Any, problem: Any) -> None:
        from commonroad_rp import reactive_planner as rp
        from commonroad_rp.utility.config import ReactivePlannerConfiguration
        from commonroad_rp.utility.utils_coordinate_system import create_coordinate_system

        logging.getLogger("RP_LOGGER").setLevel(logging.CRITICAL)
        rp.create_road_boundary_obstacle = road_edges  # its default asks for the absent clipper
        config = ReactivePlannerConfiguration()
        config.debug.multiproc, config.debug.logging_level = False, "CRITICAL"
        config.planning.dt = scenario.dt
        config.planning.__post_init__()
        config.update(scenario=scenario, planning_problem=problem)
        self._every = config.planning.replanning_frequency
        self._planner = rp.ReactivePlanner(config)
        # clcs 2025.2 wants its parameters said; the planner's own function says them
        axes = create_coordinate_system(reference(scenario, problem))
        self._planner.set_reference_path(coordinate_system=axes)
        self._planner.record_state_and_input(self._planner.x_0)
        self._back = config.vehicle.wb_rear_axle
        self._made: Any = None

    def reached(self) -> bool:
        """Return whether the present state is in the goal."""
        return bool(self._planner.goal_reached())

    def step(self) -> float | None:
        """Go on by one step; return the CPU seconds of planning, None where none was due."""
        planner, spent = self._planner, None
        ahead = (len(planner.record_state_list) - 1) % self._every
        if ahead == 0:
            planner.set_desired_velocity(current_speed=planner.x_0.velocity)
            begin = time.process_time()
            self._made = planner.plan()
            spent = time.process_time() - begin
            if not self._made:
                raise NoTrajectoryError(spent)
        k = 1 + ahead
        planner.record_state_and_input(self._made[0].state_list[k])
        planner.reset(
            initial_state_cart=planner.record_state_list[-1],
            initial_state_curv=(self._made[1][k], self._made[2][k]),
            collision_checker=planner.collision_checker,
            coordinate_system=planner.coordinate_system,
        )
        return spent

    def states(self) -> list[KSState]:
        """Return the driven states, middle of the body."""
        return [_ks(s, s.steering_angle, self._back) for s in self._planner.record_state_list]


class Frenetix:
    """The C++ core of Frenetix with the defaults of its motion planner: 3 s, 800 trajectories.

    Only the core is on PyPI; sampling ranges, weights and order of checks follow the published
    motion planner (Trauth et al., 2024), the speed asked for is what is left over time left.
    """

    HORIZON_S, T_MIN_S, SLOW_MPS, SIDE_M = 3.0, 1.1, 2.0, 3.0

    def __init__(self, scenario: Any, problem: Any) -> None:
        import frenetix
        from commonroad_dc import pycrcc
        from commonroad_dc.collision.collision_detection.pycrcc_collision_dispatch import (
            create_collision_checker,
        )
        from commonroad_dc.feasibility.vehicle_dynamics import VehicleParameterMapping
        from commonroad_rp.utility.utils_coordinate_system import create_coordinate_system

        self._f, self._crcc = frenetix, pycrcc
        self._scenario, self._problem = scenario, problem
        self._car = VehicleParameterMapping["BMW_320i"].value
        self._base = self._car.a + self._car.b
        path = np.asarray(create_coordinate_system(reference(scenario, problem)).ref_path)
        self._axes = frenetix.CoordinateSystemWrapper(path)
        self._clcs = create_coordinate_system(path)
        self._checker = create_collision_checker(scenario)
        self._checker.add_collision_object(road_edges(scenario)[1])
        start = problem.initial_state
        yaw, b = start.orientation, self._car.b
        wheel = math.atan2(self._base * getattr(start, "yaw_rate", 0.0), max(start.velocity, 0.1))
        self._now = {
            "x": start.position[0] - b * math.cos(yaw),
            "y": start.position[1] - b * math.sin(yaw),
            "yaw": yaw, "v": max(start.velocity, 0.01), "a": 0.0, "wheel": wheel,
        }  # fmt: skip
        self._axial: Any = None
        self._found: Any = None
        self._held = 0
        self._step = int(start.time_step)
        self._states = [self._state()]

    def _state(self) -> KSState:
        n, b = self._now, self._car.b
        middle = np.array([n["x"] + b * math.cos(n["yaw"]), n["y"] + b * math.sin(n["yaw"])])
        return KSState(
            time_step=self._step, position=middle, steering_angle=n["wheel"], velocity=n["v"],
            orientation=n["yaw"],
        )  # fmt: skip

    def reached(self) -> bool:
        """Return whether the present state is in the goal."""
        return bool(self._problem.goal.is_reached(self._states[-1]))

    def states(self) -> list[KSState]:
        """Return the driven states, middle of the body."""
        return self._states

    def _handler(self, slow: bool) -> Any:
        """Return the core with its checks and costs; it keeps no state worth carrying on."""
        from frenetix import trajectory_functions as tf
        from frenetix.trajectory_functions import cost_functions as cf
        from frenetix.trajectory_functions import feasability_functions as ff

        dt, car, steer = self._scenario.dt, self._car, self._car.steering
        handler = self._f.TrajectoryHandler(dt=dt)
        push = car.longitudinal
        for check in (
            ff.CheckYawRateConstraint(steer.max, self._base, False),
            ff.CheckAccelerationConstraint(push.v_switch, push.a_max, False),
            ff.CheckCurvatureConstraint(steer.max, self._base, False),
            ff.CheckCurvatureRateConstraint(self._base, steer.v_max, False),
        ):
            handler.add_feasability_function(check)
        wish, others = self._wish(), self._others()
        # of the core's three predictions the fastest: the others take ten times its time here
        for cost in (
            cf.CalculateLateralJerkCost("lateral_jerk", 1.0),
            cf.CalculateLongitudinalJerkCost("longitudinal_jerk", 1.0),
            cf.CalculateDistanceToReferencePathCost("reference", 3.0),
            cf.CalculateVelocityOffsetCost("velocity", 1.0, wish, dt, self.T_MIN_S, False, 2),
            cf.CalculateCollisionProbabilityMahalanobis("prediction", 200.0, others),
        ):
            handler.add_cost_function(cost)
        handler.add_function(tf.FillCoordinates(slow, self._now["yaw"], self._axes, self.HORIZON_S))
        return handler

    def _wish(self) -> float:
        """Return the way left over the time left, inside the goal's speeds."""
        goal = self._problem.goal.state_list[0]
        middle = (int(goal.time_step.start) + int(goal.time_step.end)) / 2
        left = max(middle - self._step, 1.0) * self._scenario.dt
        speed = self._now["v"]
        if goal.has_value("position") and hasattr(goal.position, "center"):
            try:
                here = self._clcs.convert_to_curvilinear_coords(self._now["x"], self._now["y"])[0]
                there = self._clcs.convert_to_curvilinear_coords(*goal.position.center)[0]
                speed = max((there - self._car.b - here) / left, 0.0)
            except ValueError:
                pass
        if goal.has_value("velocity"):
            speed = min(max(speed, goal.velocity.start), goal.velocity.end)
        return float(speed)

    def _others(self) -> dict[int, Any]:
        """Return where everybody will be, with next to no doubt: the recording is known."""
        steps, found = round(self.HORIZON_S / self._scenario.dt), {}
        doubt = np.zeros((6, 6), order="F")
        doubt[0, 0] = doubt[1, 1] = 0.1
        for other in self._scenario.obstacles:
            path = []
            for k in range(self._step, self._step + steps + 1):
                state = other.state_at_time(k)
                if state is None:
                    break
                turn = np.array(
                    [0.0, 0.0, *(g(state.orientation / 2) for g in (math.sin, math.cos))]
                )
                path.append(
                    self._f.PoseWithCovariance(np.array([*state.position, 0.0]), turn, doubt)
                )
            shape = other.obstacle_shape
            if path and hasattr(shape, "length"):
                found[other.obstacle_id] = self._f.PredictedObject(
                    other.obstacle_id, path, shape.length, shape.width
                )
        return found

    def _samples(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        v, h, a = lon[1], self.HORIZON_S, self._car.longitudinal.a_max
        times = {*np.round(np.arange(self.T_MIN_S, h + 0.1, 0.3), 2), h}
        speeds = {*np.linspace(max(0.01, v - a * h), min(v + a / 7 * h, 36.0), 9), v}
        sides = {*np.linspace(-self.SIDE_M, self.SIDE_M, 9), lat[0]}
        ranges = [
            [0.0], sorted(t for t in times if t <= h), [lon[0]], [lon[1]], [lon[2]], sorted(speeds),
            [0.0], [lat[0]], [lat[1]], [lat[2]], sorted(sides), [0.0], [0.0],
        ]  # fmt: skip
        return np.array(list(itertools.product(*ranges)))

    def step(self) -> float:
        """Plan and go on by one step; return the CPU seconds of it."""
        begin = time.process_time()
        n = self._now
        slow = n["v"] < self.SLOW_MPS
        if self._axial is None:
            start = self._f.CartesianPlannerState(
                np.array([n["x"], n["y"]]), n["yaw"], n["v"], n["a"], n["wheel"]
            )
            at = self._f.compute_initial_state(self._axes, start, self._base, slow)
            self._axial = (np.asarray(at.x0_lon), np.asarray(at.x0_lat))
        handler = self._handler(slow)
        handler.generate_trajectories(self._samples(*self._axial), slow)
        handler.evaluate_all_current_functions(True)
        found = next((t for t in handler.get_sorted_trajectories() if self._free(t)), None)
        spent = time.process_time() - begin
        self._held += 1  # with nothing new it goes on with what it found last, while there is any
        if found is not None:
            self._found, self._held = found, 1
        k = self._held
        if self._found is None or k >= len(self._found.cartesian.x):
            raise NoTrajectoryError(spent)
        c, s = self._found.cartesian, self._found.curvilinear
        wheel = math.atan(self._base * float(c.kappa[k]))
        self._now = {
            "x": float(c.x[k]), "y": float(c.y[k]), "yaw": float(c.theta[k]), "v": float(c.v[k]),
            "a": float(c.a[k]), "wheel": wheel,
        }  # fmt: skip
        self._axial = None
        if (self._now["v"] < self.SLOW_MPS) == slow:
            self._axial = (
                np.array([s.s[k], s.s_dot[k], s.s_ddot[k]]),
                np.array([s.d[k], s.d_dot[k], s.d_ddot[k]]),
            )
        self._step += 1
        self._states.append(self._state())
        return spent

    def _free(self, trajectory: Any) -> bool:
        """Return whether it is feasible and touches neither others nor the road's edge."""
        if not trajectory.feasible:
            return False
        c, car = trajectory.cartesian, self._car
        body = self._crcc.TimeVariantCollisionObject(self._step)
        for x, y, yaw in zip(c.x, c.y, c.theta, strict=True):
            middle = x + car.b * math.cos(yaw), y + car.b * math.sin(yaw)
            body.append_obstacle(self._crcc.RectOBB(car.l / 2, car.w / 2, yaw, *middle))
        return not self._checker.collide(body)


def _ks(state: Any, wheel: float, back: float) -> KSState:
    yaw = state.orientation
    shift = back * np.array([math.cos(yaw), math.sin(yaw)])
    return KSState(
        time_step=state.time_step, position=np.asarray(state.position) + shift,
        steering_angle=float(wheel), velocity=float(state.velocity), orientation=float(yaw),
    )  # fmt: skip


def drive(make: Any, path: Path, out: Path) -> dict[str, Any]:
    """Let a planner drive a scenario; write its solution where it reaches the goal."""
    begin, cycles, said = time.process_time(), [], ""
    try:
        scenario, problems = CommonRoadFileReader(str(path)).open()
        problem = next(iter(problems.planning_problem_dict.values()))
        end = latest(problem)
        planner = make(scenario, problem)
        while not planner.reached():
            if len(planner.states()) > end - problem.initial_state.time_step:
                raise TooLateError("goal not reached in time")
            if time.process_time() - begin > MOST_S:
                raise TooLateError(f"limit of {MOST_S:.0f} CPU seconds")
            if (spent := planner.step()) is not None:
                cycles.append(spent * 1e3)
        made = crs.PlanningProblemSolution(
            problem.planning_problem_id, crs.VehicleModel.KS, crs.VehicleType.BMW_320i,
            crs.CostFunction.TR1, Trajectory(planner.states()[0].time_step, planner.states()),
        )  # fmt: skip
        text = crs.CommonRoadSolutionWriter(crs.Solution(scenario.scenario_id, [made])).dump()
        (out / f"{path.stem}.xml").write_text(text)
    except NoTrajectoryError as error:
        cycles.append(float(error.args[0]) * 1e3)
        said = "no trajectory"
    except TooLateError as error:
        said = str(error)
    except Exception as error:  # a planner of others may raise anything: it is counted, by name
        said = f"error: {type(error).__name__}: {str(error)[:120]}"
    return {"scenario": path.stem, "cpu_ms": cycles, "gave_up": said}


def verdict(path: Path, solution: Path) -> str:
    """Return "valid", or which rule of `valid_solution` a solution breaks."""
    try:
        scenario, problems = CommonRoadFileReader(str(path)).open()
        made = crs.CommonRoadSolutionReader.open(str(solution))
        return "valid" if judge.valid_solution(scenario, problems, made)[0] else "not feasible"
    except judge.GoalNotReachedException:
        return "goal not reached"
    except judge.CollisionException as error:
        return "off the road" if "boundar" in str(error) else "collision"
    except Exception as error:  # whatever else the judge says is a refusal by name
        return f"refused: {type(error).__name__}: {str(error)[:120]}"


def main() -> None:
    """Judge or drive the scenarios named, one JSON line each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["judge", "reactive", "frenetix"])
    parser.add_argument("--solutions", type=Path, required=True)
    parser.add_argument("files", type=Path, nargs="+")
    asked = parser.parse_args()
    asked.solutions.mkdir(parents=True, exist_ok=True)
    for path in asked.files:
        solution = asked.solutions / f"{path.stem}.xml"
        row: dict[str, Any] = {"scenario": path.stem, "gave_up": ""}
        if asked.what != "judge":
            solution.unlink(missing_ok=True)
            row = drive(
                {"reactive": Reactive, "frenetix": Frenetix}[asked.what], path, asked.solutions
            )
        none = row["gave_up"] or "no solution"
        row["verdict"] = verdict(path, solution) if solution.exists() else none
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
