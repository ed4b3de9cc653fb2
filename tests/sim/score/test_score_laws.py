"""Laws all scores obey: moving the whole world changes nothing, refusals name what is wrong."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_parts import StraightRoad, actor, drive, steady

from sim.score import boxes
from sim.score.history import follow_line, history_of
from sim.score.metrics import score
from sim.score.trace import BadTraceError, Trace

BOX = st.tuples(
    st.floats(-6, 6), st.floats(-6, 6), st.floats(-3, 3), st.floats(0.5, 6), st.floats(0.5, 3)
).map(np.array)


def scene(yaw: float, offset: tuple[float, float], seed: int) -> Trace:
    rng = np.random.default_rng(seed)
    lane = rng.integers(0, 3, 6) * 4.0
    at, speed = rng.uniform(8, 80, 6), rng.uniform(0, 9, 6)
    heading = np.where(lane == 8.0, np.pi, 0.0)
    x = steady(4.0, 6.0 + 6.0 * rng.random())
    road = StraightRoad(junction=(30.0, 38.0), yaw_rad=yaw, offset_m=offset)
    return drive(
        x,
        0.4 * np.sin(x / 9.0) + rng.choice([0.0, 0.6]),
        0.04 * np.cos(x / 9.0),
        accel=np.sin(x / 5.0),
        yaw_rate=0.1 * np.sin(x / 7.0),
        road=road,
        red=lambda i: [[[60, -2], [61, -2], [61, 2], [60, 2]]] if i > 10 else [],
        actors=lambda i, t: [
            actor(k + 1, at[k] + speed[k] * t * np.cos(heading[k]), lane[k], heading[k], speed[k])
            for k in range(6)
        ],
    )


@settings(max_examples=25, deadline=None)
@given(
    yaw=st.floats(-3.1, 3.1),
    offset=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    seed=st.integers(0, 10_000),
)
def test_moving_the_whole_world_changes_no_score(
    yaw: float, offset: tuple[float, float], seed: int
) -> None:
    here = score(scene(0.0, (0.0, 0.0), seed), reference_progress_m=40.0).flat()
    there = score(scene(yaw, offset, seed), reference_progress_m=40.0).flat()
    assert there == pytest.approx(here, rel=1e-6, abs=1e-6, nan_ok=True)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_scores_do_not_depend_on_the_order_of_actors(seed: int) -> None:
    trace = scene(0.0, (0.0, 0.0), seed)
    turned = replace(
        trace, snapshots=tuple(replace(s, actors=s.actors[::-1].copy()) for s in trace)
    )
    once = score(trace, reference_progress_m=40.0).flat()
    assert score(turned, reference_progress_m=40.0).flat() == pytest.approx(once, nan_ok=True)


def test_playing_backwards_is_another_drive() -> None:
    hit = drive(steady(4.0, 10.0), actors=lambda i, t: [actor(x=38.0)])
    back = tuple(
        replace(s, t_s=t) for s, t in zip(hit.snapshots[::-1], hit.t_s.tolist(), strict=True)
    )
    forward = score(hit, reference_progress_m=40.0)
    backward = score(replace(hit, snapshots=back), reference_progress_m=40.0)
    assert (forward.epdms.parts["NC"], backward.epdms.parts["NC"]) == (0.0, 1.0)
    assert (forward.progress_m > 30.0, backward.progress_m) == (True, 0.0)


def test_same_trace_gives_the_same_figures() -> None:
    one, two = (score(scene(0.3, (5.0, 1.0), 7), reference_progress_m=40.0) for _ in range(2))
    assert repr(one) == repr(two)


@settings(max_examples=200, deadline=None)
@given(a=BOX, b=BOX)
def test_boxes_touch_where_their_distance_is_zero(a: np.ndarray, b: np.ndarray) -> None:
    gap = float(boxes.distance(a, b))
    assert bool(boxes.touch(a, b)) is (gap == 0.0)
    assert bool(boxes.touch(a, b)) is bool(boxes.touch(b, a))
    assert gap <= float(np.hypot(*(a[:2] - b[:2])))
    assert bool(boxes.touches_quads(a, boxes.corners(b)[None])[0]) is (gap == 0.0)


@settings(max_examples=200, deadline=None)
@given(a=BOX, b=BOX, v=st.tuples(st.floats(-9, 9), st.floats(-9, 9)))
def test_contact_window_is_where_moved_boxes_touch(
    a: np.ndarray, b: np.ndarray, v: tuple[float, float]
) -> None:
    begin, end = (float(x) for x in boxes.contact_window(a, b, np.array(v)))
    for t in np.linspace(0.0, 3.0, 13):
        moved = b + np.array([v[0] * t, v[1] * t, 0.0, 0.0, 0.0])
        if min(abs(t - begin), abs(t - end)) > 1e-6:
            assert bool(boxes.touch(a, moved)) is bool(begin <= t <= end)


@pytest.mark.parametrize(("gap_m", "touches"), [(0.0, True), (1e-6, False)])
def test_shared_border_is_a_touch(gap_m: float, touches: bool) -> None:
    a, b = np.array([0.0, 0, 0.7, 4, 2]), np.array([0.0, 0, 0.7, 4, 2])
    b[:2] = (4.0 + gap_m) * np.array([np.cos(0.7), np.sin(0.7)])
    assert bool(boxes.touch(a, b)) is touches


def test_route_that_crosses_itself_is_followed_in_order() -> None:
    u = np.linspace(0.0, 2 * np.pi, 400)
    eight = np.stack([50 * np.sin(u), 25 * np.sin(2 * u)], axis=1)
    s, d = follow_line(eight[::3], eight)
    assert (np.diff(s) > 0).all()
    assert d.max() < 1e-9
    assert s[-1] > 200.0


def test_refusals_say_what_is_wrong() -> None:
    good = drive(steady(1.0, 5.0))
    with pytest.raises(BadTraceError, match="1 snapshots"):
        replace(good, snapshots=good.snapshots[:1])
    with pytest.raises(BadTraceError, match="do not increase"):
        replace(good, snapshots=good.snapshots[::-1])
    with pytest.raises(BadTraceError, match="2 plans for 11"):
        replace(good, plans=(None, None))
    lost = replace(good.snapshots[3], ego=replace(good.snapshots[3].ego, x_m=float("nan")))
    with pytest.raises(BadTraceError, match="snapshot 3 is not finite"):
        replace(good, snapshots=(*good.snapshots[:3], lost, *good.snapshots[4:]))
    with pytest.raises(BadTraceError, match="expert"):
        replace(good, expert=np.zeros((1, 5)))


def test_ten_thousand_actors_and_two_snapshots_are_scored() -> None:
    crowd = [actor(k + 1, x=50.0 + k, y=4.0) for k in range(10_000)]
    trace = drive(steady(0.1, 5.0), actors=lambda i, t: crowd)
    assert score(trace, reference_progress_m=1.0).epdms.total == 1.0
    assert history_of(trace).box.shape == (2, 10_000, 5)
