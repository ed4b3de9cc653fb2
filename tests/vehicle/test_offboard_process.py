"""The whole way of advice: a camera at a real site, mutual TLS, the process that asks, the loop."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from fakes_gateway import enrol_car
from offboard_parts import COURSE, GO
from safety_parts import scene_of, user
from site_parts import EDGE, site
from tick_parts import tick_of, until

from fleet.inference import collective
from fleet.inference.client import Client, ClientTls
from fleet.inference.server import SiteTls
from fleet.inference.tenants import Tenant
from sim.net.links import Link
from vehicle.asking import reason_to_ask
from vehicle.clock import SystemClock
from vehicle.contracts.advice import ADVISED_COLUMNS, ASK_TRACKS
from vehicle.contracts.ego import EgoState
from vehicle.contracts.home import Home
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.plan import Plan, Trajectory
from vehicle.contracts.scene import KINDS
from vehicle.contracts.tick import Tick
from vehicle.contracts.wire import ContractError
from vehicle.drive_verb import request_for
from vehicle.pilot import stop_states
from vehicle.processes import Car, CarSetup
from vehicle.restart import RestartPolicy

CLOCK = SystemClock()
QUICK = RestartPolicy(first_wait_s=0.02, longest_wait_s=0.05)
HERE = EgoState(mono_ns=0, x_m=5.0, y_m=0.0, yaw_rad=0.0, speed_mps=10.0)
TRUCK = scene_of(user(14.0, -3.2, length=8.0, width=2.5))
TRUCK.tracks["kind"], TRUCK.tracks["height_m"] = KINDS.index("truck"), 3.2


def plan(mono_ns: int) -> Plan:
    states = stop_states(HERE, 2.0)
    return Plan(
        frame_id=1, mono_ns=mono_ns, trajectory=Trajectory(states=states), rung="full",
        proposal="mid/speed100", scores={},
    )  # fmt: skip


def occluded(number: int) -> tuple[object, Tick]:
    """Return a tick beside a parked truck, exposed now."""
    now_ns = CLOCK.mono_ns()
    obs, tick = tick_of(number)
    frame = replace(obs.frame, mono_ns=now_ns, images={})
    ego = replace(HERE, mono_ns=now_ns)
    return replace(obs, frame=frame, ego=ego), replace(tick, scene=TRUCK, plan=plan(now_ns))


@dataclass
class Crossing:
    """A camera at a site that sees somebody behind the truck; a car that passes, over a link."""

    camera: Client
    car: Car
    link: Link
    frames: int = 0

    def report(self) -> None:
        now_ns = CLOCK.utc_ns()
        request = InferenceRequest(
            request_id=os.urandom(16).hex(), tenant="fleet", car_id="camera-3",
            workload="collective-report", tier="low", input_utc_ns=now_ns, freshness_s=1.0,
            deadline_utc_ns=now_ns + 2_000_000_000, data_class="features", jurisdiction="ZZ",
        )  # fmt: skip
        row = np.zeros((1, len(ADVISED_COLUMNS)), np.float32)
        values = {"kind": 1, "x_m": 125.0, "y_m": 47.4, "yaw_rad": 1.57, "length_m": 0.5}
        values |= {"width_m": 0.5, "height_m": 1.7, "vy_mps": 1.5, "score_prob": 0.9}
        for name, value in values.items():
            row[0, ADVISED_COLUMNS.index(name)] = value
        inputs = {
            ASK_TRACKS: row,
            collective.COVARIANCE: np.array([[0.1, 0.0, 0.1]], np.float32),
            collective.DELTA: np.zeros(1, np.float32),
            collective.ORIGIN: np.zeros(2),
        }
        self.camera.infer("collective-report", inputs, request, 2.0)

    def drive(self, seconds: float, until_heeded: bool = True) -> bool:
        """Drive at 20 Hz beside the truck; return whether advice was heeded."""
        heard = self.hears
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            self.report()
            obs, tick = occluded(self.frames)
            self.frames += 1
            self.car.publish(obs, tick)
            if heard.heed(GO, TRUCK, HERE, COURSE) is not GO and until_heeded:
                return True
            time.sleep(0.05)
        return False

    def __post_init__(self) -> None:
        found = self.car.advice()
        assert found is not None
        self.hears = found

    def counters(self) -> dict[str, int]:
        return self.car.health()["offboard"].counters


@contextmanager
def crossing(root: Path, scheme: str = "https") -> Iterator[Crossing]:
    home = Home(root)
    identities = {name: enrol_car(home, name) for name in ("camera-3", "car-1")}
    tls = SiteTls.of_home(home)
    tenant = Tenant(name="fleet", authority=str(tls.authorities), home=str(home.root))
    options = {"tls": tls, "tenants": [tenant]} if scheme == "https" else {}
    known = ClientTls.of_identity(identities["camera-3"]) if scheme == "https" else None
    with (
        site(*collective.models(EDGE, CLOCK), **options) as served,
        Link("cabinet", ("127.0.0.1", served.http_port)) as link,
    ):
        setup = CarSetup(
            folder=home.car("car-1"), rig=None, rate_hz=20.0, car_id="car-1", route_id="r",
            model="none", policy=QUICK, slots=400, origin_m=(100.0, 50.0),
            offboard=f"{scheme}://localhost:{link.port}",
        )  # fmt: skip
        with Client(f"localhost:{served.grpc_port}", known) as camera, Car(setup) as car:
            yield Crossing(camera=camera, car=car, link=link)


def test_a_truck_beside_the_way_is_a_reason_to_ask() -> None:
    obs, tick = occluded(1)
    assert reason_to_ask(tick, obs.ego) == "occluded"
    assert reason_to_ask(replace(tick, scene=scene_of(user(14.0, -3.2))), obs.ego) is None
    assert reason_to_ask(replace(tick, scene=replace(TRUCK, fresh=False)), obs.ego) == "occluded"
    calm = scene_of(np.zeros((0, 7)))
    assert reason_to_ask(replace(tick, scene=calm), obs.ego) is None
    late = replace(calm, fresh=False)
    assert reason_to_ask(replace(tick, scene=late), obs.ego) == "uncertain"
    strange = replace(calm, uncertainty_ratio=0.8)
    assert reason_to_ask(replace(tick, scene=strange), obs.ego) == "uncertain"
    differs = replace(tick, scene=calm, signals={"shadow_disagreement": 0.9})
    assert reason_to_ask(differs, obs.ego) == "disagreement"
    assert reason_to_ask(tick, replace(HERE, speed_mps=1.0)) is None


def test_advice_comes_all_the_way_and_the_asking_process_comes_back_when_killed(tmp_path) -> None:
    with crossing(tmp_path) as here:
        assert here.drive(20.0)
        (note,) = here.hears.notes
        assert (note.site, note.context, note.verdict) == ("edge-1", "edge", "heeded")
        os.kill(here.car.pid_of("offboard"), signal.SIGKILL)
        here.drive(1.5, until_heeded=False)
        until(lambda: here.counters()["restarts"] == 1)
        asked = here.counters()["asked"]
        assert here.drive(20.0)
        until(lambda: here.counters()["asked"] > asked)
        assert here.counters()["answered"] > 0


def test_what_comes_without_certificates_is_refused_as_forged(tmp_path) -> None:
    with crossing(tmp_path, "http") as here:
        heeded = here.drive(2.0)
        until(lambda: here.counters()["answered"] > 0)
        here.hears.heed(GO, TRUCK, HERE, COURSE)
        assert not heeded
        assert here.hears.counters["advice_forged"] > 0
        assert here.hears.counters["advice_heeded"] == 0


def test_a_link_that_is_cut_costs_advice_and_nothing_else_and_comes_back(tmp_path) -> None:
    with crossing(tmp_path) as here:
        assert here.drive(20.0)
        here.link.cut()
        here.drive(1.5, until_heeded=False)
        assert here.hears.heed(GO, TRUCK, HERE, COURSE) is GO
        assert here.hears.notes == ()
        until(lambda: here.counters()["late"] > 0)
        here.link.mend()
        assert here.drive(20.0)


@pytest.mark.parametrize("address", ["https://h", "nonsense"])
def test_an_address_that_is_none_is_refused_before_anything_runs(address, tmp_path) -> None:
    with pytest.raises(ContractError, match="offboard address"):
        request_for(
            source="x", car="car-1", bundle=None, shadow=None, gateway="", offboard=address,
            campaign=None, rate_hz=None, seconds=None, real_time=False, adapt=True,
        )  # fmt: skip
