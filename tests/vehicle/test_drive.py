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
from vehicle.contracts.scene import BEV, TRACK, Occupancy, Signal
from vehicle.contracts.telemetry import TICK_BUDGET_US
from vehicle.contracts.tick import Tick
from vehicle.drive import Drive
from vehicle.engine import InferenceCancelledError, InferenceError
from vehicle.perception import Detections
from vehicle.sight import Sight

RNG = np.random.default_rng(0)
PICTURES = [
    {
        c.name: RNG.integers(0, 256, (c.height_px, c.width_px, 3), dtype=np.uint8)
        for c in RIG_R.cameras
    }
    for _ in range(2)
]
IMAGES = PICTURES[0]
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
        self.halves: list[int | None] = []
        self.can_half = False
        self.signal: Signal | None = None
        self.doubt = ""

    def perceive(
        self,
        frame: FrameSet,
        deadline_mono_ns: int | None = None,
        half: int | None = None,
        ego: EgoState | None = None,
    ) -> Detections:
        self.frames.append(frame)
        self.halves.append(half)
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
            half=half,
            signal=self.signal,
            doubt=self.doubt,
        )

    def _hang(self, deadline_mono_ns: int | None) -> None:
        left_s = self.slow_s
        if deadline_mono_ns is not None:
            left_s = min(left_s, (deadline_mono_ns - time.monotonic_ns()) * 1e-9)
        threading.Event().wait(max(0.0, left_s))
        if left_s < self.slow_s:
            raise InferenceCancelledError("stopped at its deadline")

    def close(self) -> None:
        pass


def lane() -> Guidance:
    points = np.column_stack([np.arange(-10.0, 200.0), np.zeros(210)])
    return Guidance(centreline_m=points, speed_limit_mps=12.0)


