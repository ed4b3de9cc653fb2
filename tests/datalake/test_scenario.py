"""A clip of the lake as a scene: what it holds, that it runs, and how it is changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lake_parts import FRAMES, land
from typer.testing import CliRunner

from datalake.cli import app
from datalake.clips import MissingClipError
from datalake.ingest import ingest
from datalake.scenario import (
    EmptyChangeError,
    UnknownTrackError,
    UnusableClipError,
    change,
    read_scene,
    scene_of,
    scene_of_clip,
)
from sim.recorded.logged import LoggedEpisode
from sim.recorded.logged import read_scene as read_logged
from vehicle.contracts import wire
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.frame import Rig
from vehicle.contracts.home import Home

BLIND = Rig(name="none", cameras=())


@pytest.fixture
def scene(home: Home) -> dict[str, Any]:
    return scene_of(home.landing / land(home) / "clip.mcap", name="a clip")


@pytest.fixture
def clip(home: Home) -> str:
    clip_id = land(home)
    ingest(home)
    return clip_id


def test_clip_becomes_a_scene_with_its_road_users(home: Home, clip: str) -> None:
    scene = scene_of_clip(home, clip[:10])
    assert (scene["schema"], scene["steps"], scene["dt_s"]) == ("motion/1", FRAMES, 0.1)
    assert scene["ego"]["x_m"] == [float(i) for i in range(FRAMES)]
    (track,) = scene["tracks"]
    assert (track["id"], track["kind"]) == ("7", "car")
    assert track["x_m"][5] == pytest.approx(13.7 + 5.0)
    assert track["valid"] == [1] * FRAMES
    assert scene["map"]["assumed"] is True
    assert scene["scenario"]["family"] == "logged"


def test_simulator_runs_what_the_lake_wrote(scene: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "scene.json"
    path.write_bytes(wire.canonical(scene))
    read = read_logged(path)
    assert read.scenario is not None
    world = LoggedEpisode(read, rig=BLIND)
    assert world.motion.speed_mps == pytest.approx(10.0, abs=0.1)
    while not world.done:
        world.step(ControlCommand(frame_id=0, mono_ns=0, accel_mps2=0.0, curvature_1pm=0.0))
    assert world.frame_id == FRAMES - 1
    assert not world.collided
    assert world.road.drivable(world.body[None, :2])[0]
    lead = world.others.table[0]
    assert lead["x_m"] - world.motion.x_m == pytest.approx(13.7, abs=0.1)


def test_same_seed_makes_the_same_change(scene: dict[str, Any]) -> None:
    before = wire.canonical(scene)
    first, again, other = (wire.canonical(change(scene, seed=s)) for s in (4, 4, 5))
    assert first == again
    assert first != other
    assert wire.canonical(scene) == before, "the scene itself is left as it is"


def test_shifted_road_user_is_where_it_was_before(scene: dict[str, Any]) -> None:
    was = scene["tracks"][0]
    later = change(scene, track="7", shift_s=0.3)
    now = later["tracks"][0]
    assert now["valid"] == [0] * 3 + [1] * (FRAMES - 3)
    np.testing.assert_allclose(now["x_m"][3:], was["x_m"][:-3], atol=1e-3)
    assert later["changes"] == [{"track": "7", "shift_s": 0.3, "speed_factor": 1.0}]
    earlier = change(scene, track="7", shift_s=-0.3)["tracks"][0]
    np.testing.assert_allclose(earlier["x_m"][:-3], was["x_m"][3:], atol=1e-3)
    assert earlier["valid"][-3:] == [0, 0, 0]


def test_faster_road_user_covers_its_path_sooner(scene: dict[str, Any]) -> None:
    was, now = (s["tracks"][0] for s in (scene, change(scene, track="7", speed_factor=2.0)))
    assert now["x_m"][3] == pytest.approx(was["x_m"][6], abs=1e-3)
    slow = change(scene, track="7", speed_factor=0.5)["tracks"][0]
    assert slow["x_m"][6] == pytest.approx(was["x_m"][3], abs=1e-3)
    assert slow["valid"] == [1] * FRAMES


def test_impossible_changes_are_refused(scene: dict[str, Any]) -> None:
    with pytest.raises(UnknownTrackError, match="99"):
        change(scene, track="99")
    with pytest.raises(EmptyChangeError):
        change(scene, track="7", shift_s=60.0)
    with pytest.raises(EmptyChangeError):
        change(scene, track="7", speed_factor=0.0)
    with pytest.raises(wire.ContractError):
        change(scene, track="7", shift_s=float("nan"))
    with pytest.raises(UnknownTrackError):
        change({**scene, "tracks": []}, seed=0)


def test_clips_that_are_not_there_are_refused(home: Home, clip: str, tmp_path: Path) -> None:
    with pytest.raises(MissingClipError):
        scene_of_clip(home, "0" * 64)
    with pytest.raises(MissingClipError):
        scene_of_clip(home, "' OR true --")
    (tmp_path / "x.json").write_text('{"schema":"other/1"}')
    with pytest.raises(wire.SchemaError):
        read_scene(tmp_path / "x.json")
    (tmp_path / "y.json").write_text("{")
    with pytest.raises(wire.SchemaError):
        read_scene(tmp_path / "y.json")


def test_clip_without_enough_ticks_is_no_scene(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    clip_id = land(home)
    from datalake import scenario

    monkeypatch.setattr(scenario, "LEAST_TICKS", FRAMES + 1)
    path = home.landing / clip_id / "clip.mcap"
    with pytest.raises(UnusableClipError):
        scene_of(path, name="short")


def test_scene_is_made_and_changed_by_command(home: Home, clip: str, tmp_path: Path) -> None:
    out, changed = tmp_path / "scene.json", tmp_path / "changed.json"
    made = CliRunner().invoke(app, ["scenario", clip[:12], "-o", str(out), "--json"])
    assert made.exit_code == 0, made.output
    facts = json.loads(made.stdout)
    assert (facts["tracks"], facts["changes"]) == (1, [])
    assert facts["digest"] == wire.digest(out.read_bytes())
    words = ["scenario", str(out), "-o", str(changed), "--track", "7", "--shift", "0.2"]
    assert "track 7: +0.20 s" in CliRunner().invoke(app, words).stdout
    assert read_scene(changed)["changes"][0]["shift_s"] == 0.2
