"""Bodies on four wheels and more: trucks, buses, trailers, blue lights, a wreck, an open door.

Built in metres at a usual size and shrunk to a unit box, so that an actor's own size stretches it.
"""

import math
from typing import Final

import numpy as np

from sim.look.shapes import (
    BEACON,
    BODY,
    HEAD,
    SECOND,
    TAIL,
    Mesh,
    MeshBuilder,
    car_mesh,
)

_GLASS: Final = (40.0, 47.0, 56.0)
DARK: Final = (24.0, 24.0, 26.0)
RIM: Final = (126.0, 128.0, 132.0)
WHITE: Final = (232.0, 232.0, 228.0)
_RED: Final = (196.0, 30.0, 34.0)
LAMP_GLASS: Final = (236.0, 236.0, 226.0)
TAIL_GLASS: Final = (150.0, 18.0, 16.0)
_BLUE: Final = (24.0, 40.0, 120.0)


class Body:
    """A mesh in the making, in metres about the middle of its footprint, nose along +x."""

    def __init__(self, length_m: float, width_m: float, height_m: float) -> None:
        self.size_m = (length_m, width_m, height_m)
        self.b = MeshBuilder()
        self.swing: list[int] = []

    def swings(self, sign: int) -> None:
        """Let the quads added since the last call lean with the step: -1, 0 or +1."""
        self.swing.extend([sign] * (len(self.b) - len(self.swing)))

    def box(self, x: tuple[float, float], y: float, z: tuple[float, float], colour: tuple) -> None:  # type: ignore[type-arg]
        """Add a box from x[0] to x[1], symmetric in y, from z[0] to z[1]."""
        self.b.box((x[0], -y, z[0]), (x[1], y, z[1]), colour)

    def taper(
        self,
        low: tuple[float, float, float, float],
        high: tuple[float, float, float, float],
        colour: tuple[float, ...],
        *,
        y: float = 0.0,
        roof: tuple[float, ...] | None = None,
    ) -> None:
        """Add a solid between two rectangles (rear x, front x, half width, z) about a y."""
        rings = [
            np.array([[f, y + h, z], [r, y + h, z], [r, y - h, z], [f, y - h, z]])
            for r, f, h, z in (low, high)
        ]
        self.b.prism(rings[0], rings[1], colour, roof=roof)

    def side(
        self, x: tuple[float, float], y: float, z: tuple[float, float], colour: tuple[float, ...]
    ) -> None:
        """Add an upright panel on both sides at +-y."""
        for s in (1.0, -1.0):
            points = [[x[0], s * y, z[0]], [x[1], s * y, z[0]]]
            points += [[x[1], s * y, z[1]], [x[0], s * y, z[1]]]
            self.b.quad(np.array(points), colour, out=(0, s, 0))

    def end(
        self,
        x: float,
        y: tuple[float, float],
        z: tuple[float, float],
        colour: tuple[float, ...],
        material: int = 0,
    ) -> None:
        """Add an upright panel across the nose (x > 0) or the tail."""
        points = [[x, y[0], z[0]], [x, y[1], z[0]], [x, y[1], z[1]], [x, y[0], z[1]]]
        self.b.quad(np.array(points), colour, material, out=(math.copysign(1.0, x), 0, 0))

    def lamps(self, nose: float, tail: float, y: float, z: float, size: float = 0.16) -> None:
        """Add two head lamps and two tail lamps."""
        for s in (1.0, -1.0):
            span = (s * y - size, s * y + size)
            self.end(nose, span, (z, z + size * 1.3), LAMP_GLASS, HEAD)
            self.end(tail, span, (z + 0.1, z + 0.1 + size * 1.4), TAIL_GLASS, TAIL)

    def wheel(self, x: float, y: float, radius: float, wide: float = 0.26) -> None:
        """Add a wheel whose outer face is at y; a two-wheeler's at 0 has two faces."""
        a = (np.arange(8) + 0.5) * (math.pi / 4)
        for s in (1.0, -1.0) if y == 0.0 else (math.copysign(1.0, y),):
            face = y + (s * wide / 2 if y == 0.0 else 0.0)
            for r, colour, off in ((radius, DARK, 0.0), (radius * 0.5, RIM, 0.006 * s)):
                x_m, z_m = x + r * np.cos(a), np.maximum(radius + r * np.sin(a), 0.0)
                disc = np.stack([x_m, np.full(8, face + off), z_m], axis=1)
                for i in (0, 2, 4):
                    self.b.quad(disc[[0, i + 1, i + 2, i + 3]], colour, out=(0, s, 0))
        y0, y1 = (-wide / 2, wide / 2) if y == 0.0 else sorted((y, y - math.copysign(wide, y)))
        for s in (1.0, -1.0):
            tread = x + s * radius * 0.93
            points = [[tread, y0, 0.05], [tread, y1, 0.05]]
            points += [[tread, y1, radius * 1.6], [tread, y0, radius * 1.6]]
            self.b.quad(np.array(points), DARK, out=(s, 0, 0))

    def wheels(self, places: tuple[float, ...], y: float, radius: float) -> None:
        """Add wheels on both sides."""
        for x in places:
            self.wheel(x, y, radius)
            self.wheel(x, -y, radius)

    def done(self) -> tuple[Mesh, np.ndarray]:
        """Return the mesh shrunk to a unit box, and how each quad swings."""
        self.swings(0)
        return self.b.mesh(self.size_m), np.array(self.swing, np.int64)


