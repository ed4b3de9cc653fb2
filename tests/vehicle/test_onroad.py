"""The whole car as processes over a route file, through the command a person types."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from tick_parts import clips, tick_of, until

from vehicle.bookmark import Bell, press
from vehicle.clock import FakeClock, SystemClock
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.tick import Tick
from vehicle.drive_verb import health_line
from vehicle.onroad import NothingToDriveError, RoadOptions, _loop, _Tally
from vehicle.realtime import in_words
from vehicle.route import RouteWriter

NOISE = np.random.default_rng(3).integers(0, 255, (128, 256, 3), dtype=np.uint8)


@pytest.fixture
def road(tmp_path):
    """A route of two seconds, the network that drives it, a candidate, and what to look out for."""
    about = {"car_id": "car-1", "route_id": "r", "source": "simulator"}
    with RouteWriter(tmp_path / "r.mcap", RIG_R, rate_hz=10.0, metadata=about) as writer:
        for i in range(20):
            moved, mono_ns = np.roll(NOISE, 9 * i), i * 100_000_000
            images = {c.name: moved[: c.height_px, : c.width_px].copy() for c in RIG_R.cameras}
            ego = EgoState(mono_ns=mono_ns, x_m=1.0 * i, y_m=0.0, yaw_rad=0.0, speed_mps=10.0)
            ego = replace(ego, accel_mps2=-5.0 if i == 9 else 0.0)
            frame = FrameSet(frame_id=i, mono_ns=mono_ns, images=images)
            writer.write(Observation(frame=frame, ego=ego))
    tiny_bundle.make(tmp_path / "bundle")
    brake = TriggerSpec(name="brake", kind="hard_brake", threshold=4.0, pre_s=0.3, post_s=0.3)
    kept = TriggerSpec(name="bookmark", kind="bookmark", pre_s=0.3, post_s=0.3)
    campaign = Campaign(campaign_id="c", triggers=(brake, kept))
    (tmp_path / "campaign.json").write_bytes(wire.to_bytes(campaign))
    return tmp_path


def command(road: Path, *words: str) -> "subprocess.Popen[str]":
    usual = ["vehicle", "drive", road / "r.mcap", "--bundle", road / "bundle", "--best-effort"]
    usual += ["--shadow", road / "bundle", "--campaign", road / "campaign.json", "--json", *words]
    return subprocess.Popen(
        [sys.executable, "-m", "roadloop", *map(str, usual)],
        env={**os.environ, "ROADLOOP_HOME": str(road)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_whole_car_drives_a_route_and_says_how_every_part_did(road):
    out, err = command(road, "--rate", "20", "--seconds", "2").communicate(timeout=120)
    report = json.loads(out)
    assert report["ticks"] + report["frames_lost"] == 40
    assert report["unanswered"] == 0
    assert report["punctuality"].startswith("best effort: no SCHED_FIFO (not asked for)")
    assert set(report["parts"]) == {"recorder", "shadow", "supervisor", "drive", "ring"}
    assert report["parts"]["recorder"]["counters"]["clips"] >= 1
    assert "recorder" in err
    assert "best effort: no SCHED_FIFO (not asked for)" in err  # said at the start, too
    assert len(clips(road / "cars" / "car-1")) == report["parts"]["recorder"]["counters"]["clips"]
    words = [sys.executable, "-m", "roadloop", "vehicle", "status", "car-1"]
    shown = subprocess.run(
        words, env={**os.environ, "ROADLOOP_HOME": str(road)}, capture_output=True, text=True
    )
    assert "parts: loop " in shown.stdout


@pytest.mark.slow
def test_ctrl_c_ends_the_drive_in_order_with_its_clip_and_its_report(road):
    child = command(road, "--seconds", "600")
    health = road / "cars" / "car-1" / "health.json"

    def driven() -> bool:
        parts = json.loads(health.read_bytes())["parts"] if health.exists() else {}
        return parts.get("drive", {}).get("counters", {}).get("ticks", 0) >= 20

    def bookmarked() -> bool:
        clips_made = clips(road / "cars" / "car-1")
        return any(e.trigger == "bookmark" for clip, _ in clips_made for e in clip.events)

    until(driven, 60.0)
    press(road / "cars" / "car-1", SystemClock())
    until(bookmarked, 60.0)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    report = json.loads(out)
    assert (child.returncode, report["stopped"]) == (0, True)
    assert report["events"]["bookmark"] == 1
    assert report["parts"]["recorder"]["ok"]
    assert len(clips(road / "cars" / "car-1")) >= 1
    pids = [p["counters"].get("pid", 0) for p in report["parts"].values()]
    until(lambda: not any(pid and Path(f"/proc/{pid}").exists() for pid in pids))


def test_what_cannot_drive_is_refused_before_anything_runs(road):
    child = command(road, "--seconds", "0")
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "refused: ContractError: --seconds is 0.0" in err


class Loop:
    """Stands in for the loop and the processes beside it: notes which frames came."""

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.notes: list[dict[str, object]] = []
        self.sight = self.pilot = self.health = self
        self.ok, self.detail = True, ""

    def tick(self, obs: Observation, release_ns: int) -> Tick:
        self.frames.append(obs.frame.frame_id)
        assert obs.frame.mono_ns == obs.ego.mono_ns == release_ns
        return tick_of(obs.frame.frame_id)[1]

    def joined(self, health: "Loop") -> "Loop":
        return health

    def tell(self, **facts: object) -> None:
        self.notes.append(facts)


class Slow:
    """A source whose n-th frame takes as long as it is told."""

    rig, rate_hz, metadata = None, 10.0, {}

    def __init__(self, clock: FakeClock, *takes_ms: int) -> None:
        self._clock, self._takes_ms = clock, takes_ms

    def __iter__(self) -> Iterator[Observation]:
        for i, ms in enumerate(self._takes_ms):
            self._clock.advance_ns(ms * 1_000_000)
            yield tick_of(i)[0]


def looped(source: Slow, clock: FakeClock, **options: object) -> tuple[Loop, _Tally]:
    loop, tally = Loop(), _Tally()
    _loop(loop, loop, source, RoadOptions(**options), 10.0, clock, tally, "", Bell())
    return loop, tally


def test_source_that_is_late_loses_frames_as_a_camera_would_and_they_are_counted():
    clock = FakeClock()
    loop, tally = looped(Slow(clock, 1, 1, 350, 1, 1), clock)
    assert loop.frames == [0, 1, 4, 5, 6]  # frame 4 is the newest when the slow one is there
    assert (tally.ticks, tally.lost) == (5, 2)


def test_frames_after_the_end_of_a_drive_are_not_lost():
    clock = FakeClock()
    loop, tally = looped(Slow(clock, 1, 1, 900), clock, seconds=0.5)
    assert loop.frames == [0, 1]
    assert tally.ticks + tally.lost == 5


def test_drive_longer_than_its_source_begins_the_source_again():
    clock = FakeClock()
    loop, _ = looped(Slow(clock, 1, 1, 1), clock, seconds=0.8)
    assert loop.frames == list(range(8))


def test_source_without_frames_is_refused():
    clock = FakeClock()
    with pytest.raises(NothingToDriveError):
        looped(Slow(clock), clock, seconds=5.0)


def test_health_of_all_parts_fits_one_line():
    parts = {
        "drive": {"ok": True, "counters": {"ticks": 3_600, "missed": 0}},
        "recorder": {"ok": True, "counters": {"clips": 2, "lost_frames": 0, "restarts": 1}},
        "uplink": {"ok": False, "detail": "GatewayDownError", "counters": {"sent": 1}},
    }
    assert health_line(parts) == (
        "loop 3,600 ticks, 0 missed | recorder 2 clips, 0 lost frames | uplink 1 sent | "
        "recorder started again 1 x | uplink: GatewayDownError"
    )
    assert health_line({}) == "starting"


def test_punctuality_is_told_in_words():
    assert in_words({"gc": "had", "sched_fifo": "had"}) == (
        "real time: frozen garbage collector, SCHED_FIFO"
    )
    granted = {"gc": "had", "sched_fifo": "PermissionError: [Errno 1] Operation not permitted"}
    assert in_words(granted) == (
        "best effort: no SCHED_FIFO (PermissionError: [Errno 1] Operation not permitted); "
        "had: frozen garbage collector"
    )
