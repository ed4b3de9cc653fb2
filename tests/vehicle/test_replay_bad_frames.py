"""Whatever is wrong with frames, a replay goes through to the end, and says what was wrong."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from vehicle.config import RIG_R
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.tick import Tick
from vehicle.replay import ReplayReport, replay
from vehicle.replay_against import compare
from vehicle.replay_verb import ReplayRequest, lines, run
from vehicle.route import RouteWriter
from vehicle.sources import LogSource

TICKS, STEP_NS = 30, 100_000_000
BROKEN = range(8, 14)
FRONT = "front_wide"
NAMES = tuple(c.name for c in RIG_R.cameras)
SHAPES = {c.name: (c.height_px, c.width_px, 3) for c in RIG_R.cameras}
NOISE = {n: np.random.default_rng(k).integers(30, 220, SHAPES[n], dtype=np.uint8)
         for k, n in enumerate(NAMES)}  # fmt: skip
LANE = np.column_stack([np.arange(-20.0, 160.0), np.zeros(180)])

Break = Callable[[FrameSet], FrameSet]


def observation(i: int) -> Observation:
    mono_ns = 1_000_000_000 + i * STEP_NS
    images = {n: np.roll(a, 3 * i, axis=1) for n, a in NOISE.items()}
    ego = EgoState(mono_ns=mono_ns, x_m=0.8 * i, y_m=0.0, yaw_rad=0.0, speed_mps=8.0)
    return Observation(
        frame=FrameSet(frame_id=i, mono_ns=mono_ns, images=images),
        ego=ego,
        guidance=Guidance(centreline_m=LANE - [ego.x_m, 0.0], speed_limit_mps=10.0),
    )


def log_of(broken: Break | None) -> LogSource:
    """Return a drive of which six frames are broken."""

    def walk() -> Iterator[Observation]:
        for i in range(TICKS):
            obs = observation(i)
            if broken is not None and i in BROKEN:
                obs = replace(obs, frame=broken(obs.frame))
            yield obs

    about = {"car_id": "car-1", "route_id": "r", "ticks": str(TICKS)}
    return LogSource(rig=RIG_R, rate_hz=10.0, metadata=about, ticks=TICKS, walk=walk)


def with_image(make: Callable[[np.ndarray], np.ndarray | None]) -> Break:
    """Return what breaks the front camera's picture and leaves the others."""

    def broken(frame: FrameSet) -> FrameSet:
        images = dict(frame.images)
        image = make(images.pop(FRONT))
        return replace(frame, images=images if image is None else {**images, FRONT: image})

    return broken


def exposed(behind_ns: int) -> Break:
    return lambda f: replace(
        f, exposed_ns={n: f.mono_ns - (behind_ns if n == FRONT else 0) for n in NAMES}
    )


