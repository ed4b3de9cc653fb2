import json
import os
import shutil
import stat
import subprocess

import pytest
from fakes_clip import manifest_of
from typer.testing import CliRunner

from fleet.cli import app
from fleet.inbox import Summaries, UnknownClipError, Wanted
from fleet.landing import Landing, Uploads
from fleet.registry import AlreadyEnrolledError, Registry
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipSummary
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import PartDigest
from vehicle.identity import Identity

RIG = "ab" * 32


def roadloop(home, *words, stdin=None):
    env = {**os.environ, "ROADLOOP_HOME": str(home)}
    return CliRunner().invoke(app, [*words], env=env, input=stdin)


def put_in(home, car, content):
    uploads, sha256 = Uploads(home, car), wire.digest(content)
    uploads.begin(sha256, len(content))
    part = PartDigest(number=1, sha256=sha256)
    uploads.put(sha256, part, 0, content)
    uploads.complete(sha256, [part])


def tell(home, car, content):
    summary = ClipSummary(manifest=manifest_of(content, car), value=1.0)
    clip_id = summary.manifest.clip_id
    Summaries(home).put(car, clip_id, wire.to_bytes(summary), Landing(home).has)
    return clip_id


def test_enrolled_car_has_an_identity_whose_key_only_its_owner_reads(tmp_path):
    result = roadloop(tmp_path, "enrol", "car-1", "--rig", RIG)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "cars" / "car-1" / "identity"
    assert stat.S_IMODE((folder / "car.key").stat().st_mode) == 0o600
    assert Identity.at(folder).car_id == "car-1"
    assert "PRIVATE" not in result.output
    again = roadloop(tmp_path, "enrol", "car-1", "--rig", RIG)
    assert isinstance(again.exception, AlreadyEnrolledError)
    out = str(tmp_path / "elsewhere")
    told = json.loads(
        roadloop(tmp_path, "enrol", "car-1", "--renew", "--out", out, "--json").output
    )
    assert told["identity"] == out


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command here")
def test_request_made_in_the_car_by_openssl_is_signed_and_revoked(tmp_path):
    folder = tmp_path / "in-the-car"
    folder.mkdir()
    words = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words += ["-subj", "/CN=x", "-keyout"]
    files = [str(folder / "car.key"), "-out", str(folder / "car.csr")]
    subprocess.run(["openssl", *words, *files], check=True, capture_output=True)
    request = ("--csr", str(folder / "car.csr"), "--out", str(folder))
    assert roadloop(tmp_path, "enrol", "car-1", *request).exit_code == 0
    assert Identity.at(folder).car_id == "car-1"
    assert "shut out" in roadloop(tmp_path, "revoke", "car-1").output
    assert Registry(Home(tmp_path)).cars()["car-1"].revoked


def test_cameras_are_taken_from_a_rig_file_or_the_mistake_is_named(tmp_path):
    file = tmp_path / "rig.json"
    file.write_bytes(wire.to_bytes(RIG_R))
    told = json.loads(roadloop(tmp_path, "enrol", "car-1", "--rig", str(file), "--json").output)
    assert told["rig_digest"] == RIG_R.digest
    assert roadloop(tmp_path, "enrol", "car-2", "--rig", "nowhere").exit_code == 2


def test_status_counts_what_each_car_has_sent_and_told_of(tmp_path):
    home = Home(tmp_path)
    for car in ("car-1", "car-2"):
        roadloop(tmp_path, "enrol", car, "--rig", RIG)
    put_in(home, "car-1", b"clip")
    tell(home, "car-1", b"clip")
    Landing(home).commit("car-1", manifest_of(b"clip"))
    Uploads(home, "car-2").begin("0" * 64, 9)
    Wanted(home).ask("car-2", tell(home, "car-2", b"told"))
    roadloop(tmp_path, "revoke", "car-2")
    cars = json.loads(roadloop(tmp_path, "status", "--json").output)["cars"]
    assert cars["car-1"].pop("certificate").startswith("until ")
    nothing = {"clips": 0, "events": 0, "bytes": 0, "pending_bytes": 0}
    nothing |= {"summaries_waiting": 0, "requested": 0}
    assert cars["car-1"] == nothing | {"clips": 1, "events": 1, "bytes": 4}
    more = {"pending_bytes": 9, "summaries_waiting": 1, "requested": 1, "certificate": "revoked"}
    assert cars["car-2"] == nothing | more
    assert "car-1" in roadloop(tmp_path, "status").output


def test_clips_are_asked_for_by_id_or_as_a_column_from_stdin(tmp_path):
    home = Home(tmp_path)
    one, two = tell(home, "car-1", b"1"), tell(home, "car-2", b"2")
    result = roadloop(tmp_path, "request", "-", "--json", stdin=f'clip_id\n"{one}"\n{two}\n')
    assert json.loads(result.output) == {"requested": {one: "car-1", two: "car-2"}}
    assert Wanted(home).of("car-1") == (one,)
    unknown = roadloop(tmp_path, "request", one, "0" * 64)
    assert isinstance(unknown.exception, UnknownClipError)
    assert roadloop(tmp_path, "request", "0" * 64, "--car", "car-1").exit_code == 0
    assert Wanted(home).of("car-1") == ("0" * 64, one)


def test_campaign_goes_from_the_example_to_the_cars_and_back(tmp_path):
    example = roadloop(tmp_path, "campaign", "add", "--example").output
    file = tmp_path / "c.toml"
    file.write_text(example)
    assert roadloop(tmp_path, "campaign", "add", str(file)).exit_code == 0
    file.write_text(example.replace("priority = 3", "priority = 4"))
    told = json.loads(roadloop(tmp_path, "campaign", "add", str(file), "--json").output)
    assert told == {"campaign": "example", "version": 2}
    listed = json.loads(roadloop(tmp_path, "campaign", "list", "--json").output)["campaigns"]
    assert [(c["campaign"], c["version"], c["priority"]) for c in listed] == [("example", 2, 4)]
    assert "example" in roadloop(tmp_path, "campaign", "list").output
    shown = roadloop(tmp_path, "campaign", "show", "example").output
    assert "close call: ttc_s <= 1.5" in shown
    full = json.loads(roadloop(tmp_path, "campaign", "show", "example", "--json").output)
    assert full["campaign"]["version"] == 2
    assert "withdrawn" in roadloop(tmp_path, "campaign", "withdraw", "example").output
    assert json.loads(roadloop(tmp_path, "campaign", "list", "--json").output) == {"campaigns": []}
    assert roadloop(tmp_path, "campaign", "add").exit_code == 2
