"""Bodies on two wheels, on four legs, and things that lie on the road."""

from typing import Final

import numpy as np

from sim.look.bodies import DARK, LAMP_GLASS, RIM, TAIL_GLASS, WHITE, Body
from sim.look.shapes import BODY, HEAD, SECOND, SKIN, TAIL, Mesh, ring

_ORANGE: Final = (242.0, 92.0, 22.0)


def _rider(t: Body, seat: tuple[float, float], lean_m: float, hands: tuple[float, float]) -> None:
    """Add a person who sits: legs that pedal or rest, trunk, arms to the bar, helmet."""
    x, z = seat
    for s, sign in ((1.0, -1), (-1.0, 1)):
        t.taper(
            (x + 0.05, x + 0.2, 0.06, 0.24),
            (x - 0.08, x + 0.1, 0.075, z + 0.05),
            SECOND,
            y=s * 0.13,
        )
        t.swings(sign)
    chest = z + 0.5
    t.taper((x - 0.13, x + 0.11, 0.15, z), (x + lean_m - 0.13, x + lean_m + 0.1, 0.2, chest), BODY)
    for s in (1.0, -1.0):
        y = s * 0.23
        arm = [[x + lean_m, y, chest - 0.04], [x + lean_m, y, chest - 0.17]]
        arm += [[hands[0], y, hands[1] - 0.05], [hands[0], y, hands[1] + 0.05]]
        for out in (1.0, -1.0):
            t.b.quad(np.array(arm), BODY, out=(0, out, 0))
    head = (x + lean_m + 0.05, 0.0)
    t.b.prism(ring(6, 0.08, chest, head), ring(6, 0.11, chest + 0.16, head), SKIN)
    t.b.prism(ring(6, 0.13, chest + 0.15, head), ring(6, 0.08, chest + 0.3, head), WHITE)
    t.swings(0)


def _bar(t: Body, a: tuple[float, float], b: tuple[float, float], colour: tuple) -> None:  # type: ignore[type-arg]
    """Add a tube of a frame between two points (x, z), seen from both sides and from above."""
    across, up = 0.035, 0.05
    for s in (1.0, -1.0):
        points = [[a[0], s * across, a[1] - up], [b[0], s * across, b[1] - up]]
        points += [[b[0], s * across, b[1] + up], [a[0], s * across, a[1] + up]]
        t.b.quad(np.array(points), colour, out=(0, s, 0))


def cyclist() -> tuple[Mesh, np.ndarray]:
    t = Body(1.8, 0.6, 1.75)
    for x in (0.56, -0.56):
        t.wheel(x, 0.0, 0.34, 0.06)
    for a, b in (
        ((-0.56, 0.34), (-0.05, 0.3)),
        ((-0.05, 0.3), (0.45, 0.82)),
        ((-0.56, 0.34), (-0.2, 0.86)),
        ((-0.2, 0.86), (-0.05, 0.3)),
        ((-0.2, 0.8), (0.42, 0.8)),
        ((0.42, 0.95), (0.56, 0.34)),
    ):
        _bar(t, a, b, SECOND)
    t.b.box((0.36, -0.28, 0.98), (0.42, 0.28, 1.03), DARK)
    t.end(-0.62, (-0.05, 0.05), (0.62, 0.72), TAIL_GLASS, TAIL)
    t.swings(0)
    _rider(t, (-0.2, 0.94), 0.26, (0.38, 1.02))
    return t.done()


def motorcycle() -> tuple[Mesh, np.ndarray]:
    t = Body(2.15, 0.8, 1.55)
    for x in (0.72, -0.7):
        t.wheel(x, 0.0, 0.33, 0.16)
    t.box((-0.45, 0.45), 0.17, (0.25, 0.62), DARK)
    t.taper((0.0, 0.5, 0.17, 0.6), (0.02, 0.4, 0.15, 0.92), BODY)
    t.taper((-0.95, 0.05, 0.15, 0.62), (-1.0, 0.05, 0.13, 0.76), BODY)
    t.taper((0.45, 0.78, 0.19, 0.62), (0.4, 0.6, 0.15, 1.05), BODY)
    t.b.box((0.4, -0.38, 0.98), (0.46, 0.38, 1.03), DARK)
    t.end(0.79, (-0.11, 0.11), (0.68, 0.86), LAMP_GLASS, HEAD)
    t.end(-1.01, (-0.12, 0.12), (0.63, 0.76), TAIL_GLASS, TAIL)
    t.end(-1.005, (-0.1, 0.1), (0.42, 0.58), WHITE)
    t.swings(0)
    _rider(t, (-0.2, 0.78), 0.3, (0.42, 1.0))
    return t.done()


