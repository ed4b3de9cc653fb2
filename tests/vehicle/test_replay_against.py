"""Two bundles over one route: what differs is counted, listed worst first, and drawn."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_bundle
from route_parts import picture
from typer.testing import CliRunner

import roadloop
from vehicle.config import RIG_R
from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.ego import ControlCommand, EgoState, Guidance
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.plan import Plan, Trajectory
from vehicle.contracts.scene import BEV, KINDS, TRACK, Occupancy, Scene
from vehicle.contracts.telemetry import StageTiming
from vehicle.contracts.tick import Tick
from vehicle.replay_against import NothingToCompareError, compare
from vehicle.replay_diff import Tally, compare_ticks, lines
from vehicle.replay_verb import OptionsClashError, ReplayRequest, run, run_against
from vehicle.route import RouteWriter

TICKS = 8
SURE = 2
"""Ticks until a tracker that waits to be sure lets a road user into the scene."""


def observation(i: int, *, cameras: bool = True) -> Observation:
    images = {
        c.name: np.roll(picture(c.width_px, c.height_px, n), 2 * i, axis=1)
        for n, c in enumerate(RIG_R.cameras)
    }
    ego = EgoState(mono_ns=i * 100_000_000, x_m=0.8 * i, y_m=0.0, yaw_rad=0.0, speed_mps=8.0)
    lane = np.column_stack([np.arange(-10.0, 150.0), np.zeros(160)])
    return Observation(
        frame=FrameSet(frame_id=i, mono_ns=ego.mono_ns, images=images if cameras else {}),
        ego=ego,
        guidance=Guidance(centreline_m=lane, speed_limit_mps=10.0),
    )


@pytest.fixture(scope="module")
def route(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("route") / "r.mcap"
    about = {"car_id": "car-1", "route_id": "r-1", "ticks": str(TICKS)}
    with RouteWriter(path, RIG_R, rate_hz=10.0, metadata=about) as writer:
        for i in range(TICKS):
            writer.write(observation(i))
    return path


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    tiny_bundle.make(folder)
    return folder


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that sees the car where it is and the pedestrian somewhere else."""
    folder, patch = tmp_path_factory.mktemp("new"), pytest.MonkeyPatch()
    patch.setattr(tiny_bundle, "PEDESTRIAN_X_M", 14.5)
    tiny_bundle.make(folder, version=2)
    patch.undo()
    return folder


def test_a_bundle_against_itself_is_the_same_to_the_bit(route: Path, old: Path) -> None:
    diff = compare(route, bundle=old, against=old).diff
    assert (diff.ticks, diff.same_ticks, diff.first_frame) == (TICKS, TICKS, None)
    assert set(diff.matched) == {"car", "pedestrian"}
    assert min(diff.matched.values()) >= TICKS - SURE
    assert (diff.missed, diff.extra, diff.worst) == ({}, {}, ())
    assert diff.moved_m["2s"]["max"] == 0.0


def test_what_only_one_bundle_sees_is_counted_by_kind(route: Path, old: Path, new: Path) -> None:
    told: list[tuple[int, int | None]] = []
    diff = compare(
        route, bundle=new, against=old, keep=2, progress=lambda n, of: told.append((n, of))
    ).diff
    assert told == [(i + 1, TICKS) for i in range(TICKS)]
    assert (diff.old, diff.new) == ("tiny@1", "tiny@2")
    assert diff.first_frame is not None
    assert diff.first_frame == diff.same_ticks <= SURE
    assert set(diff.matched) == {"car"}
    assert diff.missed == diff.extra
    assert diff.missed["pedestrian"] >= TICKS - SURE
    assert diff.drivable_iou_ratio == {"mean": 1.0, "least": 1.0}
    assert 1 <= len(diff.worst) <= 2
    text = "\n".join(lines(diff))
    assert "tiny@2 against tiny@1" in text
    assert "they part at frame" in text


def test_the_command_prints_the_comparison_and_draws_the_worst(
    route: Path, old: Path, new: Path, tmp_path: Path
) -> None:
    strip = tmp_path / "strip.png"
    words = ["replay", str(route), "--bundle", str(new), "--against", str(old)]
    done = CliRunner().invoke(roadloop.app, [*words, "--strip", str(strip), "--worst", "1"])
    assert done.exit_code == 0, done.output
    assert "tiny@2 against tiny@1" in done.stdout
    image = cv2.imread(str(strip))
    assert image.shape[1] == 2080
    assert image.shape[0] > 500
    said = json.loads(CliRunner().invoke(roadloop.app, [*words, "--json"]).stdout)
    assert said["schema"] == "replay-diff/1"
    assert set(said["extra"]) == {"pedestrian"}
    assert said["worst"][0]["frame_id"] in range(TICKS)


