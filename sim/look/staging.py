"""The moment before the picture: actors dressed and placed, shadows and headlights laid out."""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from sim.look.shapes import BEACON, HEAD, TAIL, Mesh
from sim.look.templates import PERSON_SHAPE, templates
from sim.look.weather import CLEAR, Weather
from sim.town.paint import Ground
from sim.town.scenery import Scenery
from vehicle.contracts.scene import KINDS

_REACH_M = 130.0
_PERSON = KINDS.index("pedestrian")
_WITH_HEADLIGHTS = [
    KINDS.index(kind) for kind in ("car", "truck", "bus", "motorcycle", "emergency")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """The light of an episode.

    Args:
        name: "day", "dusk" or "night".
        values: ambient, direct, sun x, y, z, night flag (dusk too), noise, headlight, lamps, haze,
            soft shadows flag, lamps of cars flag, dusk flag, RGB tint of the night's ambient light.
        sky: zenith RGB, horizon RGB, ridge height, ridge phase, sun azimuth, afterglow.
        weather: what is between the world and the picture.
    """

    name: str
    values: np.ndarray
    sky: np.ndarray
    weather: Weather = CLEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """The actors of one instant as a mesh; shadows and headlight pools on the ground."""

    mesh: Mesh
    first: np.ndarray
    spheres: np.ndarray
    ids: np.ndarray
    shadows: np.ndarray
    pools: np.ndarray


class Stage:
    """Places actors and static things of a town for one instant, for all cameras at once."""

    def __init__(self, ground: Ground, scenery: Scenery) -> None:
        self.ground, self.scenery = ground, scenery
        meshes, swings = templates()
        self._parts = Mesh(
            quads=np.concatenate([m.quads for m in meshes]),
            normals=np.concatenate([m.normals for m in meshes]),
            colours=np.concatenate([m.colours for m in meshes]),
            material=np.concatenate([m.material for m in meshes]),
        )
        counts = [len(m.quads) for m in meshes]
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._swing = np.concatenate(swings)

    def place(self, table: np.ndarray, x_m: float, y_m: float, light: Light) -> Staged:
        """Return meshes of the actors near a point, and the shadows."""
        near = table[np.hypot(table["x_m"] - x_m, table["y_m"] - y_m) < _REACH_M]
        near = near[np.argsort(np.hypot(near["x_m"] - x_m, near["y_m"] - y_m), kind="stable")]
        which = np.where(near["kind"] == _PERSON, PERSON_SHAPE, near["shape"])
        first = np.concatenate([[0], np.cumsum(np.diff(self._first)[which])]).astype(np.int64)
        quads, normals, colours, material = _dress(
            near, which, first, light.values[11] > 0.5, self._first, self._parts.quads,
            self._parts.normals, self._parts.colours, self._parts.material, self._swing,
        )  # fmt: skip
        mesh = Mesh(quads=quads, normals=normals, colours=colours, material=material)
        size = np.sqrt(near["length_m"] ** 2 + near["width_m"] ** 2 + near["height_m"] ** 2)
        return Staged(
            mesh=mesh,
            first=first,
            spheres=np.stack(
                [near["x_m"], near["y_m"], near["height_m"] / 2, size / 2 + 0.15], axis=1
            ).astype(np.float32),
            ids=near["actor_id"].astype(np.int32),
            shadows=self._shadows(near, x_m, y_m, light),
            pools=_pools(near, x_m, y_m, light),
        )

    def _shadows(self, near: np.ndarray, x_m: float, y_m: float, light: Light) -> np.ndarray:
        s = self.scenery
        close = np.hypot(s.footprints[:, 0] - x_m, s.footprints[:, 1] - y_m) < 70.0
        rows = [
            np.stack(
                [near["x_m"], near["y_m"], near["length_m"] / 2, near["width_m"] / 2,
                 near["yaw_rad"], near["height_m"] * 0.85], axis=1,
            )
        ]  # fmt: skip
        if light.name == "day" and light.values[10] < 0.5:
            rows.append(
                np.concatenate([s.footprints[close], s.heights_m[close, None]], axis=1).astype(
                    np.float64
                )
            )
        return _shadow_quads(np.concatenate(rows), light.values)


def _pools(near: np.ndarray, x_m: float, y_m: float, light: Light) -> np.ndarray:
    """Return where the headlights of cars in traffic fall, in three steps from wide to bright.

    The ego's body stops the light of a car behind it.
    """
    cars = near[(near["moving"] > 0) & np.isin(near["kind"], _WITH_HEADLIGHTS)]
    if light.name == "day" or not len(cars):
        return np.zeros((3, 0, 4, 3))
    c, s = np.cos(cars["yaw_rad"]), np.sin(cars["yaw_rad"])
    dx, dy = x_m - cars["x_m"], y_m - cars["y_m"]
    along, across = c * dx + s * dy - cars["length_m"] / 2, -s * dx + c * dy
    blocked = (along > 0.0) & (np.abs(across) < 2.0)
    quads = np.zeros((3, len(cars), 4, 3))
    for k, (start, end, wide) in enumerate(((0.5, 16.0, 3.8), (1.0, 11.5, 2.6), (2.0, 8.0, 1.6))):
        reach = np.where(blocked, np.clip(along - 1.2, start, end), end)[:, None]
        u = np.array([[0.0, 0.0, 1.0, 1.0]])
        x = start + (reach - start) * u + cars["length_m"][:, None] / 2
        half = 0.8 + (wide - 0.8) * (reach - start) / (end - start) * u
        y = half * np.array([[1.0, -1.0, -1.0, 1.0]])
        quads[k, :, :, 0] = c[:, None] * x - s[:, None] * y + cars["x_m"][:, None]
        quads[k, :, :, 1] = s[:, None] * x + c[:, None] * y + cars["y_m"][:, None]
    return quads


@njit(cache=True)
def _dress(near, which, first, night, starts, quads, normals, colours, material, swing):  # type: ignore[no-untyped-def]
    """Return quads, normals, colours, material of all actors in town coordinates.

    Args:
        near: ACTOR rows. which: the template of each. first: [N + 1] its place in the result.
        starts: where each template begins in `quads`, `normals`, `colours`, `material`, `swing`.
    """
    total = first[len(near)]
    out, turned = np.empty((total, 4, 3), np.float32), np.empty((total, 3), np.float32)
    paint, made = np.empty((total, 3), np.float32), np.empty(total, np.int32)
    for i in range(len(near)):
        row = near[i]
        person = row.kind == _PERSON
        a, b, to = starts[which[i]], starts[which[i] + 1], first[i]
        sx = row.height_m if person else row.length_m
        sy = row.height_m if person else row.width_m
        c, s = math.cos(row.yaw_rad), math.sin(row.yaw_rad)
        stride = math.sin(row.gait_rad) * 0.5 * min(row.speed_mps / 1.2, 1.2)
        for q in range(a, b):
            k = to + q - a
            for v in range(4):
                x, y = quads[q, v, 0] * sx, quads[q, v, 1] * sy
                z = quads[q, v, 2] * row.height_m
                if swing[q] != 0:  # legs and arms lean with the walk, more the lower
                    x += stride * max(0.0, 0.85 - z) * swing[q]
                out[k, v, 0] = c * x - s * y + row.x_m
                out[k, v, 1] = s * x + c * y + row.y_m
                out[k, v, 2] = z
            nx, ny, nz = normals[q, 0] / sx, normals[q, 1] / sy, normals[q, 2] / row.height_m
            norm = math.sqrt(nx * nx + ny * ny + nz * nz)
            turned[k, 0], turned[k, 1] = (c * nx - s * ny) / norm, (s * nx + c * ny) / norm
            turned[k, 2] = nz / norm
            made[k] = material[q]
            own = int(-colours[q, 0]) - 1
            for channel in range(3):
                if own >= 0:
                    paint[k, channel] = row.colour[own, channel]
                else:
                    paint[k, channel] = colours[q, channel]
            if material[q] == TAIL or material[q] == HEAD:
                _light_up(paint[k], material[q], row.moving > 0, row.accel_mps2, night)
            elif material[q] == BEACON and math.sin(row.gait_rad) * quads[q, 0, 1] > 0.0:
                paint[k, 0], paint[k, 1], paint[k, 2] = 70.0, 130.0, 255.0
    return out, turned, paint, made


@njit(cache=True)
def _light_up(paint, material, driving, accel, night):  # type: ignore[no-untyped-def]
    """Brake lights while braking; at night tail and head lights of cars that are in traffic."""
    if material == TAIL:
        if driving and accel < -0.8:
            paint[0], paint[1], paint[2] = 255.0, 44.0, 30.0
        elif night and driving:
            paint[0], paint[1], paint[2] = 176.0, 16.0, 12.0
        elif night:
            paint[0], paint[1], paint[2] = 46.0, 8.0, 8.0
    elif night and driving:
        paint[0], paint[1], paint[2] = 255.0, 250.0, 226.0
    elif night:
        paint[0], paint[1], paint[2] = 40.0, 40.0, 40.0


@njit(cache=True)
def _shadow_quads(rows, light):  # type: ignore[no-untyped-def]
    """Return ground quads of the shadows of boxes (x, y, half length, half width, yaw, height)."""
    night = light[5] > 0.5 or light[10] > 0.5
    stretch = 0.0 if night else 1.0 / max(light[4], 0.2)
    n = len(rows)
    per = 1 if night else 6
    out = np.zeros((n * per, 4, 3))
    corner, moved = np.empty((4, 2)), np.empty((4, 2))
    for i in range(n):
        c, s = math.cos(rows[i, 4]), math.sin(rows[i, 4])
        dx, dy = -light[2] * stretch * rows[i, 5], -light[3] * stretch * rows[i, 5]
        for k in range(4):
            a = rows[i, 2] * (1.0 if k == 0 or k == 3 else -1.0)
            b = rows[i, 3] * (1.0 if k < 2 else -1.0)
            corner[k, 0], corner[k, 1] = c * a - s * b + rows[i, 0], s * a + c * b + rows[i, 1]
            moved[k, 0], moved[k, 1] = corner[k, 0] + dx, corner[k, 1] + dy
        out[i * per, :, :2] = corner
        if night:
            continue
        out[i * per + 1, :, :2] = moved
        for k in range(4):
            j = (k + 1) % 4
            out[i * per + 2 + k, 0, :2] = corner[k]
            out[i * per + 2 + k, 1, :2] = corner[j]
            out[i * per + 2 + k, 2, :2] = moved[j]
            out[i * per + 2 + k, 3, :2] = moved[k]
    return out
