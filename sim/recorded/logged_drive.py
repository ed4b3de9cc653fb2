"""Our car in recorded traffic: what `sim logged --drive` does, and what `--list` prints."""

import math
from pathlib import Path
from typing import Any

from sim.recorded.logged import LoggedEpisode, read_scene, scenes_in
from sim.recorded.logged_scene import LoggedSceneError
from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.config import RIG_R
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.frame import Rig
from vehicle.drive import Drive

_NO_CAMERAS = Rig(name="none", cameras=())


def list_scenes(path: Path) -> list[dict[str, Any]]:
    """Return a row per scene at or under a path; a scene that is refused says why."""
    rows = []
    for place in scenes_in(path):
        try:
            scene = read_scene(place)
        except LoggedSceneError as error:
            rows.append({"scene": place.name, "refused": f"{type(error).__name__}: {error}"})
            continue
        rows.append(
            {
                "scene": scene.name,
                "source": scene.source,
                "seconds": round(scene.duration_s, 2),
                "actors": len(scene.names),
                "lanes": len(scene.lanes),
                "ego": "recorded" if scene.ego is not None else "planning problem",
                "path": str(place),
            }
        )
    return rows


def drive_scene(
    path: Path,
    *,
    bundle: Path | None = None,
    reactive: bool = False,
    light: str | None = None,
    weather: str | None = None,
    seed: int | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Drive the car's own loop through one scene and return what happened.

    Args:
        bundle: network to see with; None: the car is told every road user.
        reactive, light, weather, seed: see LoggedEpisode.
        seconds: at most; None: as long as the recording.
    """
    rig = _NO_CAMERAS if bundle is None else RIG_R
    world = LoggedEpisode(
        read_scene(path), reactive=reactive, light=light, weather=weather, seed=seed, rig=rig
    )
    car = Drive(
        car_id="sim", route_id=world.scene.name, rig=None if bundle is None else rig,
        bundle=bundle, campaigns=(DEFAULT_CAMPAIGN,),
        budget=Budget(enforce=False, clock=SystemClock()), rate_hz=world.rate_hz,
    )  # fmt: skip
    ticks = world.ticks if seconds is None else min(world.ticks, round(seconds * world.rate_hz))
    way, off_road = 0.0, 0
    try:
        while world.frame_id < ticks and not world.done:
            tick = car.tick(world.observe(truth=bundle is None))
            before = world.motion
            world.step(
                tick.command
                or ControlCommand(
                    frame_id=world.frame_id,
                    mono_ns=world.mono_ns,
                    accel_mps2=-1.0,
                    curvature_1pm=0.0,
                )
            )
            way += math.hypot(world.motion.x_m - before.x_m, world.motion.y_m - before.y_m)
            off_road += not world.road.drivable(world.body[None, :2])[0]
    finally:
        car.close()
    return _facts(world, way, off_road)


def _facts(world: LoggedEpisode, way_m: float, off_road: int) -> dict[str, Any]:
    expert = world.expert
    from_log = None
    if expert is not None:
        at = min(round(world.t_s / world.scene.dt_s), len(expert) - 1)
        from_log = round(math.dist(expert[at, 1:3], world.body[:2]), 2)
    return {
        "scene": world.scene.name,
        "source": world.scene.source,
        "seconds": round(world.t_s, 2),
        "actors": len(world.scene.names),
        "distance_m": round(way_m, 2),
        "collisions": len({actor for _, actor in world.collisions}),
        "ticks_off_road": off_road,
        "from_recorded_m": from_log,
        "goal_reached_s": world.goal_reached_s if world.scene.goal is not None else None,
    }
