"""OpenSCENARIO: the start of an episode, read back by the library's own reader."""

import json
from pathlib import Path

import pytest
from scenariogeneration import xosc
from typer.testing import CliRunner

from sim.asam.openscenario import export_scenario
from sim.cli import app
from sim.run.episode import Episode
from vehicle.contracts.frame import Rig
from vehicle.contracts.scenario import Scenario


def test_a_scenario_names_its_map_and_everybody_near(tmp_path: Path) -> None:
    scenario = Scenario(town=5, seed=2, light="night", weather="rain", duration_s=20.0)
    count = export_scenario(scenario, tmp_path / "t.xodr", tmp_path / "t.xosc")
    again = xosc.ParseOpenScenario(str(tmp_path / "t.xosc"))
    assert again.roadnetwork.road_file == "t.xodr"
    objects = again.entities.scenario_objects
    assert len(objects) == count + 1 > 20
    assert objects[0].name == "ego"
    episode = Episode.of(scenario, Rig(name="blind", cameras=()))
    text = (tmp_path / "t.xosc").read_text()
    assert f'x="{episode.pose[0]}"' in text
    assert 'wetness="wetWithPuddles"' in text


def test_two_exports_of_a_scenario_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_scenario(Scenario(town=5, seed=2), tmp_path / "t.xodr", tmp_path / f"{name}.xosc")
    assert (tmp_path / "a.xosc").read_bytes() == (tmp_path / "b.xosc").read_bytes()


@pytest.mark.parametrize("with_scenario", [False, True])
def test_the_verb_writes_what_it_says(tmp_path: Path, with_scenario: bool) -> None:
    words = ["export", "3", str(tmp_path / "t.xodr"), "--layout", "roundabout", "--json"]
    if with_scenario:
        words += ["--scenario", str(tmp_path / "t.xosc")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["town"] == 1_000_003
    assert facts["bytes"] == (tmp_path / "t.xodr").stat().st_size
    assert (tmp_path / "t.xosc").exists() == with_scenario
