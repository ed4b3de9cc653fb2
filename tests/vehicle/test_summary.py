"""A clip's summary: the same whether it is made while the clip is written or read from it."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from route_parts import RIG, obs_of, tick_of

from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.clip import THUMBNAIL_BYTES, ClipManifest, ClipSummary, FileEntry
from vehicle.contracts.frame import Rig
from vehicle.contracts.tick import Tick
from vehicle.route import RouteWriter
from vehicle.summary import Summariser, ahead, thumbnail
from vehicle.telemetry_pb import record_of

TICKS = 12
EVENT = 4


def driven(i: int) -> Tick:
    """Return a tick with signals; the first event is on frame EVENT."""
    tick = tick_of(i)
    signals = {"ttc_s": 3.0 - 0.2 * i, "shadow_disagreement": 0.05 * i, "jerk_mps3": 1.0}
    event = replace(tick_of(0).events[0], frame_id=EVENT)
    return replace(tick, signals=signals, events=(event,) if i >= EVENT else ())


def manifest() -> ClipManifest:
    entry = FileEntry(name="clip.mcap", sha256="a" * 64, size_bytes=1_000)
    return ClipManifest(
        clip_id=entry.sha256, car_id="car-1", route_id="r", events=driven(EVENT).events,
        frames=(0, TICKS - 1), start_mono_ns=0, end_mono_ns=1_100_000_000, created_utc_ns=1,
        jurisdiction="ZZ", model="base@1", rig_digest=RIG.digest, files=(entry,),
    )  # fmt: skip


@pytest.fixture
def watched() -> ClipSummary:
    summariser = Summariser(RIG)
    for i in range(TICKS):
        obs = obs_of(i)
        summariser.tick(record_of(obs, driven(i)), obs.frame.images)
    return summariser.summary(manifest(), {})


def picture_of(summary: ClipSummary) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(summary.thumbnail(), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def test_the_worst_of_every_signal_is_a_fact_and_the_unknown_is_absent(watched):
    assert watched.facts["min_ttc_s"] == pytest.approx(0.8)
    assert watched.facts["max_shadow_disagreement"] == pytest.approx(0.55)
    assert (watched.facts["max_tracks"], watched.facts["events"]) == (30.0, 1.0)
    assert watched.facts["max_total_us"] == 4_200.0
    assert "min_rss_margin_m" not in watched.facts
    assert "jerk_mps3" not in str(watched.facts)


def test_the_picture_is_of_the_first_event(watched):
    shown, taken = picture_of(watched), obs_of(EVENT).frame.images["wide"]
    assert shown.shape == taken.shape
    assert np.abs(shown.astype(int) - taken).mean() < 4.0


def test_a_summary_read_from_the_file_says_the_same(watched, tmp_path: Path):
    path = tmp_path / "clip.mcap"
    with RouteWriter(path, RIG, rate_hz=10.0, metadata={}) as writer:
        for i in range(TICKS):
            writer.write(obs_of(i), driven(i))
    summariser = Summariser(RIG)
    summariser.read(path)
    read = summariser.summary(manifest(), {})
    assert (read.facts, read.value) == (watched.facts, watched.value)
    assert np.abs(picture_of(read).astype(int) - picture_of(watched)).mean() < 6.0


def test_a_clip_without_cameras_has_no_picture():
    summariser = Summariser(None)
    for i in range(3):
        summariser.tick(record_of(obs_of(i, cameras=False), driven(i)), {})
    assert summariser.summary(manifest(), {}).thumbnail_jpeg == ""


def test_the_widest_camera_that_looks_ahead_is_shown():
    chosen = ahead(RIG_R)
    assert chosen is not None
    assert chosen.name == "front_wide"
    assert ahead(Rig(name="none", cameras=())) is None


def test_whatever_the_picture_its_jpeg_fits():
    noise = np.random.default_rng(0).integers(0, 255, (2_000, 3_000, 3), dtype=np.uint8)
    assert 0 < len(thumbnail(noise)) <= THUMBNAIL_BYTES


@pytest.mark.parametrize(
    ("text", "says"), [("%%%", "not base64"), ("aGFsbG8=", "not a JPEG"), ("A" * 70_000, "at most")]
)
def test_a_thumbnail_that_is_none_is_refused(watched, text, says):
    with pytest.raises(wire.ContractError, match=says):
        replace(watched, thumbnail_jpeg=text)
