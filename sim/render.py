"""The renderer: a world at one instant -> colour, depth and instance ids of one camera.

Own work. All geometry goes through vehicle.geometry's conventions: pixel centres at integers,
camera x right, y down, z forward, ground at z = 0 of the ego frame.
"""

import math
from dataclasses import dataclass

import numpy as np

from sim.paint import CELL_M, MIP_LEVELS
from sim.raster import draw_mesh, draw_shadows
from sim.shade import fill_rest, finish
from sim.staging import Light, Stage, Staged
from vehicle.contracts.frame import CameraModel
from vehicle.contracts.wire import RefusedError
from vehicle.geometry import inverse

_FAR = 1e9


class DistortedCameraError(RefusedError, ValueError):
    """The renderer draws straight lines: a camera with lens distortion cannot be rendered."""


class UnknownLightError(RefusedError, ValueError):
    """A light is neither day nor night."""


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