KINDS: dict[str, Break] = {
    "camera_missing": with_image(lambda image: None),
    "camera_wrong_size": with_image(lambda image: image[::2]),
    "camera_wrong_type": with_image(lambda image: image.astype(np.float32) * np.nan),
    "camera_black": with_image(np.zeros_like),
    "camera_overexposed": with_image(lambda image: np.full_like(image, 255)),
    "camera_covered": with_image(lambda image: np.full_like(image, 114)),
    "camera_frozen": with_image(lambda image: NOISE[FRONT]),
    "camera_late": exposed(80_000_000),
    "camera_early": exposed(-80_000_000),
    "frame_duplicate": lambda f: replace(f, frame_id=7),
    "frame_out_of_order": lambda f: replace(f, frame_id=6, mono_ns=f.mono_ns - 4 * STEP_NS),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    tiny_bundle.make(folder)
    return folder


def drive(broken: Break | None, bundle: Path) -> tuple[ReplayReport, list[Tick]]:
    ticks: list[Tick] = []
    report = replay(log_of(broken), bundle=bundle, on_tick=lambda _, tick: ticks.append(tick))
    return report, ticks


def test_a_whole_drive_has_nothing_to_report(bundle: Path) -> None:
    report, ticks = drive(None, bundle)
    assert report.rungs == {"full": TICKS}
    assert report.health["fresh"] == TICKS
    assert report.fault == ""
    assert len(ticks) == TICKS


@pytest.mark.parametrize("kind", KINDS)
def test_broken_frames_are_named_counted_and_answered(kind: str, bundle: Path) -> None:
    report, ticks = drive(KINDS[kind], bundle)
    assert report.ticks == report.planned == len(ticks) == TICKS
    assert all(t.command is not None and t.plan is not None for t in ticks)
    # equal pictures are a freeze only from the third on
    least = len(BROKEN) - 2 * (kind == "camera_frozen")
    assert least <= report.health[kind] <= len(BROKEN)
    assert kind.split("_", 1)[1].split("_")[0] in report.fault or kind in (
        "camera_missing", "camera_wrong_size", "camera_wrong_type",
    )  # fmt: skip
    assert report.fault != ""
    assert ticks[BROKEN.start - 1].timing.rung == "full"
    assert ticks[BROKEN.stop - 1].timing.rung in ("fewer_cameras", "coast", "hold_plan")
    assert ticks[-1].timing.rung == "full", "healthy again, it climbs back"
    assert kind in "\n".join(lines(report, None))


@pytest.mark.parametrize("kind", KINDS)
def test_broken_frames_give_the_same_plans_every_time(kind: str, bundle: Path) -> None:
    first, second = drive(KINDS[kind], bundle)[0], drive(KINDS[kind], bundle)[0]
    assert first.plan_digest == second.plan_digest != ""
    assert first.scene_digest == second.scene_digest != ""


def test_losing_every_camera_ends_in_a_minimal_risk_manoeuvre(bundle: Path) -> None:
    def dark(frame: FrameSet) -> FrameSet:
        return replace(frame, images={})

    ticks: list[Tick] = []
    source = log_of(None)
    blind = replace(
        source, walk=lambda: (replace(o, frame=dark(o.frame)) if o.frame.frame_id > 5 else o
                              for o in source)
    )  # fmt: skip
    report = replay(blind, bundle=bundle, on_tick=lambda _, tick: ticks.append(tick))
    assert [t.timing.rung for t in ticks][5::6] == ["full", "hold_plan", "mrm", "mrm", "mrm"]
    assert report.health["camera_missing"] == 8 * (TICKS - 6)
    assert ticks[-1].command is not None
    assert ticks[-1].command.hazard_lights
    assert ticks[-1].command.accel_mps2 < 0.0


def test_every_fault_at_once_and_none_of_them_ends_the_replay(bundle: Path) -> None:
    """Frame after frame another fault; and two bundles go through it side by side."""
    breaks = list(KINDS.values())

    def walk() -> Iterator[Observation]:
        for i in range(TICKS):
            obs = observation(i)
            yield replace(obs, frame=breaks[i % len(breaks)](obs.frame)) if i > 3 else obs

    source = replace(log_of(None), walk=walk)
    report = replay(source, bundle=bundle)
    assert report.planned == TICKS
    assert sum(report.health.get(kind, 0) for kind in KINDS) >= 15
    diff = compare(source, bundle=bundle, against=bundle).diff
    assert diff.ticks == diff.same_ticks == TICKS


def test_a_recorded_route_with_broken_cameras_replays_by_the_command(
    bundle: Path, tmp_path: Path
) -> None:
    """What a file can hold of it: missing, black and frozen pictures, through the codec."""
    path = tmp_path / "r.mcap"
    with RouteWriter(path, RIG_R, rate_hz=10.0, metadata={"car_id": "c"}) as writer:
        for i in range(TICKS):
            obs = observation(i)
            kind = ("camera_missing", "camera_black", "camera_frozen")[i // 10]
            writer.write(replace(obs, frame=KINDS[kind](obs.frame)) if i % 10 > 3 else obs)
    report, _ = run(ReplayRequest(route=path, bundle=bundle), lambda *_: None)
    assert report.planned == TICKS
    assert report.health["camera_missing"] == 6
    assert report.health["camera_black"] == 6
    assert report.fault != ""
