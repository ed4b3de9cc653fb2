"""What a clip is worth, which clips give way, and what stays of those that did."""

import errno
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tick_parts import RIG, tick_of

from vehicle import eviction
from vehicle.config import ConfigError, RecordingConfig
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, ClipSummary, TriggerEvent
from vehicle.eviction import TOMBSTONES, OutboxRoom
from vehicle.quota import Disk, Held, make_room
from vehicle.ring import Slot
from vehicle.shelf import DriveFacts, Shelf
from vehicle.telemetry_pb import encode_telemetry
from vehicle.worth import key_of, strength_ratio, value_of

ROOMY = Disk(size_bytes=1_000_000, free_bytes=900_000)
SMALL = RecordingConfig(outbox_bytes=1_000, least_free_ratio=0.1)


def event(trigger: str = "ttc", *, value: float = 0.5, priority: int = 0) -> TriggerEvent:
    return TriggerEvent(
        trigger=trigger, campaign_id="c", frame_id=1, mono_ns=1, value=value, threshold=1.5,
        priority=priority,
    )  # fmt: skip


def held(name: str, size: int, value: float, *, fixed: bool = False, age: int = 0) -> Held:
    return Held(clip_id=name, size_bytes=size, value=value, created_utc_ns=-age, fixed=fixed)


def test_priority_outranks_everything_else():
    many = [event(f"t{i}", value=-100.0) for i in range(30)]
    assert value_of([event(value=1.5, priority=1)], {"c/ttc": 1000}) >= 1.0 > value_of(many, {})


