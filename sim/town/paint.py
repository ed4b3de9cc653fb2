"""The ground of a town as rasters: what it looks like, and what it is (labels come from that)."""

from dataclasses import dataclass

import cv2
import numpy as np

from sim.town.lanes import LaneGraph, Road, offset_line
from sim.town.outline import Line, Outline, band, street_outline
from vehicle.contracts.scene import BEV_DRIVABLE, BEV_LANE

CELL_M = 0.2
MIP_LEVELS = 6
_MARGIN_M = 70.0
_SHIFT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Rasters of the ground; row = y, column = x, texel [r, c] begins at origin + (c, r) * cell.

    Args:
        origin_m: town coordinates of the corner of texel [0, 0].
        classes: uint8 [H, W], bits BEV_DRIVABLE | BEV_LANE.
        texels: uint8 [T, 3], all mip levels of the colour raster one after another.
        mip_start, mip_height, mip_width: int64 [6], where each level lies in `texels`.
        lamps: uint8 [h, w], street light at night, 1 m cells from the same origin.
    """

    origin_m: tuple[float, float]
    classes: np.ndarray
    texels: np.ndarray
    mip_start: np.ndarray
    mip_height: np.ndarray
    mip_width: np.ndarray
    lamps: np.ndarray

    def at_level(self, level: int) -> np.ndarray:
        """Return one mip level as an image [H, W, 3]."""
        h, w = int(self.mip_height[level]), int(self.mip_width[level])
        first = int(self.mip_start[level])
        return self.texels[first : first + h * w].reshape(h, w, 3)


class _Canvas:
    def __init__(self, origin: np.ndarray, height: int, width: int) -> None:
        self.origin = origin
        self.colour = np.zeros((height, width, 3), np.uint8)
        self.classes = np.zeros((height, width), np.uint8)
        self.free = np.ones((height, width), np.uint8)

    def _px(self, points_m: np.ndarray) -> np.ndarray:
        px = ((points_m - self.origin) / CELL_M - 0.5) * (1 << _SHIFT)
        return np.round(px).astype(np.int32)

    def fill(self, polygon_m: np.ndarray, colour: tuple[float, ...], bits: int | None) -> None:
        """Fill a polygon; `bits` replaces the class there (None leaves it)."""
        px = [self._px(polygon_m)]
        shade = tuple(int(v) for v in colour)
        cv2.fillPoly(self.colour, px, shade, lineType=cv2.LINE_AA, shift=_SHIFT)
        cv2.fillPoly(self.free, px, 0, shift=_SHIFT)
        if bits is not None:
            cv2.fillPoly(self.classes, px, bits, shift=_SHIFT)

    def paint(self, polygon_m: np.ndarray, colour: tuple[float, ...], *, lane: bool = True) -> None:
        """Put paint on the road."""
        self.fill(polygon_m, colour, BEV_DRIVABLE | BEV_LANE if lane else None)


def paint_ground(
    rng: np.random.Generator,
    nodes_m: np.ndarray,
    roads: list[Road],
    lanes: LaneGraph,
    *,
    kerb_m: float,
    sidewalk_m: float,
) -> tuple[Ground, np.ndarray]:
    """Return the rasters of streets, and a mask of texels on which nothing is built yet."""
    outline = street_outline(nodes_m, roads, lanes)
    return paint_outline(rng, nodes_m, outline, kerb_m=kerb_m, sidewalk_m=sidewalk_m)


def paint_outline(
    rng: np.random.Generator,
    extent_m: np.ndarray,
    outline: Outline,
    *,
    kerb_m: float,
    sidewalk_m: float,
) -> tuple[Ground, np.ndarray]:
    """Return the rasters of any outline, and a mask of texels on which nothing is built yet.

    Args:
        extent_m: [N, 2] points; the ground reaches 70 m beyond them.
    """
    low = extent_m.min(axis=0) - _MARGIN_M
    size = np.ceil((extent_m.max(axis=0) + _MARGIN_M - low) / CELL_M / 32).astype(int) * 32
    canvas = _Canvas(low, int(size[1]), int(size[0]))
    palette = _palette(rng)
    canvas.colour[:] = palette["grass"]
    walk = kerb_m + sidewalk_m
    for layer, extra in (("walk", walk), ("kerb", kerb_m), ("bay", 0.0)):
        for polygon in outline.around(extra):
            canvas.fill(polygon, palette[layer], 0)
    for polygon in outline.surface:
        canvas.fill(polygon, palette["asphalt"], BEV_DRIVABLE)
    for layer, polygon in outline.patches:
        canvas.fill(polygon, palette[layer], 0)
    canvas.colour = _texture(rng, canvas.colour, canvas.classes)
    for road in outline.streets:
        _mark(canvas, road, palette)
    for line in outline.lines:
        _draw(canvas, line, palette[line.colour])
    lamps = _lamps(rng, canvas, outline.lamps_m(walk))
    return _pyramid(canvas, lamps), canvas.free


def _palette(rng: np.random.Generator) -> dict[str, tuple[float, ...]]:
    grey = rng.uniform(62, 104)
    green = np.array([[78, 104, 52], [104, 112, 60], [122, 110, 78], [70, 92, 58]])
    stone = np.array([[150, 148, 142], [164, 150, 132], [136, 138, 144]])
    walk = stone[rng.integers(len(stone))] + rng.uniform(-14, 14)
    bay = np.array([grey + 18, grey + 14, grey + 10])
    yellow = rng.random() < 0.5
    return {
        "grass": tuple(green[rng.integers(len(green))] + rng.uniform(-12, 12, 3)),
        "walk": tuple(walk),
        "kerb": tuple(np.clip(walk + 34, 0, 235)),
        "bay": tuple(bay),
        "asphalt": (grey, grey + rng.uniform(-2, 2), grey + rng.uniform(0, 6)),
        "white": (226.0, 226.0, 220.0),
        "centre": (226.0, 184.0, 62.0) if yellow else (226.0, 226.0, 220.0),
    }


def _texture(rng: np.random.Generator, colour: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the raster with grain and patches, stronger on grass than on asphalt."""
    h, w = classes.shape
    grain = rng.standard_normal((256, 256), dtype=np.float32)
    grain = np.tile(grain, (1, w // 256 + 1))[:, :w]
    patches = rng.standard_normal((h // 24, w // 24), dtype=np.float32)
    patches = cv2.resize(patches, (w, h), interpolation=cv2.INTER_CUBIC)
    for top in range(0, h, 256):  # strip by strip: the whole in floats would take 600 MB
        rows = slice(top, min(top + 256, h))
        fine, coarse = grain[: rows.stop - top], patches[rows]
        road = classes[rows] > 0
        amount = np.where(road, 2.6 * fine + 2.2 * coarse, 6.0 * fine + 8.0 * coarse)
        out = colour[rows].astype(np.float32)
        out += amount[..., None]
        colour[rows] = np.clip(out, 0, 255).astype(np.uint8)
    return colour


def _mark(canvas: _Canvas, road: Road, palette: dict[str, tuple[float, ...]]) -> None:
    """Paint lines, bays, stop lines and crosswalks of one road."""
    n, half, width = len(road.centre_m), road.half_m, road.lane_width_m
    inner = slice(5, n - 5)
    if road.lanes == 1:
        _dashes(canvas, road, 0.0, palette["centre"], 3, 3)
    else:
        for side in (0.18, -0.18):
            canvas.paint(band(road, side + 0.1, side - 0.1, inner), palette["centre"])
        for side in (width, -width):
            _dashes(canvas, road, side, palette["white"], 3, 6)
    for side in (half - 0.2, -half + 0.2):
        canvas.paint(band(road, side + 0.1, side - 0.1, inner), palette["white"])
    for side, bay in zip((1, -1), road.parking_m, strict=True):
        for i in range(6, n - 8, 6) if bay else ():
            edges = sorted((side * half, side * (half + bay)), reverse=True)
            stripe = _cross(road, i, edges[0], edges[1], 0.15)
            canvas.fill(stripe, palette["white"], None)
    for at, lanes in ((5, (0.0, half)), (n - 6, (-half, 0.0))):
        canvas.paint(_cross(road, at, lanes[1], lanes[0], 0.4), palette["white"])
    for at in (2, n - 3):
        for k in np.arange(-half + 0.4, half - 0.5, 1.0):
            canvas.paint(_cross(road, at, k + 0.5, k, 2.6), palette["white"])


def _cross(road: Road, at: int, left_m: float, right_m: float, along_m: float) -> np.ndarray:
    """Return a rectangle across the road at point `at`, `along_m` long."""
    i = min(max(at, 1), len(road.centre_m) - 2)
    d = road.centre_m[i + 1] - road.centre_m[i - 1]
    d = d / np.hypot(*d)
    normal = np.array([-d[1], d[0]])
    p, a = road.centre_m[i], d * along_m / 2
    left, right = p + normal * left_m, p + normal * right_m
    return np.array([left - a, left + a, right + a, right - a])


def _dashes(
    canvas: _Canvas, road: Road, side: float, colour: tuple[float, ...], on: int, off: int
) -> None:
    n = len(road.centre_m)
    for i in range(6, n - 6 - on, on + off):
        canvas.paint(band(road, side + 0.1, side - 0.1, slice(i, i + on + 1)), colour)


def _draw(canvas: _Canvas, line: Line, colour: tuple[float, ...]) -> None:
    """Paint a line, solid or dashed; its points are about 1 m apart."""
    n, half = len(line.points_m), line.width_m / 2
    left, right = offset_line(line.points_m, half), offset_line(line.points_m, -half)
    step = max(n - 1, 1) if line.off_m == 0 else line.on_m + line.off_m
    on = step if line.off_m == 0 else line.on_m
    for i in range(0, n - 1, step):
        part = slice(i, min(i + on, n - 1) + 1)
        canvas.paint(np.concatenate([left[part], right[part][::-1]]), colour)


def _lamps(rng: np.random.Generator, canvas: _Canvas, places_m: np.ndarray) -> np.ndarray:
    """Return the pools of street light, 1 m cells."""
    h, w = canvas.classes.shape
    light = np.zeros((int(h * CELL_M) + 1, int(w * CELL_M) + 1), np.float32)
    yy, xx = np.mgrid[-16:17, -16:17].astype(np.float32)
    pool = 200.0 / (1.0 + (xx**2 + yy**2) / 30.0) * np.clip(1.2 - np.hypot(xx, yy) / 16, 0, 1)
    for x, y in places_m:
        c, r = int(x - canvas.origin[0]), int(y - canvas.origin[1])
        if 16 <= r < light.shape[0] - 16 and 16 <= c < light.shape[1] - 16:
            light[r - 16 : r + 17, c - 16 : c + 17] += pool * rng.uniform(0.5, 1.0)
    return np.clip(light, 0, 255).astype(np.uint8)


def _pyramid(canvas: _Canvas, lamps: np.ndarray) -> Ground:
    levels = [canvas.colour]
    for _ in range(MIP_LEVELS - 1):
        h, w = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (w // 2, h // 2), interpolation=cv2.INTER_AREA))
    sizes = np.array([level.shape[:2] for level in levels], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes[:, 0] * sizes[:, 1])[:-1]])
    return Ground(
        origin_m=(float(canvas.origin[0]), float(canvas.origin[1])),
        classes=canvas.classes,
        texels=np.concatenate([level.reshape(-1, 3) for level in levels]),
        mip_start=starts.astype(np.int64),
        mip_height=sizes[:, 0].copy(),
        mip_width=sizes[:, 1].copy(),
        lamps=lamps,
    )