def truck() -> tuple[Mesh, np.ndarray]:
    t = Body(8.5, 2.5, 3.4)
    t.box((-4.25, 2.2), 1.24, (0.95, 3.4), SECOND)
    t.box((-4.2, 4.1), 0.9, (0.55, 0.95), DARK)
    t.taper((2.45, 4.25, 1.2, 0.5), (2.45, 4.2, 1.2, 1.6), BODY)
    t.taper((2.45, 4.2, 1.2, 1.6), (2.45, 3.85, 1.14, 2.75), BODY, roof=BODY)
    t.end(4.21, (-1.05, 1.05), (1.62, 1.7), BODY)
    front = [[4.22, -1.08, 1.64], [4.22, 1.08, 1.64], [3.93, 1.04, 2.6], [3.93, -1.04, 2.6]]
    t.b.quad(np.array(front), _GLASS, out=(1, 0, 0.2))
    t.side((2.8, 3.8), 1.205, (1.7, 2.45), _GLASS)
    t.end(4.255, (-0.8, 0.8), (0.95, 1.35), DARK)
    t.lamps(4.256, -4.256, 0.95, 0.66)
    t.end(-4.255, (-1.2, 1.2), (0.5, 0.66), (200.0, 60.0, 40.0))
    t.end(-4.254, (-0.02, 0.02), (1.0, 3.35), DARK)
    t.side((-4.2, 2.15), 1.242, (0.95, 1.08), (210.0, 160.0, 50.0))
    t.wheels((3.3, -2.2, -3.3), 1.22, 0.5)
    return t.done()


def bus() -> tuple[Mesh, np.ndarray]:
    t = Body(11.5, 2.55, 3.1)
    t.box((-5.75, 5.75), 1.25, (0.35, 3.1), BODY)
    t.side((-5.4, 5.4), 1.256, (1.45, 2.55), _GLASS)
    for x in np.arange(-4.6, 5.0, 1.55):
        t.side((x, x + 0.12), 1.26, (1.45, 2.55), BODY)
    t.side((-5.75, 5.75), 1.255, (0.75, 0.95), SECOND)
    t.end(5.755, (-1.15, 1.15), (1.15, 2.55), _GLASS)
    t.end(5.756, (-0.8, 0.8), (2.65, 2.98), (240.0, 170.0, 40.0))
    t.end(-5.755, (-1.0, 1.0), (1.75, 2.6), _GLASS)
    t.end(-5.756, (-0.45, 0.45), (2.66, 2.95), (240.0, 170.0, 40.0))
    t.end(-5.755, (-1.1, 1.1), (0.4, 0.6), DARK)
    t.lamps(5.757, -5.757, 1.0, 0.7, 0.18)
    for x in (1.2, 4.3):  # doors, at the right
        y = -1.262
        points = [[x, y, 0.4], [x + 1.1, y, 0.4], [x + 1.1, y, 2.5], [x, y, 2.5]]
        t.b.quad(np.array(points), (70.0, 78.0, 88.0), out=(0, -1, 0))
    t.wheels((3.4, -3.1), 1.27, 0.48)
    return t.done()


