"""Collective perception: who a car cannot see, and another station can."""

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_gateway import enrol_car
from hypothesis import given
from hypothesis import strategies as st
from site_parts import EDGE, ask, client, site

from fleet.inference import collective
from fleet.inference.client import ClientTls, SiteRefusedError
from fleet.inference.collective import (
    CELLS,
    COVARIANCE,
    DELTA,
    OCCUPIED,
    ORIGIN,
    Collective,
    Report,
    Reporting,
    Reports,
)
from fleet.inference.fusion import Seen, carry, merge
from fleet.inference.refusals import MalformedRequestError, StaleInputError
from fleet.inference.server import SiteTls
from fleet.inference.tenants import Tenant
from vehicle.clock import FakeClock, SystemClock
from vehicle.contracts import wire
from vehicle.contracts.advice import ADVISED_COLUMNS, ANSWER, ASK_EGO, ASK_TRACKS, Advice, tracks_of
from vehicle.contracts.home import Home
from vehicle.contracts.scene import KINDS
from vehicle.contracts.uplink import IDENTITY
from vehicle.identity import Identity
from vehicle.site_link import SiteLink

CAR, PEDESTRIAN, TRUCK = (float(KINDS.index(k)) for k in ("car", "pedestrian", "truck"))
CLOCK = FakeClock()
NOW = CLOCK.utc_ns()
S = 10**9


def someone(x_m: float, y_m: float, *, kind: float = PEDESTRIAN, **more: float) -> list[float]:
    """Return a row of ADVISED_COLUMNS."""
    size = (0.6, 0.6, 1.75) if kind == PEDESTRIAN else (4.6, 1.9, 1.6)
    usual = {"kind": kind, "x_m": x_m, "y_m": y_m, "yaw_rad": 0.0, "score_prob": 0.8}
    usual |= dict(zip(("length_m", "width_m", "height_m"), size, strict=True))
    usual |= {"vx_mps": 0.0, "vy_mps": 0.0}
    return [(usual | more)[name] for name in ADVISED_COLUMNS]


def rows(*objects: list[float]) -> np.ndarray:
    return np.array(objects, np.float32).reshape(-1, len(ADVISED_COLUMNS))


def report_inputs(
    *objects: list[float], sigma_m: float = 0.3, delta_s: float = 0.0, origin: Any = (0.0, 0.0)
) -> dict[str, np.ndarray]:
    covariance = np.tile(np.float32([sigma_m**2, 0.0, sigma_m**2]), (len(objects), 1))
    return {
        ASK_TRACKS: rows(*objects),
        COVARIANCE: covariance.reshape(-1, 3),
        DELTA: np.full(len(objects), delta_s, np.float32),
        ORIGIN: np.array(origin, np.float64),
    }


def asked_by(car_id: str = "car-1", at_ns: int = NOW, tenant: str = "home") -> Any:
    times = {"input_utc_ns": at_ns, "deadline_utc_ns": at_ns + S}
    return ask(car_id=car_id, tenant=tenant, **times)


class Junction:
    """A site's two models, asked without a server."""

    def __init__(self) -> None:
        reports = Reports()
        self.collective = Collective(EDGE, reports, CLOCK)
        self.reporting = Reporting(reports)

    def report(self, *objects: list[float], request: Any = None, **more: Any) -> None:
        request = request or asked_by("camera-3")
        asyncio.run(self.reporting.infer(report_inputs(*objects, **more), request))

    def advise(
        self, *seen: list[float], ego: Any = (0.0, 0.0, 0.0, 8.0, 0.0, 0.0), request: Any = None
    ) -> tuple[Advice, np.ndarray]:
        inputs = {ASK_TRACKS: rows(*seen), ASK_EGO: np.array(ego, np.float64)}
        outputs = asyncio.run(self.collective.infer(inputs, request or asked_by()))
        return wire.from_bytes(Advice, outputs[ANSWER][0]), outputs[OCCUPIED]


