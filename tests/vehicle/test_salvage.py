"""What a killed recorder leaves of a clip, found by the next one on the same outbox."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tick_parts import clips, tick_of

from vehicle.contracts import wire
from vehicle.contracts.clip import ClipSummary
from vehicle.contracts.frame import Rig
from vehicle.geometry import look_camera
from vehicle.ring import Slot
from vehicle.route import RouteReader
from vehicle.shelf import DriveFacts, Shelf
from vehicle.telemetry_pb import encode_telemetry

SIZE = {"width_px": 384, "height_px": 192, "x_m": 1.0, "y_m": 0.0, "z_m": 1.0, "yaw_deg": 0.0}
RIG = Rig(name="one", cameras=(look_camera("a", hfov_deg=90.0, **SIZE),))
FRAMES, EVENT = 80, 5


def facts(route_id: str = "r") -> DriveFacts:
    return DriveFacts(
        rig=RIG,
        rate_hz=10.0,
        car_id="car-1",
        route_id=route_id,
        model="base@1",
        jurisdiction="ZZ",
        tags={"town": "7"},
    )


def slot_of(i: int, *, event: bool = False) -> Slot:
    obs, tick = tick_of(i, event=event)
    image = np.random.default_rng(i).integers(0, 255, (192, 384, 3), dtype=np.uint8)
    return Slot(
        frame_id=i,
        mono_ns=i * 100_000_000,
        utc_ns=i,
        flagged=event,
        telemetry=encode_telemetry(obs, tick),
        images={"a": image},
    )


def keep_and_die(outbox: str, event: str) -> None:
    shelf = Shelf(Path(outbox), facts())
    shelf.open()
    for i in range(FRAMES):
        shelf.keep(slot_of(i, event=i == int(event)))
    os._exit(9)


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed") / "outbox"
    killed_at(folder, EVENT)
    return folder


@pytest.fixture
def outbox(tmp_path, left_behind):
    shutil.copytree(left_behind, tmp_path / "outbox")
    return tmp_path / "outbox"


def killed_at(outbox: Path, event: int) -> None:
    code = "import sys; from test_salvage import keep_and_die; keep_and_die(*sys.argv[1:])"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, str(outbox), str(event)],
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 9


def test_clip_of_a_killed_drive_is_sealed_as_far_as_it_is_whole(outbox):
    shelf = Shelf(outbox, facts("another"))
    assert (shelf.salvaged, shelf.removed, shelf.resumed) == (1, 0, None)
    shelf.close()
    [(clip, frames)] = clips(outbox.parent)
    assert frames == list(range(frames[-1] + 1))
    assert EVENT < frames[-1] < FRAMES  # the last chunk was still in memory
    assert (clip.route_id, clip.car_id, clip.tags) == ("r", "car-1", {"town": "7"})
    assert [e.frame_id for e in clip.events] == [EVENT]
    seen = list(RouteReader(outbox / clip.clip_id / "clip.mcap").observations())
    assert [o.frame.images["a"].shape for o in seen] == [(192, 384, 3)] * len(frames)
    summary = (outbox / clip.clip_id / "summary.json").read_bytes()
    assert wire.from_bytes(ClipSummary, summary).thumbnail()
    assert [p.name for p in (outbox / ".tmp").iterdir()] == ["lock"]


def test_clip_of_the_same_drive_is_gone_on_with_and_its_pictures_decode(outbox):
    shelf = Shelf(outbox, facts())
    last = shelf.resumed.frames[1]
    for i in range(last + 1, last + 11):
        shelf.keep(slot_of(i))
    assert shelf.seal(shelf.resumed.events)
    shelf.close()
    [(clip, frames)] = clips(outbox.parent)
    assert frames == list(range(last + 11))
    assert clip.frames == (0, last + 10)
    seen = list(RouteReader(outbox / clip.clip_id / "clip.mcap").observations())
    assert all("a" in o.frame.images for o in seen)
    shown = seen[last + 5].frame.images["a"].astype(int)
    right, wrong = (np.abs(shown - slot_of(last + i).images["a"]).mean() for i in (5, 4))
    assert right < 0.7 * wrong  # noise, compressed


def test_pre_roll_without_its_event_is_nobodys_clip(tmp_path):
    killed_at(tmp_path / "outbox", event=-1)
    shelf = Shelf(tmp_path / "outbox", facts("another"))
    assert (shelf.salvaged, shelf.removed) == (0, 1)
    shelf.close()
    assert clips(tmp_path) == []


def test_salvage_that_was_itself_cut_off_gives_the_clip_once(outbox):
    cut = Shelf(outbox, facts())  # goes on with the clip, and dies before anything is sealed
    assert cut.resumed is not None
    cut._lock.close()
    assert sorted(p.name for p in (outbox / ".tmp").iterdir()) == ["clip-1", "clip-3", "lock"]
    again = Shelf(outbox, facts("another"))
    again.close()
    [(clip, _)] = clips(outbox.parent)
    assert clip.frames == cut.resumed.frames
    assert [p.name for p in (outbox / ".tmp").iterdir()] == ["lock"]


def test_remains_of_a_clip_that_is_in_the_outbox_are_only_tidied(outbox):
    shutil.copytree(outbox / ".tmp" / "clip-1", outbox / "kept")
    Shelf(outbox, facts("another")).close()
    (outbox / "kept").rename(outbox / ".tmp" / "clip-9")
    shelf = Shelf(outbox, facts("another"))
    shelf.close()
    assert shelf.salvaged == 0
    assert len(clips(outbox.parent)) == 1
    assert [p.name for p in (outbox / ".tmp").iterdir()] == ["lock"]


def test_no_room_for_a_salvage_leaves_the_remains_for_the_next_start(outbox, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vehicle.shelf.carry_over", full)
        shelf = Shelf(outbox, facts("another"))
        assert (shelf.salvaged, shelf.removed) == (0, 0)
        assert "No space left" in shelf.trouble
        shelf.close()
    shelf = Shelf(outbox, facts("another"))
    assert shelf.salvaged == 1
    shelf.close()
    assert len(clips(outbox.parent)) == 1
