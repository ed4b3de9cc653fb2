"""On a core too slow for all cameras the car goes on seeing with half of them, and comes back."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.config import RIG_R
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.tick import Tick
from vehicle.drive import Drive

TICK_S = 1 / 36
RNG = np.random.default_rng(0)
PICTURES = [
    {
        c.name: RNG.integers(0, 256, (c.height_px, c.width_px, 3), dtype=np.uint8)
        for c in RIG_R.cameras
    }
    for _ in range(2)
]


class SlowWhole:
    """Makes the network for all cameras take longer than a tick has, and leaves the other be."""

    def __init__(self) -> None:
        self.engines = 0
        self.slow = False

    def wrap(self, infer: Callable[[int], None]) -> Callable[[int], None]:
        whole = self.engines == 0
        self.engines += 1

        def run(side: int) -> None:
            if whole and self.slow:
                time.sleep(0.012)
            infer(side)

        return run


@pytest.fixture
def car(tmp_path: Path) -> Drive:
    tiny_bundle.make(tmp_path, rich=True)
    return Drive(
        car_id="car-1",
        route_id="r",
        rig=RIG_R,
        bundle=tmp_path,
        campaigns=(DEFAULT_CAMPAIGN,),
        budget=Budget(enforce=True, clock=SystemClock()),
        rate_hz=36.0,
    )


def drive(car: Drive, first: int, count: int) -> list[Tick]:
    ticks = []
    for i in range(first, first + count):
        release_ns = time.monotonic_ns()
        x_m = 8.0 * TICK_S * i
        frame = FrameSet(frame_id=i, mono_ns=release_ns, images=PICTURES[i % 2])
        ego = EgoState(mono_ns=release_ns, x_m=x_m, y_m=0.0, yaw_rad=0.0, speed_mps=8.0)
        ticks.append(car.tick(Observation(frame=frame, ego=ego), release_ns))
        time.sleep(TICK_S)
    return ticks


def test_a_slow_core_drives_on_half_the_cameras_and_on_all_again_when_it_can(car: Drive) -> None:
    slow = SlowWhole()
    car.sight.interpose(slow.wrap)
    assert slow.engines == 2
    drive(car, 0, 6)
    before = dict(car.sight.health.counters)
    slow.slow = True
    ticks = drive(car, 6, 24)
    after = car.sight.health.counters
    assert all(t.command is not None for t in ticks)
    assert after["late"] - before["late"] >= 1
    assert after["half"] - before.get("half", 0) >= 10, "half of the cameras is what it can do"
    assert sum(t.scene is not None and t.scene.fresh for t in ticks) >= 10
    slow.slow = False
    rungs: list[str] = []
    while "full" not in rungs and len(rungs) < 600:  # a busy machine makes the car wary: seconds
        rungs += [t.timing.rung for t in drive(car, 30 + len(rungs), 20)]
    assert "full" in rungs
    car.close()
