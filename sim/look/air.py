"""What weather does between the world and the lens: wet ground that mirrors, fog, a low sun.

Own work. Kernels work in place on the colour buffer of one camera, after objects, ground and sky
are drawn; depth and ids stay as they are. No fastmath: two runs give the same bytes.
"""

import math

import numpy as np
from numba import njit

from sim.look.raster import hash01
from sim.look.shade import headlight, next_state
from vehicle.contracts.scene import BEV_DRIVABLE

_FOG_DEPTH_M = 70.0
"""How high fog and rain reach: a ray to the sky leaves them above this."""
_LAMP = np.float32(20.0)
"""How much brighter than white a lamp is that shines at the camera."""
_BACKSCATTER_M = 6.0
"""Where drops throw most of the ego's own light back."""


@njit(cache=True, nogil=True)
def light_up(lens, camera, ego, lamps, origin, light, colour, depth, glow):  # type: ignore[no-untyped-def]
    """Light dusk and night: what `sim.look.shade.finish` does, but before the weather."""
    h, w = depth.shape
    fy, cx, cy, per_px = lens[1], lens[2], lens[3], 1.0 / lens[0]
    c, s, m = math.cos(ego[2]), math.sin(ego[2]), camera
    lh, lw = lamps.shape
    for y in range(h):
        ry = (y - cy) / fy
        ax, ay = m[0, 1] * ry + m[0, 2], m[1, 1] * ry + m[1, 2]
        az = m[2, 1] * ry + m[2, 2]
        for x in range(w):
            if glow[y, x] == 1:
                if colour[y, x, 0] > 235.0:  # a lamp is brighter than white: it blooms
                    white = colour[y, x, 1] > 150.0  # a red one blooms red
                    colour[y, x, 0] *= _LAMP
                    colour[y, x, 1] *= _LAMP if white else np.float32(1.5)
                    colour[y, x, 2] *= _LAMP if white else np.float32(1.5)
                continue
            z = depth[y, x]
            rx = (x - cx) * per_px
            ex, ey = (m[0, 0] * rx + ax) * z + m[0, 3], (m[1, 0] * rx + ay) * z + m[1, 3]
            ez = (m[2, 0] * rx + az) * z + m[2, 3]
            beam = headlight(ex, ey, ez) * light[7] + 0.07 * glow[y, x]
            lx = int(c * ex - s * ey + ego[0] - origin[0])
            ly = int(s * ex + c * ey + ego[1] - origin[1])
            lamp = 0.0
            if 0 <= lx < lw and 0 <= ly < lh:
                lamp = lamps[ly, lx] * light[8] / 255.0 / (1.0 + max(ez - 3.0, 0.0))
            colour[y, x, 0] *= light[0] * light[13] + beam + lamp
            colour[y, x, 1] *= light[0] * light[14] + beam * 0.97 + lamp * 0.82
            colour[y, x, 2] *= light[0] * light[15] + beam * 0.88 + lamp * 0.55


@njit(cache=True)
def patches(x, y):  # type: ignore[no-untyped-def]
    """Return smooth repeatable noise 0..1 with features of length 1."""
    ix, iy = math.floor(x), math.floor(y)
    ax, ay = x - ix, y - iy
    ax, ay = ax * ax * (3.0 - 2.0 * ax), ay * ay * (3.0 - 2.0 * ay)
    low = hash01(ix, iy) * (1.0 - ax) + hash01(ix + 1, iy) * ax
    high = hash01(ix, iy + 1) * (1.0 - ax) + hash01(ix + 1, iy + 1) * ax
    return low * (1.0 - ay) + high * ay


