import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vehicle.contracts.frame import FrameSet, Rig
from vehicle.geometry import look_camera
from vehicle.ring import (
    FrameShapeError,
    ReaderBusyError,
    Ring,
    RingError,
    TelemetryTooLargeError,
)

SIZE = {"width_px": 32, "height_px": 16, "x_m": 1.0, "y_m": 0.0, "z_m": 1.0, "yaw_deg": 0.0}
RIG = Rig(
    name="two",
    cameras=(look_camera("a", hfov_deg=90.0, **SIZE), look_camera("b", hfov_deg=60.0, **SIZE)),
)


def frame(number: int, cameras: tuple[str, ...] = ("a", "b")) -> FrameSet:
    images = {c: np.full((16, 32, 3), number % 251, dtype=np.uint8) for c in cameras}
    return FrameSet(frame_id=number, mono_ns=number * 1_000, images=images)


def test_what_is_written_is_read_whole():
    ring = Ring(RIG, slots=4)
    reader = ring.reader(0)
    ring.write(frame(7, ("b",)), b"telemetry", 99, flag=True)
    slot = reader.next()
    assert (slot.frame_id, slot.mono_ns, slot.utc_ns, slot.flagged) == (7, 7_000, 99, True)
    assert slot.telemetry == b"telemetry"
    assert list(slot.images) == ["b"]
    assert (slot.images["b"] == 7).all()
    assert reader.next() is None
    ring.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=30))
def test_every_frame_is_either_read_in_order_or_counted_as_lost(bursts):
    ring = Ring(None, slots=4)
    reader = ring.reader(1)
    written, seen = 0, []
    for burst in bursts:
        for _ in range(burst):
            ring.write(frame(written, ()), b"", 0)
            written += 1
        slot = reader.next()
        seen += [slot.frame_id] if slot else []
    while (slot := reader.next()) is not None:
        seen.append(slot.frame_id)
    lost = reader.lost
    ring.close()
    assert seen == sorted(set(seen))
    assert len(seen) + lost == written


def test_slow_reader_loses_frames_and_the_writer_does_not_wait():
    ring = Ring(RIG, slots=4)
    reader = ring.reader(0)
    for number in range(100):
        ring.write(frame(number), b"x", 0)
    assert reader.next().frame_id == 96
    assert reader.lost == 96
    assert ring.lost_by(0) == 96
    ring.close()


def test_readers_do_not_disturb_each_other():
    ring = Ring(RIG, slots=4)
    quick, slow = ring.reader(0), ring.reader(7)
    seen = []
    for number in range(20):
        ring.write(frame(number), b"x", 0)
        seen.append(quick.next().frame_id)
    assert seen == list(range(20))
    assert (slow.next().frame_id, slow.lost, quick.lost) == (16, 16, 0)
    ring.close()


def test_reader_with_spare_time_takes_the_newest_frame_and_counts_what_it_passed_over():
    ring = Ring(RIG, slots=4)
    reader = ring.reader(1)
    assert reader.newest() == (None, 0)
    for number in range(10):
        ring.write(frame(number), b"x", 0)
    slot, passed = reader.newest()
    assert (slot.frame_id, passed, reader.lost) == (9, 9, 0)
    assert reader.newest() == (None, 0)
    ring.close()


