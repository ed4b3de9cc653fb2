"""CommonRoad's planning problems: read, driven closed loop, written as solutions, judged."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import fakes_scenes
import numpy as np
import pytest

from sim.problems import ks
from sim.problems.commonroad import NoGoalError, Problem, SeveralEgosError, read_problem
from sim.problems.commonroad_drive import RoadRaster, drive, goal_from, known
from sim.problems.commonroad_judge import OFFICIAL, ask, peers_python, problems_in, solve
from sim.problems.commonroad_solution import own_verdict, solution_xml, write_solution
from sim.problems.ks import BMW_320I, STEER_RADPS, KsState
from sim.recorded.logged_scene import LoggedSceneError
from vehicle.goal import STEPS_FAR

GOAL = "<goalState>"
PLACE = "<position><rectangle>"


def fake(folder: Path, change: tuple[str, str] = ("", ""), **how: object) -> Path:
    """Return a scenario with one piece of its text replaced."""
    path = fakes_scenes.commonroad(folder / "fake.xml", **how)  # type: ignore[arg-type]
    if change[0]:
        text = path.read_text()
        assert change[0] in text
        path.write_text(text.replace(change[0], change[1]))
    return path


def goal_of(path: Path) -> str:
    text = path.read_text()
    return text[text.index(GOAL) : text.index("</goalState>") + len("</goalState>")]


def other_goal(folder: Path, inside: str, **how: object) -> Path:
    path = fake(folder, **how)
    path.write_text(path.read_text().replace(goal_of(path), f"{GOAL}{inside}</goalState>"))
    return path


def span(tag: str, low: float, high: float) -> str:
    return f"<{tag}><intervalStart>{low}</intervalStart><intervalEnd>{high}</intervalEnd></{tag}>"


def solved(path: Path) -> tuple[Problem, str]:
    problem = read_problem(path)
    return problem, own_verdict(problem, drive(problem))


def test_problem_starts_where_the_file_says(tmp_path: Path) -> None:
    end = "</velocity></initialState><goal"
    turn = "</velocity><yawRate><exact>0.2</exact></yawRate></initialState><goal"
    path = fake(tmp_path, (end, turn))
    problem = read_problem(path)
    x, y = problem.start.middle_m
    origin = problem.scene.origin_m
    assert (x + origin[0], y + origin[1]) == pytest.approx((1031.35, 1998.0))
    assert problem.start.speed_mps == 10.0
    assert problem.start.curvature_1pm == pytest.approx(0.02)
    assert (problem.ident, problem.first, problem.last) == ("99", 0, 40)
    assert (problem.benchmark, problem.version) == ("ZZ_Fake-1_1_T-1", "2018b")


def test_any_of_several_goals_is_good(tmp_path: Path) -> None:
    path = fake(tmp_path)
    near = goal_of(path)
    middle = f"<x>{1031.35 + 40.0}</x>"
    assert middle in near
    far = near.replace(middle, "<x>1500</x>")
    path.write_text(path.read_text().replace(near, far + near))
    problem, verdict = solved(path)
    assert len(problem.goals) == 2
    assert verdict == "valid"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda t: t.replace(t[t.index(GOAL) : t.index("</planningProblem>")], ""), NoGoalError),
        (lambda t: t.replace("</commonRoad>", '<planningProblem id="2"/></commonRoad>'),
         SeveralEgosError),
        (lambda t: t.replace("</velocity></initialState><goal", "</velocity><yawRate><exact>soon"
         "</exact></yawRate></initialState><goal"), LoggedSceneError),
    ],
    ids=["no goal", "two cars", "a yaw rate that is no number"],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_by_name(
    change: object, error: type[Exception], tmp_path: Path
) -> None:
    path = fake(tmp_path)
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(error):
        read_problem(path)
    assert solve(path, tmp_path / "out").verdict.startswith("refused: ")


@pytest.mark.parametrize(
    ("inside", "how"),
    [
        ("", {}),
        ("", {"version": "2020a"}),
        ("", {"one_way": True, "goal": (40.0, 2.0)}),
        (f'<position><lanelet ref="2"/></position>{span("time", 28, 28)}', {"one_way": True}),
        (f'<position><lanelet ref="1"/></position>{span("time", 20, 22)}'
         f'{span("velocity", 4.0, 6.0)}', {}),
        (f"<position><circle><radius>3</radius><center><x>1065</x><y>1998</y></center></circle>"
         f"</position>{span('time', 30, 36)}", {}),
        (f'{span("time", 25, 25)}', {}),
        (f'{span("time", 15, 30)}{span("velocity", 5.0, 7.0)}{span("orientation", -0.1, 0.1)}', {}),
    ],
    ids=["2018b", "2020a", "other lane", "lanelet", "slow lanelet", "circle", "time", "speed"],
)  # fmt: skip
def test_every_kind_of_goal_is_reached(inside: str, how: dict[str, object], tmp_path: Path) -> None:
    path = other_goal(tmp_path, inside, **how) if inside else fake(tmp_path, **how)
    assert solved(path)[1] == "valid"


def test_steps_need_not_be_a_tenth_of_a_second(tmp_path: Path) -> None:
    path = fake(tmp_path, ('timeStepSize="0.1"', 'timeStepSize="0.08"'))
    problem, verdict = solved(path)
    assert problem.scene.dt_s == 0.08
    assert verdict == "valid"


def test_two_drives_give_the_same_bytes(tmp_path: Path) -> None:
    problem = read_problem(fake(tmp_path, one_way=True, goal=(40.0, 2.0)))
    for name in ("one", "two"):
        write_solution(problem, drive(problem), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_solution_names_the_benchmark_the_model_and_every_state(tmp_path: Path) -> None:
    problem = read_problem(fake(tmp_path))
    run = drive(problem)
    write_solution(problem, run, tmp_path / "out.xml")
    root = ET.parse(tmp_path / "out.xml").getroot()
    assert root.get("benchmark_id") == "KS2:TR1:ZZ_Fake-1_1_T-1:2018b"
    trajectory = root.find("ksTrajectory")
    assert trajectory is not None
    assert trajectory.get("planningProblem") == "99"
    states = trajectory.findall("ksState")
    assert [int(s.findtext("time") or "") for s in states] == list(range(len(run.states)))
    assert float(states[0].findtext("x") or "") == pytest.approx(1031.35)
    assert float(states[-1].findtext("velocity") or "") == run.states[-1].speed_mps


def test_the_car_is_told_the_recording_as_it_will_be(tmp_path: Path) -> None:
    problem = read_problem(fake(tmp_path))
    scene, futures = known(problem, problem.start, 5, RoadRaster(problem))
    assert futures.shape == (4, STEPS_FAR, 3)
    lead = problem.scene.names.index("10")
    # at step 5 + 10 it is 60 + 15 m along the road; the rear axle began at 31.35 - 1.42
    ahead = 75.0 - (31.35 - ks.TO_REAR_M)
    assert futures[lead, 10] == pytest.approx((ahead, 0.0, 0.0), abs=1e-6)
    assert np.abs(futures[lead, 60, :2]).min() > 1e3  # the recording has ended: nobody is there
    assert scene.tracks["vx_mps"][lead] == pytest.approx(10.0, rel=1e-5)
    assert scene.occupancy is not None
    road = scene.occupancy
    row = round((10.0 - road.grid.x_min_m) / road.grid.cell_m)
    across = road.grid.centres()[row, :, 1]
    assert (road.drivable[row, (across > -1.7) & (across < 5.7)] == 255).all()
    assert (road.drivable[row, (across < -2.4) | (across > 6.4)] == 0).all()


def test_goal_turns_with_the_car(tmp_path: Path) -> None:
    goal = replace(read_problem(fake(tmp_path)).goals[0], yaw_rad=(3.0, 3.3), regions_m=())
    state = KsState(x_m=5.0, y_m=0.0, yaw_rad=-3.1, steer_rad=0.0, speed_mps=3.0)
    told = goal_from(goal, state, 1.0)
    assert told.yaw_rad == pytest.approx((3.0 + 3.1 - 2 * math.pi, 3.3 + 3.1 - 2 * math.pi))
    assert (told.from_s, told.to_s) == pytest.approx((2.0, 3.0))


def test_model_stays_inside_its_limits() -> None:
    start = KsState(x_m=0.0, y_m=0.0, yaw_rad=0.0, steer_rad=0.0, speed_mps=15.0)
    hard = ks.advance(start, 50.0, 3.0, 0.1)
    assert hard.speed_mps == pytest.approx(15.0 + 0.1 * 11.5 * 7.319 / 15.0)
    assert hard.steer_rad == pytest.approx(0.1 * STEER_RADPS)
    stop = start
    for _ in range(40):
        stop = ks.advance(stop, -8.0, 0.0, 0.1)
    assert stop.speed_mps == 0.0
    assert stop.x_m == pytest.approx(15.0**2 / 16.0, abs=0.05)


def test_model_drives_circles() -> None:
    state = KsState(x_m=0.0, y_m=0.0, yaw_rad=0.0, steer_rad=0.3, speed_mps=4.0)
    radius = BMW_320I.wheelbase_m / math.tan(0.3)
    for _ in range(25):
        state = ks.advance(state, 0.0, 0.0, 0.1)
    assert math.hypot(state.x_m, state.y_m - radius) == pytest.approx(radius, rel=1e-6)
    assert state.yaw_rad == pytest.approx(10.0 / radius)


def test_own_checks_name_what_a_drive_breaks(tmp_path: Path) -> None:
    problem = read_problem(fake(tmp_path))
    run = drive(problem)
    assert own_verdict(problem, run) == "valid"
    assert own_verdict(problem, replace(run, reached=False)) == "goal not reached"

    def with_state(**change: float) -> str:
        states = list(run.states)
        states[10] = replace(states[10], **change)
        return own_verdict(problem, replace(run, states=tuple(states)))

    east = problem.scene.origin_m[0]
    assert with_state(x_m=1000.0 + 66.0 - east) == "collision at step 10"
    assert with_state(y_m=run.states[10].y_m - 2.0) == "off the road at step 10"
    assert with_state(steer_rad=0.3).startswith("not feasible after step")
    assert with_state(speed_mps=2.0).startswith("not feasible after step")


def test_folder_without_scenarios_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoggedSceneError, match="no CommonRoad scenario"):
        problems_in(tmp_path)


@pytest.mark.slow
def test_official_judge_agrees(tmp_path: Path) -> None:
    python = peers_python()
    if python is None:
        pytest.skip(f"no {OFFICIAL} here (make peers)")
    about = 'tags="urban" author="a" affiliation="b" source="c" date="2026-01-01" benchmarkID'
    good, bad = fake(tmp_path, ("benchmarkID", about)), tmp_path / "bad.xml"
    bad.write_bytes(good.read_bytes())
    problem = read_problem(good)
    run = drive(problem)
    write_solution(problem, run, tmp_path / "out" / "fake.xml")
    broken = list(run.states)
    broken[10] = replace(broken[10], x_m=broken[10].x_m + 0.5)
    made = solution_xml(
        problem, replace(run, states=tuple(broken)), datetime(2026, 1, 1, tzinfo=UTC)
    )
    (tmp_path / "out" / "bad.xml").write_bytes(made)
    told = ask(python, "judge", [good, bad], tmp_path / "out", lambda share: None)
    assert told["fake"]["verdict"] == "valid"
    assert told["bad"]["verdict"] == "not feasible"


@pytest.mark.slow
def test_recorded_problems_are_solved(data_folder: Path) -> None:
    files = sorted((data_folder / "commonroad").glob("*.xml"))
    if not files:
        pytest.skip(f"no CommonRoad scenarios at {data_folder}")
    verdicts = [solved(path)[1] for path in files]
    assert verdicts.count("valid") >= 0.88 * len(files), verdicts
