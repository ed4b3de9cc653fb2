import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vehicle.clip_check import look_over
from vehicle.clock import FakeClock
from vehicle.config import ConfigError, RecordingConfig
from vehicle.contracts import wire
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.clip import ClipManifest, TriggerEvent
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet, Observation, Rig
from vehicle.contracts.telemetry import StageTiming
from vehicle.contracts.tick import Tick
from vehicle.cutter import ClipCutter, Keep, Open, Seal
from vehicle.geometry import look_camera
from vehicle.recorder import Recorder, RecorderStartError
from vehicle.ring import Slot
from vehicle.route import RouteReader

SIZE = {"width_px": 64, "height_px": 48, "x_m": 1.0, "y_m": 0.0, "z_m": 1.0, "yaw_deg": 0.0}
RIG = Rig(name="one", cameras=(look_camera("a", hfov_deg=90.0, **SIZE),))
RATE_HZ = 10.0
CAMPAIGN = Campaign(
    campaign_id="test",
    triggers=(
        TriggerSpec(name="brake", kind="hard_brake", threshold=3.5, pre_s=1.0, post_s=0.5),
        TriggerSpec(name="ttc", kind="ttc", threshold=1.5, pre_s=0.5, post_s=1.0),
    ),
)
NOISE = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def event(name: str, frame_id: int) -> TriggerEvent:
    return TriggerEvent(
        trigger=name,
        campaign_id="test",
        frame_id=frame_id,
        mono_ns=frame_id * 100_000_000,
        value=9.0,
        threshold=3.5,
    )


def tick_of(frame_id: int, *names: str) -> tuple[Observation, Tick]:
    mono_ns = frame_id * 100_000_000
    frame = FrameSet(frame_id=frame_id, mono_ns=mono_ns, images={"a": np.roll(NOISE, frame_id)})
    ego = EgoState(mono_ns=mono_ns, x_m=float(frame_id), y_m=0.0, yaw_rad=0.0, speed_mps=10.0)
    timing = StageTiming(
        frame_id=frame_id, release_mono_ns=mono_ns, stage_us={}, total_us=100, rung="full"
    )
    tick = Tick(
        frame_id=frame_id,
        scene=None,
        plan=None,
        command=None,
        timing=timing,
        events=tuple(event(n, frame_id) for n in names),
    )
    return Observation(frame=frame, ego=ego), tick


def recorder(outbox: Path, **more: object) -> Recorder:
    facts = {"car_id": "car-1", "route_id": "r", "model": "base@1", "tags": {"town": "7"}}
    return Recorder(
        outbox=outbox,
        rig=RIG,
        rate_hz=RATE_HZ,
        lossless=True,
        campaigns=(CAMPAIGN,),
        clock=FakeClock(),
        **(facts | more),
    )


def drive(sink: Recorder, frames: range, events: dict[int, tuple[str, ...]]) -> None:
    for frame_id in frames:
        sink.publish(*tick_of(frame_id, *events.get(frame_id, ())))


def manifests(outbox: Path) -> list[ClipManifest]:
    files = sorted(outbox.glob("[0-9a-f]*/manifest.json"))
    clips = [wire.from_bytes(ClipManifest, f.read_bytes()) for f in files]
    return sorted(clips, key=lambda clip: clip.frames)


def slot_of(frame_id: int) -> Slot:
    mono_ns = frame_id * 100_000_000
    return Slot(
        frame_id=frame_id, mono_ns=mono_ns, utc_ns=0, flagged=False, telemetry=b"", images={}
    )


def cut(events: dict[int, tuple[str, ...]], frames: int, max_clip_s: float = 60.0):
    cutter = ClipCutter((CAMPAIGN,), max_clip_s)
    clips: list[tuple[list[int], list[str]]] = []
    for i in range(frames):
        actions = cutter.push(slot_of(i), [event(n, i) for n in events.get(i, ())])
        actions += cutter.flush() if i == frames - 1 else []
        for action in actions:
            if isinstance(action, Open):
                clips.append(([], []))
            elif isinstance(action, Keep):
                clips[-1][0].append(action.slot.frame_id)
            elif isinstance(action, Seal):
                clips[-1][1].extend(e.trigger for e in action.events)
    return clips


def test_clip_holds_exactly_the_seconds_around_the_event():
    [(frames, events)] = cut({20: ("brake",)}, 60)
    assert frames == list(range(10, 26))
    assert events == ["brake"]


