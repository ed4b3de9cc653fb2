"""What the car's triggers fired on along a real drive, the lake's SQL finds in what was logged."""

from dataclasses import replace
from pathlib import Path

import pytest
from lake_parts import observation, tick

from datalake.ingest import ingest
from datalake.lake import Lake
from datalake.land import land
from datalake.patterns import compiled
from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.frame import Observation
from vehicle.contracts.home import Home
from vehicle.contracts.tick import Tick
from vehicle.importers.kinds import import_log
from vehicle.replay import replay
from vehicle.route import RouteWriter

SAID = {
    "close": "tracks(range_m < 12 and x_m > 0) >= 1",
    "braking": "lowest(accel_mps2, 1) < -0.5 and speed_mps > 1",
    "rss": "rss_margin_m < 0 or jerk_mps3 < -1",
    "new": "appears(kind == 'car' and range_m < 30) >= 1",
    "drawn": "random_prob < 0.05",
    "driver": "human_gap_m > 0.3 and not seen(takeover == 1, 2)",
    "sequence": "rises(nearest(kind == 'car') < 12) then change(speed_mps, 1) < 0 within 2 s",
}


def test_a_network_that_did_not_run_is_unknown_in_car_and_lake_alike(
    home: Home, tmp_path: Path
) -> None:
    route = tmp_path / "coasting.mcap"
    with RouteWriter(route, None, rate_hz=10.0, metadata={}) as writer:
        for frame, fresh in enumerate((True, False)):
            obs = observation(frame, 0, 100, None)
            driven = tick(obs)
            assert driven.scene is not None
            scene = replace(driven.scene, fresh=fresh, uncertainty_ratio=0.9)
            writer.write(obs, replace(driven, scene=scene))
    land(home, route)
    ingest(home)
    with Lake(home) as lake:
        ratios = lake.sql("SELECT uncertainty_ratio FROM ticks ORDER BY frame_id").to_pylist()
        found = lake.sql(compiled("uncertainty_ratio > 0.5").sql)["frame_id"].to_pylist()
    assert [row["uncertainty_ratio"] for row in ratios] == [0.9, None]
    assert found == [0]


@pytest.mark.slow
def test_what_the_car_noticed_the_lake_finds(data_folder: Path, home: Home, tmp_path: Path) -> None:
    scene = data_folder / "scenes-nuscenes" / "scene-0103"
    if not scene.is_dir():
        pytest.skip(f"no {scene}")
    route = tmp_path / "scene.mcap"
    import_log("nuscenes", scene, route)
    triggers = tuple(
        TriggerSpec(name=name, kind="expression", when=when, min_interval_s=0.0)
        for name, when in SAID.items()
    )
    campaign = Campaign(campaign_id="all", triggers=triggers, max_clips_per_hour=3_600.0)
    in_car: dict[str, list[int]] = {name: [] for name in SAID}
    driven = tmp_path / "driven.mcap"
    about = {"car_id": "car-1", "route_id": "scene-0103", "source": "nuscenes"}
    with RouteWriter(driven, None, rate_hz=10.0, metadata=about) as writer:

        def keep(obs: Observation, tick: Tick) -> None:
            writer.write(obs, tick)
            for event in tick.events:
                in_car[event.trigger].append(event.frame_id)

        replay(route, bundle=None, campaigns=(campaign,), on_tick=keep)
    land(home, driven)
    ingest(home)
    with Lake(home) as lake:
        in_lake = {
            name: lake.sql(compiled(when).sql)["frame_id"].to_pylist()
            for name, when in SAID.items()
        }
    assert in_lake == in_car
    assert all(in_car.values())
