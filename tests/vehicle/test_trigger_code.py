"""The compiled triggers agree with the plain reading of every expression, on every tick."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.trigger.tree_walk import matches, past_of
from vehicle.contracts.expression import parse
from vehicle.contracts.scene import KINDS, TRACK, Scene
from vehicle.trigger_code import Compiled
from vehicle.windows import Average, Change, Extreme, Held, Rises, Seen, Times

TEXTS = (
    "speed_mps > 2",
    "not speed_mps > 2",
    "speed_mps != 2 or rung != 'full'",
    "rung == 'coast' and limited_by != 'aeb'",
    "speed_mps / accel_mps2 > 1",
    "lowest(speed_mps, 0.3) < 1 and highest(accel_mps2, 0.5) > 0",
    "average(speed_mps, 0.4) >= 1.5",
    "change(speed_mps, 0.3) <= -1 or abs(accel_mps2 - 1) == 1",
    "held(speed_mps >= 1, 0.2) and not seen(accel_mps2 < 0, 0.5)",
    "times(rises(speed_mps > 1), 1) >= 2",
    "highest(average(speed_mps, 0.2), 0.3) > lowest(speed_mps, 1)",
    "tracks(range_m < 4) >= 1",
    "nearest(kind == 'car' and x_m > 0) < 3",
    "appears(range_m < 4) >= 1",
    "tracks(kind != 'car' or speed_mps > 1 and not coasted_ticks == 0) == 1",
    "rises(tracks(range_m < 4) >= 1) then accel_mps2 <= -1 within 0.3 s",
    "speed_mps > 2 then speed_mps < 1 within 0.5 s then speed_mps > 2 within 0.2 s",
    "speed_mps > 1 then speed_mps > 1 within 0.1 s",
)

NUMBER = st.sampled_from([math.nan, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0])
ONE_TRACK = st.fixed_dictionaries(
    {
        "track_id": st.integers(0, 3),
        "kind": st.integers(0, 1),
        "x_m": st.sampled_from([-3.0, 1.0, 2.5, 5.0]),
        "y_m": st.sampled_from([0.0, 3.0]),
        "vx_mps": st.sampled_from([0.0, 2.0]),
        "coasted_ticks": st.integers(0, 1),
    }
)
ONE_TICK = st.fixed_dictionaries(
    {
        "after_ns": st.sampled_from([100_000_000, 100_000_001, 200_000_000, 27_000_000]),
        "values": st.fixed_dictionaries(
            {},
            optional={
                "speed_mps": NUMBER,
                "accel_mps2": NUMBER,
                "rung": st.sampled_from(["full", "coast"]),
                "limited_by": st.sampled_from(["", "aeb"]),
            },
        ),
        "tracks": st.none() | st.lists(ONE_TRACK, max_size=3, unique_by=lambda t: t["track_id"]),
    }
)


def scene_of(tick: dict[str, Any]) -> Scene | None:
    if tick["tracks"] is None:
        return None
    tracks = np.zeros(len(tick["tracks"]), TRACK)
    for row, track in zip(tracks, tick["tracks"], strict=True):
        for name, value in track.items():
            row[name] = value
    empty = np.zeros(0, np.float32)
    return Scene(
        frame_id=0, mono_ns=0, tracks=tracks, embedding=empty, uncertainty_ratio=0.0, fresh=True
    )


@given(ticks=st.lists(ONE_TICK, min_size=1, max_size=14))
@settings(max_examples=120, deadline=None)
def test_compiled_triggers_hold_where_the_plain_reading_says(ticks: list[dict[str, Any]]) -> None:
    patterns = [parse(text) for text in TEXTS]
    compiled, now_ns, pasts = Compiled(patterns), 0, []
    found: list[list[bool]] = []
    for tick in ticks:
        now_ns += tick["after_ns"]
        pasts.append(past_of(tick["values"], scene_of(tick), now_ns))
        holding = {number for number, _, _ in compiled.of(tick["values"], scene_of(tick), now_ns)}
        found.append([i in holding for i in range(len(TEXTS))])
    for i, pattern in enumerate(patterns):
        assert [row[i] for row in found] == matches(pattern, pasts), TEXTS[i]


@given(values=st.lists(st.tuples(st.integers(1, 40), NUMBER), max_size=60))
@settings(max_examples=100, deadline=None)
def test_windows_kept_up_to_date_are_those_computed_anew(values: list[tuple[int, float]]) -> None:
    span = 100
    windows = (Extreme(span, 1.0), Extreme(span, -1.0), Average(span), Change(span))
    truths = (Held(span), Seen(span), Times(span), Rises())
    now, all_so_far = 0, list[tuple[int, float]]()
    for step, value in values:
        now += step
        all_so_far.append((now, value))
        inside = [v for t, v in all_so_far if t >= now - span]
        known = [v for v in inside if v == v] or [math.nan]
        wanted = [min(known), max(known), sum(known) / len(known), inside[-1] - inside[0]]
        assert [w.push(now, value) for w in windows] == pytest.approx(wanted, nan_ok=True)
        held = [v > 0 for v in inside]
        rose = len(all_so_far) > 1 and held[-1] and not all_so_far[-2][1] > 0
        wanted = [all(held), any(held), sum(held), rose]
        assert [w.push(now, value > 0) for w in truths] == wanted


def test_what_triggers_share_is_computed_once() -> None:
    compiled = Compiled([parse("tracks(range_m < 9) >= 1"), parse("tracks(range_m < 9) >= 2")])
    assert compiled.source.count("for r in rows") == 1


def test_no_text_of_a_campaign_gets_into_the_code() -> None:
    """Only known words and numbers do; a text is a literal."""
    compiled = Compiled([parse("proposal == '__import__(\"os\")'")])
    assert "'__import__(\"os\")'" in compiled.source
    assert compiled.of({"proposal": '__import__("os")'}, None, 0) == [(0, 1.0, 1.0)]


def test_kinds_are_compared_by_name() -> None:
    tick = {"tracks": [{"track_id": 1, "kind": KINDS.index("cyclist")}]}
    compiled = Compiled(
        [parse("tracks(kind == 'cyclist') == 1"), parse("tracks(kind == 'bus') >= 1")]
    )
    assert [n for n, _, _ in compiled.of({}, scene_of(tick), 0)] == [0]
