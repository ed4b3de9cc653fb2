"""Subjects x scenarios: the same table on every run, also after a worker was killed."""

import json
import os
import signal
from pathlib import Path

import pytest
from fakes_world import StraightWorld

from sim.rivals import workers
from sim.rivals.cases import NothingToDriveError, cases_of, families_of, town_cases
from sim.rivals.evaluate import evaluate
from sim.rivals.jobs import BadLatencyError, Job, driven, jobs_of, parse_latency, run_one
from sim.rivals.peers import Act, UnknownSubjectError
from sim.story.scenarios import FAMILIES, UnknownFamilyError
from vehicle.contracts import wire
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.report import EvalReport

SUBJECTS = ("constant-velocity", "planner-truth")


def tiny(seeds: int = 1) -> list:
    return town_cases(
        ["town_drive", "jaywalker"], seeds=seeds, seconds=3.0, light="day", weather="clear"
    )


def test_the_same_run_gives_the_same_reports(tmp_path: Path) -> None:
    first = evaluate(SUBJECTS, tiny(), tmp_path / "a", latency=0.006)
    again = evaluate(SUBJECTS, tiny(), tmp_path / "b", latency=0.006)
    assert not first.failed
    assert [wire.to_bytes(r) for r in first.reports] == [wire.to_bytes(r) for r in again.reports]
    kept = (tmp_path / "a" / "report-planner-truth.json").read_bytes()
    report = wire.from_bytes(EvalReport, kept)
    assert report.metric("epdms").n == 2
    assert report.metric("epdms minus constant-velocity").value == pytest.approx(
        report.metric("epdms").value - first.reports[0].metric("epdms").value
    )
    assert report.config["latency"] == "6 ms"


def test_finished_scenarios_are_not_driven_again(tmp_path: Path) -> None:
    whole = evaluate(SUBJECTS, tiny(), tmp_path, latency=0.0)
    lost = next((tmp_path / "runs" / "planner-truth").iterdir())
    damaged = next((tmp_path / "runs" / "constant-velocity").iterdir())
    lost.unlink()
    damaged.write_text("{half")
    calls: list[tuple[int, int, str]] = []
    again = evaluate(
        SUBJECTS, tiny(), tmp_path, latency=0.0, progress=lambda *told: calls.append(told)
    )
    assert calls[0][:2] == (2, 4)
    assert [wire.to_bytes(r) for r in whole.reports] == [wire.to_bytes(r) for r in again.reports]


def test_another_latency_is_another_run(tmp_path: Path) -> None:
    case = tiny()[:1]
    early = jobs_of(SUBJECTS, case, bundle=None, latency=0.0)
    late = jobs_of(SUBJECTS, case, bundle=None, latency=0.2)
    assert {j.digest for j in early}.isdisjoint(j.digest for j in late)


def dying(job: Job, out: Path) -> dict:
    """Be killed on the first try of one job, as by the kernel when memory runs out."""
    mark = out / "killed-once"
    if job.subject == "planner-truth" and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return {"subject": job.subject, "case": job.case.name, "digest": job.digest, "scores": {}}


def always_dying(job: Job, out: Path) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def test_a_killed_worker_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "run_one", dying)
    jobs = jobs_of(SUBJECTS, tiny(), bundle=None, latency=0.0)
    results = workers.run_all(jobs, tmp_path, workers=2)
    assert (tmp_path / "killed-once").exists()
    assert [r["digest"] for r in results] == [j.digest for j in jobs]


def test_what_kills_every_worker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "run_one", always_dying)
    jobs = jobs_of(("idm",), tiny()[:1], bundle=None, latency=0.0)
    with pytest.raises(workers.WorkerLostError, match="idm town_drive-town100"):
        workers.run_all(jobs, tmp_path, workers=2)


def test_two_processes_give_the_table_of_one(tmp_path: Path) -> None:
    one = evaluate(("idm",), tiny(), tmp_path / "one", latency=0.0)
    two = evaluate(("idm",), tiny(), tmp_path / "two", latency=0.0, workers=2)
    assert [wire.to_bytes(r) for r in one.reports] == [wire.to_bytes(r) for r in two.reports]


class Braker:
    """Brakes hard from the first tick on, and says that this took 0.3 s."""

    truth = False

    def act(self, world, obs):
        command = ControlCommand(
            frame_id=obs.frame.frame_id, mono_ns=0, accel_mps2=-6.0, curvature_1pm=0.0
        )
        return Act(command=command, late_s=0.3)

    def close(self):
        pass


