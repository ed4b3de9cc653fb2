"""The ground of a recorded scene as the renderer's rasters: asphalt, kerbs, painted lines."""

from typing import Final

import cv2
import numpy as np

from sim.look.shapes import Mesh
from sim.recorded.logged_scene import LoggedScene, LoggedSceneError, NoRoadError, Paint
from sim.town.lanes import arc_length, offset_line, resample
from sim.town.paint import CELL_M, MIP_LEVELS, Ground
from sim.town.scenery import Scenery
from vehicle.contracts.scene import BEV_DRIVABLE, BEV_LANE

MARGIN_M: Final = 140.0
"""Ground around everywhere the ego may go; the renderer draws actors up to 130 m."""

MAX_SIDE_M: Final = 3_000.0
MAX_AREA_M2: Final = 2.0e6
JUNCTION: Final = 4
"""Bit of the class raster inside junctions, for the map; the labels do not read it."""

_SHIFT: Final = 4
_LINE_M: Final = 0.2
_KERB_M: Final = 0.3
_WALK_M: Final = 2.9
_DASH_M: Final = (3.0, 6.0)


class TooLargeError(LoggedSceneError):
    """A scene covers more ground than an episode can hold in memory."""


class _Canvas:
    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self.low = low
        size = np.ceil((high - low) / CELL_M / 32).astype(int) * 32
        self.shape = (int(size[1]), int(size[0]))
        self.colour = np.zeros((*self.shape, 3), np.uint8)
        self.classes = np.zeros(self.shape, np.uint8)

    def px(self, points_m: np.ndarray) -> np.ndarray:
        far = np.clip((points_m - self.low) / CELL_M - 0.5, -1e5, 1e5)
        return np.round(far * (1 << _SHIFT)).astype(np.int32)

    def at(self, points_m: np.ndarray) -> np.ndarray:
        """Return the class bits at points."""
        px = np.floor((points_m - self.low) / CELL_M).astype(int)
        px = np.clip(px, 0, np.array(self.shape[::-1]) - 1)
        return self.classes[px[:, 1], px[:, 0]]

    def paint(self, ring_m: np.ndarray, colour: tuple[float, float, float]) -> None:
        """Put paint on drivable ground."""
        ring = [self.px(ring_m)]
        x0, y0 = np.maximum((ring[0].min(0) >> _SHIFT) - 1, 0)
        x1, y1 = np.minimum((ring[0].max(0) >> _SHIFT) + 2, self.shape[::-1])
        if x0 >= x1 or y0 >= y1:
            return
        part = np.s_[y0:y1, x0:x1]
        cv2.fillPoly(self.colour, ring, colour, lineType=cv2.LINE_AA, shift=_SHIFT)
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        inner = ring[0] - (np.array([x0, y0]) << _SHIFT)
        cv2.fillPoly(mask, [inner], BEV_LANE, shift=_SHIFT)
        self.classes[part] |= np.where(self.classes[part] & BEV_DRIVABLE, mask, 0).astype(np.uint8)