def observe(i: int, *, images: bool = True, ego: bool = True) -> Observation:
    mono_ns = i * 100_000_000
    return Observation(
        frame=FrameSet(frame_id=i, mono_ns=mono_ns, images=PICTURES[i % 2] if images else {}),
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
        campaigns=(DEFAULT_CAMPAIGN,),
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
    counters = drive.sight.health.counters
    assert counters == {"fresh": 3, "partial": 0, "late": 0, "failed": 14}
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
    some = {k: v for k, v in PICTURES[0].items() if k != "rear_left"}
    some["left_front"] = np.zeros((4, 4, 3), np.uint8)
    broken = Observation(
        frame=FrameSet(frame_id=2, mono_ns=obs.frame.mono_ns, images=some),
        ego=obs.ego,
        guidance=obs.guidance,
    )
    tick = drive.tick(broken)
    assert tick.plan is not None
    assert tick.plan.rung == "fewer_cameras"
    assert seen.frames[-1].images["left_front"] is PICTURES[1]["left_front"]
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


def test_a_late_answer_makes_the_car_ask_for_half_the_cameras_in_turns() -> None:
    drive, seen = make(enforce=True)
    seen.can_half = True
    drive.sight = Sight(seen, RIG_R)
    run(drive, 0, 3)
    seen.slow_s = 5.0
    run(drive, 3, 1)
    seen.slow_s = 0.0
    seen.halves.clear()
    ticks = run(drive, 4, 12)
    assert seen.halves == [1, 0] * 5 + [None] * 2
    assert [t.timing.rung for t in ticks] == ["coast"] * 4 + ["fewer_cameras"] * 8
    assert drive.sight.health.counters["half"] == 10
    assert [t.timing.rung for t in run(drive, 16, 3)][-1] == "full"


@pytest.mark.parametrize("part", ["planner.plan", "controller.command", "envelope.limit"])
def test_a_part_that_fails_is_named_and_the_tick_is_answered(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive, _ = make()
    run(drive, 0, 3)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    name, method = part.split(".")
    monkeypatch.setattr(getattr(drive.pilot, name), method, fail)
    ticks = run(drive, 3, 12)
    assert all(t.command is not None and t.plan is not None for t in ticks)
    assert "ZeroDivisionError: nobody thought of this" in drive.pilot.health.detail
    assert drive.pilot.health.counters["safety" if name == "envelope" else name] == 12
    assert not drive.pilot.health.ok
    joined = drive.pilot.joined(drive.sight.health)
    assert not joined.ok
    assert "nobody thought of this" in joined.detail
    assert joined.counters["fresh"] == 15
    assert ticks[-1].timing.rung == "mrm"
    assert min(t.command.accel_mps2 for t in ticks) >= -8.0
    monkeypatch.undo()
    assert run(drive, 15, 8)[-1].timing.rung == "mrm", "only a person ends it"
    drive.pilot.restart()
    assert run(drive, 23, 1)[0].timing.rung == "full"


def test_a_planner_that_fails_holds_its_last_plan_then_stops_the_car(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drive, _ = make()
    before = run(drive, 0, 3)[-1].plan
    monkeypatch.setattr(drive.pilot.planner, "plan", lambda *_: 1 / 0)
    plans = [t.plan for t in run(drive, 3, 9)]
    assert before is not None
    assert [p.rung for p in plans] == ["hold_plan"] * 5 + ["mrm"] * 4
    assert [p.proposal for p in plans[:5]] == [f"hold/{before.proposal}"] * 5
    assert plans[0].trajectory.states[0, 4] == pytest.approx(
        np.interp(0.1, before.trajectory.states[:, 0], before.trajectory.states[:, 4]), abs=0.3
    )
    stop = plans[-1].trajectory.states
    assert plans[-1].proposal == "mrm/straight-stop"
    assert (stop[0, 4], stop[-1, 4]) == (8.0, 0.0)
    assert stop[:, 5].min() >= -4.0


def test_a_planner_that_fails_at_once_stops_the_car(monkeypatch: pytest.MonkeyPatch) -> None:
    drive, _ = make()
    monkeypatch.setattr(drive.pilot.planner, "plan", lambda *_: 1 / 0)
    tick = run(drive, 0, 1)[0]
    assert tick.plan is not None
    assert (tick.plan.rung, tick.timing.rung) == ("mrm", "mrm")
    assert tick.command is not None
    assert tick.command.accel_mps2 < 0.0


def test_on_the_road_a_trigger_or_sink_that_fails_is_named_and_keeps_no_command_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full:
        def publish(self, obs: Observation, tick: Tick) -> None:
            raise OSError(28, "No space left on device")

    drive, _ = make(enforce=True, sinks=(Full(),))
    monkeypatch.setattr(drive._lookout, "notice", lambda *_: 1 / 0)
    tick = run(drive, 0, 1)[0]
    assert tick.command is not None
    assert tick.events == ()
    assert "No space left" in drive.parts["Full"]
    assert drive.parts["trigger"].startswith("ZeroDivisionError")
    quiet, _ = make(enforce=False, sinks=(Full(),))
    with pytest.raises(OSError, match="No space left"):
        run(quiet, 0, 1)


def test_a_frame_that_comes_twice_or_too_late_is_named_and_answered() -> None:
    drive, seen = make()
    run(drive, 0, 4)
    seen.frames.clear()
    twice, before = run(drive, 3, 1)[0], run(drive, 1, 1)[0]
    assert seen.frames == []
    for tick in (twice, before):
        assert tick.command is not None
        assert tick.scene is not None
        assert not tick.scene.fresh
        assert tick.timing.rung == "coast"
    counters = drive.sight.health.counters
    assert (counters["frame_duplicate"], counters["frame_out_of_order"]) == (1, 1)
    assert "frame 1 after frame 3" in drive.sight.health.detail
    assert run(drive, 4, 6)[-1].timing.rung == "full"


def test_a_source_that_starts_again_is_followed() -> None:
    drive, _ = make()
    run(drive, 100, 12)
    ticks = run(drive, 0, 4)
    assert [t.timing.rung for t in ticks] == ["full"] * 4
    assert all(t.scene is not None and t.scene.fresh for t in ticks)


def test_a_red_light_still_stands_when_a_frame_is_lost_and_not_for_ever() -> None:
    drive, seen = make()
    seen.signal = Signal(state="red", prob=0.9, distance_m=30.0)
    (tick,) = run(drive, 0, 1)
    assert tick.scene is not None
    assert tick.scene.signal == seen.signal
    seen.fault = InferenceError("gone")
    lost = [t.scene.signal for t in run(drive, 1, 12) if t.scene is not None]
    assert lost[0] is not None
    assert lost[0].state == "red"
    assert lost[0].distance_m == pytest.approx(30.0 - 0.8)
    assert lost[-1] is None


def test_odometry_that_the_pictures_deny_is_named_in_health() -> None:
    drive, seen = make()
    run(drive, 0, 2)
    assert drive.sight.health.ok
    seen.doubt = "pictures show +5.0 m/s beside odometry"
    run(drive, 2, 1)
    assert not drive.sight.health.ok
    assert "+5.0 m/s" in drive.sight.health.detail
