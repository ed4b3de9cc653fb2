"""The loop bench does real faults to a real car, and every tick is answered."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from sim.benches import bench_loop, loop_faults
from sim.benches.bench_loop import loop_bench
from sim.benches.loop_faults import FAULTS, UnknownFaultError, make_fault, windows
from vehicle.budget import Budget
from vehicle.cameras import FrameMender
from vehicle.clock import SystemClock
from vehicle.config import RIG_R
from vehicle.contracts.bench import Bench
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet
from vehicle.drive import Drive


class Nobody:
    """Stands in for the car's processes: none of them lives."""

    def pid_of(self, part: str) -> int:
        return 0


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    tiny_bundle.make(tmp_path)
    return Drive(
        car_id="bench",
        route_id="bench",
        rig=RIG_R,
        bundle=tmp_path,
        campaigns=(DEFAULT_CAMPAIGN,),
        budget=Budget(enforce=True, clock=SystemClock()),
        rate_hz=36.0,
    )


def test_an_unknown_fault_is_refused_by_the_names_there_are(drive: Drive) -> None:
    with pytest.raises(UnknownFaultError, match="there are: hang, freeze"):
        make_fault("gremlins", drive, Nobody())


def test_faults_come_over_and_over_short_and_long() -> None:
    turns = list(windows(700, 36.0))
    assert [(a / 36.0, s) for a, _, s in turns] == [(1.0, 0.3), (9.0, 2.0), (17.0, 0.3)]
    assert all(b - a == round(s * 36.0) for a, b, s in turns)
    assert list(windows(30, 36.0)) == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("freeze", "frozen"), ("black", "black"), ("wrong-size", "wrong_size"), ("late", "late")],
)
def test_spoilt_pictures_are_the_faults_the_car_names(fault: str, kind: str, drive: Drive) -> None:
    rng, mender = np.random.default_rng(1), FrameMender(RIG_R)
    made = make_fault(fault, drive, Nobody())
    found = set()
    for i in range(16):
        if i in (0, 8):
            made.begin(1.0)
        images = {
            c.name: rng.integers(0, 256, (c.height_px, c.width_px, 3), dtype=np.uint8)
            for c in RIG_R.cameras
        }
        frame = FrameSet(frame_id=i, mono_ns=i * 100_000_000, images=images)
        ego = EgoState(mono_ns=frame.mono_ns, x_m=0.8 * i, y_m=0.0, yaw_rad=0.0, speed_mps=8.0)
        faults = mender.mend(made.spoil(frame), ego)[1]
        found |= {(i // 8, name, f.kind) for name, f in faults.items()}
    assert {k for _, _, k in found} == {kind}
    assert {turn for turn, _, _ in found} == {0, 1}


def test_a_run_that_hangs_burns_its_thread_and_the_tick_goes_on(drive: Drive) -> None:
    fault = make_fault("hang", drive, Nobody())
    seen = bench_loop.rendered(2)
    for observation in seen:
        drive.tick(observation, time.monotonic_ns())
    fault.begin(0.5)
    began = time.monotonic()
    ticks = []
    for i in range(4):
        now_ns = time.monotonic_ns()
        ticks.append(drive.tick(bench_loop.observation_of(seen, 10 + i, now_ns), now_ns))
    assert time.monotonic() - began < 0.5
    assert all(t.timing.cancelled and t.command is not None for t in ticks)
    time.sleep(0.6)
    last = drive.tick(bench_loop.observation_of(seen, 20, time.monotonic_ns()), time.monotonic_ns())
    assert not last.timing.cancelled
    drive.close()


def test_a_slow_core_runs_the_network_twice(drive: Drive) -> None:
    runs = []
    drive.sight.interpose(lambda infer: lambda side: (runs.append(side), infer(side))[1])
    fault = make_fault("slow-core", drive, Nobody())
    seen = bench_loop.rendered(2)
    for i in range(6):
        if i == 2:
            fault.begin(1.0)
        if i == 4:
            fault.end()
        at = time.monotonic_ns() + 50_000_000  # far from any deadline
        drive.tick(bench_loop.observation_of(seen, i, at), at)
    drive.close()
    assert len(runs) == 2 + 4 + 2


def test_processes_that_are_gone_are_no_fault_of_the_bench(drive: Drive) -> None:
    for name in ("kill-recorder", "disk-full"):
        fault = make_fault(name, drive, Nobody())
        fault.begin(1.0)
        fault.end()


@pytest.mark.slow
def test_the_whole_car_is_measured_with_everything_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bundle.make(tmp_path)
    monkeypatch.setattr(loop_faults, "EVERY_S", 1.5)
    monkeypatch.setattr(bench_loop, "WARM_UP_FRAMES", 5)
    monkeypatch.setattr(bench_loop, "_memory", lambda *_: None)
    before = os.sched_getscheduler(0)
    bench: Bench = loop_bench(
        frames=100, progress=lambda _: None, bundle=tmp_path, fifo=False, fault="kill-recorder"
    )
    rows = {r["row"]: r for r in bench.report()["rows"]}
    assert rows["tick, release to command"]["ms"]["n"] == 100
    assert sum(v for k, v in rows["rungs"].items() if k != "row") == 100
    assert rows["real-time class"]["words"].startswith("best effort: no SCHED_FIFO")
    assert rows["engine"]["engine"].startswith(("onnxruntime", "openvino"))
    assert rows["health of pilot"]["answered"] == 105
    for part in ("recorder", "shadow", "uplink", "supervisor", "ring"):
        assert f"health of {part}" in rows
    assert rows["fault kill-recorder"]["times"] == 2
    assert rows["health of recorder"]["restarts"] >= 1
    figures = {m["figure"] for m in bench.report()["must"]}
    assert {"tick max", "missed frames", "ticks answered in time"} <= figures
    assert os.sched_getscheduler(0) == before


def test_every_fault_of_the_option_is_there() -> None:
    from sim.cli import _FAULTS

    assert [n for n in FAULTS if n] == _FAULTS.replace(" or ", ", ").split(", ")
