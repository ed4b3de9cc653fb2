"""One town by its number: streets, junctions, ground, buildings. Town N is the same everywhere."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from sim.town.lanes import LaneGraph, Road
from sim.town.motorway import motorway
from sim.town.paint import Ground, paint_outline
from sim.town.scenery import Scenery, build_scenery, build_wayside
from sim.town.streets import Site, lattice, roundabouts
from vehicle.contracts.wire import RefusedError

MAX_TOWN = 100_000
LAYOUT_STEP = 1_000_000
LAYOUTS: Final[dict[str, Callable[[np.random.Generator], Site]]] = {
    "lattice": lattice,
    "roundabout": roundabouts,
    "motorway_merge": motorway,
}
"""What a town is made of. Town 3 is a lattice, 1_000_003 the third of roundabouts, and so on."""
_SIDEWALK_M = 2.6
_KERB_M = 0.3


class UnknownTownError(RefusedError, ValueError):
    """A town number is out of range, or a layout has no such name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Town:
    """A place to drive.

    Args:
        number: its seed.
        roads: streets between junctions.
        lanes: the drivable graph.
        ground: colour and class rasters.
        scenery: buildings, trees and lamps as quads.
        areas_m: polygons [N, 2] of the junctions.
        unsignalled: junctions that never have traffic lights.
        kerb_m, sidewalk_m: widths beside every road.
    """

    number: int
    roads: tuple[Road, ...]
    junctions_m: np.ndarray
    lanes: LaneGraph
    ground: Ground
    scenery: Scenery
    areas_m: tuple[np.ndarray, ...]
    unsignalled: frozenset[int] = frozenset()
    kerb_m: float = _KERB_M
    sidewalk_m: float = _SIDEWALK_M


def town_number(number: int, layout: str) -> int:
    """Return the number of a town of a layout: the layouts follow each other a million apart.

    Raises:
        UnknownTownError: no layout has this name, or the number is not in 0..100000.
    """
    if layout not in LAYOUTS:
        raise UnknownTownError(f"layout {layout!r} is unknown; known: {', '.join(LAYOUTS)}")
    if layout == "lattice":
        return number
    if not 0 <= number <= MAX_TOWN:
        raise UnknownTownError(f"town {number} does not exist: towns are 0..{MAX_TOWN}")
    return number + LAYOUT_STEP * list(LAYOUTS).index(layout)


@lru_cache(maxsize=2)
def build_town(number: int) -> Town:
    """Return the town `number`; the last two stay in memory.

    Args:
        number: 0..100000, plus 1000000 for roundabouts, plus 2000000 for a motorway.
    Raises:
        UnknownTownError: there is no such town.
    """
    kind, own = divmod(number, LAYOUT_STEP)
    if not (0 <= kind < len(LAYOUTS) and own <= MAX_TOWN):
        raise UnknownTownError(
            f"town {number} does not exist: towns are 0..{MAX_TOWN},"
            f" plus {LAYOUT_STEP} for roundabouts, plus {2 * LAYOUT_STEP} for a motorway"
        )
    rng = np.random.default_rng((7_001, own) if kind == 0 else (7_001 + kind, own))
    site = list(LAYOUTS.values())[kind](rng)
    streets = bool(site.outline.streets)
    kerb, walk = (_KERB_M, _SIDEWALK_M) if streets else (0.0, 0.0)
    ground, free = paint_outline(rng, site.extent_m, site.outline, kerb_m=kerb, sidewalk_m=walk)
    if streets:
        scenery = build_scenery(rng, site.roads, free, ground, walk_m=kerb + walk)
    else:
        scenery = build_wayside(rng, site.outline, free, ground)
    return Town(
        number=number,
        roads=tuple(site.roads),
        junctions_m=site.nodes_m,
        lanes=site.graph,
        ground=ground,
        scenery=scenery,
        areas_m=site.areas_m,
        unsignalled=site.unsignalled,
    )
