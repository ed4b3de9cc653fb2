"""A clip that was cut or changed on the way: what is whole comes back, the rest is named."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.records import Chunk
from mcap.stream_reader import StreamReader
from route_parts import RIG, obs_of, tick_of

from vehicle.mcap_records import open_mcap
from vehicle.route import RouteCorruptError, RouteReader, RouteWriter
from vehicle.whole_ticks import Damage

TICKS = 120


@pytest.fixture(scope="module")
def route(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "clip.mcap"
    with RouteWriter(path, RIG, rate_hz=10.0, metadata={"car_id": "a"}) as writer:
        for i in range(TICKS):
            writer.write(obs_of(i), tick_of(i))
    return path


@pytest.fixture(scope="module")
def whole(route: Path) -> list:
    return list(RouteReader(route).ticks())


def chunks(route: Path) -> list[tuple[int, int]]:
    """Return first and last byte of each chunk record."""
    found = []
    with open_mcap(route) as file:
        start = 8
        for record in StreamReader(file, emit_chunks=True).records:
            if isinstance(record, Chunk):
                found.append((start, file.tell()))
            start = file.tell()
    return found


def damaged(route: Path, folder: Path, *flips: int, cut: int | None = None) -> Path:
    data = bytearray(route.read_bytes())
    for at in flips:
        data[at] ^= 0x10
    path = folder / "damaged.mcap"
    path.write_bytes(data[:cut])
    return path


def read(path: Path) -> tuple[list, Damage]:
    reader = RouteReader(path, recover=True)
    ticks = list(reader.ticks())
    assert reader.damage is not None
    return ticks, reader.damage


def check_true(ticks: list, whole: list) -> None:
    """Whatever is handed out is what was recorded: the same numbers, the same pixels."""
    for obs, tick in ticks:
        sent, made = whole[obs.frame.frame_id]
        assert (obs.ego, tick.plan.digest(), tick.events) == (
            sent.ego, made.plan.digest(), made.events,
        )  # fmt: skip
        for name, image in obs.frame.images.items():
            assert np.array_equal(image, sent.frame.images[name])


def test_a_changed_chunk_costs_its_ticks_and_no_others(route, whole, tmp_path):
    places = chunks(route)
    assert len(places) >= 4
    start, end = places[1]
    ticks, damage = read(damaged(route, tmp_path, (start + end) // 2))
    frames = [obs.frame.frame_id for obs, _ in ticks]
    [missing] = damage.missing
    gap = range(missing.after_frame + 1, missing.before_frame)
    assert frames == [i for i in range(TICKS) if i not in gap]
    assert (missing.at_byte, missing.size_bytes) == (start, end - start)
    assert "damaged at byte" in missing.reason
    assert len(gap) - 2 <= damage.lost["/frame"] <= len(gap)
    check_true(ticks, whole)


def test_pictures_wait_for_their_keyframe_behind_a_gap_and_are_counted(route, whole, tmp_path):
    start, end = chunks(route)[1]
    path = damaged(route, tmp_path, (start + end) // 2)
    ticks, damage = read(path)
    [missing] = damage.missing
    without = [o.frame.frame_id for o, _ in ticks if not o.frame.images]
    assert without == list(range(missing.before_frame, -(-missing.before_frame // 10) * 10))
    assert set(damage.undecodable) <= {"wide", "odd"}
    for name, count in damage.undecodable.items():
        assert len(without) <= count <= len(without) + 1, name
    records = list(RouteReader(path, recover=True).records())
    assert [r.observation.frame.frame_id for r in records if not r.cameras] == without
    assert f"{damage.undecodable['wide']} pictures of wide" in str(damage)


def test_channels_of_a_lost_first_chunk_are_taken_from_the_end(route, whole, tmp_path):
    start, end = chunks(route)[0]
    ticks, damage = read(damaged(route, tmp_path, (start + end) // 2))
    assert damage.missing[0].after_frame is None
    assert [o.frame.frame_id for o, _ in ticks][-1] == TICKS - 1
    check_true(ticks, whole)


@pytest.mark.parametrize("at", [0, 3, 8])
def test_a_chunk_whose_own_head_is_damaged_is_passed_over(route, whole, tmp_path, at):
    start, _ = chunks(route)[1]
    path = damaged(route, tmp_path, start + at)
    with pytest.raises(RouteCorruptError, match=r"damaged|cut off"):
        list(RouteReader(path).records())
    ticks, damage = read(path)
    assert [o.frame.frame_id for o, _ in ticks][-1] == TICKS - 1
    assert damage.lost["/frame"] > 0
    check_true(ticks, whole)


def test_two_places_and_a_cut_end_are_all_named(route, whole, tmp_path):
    places = chunks(route)
    first, last = places[1], places[-1]
    cut = (last[0] + last[1]) // 2
    ticks, damage = read(damaged(route, tmp_path, first[0] + 200, cut=cut))
    assert [m.before_frame is None for m in damage.missing] == [False, True]
    assert "cut off" in damage.missing[-1].reason
    assert damage.missing[-1].after_frame == ticks[-1][0].frame.frame_id
    assert damage.lost == {}  # the counts stood at the end
    assert damage.ticks == len(ticks)
    check_true(ticks, whole)


def test_damage_behind_the_last_tick_costs_none(route, whole, tmp_path):
    ticks, damage = read(damaged(route, tmp_path, cut=route.stat().st_size - 30))
    assert len(ticks) == TICKS
    assert damage.missing[0].before_frame is None
    check_true(ticks, whole)


def test_a_whole_file_has_no_damage_and_the_refusal_of_another_says_what_to_do(route, tmp_path):
    reader = RouteReader(route, recover=True)
    assert sum(1 for _ in reader.records()) == TICKS
    assert reader.damage is None
    start, _ = chunks(route)[1]
    with pytest.raises(RouteCorruptError, match=r"whole ticks come before it.*--repair"):
        list(RouteReader(damaged(route, tmp_path, start + 200)).records())


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_damage_makes_a_tick_that_was_never_recorded(route, whole, tmp_path, data):
    raw, places = bytearray(route.read_bytes()), chunks(route)
    body = places[0][0]
    cut = data.draw(st.integers(body + 1, len(raw)))
    checked = max([body + 1, *(end for _, end in places if end <= cut)])  # a cut chunk is not
    end = len(raw) if cut == len(raw) else checked
    flips = {
        (data.draw(st.integers(body, end - 1)), 1 << data.draw(st.integers(0, 7)))
        for _ in range(data.draw(st.integers(1, 3)))
    }
    for at, bit in flips:
        raw[at] ^= bit
    path = tmp_path / "fuzzed.mcap"
    path.write_bytes(raw[:cut])
    reader = RouteReader(path, recover=True)
    records = list(reader.records())
    for record in records:
        sent, made = whole[record.observation.frame.frame_id]
        assert (record.observation.ego, record.tick.events) == (sent.ego, made.events)
    assert len(records) == TICKS or reader.damage is not None
    in_data = cut < len(raw) or any(at < places[-1][1] for at, _ in flips)
    assert reader.damage is not None or not in_data


def test_a_change_of_what_the_file_says_of_itself_is_found(route, tmp_path):
    at = route.read_bytes().index(b'"fx_px":') + 8
    path = damaged(route, tmp_path)
    data = bytearray(path.read_bytes())
    data[at] = ord("9")
    path.write_bytes(data)
    with pytest.raises(RouteCorruptError, match="crc validation failed"):
        list(RouteReader(path).records())
    ticks, damage = read(path)
    assert len(ticks) == TICKS
    assert "DataEnd" in str(damage)