def test_what_the_car_has_seen_often_is_worth_less():
    values = [value_of([event()], {key_of(event()): seen}) for seen in (0, 1, 9, 99)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.5 > values[-1]


def test_further_beyond_the_threshold_and_more_triggers_are_worth_more():
    weak, strong = event(value=1.4), event(value=0.1)
    assert value_of([weak], {}) < value_of([strong], {})
    assert value_of([strong], {}) < value_of([strong, event("rss")], {}) < 1.0
    assert value_of([strong, weak], {}) == value_of([strong], {})
    assert strength_ratio(event(value=float("inf"))) == 0.0


def test_nothing_goes_while_there_is_room():
    ruling = make_room([held("a", 400, 1.0)], held("n", 600, 0.1), ROOMY, SMALL)
    assert (ruling.go, ruling.stays, ruling.why) == ((), True, "")


def test_the_least_worth_goes_first_and_no_more_than_needed():
    clips = [held("a", 300, 3.0), held("b", 300, 1.0), held("c", 100, 0.5), held("d", 300, 2.0)]
    ruling = make_room(clips, held("n", 250, 5.0), ROOMY, SMALL)
    assert (ruling.go, ruling.stays) == (("b",), True)  # c alone is too small, with b not needed
    assert "250 bytes over 1000" in ruling.why


def test_of_equal_worth_the_older_goes():
    clips = [held("new", 500, 1.0, age=1), held("old", 500, 1.0, age=9)]
    assert make_room(clips, held("n", 500, 2.0), ROOMY, SMALL).go == ("old",)


def test_a_clip_that_is_being_sent_or_worth_as_much_never_goes():
    clips = [held("sent", 500, 0.1, fixed=True), held("same", 500, 1.0)]
    ruling = make_room(clips, held("n", 100, 1.0), ROOMY, SMALL)
    assert (ruling.go, ruling.stays) == ((), False)
    assert "no room" in ruling.why


def test_nothing_is_evicted_in_vain():
    clips = [held("a", 300, 0.1), held("b", 600, 9.0)]
    ruling = make_room(clips, held("n", 500, 5.0), ROOMY, SMALL)
    assert (ruling.go, ruling.stays) == ((), False)


def test_a_full_disk_counts_like_a_full_quota():
    tight = Disk(size_bytes=10_000, free_bytes=800)
    ruling = make_room([held("a", 300, 0.1)], held("n", 100, 5.0), tight, SMALL)
    assert ruling.go == ("a",)
    assert "200 bytes short of 10% free" in ruling.why


def test_a_quota_that_shrank_is_kept_without_a_new_clip():
    clips = [held("a", 900, 3.0), held("b", 900, 2.0), held("s", 900, 0.0, fixed=True)]
    assert make_room(clips, None, ROOMY, SMALL).go == ("b", "a")


def test_a_disk_that_others_fill_costs_no_clip_in_vain():
    clips = [held("a", 600, 3.0), held("b", 600, 2.0)]
    tight = Disk(size_bytes=100_000, free_bytes=10)
    assert make_room(clips, None, tight, SMALL).go == ("b",)  # for the quota
    assert make_room(clips[:1], None, tight, SMALL).go == ()


@given(
    sizes=st.lists(st.tuples(st.integers(1, 900), st.integers(0, 9), st.booleans()), max_size=12),
    new=st.tuples(st.integers(1, 900), st.integers(0, 9)),
)
def test_whatever_waits_the_rules_hold(sizes, new):
    clips = [held(str(i), s, v, fixed=f) for i, (s, v, f) in enumerate(sizes)]
    incoming = held("n", new[0], new[1])
    ruling = make_room(clips, incoming, ROOMY, SMALL)
    gone = [c for c in clips if c.clip_id in ruling.go]
    assert all(not c.fixed and c.value < incoming.value for c in gone)
    assert ruling.stays or not gone
    total = sum(c.size_bytes for c in clips) + incoming.size_bytes
    if ruling.stays:
        left = total - sum(c.size_bytes for c in gone)
        assert left <= SMALL.outbox_bytes
        assert all(left + c.size_bytes > SMALL.outbox_bytes for c in gone)  # none in vain


# on the disk


def shelf(outbox: Path, config: RecordingConfig | None = None) -> Shelf:
    facts = DriveFacts(
        rig=RIG, rate_hz=10.0, car_id="car-1", route_id="r", model="base@1", jurisdiction="ZZ",
        tags={},
    )  # fmt: skip
    return Shelf(outbox, facts, config)


def put(shelf: Shelf, start: int, *, priority: int = 0, ticks: int = 12) -> bool:
    """Build one clip; return whether the outbox has one more."""
    shelf.open()
    for i in range(start, start + ticks):
        obs, tick = tick_of(i, event=i == start + 5)
        shelf.keep(
            Slot(
                frame_id=i,
                mono_ns=i * 100_000_000,
                utc_ns=i,
                flagged=False,
                telemetry=encode_telemetry(obs, tick),
                images=dict(obs.frame.images),
            )
        )
    fired = TriggerEvent(
        trigger="brake", campaign_id="test", frame_id=start + 5, mono_ns=0, value=9.0,
        threshold=3.5, priority=priority,
    )  # fmt: skip
    return shelf.seal((fired,))


def waiting(outbox: Path) -> list[tuple[int, ...]]:
    paths = outbox.glob("[0-9a-f]*/manifest.json")
    return sorted(wire.from_bytes(ClipManifest, p.read_bytes()).frames for p in paths)


def stones(outbox: Path) -> list[dict]:
    path = outbox / TOMBSTONES
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@pytest.fixture
def clip_bytes(tmp_path):
    desk = shelf(tmp_path / "probe")
    put(desk, 0)
    desk.close()
    [folder] = (tmp_path / "probe").glob("[0-9a-f]*")
    return sum(path.stat().st_size for path in folder.iterdir())


def quota(clip_bytes: int, clips: float) -> RecordingConfig:
    return RecordingConfig(outbox_bytes=round(clips * clip_bytes), least_free_ratio=0.0)


def test_a_clip_of_higher_priority_takes_the_place_of_one_and_leaves_a_line(tmp_path, clip_bytes):
    desk = shelf(tmp_path, quota(clip_bytes, 2.5))
    assert [put(desk, 0, priority=3), put(desk, 100), put(desk, 200, priority=5)] == [True] * 3
    assert waiting(tmp_path) == [(0, 11), (200, 211)]
    [stone] = stones(tmp_path)
    assert (desk.evicted, stone["triggers"]) == (1, ["test/brake"])
    assert stone["value"] < 1.0
    assert "quota" in stone["why"]
    desk.close()
    assert [p.name for p in (tmp_path / ".tmp").iterdir()] == ["lock"]


def test_a_clip_of_no_more_worth_is_itself_given_up_and_leaves_a_line(tmp_path, clip_bytes):
    desk = shelf(tmp_path, quota(clip_bytes, 1.5))
    assert [put(desk, 0), put(desk, 100)] == [True, False]  # the second of a kind is worth less
    assert waiting(tmp_path) == [(0, 11)]
    assert (desk.evicted, len(stones(tmp_path))) == (1, 1)
    desk.close()


@pytest.mark.parametrize("mark", [".begun", ".wanted"])
def test_a_clip_whose_sending_has_begun_stays(tmp_path, clip_bytes, mark):
    desk = shelf(tmp_path, quota(clip_bytes, 1.5))
    put(desk, 0)
    next(tmp_path.glob("[0-9a-f]*")).joinpath(mark).touch()
    assert not put(desk, 100, priority=9)
    assert waiting(tmp_path) == [(0, 11)]
    desk.close()


def test_sending_that_begins_in_the_last_instant_wins(tmp_path, clip_bytes, monkeypatch):
    desk = shelf(tmp_path, quota(clip_bytes, 2.5))
    put(desk, 0)
    put(desk, 100)
    late = lambda folder: folder.name.startswith("gone-")  # noqa: E731 - not yet when chosen
    monkeypatch.setattr("vehicle.eviction._is_fixed", late)
    assert not put(desk, 200, priority=9)
    assert waiting(tmp_path) == [(0, 11), (100, 111)]
    assert len(stones(tmp_path)) == 1  # of the new one
    desk.close()


def test_an_eviction_that_was_cut_off_is_finished_and_told_once(tmp_path, clip_bytes):
    desk = shelf(tmp_path)
    put(desk, 0)
    put(desk, 100)
    desk.close()
    first, second = sorted(tmp_path.glob("[0-9a-f]*"))
    first.rename(tmp_path / ".tmp" / f"gone-{first.name}")
    second.joinpath(".begun").touch()
    second.rename(tmp_path / ".tmp" / f"gone-{second.name}")
    for _ in range(2):
        again = shelf(tmp_path)
        again.close()
    assert [p.name for p in tmp_path.glob("[0-9a-f]*")] == [second.name]
    assert [s["clip_id"] for s in stones(tmp_path)] == [first.name]


def test_a_quota_that_shrank_is_kept_at_the_next_start(tmp_path, clip_bytes):
    desk = shelf(tmp_path)
    for start, priority in ((0, 2), (100, 1), (200, 3)):
        put(desk, start, priority=priority)
    desk.close()
    again = shelf(tmp_path, quota(clip_bytes, 1.5))
    again.close()
    assert waiting(tmp_path) == [(200, 211)]
    assert again.evicted == 2


def test_on_a_full_disk_the_clip_makes_room_for_its_own_line(tmp_path, clip_bytes, monkeypatch):
    desk = shelf(tmp_path, quota(clip_bytes, 1.5))
    put(desk, 0)
    append = eviction._append

    def full(path: Path, line: bytes) -> None:
        if any(tmp_path.glob(".tmp/*/clip.mcap")):
            raise OSError(errno.ENOSPC, "No space left on device")
        append(path, line)

    monkeypatch.setattr(eviction, "_append", full)
    assert not put(desk, 100)
    assert len(stones(tmp_path)) == 1
    desk.close()


def test_a_half_written_line_does_not_spoil_the_next(tmp_path, clip_bytes):
    desk = shelf(tmp_path, quota(clip_bytes, 1.5))
    put(desk, 0)
    (tmp_path / TOMBSTONES).write_bytes(b'{"clip_id": "x')
    put(desk, 100)
    desk.close()
    half, line = (tmp_path / TOMBSTONES).read_bytes().splitlines()
    assert half == b'{"clip_id": "x'
    assert json.loads(line)["schema"] == "tombstone/1"


def test_a_clip_without_a_summary_is_ranked_by_its_events(tmp_path, clip_bytes):
    desk = shelf(tmp_path, quota(clip_bytes, 1.5))
    put(desk, 0, priority=4)
    next(tmp_path.glob("[0-9a-f]*/summary.json")).unlink()
    assert not put(desk, 100, priority=3)
    assert put(desk, 200, priority=5)
    desk.close()


def test_the_summary_shows_the_first_event_and_says_the_worst(tmp_path):
    desk = shelf(tmp_path)
    put(desk, 0, priority=2)
    desk.close()
    [path] = tmp_path.glob("[0-9a-f]*/summary.json")
    summary = wire.from_bytes(ClipSummary, path.read_bytes())
    assert path.stat().st_size < 128 * 1024
    assert summary.manifest == wire.from_bytes(
        ClipManifest, path.with_name("manifest.json").read_bytes()
    )
    assert summary.thumbnail().startswith(b"\xff\xd8")
    assert 2.0 < summary.value < 3.0
    assert summary.facts["duration_s"] == pytest.approx(1.1)
    assert (summary.facts["events"], summary.facts["max_speed_mps"]) == (1.0, 10.0)


def test_a_quota_out_of_range_is_named(tmp_path):
    with pytest.raises(ConfigError, match="outbox_bytes"):
        RecordingConfig(outbox_bytes=0)
    path = tmp_path / "recording.toml"
    path.write_text('codec = "h265"\n')
    with pytest.raises(ConfigError, match="codec is 'h265'"):
        RecordingConfig.from_toml(path)
    path.write_text('codecs = "av1"\n')
    with pytest.raises(ConfigError, match="unknown key 'codecs'"):
        RecordingConfig.from_toml(path)
    path.write_text('codec = "av1"\noutbox_bytes = 1000\n')
    assert RecordingConfig.from_toml(path).codec == "av1"


def test_room_is_made_of_the_folders_that_are_there(tmp_path):
    (tmp_path / ".tmp").mkdir()
    broken = tmp_path / ("a" * 64)
    broken.mkdir()
    (broken / "manifest.json").write_text("not a manifest")
    room = OutboxRoom(
        tmp_path, tmp_path / ".tmp", RecordingConfig(outbox_bytes=1, least_free_ratio=0.0)
    )
    room.tidy()
    assert not broken.exists()
    assert stones(tmp_path)[0]["value"] == 0.0


def test_no_clip_vanishes_silently_however_often_its_recorder_is_killed(tmp_path, clip_bytes):
    rng, config = random.Random(0), quota(clip_bytes, 3.5)
    ids = {}
    probe = shelf(tmp_path / "all")
    for i in range(40):
        put(probe, 100 * i, priority=i * 7 % 10)
    probe.close()
    for path in (tmp_path / "all").glob("[0-9a-f]*/manifest.json"):
        ids[wire.from_bytes(ClipManifest, path.read_bytes()).frames[0] // 100] = path.parent.name
    outbox, done = tmp_path / "outbox", -1
    while done < 20:
        pid, told = _put_in_child(outbox, config, done + 1)
        done = max(os.read(told, 1)[0], done)  # at least one more, then at any instant
        time.sleep(rng.uniform(0.0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        done = max([done, *os.read(told, 4_096)])
        os.close(told)
    shelf(outbox, config).close()
    here = {path.name for path in outbox.glob("[0-9a-f]*")}
    stood = {stone["clip_id"] for stone in stones(outbox)}
    assert {ids[i] for i in range(done + 1)} <= here | stood
    assert sum(p.stat().st_size for p in outbox.glob("[0-9a-f]*/*")) <= config.outbox_bytes


def _put_in_child(outbox: Path, config: RecordingConfig, first: int) -> tuple[int, int]:
    """Fork a recorder that puts clips from `first` on, a byte for each; return it and the pipe."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writes)
        return pid, reads
    desk = shelf(outbox, config)
    for i in range(first, 40):
        put(desk, 100 * i, priority=i * 7 % 10)
        os.write(writes, bytes([i]))
    os._exit(0)
