import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from fakes_gateway import enrol_car, gateway
from tick_parts import RIG, clips, tick_of, until

from fleet.landing import Landing
from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.config import RIG_R
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.home import Home
from vehicle.drive import Drive
from vehicle.processes import Car, CarSetup, CarStartError
from vehicle.restart import RestartPolicy

CAMPAIGN = Campaign(
    campaign_id="test",
    triggers=(TriggerSpec(name="brake", kind="hard_brake", threshold=3.5, pre_s=1.0, post_s=1.0),),
)
QUICK = RestartPolicy(first_wait_s=0.02, longest_wait_s=0.05)
STREET = np.random.default_rng(2).integers(0, 255, (128, 256, 3), dtype=np.uint8)
LANE = Guidance(
    centreline_m=np.column_stack([np.arange(-10.0, 200.0), np.zeros(210)]), speed_limit_mps=12.0
)


def setup(folder: Path, **more: object) -> CarSetup:
    facts = {"car_id": "car-1", "route_id": "r", "model": "base@1", "slots": 400}
    usual = CarSetup(
        folder=folder, rig=RIG, rate_hz=10.0, campaigns=(CAMPAIGN,), policy=QUICK, **facts
    )
    return replace(usual, **more)


def publish(car: Car, frames: range, events: tuple[int, ...] = (), pause_s: float = 0.0) -> float:
    """Publish ticks; return the longest time that one took, seconds."""
    worst = 0.0
    for i in frames:
        obs, tick = tick_of(i, event=i in events)
        began = time.monotonic()
        car.publish(obs, tick)
        worst = max(worst, time.monotonic() - began)
        time.sleep(pause_s)
    return worst


def test_recorder_killed_in_the_middle_of_a_clip_comes_back_and_the_clip_is_whole(tmp_path):
    with Car(setup(tmp_path)) as car:
        publish(car, range(34), events=(30,))
        until(lambda: car.health()["recorder"].counters["frames"] == 34)
        os.kill(car.pid_of("recorder"), signal.SIGKILL)
        worst_s = publish(car, range(34, 60), pause_s=0.01)
        until(lambda: car.health()["recorder"].counters["restarts"] == 1)
        publish(car, range(60, 80), events=(70,))
    health = car.health()["recorder"]
    assert worst_s < 1.0  # a tick that waited for a process would have taken as long as its start
    assert (health.ok, health.counters["restarts"], health.counters["lost_frames"]) == (True, 1, 0)
    found = clips(tmp_path)
    assert [clip.frames for clip, _ in found] == [(20, 40), (60, 79)]
    assert [frames for _, frames in found] == [list(range(20, 41)), list(range(60, 80))]
    assert [len(clip.events) for clip, _ in found] == [1, 1]


def test_part_that_dies_again_and_again_is_given_up_by_name_while_ticks_go_on(tmp_path):
    policy = RestartPolicy(first_wait_s=0.01, longest_wait_s=0.01, deaths=2)
    with Car(setup(tmp_path, policy=policy)) as car:
        for death in range(2):
            until(lambda: car.pid_of("recorder") > 0)
            os.kill(car.pid_of("recorder"), signal.SIGKILL)
            until(lambda d=death: car.health()["recorder"].counters["restarts"] > d or d == 1)
        until(lambda: "given up after 2 deaths" in car.health()["recorder"].detail)
        publish(car, range(500))
        health = car.health()
    assert not health["recorder"].ok
    assert health["ring"].counters == {"frames": 500, "errors": 0}


def observe(i: int) -> Observation:
    mono_ns, moved = time.monotonic_ns(), np.roll(STREET, 7 * i)
    images = {c.name: moved[: c.height_px, : c.width_px].copy() for c in RIG_R.cameras}
    return Observation(
        frame=FrameSet(frame_id=i, mono_ns=mono_ns, images=images),
        ego=EgoState(mono_ns=mono_ns, x_m=0.2 * i, y_m=0.0, yaw_rad=0.0, speed_mps=8.0),
        guidance=LANE,
    )


def drive_with(car: Car, bundle: Path) -> Drive:
    return Drive(
        car_id="car-1",
        route_id="r",
        rig=RIG_R,
        bundle=bundle,
        campaigns=(CAMPAIGN,),
        budget=Budget(enforce=False, clock=SystemClock()),
        sinks=(car,),
        rate_hz=36.0,
    )


