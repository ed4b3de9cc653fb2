"""One car of the fleet in simulated streets: its installed network, its recorder, its outbox.

Every minute is a route of its own, in another town or family, with the truth kept aside until
somebody buys its labels.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sim.run.episode import DriveResult, Episode, TruthLog, drive_episode
from sim.story.scenarios import BASE_FAMILIES
from vehicle import bundles
from vehicle.budget import Budget
from vehicle.campaigns import HeldCampaigns
from vehicle.clock import SystemClock
from vehicle.contracts.frame import Observation
from vehicle.contracts.home import Home
from vehicle.contracts.tick import Tick
from vehicle.contracts.wire import require
from vehicle.drive import Drive
from vehicle.realtime import punctual
from vehicle.recorder import Recorder
from vehicle.slots import Slots

ROUTE_TICKS = 600
"""A minute at 10 Hz."""


def drive_shift(
    home: Home,
    car_id: str,
    *,
    town: int,
    seed: int,
    light: str,
    weather: str = "clear",
    ticks: int,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Drive with the network the car has installed; events become clips in its outbox.

    Args:
        town: of the first route; the following ones alternate with the next town.
        seed: of the first route; grows by one per route.
        light, weather: of every route, names of sim.look.weather.
        ticks: in all, a minute to a route.
        progress: called with the ticks driven so far.
    Returns:
        bundle, tick_us (every tick, frame released to command out), rungs, events, collisions,
        distance_m, and the recorder's counters.
    Raises:
        ContractError: no ticks; and all errors of Episode, Recorder and Drive.
    """
    require(ticks > 0, f"ticks is {ticks}: ask for at least 1")
    bundle = Slots(home.car(car_id) / "slots", bundles.base_folder()).active().folder
    results: list[DriveResult] = []
    recorded: Counter[str] = Counter()
    for number, start in enumerate(range(0, ticks, ROUTE_TICKS)):
        episode = Episode(
            town=town + number % 2,
            seed=seed + number,
            light=light,
            weather=weather,
            family=BASE_FAMILIES[number % len(BASE_FAMILIES)],
        )
        result, counters = _drive_route(
            home,
            car_id,
            bundle,
            episode,
            min(ROUTE_TICKS, ticks - start),
            lambda done, start=start: progress(start + done),
        )
        results.append(result)
        recorded.update(counters)
    return {
        "bundle": bundles.load(bundle).tag,
        "tick_us": [us for r in results for us in r.total_us],
        "rungs": _summed(r.rungs for r in results),
        "events": _summed(r.events for r in results),
        "collisions": sum(r.collisions for r in results),
        "distance_m": round(sum(r.distance_m for r in results), 1),
        "recorder": dict(recorded),
    }


def _drive_route(
    home: Home,
    car_id: str,
    bundle: Path,
    episode: Episode,
    ticks: int,
    progress: Callable[[int], None],
) -> tuple[DriveResult, dict[str, int]]:
    """Drive one route with the recorder beside it; return what happened and its counters."""
    scenario, folder = episode.scenario, home.car(car_id)
    route_id = f"{scenario.light}-{scenario.weather}-town{scenario.town}-seed{scenario.seed}"
    truth = TruthLog(folder / "truth" / f"{route_id}.npz")
    campaigns = HeldCampaigns(folder, car_id, SystemClock()).to_drive_with("ZZ")
    with ExitStack() as stack:
        recorder = stack.enter_context(
            Recorder(
                outbox=folder / "outbox",
                rig=episode.rig,
                rate_hz=scenario.rate_hz,
                car_id=car_id,
                route_id=route_id,
                model=bundles.load(bundle).tag,
                tags={
                    "source": "simulator",
                    "light": scenario.light,
                    "weather": scenario.weather,
                    "town": str(scenario.town),
                    "family": scenario.family,
                },
                lossless=True,
                campaigns=campaigns,
            )
        )
        stack.callback(truth.close)
        car = Drive(
            car_id=car_id,
            route_id=route_id,
            rig=episode.rig,
            bundle=bundle,
            campaigns=campaigns,
            budget=Budget(enforce=False, clock=SystemClock()),
            sinks=(recorder,),
            rate_hz=scenario.rate_hz,
        )
        stack.callback(car.close)
        result = drive_episode(_Punctual(car), episode, ticks, progress, truth)
        return result, recorder.close().counters


class _Punctual:
    """The car's part of a simulated tick in the class a car's loop has; the world's is not."""

    def __init__(self, car: Drive) -> None:
        self._car = car

    def tick(self, observation: Observation) -> Tick:
        with punctual():
            return self._car.tick(observation)


def _summed(counts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)
