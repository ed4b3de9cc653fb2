"""The start of an episode as OpenSCENARIO 1.2: who is where and how fast, light, weather, the end.

Other simulators move the actors by their own models from there on: our traffic, its events and the
traffic lights have no words in a file that is not a recording.
"""

import math
from pathlib import Path
from typing import Final

import numpy as np
from scenariogeneration import xosc

from sim.asam.opendrive_export import export_town, xml_bytes
from sim.look.weather import Weather
from sim.run.episode import Episode
from vehicle.contracts import wire
from vehicle.contracts.frame import Rig
from vehicle.contracts.scenario import Scenario
from vehicle.contracts.scene import KINDS

_REACH_M: Final = 200.0
_HOUR: Final = {"day": 12, "dusk": 20, "night": 23}
_VEHICLES: Final = {
    "car": xosc.VehicleCategory.car,
    "truck": xosc.VehicleCategory.truck,
    "bus": xosc.VehicleCategory.bus,
    "motorcycle": xosc.VehicleCategory.motorbike,
    "cyclist": xosc.VehicleCategory.bicycle,
    "trailer": xosc.VehicleCategory.trailer,
    "emergency": xosc.VehicleCategory.car,
}


def export_scenario(scenario: Scenario, map_path: Path, path: Path) -> int:
    """Write a scenario and the map it happens on; return how many actors it holds.

    Args:
        map_path: where the town goes; the scenario names it relative to itself where it can.
    """
    episode = Episode.of(scenario, Rig(name="blind", cameras=()))
    export_town(episode.town, map_path)
    beside = map_path.resolve().parent == path.resolve().parent
    document, actors = to_openscenario(episode, map_path.name if beside else str(map_path))
    wire.atomic_write(path, xml_bytes(document.get_element()))
    return actors


def to_openscenario(episode: Episode, map_name: str) -> tuple[xosc.Scenario, int]:
    """Return the current instant of an episode as a document, and how many actors are in it."""
    scenario, config = episode.scenario, episode.config
    entities, init = xosc.Entities(), xosc.Init()
    c = config
    body = xosc.BoundingBox(
        c.width_m, c.length_m, 1.5, c.length_m / 2 - c.rear_overhang_m, 0.0, 0.75
    )
    entities.add_scenario_object("ego", _vehicle("ego", xosc.VehicleCategory.car, body))
    _begin(init, "ego", *episode.pose, episode.motion.speed_mps)
    ahead = episode.route.path[episode.route.index :: 20, :2]
    if len(ahead) >= 2:
        route = xosc.Route("route of the ego")
        for x, y in ahead:
            place = xosc.WorldPosition(float(x), float(y))
            route.add_waypoint(place, xosc.RouteStrategy.shortest)
        init.add_init_action("ego", xosc.AssignRouteAction(route))
    table = episode.actors.table
    near = np.hypot(table["x_m"] - episode.pose[0], table["y_m"] - episode.pose[1]) < _REACH_M
    for row in table[near]:
        name = f"{KINDS[row['kind']]} {row['actor_id']}"
        entities.add_scenario_object(name, _entity(name, row))
        _begin(init, name, row["x_m"], row["y_m"], row["yaw_rad"], row["speed_mps"])
    air = _environment(scenario, episode.light.weather)
    init.add_global_action(xosc.EnvironmentAction(air))
    end = xosc.SimulationTimeCondition(scenario.duration_s, xosc.Rule.greaterThan)
    stop = xosc.ValueTrigger("over", 0, xosc.ConditionEdge.rising, end, "stop")
    document = xosc.Scenario(
        f"{scenario.family}, town {scenario.town}, seed {scenario.seed}",
        "roadloop",
        xosc.ParameterDeclarations(),
        entities,
        xosc.StoryBoard(init, stop),
        xosc.RoadNetwork(roadfile=map_name),
        xosc.Catalog(),
        osc_minor_version=2,
    )
    return document, int(near.sum())


def _begin(init: xosc.Init, name: str, x: float, y: float, yaw: float, speed: float) -> None:
    at = xosc.WorldPosition(float(x), float(y), 0.0, float(math.remainder(yaw, 2 * math.pi)))
    init.add_init_action(name, xosc.TeleportAction(at))
    now = xosc.TransitionDynamics(xosc.DynamicsShapes.step, xosc.DynamicsDimension.time, 0)
    init.add_init_action(name, xosc.AbsoluteSpeedAction(float(speed), now))


def _vehicle(name: str, kind: xosc.VehicleCategory, box: xosc.BoundingBox) -> xosc.Vehicle:
    front = xosc.Axle(0.6, 0.65, 1.6, 2.8, 0.32)
    return xosc.Vehicle(name, kind, box, front, xosc.Axle(0.0, 0.65, 1.6, 0.0, 0.32), 60, 4, 9)


def _entity(name: str, row: np.void) -> xosc.Vehicle | xosc.Pedestrian | xosc.MiscObject:
    """Return an actor as what OpenSCENARIO knows; its position is the middle of its box."""
    long, wide, tall = (float(row[n]) for n in ("length_m", "width_m", "height_m"))
    box, kind = xosc.BoundingBox(wide, long, tall, 0.0, 0.0, tall / 2), KINDS[row["kind"]]
    if kind in _VEHICLES:
        return _vehicle(name, _VEHICLES[kind], box)
    if kind in ("pedestrian", "animal"):
        category = xosc.PedestrianCategory.pedestrian
        if kind == "animal":
            category = xosc.PedestrianCategory.animal
        return xosc.Pedestrian(name, 75.0, category, box)
    return xosc.MiscObject(name, 10.0, xosc.MiscObjectCategory.obstacle, box)


def _environment(scenario: Scenario, air: Weather) -> xosc.Environment:
    clouds = xosc.FractionalCloudCover.zeroOktas
    if air.grey_ratio > 0.5:
        clouds = xosc.FractionalCloudCover.eightOktas
    sight = int(min(3.9 / max(air.extinction_1pm, 3.9e-5), 100_000))
    rain = xosc.PrecipitationType.rain if air.rain_ratio > 0.0 else xosc.PrecipitationType.dry
    wet = xosc.Wetness.wetWithPuddles if air.wet_ratio > 0.3 else xosc.Wetness.dry
    high = 1.0 if scenario.light == "day" else 0.0
    return xosc.Environment(
        f"{scenario.light}, {scenario.weather}",
        xosc.TimeOfDay(False, 2000, 6, 21, _HOUR[scenario.light], 0, 0),
        xosc.Weather(
            clouds,
            atmosphericPressure=101_325,
            temperature=288,
            sun=xosc.Sun(1000.0 * high, 0.0, high),
            fog=xosc.Fog(sight),
            precipitation=xosc.Precipitation(rain, 10.0 * air.rain_ratio),
            wind=xosc.Wind(0.0, air.wind_mps),
        ),
        xosc.RoadCondition(1.0, wetness=wet),
    )