def test_pedestrian_behind_a_truck_is_told_to_the_car_that_cannot_see_him() -> None:
    junction = Junction()
    truck = someone(14.0, 3.0, kind=TRUCK)
    junction.report(truck, someone(18.0, 3.5, vy_mps=-1.4))
    request = asked_by()
    advice, grid = junction.advise(truck, request=request)
    assert advice.request_id == request.request_id
    assert advice.input_utc_ns == request.input_utc_ns
    assert [t[:3] for t in advice.tracks] == [(PEDESTRIAN, pytest.approx(18.0), pytest.approx(3.5))]
    assert advice.reason == "pedestrian 18 m away, perceived by camera-3"
    assert grid[CELLS // 2 + 18, CELLS // 2 + 3] > 150
    assert grid[CELLS // 2 - 20, CELLS // 2] == 0


def test_answer_is_in_the_local_frame_of_the_car_at_its_instant() -> None:
    junction = Junction()
    walking = someone(500.0, 200.0, vx_mps=1.0)
    junction.report(walking, request=asked_by("camera-3", NOW - S // 2))
    ego = (10.0, -20.0, math.pi / 2, 5.0, 480.0, 215.0)  # where it is, and its frame's origin
    advice, _ = junction.advise(ego=ego)
    assert advice.tracks[0][1:3] == (pytest.approx(20.5), pytest.approx(-15.0))


def test_car_is_not_told_of_itself_nor_of_whom_it_sees() -> None:
    junction = Junction()
    itself = someone(1.6, 0.2, kind=CAR, vx_mps=8.0)
    junction.report(itself, someone(18.0, 3.5), someone(40.2, -2.0, kind=CAR))
    advice, _ = junction.advise(someone(18.4, 3.2), someone(40.0, -2.0, kind=TRUCK))
    assert advice.tracks == ()
    assert advice.reason == "nobody whom the car does not perceive"


@pytest.mark.parametrize("late_s", [-0.2, 0.2])
def test_car_is_not_told_of_itself_by_a_station_whose_clock_is_off(late_s: float) -> None:
    junction, yaw_rad = Junction(), 0.7
    there = 1.35 + 12.0 * late_s
    velocity = {"vx_mps": 12.0 * math.cos(yaw_rad), "vy_mps": 12.0 * math.sin(yaw_rad)}
    place = 30.0 + there * math.cos(yaw_rad), 5.0 + there * math.sin(yaw_rad)
    junction.report(someone(*place, kind=CAR, yaw_rad=yaw_rad, **velocity))
    assert junction.advise(ego=(30.0, 5.0, yaw_rad, 12.0, 0.0, 0.0))[0].tracks == ()


def test_what_two_stations_see_is_told_once_and_two_who_stand_together_twice() -> None:
    junction = Junction()
    junction.report(someone(18.0, 3.5), someone(19.0, 3.5))
    junction.report(someone(18.2, 3.4), request=asked_by("car-2"))
    advice, _ = junction.advise()
    assert len(advice.tracks) == 2


def test_a_car_that_asks_helps_those_who_come_after_it() -> None:
    junction = Junction()
    junction.advise(someone(18.0, 3.5), request=asked_by("car-2"))
    advice, _ = junction.advise(ego=(-30.0, 0.0, 0.0, 8.0, 0.0, 0.0))
    kinds = [t[0] for t in advice.tracks]
    assert kinds == [CAR, PEDESTRIAN]  # car-2 itself, and whom it sees


def test_old_report_is_not_believed() -> None:
    junction = Junction()
    junction.report(someone(18.0, 3.5), request=asked_by("camera-3", NOW - 2 * S))
    assert junction.advise()[0].tracks == ()


def test_object_measured_before_its_report_is_carried_forward() -> None:
    junction = Junction()
    junction.report(someone(18.0, 3.5, vy_mps=-2.0), delta_s=0.5)
    assert junction.advise()[0].tracks[0][2] == pytest.approx(2.5)


def test_report_that_was_overtaken_is_refused() -> None:
    junction = Junction()
    junction.report(someone(18.0, 3.5))
    with pytest.raises(StaleInputError):
        junction.report(someone(9.0, 9.0), request=asked_by("camera-3", NOW - S // 10))
    assert junction.advise()[0].tracks[0][1] == pytest.approx(18.0)


def test_another_fleets_names_are_not_told() -> None:
    junction = Junction()
    junction.report(someone(18.0, 3.5), request=asked_by("spy", tenant="other"))
    assert junction.advise()[0].reason == "pedestrian 18 m away, perceived by others"


@pytest.mark.parametrize(
    "spoil",
    [
        {ASK_TRACKS: rows(someone(math.nan, 0.0))},
        {ASK_TRACKS: rows(someone(0.0, 0.0, kind=99.0))},
        {ASK_TRACKS: rows(someone(0.0, 0.0, kind=0.5))},
        {ASK_TRACKS: rows(someone(0.0, 0.0, score_prob=1.5))},
        {ASK_TRACKS: rows(someone(0.0, 0.0, length_m=-1.0))},
        {ASK_TRACKS: rows(someone(1e6, 0.0))},
        {ASK_TRACKS: rows(*[someone(0.0, 0.0)] * 2)},
        {ASK_TRACKS: rows(*[someone(0.0, 0.0)] * 129)},
        {COVARIANCE: np.float32([[1.0, 2.0, 1.0]])},
        {COVARIANCE: np.float32([[math.nan, 0.0, 1.0]])},
        {COVARIANCE: np.float32([[0.0, 0.0, 0.0]])},
        {DELTA: np.float32([-0.1])},
        {DELTA: np.float32([2.0])},
        {DELTA: np.float32([math.nan])},
        {ORIGIN: np.array([math.inf, 0.0])},
    ],
    ids=[
        *("place", "kind", "half a kind", "score", "size", "far", "count", "crowd", "negative"),
        *("no number", "zero", "future", "old", "no time", "origin"),
    ],
)
def test_report_whose_numbers_make_no_sense_is_refused(spoil: dict[str, np.ndarray]) -> None:
    junction = Junction()
    inputs = report_inputs(someone(1.0, 1.0)) | spoil
    with pytest.raises(MalformedRequestError):
        asyncio.run(junction.reporting.infer(inputs, asked_by()))
    assert junction.advise()[0].tracks == ()


def test_request_that_does_not_say_for_when_is_refused() -> None:
    junction = Junction()
    inputs = {ASK_TRACKS: rows(), ASK_EGO: np.zeros(6)}
    with pytest.raises(MalformedRequestError):
        asyncio.run(junction.collective.infer(inputs, None))
    with pytest.raises(MalformedRequestError):
        asyncio.run(junction.reporting.infer(report_inputs(), None))
    bad = {ASK_TRACKS: rows(), ASK_EGO: np.full(6, np.nan)}
    with pytest.raises(MalformedRequestError):
        asyncio.run(junction.collective.infer(bad, asked_by()))


def test_stations_are_remembered_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collective, "MOST_STATIONS", 3)
    reports = Reports()
    nobody = Seen(
        tracks=tracks_of([someone(0, 0)]), cov_m2=np.eye(2)[None], speed_sigma_mps=np.ones(1)
    )
    for i in range(10):
        reports.put(f"s/{i}", Report(utc_ns=NOW, seen=nobody))
    assert sorted(reports.at(NOW, 0.0, 0.0)) == ["s/7", "s/8", "s/9"]


def seen(*places: tuple[float, float], cov: np.ndarray) -> Seen:
    tracks = tracks_of([someone(x, y) for x, y in places])
    count = len(places)
    return Seen(tracks=tracks, cov_m2=np.tile(cov, (count, 1, 1)), speed_sigma_mps=np.ones(count))


COVS = st.tuples(st.floats(0.05, 2.0), st.floats(0.05, 2.0), st.floats(0.0, math.pi)).map(
    lambda v: (
        (r := np.array([[math.cos(v[2]), -math.sin(v[2])], [math.sin(v[2]), math.cos(v[2])]]))
        @ np.diag([v[0] ** 2, v[1] ** 2])
        @ r.T
    )
)


@given(COVS, COVS, st.floats(-1.0, 1.0))
def test_merged_estimate_is_never_surer_than_it_may_be(
    first: np.ndarray, second: np.ndarray, correlation: float
) -> None:
    fused = merge({"a": seen((0.0, 0.0), cov=first), "b": seen((0.0, 0.0), cov=second)})
    joined = fused.cov_m2[0]
    inverse = [np.linalg.inv(c) for c in (first, second)]
    shares = np.linspace(0.0, 1.0, 9)
    options = [np.linalg.inv(s * inverse[0] + (1 - s) * inverse[1]) for s in shares]
    share = shares[int(np.argmin([np.abs(o - joined).max() for o in options]))]
    k1, k2 = share * joined @ inverse[0], (1 - share) * joined @ inverse[1]
    roots = [np.linalg.cholesky(c) for c in (first, second)]
    cross = correlation * roots[0] @ roots[1].T
    actual = k1 @ first @ k1.T + k2 @ second @ k2.T + k1 @ cross @ k2.T + k2 @ cross.T @ k1.T
    assert np.linalg.eigvalsh(joined - actual).min() > -1e-6
    assert np.trace(joined) <= min(np.trace(first), np.trace(second)) + 1e-9


def test_doubt_grows_while_nobody_looks() -> None:
    now = seen((0.0, 0.0), cov=np.eye(2) * 0.04)
    later = carry(now, 0.5)
    assert np.trace(later.cov_m2[0]) > np.trace(now.cov_m2[0])
    assert np.trace(carry(later, 0.5).cov_m2[0]) > np.trace(later.cov_m2[0])


def test_camera_and_car_meet_at_a_real_site_over_mutual_tls(tmp_path: Path) -> None:
    home, clock = Home(tmp_path), SystemClock()
    identities = {name: enrol_car(home, name) for name in ("camera-3", "car-1")}
    tls = SiteTls.of_home(home)
    tenant = Tenant(name="home", authority=str(tls.authorities), home=str(home.root))
    options = {"tls": tls, "tenants": [tenant]}
    with site(*collective.models(EDGE, clock), **options) as served:
        with client(served, ClientTls.of_identity(identities["camera-3"])) as camera:
            inputs = report_inputs(someone(18.0, 3.5))
            camera.infer("collective-report", inputs, ask(car_id="camera-3"), 5.0)
            with pytest.raises(SiteRefusedError, match="ForgedRequestError"):
                camera.infer("collective-report", inputs, ask(car_id="car-1"), 5.0)
        link = SiteLink(
            f"https://localhost:{served.http_port}",
            Identity.at(home.car("car-1") / IDENTITY),
            clock,
        )
        link.open()
        request = ask(workload="collective-perception")
        where = {ASK_TRACKS: rows(), ASK_EGO: np.array([0.0, 0.0, 0.0, 8.0, 0.0, 0.0])}
        advice, reply = link.ask(request, where)
        link.close()
        with client(served, ClientTls.of_identity(identities["car-1"])) as car:
            outputs, _ = car.infer("collective", where, ask(), 5.0)
    assert link.proven
    assert advice.tracks[0][0] == PEDESTRIAN
    assert reply.model_set == "collective@1"
    assert outputs[OCCUPIED][CELLS // 2 + 18, CELLS // 2 + 3] > 150
