"""The best network that is done in time; what a teacher makes of it; and asking it elsewhere."""

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest
from site_parts import Echo, ask, site, tensors
from tiny_bundle import CAR_X_M, CAR_Y_M, PEDESTRIAN_X_M, golden_inputs, make

from fleet.inference import remote
from fleet.inference.refusals import MalformedRequestError, UnknownModelError
from fleet.inference.remote import ClusterDownError, RemoteModel, discover
from fleet.inference.teacher import CAP_MPS, Adjudicator, missed, placed
from fleet.inference.variants import MixedVariantsError, Variant, Variants, choose, kept
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.advice import Advice, rows_of, tracks_of
from vehicle.contracts.scene import KINDS, TRACK

CLOCK = SystemClock()
EGO = np.array([100.0, 50.0, math.pi / 2, 8.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Variant]:
    """A quick network, and one that says it takes five seconds."""
    folders = [tmp_path_factory.mktemp(name) for name in ("quick", "sure")]
    make(folders[0], name="quick")
    make(folders[1], name="sure", rich=True, latency_budget_us=5_000_000)
    return [Variant.at(folder) for folder in folders]


def test_best_network_that_is_done_in_time_is_chosen() -> None:
    assert choose((2_000, 9_000, 30_000), left_us=50_000.0) == 2
    assert choose((2_000, 9_000, 30_000), left_us=20_000.0) == 1
    assert choose((2_000, 9_000, 30_000), left_us=math.inf) == 2


def test_quickest_network_is_asked_when_none_is_done_in_time() -> None:
    assert choose((2_000, 9_000), left_us=100.0) == 0


def test_who_has_time_gets_the_surer_network(pair: list[Variant]) -> None:
    eyes = Variants("perceive", pair, kept(pair), CLOCK)
    inputs = golden_inputs()
    hasty = asyncio.run(eyes.infer(inputs, ask(lasts_s=1)))
    patient = asyncio.run(eyes.infer(inputs, ask(lasts_s=60)))
    assert hasty["variant"].tolist() == [b"quick@1"]
    assert patient["variant"].tolist() == [b"sure@1"]
    assert set(hasty) == set(patient) == {s.name for s in eyes.outputs}


def test_what_a_network_took_is_believed_over_what_its_maker_said(pair: list[Variant]) -> None:
    eyes = Variants("perceive", pair, kept(pair), CLOCK)
    asyncio.run(eyes.infer(golden_inputs(), ask(lasts_s=60)))
    hasty = asyncio.run(eyes.infer(golden_inputs(), ask(lasts_s=1)))
    assert hasty["variant"].tolist() == [b"sure@1"]


def test_networks_that_know_other_kinds_do_not_stand_in(
    pair: list[Variant], tmp_path: Path
) -> None:
    make(tmp_path, kinds=("car", "truck"))
    with pytest.raises(MixedVariantsError, match="other cameras or kinds"):
        Variants("perceive", [*pair, Variant.at(tmp_path)], kept(pair), CLOCK)


def adjudicated(pair: list[Variant], known: np.ndarray) -> tuple[np.ndarray, Advice]:
    eyes = Variants("perceive", pair, kept(pair), CLOCK)
    teacher = Adjudicator("adjudicate", eyes, "hyperscale-1", CLOCK)
    inputs = {**golden_inputs(), "tracks": known, "ego": EGO}
    answer = asyncio.run(teacher.infer(inputs, ask(lasts_s=1)))
    return answer["boxes"], wire.from_bytes(Advice, answer["advice"][0])


def test_what_the_car_misses_on_its_way_becomes_advice(pair: list[Variant]) -> None:
    boxes, advice = adjudicated(pair, np.zeros((0, 10), np.float32))
    assert len(boxes) == 2  # the pedestrian stands aside, the car in the way
    (track,) = tracks_of(advice.tracks)
    assert KINDS[track["kind"]] == "car"
    assert (track["x_m"], track["y_m"]) == pytest.approx(
        (100.0 - CAR_Y_M, 50.0 + CAR_X_M), abs=0.01
    )
    assert [cap.speed_mps for cap in advice.caps] == [CAP_MPS]
    assert "car on the way" in advice.reason


def test_what_the_car_sees_itself_needs_no_advice(pair: list[Variant]) -> None:
    own = np.zeros(1, TRACK)
    own["x_m"], own["y_m"] = CAR_X_M + 1.0, CAR_Y_M
    known = np.array(rows_of(placed(own, EGO, back=False)), np.float32)
    _, advice = adjudicated(pair, known)
    assert (advice.tracks, advice.caps, advice.reason) == ((), (), "")


def test_doubtful_far_and_aside_road_users_are_no_hazards() -> None:
    found = np.zeros(4, TRACK)
    found["x_m"] = (10.0, 60.0, 10.0, PEDESTRIAN_X_M)
    found["y_m"] = (0.0, 0.0, 5.0, 1.0)
    found["score_prob"] = (0.4, 0.9, 0.9, 0.6)
    assert missed(found, np.zeros(0, TRACK))["x_m"].tolist() == pytest.approx([PEDESTRIAN_X_M])


def test_frames_there_and_back_are_the_same() -> None:
    tracks = np.zeros(3, TRACK)
    for i, name in enumerate(("x_m", "y_m", "yaw_rad", "vx_mps", "vy_mps")):
        tracks[name] = np.array([1.0, -2.0, 0.5]) * (i + 1)
    again = placed(placed(tracks, EGO, back=False), EGO, back=True)
    for name in ("x_m", "y_m", "yaw_rad", "vx_mps", "vy_mps"):
        assert np.allclose(tracks[name], again[name], atol=1e-4)


async def proxied(port: int, name: str = "echo") -> RemoteModel:
    http = remote.client(f"http://127.0.0.1:{port}")
    return (await discover(http, {name: "0" * 64}, CLOCK))[0]


def test_model_elsewhere_answers_as_if_it_were_here() -> None:
    async def ask_it(port: int) -> None:
        model = await proxied(port)
        assert (model.inputs, model.outputs) == (Echo.inputs, Echo.outputs)
        answer = await model.infer(tensors(), ask())
        assert answer["x"].tolist() == [0.0, 1.0, 2.0]
        assert answer["words"].tolist() == tensors()["words"].tolist()
        assert 0 < model.expected_us() < 5_000_000

    with site(Echo()) as served:
        asyncio.run(ask_it(served.http_port))


def test_refusal_elsewhere_keeps_its_name() -> None:
    async def ask_it(port: int) -> None:
        model = await proxied(port)
        with pytest.raises(MalformedRequestError, match="found inputs"):
            await model.infer({}, ask())
        model._path = "/v2/models/nobody/infer"
        with pytest.raises(UnknownModelError, match="no model 'nobody'"):
            await model.infer(tensors(), ask())

    with site(Echo()) as served:
        asyncio.run(ask_it(served.http_port))


def test_model_elsewhere_that_is_gone_is_said_to_be_down() -> None:
    async def ask_it(port: int) -> RemoteModel:
        return await proxied(port)

    with site(Echo()) as served:
        model = asyncio.run(ask_it(served.http_port))
    fresh = remote.client(f"http://127.0.0.1:{served.http_port}")
    model._http = fresh
    with pytest.raises(ClusterDownError, match="echo: ConnectError"):
        asyncio.run(model.infer(tensors(), ask()))