@pytest.mark.parametrize(("latency", "stops_m"), [(0.0, 5.3), ("measured", 7.7), (0.05, 5.7)])
def test_a_late_brake_stops_later_by_the_way_driven_meanwhile(latency, stops_m) -> None:
    world = StraightWorld(speed=8.0, seconds=3.0)
    ticks = sum(1 for _ in driven(world, Braker(), latency))
    assert ticks == 30
    assert world.snapshot().ego.speed_mps == 0.0
    assert world.snapshot().ego.x_m == pytest.approx(stops_m, abs=0.6)
    early = sum(c.accel_mps2 == 0.0 for c in world.commands)
    assert early == {0.0: 0, 0.05: 0, "measured": 3}[latency]


def test_a_scenario_that_cannot_be_driven_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    job = jobs_of(("idm",), tiny()[:1], bundle=None, latency=0.0)[0]
    bad = type(job.case)(name="nowhere", group="x", log="/no/such/scene")
    broken = type(job)(
        subject="idm", case=bad, bundle=None, latency=0.0, code=job.code, digest="0" * 64
    )
    result = run_one(broken, tmp_path)
    assert result["scores"] == {}
    assert "UnknownSceneError" in result["error"]


def test_log_replay_is_left_out_of_towns(tmp_path: Path) -> None:
    jobs = jobs_of(("log-replay", "idm"), tiny(), bundle=None, latency=0.0)
    assert {j.subject for j in jobs} == {"idm"}
    with pytest.raises(NothingToDriveError):
        evaluate(("log-replay",), tiny(), tmp_path)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownFamilyError, match="all, common, rare, town_drive"):
        families_of("moon_landing")
    with pytest.raises(UnknownSubjectError, match="idm-mobil"):
        jobs_of(("alonso",), tiny(), bundle=None, latency=0.0)
    for words in ("fast", "-3", "20000"):
        with pytest.raises(BadLatencyError, match="measured, none"):
            parse_latency(words)
    assert (parse_latency("none"), parse_latency("8")) == (0.0, 0.008)


def test_families_are_named_by_rarity() -> None:
    common, rare = families_of("common"), families_of("rare")
    assert sorted([*common, *rare]) == sorted(families_of("all")) == sorted(FAMILIES)
    assert families_of("jaywalker,common") == [
        "jaywalker",
        *(n for n in common if n != "jaywalker"),
    ]


def test_nothing_to_drive_is_refused() -> None:
    with pytest.raises(NothingToDriveError):
        cases_of("none", [], seeds=1, seconds=3.0)
    for seeds, seconds in ((0, 3.0), (1, 0.0)):
        with pytest.raises(NothingToDriveError):
            cases_of("common", [], seeds=seeds, seconds=seconds)


def test_a_recorded_scene_is_scored_against_its_driver(tmp_path: Path, data_folder: Path) -> None:
    folder = data_folder / "scenes-nuscenes" / "scene-0103"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    cases = cases_of("none", [folder], seeds=1, seconds=6.0)
    verdict = evaluate(("log-replay", "constant-velocity"), cases, tmp_path, latency=0.0)
    replay, straight = (r.metric("epdms").value for r in verdict.reports)
    assert replay > 0.9
    assert replay > straight


def test_page_shows_the_worst_films_and_needs_nothing_else(tmp_path: Path) -> None:
    import re

    import av

    verdict = evaluate(("planner-truth",), tiny(), tmp_path, latency="measured", worst=1)
    assert verdict.page is not None
    text = verdict.page.read_text()
    films = re.findall(r'<video src="([^"#]+)', text)
    assert len(films) == 1
    with av.open(str(tmp_path / films[0])) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert sum(1 for _ in film.decode(video=0)) == 30
    assert "http" not in text.replace("http-equiv", "")
    assert "planner-truth" in text
    assert json.loads(json.dumps(verdict.plain()))["page"] == str(verdict.page)


def test_the_command_prints_reports_and_keeps_them(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sim.cli import app

    words = "evaluate --subjects idm --families town_drive --seeds 1 --seconds 2 --worst 0"
    words += f" --workers 1 --light day --weather clear --latency none --json --out {tmp_path}"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["failed"] == []
    assert printed["reports"][0]["subject"] == "idm"
    assert (tmp_path / "report-idm.json").is_file()
    table = CliRunner().invoke(app, words.replace(" --json", "").split())
    assert "epdms.TTC" in table.output
