"""Scenarios of the families: which town may hold which, drawn by share, or checked by name.

Towns and seeds are split, and two rare families may be met in test towns only: mining cannot have
seen them, so it must not gain on them.
"""

from dataclasses import fields, replace
from typing import Final

import numpy as np

from sim.story.families import BASE_FAMILIES as BASE_FAMILIES
from sim.story.families import FAMILIES, LIMITS, Family
from sim.town.world import LAYOUT_STEP, town_number
from vehicle.contracts.scenario import Scenario
from vehicle.contracts.wire import RefusedError


class UnknownFamilyError(RefusedError, ValueError):
    """No scenario family, or no parameter of it, has this name."""


class ImpossibleScenarioError(RefusedError, ValueError):
    """A parameter is outside what a town or a body can do."""


class ReservedFamilyError(RefusedError, ValueError):
    """A family that only tests may meet was asked for elsewhere."""


_FINAL_SEED: Final = 500


def split_of(town: int, seed: int = 0) -> str:
    """Return what a town is for: "train" 0..15, "fleet" 16..19, "validation" 20..99, "test" from
    100 with seeds below 500, "final" with the others (to be opened once per release). The millions
    of a town's number are its layout and do not count."""
    town %= LAYOUT_STEP
    if town <= 15:
        return "train"
    if town <= 19:
        return "fleet"
    if town <= 99:
        return "validation"
    return "test" if seed < _FINAL_SEED else "final"


def check_split(names: tuple[str, ...] | list[str], towns: list[int]) -> None:
    """Refuse reserved families outside test towns, and names that no family has.

    Raises:
        UnknownFamilyError, ReservedFamilyError: as they say.
    """
    for name in names:
        reserved = named(name).reserved
        bad = [town for town in towns if split_of(town) not in ("test", "final")]
        if reserved and bad:
            raise ReservedFamilyError(
                f"family {name!r} is reserved for {reserved}, town {bad[0]} is for"
                f" {split_of(bad[0])}: take towns from 100, or another family"
            )


def named(name: str) -> Family:
    """Return a family by its name.

    Raises:
        UnknownFamilyError: there is none.
    """
    family = FAMILIES.get(name)
    if family is None:
        raise UnknownFamilyError(f"family {name!r} is unknown; known: {', '.join(FAMILIES)}")
    return family


def family_of(scenario: Scenario) -> Family:
    """Return the family of a scenario with its own parameters in place.

    Raises:
        UnknownFamilyError: the family or a parameter is unknown.
        ImpossibleScenarioError: a parameter is out of LIMITS, or they contradict each other.
    """
    family = named(scenario.family)
    for name, value in scenario.parameters.items():
        if name not in LIMITS:
            raise UnknownFamilyError(
                f"family {scenario.family!r} has no parameter {name!r};"
                f" it has: {', '.join(sorted(LIMITS))}"
            )
        low, high = LIMITS[name]
        if not low <= value <= high:
            raise ImpossibleScenarioError(
                f"parameter {name} is {value:g}, possible is {low:g}..{high:g}"
            )
    family = replace(family, **scenario.parameters)
    vehicles = sum(getattr(family, f"{k}_ratio") for k in ("truck", "bus", "motorcycle", "cyclist"))
    if vehicles > 1.0 + 1e-9:
        raise ImpossibleScenarioError(f"ratios of those who drive sum to {vehicles:g}, at most 1")
    return family


def scenario_of(name: str, *, town: int, seed: int, rate_hz: float = 10.0) -> Scenario:
    """Return a scenario of a family, light and weather drawn by the seed from those it is for.

    Args:
        town: its number; the layout is the family's.
    Raises:
        UnknownFamilyError, ReservedFamilyError: see `check_split`.
    """
    check_split([name], [town])
    family = named(name)
    rng = np.random.default_rng((6, seed, town))
    return Scenario(
        town=town_number(town % LAYOUT_STEP, family.layout),
        seed=seed,
        light=str(rng.choice(family.lights)),  # type: ignore[arg-type]
        weather=str(rng.choice(family.weathers)),
        family=name,
        rate_hz=rate_hz,
    )


def draw_family(rng: np.random.Generator, *, reserved: bool = False) -> str:
    """Return the name of a family, drawn by the shares; without `reserved`, none of those."""
    names = [n for n, f in FAMILIES.items() if reserved or not f.reserved]
    shares = np.array([FAMILIES[n].share_ratio for n in names])
    return str(rng.choice(names, p=shares / shares.sum()))


def parameters(family: Family) -> dict[str, float]:
    """Return the numbers a scenario may replace."""
    return {f.name: getattr(family, f.name) for f in fields(Family) if f.name in LIMITS}
