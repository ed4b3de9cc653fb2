"""The renderer: a world at one instant -> colour, depth and instance ids of one camera.

Own work. All geometry goes through vehicle.geometry's conventions: pixel centres at integers,
camera x right, y down, z forward, ground at z = 0 of the ego frame.
"""

import math
from dataclasses import dataclass

import numpy as np

from sim.look.air import light_up, reflect, thicken, wet_ground
from sim.look.lens import develop, drops, lens_layer, rain, soften
from sim.look.raster import draw_mesh, draw_shadows
from sim.look.shade import fill_rest, finish
from sim.look.staging import Light, Stage, Staged
from sim.look.weather import CLEAR, LIGHTS, Weather
from sim.town.paint import CELL_M, MIP_LEVELS, Ground
from vehicle.contracts.frame import CameraModel
from vehicle.contracts.wire import RefusedError
from vehicle.geometry import inverse

_FAR = 1e9


class DistortedCameraError(RefusedError, ValueError):
    """The renderer draws straight lines: a camera with lens distortion cannot be rendered."""


class UnknownLightError(RefusedError, ValueError):
    """A light is not one of sim.look.weather.LIGHTS."""


def make_light(name: str, rng: np.random.Generator, weather: Weather = CLEAR) -> Light:
    """Return a light drawn from its family, dimmed and greyed by the weather.

    Raises:
        UnknownLightError: the name is none of LIGHTS.
    """
    if name not in LIGHTS:
        raise UnknownLightError(f"light {name!r} is unknown; known: {', '.join(LIGHTS)}")
    azimuth, height = rng.uniform(0.0, 2 * math.pi), rng.uniform(0.35, 1.25)
    if weather.sun_height_rad > 0.0:
        height = weather.sun_height_rad
    sun = [math.cos(azimuth) * math.cos(height), math.sin(azimuth) * math.cos(height)]
    ridge = [rng.uniform(0.5, 1.3), rng.uniform(0.0, 6.28)]
    tint, afterglow = (0.9, 0.95, 1.25), 0.0
    if name == "night":
        values = [rng.uniform(0.10, 0.2), 0.0, 0.0, 0.0, 1.0, 1.0, rng.uniform(2.5, 4.5)]
        values += [rng.uniform(1.0, 1.35), rng.uniform(0.45, 0.8), 1e9]
        sky = [6, 8, 18, 20, 20, 30]
    elif name == "dusk":
        values = [rng.uniform(0.34, 0.5), 0.0, *sun, 0.0, 1.0, rng.uniform(1.8, 3.0)]
        values += [rng.uniform(0.4, 0.6), rng.uniform(0.3, 0.5), 1e9]
        bright, tint = values[0] / 0.42, (1.0, 0.93, 1.06)
        sky = [v * bright for v in (54.0, 70.0, 116.0, 168.0, 132.0, 124.0)]
        afterglow = rng.uniform(0.6, 1.0) * weather.sun_ratio
    else:
        bright = rng.uniform(0.72, 1.12)
        ambient = rng.uniform(0.42, 0.62) * bright
        values = [ambient, bright * 1.02 - ambient * 0.8, *sun, math.sin(height), 0.0]
        values += [rng.uniform(1.0, 2.4), 0.0, 0.0, rng.uniform(2.0, 6.0) * 1e4]
        cloud = rng.uniform(0.0, 1.0)
        blue, grey = np.array([92, 142, 206]), np.array([176, 182, 190])
        zenith = (blue * (1 - cloud) + grey * cloud) * bright
        sky = [*zenith, *(np.array([208, 216, 222]) * min(bright, 1.05))]
    lit = name != "day" or weather.lamps_ratio > 0.5
    soft = weather.sun_ratio < 0.2
    values += [float(soft), float(lit), float(name == "dusk"), *tint]
    light = Light(
        name=name,
        values=np.array(values, np.float64),
        sky=np.array([*sky, *ridge, azimuth, afterglow], np.float64),
        weather=weather,
    )
    return light if weather == CLEAR else _under_clouds(light)


def turn_sun(light: Light, yaw_rad: float) -> Light:
    """Return the light with its sun near a heading: within 27 degrees, as its own azimuth says."""
    values, sky = light.values.copy(), light.sky.copy()
    azimuth = yaw_rad + 0.15 * (sky[8] % (2 * math.pi) - math.pi)
    flat = math.hypot(values[2], values[3])
    values[2], values[3], sky[8] = flat * math.cos(azimuth), flat * math.sin(azimuth), azimuth
    return Light(name=light.name, values=values, sky=sky, weather=light.weather)