def test_place_of_a_dead_reader_is_taken_over_and_that_of_a_living_one_refused():
    ring = Ring(RIG, slots=4)
    code = (
        "import sys, time; from vehicle.ring import Ring; from test_ring import RIG\n"
        "ring = Ring(RIG, slots=4, name=sys.argv[1]); reader = ring.reader(2)\n"
        "reader.next(); print('reads', flush=True); time.sleep(60)\n"
    )
    for number in range(3):
        ring.write(frame(number), b"x", 0)
    other = subprocess.Popen(
        [sys.executable, "-c", code, ring.name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stdout=subprocess.PIPE,
    )
    other.stdout.readline()
    with pytest.raises(ReaderBusyError, match=str(other.pid)):
        ring.reader(2)
    other.kill()
    other.wait()
    reader = ring.reader(2)
    assert reader.next().frame_id == 1  # where the dead one stood
    reader.rewind()
    assert reader.next().frame_id == 0
    ring.close()


def test_frames_that_came_round_while_nobody_read_are_counted_as_lost():
    ring = Ring(None, slots=4)
    ring.reader(0)
    for i in range(10):
        ring.write(FrameSet(frame_id=i, mono_ns=i, images={}), b"", i)
    again = ring.reader(0)  # its process was killed before it read anything
    again.rewind()
    found = [slot.frame_id for slot in iter(again.next, None)]
    assert (found, again.lost) == ([7, 8, 9], 7)
    again.rewind()
    assert again.lost == 7
    ring.close()


def test_note_of_a_writer_killed_at_it_is_no_note_and_the_next_one_is_whole():
    ring = Ring(None, slots=2)
    ring.leave_note(3, b"first")
    ring.reader_words(3)[3] += 1  # killed between its two marks
    assert ring.note_of(3, tries=1) == b""
    ring.leave_note(3, b"second")
    assert ring.note_of(3, tries=1) == b"second"
    ring.close()


def test_lossless_writer_waits_until_the_reader_makes_room():
    ring = Ring(RIG, slots=2)
    reader = ring.reader(0)
    for number in range(2):
        assert ring.wait_for(0, 0.0)
        ring.write(frame(number), b"", 0)
    assert not ring.wait_for(0, 0.01)
    reader.next()
    assert ring.wait_for(0, 0.0)
    ring.close()


def test_picture_of_another_size_is_refused_and_nothing_written():
    ring = Ring(RIG, slots=2)
    wrong = FrameSet(frame_id=0, mono_ns=0, images={"a": np.zeros((8, 8, 3), np.uint8)})
    with pytest.raises(FrameShapeError, match="camera 'a'"):
        ring.write(wrong, b"", 0)
    with pytest.raises(TelemetryTooLargeError):
        ring.write(frame(0), b"x" * (ring.telemetry_bytes + 1), 0)
    assert ring.head == 0
    ring.close()


def test_ring_of_another_rig_is_refused():
    ring = Ring(RIG, slots=2)
    with pytest.raises(RingError, match="laid out"):
        Ring(None, slots=2, name=ring.name)
    ring.close()
    with pytest.raises(RingError, match="gone"):
        Ring(RIG, slots=2, name=ring.name)


def _read_torn(name: str, seconds: float, out: str) -> None:
    ring = Ring(RIG, slots=3, name=name)
    reader, taken, torn = ring.reader(0), 0, 0
    give_up = time.monotonic() + seconds
    while not (ring.ended and reader.behind == 0) and time.monotonic() < give_up:
        slot = reader.next()
        if slot is None:
            continue
        taken += 1
        wanted = slot.frame_id % 251
        whole = all((p == wanted).all() for p in slot.images.values())
        torn += not (whole and slot.telemetry == str(slot.frame_id).encode() * 20)
    Path(out).write_text(f"{taken} {torn} {reader.lost}")
    ring.close()


def test_no_reader_in_another_process_ever_sees_a_torn_frame(tmp_path):
    ring = Ring(RIG, slots=3)
    out = tmp_path / "out"
    process = multiprocessing.get_context("spawn").Process(
        target=_read_torn, args=(ring.name, 20.0, str(out))
    )
    process.start()
    while not ring.is_alive(0):
        time.sleep(0.01)
    end = time.monotonic() + 1.0
    number = 0
    while time.monotonic() < end:
        ring.write(frame(number), str(number).encode() * 20, 0)
        number += 1
    ring.end()
    process.join(20)
    ring.close()
    taken, torn, lost = map(int, out.read_text().split())
    assert torn == 0
    assert taken > 0
    assert taken + lost == number


def test_memory_of_a_killed_owner_is_removed(tmp_path):
    code = (
        "import sys, time\n"
        "from vehicle.ring import Ring\n"
        "print(Ring(None, slots=2).name, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    name = owner.stdout.readline().strip()
    assert Path("/dev/shm", name).exists()
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    for _ in range(100):
        if not Path("/dev/shm", name).exists():
            return
        time.sleep(0.05)
    pytest.fail(f"{name} is still there")


def test_too_little_shared_memory_is_named_and_nothing_stays():
    before = set(Path("/dev/shm").iterdir())
    with pytest.raises(RingError, match="--shm-size"):
        Ring(None, slots=2, telemetry_bytes=1 << 42)
    assert set(Path("/dev/shm").iterdir()) <= before