def extent(scene: LoggedScene) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (low, high) of the ground an episode needs.

    Raises:
        TooLargeError: more than fits into memory.
    """
    places = [scene.start[None, :2]]
    if scene.ego is not None:
        places.append(scene.ego[:, :2])
    if scene.goal is not None:
        places += list(scene.goal.regions_m)
    every = np.concatenate(places)
    low, high = every.min(axis=0) - MARGIN_M, every.max(axis=0) + MARGIN_M
    side = high - low
    if side.max() > MAX_SIDE_M or side[0] * side[1] > MAX_AREA_M2:
        raise TooLargeError(
            f"{scene.source} {scene.name} covers {side[0]:.0f} x {side[1]:.0f} m, at most"
            f" {MAX_SIDE_M:.0f} m and {MAX_AREA_M2 / 1e6:.0f} km2; cut the scene shorter"
        )
    return low, high


def make_ground(scene: LoggedScene, junctions: list[np.ndarray]) -> Ground:
    """Return the rasters of a scene; its class raster also marks junctions.

    Args:
        junctions: polygons of lanes that cross others.
    Raises:
        NoRoadError: nothing is drivable where the ego is.
        TooLargeError: see `extent`.
    """
    rng = np.random.default_rng(7_002)
    canvas = _Canvas(*extent(scene))
    road = np.zeros(canvas.shape, np.uint8)
    for area in scene.areas_m:
        if _touches(canvas, area):
            mask = np.zeros(canvas.shape, np.uint8) if len(area) > 1 else road
            cv2.fillPoly(mask, [canvas.px(r) for r in area], BEV_DRIVABLE, shift=_SHIFT)
            road |= mask
    if not road.any():
        raise NoRoadError(f"{scene.source} {scene.name}: nothing is drivable around the ego")
    road = cv2.morphologyEx(road, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _surfaces(rng, canvas, road)
    canvas.classes[:] = road
    cross = np.zeros(canvas.shape, np.uint8)
    for ring in junctions:
        cv2.fillPoly(cross, [canvas.px(ring)], JUNCTION, shift=_SHIFT)
    canvas.classes |= np.where(road > 0, cross, 0).astype(np.uint8)
    for line in scene.paint:
        _line(canvas, line)
    for ring in scene.crossings_m:
        _zebra(canvas, ring)
    return _pyramid(canvas)


def _touches(canvas: _Canvas, area: tuple[np.ndarray, ...]) -> bool:
    high = canvas.low + np.array(canvas.shape[::-1]) * CELL_M
    return any(
        bool((r.max(axis=0) >= canvas.low).all() and (r.min(axis=0) <= high).all()) for r in area
    )


def _surfaces(rng: np.random.Generator, canvas: _Canvas, road: np.ndarray) -> None:
    """Colour grass, sidewalk, kerb and asphalt, with grain."""
    grey = rng.uniform(72, 96)
    wide = cv2.dilate(road, _disc(_WALK_M))
    edge = cv2.dilate(road, _disc(_KERB_M))
    shades = np.array(
        [[88, 106, 58], [152, 150, 144], [184, 182, 176], [grey, grey, grey + 3]], np.float32
    )
    which = (wide > 0).astype(np.uint8) + (edge > 0) + (road > 0)
    h, w = road.shape
    grain = np.tile(rng.standard_normal((256, 256), dtype=np.float32), (h // 256 + 1, w // 256 + 1))
    patches = rng.standard_normal((max(h // 24, 1), max(w // 24, 1)), dtype=np.float32)
    patches = cv2.resize(patches, (w, h), interpolation=cv2.INTER_CUBIC)
    amount = np.where(road > 0, 2.6 * grain[:h, :w] + 2.2 * patches, 6.0 * grain[:h, :w])
    for k in range(3):
        layer = shades[:, k][which] + amount
        canvas.colour[..., k] = np.clip(layer, 0, 255).astype(np.uint8)


def _disc(radius_m: float) -> np.ndarray:
    size = 2 * round(radius_m / CELL_M) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def _line(canvas: _Canvas, paint: Paint) -> None:
    """Paint a line metre by metre; a lane's mere bound is left out where nobody paints one."""
    length = float(arc_length(paint.points_m)[-1])
    if length < 0.5 or not _touches(canvas, (paint.points_m,)):
        return
    line = resample(paint.points_m, 1.0)
    wanted = np.ones(len(line) - 1, bool)
    if paint.dashed:
        on, off = (round(d) for d in _DASH_M)
        wanted = np.arange(len(line) - 1) % (on + off) < on
    if paint.bound:
        wanted &= ~_needless(canvas, line, edge=not (paint.dashed or paint.yellow))
    colour = (226.0, 184.0, 62.0) if paint.yellow else (226.0, 226.0, 220.0)
    left, right = (offset_line(line, side * _LINE_M / 2) for side in (1, -1))
    starts = np.flatnonzero(np.diff(np.concatenate([[0], wanted.astype(np.int8), [0]])))
    for first, end in starts.reshape(-1, 2):
        for a in range(first, end, 10):  # short enough to clip to its own corner of the raster
            rows = slice(a, min(a + 10, end) + 1)
            canvas.paint(np.concatenate([left[rows], right[rows][::-1]]), colour)


def _needless(canvas: _Canvas, line: np.ndarray, *, edge: bool) -> np.ndarray:
    """Return bool [P - 1]: inside a junction, or an edge with road on both of its sides."""
    middle = (line[1:] + line[:-1]) / 2
    out = (canvas.at(middle) & JUNCTION) != 0
    if edge and len(line) > 2:
        sides = [canvas.at(offset_line(middle, d)) & BEV_DRIVABLE for d in (0.8, -0.8)]
        out |= (sides[0] > 0) & (sides[1] > 0)
    return out


def _zebra(canvas: _Canvas, ring_m: np.ndarray) -> None:
    """Paint bars between the two edges of a crosswalk (first half and second half of its ring)."""
    if len(ring_m) < 4 or not _touches(canvas, (ring_m,)):
        return
    half = len(ring_m) // 2
    near, far = resample(ring_m[:half], 0.5), ring_m[half:][::-1]
    share = np.linspace(0.0, 1.0, len(near))
    s = arc_length(far)
    far = np.stack([np.interp(share * s[-1], s, far[:, k]) for k in (0, 1)], axis=1)
    for i in range(0, len(near) - 1, 2):
        ring = np.array([near[i], near[i + 1], far[i + 1], far[i]])
        canvas.paint(ring, (226.0, 226.0, 220.0))


def _pyramid(canvas: _Canvas) -> Ground:
    levels = [canvas.colour]
    for _ in range(MIP_LEVELS - 1):
        h, w = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (w // 2, h // 2), interpolation=cv2.INTER_AREA))
    sizes = np.array([level.shape[:2] for level in levels], dtype=np.int64)
    h, w = canvas.shape
    return Ground(
        origin_m=(float(canvas.low[0]), float(canvas.low[1])),
        classes=canvas.classes,
        texels=np.concatenate([level.reshape(-1, 3) for level in levels]),
        mip_start=np.concatenate([[0], np.cumsum(sizes[:, 0] * sizes[:, 1])[:-1]]).astype(np.int64),
        mip_height=sizes[:, 0].copy(),
        mip_width=sizes[:, 1].copy(),
        lamps=np.zeros((int(h * CELL_M) + 1, int(w * CELL_M) + 1), np.uint8),
    )


def no_scenery() -> Scenery:
    """Return scenery without any object: recorded maps do not hold houses."""
    return Scenery(
        mesh=Mesh(
            quads=np.zeros((0, 4, 3), np.float32),
            normals=np.zeros((0, 3), np.float32),
            colours=np.zeros((0, 3), np.float32),
            material=np.zeros(0, np.int32),
        ),
        first=np.zeros(1, np.int64),
        spheres=np.zeros((0, 4), np.float32),
        footprints=np.zeros((0, 5), np.float32),
        heights_m=np.zeros(0, np.float32),
        solid=np.zeros(0, np.bool_),
    )
