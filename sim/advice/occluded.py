"""Somebody steps out from behind a parked truck: what a car that cannot see gains by being told."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from sim.advice.advisors import DELAY_S, AdvisedCar, Adviser
from sim.rivals.cases import FIRST_TOWN, NO_CAMERAS, TOWNS
from sim.rivals.jobs import driven
from sim.run.episode import Episode
from sim.score import boxes
from sim.story.scenarios import scenario_of
from vehicle.contracts.scenario import Scenario

FAMILY: Final = "jaywalk_truck"
SECONDS: Final = 14.0
STEPS_OUT_S: Final = (0.7, 0.9, 1.05, 1.2, 1.6)
"""How long before the ego would be there the person starts to walk."""

WALKS_MPS: Final = (1.4, 1.9, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """How the ego came past.

    Args:
        contact_mps: of the ego when it touched the person; None: it did not.
        least_gap_m: between the two bodies.
        in_sight_mps: of the ego when the person came into its sight; NaN: never did.
        hardest_brake_mps2: of all commands, as a positive number.
        heeded: ticks in which advice had the last word.
        seconds: from the start until the ego was ten metres past the truck; the episode's length
            where it did not come so far.
    """

    contact_mps: float | None
    least_gap_m: float
    in_sight_mps: float
    hardest_brake_mps2: float
    heeded: int
    seconds: float


def start(seed: int, steps_out_s: float, walks_mps: float) -> Scenario:
    """Return the start of one passing, by daylight in a held-out town."""
    scenario = scenario_of(FAMILY, town=FIRST_TOWN + seed % TOWNS, seed=seed)
    return replace(
        scenario,
        duration_s=SECONDS,
        light="day",
        weather="clear",
        parameters={"event_eta_s": steps_out_s, "event_speed_mps": walks_mps},
    )


def passed(scenario: Scenario, adviser: Adviser | None, delay_s: float = DELAY_S) -> Passed:
    """Drive past once.

    Args:
        adviser: who tells the car of others; None: nobody.
        delay_s: how old advice is when it comes.
    """
    episode = Episode.of(scenario, NO_CAMERAS)
    assert episode.script is not None
    star, spot = episode.script.star_id, episode.script.spot
    contact: float | None = None
    gaps, brakes, sight, heeded, past_s = [np.inf], [0.0], np.nan, 0, SECONDS
    with AdvisedCar(episode, adviser, delay_s=delay_s) as car:
        for _, act, _ in driven(episode, car, 0.0, SECONDS):
            speed = episode.motion.speed_mps
            row = episode.actors.table[episode.actors.table["actor_id"] == star]
            if len(row):
                gaps.append(_gap(episode.body, row[0]))
            if np.isnan(sight) and star in car.views.own():
                sight = speed
            if contact is None and any(actor == star for _, actor in episode.collisions):
                contact = speed
            if past_s == SECONDS and episode.route.index > spot.index + 10:
                past_s = episode.t_s
            assert act.tick is not None
            heeded += any(note.verdict == "heeded" for note in act.tick.advice)
            brakes.append(0.0 if act.command is None else -act.command.accel_mps2)
    return Passed(
        contact_mps=contact,
        least_gap_m=float(min(gaps)),
        in_sight_mps=float(sight),
        hardest_brake_mps2=float(max(brakes)),
        heeded=heeded,
        seconds=past_s,
    )


def _gap(body: np.ndarray, row: np.void) -> float:
    names = ("x_m", "y_m", "yaw_rad", "length_m", "width_m")
    other = np.array([float(row[name]) for name in names])
    return float(boxes.distance(body[[0, 1, 2, 4, 5]], other))
