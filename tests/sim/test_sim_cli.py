"""The simulator's verbs, as a person calls them."""

import json
from pathlib import Path

from typer.testing import CliRunner

from sim.cli import app
from sim.run.episode import Episode
from sim.sense.generate import BadRequestError
from sim.story.scenarios import FAMILIES
from vehicle.contracts.frame import Rig
from vehicle.route import RouteReader


def test_generate_reports_what_it_wrote(tmp_path: Path) -> None:
    call = ["generate", str(tmp_path / "set"), "--town-to", "0", "--frames", "2", "--json"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.output)
    assert facts["frames"] == 2
    assert (tmp_path / "set" / "dataset.json").is_file()


def test_generate_refuses_negative_frames_by_name(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["generate", str(tmp_path / "set"), "--frames", "-1"])
    assert isinstance(result.exception, BadRequestError)


def test_render_writes_a_picture(tmp_path: Path) -> None:
    call = ["render", str(tmp_path / "s.png"), "--light", "night", "--after", "2"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_families_are_listed() -> None:
    table = json.loads(CliRunner().invoke(app, ["families", "--json"]).output)
    assert set(table) == set(FAMILIES)
    assert "cut_in" in CliRunner().invoke(app, ["families"]).output


def test_drive_closes_the_loop_and_records_it(tmp_path: Path) -> None:
    route = tmp_path / "r.mcap"
    call = ["drive", "--ticks", "12", "--record", str(route), "--json"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.output)
    assert facts["ticks"] == 12
    assert facts["distance_m"] > 2.0
    with_ticks = list(RouteReader(route).ticks())
    assert len(with_ticks) == 12
    assert RouteReader(route).metadata["tag.light"] == "day"


def test_an_episode_without_cameras_still_has_motion_and_guidance() -> None:
    episode = Episode(town=0, seed=0, light="day", rig=Rig(name="blind", cameras=()))
    observation = episode.observe()
    assert observation.frame.images == {}
    assert observation.ego is not None
    boxes, bev = episode.truth()
    assert len(boxes) > 0
    assert (boxes[:, 7] == 0).all()
    assert bev.any()
