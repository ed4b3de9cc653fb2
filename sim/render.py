"""The renderer: a world at one instant -> colour, depth and instance ids of one camera.

Own work. All geometry goes through vehicle.geometry's conventions: pixel centres at integers,
camera x right, y down, z forward, ground at z = 0 of the ego frame.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from sim.paint import CELL_M, MIP_LEVELS, Ground
from sim.raster import draw_mesh, draw_shadows
from sim.scenery import Scenery
from sim.shade import fill_rest, finish
from sim.shapes import CAR_SHAPES, HEAD, TAIL, Mesh, car_mesh, person_parts
from vehicle.contracts.frame import CameraModel
from vehicle.contracts.scene import KINDS
from vehicle.contracts.wire import RefusedError
from vehicle.geometry import inverse

_FAR = 1e9
_LEG_M = 0.55
_REACH_M = 130.0


class DistortedCameraError(RefusedError, ValueError):
    """The renderer draws straight lines: a camera with lens distortion cannot be rendered."""


class UnknownLightError(RefusedError, ValueError):
    """A light is neither day nor night."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """The light of an episode.

    Args:
        name: "day" or "night".
        values: ambient, direct, sun x, y, z, night flag, noise, headlight, lamps, haze.
        sky: zenith RGB, horizon RGB, ridge height, ridge phase.
    """

    name: str
    values: np.ndarray
    sky: np.ndarray


def make_light(name: str, rng: np.random.Generator) -> Light:
    """Return a light drawn from its family.

    Raises:
        UnknownLightError: the name is neither "day" nor "night".
    """
    if name not in ("day", "night"):
        raise UnknownLightError(f"light {name!r} is unknown: take 'day' or 'night'")
    azimuth, height = rng.uniform(0.0, 2 * math.pi), rng.uniform(0.35, 1.25)
    sun = [math.cos(azimuth) * math.cos(height), math.sin(azimuth) * math.cos(height)]
    ridge = [rng.uniform(0.5, 1.3), rng.uniform(0.0, 6.28)]
    if name == "night":
        values = [rng.uniform(0.10, 0.2), 0.0, 0.0, 0.0, 1.0, 1.0, rng.uniform(2.5, 4.5)]
        values += [rng.uniform(1.0, 1.35), rng.uniform(0.45, 0.8), 1e9]
        sky = [6, 8, 18, 20, 20, 30]
    else:
        bright = rng.uniform(0.72, 1.12)
        ambient = rng.uniform(0.42, 0.62) * bright
        values = [ambient, bright * 1.02 - ambient * 0.8, *sun, math.sin(height), 0.0]
        values += [rng.uniform(1.0, 2.4), 0.0, 0.0, rng.uniform(2.0, 6.0) * 1e4]
        cloud = rng.uniform(0.0, 1.0)
        blue, grey = np.array([92, 142, 206]), np.array([176, 182, 190])
        zenith = (blue * (1 - cloud) + grey * cloud) * bright
        sky = [*zenith, *(np.array([208, 216, 222]) * min(bright, 1.05))]
    return Light(
        name=name,
        values=np.array(values, np.float64),
        sky=np.array([*sky, *ridge], np.float64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is fixed for a camera: lens, rays to the ground, buffers."""

    camera: CameraModel
    lens: np.ndarray
    ego_from_camera: np.ndarray
    rays: np.ndarray
    colour: np.ndarray
    glow: np.ndarray
    mask: np.ndarray


