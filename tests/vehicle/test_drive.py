"""The loop answers every tick with a command, whatever perception does."""

import threading
import time

import numpy as np
import pytest

from vehicle.budget import Budget
from vehicle.clock import FakeClock, SystemClock
from vehicle.config import RIG_R
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.scene import BEV, TRACK, Occupancy
from vehicle.contracts.telemetry import TICK_BUDGET_US
from vehicle.contracts.tick import Tick
from vehicle.drive import Drive
from vehicle.engine import InferenceCancelledError
from vehicle.perception import Detections
from vehicle.sight import Sight

IMAGES = {c.name: np.zeros((c.height_px, c.width_px, 3), np.uint8) for c in RIG_R.cameras}
ROAD = Occupancy(
    grid=BEV,
    drivable=np.full((BEV.nx, BEV.ny), 255, np.uint8),
    lane=np.zeros((BEV.nx, BEV.ny), np.uint8),
    occupied=np.zeros((BEV.nx, BEV.ny), np.uint8),
)


class Seen:
    """Stands in for perception: a car 30 m ahead that drives at 8 m/s, or a fault."""

    def __init__(self) -> None:
        self.stage_us: dict[str, float] = {}
        self.fault: Exception | None = None
        self.slow_s = 0.0
        self.frames: list[FrameSet] = []

    def perceive(self, frame: FrameSet, deadline_mono_ns: int | None = None) -> Detections:
        self.frames.append(frame)
        self.stage_us = {"preprocess": 10.0}
        if self.fault is not None:
            raise self.fault
        if self.slow_s:
            self._hang(deadline_mono_ns)
        self.stage_us |= {"inference": 100.0, "decode": 20.0}
        tracks = np.zeros(1, TRACK)
        tracks["x_m"], tracks["length_m"], tracks["width_m"] = 30.0, 4.5, 1.8
        tracks["score_prob"] = 0.9
        return Detections(
            tracks=tracks,
            occupancy=ROAD,
            embedding=np.zeros(64, np.float32),
            uncertainty_ratio=0.2,
        )

    def _hang(self, deadline_mono_ns: int | None) -> None:
        left_s = self.slow_s
        if deadline_mono_ns is not None:
            left_s = min(left_s, (deadline_mono_ns - time.monotonic_ns()) * 1e-9)
        threading.Event().wait(max(0.0, left_s))
        if left_s < self.slow_s:
            raise InferenceCancelledError("terminated by the watchdog")

    def close(self) -> None:
        pass


def lane() -> Guidance:
    points = np.column_stack([np.arange(-10.0, 200.0), np.zeros(210)])
    return Guidance(centreline_m=points, speed_limit_mps=12.0)


def observe(i: int, *, images: bool = True, ego: bool = True) -> Observation:
    mono_ns = i * 100_000_000
    return Observation(
        frame=FrameSet(frame_id=i, mono_ns=mono_ns, images=IMAGES if images else {}),
        ego=EgoState(mono_ns=mono_ns, x_m=0.8 * i, y_m=0.0, yaw_rad=0.0, speed_mps=8.0)
        if ego
        else None,
        guidance=lane() if ego else None,
    )


def make(enforce: bool = False, sinks: tuple = (), see: bool = True) -> tuple[Drive, Seen]:
    clock = SystemClock() if enforce else FakeClock()
    drive = Drive(
        car_id="car-1",
        route_id="r",
        rig=RIG_R,
        bundle=None,
        campaign=DEFAULT_CAMPAIGN,
        budget=Budget(enforce=enforce, clock=clock),
        sinks=sinks,
    )
    seen = Seen()
    if see:
        drive.sight = Sight(seen, RIG_R)
    return drive, seen


def run(drive: Drive, first: int, count: int, **kinds: bool) -> list[Tick]:
    return [drive.tick(observe(i, **kinds)) for i in range(first, first + count)]


def test_each_tick_gives_scene_plan_and_command() -> None:
    drive, _ = make()
    ticks = run(drive, 0, 15)
    assert [t.frame_id for t in ticks] == list(range(15))
    last = ticks[-1]
    assert last.scene is not None
    assert last.scene.tracks.size == 1
    assert last.scene.tracks["vx_mps"][0] == pytest.approx(8.0, abs=1.5)
    assert last.plan is not None
    assert last.plan.rung == "full"
    assert last.command is not None
    assert last.command.frame_id == 14
    assert set(last.timing.stage_us) == {
        "preprocess", "inference", "track", "plan", "control", "trigger", "publish",
    }  # fmt: skip


def test_a_route_without_cameras_plans_on_guidance() -> None:
    drive, _ = make(see=False)
    last = run(drive, 0, 3, images=False)[-1]
    assert last.scene is None
    assert last.plan is not None
    assert last.plan.rung == "full"
    assert last.command is not None
    assert drive.parts["perception"] == "no bundle"
    assert drive.parts["planner"] == "drives"