def test_options_of_one_drive_are_refused_for_two(route: Path, old: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsClashError, match="--against"):
        run(ReplayRequest(route=route, strip=tmp_path / "s.png"), lambda *_: None)
    for extra in ({"speed": "1.0"}, {"record_clips": True}, {"picture": tmp_path / "p.png"}):
        with pytest.raises(OptionsClashError, match="leave one"):
            run_against(ReplayRequest(route=route, against=old, **extra), lambda *_: None)


def test_a_route_that_no_camera_saw_is_refused(old: Path, tmp_path: Path) -> None:
    path = tmp_path / "blind.mcap"
    with RouteWriter(path, None, rate_hz=10.0, metadata={}) as writer:
        writer.write(observation(0, cameras=False))
    with pytest.raises(NothingToCompareError, match="no cameras"):
        compare(path, bundle=old, against=old)


# --- one tick against another


def scene(*users: tuple[str, float, float], drivable: int = 255, coasted: int = 0) -> Scene:
    tracks = np.zeros(len(users), TRACK)
    for track, (kind, x, y) in zip(tracks, users, strict=True):
        track["kind"], track["x_m"], track["y_m"] = KINDS.index(kind), x, y
    tracks["coasted_ticks"] = coasted
    layer = np.zeros((BEV.nx, BEV.ny), np.uint8)
    layer[:50] = drivable
    return Scene(
        frame_id=0, mono_ns=0, tracks=tracks, embedding=np.zeros(0, np.float32),
        occupancy=Occupancy(grid=BEV, drivable=layer, lane=layer, occupied=layer),
        uncertainty_ratio=0.1, fresh=True,
    )  # fmt: skip


def tick(
    seen: Scene | None = None, *, left: float = 0.0, accel: float = 0.0, rung: str = "full",
    events: tuple[str, ...] = (),
) -> Tick:  # fmt: skip
    states = np.zeros((41, 7))
    states[:, 0] = 0.1 * np.arange(41)
    states[:, 1], states[:, 2] = 10.0 * states[:, 0], left * states[:, 0]
    return Tick(
        frame_id=0,
        scene=seen,
        plan=Plan(
            frame_id=0, mono_ns=0, trajectory=Trajectory(states=states), rung="full",
            proposal="p", scores={},
        ),
        command=ControlCommand(frame_id=0, mono_ns=0, accel_mps2=accel, curvature_1pm=0.0),
        timing=StageTiming(
            frame_id=0, release_mono_ns=0, stage_us={}, total_us=0,
            rung=rung,  # type: ignore[arg-type]
        ),
        events=tuple(
            TriggerEvent(
                trigger=e, campaign_id="c", frame_id=0, mono_ns=0, value=1.0, threshold=1.0
            )
            for e in events
        ),
    )  # fmt: skip


def test_road_users_match_within_two_metres_of_their_own_kind_only() -> None:
    old = scene(("car", 10, 0), ("car", 12, 0), ("pedestrian", 5, 1), ("cyclist", 30, 0))
    new = scene(("car", 11.8, 0), ("pedestrian", 5, 3.5), ("car", 30, 0))
    diff = compare_ticks(observation(0, cameras=False), tick(old), tick(new))
    assert diff.matched == {"car": 1}
    assert diff.missed == {"car": 1, "pedestrian": 1, "cyclist": 1}
    assert diff.extra == {"pedestrian": 1, "car": 1}


def test_who_is_only_predicted_is_not_seen() -> None:
    gone = scene(("car", 10, 0), coasted=3)
    diff = compare_ticks(observation(0, cameras=False), tick(gone), tick(scene()))
    assert (diff.matched, diff.missed, diff.extra) == ({}, {}, {})
    assert compare_ticks(observation(0, cameras=False), tick(), tick()).drivable_iou_ratio is None


def test_plans_commands_events_and_rungs_are_told_apart() -> None:
    a = tick(scene(drivable=255), left=0.5, accel=-1.0, rung="coast", events=("ttc", "rare"))
    b = tick(scene(drivable=0), events=("ttc",))
    diff = compare_ticks(observation(0, cameras=False), a, b)
    assert diff.moved_m == pytest.approx((0.5, 1.0, 1.5))
    assert diff.accel_mps2 == 1.0
    assert (diff.only_old, diff.only_new) == (("rare",), ())
    assert (diff.old_rung, diff.new_rung, diff.same) == ("coast", "full", False)
    assert diff.drivable_iou_ratio == 0.0
    assert diff.size == pytest.approx(1.0 + 0.5 + 2.0 + 2.0 + 1.0)


def test_the_worst_of_one_moment_stands_for_it() -> None:
    tally, still = Tally(keep=2), tick()
    for i, left in enumerate((0.1, 0.9, 0.2, 0.0, 0.0, 0.0, 0.0, 0.3, 0.25)):
        obs, other = observation(i, cameras=False), tick(left=left)
        tally.take(compare_ticks(obs, still, other), obs, still, other)
    worst = tally.report(route="r", old="a", new="b", seconds=1.0).worst
    assert [w.frame_id for w in worst] == [1, 7]
    assert tally.same == 4