@pytest.mark.slow
def test_shadow_scores_the_frames_it_has_time_for_and_comes_back_after_a_kill(tmp_path):
    bundle = tmp_path / "bundle"
    tiny_bundle.make(bundle)
    with Car(setup(tmp_path / "car", rig=RIG_R, rate_hz=36.0, shadow=bundle, slots=20)) as car:
        drive, ticks = drive_with(car, bundle), iter(range(10_000))

        def go_on() -> bool:
            drive.tick(observe(next(ticks)))
            time.sleep(0.02)
            return car.health()["shadow"].counters.get("frames", 0) > wanted

        wanted = 5
        until(go_on)
        before = car.health()["shadow"].counters
        os.kill(before["pid"], signal.SIGKILL)
        wanted = before["frames"] + 5
        until(go_on)
        score, frame_id = car.disagreement()
        drive.close()
    health = car.health()["shadow"]
    assert health.counters["restarts"] == 1
    assert 0.0 <= score <= 1.0
    assert frame_id > before["frame_id"]
    lines = (tmp_path / "car" / "shadow.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["drivable"] == 0.0  # the same network sees the same road
    shown = json.loads((tmp_path / "car" / "health.json").read_bytes())
    assert shown["parts"]["shadow"]["counters"]["restarts"] == 1


def test_candidate_that_is_no_bundle_is_refused_once_and_the_car_drives_without(tmp_path):
    with Car(setup(tmp_path, shadow=tmp_path / "nothing")) as car:
        until(lambda: "not started again" in car.health()["shadow"].detail)
        publish(car, range(20))
        health = car.health()["shadow"]
    assert health.detail.startswith("not started again: ended with code 3: Bundle")
    assert health.counters["restarts"] == 0


def test_clip_goes_home_while_the_car_drives(tmp_path):
    home = Home(tmp_path)
    folder = home.car("car-1")
    enrol_car(home)
    with (
        gateway(home) as url,
        Car(setup(folder, gateway=url, send_every_s=0.1)) as car,
    ):
        publish(car, range(80), events=(20,))
        until(lambda: car.health()["uplink"].counters["sent"] == 1)
    assert [clip.frames for _, clip in Landing(home).clips()] == [(10, 30)]


def test_link_that_is_away_is_named_and_nothing_waits_for_it(tmp_path):
    home = Home(tmp_path)
    enrol_car(home)
    began = time.monotonic()
    with Car(setup(home.car("car-1"), gateway="https://127.0.0.1:9")) as car:
        publish(car, range(80), events=(20,))
        until(lambda: car.health()["recorder"].counters["clips"] == 1)
    assert time.monotonic() - began < 20.0
    assert len(clips(home.car("car-1"))) == 1


def test_car_without_an_identity_says_so_and_sends_once_it_is_enrolled(tmp_path):
    home = Home(tmp_path)
    folder = home.car("car-1")
    with (
        gateway(home) as url,
        Car(setup(folder, gateway=url, send_every_s=0.1)) as car,
    ):
        until(lambda: "NotEnrolledError" in car.health()["uplink"].detail)
        enrol_car(home)
        publish(car, range(80), events=(20,))
        until(lambda: car.health()["uplink"].counters["sent"] == 1)


def test_what_goes_home_follows_the_link_while_the_car_drives(tmp_path):
    home = Home(tmp_path)
    folder = home.car("car-1")
    enrol_car(home)
    link = {"schema": "link/1", "kind": "cellular"}
    (folder / "link.json").write_text(json.dumps(link))
    with (
        gateway(home) as url,
        Car(setup(folder, gateway=url, send_every_s=0.1)) as car,
    ):
        publish(car, range(80), events=(20,))
        until(lambda: car.health()["uplink"].counters["told"] == 1)
        assert car.health()["uplink"].counters["sent"] == 0
        (folder / "link.json").write_text(json.dumps(link | {"kind": "wifi"}))
        until(lambda: car.health()["uplink"].counters["sent"] == 1)


def test_dead_supervisor_is_named_and_the_recorder_still_finishes(tmp_path):
    with Car(setup(tmp_path)) as car:
        publish(car, range(40), events=(20,))
        os.kill(car.pid_of("supervisor"), signal.SIGKILL)
        publish(car, range(40, 80))
        until(lambda: not car.health()["supervisor"].ok)
        assert "not started again" in car.health()["supervisor"].detail
    until(lambda: len(clips(tmp_path)) == 1)
    assert clips(tmp_path)[0][0].frames == (10, 30)


def test_recorder_that_cannot_come_up_keeps_the_car_from_starting_and_says_why(tmp_path):
    (tmp_path / "car").write_text("")
    with pytest.raises(FileExistsError):
        Car(setup(tmp_path / "car"))
    with Car(setup(tmp_path / "other")), pytest.raises(CarStartError, match="OutboxBusyError"):
        Car(setup(tmp_path / "other", policy=RestartPolicy(deaths=1)))


def drive_and_hang(folder: str, facts: str) -> None:
    car = Car(setup(Path(folder)))
    publish(car, range(30), events=(20,))
    pids = [h.counters["pid"] for n, h in car.health().items() if n != "ring"]
    Path(facts).write_text(json.dumps([car._ring.name, *pids]))
    time.sleep(60)


@pytest.mark.slow
def test_killed_car_leaves_a_whole_clip_no_process_and_no_memory(tmp_path):
    facts = tmp_path / "facts"
    code = "import sys; from test_processes import drive_and_hang; drive_and_hang(*sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "car"), str(facts)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stderr=subprocess.DEVNULL,  # the resource tracker's word on the memory it removes
    )
    until(lambda: facts.exists() and facts.read_text().endswith("]"))
    ring, *pids = json.loads(facts.read_text())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: len(clips(tmp_path / "car")) == 1)
    assert clips(tmp_path / "car")[0][0].frames == (10, 29)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    until(lambda: not Path("/dev/shm", ring).exists())
