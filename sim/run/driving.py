"""One drive of the real car stack in a town, with its route file: what `sim drive` does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sim.run.episode import DriveResult, Episode, drive_episode
from vehicle import bundles
from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
from vehicle.contracts.wire import RefusedError
from vehicle.drive import Drive
from vehicle.route import RouteWriter


class NothingToDriveError(RefusedError, ValueError):
    """A drive of no ticks was asked for."""


def drive_town(
    *,
    town: int,
    seed: int,
    light: str,
    family: str,
    ticks: int,
    record: Path | None,
    bundle: Path | None,
    progress: Callable[[int], None] | None = None,
    weather: str = "clear",
) -> dict[str, object]:
    """Drive a bundle through a town and return the facts; without a bundle, the shipped base.

    Raises:
        NothingToDriveError: ticks is below 1.
    """
    if ticks < 1:
        raise NothingToDriveError(f"ticks is {ticks}: ask for at least 1")
    episode = Episode(town=town, seed=seed, light=light, weather=weather, family=family)
    folder = bundle or bundles.base_folder()
    model = bundles.load(folder).tag
    route_id = f"town{town}-seed{seed}-{light}"
    about = {"car_id": "sim", "route_id": route_id, "source": "simulator", "jurisdiction": "ZZ"}
    tags = {"tag.town": str(town), "tag.light": light, "tag.family": family, "model": model}
    tags["tag.weather"] = weather
    rate_hz = episode.scenario.rate_hz
    writer = (
        RouteWriter(record, episode.rig, rate_hz=rate_hz, metadata={**about, **tags})
        if record
        else None
    )
    car = Drive(
        car_id="sim",
        route_id=route_id,
        rig=episode.rig,
        bundle=folder,
        campaigns=(DEFAULT_CAMPAIGN,),
        budget=Budget(enforce=False, clock=SystemClock()),
        sinks=(writer,) if writer else (),
        rate_hz=rate_hz,
    )
    try:
        result = drive_episode(car, episode, ticks, progress)
        if writer:
            writer.close()
    except BaseException:
        if writer:
            writer.abort()
        raise
    finally:
        car.close()
    named = {"town": town, "seed": seed, "light": light, "family": family, "model": model}
    named["weather"] = weather
    return {**named, **_facts(result), "route": str(record) if record else None}


def _facts(result: DriveResult) -> dict[str, object]:
    p50, p99 = np.percentile(result.total_us, (50, 99)) / 1000.0
    return {
        "ticks": result.ticks,
        "distance_m": round(result.distance_m, 2),
        "collisions": result.collisions,
        "events": result.events,
        "rungs": result.rungs,
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
    }