def make_view(camera: CameraModel) -> View:
    """Return the precomputed view of a camera.

    Raises:
        DistortedCameraError: the camera has lens distortion.
    """
    if any(camera.distortion):
        raise DistortedCameraError(f"camera {camera.name!r} is distorted: rectify its model first")
    h, w = camera.height_px, camera.width_px
    v, u = np.mgrid[0:h, 0:w].astype(np.float64)
    m = camera.matrix
    ray = np.stack(
        [(u - camera.cx_px) / camera.fx_px, (v - camera.cy_px) / camera.fy_px, np.ones((h, w))], -1
    )
    d = ray @ m[:3, :3].T
    down = d[..., 2] < -1e-4
    z = np.where(down, -m[2, 3] / np.where(down, d[..., 2], -1.0), 0.0)
    z = np.where(z > 600.0, 0.0, z)
    ground = m[:3, 3] + d * z[..., None]
    reach = np.hypot(ground[..., 0] - m[0, 3], ground[..., 1] - m[1, 3]) + 0.1
    across = z / camera.fx_px
    along = across * np.sqrt(1.0 + (reach / m[2, 3]) ** 2)
    footprint = np.maximum(across**0.6 * along**0.4, 1e-6)
    level = np.clip(np.round(np.log2(np.maximum(footprint / CELL_M, 1e-6))), 0, MIP_LEVELS - 1)
    elevation = d[..., 2] / np.linalg.norm(d, axis=-1)
    azimuth = np.arctan2(d[..., 1], d[..., 0])
    sky = z <= 0.0
    rays = np.stack(
        [
            np.where(sky, elevation, ground[..., 0]),
            np.where(sky, azimuth, ground[..., 1]),
            z,
            level,
        ],
        -1,
    )
    return View(
        camera=camera,
        lens=np.array(
            [camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px, w, h], dtype=np.float64
        ),
        ego_from_camera=m,
        rays=rays.astype(np.float32),
        colour=np.zeros((h, w, 3), np.float32),
        glow=np.zeros((h, w), np.uint8),
        mask=np.zeros((h, w), np.uint8),
    )


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
        self._cars = [car_mesh(k) for k in range(CAR_SHAPES)]
        self._person, self._swing = person_parts()

    def place(self, table: np.ndarray, x_m: float, y_m: float, light: Light) -> Staged:
        """Return meshes of the actors near a point, and the shadows."""
        near = table[np.hypot(table["x_m"] - x_m, table["y_m"] - y_m) < _REACH_M]
        near = near[np.argsort(np.hypot(near["x_m"] - x_m, near["y_m"] - y_m), kind="stable")]
        parts = [self._dress(row, light) for row in near]
        counts = [len(p.quads) for p in parts]
        empty = (np.zeros((0, 4, 3)), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
        mesh = Mesh(
            quads=_join([p.quads for p in parts], empty[0], np.float32),
            normals=_join([p.normals for p in parts], empty[1], np.float32),
            colours=_join([p.colours for p in parts], empty[2], np.float32),
            material=_join([p.material for p in parts], empty[3], np.int32),
        )
        size = np.sqrt(near["length_m"] ** 2 + near["width_m"] ** 2 + near["height_m"] ** 2)
        return Staged(
            mesh=mesh,
            first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            spheres=np.stack(
                [near["x_m"], near["y_m"], near["height_m"] / 2, size / 2 + 0.15], axis=1
            ).astype(np.float32),
            ids=near["actor_id"].astype(np.int32),
            shadows=self._shadows(near, x_m, y_m, light),
            pools=_pools(near, x_m, y_m, light),
        )

    def _dress(self, row: np.void, light: Light) -> Mesh:
        """Return one actor's mesh in town coordinates, in its own colours."""
        person = KINDS[int(row["kind"])] == "pedestrian"
        template = self._person if person else self._cars[int(row["shape"])]
        scale = np.array([row["length_m"], row["width_m"], row["height_m"]])
        if person:
            scale = np.full(3, row["height_m"])
        place = np.array([row["x_m"], row["y_m"], row["yaw_rad"]])
        quads, normals = _pose(template.quads, template.normals, scale, place)
        if person:
            _swing_limbs(quads, self._swing, place, float(row["gait_rad"]), float(row["speed_mps"]))
        own = template.colours[:, 0] < 0
        colours = template.colours.copy()
        colours[own] = row["colour"][(-template.colours[own, 0] - 1).astype(int)]
        if not person:
            _light_up(colours, template.material, row, light)
        return Mesh(quads=quads, normals=normals, colours=colours, material=template.material)

    def _shadows(self, near: np.ndarray, x_m: float, y_m: float, light: Light) -> np.ndarray:
        s = self.scenery
        close = np.hypot(s.footprints[:, 0] - x_m, s.footprints[:, 1] - y_m) < 70.0
        rows = [
            np.stack(
                [near["x_m"], near["y_m"], near["length_m"] / 2, near["width_m"] / 2,
                 near["yaw_rad"], near["height_m"] * 0.85], axis=1,
            )
        ]  # fmt: skip
        if light.name == "day":
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
    cars = near[near["moving"] == 1]
    if light.name != "night" or not len(cars):
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


def _join(parts: list[np.ndarray], empty: np.ndarray, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(np.concatenate([empty, *parts]), dtype=dtype)


def _light_up(colours: np.ndarray, material: np.ndarray, row: np.void, light: Light) -> None:
    """Brake lights while braking; at night tail and head lights of cars that are in traffic."""
    tail, head = material == TAIL, material == HEAD
    driving = bool(row["moving"])
    if driving and row["accel_mps2"] < -0.8:
        colours[tail] = (255.0, 44.0, 30.0)
    elif light.name == "night":
        colours[tail] = (176.0, 16.0, 12.0) if driving else (46.0, 8.0, 8.0)
    if light.name == "night":
        colours[head] = (255.0, 250.0, 226.0) if driving else (40.0, 40.0, 40.0)


@njit(cache=True)
def _pose(quads, normals, scale, place):  # type: ignore[no-untyped-def]
    """Return quads and normals of a unit mesh scaled, turned and moved to x, y, yaw."""
    c, s = math.cos(place[2]), math.sin(place[2])
    out, turned = np.empty_like(quads), np.empty_like(normals)
    for q in range(len(quads)):
        for v in range(4):
            x, y = quads[q, v, 0] * scale[0], quads[q, v, 1] * scale[1]
            out[q, v, 0] = c * x - s * y + place[0]
            out[q, v, 1] = s * x + c * y + place[1]
            out[q, v, 2] = quads[q, v, 2] * scale[2]
        nx, ny, nz = normals[q, 0] / scale[0], normals[q, 1] / scale[1], normals[q, 2] / scale[2]
        norm = math.sqrt(nx * nx + ny * ny + nz * nz)
        turned[q, 0], turned[q, 1] = (c * nx - s * ny) / norm, (s * nx + c * ny) / norm
        turned[q, 2] = nz / norm
    return out, turned


@njit(cache=True)
def _swing_limbs(quads, swing, place, gait, speed):  # type: ignore[no-untyped-def]
    """Shear legs below the hip and arms below the shoulder by the walking phase."""
    c, s = math.cos(place[2]), math.sin(place[2])
    amount = math.sin(gait) * 0.5 * min(speed / 1.2, 1.2)
    for q in range(len(quads)):
        if swing[q] == 0:
            continue
        for v in range(4):
            drop = max(0.0, 0.85 - quads[q, v, 2])
            quads[q, v, 0] += c * amount * drop * swing[q]
            quads[q, v, 1] += s * amount * drop * swing[q]


@njit(cache=True)
def _shadow_quads(rows, light):  # type: ignore[no-untyped-def]
    """Return ground quads of the shadows of boxes (x, y, half length, half width, yaw, height)."""
    night = light[5] > 0.5
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


def render(
    view: View, stage: Stage, staged: Staged, ego: np.ndarray, light: Light, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one camera.

    Args:
        ego: x, y, yaw of the ego frame in town.
        seed: of the sensor noise; one per (episode, tick, camera).
    Returns:
        rgb uint8 [H, W, 3], depth float32 [H, W] (metres along camera z, inf for sky), ids int32
        [H, W] (actor_id, 0 for ground and sky, -1 for static things).
    """
    c, s = math.cos(ego[2]), math.sin(ego[2])
    town_from_ego = np.array(
        [[c, -s, 0.0, ego[0]], [s, c, 0.0, ego[1]], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    )
    town_from_camera = town_from_ego @ view.ego_from_camera
    camera_from_town = inverse(town_from_camera)
    rot, move = np.ascontiguousarray(camera_from_town[:3, :3]), camera_from_town[:3, 3].copy()
    eye = town_from_camera[:3, 3].copy()
    h, w = view.glow.shape
    depth = np.full((h, w), _FAR, np.float32)
    ids = np.zeros((h, w), np.int32)
    out = np.empty((h, w, 3), np.uint8)
    view.mask[:] = 0
    scenery, ground = stage.scenery, stage.ground
    where = np.asarray(ego, np.float64)
    static_ids = np.full(len(scenery.first) - 1, -1, np.int32)
    for mesh, first, spheres, owners in (
        (staged.mesh, staged.first, staged.spheres, staged.ids),
        (scenery.mesh, scenery.first, scenery.spheres, static_ids),
    ):
        draw_mesh(
            mesh.quads, mesh.normals, mesh.colours, mesh.material, first, spheres, owners, rot,
            move, eye, view.lens, light.values, view.colour, depth, ids, view.glow,
        )  # fmt: skip
    draw_shadows(staged.shadows, rot, move, view.lens, 1, view.mask)
    for step, pools in enumerate(staged.pools):
        draw_shadows(pools, rot, move, view.lens, 2 + step, view.mask)
    fill_rest(
        view.rays, where, ground.texels, ground.mip_start, ground.mip_height,
        ground.mip_width, np.array(ground.origin_m), CELL_M, light.values, light.sky, view.colour,
        depth, view.glow, view.mask,
    )  # fmt: skip
    finish(
        view.lens, view.ego_from_camera, where, ground.lamps,
        np.array(ground.origin_m), light.values, light.sky, seed, view.colour, depth, view.glow,
        out,
    )  # fmt: skip
    return out, depth, ids
