"""What stands beside the road and never moves: buildings, trees, street lamps."""

import itertools
from dataclasses import dataclass

import numpy as np

from sim.look.shapes import FACADE, FLAT, LAMP, LEAVES, Mesh, MeshBuilder, ring
from sim.town.lanes import Road, headings
from sim.town.outline import Outline, lamp_places
from sim.town.paint import CELL_M, Ground

_WALLS = (
    (178, 160, 138),
    (158, 92, 74),
    (196, 190, 178),
    (132, 138, 146),
    (204, 178, 132),
    (120, 104, 92),
    (170, 176, 168),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenery:
    """Static objects: object k owns quads first[k]:first[k + 1].

    Args:
        mesh: quads in town coordinates.
        first: int64 [K + 1].
        spheres: float32 [K, 4], centre and radius, for culling.
        footprints: float32 [K, 5] x, y, half length, half width, yaw on the ground.
        heights_m: float32 [K]; what casts a shadow.
        solid: bool [K], counts as occupied (buildings).
    """

    mesh: Mesh
    first: np.ndarray
    spheres: np.ndarray
    footprints: np.ndarray
    heights_m: np.ndarray
    solid: np.ndarray


class _Site:
    def __init__(self, free: np.ndarray, ground: Ground) -> None:
        self.free, self.ground, self.mesh = free, ground, MeshBuilder()
        self.first = [0]
        self.rows: list[tuple[float, ...]] = []

    def clear(self, corners_m: np.ndarray) -> bool:
        """Return whether nothing is under a rectangle [4, 2], and reserve it if so."""
        u = np.linspace(0.0, 1.0, 9)[:, None, None]
        v = np.linspace(0.0, 1.0, 9)[None, :, None]
        a, b, c, d = corners_m
        grid = a * (1 - u) * (1 - v) + b * u * (1 - v) + c * u * v + d * (1 - u) * v
        px = ((grid - self.ground.origin_m) / CELL_M).astype(int)
        h, w = self.free.shape
        if (px < 0).any() or (px[..., 0] >= w).any() or (px[..., 1] >= h).any():
            return False
        if not self.free[px[..., 1], px[..., 0]].all():
            return False
        low, high = px.reshape(-1, 2).min(axis=0), px.reshape(-1, 2).max(axis=0)
        self.free[low[1] : high[1] + 1, low[0] : high[0] + 1] = 0
        return True

    def close(self, row: tuple[float, ...]) -> None:
        """End the current object: x, y, half length, half width, yaw, height, solid."""
        self.first.append(len(self.mesh))
        self.rows.append(row)

    def done(self) -> Scenery:
        rows = np.array(self.rows, np.float64).reshape(-1, 7)
        radius = np.sqrt(rows[:, 2] ** 2 + rows[:, 3] ** 2 + (rows[:, 5] / 2) ** 2)
        return Scenery(
            mesh=self.mesh.mesh(),
            first=np.array(self.first, np.int64),
            spheres=np.stack([rows[:, 0], rows[:, 1], rows[:, 5] / 2, radius], axis=1).astype(
                np.float32
            ),
            footprints=rows[:, :5].astype(np.float32),
            heights_m=rows[:, 5].astype(np.float32),
            solid=rows[:, 6] > 0,
        )


def build_scenery(
    rng: np.random.Generator, roads: list[Road], free: np.ndarray, ground: Ground, *, walk_m: float
) -> Scenery:
    """Return buildings and trees beside the roads of a town, and its lamps."""
    site = _Site(free.copy(), ground)
    density = rng.uniform(0.45, 0.92)
    floors = rng.uniform(2.0, 5.5)
    for road in roads:
        for side in (1.0, -1.0):
            reach = road.half_m + road.parking_m[0 if side > 0 else 1] + walk_m
            _row_of_houses(rng, site, road, side, reach, density, floors)
    for road in roads:
        for side in (1.0, -1.0):
            reach = road.half_m + road.parking_m[0 if side > 0 else 1] + walk_m
            line, at = road.offset(side * (reach + rng.uniform(1.0, 2.0))), 4
            while at < len(line) - 4:
                if rng.random() < 0.55:
                    _tree(rng, site, line[at] + rng.uniform(-0.5, 0.5, 2))
                at += int(rng.integers(7, 15))
    for x, y in lamp_places(roads, walk_m):
        _lamp(site, x, y)
    return site.done()


def build_wayside(
    rng: np.random.Generator, outline: Outline, free: np.ndarray, ground: Ground
) -> Scenery:
    """Return what stands along a motorway: rails, lamps, scattered trees, houses far off."""
    site = _Site(free.copy(), ground)
    for line in outline.rails:
        _rail(site, line)
    low = np.array(ground.origin_m) + 12.0
    high = low + np.array(free.shape[::-1]) * CELL_M - 24.0
    for _ in range(60):
        half_l, half_w = rng.uniform(5.0, 14.0), rng.uniform(5.0, 9.0)
        height = 3.2 * rng.integers(1, 5) + 0.8
        _house(rng, site, rng.uniform(low, high), rng.uniform(0, np.pi), half_l, half_w, height)
    for _ in range(260):
        _tree(rng, site, rng.uniform(low, high))
    for x, y in outline.lamps_m(0.0):
        _lamp(site, x, y)
    return site.done()


def _rail(site: _Site, line_m: np.ndarray) -> None:
    """Stand a guard rail along a line, 12 m to a piece."""
    for i in range(0, len(line_m) - 1, 12):
        a, b = line_m[i], line_m[min(i + 12, len(line_m) - 1)]
        along = b - a
        half = float(np.hypot(*along)) / 2
        out = np.array([-along[1], along[0]]) / max(2 * half, 1e-6) * 0.05
        corners = np.array([b - out, b + out, a + out, a - out])
        ring_at = [np.column_stack([corners, np.full(4, z)]) for z in (0.45, 0.78)]
        site.mesh.prism(*ring_at, (158.0, 162.0, 166.0))
        post = ring(4, 0.06, 0.0, (float(a[0]), float(a[1])))
        site.mesh.prism(post, post + np.array([0.0, 0.0, 0.5]), (120.0, 122.0, 124.0))
        middle = (a + b) / 2
        yaw = float(np.arctan2(along[1], along[0]))
        site.close((middle[0], middle[1], half, 0.05, yaw, 0.8, 0.0))


def _row_of_houses(
    rng: np.random.Generator,
    site: _Site,
    road: Road,
    side: float,
    reach_m: float,
    density: float,
    floors: float,
) -> None:
    line, yaw = road.centre_m, headings(road.centre_m)
    at = 2.0
    while at < len(line) - 6:
        front = rng.uniform(8.0, 20.0)
        middle = min(int(at + front / 2), len(line) - 1)
        if rng.random() < density:
            depth, gap = rng.uniform(8.0, 14.0), rng.uniform(2.5, 5.5)
            along = np.array([np.cos(yaw[middle]), np.sin(yaw[middle])])
            out = np.array([-along[1], along[0]]) * side
            centre = line[middle] + out * (reach_m + gap + depth / 2)
            height = 3.2 * max(1, round(floors * rng.uniform(0.6, 1.5))) + 0.8
            _house(rng, site, centre, yaw[middle], front / 2, depth / 2, height)
        at += front + rng.uniform(0.5, 6.0)


def _house(
    rng: np.random.Generator,
    site: _Site,
    centre: np.ndarray,
    yaw: float,
    half_l: float,
    half_w: float,
    height: float,
) -> None:
    c, s = np.cos(yaw), np.sin(yaw)
    half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [half_l, half_w]
    corners = half @ np.array([[c, s], [-s, c]]) + centre
    if not site.clear(corners):
        return
    wall = tuple(
        float(v) for v in np.array(_WALLS[rng.integers(len(_WALLS))]) + rng.uniform(-16, 16)
    )
    low = np.column_stack([corners, np.zeros(4)])
    top = np.column_stack([corners, np.full(4, height)])
    site.mesh.prism(low, top, wall, roof=(92.0, 88.0, 86.0), material=FACADE)
    site.close((centre[0], centre[1], half_l, half_w, yaw, height, 1.0))


def _tree(rng: np.random.Generator, site: _Site, at: np.ndarray) -> None:
    r = rng.uniform(1.2, 2.3)
    if not site.clear(at + np.array([[0.6, 0.6], [-0.6, 0.6], [-0.6, -0.6], [0.6, -0.6]])):
        return
    place = (float(at[0]), float(at[1]))
    trunk, height = rng.uniform(1.7, 2.4), rng.uniform(4.5, 8.0)
    green = np.array([[58, 88, 40], [74, 96, 44], [88, 92, 46]])[rng.integers(3)]
    leaf = tuple(float(v) for v in green + rng.uniform(-12, 12))
    mesh = site.mesh
    mesh.prism(ring(4, 0.2, 0.0, place), ring(4, 0.16, trunk, place), (74.0, 60.0, 46.0))
    levels = (
        (trunk, 0.45),
        (trunk + 0.3 * (height - trunk), 1.0),
        (trunk + 0.7 * (height - trunk), 0.85),
    )
    for (z0, k0), (z1, k1) in itertools.pairwise(levels):
        mesh.prism(ring(6, r * k0, z0, place), ring(6, r * k1, z1, place), leaf, material=LEAVES)
    z, k = levels[-1]
    mesh.prism(ring(6, r * k, z, place), ring(6, r * 0.3, height, place), leaf, material=LEAVES)
    site.close((*place, r, r, 0.0, height, 0.0))


def _lamp(site: _Site, x: float, y: float) -> None:
    mesh = site.mesh
    mesh.prism(
        ring(4, 0.08, 0.0, (x, y)), ring(4, 0.06, 6.0, (x, y)), (88.0, 92.0, 96.0), material=FLAT
    )
    mesh.prism(
        ring(4, 0.3, 5.9, (x, y)), ring(4, 0.22, 6.15, (x, y)), (236.0, 226.0, 190.0), material=LAMP
    )
    site.close((x, y, 0.1, 0.1, 0.0, 6.2, 0.0))