@njit(cache=True, nogil=True)
def reflect(lens, camera, sky, colour, depth, who, glow, mirrored):  # type: ignore[no-untyped-def]
    """Fill `mirrored` [H, W, 3] with what each pixel of the ground would mirror.

    Every point of an object is sent to where the ground shows it, the nearest wins; elsewhere the
    ground shows the sky. What lies outside the picture is not mirrored.
    """
    h, w = depth.shape
    fx, fy, cx, cy, per_px = lens[0], lens[1], lens[2], lens[3], 1.0 / lens[0]
    ux, uy, uz, high = camera[2, 0], camera[2, 1], camera[2, 2], camera[2, 3]
    nearest = np.full((h, w), np.float32(1e9))
    for y in range(h):
        ry = (y - cy) / fy
        for x in range(w):
            z = depth[y, x]
            rx = (x - cx) * per_px
            if who[y, x] == 0:
                if z < 1e8 and nearest[y, x] > 1e8:
                    f = -(ux * rx + uy * ry + uz) / math.sqrt(rx * rx + ry * ry + 1.0)
                    f = math.sqrt(min(max(f, 0.0), 1.0))
                    for k in range(3):
                        mirrored[y, x, k] = sky[3 + k] + (sky[k] - sky[3 + k]) * f
                continue
            up = 2.0 * ((ux * rx + uy * ry + uz) * z + high)
            qz = z - up * uz
            if up < 0.04 or qz < 0.2:
                continue
            u = math.floor(fx * (rx * z - up * ux) / qz + cx + 0.5)
            v = math.floor(fy * (ry * z - up * uy) / qz + cy)
            power = 2.2 if glow[y, x] == 1 else 1.0
            for row in range(max(v, 0), min(v + 2, h)):
                if 0 <= u < w and z < nearest[row, u]:
                    nearest[row, u] = z
                    for k in range(3):
                        mirrored[row, u, k] = min(colour[y, x, k] * power, 700.0)


@njit(cache=True)
def _smear(mirrored, depth, who):  # type: ignore[no-untyped-def]
    """Draw reflections out towards the eye, as a rough wet surface does."""
    h, w = depth.shape
    share = np.float32(0.6)
    for y in range(1, h):
        for x in range(w):
            if who[y, x] == 0 and who[y - 1, x] == 0 and depth[y - 1, x] < 1e8:
                for k in range(3):
                    mirrored[y, x, k] += (mirrored[y - 1, x, k] - mirrored[y, x, k]) * share


@njit(cache=True, nogil=True)
def wet_ground(
    rays, ego, classes, origin, cell, eye_m, weather, seed, mirrored, colour, depth, who
):  # type: ignore[no-untyped-def]
    """Darken the ground and lay what it mirrors over it: a film on roads, puddles, less beside.

    Args:
        eye_m: height of the camera.
    """
    h, w = depth.shape
    c, s = math.cos(ego[2]), math.sin(ego[2])
    state, beside = seed, 0.3 * weather.wet_ratio
    road = weather.wet_ratio
    _smear(mirrored, depth, who)
    for y in range(h):
        for x in range(w):
            if who[y, x] != 0 or rays[y, x, 2] <= 0.0:
                continue
            gx, gy = rays[y, x, 0], rays[y, x, 1]
            wx, wy = c * gx - s * gy + ego[0], s * gx + c * gy + ego[1]
            col, row = int((wx - origin[0]) / cell), int((wy - origin[1]) / cell)
            inside = 0 <= row < classes.shape[0] and 0 <= col < classes.shape[1]
            wet = road if inside and classes[row, col] & BEV_DRIVABLE else beside
            away = math.sqrt(gx * gx + gy * gy) + 0.1
            puddle = 0.3
            if away < 25.0 and wet == road:
                puddle = min(max(patches(wx * 0.4, wy * 0.4) * 5.0 - 2.7, 0.0), 1.0)
            steep = 1.0 - eye_m / math.sqrt(away * away + eye_m * eye_m)
            fresnel = 0.03 + 0.97 * steep**5
            share = wet * min(fresnel + 0.05, 1.0) * (0.55 + 0.42 * puddle)
            keep = (1.0 - wet * (0.34 + 0.2 * puddle)) * (1.0 - share)
            row = y
            if weather.rain_ratio > 0.0:  # rings of the drops break the picture up
                state = next_state(state)
                shift = int(state & np.uint64(3)) - 1
                row = min(max(y + shift, 0), h - 1)
                if who[row, x] != 0 or rays[row, x, 2] <= 0.0:
                    row = y
            for k in range(3):
                colour[y, x, k] = colour[y, x, k] * keep + mirrored[row, x, k] * share


@njit(cache=True)
def sun_in_picture(lens, sun, depth):  # type: ignore[no-untyped-def]
    """Return how much of the sun [3] (camera frame) shines into the lens: things hide it."""
    h, w = depth.shape
    if sun[2] <= 0.0:
        return 0.6
    x = math.floor(lens[0] * sun[0] / sun[2] + lens[2] + 0.5)
    y = math.floor(lens[1] * sun[1] / sun[2] + lens[3] + 0.5)
    if not (0 <= x < w and 0 <= y < h):
        return 0.6
    seen, asked = 0, 0
    for row in range(max(y - 2, 0), min(y + 3, h)):
        for column in range(max(x - 2, 0), min(x + 3, w)):
            asked += 1
            seen += depth[row, column] > 1e8
    return 0.3 + 0.7 * seen / asked


