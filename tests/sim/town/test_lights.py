"""Traffic lights: the same by town and seed, never two that cross, seen from the car."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.run.episode import Episode
from sim.town.lights import ALL_RED_S, GREEN, RED, YELLOW, YELLOW_S, Heads, Signals, ways_conflict
from sim.town.world import build_town
from vehicle.contracts.frame import Rig

BLIND = Rig(name="blind", cameras=())


@given(town=st.integers(0, 12), seed=st.integers(0, 2**32), t_s=st.floats(0.0, 3600.0))
@settings(max_examples=60, deadline=None)
def test_no_two_approaches_that_cross_may_go_at_once(town: int, seed: int, t_s: float) -> None:
    place = build_town(town % 3)
    signals = Signals(place, seed)
    plan, state = signals.plan, signals.state(t_s)
    for a, b in itertools.combinations(np.flatnonzero(state != RED), 2):
        if plan.junction[a] == plan.junction[b]:
            assert not ways_conflict(
                place.lanes, int(plan.way[a]), int(plan.way[b]), int(plan.junction[a])
            )


def test_every_approach_gets_green_then_yellow_then_red() -> None:
    signals = Signals(build_town(3), 1)
    t = np.arange(0.0, float(signals.plan.cycle_s.max()) * 2.1, 0.1)
    states = np.array([signals.state(float(x)) for x in t])
    follows = {GREEN: YELLOW, YELLOW: RED, RED: GREEN}
    for column in states.T:
        assert set(column) == {RED, YELLOW, GREEN}
        for a, b in itertools.pairwise(column):
            assert a == b or follows[int(a)] == b
        yellow = np.flatnonzero(np.diff((column == YELLOW).astype(int)))
        assert np.diff(yellow)[0] * 0.1 >= YELLOW_S - 0.15 or yellow[0] == 0


def test_between_phases_all_is_red() -> None:
    signals = Signals(build_town(3), 1)
    node = signals.plan.junction[0]
    at = signals.plan.junction == node
    states = np.array([signals.state(float(t))[at] for t in np.arange(0.0, 60.0, 0.1)])
    assert (states == RED).all(axis=1).sum() * 0.1 > ALL_RED_S


def test_plans_are_the_same_by_town_and_seed_and_differ_by_seed() -> None:
    town = build_town(3)
    first, again, other = Signals(town, 7), Signals(town, 7), Signals(town, 8)
    assert np.array_equal(first.plan.shift_s, again.plan.shift_s)
    assert np.array_equal(first.plan.way, other.plan.way)
    assert not np.array_equal(first.plan.shift_s, other.plan.shift_s)


def test_stop_lines_lie_across_their_lanes_before_the_junction() -> None:
    town = build_town(3)
    signals = Signals(town, 1)
    assert len(signals.stop_lines_m) == len(signals.plan.way) > 6
    for row, polygon in enumerate(signals.stop_lines_m):
        wide = np.hypot(*(polygon[3] - polygon[0]))
        lanes = np.flatnonzero(signals.row_of_lane == row)
        assert wide == pytest.approx(len(lanes) * town.lanes.lane_width_m, abs=0.1)
        for lane in lanes:
            x, y, _ = town.lanes.pose(int(lane), float(signals.stop_s_m[lane]) + 1.0)
            assert _inside(np.array([x, y]), polygon)


def _inside(p: np.ndarray, polygon: np.ndarray) -> bool:
    side = np.roll(polygon, -1, axis=0) - polygon
    to = p - polygon
    cross = side[:, 0] * to[:, 1] - side[:, 1] * to[:, 0]
    return bool((cross >= 0).all() or (cross <= 0).all())


def test_lanes_without_lights_are_always_green() -> None:
    signals = Signals(build_town(3), 1)
    state = signals.lane_state(12.0)
    assert (state[signals.row_of_lane < 0] == GREEN).all()
    assert len(signals.red_lines_m(12.0)) == (signals.state(12.0) == RED).sum()


def test_heads_show_the_state_and_leave_the_town_as_it_was() -> None:
    town = build_town(3)
    before = town.scenery.mesh.colours.copy()
    signals = Signals(town, 1)
    heads = Heads(signals, town.scenery)
    for t in (0.0, 9.0, 20.0):
        heads.show(t)
        mesh, lit = heads.scenery.mesh, signals.state(t)
        for row, state in enumerate(lit):
            bright = [mesh.colours[heads.lamps[row, :, k]].max() for k in range(3)]
            assert int(np.argmax(bright)) == state
    assert np.array_equal(before, town.scenery.mesh.colours)
    assert len(heads.scenery.first) == len(town.scenery.first) + len(signals.plan.way)
    assert len(heads.scenery.spheres) == len(heads.scenery.first) - 1


def test_an_episode_with_signals_shows_them_and_its_driver_stops_at_red() -> None:
    episode = Episode(town=3, seed=4, parameters={"signals": 1.0}, rig=BLIND, duration_s=60.0)
    crossed_red, stood, before = 0, 0, -1
    while not episode.done:
        red = episode.signals.lane_state(episode.t_s) == RED
        episode.step(None)
        lane = episode.route.lane
        if before >= 0 and lane != before and episode.signals.row_of_lane[before] >= 0:
            crossed_red += int(red[before])
        stood += int(episode.motion.speed_mps < 0.1 and red[lane])
        before = lane
    assert len(episode.snapshot().red_light_m) > 0
    assert crossed_red == 0
    assert stood > 10


def test_without_the_parameter_there_are_no_lights() -> None:
    episode = Episode(town=3, seed=2, rig=BLIND)
    assert episode.signals is None
    assert episode.sensors._stage.scenery is episode.town.scenery
