"""The tracker keeps road users apart while the ego moves."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vehicle.contracts.ego import EgoState
from vehicle.contracts.scene import KINDS, TRACK
from vehicle.geometry import to_ego_2d
from vehicle.tracker import Tracker, TrackerConfig, assign

DT_NS = 100_000_000


def detection(x: float, y: float, kind: int = 0) -> np.ndarray:
    row = np.zeros(1, TRACK)
    row["x_m"], row["y_m"], row["kind"], row["score_prob"] = x, y, kind, 0.9
    row["length_m"], row["width_m"], row["height_m"] = 4.5, 1.8, 1.5
    return row


def _ids_and_y(tracks: np.ndarray) -> list[tuple[int, float]]:
    return [(int(t["track_id"]), float(t["y_m"])) for t in tracks]


def ego_at(i: int, speed: float = 10.0, yaw_rate: float = 0.2) -> EgoState:
    t = i * 0.1
    yaw = yaw_rate * t
    radius = speed / yaw_rate
    return EgoState(
        mono_ns=i * DT_NS,
        x_m=radius * math.sin(yaw),
        y_m=radius * (1 - math.cos(yaw)),
        yaw_rad=yaw,
        speed_mps=speed,
        yaw_rate_radps=yaw_rate,
    )


def test_filter_converges_on_a_steady_target_while_the_ego_turns() -> None:
    rng = np.random.default_rng(3)
    tracker = Tracker()
    for i in range(40):
        ego = ego_at(i)
        target = to_ego_2d(ego, np.array([20.0 + 6.0 * 0.1 * i, -5.0 + 2.0 * 0.1 * i]))
        noisy = target + rng.normal(0, 0.2, 2)
        tracks = tracker.update(detection(*noisy), ego, i * DT_NS)
    assert tracks.size == 1
    yaw = ego_at(39).yaw_rad
    vx = 6.0 * math.cos(yaw) + 2.0 * math.sin(yaw)
    vy = -6.0 * math.sin(yaw) + 2.0 * math.cos(yaw)
    assert tracks["vx_mps"][0] == pytest.approx(vx, abs=0.6)
    assert tracks["vy_mps"][0] == pytest.approx(vy, abs=0.6)
    assert math.hypot(*(np.array([tracks["x_m"][0], tracks["y_m"][0]]) - target)) < 0.4


def test_track_is_born_on_the_second_detection_and_dies_after_coasting() -> None:
    tracker = Tracker()
    ego = EgoState(mono_ns=0, x_m=0, y_m=0, yaw_rad=0, speed_mps=0)
    assert tracker.update(detection(10, 0), ego, 0).size == 0
    assert tracker.update(detection(10, 0), ego, DT_NS).size == 1
    coasted = [tracker.coast(ego, (i + 2) * DT_NS) for i in range(8)]
    assert [c.size for c in coasted] == [1] * 6 + [0] * 2
    assert coasted[3]["coasted_ticks"][0] == 4


def test_coasted_track_stays_where_the_target_is_over_ground() -> None:
    tracker = Tracker()
    for i in range(5):
        ego = ego_at(i)
        tracker.update(detection(*to_ego_2d(ego, np.array([30.0, 3.0]))), ego, i * DT_NS)
    ego = ego_at(8)
    tracks = tracker.coast(ego, 8 * DT_NS)
    assert np.allclose(
        [tracks["x_m"][0], tracks["y_m"][0]], to_ego_2d(ego, np.array([30.0, 3.0])), atol=0.05
    )


def test_crossing_tracks_keep_their_numbers() -> None:
    tracker = Tracker()
    ego = EgoState(mono_ns=0, x_m=0, y_m=0, yaw_rad=0, speed_mps=0)
    rng = np.random.default_rng(1)
    for i in range(41):
        t = i * 0.1
        a = detection(20 + 4 * t, -4 + 2 * t)  # they pass each other 1 m apart at t = 2
        b = detection(29 - 4 * t, 4 - 2 * t)
        both = np.concatenate([a, b] if rng.random() < 0.5 else [b, a])
        tracks = tracker.update(both, ego, i * DT_NS)
        if i == 2:
            first = {round(float(y)): int(n) for n, y in _ids_and_y(tracks)}
    last = {np.sign(y): int(n) for n, y in _ids_and_y(tracks)}
    assert last[1.0] == first[-4]
    assert last[-1.0] == first[4]


def test_a_pedestrian_is_never_matched_to_a_car() -> None:
    tracker = Tracker()
    for i in range(3):
        tracks = tracker.update(detection(10, 0, kind=0), None, i * DT_NS)
    tracks = tracker.update(detection(10, 0, kind=1), None, 3 * DT_NS)
    tracks = tracker.update(detection(10, 0, kind=1), None, 4 * DT_NS)
    assert sorted(tracks["kind"].tolist()) == [0, 1]


def test_two_runs_give_the_same_bytes() -> None:
    def run() -> bytes:
        rng = np.random.default_rng(5)
        tracker = Tracker()
        out = b""
        for i in range(30):
            found = np.concatenate([detection(*rng.uniform(-20, 50, 2)) for _ in range(12)])
            out += tracker.update(found, ego_at(i), i * DT_NS).tobytes()
        return out

    assert run() == run()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10_000))
def test_assignment_is_the_cheapest(n: int, m: int, seed: int) -> None:
    from itertools import permutations

    cost = np.random.default_rng(seed).uniform(0, 10, (n, m))
    got = assign(cost, 1e6)
    chosen = [(i, j) for i, j in enumerate(got) if j >= 0]
    assert len(chosen) == min(n, m)
    assert len({j for _, j in chosen}) == len(chosen)
    small = cost if n <= m else cost.T
    best = min(
        sum(small[i, p[i]] for i in range(small.shape[0]))
        for p in permutations(range(small.shape[1]), small.shape[0])
    )
    assert sum(cost[i, j] for i, j in chosen) == pytest.approx(best)


def test_a_measured_velocity_is_there_from_the_first_tick_and_sharpens_the_track() -> None:
    def last(velocity_known: bool) -> np.ndarray:
        tracker, rng = Tracker(), np.random.default_rng(4)
        for i in range(3):
            row = detection(20.0 + 0.8 * i + rng.normal(0, 0.5), 0.0)
            row["vx_mps"] = 8.0 + rng.normal(0, 0.3)
            tracks = tracker.update(row, None, i * DT_NS, velocity_known=velocity_known)
        return tracks

    assert last(True)["vx_mps"][0] == pytest.approx(8.0, abs=0.5)
    assert abs(last(False)["vx_mps"][0] - 8.0) > 1.0


def test_a_bus_taken_for_a_truck_once_stays_the_bus_it_was() -> None:
    tracker, bus, truck = Tracker(), KINDS.index("bus"), KINDS.index("truck")
    told = []
    for i in range(12):
        seen = truck if i in (4, 7) or i >= 9 else bus
        tracks = tracker.update(detection(25.0, 3.0, kind=seen), None, i * DT_NS)
        told += [(int(t["track_id"]), int(t["kind"])) for t in tracks]
    assert {number for number, _ in told} == {1}
    assert {kind for _, kind in told} == {bus}
    for i in range(12, 24):
        tracks = tracker.update(detection(25.0, 3.0, kind=truck), None, i * DT_NS)
    assert [(int(t["track_id"]), int(t["kind"])) for t in tracks] == [(1, truck)]


def test_a_track_long_seen_at_36_hz_survives_as_long_as_at_10_hz() -> None:
    def seconds_coasted(rate_hz: float, seen_s: float) -> float:
        tracker, step_ns = Tracker(), round(1e9 / rate_hz)
        ticks = round(seen_s * rate_hz)
        for i in range(ticks):
            tracker.update(detection(20.0, 0.0), None, i * step_ns)
        count = 0
        while tracker.coast(None, (ticks + count) * step_ns).size:
            count += 1
        return count / rate_hz

    assert seconds_coasted(10.0, 2.0) == pytest.approx(0.6)
    assert seconds_coasted(36.0, 2.0) == pytest.approx(0.6, abs=0.04)
    assert seconds_coasted(36.0, 0.06) == pytest.approx(6 / 36)  # seen twice: not trusted so long


def test_a_weak_detection_keeps_a_track_and_begins_none() -> None:
    tracker = Tracker(TrackerConfig(birth_prob=0.5))
    weak = detection(20.0, 0.0)
    weak["score_prob"] = 0.35
    for i in range(3):
        assert tracker.update(weak, None, i * DT_NS).size == 0
    for i in range(3, 6):
        tracks = tracker.update(detection(20.0, 0.0), None, i * DT_NS)
    assert tracks.size == 1
    assert tracker.update(weak, None, 6 * DT_NS)["coasted_ticks"][0] == 0


def test_a_track_tells_what_it_took_in_and_how_high_it_stands() -> None:
    tracker = Tracker()
    both = np.concatenate([detection(30.0, 5.0), detection(10.0, 0.0)])
    for i in range(4):
        tracks = tracker.update(both, None, i * DT_NS, base_m=np.array([1.0, -0.5]))
    at = {float(x): n for n, x in enumerate(tracks["x_m"])}
    assert tracker.source[at[30.0]] == 0
    assert tracker.source[at[10.0]] == 1
    assert tracker.base_m[at[30.0]] == pytest.approx(1.0)
    tracker.coast(None, 4 * DT_NS)
    assert (tracker.source == -1).all()


def test_more_detections_than_fit_are_the_surest() -> None:
    tracker = Tracker()
    many = np.concatenate([detection(float(i), 0.0, kind=i % 12) for i in range(200)])
    many["score_prob"] = np.linspace(0.3, 0.9, 200)
    for i in range(2):
        tracks = tracker.update(many, None, i * DT_NS)
    assert tracks.size == 128
    assert tracks["score_prob"].min() > 0.5