def test_a_route_without_ego_motion_perceives_and_tracks() -> None:
    drive, _ = make()
    last = run(drive, 0, 3, ego=False)[-1]
    assert last.scene is not None
    assert last.scene.tracks.size == 1
    assert last.plan is None
    assert last.command is None
    assert drive.parts["planner"] == "no ego motion in frame 2"


def test_faults_are_named_counted_and_answered_by_the_ladder() -> None:
    drive, seen = make()
    run(drive, 0, 3)
    seen.fault = ValueError("bad frame")
    ticks = run(drive, 3, 14)
    rungs = [t.plan.rung for t in ticks if t.plan]
    assert rungs == ["coast"] * 5 + ["hold_plan"] * 5 + ["mrm"] * 4
    assert all(t.command is not None for t in ticks)
    assert ticks[0].scene is not None
    assert not ticks[0].scene.fresh
    assert ticks[0].scene.tracks["coasted_ticks"][0] == 1
    assert ticks[-1].command is not None
    assert ticks[-1].command.hazard_lights
    assert ticks[-1].plan is not None
    assert ticks[-1].plan.proposal == "mrm/in-lane-stop"
    assert drive.sight.health.counters == {"fresh": 3, "partial": 0, "late": 0, "failed": 14}
    assert drive.sight.health.detail.startswith("ValueError: bad frame")


def test_a_minimal_risk_manoeuvre_lasts_until_a_person_restarts() -> None:
    drive, seen = make()
    seen.fault = ValueError("dark")
    run(drive, 0, 12)
    seen.fault = None
    assert run(drive, 12, 10)[-1].plan.rung == "mrm"  # type: ignore[union-attr]
    drive.sight.restart()
    assert run(drive, 22, 1)[-1].plan.rung == "full"  # type: ignore[union-attr]


def test_a_lost_camera_is_filled_with_its_last_image_and_named() -> None:
    drive, seen = make()
    run(drive, 0, 2)
    obs = observe(2)
    some = {k: v for k, v in IMAGES.items() if k != "rear_left"}
    some["left_front"] = np.zeros((4, 4, 3), np.uint8)
    broken = Observation(
        frame=FrameSet(frame_id=2, mono_ns=obs.frame.mono_ns, images=some),
        ego=obs.ego,
        guidance=obs.guidance,
    )
    tick = drive.tick(broken)
    assert tick.plan is not None
    assert tick.plan.rung == "fewer_cameras"
    assert seen.frames[-1].images["left_front"] is IMAGES["left_front"]
    assert "rear_left: no image" in drive.sight.health.detail
    assert "left_front: image is uint8 [4, 4, 3]" in drive.sight.health.detail


def test_late_inference_is_cancelled_and_the_command_leaves_on_predicted_tracks() -> None:
    drive, seen = make(enforce=True)
    run(drive, 0, 4)
    seen.slow_s = 5.0
    began = time.monotonic()
    tick = drive.tick(observe(4), time.monotonic_ns())
    assert time.monotonic() - began < 1.0
    assert tick.timing.cancelled
    assert tick.scene is not None
    assert tick.scene.tracks["coasted_ticks"][0] == 1
    assert tick.command is not None
    assert tick.plan is not None
    assert tick.plan.rung == "coast"


def test_simulated_time_never_cancels() -> None:
    drive, seen = make()
    seen.slow_s = 0.03
    tick = run(drive, 0, 1)[0]
    assert not tick.timing.cancelled
    assert tick.scene is not None
    assert tick.scene.fresh


def test_sinks_see_every_tick_in_order() -> None:
    class Sink:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def publish(self, obs: Observation, tick: Tick) -> None:
            assert obs.frame.frame_id == tick.frame_id
            self.seen.append(tick.frame_id)

    sink = Sink()
    drive, _ = make(sinks=(sink,))
    run(drive, 0, 4)
    assert sink.seen == [0, 1, 2, 3]


def test_two_runs_give_the_same_plans() -> None:
    def digests() -> list[str]:
        drive, seen = make()
        ticks = run(drive, 0, 6)
        seen.fault = ValueError("x")
        ticks += run(drive, 6, 8)
        return [t.plan.digest() for t in ticks if t.plan]

    assert digests() == digests()


def test_a_tick_is_late_when_it_ends_after_its_release_and_budget() -> None:
    clock = FakeClock()
    budget = Budget(enforce=True, clock=clock)
    budget.begin(3, release_mono_ns=0)
    assert budget.inference_deadline_ns == 6_900_000
    clock.advance_ns(2_000_000)
    budget.mark("plan")
    clock.advance_ns(9_000_000)
    budget.command_left()
    timing = budget.timing("full", False)
    assert timing.total_us == 11_000 > TICK_BUDGET_US
    assert timing.missed
    assert [(m.stage, m.took_us) for m in budget.misses(timing)] == [
        ("plan", 2000),
        ("tick", 11000),
    ]
