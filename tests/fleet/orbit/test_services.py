"""Clips, questions and answers as parcels: the same doors, the same refusals, effects once."""

import asyncio

import numpy as np
import pytest
from fakes_clip import put_in_outbox
from site_parts import ask

from fleet.identity import enrol
from fleet.inference.desk import Desk
from fleet.inference.policy import Site
from fleet.inference.queue import Turns
from fleet.inference.tenants import Tenant, Tenants
from fleet.landing import DigestMismatchError, ForeignClipError, IncompleteClipError
from fleet.orbit.agent import Received
from fleet.orbit.constellation import Shell, satellites
from fleet.orbit.contacts import UNIX_JD
from fleet.orbit.desks import ClipDesk, QuestionDesk, UnprovenError
from fleet.orbit.hazards import Hazard, HazardModel
from fleet.orbit.power import Board, PowerSpec, Upsets, charged
from fleet.orbit.services import (
    SiteSaysNoError,
    clip_parcel,
    land,
    question,
    read_answer,
    read_question,
)
from fleet.store import LocalStore
from vehicle.clock import SystemClock
from vehicle.contracts import parcel, wire
from vehicle.contracts.advice import ANSWER, ASK_EGO, ASK_TRACKS, Advice
from vehicle.contracts.home import Home
from vehicle.contracts.parcel import ParcelError

CARS = {1: "car-1"}
ORBIT = Site(name="sat-0-5", context="orbital", jurisdiction="US", landings=("US",))
ICE = Hazard(east_m=900.0, north_m=0.0, radius_m=200.0, speed_mps=8.0, reason="ice on the bridge")


def received(payload, source="ipn:1.1", proven=True, n=1):
    return Received(
        id=f"{source}/{n}-0",
        source=source,
        payload=payload,
        created_dtn_ms=n,
        lifetime_ms=1_000,
        hops=2,
        proven=proven,
        is_report=False,
    )


@pytest.fixture
def clip(tmp_path):
    manifest = put_in_outbox(tmp_path / "outbox", b"frames" * 400_000)
    return clip_parcel(tmp_path / "outbox" / manifest.clip_id), manifest


def test_clip_lands_like_any_other_and_once(tmp_path, clip):
    home = Home(tmp_path / "home")
    enrol(home, "car-1", "", tmp_path / "identity")
    desk = ClipDesk(home, CARS)
    for n in range(2):
        assert asyncio.run(desk.take(received(clip[0], n=n))) == ()
    assert (desk.landed, desk.again) == (["car-1"], 1)
    landed = LocalStore(home).manifest(clip[1].clip_id)
    assert landed == clip[1]
    assert (home.landing / clip[1].clip_id / "clip.mcap").read_bytes() == b"frames" * 400_000


def test_clip_that_nobody_proves_or_of_a_car_that_is_shut_out_is_refused(tmp_path, clip):
    home = Home(tmp_path / "home")
    for bad in (received(clip[0], proven=False), received(clip[0], source="ipn:9.1")):
        with pytest.raises(UnprovenError, match="nothing proves"):
            asyncio.run(ClipDesk(home, CARS).take(bad))
    with pytest.raises(UnprovenError, match="not enrolled"):
        asyncio.run(ClipDesk(home, CARS).take(received(clip[0])))


def test_damaged_clip_and_clip_of_another_car_are_refused_by_the_landings_own_names(tmp_path, clip):
    store, contents = LocalStore(Home(tmp_path / "home")), parcel.unpack(clip[0], 1 << 30)
    with pytest.raises(DigestMismatchError):
        land(store, "car-1", parcel.pack({**contents, "files/clip.mcap": b"other"}))
    with pytest.raises(IncompleteClipError):
        land(store, "car-1", parcel.pack({"manifest.json": contents["manifest.json"]}))
    with pytest.raises(ForeignClipError):
        land(store, "car-2", clip[0])
    with pytest.raises(ParcelError):
        land(store, "car-1", clip[0][:5_000])
    assert list(store.clips()) == []


def site_desk(model, site=ORBIT):
    clock = SystemClock()
    tenants = Tenants((Tenant(name="home"),), clock)
    return Desk([model], site=site, tenants=tenants, turns=Turns(clock, 1), clock=clock)


def asked(**changes):
    facts = {"workload": "hazards", "tier": "batch", "lasts_s": 3_600, "freshness_s": 3_600.0}
    ego = np.array([100.0, 50.0, 0.0, 20.0, 500.0, -50.0])
    tracks = np.zeros((0, 10), np.float32)
    request = ask(**(facts | changes))
    return question("hazards", {ASK_TRACKS: tracks, ASK_EGO: ego}, request), request


async def answered(payload, model, **more):
    desk = QuestionDesk(site_desk(model), "home", CARS, SystemClock(), **more)
    first = await desk.take(received(payload))
    assert await desk.take(received(payload)) is first
    return first[0]


def test_question_is_answered_with_caps_in_the_cars_own_frame_though_radiation_flips_bits():
    payload, request = asked()
    model = HazardModel([ICE], ORBIT, SystemClock(), upsets=Upsets(prob=0.4, seed=3))
    reply = asyncio.run(answered(payload, model))
    assert reply.target == "ipn:1.4"
    outputs, told = read_answer(reply.payload)
    advice = wire.from_bytes(Advice, outputs[ANSWER][0])
    assert (told.context, told.request_id) == ("orbital", request.request_id)
    [cap] = advice.caps
    assert (cap.x_m, cap.y_m, cap.speed_mps) == (400.0, 50.0, 8.0)
    assert model.runs >= 2


def test_question_that_is_late_or_forged_gets_the_desks_own_refusal():
    model = HazardModel([ICE], ORBIT, SystemClock())
    for changes, name in (
        ({"lasts_s": 5, "age_s": 60.0}, "LateRequestError"),
        ({"freshness_s": 5.0, "age_s": 60.0}, "StaleInputError"),
        ({"age_s": -60.0}, "ClockError"),
        ({"tenant": "rival"}, "ForgedRequestError"),
    ):
        reply = asyncio.run(answered(asked(**changes)[0], model))
        with pytest.raises(SiteSaysNoError, match=name):
            read_answer(reply.payload)


def test_satellite_without_power_says_so_and_when_to_ask_again():
    start_ns = SystemClock().utc_ns()
    shell = Shell(satellites=1, planes=1, phasing=0, inclination_deg=53.0, altitude_km=550.0)
    record = satellites(shell, UNIX_JD + start_ns / 86_400e9)[0]
    empty = Board(record, PowerSpec(), start_ns, charged(PowerSpec(), 0.2))
    model = HazardModel([ICE], ORBIT, SystemClock())
    reply = asyncio.run(answered(asked()[0], model, board=empty, busy_s=600.0))
    with pytest.raises(SiteSaysNoError, match="NoPowerError"):
        read_answer(reply.payload)
    assert model.runs == 0


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b"{}",
        b'{"model": 1, "parameter": "x", "tensors": []}',
        b'{"model": "m", "parameter": "x", "tensors": [{"name": "a"}]}',
        b'{"model":"m","parameter":"x","tensors":[{"name":"a","datatype":"FP32","shape":["x"]}]}',
        b"\xff",
    ],
)
def test_parcel_that_is_no_question_or_answer_is_refused(head):
    with pytest.raises(ParcelError):
        read_question(parcel.pack({"call.json": head, "tensors/0": b""}))
    with pytest.raises((ParcelError, wire.ContractError)):
        read_answer(parcel.pack({"reply.json": head}))
