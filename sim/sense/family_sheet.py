"""A picture for people: one tile per scenario family, its event as the front camera sees it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from sim.run.episode import Episode
from sim.story.scenarios import FAMILIES, Family, scenario_of
from sim.story.script import in_ego_frame
from sim.users.actors import PEDESTRIAN
from vehicle.config import RIG_R
from vehicle.contracts.frame import CameraModel, Rig
from vehicle.contracts.scene import KINDS

SHEET_TOWN: Final = 100
SHEET_SEED: Final = 1
_OTHER_SEEDS: Final = {"traffic_lights": 9}
"""Where the usual seed shows little: there a truck stands before the light."""
_WATCH_S: Final = 15.0
_TILE_PX: Final = (384, 192)
_COLUMNS: Final = 6
_CAPTION_PX: Final = 34
_LOOK_EVERY: Final = 3
_IN_LANE_M, _BESIDE_RATIO = 1.5, 0.08
_QUIET_GAP_M: Final = 100.0
_LIGHT_AHEAD_M: Final = 16.0
_MANY_RATIO: Final = 0.3
_CHILD_M: Final = 1.4
_BENDS_M: Final = 30
_ENOUGH_RATIO: Final = 0.02
_PLAIN_KINDS: Final = (KINDS.index("car"), PEDESTRIAN)


def picture_rig() -> Rig:
    """Return a rig of the front camera alone, finer than the car's."""
    front = RIG_R.cameras[0]
    wide, high = _TILE_PX
    scale = wide / front.width_px
    camera = CameraModel(
        name="front",
        width_px=wide,
        height_px=high,
        fx_px=front.fx_px * scale,
        fy_px=front.fy_px * scale,
        cx_px=(front.cx_px + 0.5) * scale - 0.5,
        cy_px=(front.cy_px + 0.5) * scale - 0.5,
        ego_from_camera=front.ego_from_camera,
    )
    return Rig(name="picture", cameras=(camera,))


def watch(name: str, *, town: int = SHEET_TOWN, seed: int = SHEET_SEED) -> tuple[np.ndarray, float]:
    """Return the picture of a family that shows best what it is about, and when it was taken.

    A driver who sees all drives; of an event the tick is taken where whoever it is about covers
    most of the picture, of an everyday drive the one with most to see.
    """
    family = FAMILIES[name]
    scenario = replace(
        scenario_of(name, town=town, seed=seed), light=family.lights[0], weather=family.weathers[0]
    )
    episode = Episode.of(scenario, picture_rig())
    best, kept, when = -1e9, episode.shot().images["front"], 0.0
    for tick in range(round(_WATCH_S * scenario.rate_hz)):
        episode.step(None)
        if tick % _LOOK_EVERY or not _worth(episode, family):
            continue
        shot = episode.shot()
        seen = _interest(episode, family, shot.ids["front"])
        if seen > best:
            best, kept, when = seen, shot.images["front"], episode.frame_id / scenario.rate_hz
    return kept, when


def _worth(episode: Episode, family: Family) -> bool:
    return not family.event or (episode.script is not None and episode.script.acting)


def _interest(episode: Episode, family: Family, ids: np.ndarray) -> float:
    """Return how much a picture shows of what the family is about, in pixels."""
    table = episode.actors.table
    pixels = np.bincount(np.clip(ids, 0, None).ravel(), minlength=int(table["actor_id"].max()) + 1)
    x, y = in_ego_frame(episode)
    if family.event and episode.script is not None:
        star = np.flatnonzero(table["actor_id"] == episode.script.star_id)
        if not len(star) or x[star[0]] < 5.0:
            return -1.0
        in_lane = 1.0 if abs(y[star[0]]) < _IN_LANE_M else _BESIDE_RATIO
        return float(pixels[episode.script.star_id]) * in_lane
    if family.signals and episode.signals is not None:
        return -abs(episode.route.stop_ahead_m(episode.signals.stop_s_m) - _LIGHT_AHEAD_M)
    if family.layout == "roundabout":  # where the route bends most: at its entry
        route = episode.route
        return float(np.ptp(route.path[route.index : route.index + _BENDS_M, 2]))
    kind, weight = table["kind"], np.ones(len(table))
    weight[~np.isin(kind, _PLAIN_KINDS)] = 3.0
    if family.cyclist_ratio > _MANY_RATIO:
        weight[kind == KINDS.index("cyclist")] = 100.0
    if family.child_ratio > _MANY_RATIO:
        weight[(kind == PEDESTRIAN) & (table["height_m"] < _CHILD_M)] = 100.0
    weight *= np.where(table["moving"] > 0, 1.0, 0.5)
    seen = np.minimum(pixels[table["actor_id"]], ids.size * _ENOUGH_RATIO)
    return float((seen * weight).sum()) * (-1.0 if family.car_gap_m > _QUIET_GAP_M else 1.0)


def sheet(
    names: tuple[str, ...] | None = None, progress: Callable[[int], None] | None = None
) -> np.ndarray:
    """Return the contact sheet, RGB: the common families first, the rare ones under them."""
    names = tuple(FAMILIES) if names is None else names
    tiles = []
    for done, name in enumerate(names, start=1):
        picture, when = watch(name, seed=_OTHER_SEEDS.get(name, SHEET_SEED))
        tiles.append(_captioned(picture, name, FAMILIES[name], when))
        if progress:
            progress(done)
    while len(tiles) % min(_COLUMNS, len(names)):
        tiles.append(np.full_like(tiles[0], 24))
    columns = min(_COLUMNS, len(names))
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.vstack(rows)


def _captioned(picture: np.ndarray, name: str, family: Family, when_s: float) -> np.ndarray:
    strip = np.full((_CAPTION_PX, picture.shape[1], 3), 24, np.uint8)
    mark = " (test only)" if family.reserved else ""
    air = f"{family.lights[0]}, {family.weathers[0]}"
    first = f"{name}{mark}  {family.share_ratio:.2%}  {air}, {when_s:.1f} s"
    colour = (255, 196, 96) if family.rare else (220, 226, 232)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(strip, first, (6, 13), font, 0.38, colour, 1, cv2.LINE_AA)
    cv2.putText(strip, family.about, (6, 28), font, 0.36, (160, 168, 176), 1, cv2.LINE_AA)
    return np.vstack([strip, picture])
