"""What things look like: quads of cars, people, houses, trees, lamps, before they are placed."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

FLAT: Final = 0
FACADE: Final = 1
TAIL: Final = 2
HEAD: Final = 3
LAMP: Final = 4
LEAVES: Final = 5
BEACON: Final = 6
"""Materials of a quad: how light meets it."""

BODY: Final = (-1.0, 0.0, 0.0)
SECOND: Final = (-2.0, 0.0, 0.0)
SKIN: Final = (-3.0, 0.0, 0.0)
"""Colours that each actor brings along; others are RGB 0..255."""

_GLASS = (34.0, 40.0, 48.0)
_DARK = (22.0, 22.0, 24.0)
_RIM = (120.0, 122.0, 126.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Quads: vertices float32 [Q, 4, 3], outward normals [Q, 3], colours [Q, 3], material [Q]."""

    quads: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    material: np.ndarray


class MeshBuilder:
    """Collects quads; vertices run counter-clockwise seen from outside."""

    def __init__(self) -> None:
        self._quads: list[np.ndarray] = []
        self._colours: list[tuple[float, ...]] = []
        self._material: list[int] = []

    def __len__(self) -> int:
        return len(self._quads)

    def quad(
        self,
        points: np.ndarray,
        colour: tuple[float, ...],
        material: int = FLAT,
        *,
        out: tuple[float, float, float] | None = None,
    ) -> None:
        """Add one quad [4, 3] (a triangle repeats its last vertex), turned to face `out`."""
        if out is not None:
            normal = np.cross(points[2] - points[0], points[3] - points[1])
            points = points if normal @ np.array(out) > 0 else points[::-1]
        self._quads.append(np.asarray(points, np.float32))
        self._colours.append(colour)
        self._material.append(material)

    def prism(
        self,
        bottom: np.ndarray,
        top: np.ndarray,
        colour: tuple[float, ...],
        *,
        roof: tuple[float, ...] | None = None,
        material: int = FLAT,
    ) -> None:
        """Add sides and roof of a solid between two rings [N, 3], counter-clockwise from above."""
        n = len(bottom)
        for i in range(n):
            j = (i + 1) % n
            self.quad(np.array([bottom[i], bottom[j], top[j], top[i]]), colour, material)
        lid = roof if roof is not None else colour
        flat = material if material == LEAVES else FLAT
        for i in range(1, n - 1, 2):
            k = min(i + 2, n - 1)
            self.quad(np.array([top[0], top[i], top[i + 1], top[k]]), lid, flat)

    def box(
        self,
        low: tuple[float, float, float],
        high: tuple[float, float, float],
        colour: tuple[float, ...],
        material: int = FLAT,
    ) -> None:
        """Add an axis-aligned box without its underside."""
        self.prism(_ring(low, high, low[2]), _ring(low, high, high[2]), colour, material=material)

    def mesh(self, size_m: tuple[float, float, float] | None = None) -> Mesh:
        """Return everything added so far, divided by `size_m` if one is given."""
        quads = np.array(self._quads, np.float32).reshape(-1, 4, 3)
        if size_m is not None:
            quads = quads / np.array(size_m, np.float32)
        d1, d2 = quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]
        normals = np.cross(d1.astype(np.float64), d2.astype(np.float64))
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        return Mesh(
            quads=quads,
            normals=normals.astype(np.float32),
            colours=np.array(self._colours, np.float32).reshape(-1, 3),
            material=np.array(self._material, np.int32),
        )


def _ring(low: tuple[float, ...], high: tuple[float, ...], z: float) -> np.ndarray:
    return np.array(
        [[high[0], high[1], z], [low[0], high[1], z], [low[0], low[1], z], [high[0], low[1], z]]
    )