def test_two_events_whose_windows_touch_give_one_clip_without_gaps():
    [(frames, events)] = cut({20: ("brake",), 30: ("ttc",)}, 80)
    assert frames == list(range(10, 41))
    assert events == ["brake", "ttc"]


def test_windows_of_two_campaigns_merge_and_each_event_keeps_its_own():
    spec = TriggerSpec(name="brake", kind="hard_brake", threshold=1.0, pre_s=0.2, post_s=2.0)
    cutter = ClipCutter((CAMPAIGN, Campaign(campaign_id="other", triggers=(spec,))))
    fired = {20: event("brake", 20), 24: replace(event("brake", 24), campaign_id="other")}
    actions = []
    for i in range(80):
        actions += cutter.push(slot_of(i), [fired[i]] if i in fired else [])
    actions += cutter.flush()
    assert [a.slot.frame_id for a in actions if isinstance(a, Keep)] == list(range(10, 45))
    [seal] = [a for a in actions if isinstance(a, Seal)]
    assert [e.campaign_id for e in seal.events] == ["test", "other"]


def test_a_storm_of_events_is_cut_into_clips_whose_manifests_stay_small():
    clips = cut(dict.fromkeys(range(10, 40), ("brake",) * 60), 80)
    assert sum(len(events) for _, events in clips) == 60 * 30
    assert max(len(events) for _, events in clips) <= 300


def test_two_events_far_apart_give_two_clips():
    clips = cut({20: ("brake",), 60: ("brake",)}, 100)
    assert [c[0][0] for c in clips] == [10, 50]


def test_event_at_the_end_of_the_drive_is_flushed_with_the_post_roll_there_is():
    [(frames, _)] = cut({29: ("brake",)}, 30)
    assert frames == list(range(19, 30))


def test_events_without_end_are_cut_into_clips_of_bounded_length():
    clips = cut(dict.fromkeys(range(10, 200), ("brake",)), 220, max_clip_s=3.0)
    assert max(len(frames) for frames, _ in clips) <= 31
    kept = [f for frames, _ in clips for f in frames]
    assert kept == sorted(set(kept))
    assert sum(len(events) for _, events in clips) == 190


def test_event_becomes_a_clip_that_reads_as_a_route(tmp_path):
    outbox = tmp_path / "outbox"
    with recorder(outbox) as sink:
        drive(sink, range(60), {30: ("brake",), 34: ("ttc",)})
    health = sink.health
    [clip] = manifests(outbox)
    assert health.ok
    assert health.counters == {
        "clips": 1,
        "frames": 60,
        "lost_frames": 0,
        "errors": 0,
        "recovered": 0,
        "salvaged": 0,
        "removed": 0,
        "evicted": 0,
        "dropped_frames": 0,
        "encoder_stalls": 0,
        "backlog_frames": 0,
    }
    assert [e.trigger for e in clip.events] == ["brake", "ttc"]
    assert clip.frames == (20, 44)
    assert clip.tags == {"town": "7"}
    assert clip.rig_digest == RIG.digest
    path = outbox / clip.clip_id / "clip.mcap"
    assert wire.digest_file(path) == clip.clip_id
    route = RouteReader(path)
    seen = list(route.observations())
    assert [o.frame.frame_id for o in seen] == list(range(20, 45))
    assert seen[0].frame.images["a"].shape == (48, 64, 3)
    assert route.metadata["car_id"] == "car-1"


def test_same_drive_twice_gives_the_same_clip_once(tmp_path):
    for _ in range(2):
        with recorder(tmp_path) as sink:
            drive(sink, range(40), {20: ("brake",)})
    assert len(manifests(tmp_path)) == 1


