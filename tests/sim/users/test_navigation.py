"""Navigation tells where the route leads, where to wait on it, and which lanes lie beside it."""

import math

import numpy as np
import pytest

from sim.run.episode import Episode
from sim.town.world import build_town
from sim.users.dynamics import Motion
from sim.users.navigation import Route
from vehicle.contracts.ego import Guidance
from vehicle.contracts.frame import Rig
from vehicle.contracts.wire import ContractError

NO_CAMERAS = Rig(name="none", cameras=())


def _told(route: Route, index: int, stops: np.ndarray | None = None) -> Guidance:
    route.index = index
    x, y, yaw = route.path[index]
    return route.guidance(Motion(x_m=float(x), y_m=float(y), yaw_rad=float(yaw)), stops)


def test_the_way_to_the_stop_line_shrinks_as_the_car_drives_and_ends_beyond_it() -> None:
    episode = Episode(town=100, seed=4, family="traffic_lights", rig=NO_CAMERAS)
    stops, ways = episode.signals, []
    assert stops is not None
    for _ in range(140):
        guidance = episode.observe().guidance
        assert guidance is not None
        ways.append(math.inf if guidance.stop_m is None else guidance.stop_m)
        episode.step(None)
    near = [w for w in ways if w < 60.0]
    assert len(near) > 20
    assert all(w > 0.0 for w in near)
    falling = np.diff(near)
    assert (falling[np.abs(falling) < 5.0] <= 1e-6).all()


def test_where_there_are_lights_nobody_yields_by_sign_and_elsewhere_they_may() -> None:
    town = build_town(100)
    lane = int(np.flatnonzero((town.lanes.junction < 0) & (town.lanes.end_junction >= 0))[0])
    route = Route(town, lane, np.random.default_rng(0))
    without = _told(route, 2)
    assert without.stop_m is None
    length = float(town.lanes.length_m[lane])
    if without.yield_m is not None and without.yield_m < length:
        assert without.yield_m == pytest.approx(length - 5.0 - 2.0, abs=1.0)
    stops = np.full(len(town.lanes.length_m), math.inf)
    stops[lane] = max(length - 5.0, 0.5 * length)
    ruled = _told(route, 2, stops)
    assert ruled.stop_m == pytest.approx(stops[lane] - 2.0, abs=1.0)
    assert ruled.yield_m is None or ruled.yield_m > length


def test_a_lane_beside_is_told_until_the_junction() -> None:
    town = build_town(100)
    wide = next(i for i, road in enumerate(town.roads) if road.lanes > 1)
    lane = int(np.flatnonzero(town.lanes.approach == wide * 2)[0])
    route = Route(town, lane, np.random.default_rng(0))
    told = _told(route, 4)
    length = float(town.lanes.length_m[lane])
    assert told.left_lane_m == 0.0  # lanes are counted from the middle of the road
    assert told.right_lane_m == pytest.approx(length - 4.0, abs=1.5)


def test_guidance_refuses_a_line_at_no_place() -> None:
    line = np.column_stack([np.arange(5.0), np.zeros(5)])
    with pytest.raises(ContractError, match="stop_m"):
        Guidance(centreline_m=line, speed_limit_mps=10.0, stop_m=math.inf)