def ring(
    sides: int, radius: float, z: float, centre: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Return a regular polygon [N, 3] at height z."""
    a = (np.arange(sides) + 0.5) * (2 * math.pi / sides)
    x, y = centre[0] + radius * np.cos(a), centre[1] + radius * np.sin(a)
    return np.stack([x, y, np.full(sides, z)], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _CarShape:
    hood: float
    hood_x: float
    roof_front: float
    roof_rear: float
    rear_x: float
    belt: float


_CAR_SHAPES: Final = (
    _CarShape(hood=0.52, hood_x=0.24, roof_front=0.06, roof_rear=-0.26, rear_x=-0.40, belt=0.60),
    _CarShape(hood=0.56, hood_x=0.26, roof_front=0.08, roof_rear=-0.42, rear_x=-0.49, belt=0.60),
    _CarShape(hood=0.50, hood_x=0.36, roof_front=0.24, roof_rear=-0.47, rear_x=-0.495, belt=0.54),
)
CAR_SHAPES: Final = len(_CAR_SHAPES)


def car_mesh(shape: int) -> Mesh:
    """Return a car of unit length, width and height, standing on z = 0, nose along +x."""
    s, b = _CAR_SHAPES[shape], MeshBuilder()
    low, belt = 0.17, s.belt
    # Lower body: the side profile from nose to tail, then its top faces.
    y = 0.49
    nose, tail = 0.5, -0.5
    for side in (1.0, -1.0):
        mid = [(s.hood_x, low), (s.hood_x, belt), (tail, belt), (tail, low)]
        tip = [(nose, low), (nose, s.hood - 0.06), (s.hood_x, belt), (s.hood_x, low)]
        for profile in (mid, tip):
            b.quad(np.array([[px, side * y, pz] for px, pz in profile]), BODY, out=(0, side, 0))
    h = s.hood - 0.06
    b.quad(np.array([[nose, -y, low], [nose, y, low], [nose, y, h], [nose, -y, h]]), BODY)
    b.quad(np.array([[nose, -y, h], [nose, y, h], [s.hood_x, y, belt], [s.hood_x, -y, belt]]), BODY)
    b.quad(np.array([[tail, y, low], [tail, -y, low], [tail, -y, belt], [tail, y, belt]]), BODY)
    b.quad(
        np.array([[s.hood_x, -y, belt], [s.hood_x, y, belt], [tail, y, belt], [tail, -y, belt]]),
        BODY,
    )
    _cabin(b, s)
    _wheels(b)
    _car_lights(b, h, belt)
    return b.mesh()


def _cabin(b: MeshBuilder, s: _CarShape) -> None:
    yb, yt, belt, top = 0.47, 0.38, s.belt, 1.0
    fb, ft, rt, rb = s.hood_x, s.roof_front, s.roof_rear, s.rear_x
    bottom = np.array([[fb, yb, belt], [rb, yb, belt], [rb, -yb, belt], [fb, -yb, belt]])
    roof = np.array([[ft, yt, top], [rt, yt, top], [rt, -yt, top], [ft, -yt, top]])
    b.prism(bottom, roof, _GLASS, roof=BODY)
    for side in (1.0, -1.0):  # the middle pillar, just proud of the glass
        m = (ft + rt) / 2
        pillar = np.array(
            [
                [m + 0.025, side * (yb + 0.004), belt],
                [m - 0.02, side * (yb + 0.004), belt],
                [m - 0.02, side * (yt + 0.004), top],
                [m + 0.02, side * (yt + 0.004), top],
            ]
        )
        b.quad(pillar, BODY, out=(0, side, 0))


def _wheels(b: MeshBuilder) -> None:
    for x in (0.31, -0.31):
        for side in (1.0, -1.0):
            a = (np.arange(8) + 0.5) * (math.pi / 4)
            px, pz = x + 0.072 * np.cos(a), 0.22 + 0.22 * np.sin(a)
            outer = np.stack([px, np.full(8, side * 0.5), np.maximum(pz, 0.0)], axis=1)
            for i in (0, 2, 4):
                b.quad(outer[[0, i + 1, i + 2, min(i + 3, 7)]], _DARK, out=(0, side, 0))
            hub = np.stack(
                [
                    x + 0.036 * np.cos(a[::2]),
                    np.full(4, side * 0.503),
                    0.22 + 0.11 * np.sin(a[::2]),
                ],
                axis=1,
            )
            b.quad(hub, _RIM, out=(0, side, 0))
            y0, y1 = sorted((side * 0.36, side * 0.5))
            for face, sign in ((x + 0.068, 1.0), (x - 0.068, -1.0)):
                tread = np.array(
                    [[face, y0, 0.0], [face, y1, 0.0], [face, y1, 0.3], [face, y0, 0.3]]
                )
                b.quad(tread, _DARK, out=(sign, 0, 0))


def _car_lights(b: MeshBuilder, hood: float, belt: float) -> None:
    for y in (0.36, -0.36):
        y0, y1 = y - 0.11, y + 0.11
        x, z0, z1 = 0.504, hood - 0.14, hood - 0.03
        b.quad(
            np.array([[x, y0, z0], [x, y1, z0], [x, y1, z1], [x, y0, z1]]), (236, 236, 226), HEAD
        )
        x, z0, z1 = -0.504, belt - 0.17, belt - 0.05
        b.quad(np.array([[x, y1, z0], [x, y0, z0], [x, y0, z1], [x, y1, z1]]), (150, 18, 16), TAIL)
    x, z0, z1 = 0.503, 0.2, 0.3
    b.quad(np.array([[x, -0.3, z0], [x, 0.3, z0], [x, 0.3, z1], [x, -0.3, z1]]), _DARK)
    x = -0.503
    b.quad(
        np.array([[x, 0.14, z0], [x, -0.14, z0], [x, -0.14, z1], [x, 0.14, z1]]), (210, 210, 200)
    )


PERSON_PARTS: Final = ("left_leg", "right_leg", "left_arm", "right_arm", "trunk")


def person_parts() -> tuple[Mesh, np.ndarray]:
    """Return a person 1 unit tall facing +x, and the part each quad belongs to: -1 left leg and
    right arm swing forward together, +1 the others, 0 stays."""
    b = MeshBuilder()
    swing: list[int] = []

    def part(sign: int) -> None:
        swing.extend([sign] * (len(b) - len(swing)))

    for side, sign in ((1.0, -1), (-1.0, 1)):
        y0, y1 = sorted((side * 0.015, side * 0.085))
        b.box((-0.045, y0, 0.0), (0.045, y1, 0.48), SECOND)
        part(sign)
        y0, y1 = sorted((side * 0.13, side * 0.17))
        b.box((-0.03, y0, 0.44), (0.03, y1, 0.8), BODY)
        part(-sign)
    hips = np.array(
        [[0.065, 0.1, 0.46], [-0.065, 0.1, 0.46], [-0.065, -0.1, 0.46], [0.065, -0.1, 0.46]]
    )
    chest = np.array(
        [[0.07, 0.135, 0.81], [-0.07, 0.135, 0.81], [-0.07, -0.135, 0.81], [0.07, -0.135, 0.81]]
    )
    b.prism(hips, chest, BODY)
    b.prism(ring(6, 0.035, 0.81), ring(6, 0.035, 0.86), SKIN)
    b.prism(ring(6, 0.05, 0.85), ring(6, 0.062, 0.92), SKIN)
    b.prism(ring(6, 0.064, 0.92), ring(6, 0.036, 1.0), (46.0, 34.0, 26.0))
    part(0)
    return b.mesh(), np.array(swing, np.int64)
