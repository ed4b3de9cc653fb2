"""A route replays to the same plans, whatever it lacks."""

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from vehicle.clock import FakeClock
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.scene import TRACK, Scene
from vehicle.contracts.tick import Tick
from vehicle.geometry import to_ego_2d
from vehicle.replay import ReplaySpeedError, replay
from vehicle.route import RouteMissingError, RouteWriter

LANE = np.column_stack([np.arange(-10.0, 300.0), 20 * np.sin(np.arange(-10.0, 300.0) / 60)])


def observation(i: int, traffic: bool) -> Observation:
    x = 1.2 * i
    y = 20 * math.sin(x / 60)
    ego = EgoState(
        mono_ns=i * 100_000_000,
        x_m=x,
        y_m=y,
        yaw_rad=math.atan(20 / 60 * math.cos(x / 60)),
        speed_mps=12.0,
        accel_mps2=-5.0 if 20 <= i < 24 else 0.0,
    )
    lane = Guidance(centreline_m=to_ego_2d(ego, LANE), speed_limit_mps=14.0, source="log")
    scene = None
    if traffic:
        tracks = np.zeros(1, TRACK)
        tracks["track_id"], tracks["length_m"], tracks["width_m"] = 7, 4.5, 1.8
        ahead = to_ego_2d(ego, np.array([x + 25.0, 20 * math.sin((x + 25.0) / 60)]))
        tracks["x_m"], tracks["y_m"], tracks["vx_mps"] = ahead[0], ahead[1], 12.0
        scene = Scene(
            frame_id=i,
            mono_ns=ego.mono_ns,
            tracks=tracks,
            embedding=np.zeros(0, np.float32),
            uncertainty_ratio=math.nan,
            fresh=True,
        )
    frame = FrameSet(frame_id=i, mono_ns=ego.mono_ns)
    return Observation(frame=frame, ego=ego, guidance=lane, traffic=scene)


@pytest.fixture
def route(tmp_path: Path) -> Path:
    path = tmp_path / "route.mcap"
    about = {"car_id": "car-1", "route_id": "r-1", "source": "comma2k19"}
    with RouteWriter(path, None, rate_hz=10.0, metadata=about) as writer:
        for i in range(50):
            writer.write(observation(i, traffic=False), None)
    return path


def test_one_route_twice_gives_the_same_plan_digest(route: Path) -> None:
    first, second = (replay(route, bundle=None) for _ in range(2))
    assert first.plan_digest == second.plan_digest != ""
    assert (first.ticks, first.planned, first.car_id) == (50, 50, "car-1")
    assert first.timing_us["plan"]["n"] == 50


def test_a_log_without_cameras_says_so_and_still_notices_hard_braking(route: Path) -> None:
    report = replay(route, bundle=Path("not needed"))
    assert report.parts["perception"] == "no cameras"
    assert report.parts["planner"] == "drives"
    assert report.triggers == {"hard_brake": 1}
    assert report.events[0].frame_id == 20
    assert report.rungs == {"full": 50}


def test_road_users_of_a_log_stand_in_for_perception() -> None:
    class Log:
        rig = None
        rate_hz = 10.0
        metadata: ClassVar[dict[str, str]] = {"source": "nuscenes"}

        def __iter__(self):
            return (observation(i, traffic=True) for i in range(20))

    ticks: list[Tick] = []
    report = replay(Log(), bundle=None, on_tick=lambda _, tick: ticks.append(tick))
    assert report.parts["tracker"] == "the log's own tracks"
    assert ticks[-1].scene is not None
    assert ticks[-1].scene.tracks["age_ticks"][0] == 19
    assert report.scene_digest != ""


def test_a_replay_at_real_speed_waits_for_each_frame(route: Path) -> None:
    clock = FakeClock()
    report = replay(route, bundle=None, speed=2.0, clock=clock)
    assert report.seconds == pytest.approx(4.9 / 2.0)
    assert report.missed == 0


def test_impossible_speed_and_missing_route_are_refused(route: Path, tmp_path: Path) -> None:
    with pytest.raises(ReplaySpeedError):
        replay(route, bundle=None, speed=0.0)
    with pytest.raises(RouteMissingError):
        replay(tmp_path / "nothing.mcap", bundle=None)