def test_full_disk_is_named_and_leaves_no_half_clip_and_the_loop_goes_on(tmp_path):
    with recorder(tmp_path) as sink:
        hard = resource.prlimit(sink.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(sink.pid, resource.RLIMIT_FSIZE, (20_000, hard))
        drive(sink, range(60), {20: ("brake",)})
        for _ in range(200):
            if not sink.health.ok:
                break
            time.sleep(0.02)
        full = sink.health
        resource.prlimit(sink.pid, resource.RLIMIT_FSIZE, (hard, hard))
        drive(sink, range(60, 120), {80: ("brake",)})
    assert not full.ok
    assert "RouteWriteError" in full.detail
    assert full.counters["errors"] == 1
    assert sink.health.counters["clips"] == 1
    assert sink.health.ok
    assert [clip.frames for clip in manifests(tmp_path)] == [(70, 85)]
    assert [p.name for p in (tmp_path / ".tmp").iterdir()] == ["lock"]


def test_killed_recorder_is_counted_and_the_loop_goes_on(tmp_path):
    sink = recorder(tmp_path)
    drive(sink, range(22), {20: ("brake",)})
    os.kill(sink.pid, signal.SIGKILL)
    started = time.monotonic()
    drive(sink, range(22, 400), {})
    took_s = time.monotonic() - started
    health = sink.close()
    assert took_s < 5.0
    assert not health.ok
    assert "ended with code -9" in health.detail
    assert health.counters["errors"] == 1
    assert manifests(tmp_path) == []
    with recorder(tmp_path) as again:
        drive(again, range(40), {20: ("brake",)})
    assert len(manifests(tmp_path)) == 1
    assert [p.name for p in (tmp_path / ".tmp").iterdir()] == ["lock"]


def _drive_and_hang(outbox: str) -> None:
    sink = recorder(Path(outbox))
    drive(sink, range(30), {20: ("brake",)})
    Path(outbox, "driven").touch()
    time.sleep(60)


def test_recorder_of_a_killed_drive_still_completes_its_clip(tmp_path):
    process = multiprocessing.get_context("spawn").Process(
        target=_drive_and_hang, args=(str(tmp_path),)
    )
    process.start()
    _until(lambda: (tmp_path / "driven").exists())
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    _until(lambda: len(manifests(tmp_path)) == 1)
    assert manifests(tmp_path)[0].frames == (10, 25)


def test_drive_that_ends_by_an_exception_keeps_its_clip_and_leaves_no_memory(tmp_path):
    code = (
        "import sys; from pathlib import Path; from test_recorder import *\n"
        "sink = recorder(Path(sys.argv[1])); drive(sink, range(30), {20: ('brake',)})\n"
        "print(sink._ring.name, flush=True); raise ValueError('planted')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert "ValueError: planted" in done.stderr
    assert "leaked" not in done.stderr
    assert not Path("/dev/shm", done.stdout.strip()).exists()
    assert [clip.frames for clip in manifests(tmp_path)] == [(10, 25)]


def test_second_recorder_on_one_outbox_is_refused(tmp_path):
    with recorder(tmp_path), pytest.raises(RecorderStartError, match="OutboxBusyError"):
        recorder(tmp_path)


def test_frames_that_do_not_fit_the_rig_are_counted_not_raised(tmp_path):
    obs, tick = tick_of(0)
    wrong = FrameSet(frame_id=0, mono_ns=0, images={"z": NOISE})
    with recorder(tmp_path) as sink:
        sink.publish(Observation(frame=wrong, ego=obs.ego), tick)
        assert "FrameShapeError" in sink.health.detail
        assert sink.health.counters["errors"] == 1


def test_a_recording_toml_with_an_unknown_key_is_refused_before_the_drive(tmp_path):
    (tmp_path / "recording.toml").write_text("quota = 3\n")
    with pytest.raises(ConfigError, match="unknown key 'quota'"):
        recorder(tmp_path / "outbox")


def test_full_outbox_gives_up_what_is_worth_least_and_health_counts_it(tmp_path):
    config = RecordingConfig(outbox_bytes=150_000, least_free_ratio=0.0)
    with recorder(tmp_path, config=config) as sink:
        drive(sink, range(400), dict.fromkeys(range(20, 400, 40), ("brake",)))
    made = len(manifests(tmp_path))
    assert 0 < made < 10
    assert sink.health.counters["evicted"] == 10 - made
    assert len((tmp_path / ".evicted.jsonl").read_bytes().splitlines()) == 10 - made
    assert sink.health.ok


def test_a_car_may_ask_for_av1_and_its_clips_read_like_any_other(tmp_path):
    (tmp_path / "recording.toml").write_text('codec = "av1"\n')
    outbox = tmp_path / "outbox"
    with recorder(outbox) as sink:
        drive(sink, range(40), {20: ("brake",)})
    [clip] = manifests(outbox)
    path = outbox / clip.clip_id / "clip.mcap"
    assert [c.codec for c in look_over(path).cameras] == ["av1"]
    route = RouteReader(path)
    assert [o.frame.images["a"].shape for o in route.observations()] == [(48, 64, 3)] * 16
    assert next(route.keyframes("a"))[0] == 10


def test_unknown_folder_is_named_at_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecorderStartError, match="Not a directory"):
        recorder(tmp_path / "file" / "outbox")


def _until(condition, seconds: float = 20.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "took too long"
        time.sleep(0.02)