def trailer() -> tuple[Mesh, np.ndarray]:
    t = Body(4.2, 1.95, 2.1)
    t.box((-2.1, 1.1), 0.96, (0.45, 2.1), BODY)
    t.side((-2.1, 1.1), 0.965, (0.9, 1.05), _RED)
    t.b.box((1.1, -0.06, 0.42), (2.1, 0.06, 0.54), DARK)
    t.b.box((1.85, -0.12, 0.0), (1.97, 0.12, 0.5), DARK)
    for s in (1.0, -1.0):
        t.end(-2.106, (s * 0.75 - 0.14, s * 0.75 + 0.14), (0.5, 0.74), TAIL_GLASS, TAIL)
        t.end(-2.107, (s * 0.35 - 0.12, s * 0.35 + 0.12), (0.5, 0.7), _RED)
    t.end(-2.105, (-0.02, 0.02), (0.75, 2.05), DARK)
    t.wheels((-0.65, -0.05), 0.975, 0.33)
    return t.done()


def _beacons(t: Body, x: float, z: float, wide: float) -> None:
    """Add a bar of blue lights across the roof."""
    t.b.box((x - 0.14, -wide, z), (x + 0.14, wide, z + 0.05), DARK)
    for y0, y1 in ((-wide, -0.12), (0.12, wide)):
        t.b.box((x - 0.13, y0, z + 0.05), (x + 0.13, y1, z + 0.24), _BLUE, BEACON)


def ambulance() -> tuple[Mesh, np.ndarray]:
    t = Body(5.8, 2.1, 2.85)
    t.box((-2.9, 1.2), 1.02, (0.45, 2.55), WHITE)
    t.taper((1.2, 2.9, 1.0, 0.4), (1.2, 2.75, 1.0, 1.25), WHITE)
    t.taper((1.2, 2.7, 1.0, 1.25), (1.2, 1.75, 0.92, 2.25), _GLASS, roof=WHITE)
    t.side((-2.9, 1.2), 1.03, (1.05, 1.4), _RED)
    t.side((1.2, 2.72), 1.005, (0.95, 1.2), _RED)
    t.side((-1.3, -0.9), 1.032, (1.55, 2.35), _RED)
    t.side((-1.5, -0.7), 1.033, (1.8, 2.1), _RED)
    t.end(-2.905, (-1.0, 1.0), (1.05, 1.4), _RED)
    t.end(-2.905, (-0.8, 0.8), (1.6, 2.2), _GLASS)
    t.end(2.905, (-0.75, 0.75), (0.5, 0.72), DARK)
    t.end(2.906, (-0.9, 0.9), (0.98, 1.16), _RED)
    t.lamps(2.907, -2.907, 0.8, 0.75)
    t.wheels((1.9, -1.7), 1.04, 0.37)
    _beacons(t, 1.0, 2.55, 0.85)
    _beacons(t, -2.6, 2.55, 0.85)
    return t.done()


def police() -> tuple[Mesh, np.ndarray]:
    t = Body(4.6, 1.85, 1.75)
    low, size = car_mesh(0), np.array([4.6, 1.85, 1.5])
    for quad, colour, material in zip(low.quads, low.colours, low.material, strict=True):
        paint = WHITE if tuple(colour) == BODY else tuple(float(c) for c in colour)
        t.b.quad(quad * size, paint, int(material))
    t.side((-2.2, 1.2), 0.92, (0.5, 0.82), (30.0, 70.0, 190.0))
    _beacons(t, -0.3, 1.5, 0.6)
    return t.done()


def door() -> tuple[Mesh, np.ndarray]:
    t = Body(1.05, 0.12, 1.4)
    t.box((-0.52, 0.52), 0.06, (0.35, 0.9), BODY)
    t.taper((-0.5, 0.5, 0.05, 0.9), (-0.45, 0.2, 0.04, 1.4), _GLASS)
    t.box((-0.5, 0.5), 0.062, (0.5, 0.56), DARK)
    return t.done()


def wreck() -> tuple[Mesh, np.ndarray]:
    """Return a car on its roof."""
    car, turn = car_mesh(1), np.array([1.0, -1.0, -1.0], np.float32)
    mesh = Mesh(
        quads=car.quads * turn + np.array([0.0, 0.0, 1.0], np.float32),
        normals=car.normals * turn,
        colours=car.colours,
        material=np.where(car.material == HEAD, 0, car.material).astype(np.int32),
    )
    under = Body(1.0, 1.0, 1.0)
    under.b.box((-0.48, -0.44, 0.5), (0.48, 0.44, 0.84), (58.0, 56.0, 54.0))
    floor, _ = under.done()
    names = ("quads", "normals", "colours", "material")
    both = {n: np.concatenate([getattr(mesh, n), getattr(floor, n)]) for n in names}
    return Mesh(**both), np.zeros(len(both["quads"]), np.int64)
