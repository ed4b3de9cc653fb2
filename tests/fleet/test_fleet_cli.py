import json
import os
import stat

from fakes_clip import manifest_of
from typer.testing import CliRunner

from fleet.cli import app
from fleet.landing import Landing, Uploads
from fleet.registry import AlreadyEnrolledError, Registry
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.home import Home

RIG = "ab" * 32


def roadloop(home, *words):
    return CliRunner().invoke(app, [*words], env={**os.environ, "ROADLOOP_HOME": str(home)})


def test_enrolled_car_has_a_token_file_that_only_its_owner_reads(tmp_path):
    file = tmp_path / "cars" / "car-1" / "token"
    result = roadloop(tmp_path, "enrol", "car-1", "--rig", RIG, "--token-file", str(file))
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Registry(Home(tmp_path)).car_of(file.read_text().strip()) == "car-1"
    assert file.read_text().strip() not in result.output
    again = roadloop(tmp_path, "enrol", "car-1", "--rig", RIG)
    assert isinstance(again.exception, AlreadyEnrolledError)


def test_cameras_are_taken_from_a_rig_file_or_the_mistake_is_named(tmp_path):
    file = tmp_path / "rig.json"
    file.write_bytes(wire.to_bytes(RIG_R))
    told = json.loads(roadloop(tmp_path, "enrol", "car-1", "--rig", str(file), "--json").output)
    assert told["rig_digest"] == RIG_R.digest
    assert Registry(Home(tmp_path)).car_of(told["token"]) == "car-1"
    assert roadloop(tmp_path, "enrol", "car-2", "--rig", "nowhere").exit_code == 2


def test_status_counts_what_each_car_has_sent(tmp_path):
    home = Home(tmp_path)
    Registry(home).enrol("car-1", RIG)
    Registry(home).enrol("car-2", RIG)
    clip = manifest_of(b"clip")
    Uploads(home, "car-1").append(clip.clip_id, 0, 4, b"clip")
    Landing(home).commit("car-1", clip)
    Uploads(home, "car-2").append("0" * 64, 0, 9, b"half")
    cars = json.loads(roadloop(tmp_path, "status", "--json").output)["cars"]
    assert cars["car-1"] == {"clips": 1, "events": 1, "bytes": 4, "pending_bytes": 0}
    assert cars["car-2"] == {"clips": 0, "events": 0, "bytes": 0, "pending_bytes": 4}
    assert "car-1" in roadloop(tmp_path, "status").output
