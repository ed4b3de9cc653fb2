"""Starts of worlds to drive from: towns by family and seed, recorded scenes by file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sim.episode import Episode
from sim.scenarios import FAMILIES, UnknownFamilyError
from sim.trace import World
from vehicle.contracts import wire
from vehicle.contracts.frame import Rig
from vehicle.contracts.scenario import Scenario
from vehicle.contracts.wire import RefusedError

FIRST_TOWN: Final = 100
"""Towns from here on are nobody's training data."""

TOWNS: Final = 4
NO_CAMERAS: Final = Rig(name="none", cameras=())


class NothingToDriveError(RefusedError, ValueError):
    """No scenario was asked for, or none of no length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One start, small enough to hand to another process, which builds the world itself.

    Args:
        name: unlike any other of the run; good as a file name.
        group: family, or kind of recording.
        scenario: of a town; None for a recorded scene.
        log: file or folder of a recorded scene, and which scene in it.
        seconds: how long at most.
    """

    name: str
    group: str
    scenario: Scenario | None = None
    log: tuple[str, str] | None = None
    seconds: float = 20.0

    @property
    def digest(self) -> str:
        """Return what names this start in a report."""
        return wire.digest(wire.to_bytes(self))

    def open(self, rig: Rig) -> World:
        """Build the world, with the cameras of `rig`."""
        if self.scenario is not None:
            return Episode.of(self.scenario, rig)
        raise NothingToDriveError(f"{self.name}: neither a scenario nor a log")


def families_of(words: str) -> list[str]:
    """Return the families that `words` name: all, common, rare, or names with commas.

    Raises:
        UnknownFamilyError: names the ones there are.
    """
    names: list[str] = []
    for word in (w.strip() for w in words.split(",")):
        if word in ("all", "common", "rare"):
            names += [n for n in FAMILIES if word in ("all", rarity(n))]
        elif word in FAMILIES:
            names.append(word)
        else:
            known = ", ".join(["all", "common", "rare", *FAMILIES])
            raise UnknownFamilyError(f"family {word!r} is unknown; known: {known}")
    return list(dict.fromkeys(names))


def rarity(name: str) -> str:
    """Return "common" or "rare"."""
    return str(getattr(FAMILIES[name], "rarity", "common"))


def town_cases(
    families: Sequence[str], *, seeds: int, seconds: float, rate_hz: float = 10.0
) -> list[Case]:
    """Return `seeds` starts of each family, in held-out towns; every subject gets the same.

    Raises:
        NothingToDriveError: no seeds or no time.
    """
    if seeds < 1 or not seconds > 0.0:
        raise NothingToDriveError(f"{seeds} seeds of {seconds} s: ask for at least one, and time")
    out = []
    for seed in range(seeds):
        town = FIRST_TOWN + seed % TOWNS
        for family in families:
            scenario = Scenario(
                town=town, seed=seed, family=family, rate_hz=rate_hz, duration_s=seconds
            )
            out.append(
                Case(
                    name=_plain(f"{family}-town{town}-seed{seed}"),
                    group=family,
                    scenario=scenario,
                    seconds=seconds,
                )
            )
    return out


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:120]


def logged_cases(paths: Sequence[Path], *, seconds: float) -> list[Case]:
    """Return the recorded scenes in files and folders."""
    return []