def _animal(length: float, height: float, coat: tuple[float, ...], *, antlers: bool) -> Body:
    t = Body(length, 0.5, height)
    k, h = length / 1.7, height / 1.5
    for x, s, sign in ((0.42, 1, 1), (0.42, -1, -1), (-0.5, 1, -1), (-0.5, -1, 1)):
        half = 0.05 * h
        t.taper(
            ((x - 0.05) * k, (x + 0.05) * k, half, 0.0),
            ((x - 0.08) * k, (x + 0.09) * k, half * 1.5, 0.72 * h),
            coat,
            y=s * 0.14 * h,
        )
        t.swings(sign)
    under = tuple(0.8 * c for c in coat)
    t.taper(
        (-0.66 * k, 0.55 * k, 0.15 * h, 0.62 * h), (-0.68 * k, 0.52 * k, 0.2 * h, 0.85 * h), under
    )
    t.taper(
        (-0.68 * k, 0.52 * k, 0.2 * h, 0.85 * h), (-0.6 * k, 0.42 * k, 0.12 * h, 1.05 * h), coat
    )
    t.taper((0.3 * k, 0.55 * k, 0.1 * h, 0.85 * h), (0.5 * k, 0.68 * k, 0.07 * h, 1.28 * h), coat)
    t.taper((0.48 * k, 0.84 * k, 0.07 * h, 1.2 * h), (0.5 * k, 0.72 * k, 0.08 * h, 1.36 * h), coat)
    for s in (1.0, -1.0):  # ears
        t.taper(
            (0.5 * k, 0.55 * k, 0.03 * h, 1.34 * h), (0.5 * k, 0.53 * k, 0.02 * h, 1.5 * h), coat,
            y=s * 0.09 * h,
        )  # fmt: skip
    t.b.box((-0.74 * k, -0.05, 0.86 * h), (-0.66 * k, 0.05, 1.02 * h), WHITE if antlers else coat)
    t.swings(0)
    return t


def deer() -> tuple[Mesh, np.ndarray]:
    return _animal(1.7, 1.5, (140.0, 92.0, 52.0), antlers=True).done()


def dog() -> tuple[Mesh, np.ndarray]:
    return _animal(0.95, 0.7, (66.0, 50.0, 40.0), antlers=False).done()


def cone() -> tuple[Mesh, np.ndarray]:
    t = Body(0.42, 0.42, 0.78)
    t.box((-0.21, 0.21), 0.21, (0.0, 0.05), DARK)
    steps = ((0.05, 0.155), (0.3, 0.115), (0.5, 0.082), (0.78, 0.03))
    for i, colour in enumerate((_ORANGE, WHITE, _ORANGE)):
        (z0, r0), (z1, r1) = steps[i], steps[i + 1]
        t.b.prism(ring(8, r0, z0), ring(8, r1, z1), colour)
    return t.done()


def crate() -> tuple[Mesh, np.ndarray]:
    t = Body(1.3, 1.0, 0.7)
    t.b.box((-0.45, -0.4, 0.0), (0.2, 0.25, 0.6), (176.0, 132.0, 82.0))
    t.b.box((-0.455, -0.1, 0.0), (0.205, -0.02, 0.605), (214.0, 196.0, 150.0))
    t.taper((0.15, 0.62, 0.22, 0.0), (0.25, 0.6, 0.2, 0.34), (150.0, 108.0, 66.0), y=0.22)
    for y, z in ((0.42, 0.02), (-0.46, 0.02)):
        t.b.box((-0.65, y - 0.05, 0.0), (0.6, y + 0.05, z + 0.07), (206.0, 174.0, 120.0))
    t.b.box((-0.3, 0.05, 0.6), (0.1, 0.2, 0.7), (190.0, 150.0, 100.0))
    return t.done()


def tyre() -> tuple[Mesh, np.ndarray]:
    t = Body(0.75, 0.75, 0.3)
    t.b.prism(ring(8, 0.375, 0.0), ring(8, 0.375, 0.24), DARK, roof=(44.0, 44.0, 46.0))
    t.b.prism(ring(8, 0.2, 0.24), ring(8, 0.18, 0.3), RIM)
    return t.done()
