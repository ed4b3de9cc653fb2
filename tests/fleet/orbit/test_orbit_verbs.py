"""The verbs of the relay, as a person types them."""

import json
import os
import subprocess
import sys

import pytest
from fakes_clip import put_in_outbox
from orbit_parts import Relay, open_plan
from typer.testing import CliRunner

from fleet.cli import app
from fleet.identity import enrol
from fleet.orbit.answering import NoAnswerError
from fleet.orbit.mission import Course, MissionClock, Stretch, hurried
from fleet.orbit.plan import UnknownNodeError
from fleet.orbit.routing import NoRouteError
from fleet.orbit.services import SiteSaysNoError, clip_parcel
from fleet.store import LocalStore
from vehicle.clock import FakeClock
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.wire import ContractError

KINDS = {"car-1": ("vehicle", "US"), "home": ("ground", "US")}
S = 10**9


def orbit(*words, **env):
    return CliRunner().invoke(app, ["orbit", *map(str, words)], env=env, catch_exceptions=True)


def test_plan_and_route_say_who_passes_when_and_what_arrives(tmp_path):
    path = tmp_path / "plan.json"
    told = json.loads(orbit("plan", "--out", path, "--hours", 6, "--json").stdout)
    assert told["contacts"] > 100
    assert {row["site"] for row in told["coverage"]} >= {"car-1", "ground-no"}
    way = json.loads(orbit("route", "ground-no", "car-1", "--plan", path, "--json").stdout)
    assert [leg["to"] for leg in way["legs"]] == ["sat-0-5", "car-1"]
    nowhere = orbit("route", "ground-no", "car-1", "--plan", path, "--lifetime-h", 0.5)
    assert isinstance(nowhere.exception, NoRouteError)
    assert orbit("plan", "--start", "yesterday", "--out", path).exit_code == 2


def test_clip_that_is_sent_to_home_lands_there_and_status_counts_it(tmp_path):
    home, plan = Home(tmp_path / "roadloop"), open_plan(("car-1", "home"), kinds=KINDS)
    enrol(home, "car-1", "", tmp_path / "identity")
    manifest = put_in_outbox(tmp_path / "outbox", os.urandom(2_000))
    wire.atomic_write(tmp_path / "clip.tar", clip_parcel(tmp_path / "outbox" / manifest.clip_id))
    with Relay(tmp_path, plan, keyed=[("car-1", "home")]) as relay:
        doors = {name: config.door for name, config in relay.configs.items()}
        sent = orbit("send", "ipn:2.1", tmp_path / "clip.tar", "--door", doors["car-1"], "--json")
        assert json.loads(sent.stdout)["bundle"].startswith("ipn:1.10/")
        words = ("desk", "--plan", tmp_path / "plan.json", "--door", doors["home"], "--until", 1)
        done = orbit(*words, ROADLOOP_HOME=str(home.root))
        assert "1 clips have landed" in done.stdout
        assert LocalStore(home).manifest(manifest.clip_id) == manifest
        assert relay.counted("home", "delivered")
        told = json.loads(orbit("status", tmp_path / "home.json", "--json").stdout)
        assert told["counts"] == {"delivered": 1}
        assert told["held"] == {"forward": 0, "gather": 0, "deliver": 0}


def test_mission_time_hurries_through_nothing_and_takes_its_time_in_a_contact(tmp_path):
    contact = Stretch(start_utc_ns=1_000 * S, end_utc_ns=1_100 * S, speed=10.0)
    course = hurried([contact], 0, 10_000 * S, 5 * S, fast=100.0)
    real = FakeClock(mono_ns=5 * S)
    clock = MissionClock(course, base=real)
    assert clock.wall_s(1_000 * S) == pytest.approx(10.0)
    assert clock.wall_s(1_100 * S) == pytest.approx(20.0)
    real.advance_ns(15 * S)
    assert clock.utc_ns() == 1_050 * S
    assert MissionClock(course, base=real, offset_s=-60.0).utc_ns() == 990 * S
    path = tmp_path / "course.json"
    wire.atomic_write(path, wire.to_bytes(course))
    followed = MissionClock(path=path, base=real)
    assert followed.utc_ns() == 1_050 * S
    wire.atomic_write(path, wire.to_bytes(Course(knots=((20 * S, 7 * S),))))
    assert followed.utc_ns() == 7 * S


HAZARDS = """
[[hazard]]
east_m = 900.0
north_m = 0.0
radius_m = 200.0
speed_mps = 8.0
reason = "ice on the bridge"
"""
FLIES = {"car-1": ("vehicle", "US"), "sat-0-5": ("satellite", "")}


def question(relay, *words):
    return orbit(
        *("ask", "ipn:2", "--car", "car-1", "--at", "500,0", "--door", relay.configs["car-1"].door),
        *words,
    )


def test_a_car_asks_a_satellite_by_hand_and_hears_what_lies_ahead(tmp_path):
    plan = open_plan(("car-1", "sat-0-5"), kinds=FLIES)
    (tmp_path / "hazards.toml").write_text(HAZARDS)
    with Relay(tmp_path, plan, keyed=[("car-1", "sat-0-5")]) as relay:
        words = ("answer", tmp_path / "hazards.toml", "--node", "sat-0-5", "--until", 2)
        words = (*words, "--plan", tmp_path / "plan.json", "--door", relay.configs["sat-0-5"].door)
        command = [sys.executable, "-m", "roadloop", "fleet", "orbit", *map(str, words)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as answering:
            forged = question(relay, "--car", "car-9", "--json")
            told = json.loads(question(relay, "--json").stdout)
            said, _ = answering.communicate(timeout=20)
    assert isinstance(forged.exception, SiteSaysNoError)
    assert "ForgedRequestError" in str(forged.exception)
    assert (told["site"], told["context"], told["reason"]) == (
        "sat-0-5",
        "orbital",
        "ice on the bridge",
    )
    assert told["caps"][0]["x_m"] == 900.0 - 500.0
    assert "2 questions were taken" in said


def test_a_question_that_nobody_answers_is_kept_and_said_to_be(tmp_path):
    plan = open_plan(("car-1", "sat-0-5"), kinds=FLIES)
    with Relay(tmp_path, plan, keyed=[("car-1", "sat-0-5")]) as relay:
        assert isinstance(question(relay, "--wait-s", 0.6).exception, NoAnswerError)
        assert "will be asked" in question(relay, "--wait-s", 0).stdout
        assert question(relay, "--at", "here").exit_code == 2


def test_hazards_that_are_none_and_nodes_that_are_not_there_are_named(tmp_path):
    wire.atomic_write(
        tmp_path / "plan.json", wire.to_bytes(open_plan(("car-1", "sat-0-5"), kinds=FLIES))
    )
    file = tmp_path / "hazards.toml"
    words = ("answer", file, "--plan", tmp_path / "plan.json", "--until", 1, "--node")
    file.write_text("[[hazard]]\neast_m = 1.0\n")
    assert "north_m" in str(orbit(*words, "sat-0-5").exception)
    file.write_text("hazard = 5")
    assert "expected tables" in str(orbit(*words, "sat-0-5").exception)
    file.write_text("hazard = ")
    assert isinstance(orbit(*words, "sat-0-5").exception, ContractError)
    file.write_text(HAZARDS)
    assert isinstance(orbit(*words, "sat-9-9").exception, UnknownNodeError)
