"""Families of scenarios: what kind of drive, how full the town, what happens how often."""

from dataclasses import dataclass, fields, replace
from typing import Final

from vehicle.contracts.scenario import Scenario
from vehicle.contracts.wire import RefusedError


class UnknownFamilyError(RefusedError, ValueError):
    """No scenario family, or no parameter of it, has this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A kind of drive, as pure data.

    Args:
        share_ratio: of all drives, how many are of this family.
        car_gap_m, parked_ratio, person_gap_m, crossing_hz: see sim.actors.Density.
        sudden_brake_hz: how often the car ahead of the ego stops hard, while there is one.
        jaywalk_hz: how often somebody steps out before the ego, while somebody could.
        signals: 1 for a town whose junctions have traffic lights (sim.lights), 0 for none.
    """

    about: str
    share_ratio: float
    car_gap_m: float = 55.0
    parked_ratio: float = 0.45
    person_gap_m: float = 13.0
    crossing_hz: float = 0.008
    sudden_brake_hz: float = 0.01
    jaywalk_hz: float = 0.01
    signals: float = 0.0


FAMILIES: Final = {
    "town_drive": Family(about="Everyday streets, now and then a surprise.", share_ratio=0.9),
    "jaywalker": Family(
        about="People step out before the car.",
        share_ratio=0.05,
        person_gap_m=9.0,
        parked_ratio=0.75,
        jaywalk_hz=0.12,
    ),
    "sudden_brake": Family(
        about="Dense traffic; the car ahead stops hard.",
        share_ratio=0.05,
        car_gap_m=40.0,
        sudden_brake_hz=0.15,
    ),
}


def family_of(scenario: Scenario) -> Family:
    """Return the family of a scenario with its own parameters in place.

    Raises:
        UnknownFamilyError: the family or a parameter is unknown.
    """
    family = FAMILIES.get(scenario.family)
    if family is None:
        raise UnknownFamilyError(
            f"family {scenario.family!r} is unknown; known: {', '.join(FAMILIES)}"
        )
    numbers = {f.name for f in fields(Family)} - {"about", "share_ratio"}
    for name in scenario.parameters:
        if name not in numbers:
            raise UnknownFamilyError(
                f"family {scenario.family!r} has no parameter {name!r};"
                f" it has: {', '.join(sorted(numbers))}"
            )
    return replace(family, **scenario.parameters)
