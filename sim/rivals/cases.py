"""Starts of worlds to drive from: towns by family and seed, recorded scenes by file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from sim.recorded.logged import LoggedEpisode, read_scene, scenes_in
from sim.recorded.logged_scene import LoggedScene
from sim.run.episode import Episode
from sim.score.trace import World
from sim.story.scenarios import FAMILIES, UnknownFamilyError, scenario_of
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
        log: file or folder of a recorded scene.
        reactive: recorded vehicles give way to the ego instead of driving as they did.
        seconds: how long at most.
    """

    name: str
    group: str
    scenario: Scenario | None = None
    log: str | None = None
    reactive: bool = False
    seconds: float = 20.0

    @property
    def digest(self) -> str:
        """Return what names this start in a report."""
        return wire.digest(wire.to_bytes(self))

    def open(self, rig: Rig) -> World:
        """Build the world, with the cameras of `rig`."""
        if self.scenario is not None:
            return Episode.of(self.scenario, rig)
        if self.log is None:
            raise NothingToDriveError(f"{self.name}: neither a scenario nor a recorded scene")
        return LoggedEpisode(_scene(self.log), reactive=self.reactive, rig=rig)


@lru_cache(maxsize=2)
def _scene(path: str) -> LoggedScene:
    return read_scene(Path(path))


def cases_of(
    families: str,
    logged: Sequence[Path],
    *,
    seeds: int,
    seconds: float,
    light: str = "",
    weather: str = "",
    reactive: bool = False,
) -> list[Case]:
    """Return the starts that the options of the command name; see `town_cases`, `logged_cases`.

    Args:
        families: words for `families_of`, or "none".
    Raises:
        NothingToDriveError: neither families nor logs.
    """
    names = [] if families == "none" else families_of(families)
    out: list[Case] = []
    if names:
        out += town_cases(names, seeds=seeds, seconds=seconds, light=light, weather=weather)
    out += logged_cases(logged, seconds=seconds, reactive=reactive)
    if not out:
        raise NothingToDriveError("no family and no recorded scene: name one")
    return out


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
    return "rare" if FAMILIES[name].rare else "common"


def town_cases(
    families: Sequence[str],
    *,
    seeds: int,
    seconds: float,
    light: str = "",
    weather: str = "",
    rate_hz: float = 10.0,
) -> list[Case]:
    """Return `seeds` starts of each family, in held-out towns; every subject gets the same.

    Args:
        light, weather: of all of them; "": as the family draws them.
    Raises:
        NothingToDriveError: no seeds or no time.
    """
    if seeds < 1 or not seconds > 0.0:
        raise NothingToDriveError(f"{seeds} seeds of {seconds} s: ask for at least one, and time")
    out = []
    for seed in range(seeds):
        town = FIRST_TOWN + seed % TOWNS
        for family in families:
            drawn = scenario_of(family, town=town, seed=seed, rate_hz=rate_hz)
            fixed = {k: v for k, v in (("light", light), ("weather", weather)) if v}
            scenario = replace(drawn, duration_s=seconds, **fixed)  # type: ignore[arg-type]
            name = _plain(f"{family}-town{town}-seed{seed}-{scenario.light}-{scenario.weather}")
            out.append(Case(name=name, group=family, scenario=scenario, seconds=seconds))
    return out


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:120]


def logged_cases(paths: Sequence[Path], *, seconds: float, reactive: bool = False) -> list[Case]:
    """Return the recorded scenes in files and folders.

    Raises:
        UnknownSceneError: a path holds none.
        NothingToDriveError: two scenes have the same name.
    """
    out = []
    for path in (scene for given in paths for scene in scenes_in(given)):
        kind = path.suffix.lstrip(".") or "folder"
        group = {"xml": "commonroad", "json": "motion"}.get(kind) or _folder_kind(path)
        name = _plain(f"{group}-{path.stem}" + ("-reactive" if reactive else ""))
        out.append(
            Case(
                name=name, group=group, log=str(path.absolute()), reactive=reactive,
                seconds=seconds,
            )
        )  # fmt: skip
    twice = {c.name for c in out if sum(o.name == c.name for o in out) > 1}
    if twice:
        raise NothingToDriveError(f"recorded scenes share a name: {', '.join(sorted(twice))}")
    return out


def _folder_kind(path: Path) -> str:
    return "nuscenes" if (path / "tracks.parquet").is_file() else "argoverse"
