from pathlib import Path

import fakes_logs
import pytest
from route_parts import RIG, obs_of, tick_of

from vehicle.importers.kinds import open_log
from vehicle.route import RouteCorruptError, RouteMissingError, RouteWriter
from vehicle.sources import RouteSource, Source


@pytest.fixture
def route(tmp_path: Path) -> Path:
    path = tmp_path / "a.mcap"
    with RouteWriter(path, RIG, rate_hz=20.0, metadata={"car_id": "c"}) as writer:
        for i in range(5):
            writer.write(obs_of(i), tick_of(i))
    return path


def ids(source: Source) -> list[int]:
    return [obs.frame.frame_id for obs in source]


def test_a_route_is_a_source_that_can_be_walked_again(route: Path) -> None:
    source = RouteSource(route)
    assert (source.rig, source.rate_hz, dict(source.metadata)) == (RIG, 20.0, {"car_id": "c"})
    assert ids(source) == ids(source) == [0, 1, 2, 3, 4]


def test_a_foreign_log_is_a_source_that_can_be_walked_again(tmp_path: Path) -> None:
    source = open_log("kitti", fakes_logs.kitti(tmp_path, frames=4))
    assert ids(source) == ids(source) == [0, 1, 2, 3]


def test_a_cut_route_is_a_source_up_to_the_cut(route: Path) -> None:
    route.write_bytes(route.read_bytes()[:-4000])
    with pytest.raises(RouteCorruptError):
        ids(RouteSource(route))
    assert ids(RouteSource(route, recover=True)) == [0, 1, 2, 3, 4]


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RouteMissingError):
        RouteSource(tmp_path / "no.mcap")