def _under_clouds(light: Light) -> Light:
    """Return a light with the sun taken away and the sky greyed as its weather says."""
    w, values, sky = light.weather, light.values.copy(), light.sky.copy()
    if light.name == "day":
        lost = values[1] * (1.0 - w.sun_ratio)
        values[0] = (values[0] + 0.55 * lost) * w.sky_ratio
        values[1] *= w.sun_ratio
    else:
        values[0] *= 0.5 + 0.5 * w.sky_ratio
    for colour in (sky[0:3], sky[3:6]):
        grey = np.array([0.98, 1.0, 1.03]) * (colour @ (0.3, 0.5, 0.2))
        colour += (grey - colour) * w.grey_ratio
        colour *= w.sky_ratio
    sky[0:3] += (sky[3:6] - sky[0:3]) * 0.7 * w.grey_ratio
    if light.name == "night":  # clouds and fog throw the light of the town back
        sky[0:6] += np.array([10.0, 9.0, 9.0, 14.0, 13.0, 12.0]) * w.grey_ratio
    return Light(name=light.name, values=values, sky=sky, weather=w)


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
    view: View,
    stage: Stage,
    staged: Staged,
    ego: np.ndarray,
    light: Light,
    seed: int,
    *,
    lens_seed: int = 0,
    tick: int = 0,
    speed_mps: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one camera.

    Args:
        ego: x, y, yaw of the ego frame in town.
        seed: of the sensor noise and the rain; one per (episode, tick, camera).
        lens_seed: of what sits on the lens; one per (episode, camera).
        tick, speed_mps: how long drops have sat there, and how fast rain comes.
    Returns:
        rgb uint8 [H, W, 3], depth float32 [H, W] (metres along camera z, inf for sky), ids int32
        [H, W] (actor_id, 0 for ground and sky, -1 for static things).
    """
    town_from_camera = _town_from_ego(ego) @ view.ego_from_camera
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
    if light.weather == CLEAR:
        finish(
            view.lens, view.ego_from_camera, where, ground.lamps,
            np.array(ground.origin_m), light.values, light.sky, seed, view.colour, depth, view.glow,
            out,
        )  # fmt: skip
    else:
        _weather(view, ground, where, light, rot, depth, ids, seed, lens_seed, tick, speed_mps, out)
    return out, depth, ids


def _town_from_ego(ego: np.ndarray) -> np.ndarray:
    c, s = math.cos(ego[2]), math.sin(ego[2])
    return np.array(
        [[c, -s, 0.0, ego[0]], [s, c, 0.0, ego[1]], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    )


def _weather(
    view: View,
    ground: Ground,
    ego: np.ndarray,
    light: Light,
    rot: np.ndarray,
    depth: np.ndarray,
    ids: np.ndarray,
    seed: int,
    lens_seed: int,
    tick: int,
    speed_mps: float,
    out: np.ndarray,
) -> None:
    """Carry the light of a drawn picture through weather, lens and sensor into `out`."""
    w, lens, camera, colour = light.weather, view.lens, view.ego_from_camera, view.colour
    origin = np.array(ground.origin_m)
    if light.name != "day":
        light_up(lens, camera, ego, ground.lamps, origin, light.values, colour, depth, view.glow)
    if w.wet_ratio > 0.0:
        mirrored = np.zeros_like(colour)
        reflect(lens, camera, light.sky, colour, depth, ids, view.glow, mirrored)
        wet_ground(
            view.rays, ego, ground.classes, origin, CELL_M, camera[2, 3], w, np.uint64(seed + 1),
            mirrored, colour, depth, ids,
        )  # fmt: skip
    thicken(lens, camera, rot, view.rays, light.values, light.sky, w, colour, depth, ids)
    if w.rain_ratio > 0.0:
        rain(lens, camera, light.values, w, speed_mps, seed, colour, depth)
    soft, shine = soften(colour, w.bloom_ratio)
    if w.drops_ratio > 0.0:
        drops(soft, w, lens_seed, tick, colour)
    layer = lens_layer(soft, shine, w, lens_seed)
    develop(colour, layer, seed, light.values[6] * w.noise_ratio, out)
