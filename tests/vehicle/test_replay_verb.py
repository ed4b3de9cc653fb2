"""`roadloop replay` records clips, and refuses what it cannot do by name."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import roadloop
from vehicle.contracts import wire
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.replay import ReplaySpeedError
from vehicle.replay_verb import NoCarError, PictureFrameError, ReplayRequest, lines, run
from vehicle.route import RouteWriter


@pytest.fixture
def braking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROADLOOP_HOME", str(tmp_path / "home"))
    path = tmp_path / "braking.mcap"
    with RouteWriter(path, None, rate_hz=10.0, metadata={"route_id": "r"}) as writer:
        for i in range(30):
            ego = EgoState(
                mono_ns=i * 100_000_000,
                x_m=float(i),
                y_m=0.0,
                yaw_rad=0.0,
                speed_mps=10.0,
                accel_mps2=-5.0 if i == 10 else 0.0,
            )
            writer.write(Observation(frame=FrameSet(frame_id=i, mono_ns=ego.mono_ns), ego=ego))
    return path


def test_events_become_clips_of_the_named_car(braking: Path, tmp_path: Path) -> None:
    told: list[int] = []
    request = ReplayRequest(route=braking, car="car-3", record_clips=True)
    report, health = run(request, lambda n, _: told.append(n))
    assert health is not None
    assert (health.counters["clips"], health.counters["lost_frames"]) == (1, 0)
    clips = list((tmp_path / "home/cars/car-3/outbox").glob("*/manifest.json"))
    assert len(clips) == 1
    assert told == list(range(1, 31))
    text = "\n".join(lines(report, health))
    assert "hard_brake 1" in text
    assert report.plan_digest in text


def test_clips_of_nobody_are_refused(braking: Path) -> None:
    with pytest.raises(NoCarError, match="--car"):
        run(ReplayRequest(route=braking, record_clips=True), lambda *_: None)


def test_a_speed_that_is_none_and_a_frame_that_is_not_there_are_refused(
    braking: Path, tmp_path: Path
) -> None:
    with pytest.raises(ReplaySpeedError):
        run(ReplayRequest(route=braking, speed="fast"), lambda *_: None)
    missing = ReplayRequest(route=braking, picture=tmp_path / "p.png", picture_frame=99)
    with pytest.raises(PictureFrameError):
        run(missing, lambda *_: None)


def test_the_command_looks_out_for_what_its_campaign_says(braking: Path, tmp_path: Path) -> None:
    spec = TriggerSpec(name="any_brake", kind="hard_brake", threshold=0.1)
    path = tmp_path / "campaign.json"
    path.write_bytes(wire.to_bytes(Campaign(campaign_id="c", triggers=(spec,))))
    words = ["replay", str(braking), "--campaign", str(path), "--json"]
    done = CliRunner().invoke(roadloop.app, words)
    assert json.loads(done.stdout)["triggers"] == {"any_brake": 1}