@njit(cache=True)
def _glare(c, along, down, lit, amount):  # type: ignore[no-untyped-def]
    """Return light scattered into a ray.

    Args:
        c: cosine to the sun. along: the same seen from above. down: sine below the horizon, for
            the ground only; 0 for sky and -1 for objects.
    """
    light = 0.0
    if c > 0.3:
        c4 = c * c * c * c
        c8 = c4 * c4
        c64 = c8 * c8 * c8 * c8 * c8 * c8 * c8 * c8
        light += lit * (0.2 * c8 + 0.34 * c64)
        if down == 0.0 and c > 0.97:
            c256 = c64 * c64 * c64 * c64
            c4096 = c256 * c256 * c256 * c256
            c4096 = c4096 * c4096 * c4096 * c4096
            light += 0.6 * c256 + 4.0 * c4096
    if down > 0.0 and along > 0.8:  # the path of light on the road, drawn out towards the eye
        a4 = along * along * along * along
        a16 = a4 * a4 * a4 * a4
        a64 = a16 * a16 * a16 * a16
        a512 = a64 * a64 * a64 * a64 * a64 * a64 * a64 * a64
        light += lit * (0.9 * a512 + 0.3 * a64) * math.exp(-4.0 * down)
    return amount * light


@njit(cache=True, nogil=True)
def thicken(lens, camera, rot, rays, light, sky, weather, colour, depth, who):  # type: ignore[no-untyped-def]
    """Lay haze, fog and the glare of a low sun over the picture, and expose it.

    Args:
        rot: camera_from_town, rotation only.
    """
    h, w = depth.shape
    fy, cx, cy, per_px = lens[1], lens[2], lens[3], 1.0 / lens[0]
    thick = weather.extinction_1pm
    night, dusk = light[5] > 0.5, light[12] > 0.5
    sun, flat = np.empty(3), np.empty(3)
    height = math.sin(weather.sun_height_rad)
    wide = math.hypot(light[2], light[3]) + 1e-9
    for k in range(3):
        flat[k] = (rot[k, 0] * light[2] + rot[k, 1] * light[3]) / wide
        sun[k] = flat[k] * wide + rot[k, 2] * height
    glare = weather.glare_ratio * 255.0 if dusk or not night else 0.0
    lit = sun_in_picture(lens, sun, depth)
    m, backscatter = camera, 0.0
    if night and thick > 0.002:
        backscatter = light[7] * (1.0 - math.exp(-thick * 5.0)) * 380.0
    green, blue = (0.66, 0.36) if dusk else (0.93, 0.78)
    for y in range(h):
        ry = (y - cy) / fy
        ax, ay = m[0, 1] * ry + m[0, 2], m[1, 1] * ry + m[1, 2]
        az = m[2, 1] * ry + m[2, 2]
        for x in range(w):
            rx, z = (x - cx) * per_px, depth[y, x]
            norm = math.sqrt(1.0 + rx * rx + ry * ry)
            beyond = not z < 1e8
            path = min(_FOG_DEPTH_M / max(rays[y, x, 0], 0.01), 4e3) if beyond else z * norm
            through = math.exp(np.float32(-thick * path))
            if not (beyond or night):
                through *= light[9] / (z * z + light[9])
            back = 0.0
            if backscatter > 0.0 and m[0, 0] * rx + ax > 0.0:  # the own lights, thrown back
                s = min(_BACKSCATTER_M, path) / norm
                back = backscatter * headlight(
                    m[0, 3] + (m[0, 0] * rx + ax) * s,
                    m[1, 3] + (m[1, 0] * rx + ay) * s,
                    m[2, 3] + (m[2, 0] * rx + az) * s,
                )
            flare = 0.0
            if glare > 0.0:
                c = (rx * sun[0] + ry * sun[1] + sun[2]) / norm
                down, along = 0.0 if beyond else -1.0, 0.0
                if who[y, x] == 0 and not beyond:
                    up = camera[2, 0] * rx + camera[2, 1] * ry + camera[2, 2]
                    along = rx * flat[0] + ry * flat[1] + flat[2]
                    along /= math.sqrt(norm * norm - up * up)
                    down = -up / norm
                flare = _glare(c, along, down, lit, glare)
            for k in range(3):
                tint = 1.0 if k == 0 else (green if k == 1 else blue)
                fog = sky[3 + k] + back
                seen = fog + (colour[y, x, k] - fog) * through
                colour[y, x, k] = (seen + flare * tint) * weather.gain_ratio
