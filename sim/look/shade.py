"""What the pixels between and upon the objects look like: ground, sky, night, haze, noise.

Own work. Compiled without fastmath: two runs give the same bytes.
"""

import math

import numpy as np
from numba import njit


@njit(cache=True)
def headlight(x, y, z):  # type: ignore[no-untyped-def]
    """Return the light of the ego's low beams at a point of the ego frame, 0..1."""
    dx = x - 3.6
    if dx <= 0.0:
        return 0.0
    spread = y / (1.2 + dx * 0.62)
    cone = 1.0 - spread * spread
    if cone <= 0.0:
        return 0.0
    cut = 1.0 if z < 1.1 else max(0.3, 1.0 - (z - 1.1) * 1.2)
    fall = 1.0 / (1.0 + (dx / 17.0) ** 2)
    near = min(1.0, 0.25 + dx / 6.0)
    return cone * cut * fall * near


@njit(cache=True)
def sky_colour(elevation, azimuth, sky):  # type: ignore[no-untyped-def]
    """Return RGB of the sky, or of the ridge at the horizon, in a direction of the town.

    Args:
        sky: zenith RGB, horizon RGB, ridge height and phase, azimuth of the sun, afterglow 0..1.
    """
    ridge = 0.03 * sky[6] * (
        1.0 + math.sin(3.0 * azimuth + sky[7]) + 0.5 * math.sin(11.0 * azimuth + 2.0 * sky[7])
    )  # fmt: skip
    if elevation < max(ridge, 0.004):
        dim = 0.55 if sky[9] <= 0.0 else 0.275  # against the afterglow it is a silhouette
        return sky[3] * dim, sky[4] * dim, sky[5] * dim
    f = math.sqrt(min(elevation, 1.0))
    r = sky[3] + (sky[0] - sky[3]) * f
    g = sky[4] + (sky[1] - sky[4]) * f
    b = sky[5] + (sky[2] - sky[5]) * f
    if sky[9] > 0.0:
        near = 0.5 + 0.5 * math.cos(azimuth - sky[8])
        warm = sky[9] * near * near * (1.0 - f) ** 2
        r += (255.0 - r) * warm
        g += (168.0 - g) * warm * 0.8
        b += (92.0 - b) * warm * 0.6
    return r, g, b


@njit(cache=True, nogil=True)
def fill_rest(
    rays,
    ego,
    texels,
    start,
    heights,
    widths,
    origin,
    cell,
    light,
    sky,
    colour,
    depth,
    glow,
    mask,
):  # type: ignore[no-untyped-def]
    """Give ground or sky to every pixel that no object covers.

    Args:
        rays: float32 [H, W, 4]: ground x, y in the ego frame, depth, mip level; depth 0 for sky,
            where x is the elevation 0..1 and y the azimuth in the ego frame.
        ego: x, y, yaw of the ego frame in town.
        sky: zenith RGB, horizon RGB.
    """
    h, w = depth.shape
    c, s = math.cos(ego[2]), math.sin(ego[2])
    night = light[5] > 0.5
    sun = light[0] + light[1] * max(light[4], 0.0)
    dark = light[0] if not night else 0.7
    if light[10] > 0.5 and not night:  # an overcast sky: only the shadow right under a thing
        dark = 0.68 * sun
    for y in range(h):
        for x in range(w):
            if depth[y, x] < 1e8:
                continue
            z = rays[y, x, 2]
            if z <= 0.0:
                r, g, b = sky_colour(rays[y, x, 0], rays[y, x, 1] + ego[2], sky)
                colour[y, x, 0], colour[y, x, 1], colour[y, x, 2] = r, g, b
                glow[y, x] = 1
                depth[y, x] = np.inf
                continue
            depth[y, x] = z
            glow[y, x] = 0
            gx, gy = rays[y, x, 0], rays[y, x, 1]
            wx, wy = c * gx - s * gy + ego[0], s * gx + c * gy + ego[1]
            level = int(rays[y, x, 3])
            size = cell * (1 << level)
            lh, lw, first = heights[level], widths[level], start[level]
            tx, ty = (wx - origin[0]) / size - 0.5, (wy - origin[1]) / size - 0.5
            tx, ty = min(max(tx, 0.0), lw - 1.001), min(max(ty, 0.0), lh - 1.001)
            ix, iy = int(tx), int(ty)
            ax, ay = tx - ix, ty - iy
            base = first + iy * lw + ix
            shade = 1.0 if night else sun
            if mask[y, x] == 1:
                shade = dark
            elif mask[y, x] > 1:  # in the headlights of another car
                glow[y, x] = mask[y, x]
            w00, w01 = (1.0 - ax) * (1.0 - ay) * shade, ax * (1.0 - ay) * shade
            w10, w11 = (1.0 - ax) * ay * shade, ax * ay * shade
            for k in range(3):
                colour[y, x, k] = (
                    texels[base, k] * w00 + texels[base + 1, k] * w01
                    + texels[base + lw, k] * w10 + texels[base + lw + 1, k] * w11
                )  # fmt: skip


@njit(cache=True)
def noise_state(seed):  # type: ignore[no-untyped-def]
    """Return where the stream of random numbers of one picture begins."""
    return np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x1234567)


@njit(cache=True)
def next_state(state):  # type: ignore[no-untyped-def]
    """Return the stream's next number (Marsaglia, Xorshift RNGs, 2003)."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@njit(cache=True)
def sensor_noise(state, noise):  # type: ignore[no-untyped-def]
    """Return the stream's next state, and the grain and the tint of one pixel."""
    state = next_state(state)
    a = float(state & np.uint64(0xFF)) + float((state >> np.uint64(8)) & np.uint64(0xFF))
    d = float((state >> np.uint64(16)) & np.uint64(0xFF)) - 127.5
    return state, (a - 255.0) / 104.0 * noise, d / 73.6 * noise * 0.5


@njit(cache=True, nogil=True)
def finish(lens, ego_from_camera, ego, lamps, origin, light, sky, seed, colour, depth, glow, out):  # type: ignore[no-untyped-def]
    """Light the night, add haze and sensor noise, and write 8-bit RGB."""
    h, w = depth.shape
    fx, fy, cx, cy = lens[0], lens[1], lens[2], lens[3]
    c, s, m = math.cos(ego[2]), math.sin(ego[2]), ego_from_camera
    night = light[5] > 0.5
    noise = light[6]
    lh, lw = lamps.shape
    state = noise_state(seed)
    for y in range(h):
        for x in range(w):
            z = depth[y, x]
            r, g, b = colour[y, x, 0], colour[y, x, 1], colour[y, x, 2]
            if night and glow[y, x] != 1:
                ux, uy = (x - cx) / fx * z, (y - cy) / fy * z
                ex = m[0, 0] * ux + m[0, 1] * uy + m[0, 2] * z + m[0, 3]
                ey = m[1, 0] * ux + m[1, 1] * uy + m[1, 2] * z + m[1, 3]
                ez = m[2, 0] * ux + m[2, 1] * uy + m[2, 2] * z + m[2, 3]
                beam = headlight(ex, ey, ez) * light[7] + 0.07 * glow[y, x]
                lx = int(c * ex - s * ey + ego[0] - origin[0])
                ly = int(s * ex + c * ey + ego[1] - origin[1])
                lamp = 0.0
                if 0 <= lx < lw and 0 <= ly < lh:
                    lamp = lamps[ly, lx] * light[8] / 255.0 / (1.0 + max(ez - 3.0, 0.0))
                r *= light[0] * light[13] + beam + lamp
                g *= light[0] * light[14] + beam * 0.97 + lamp * 0.82
                b *= light[0] * light[15] + beam * 0.88 + lamp * 0.55
            elif not night and z < 1e8:
                f = z * z / (z * z + light[9])
                r += (sky[3] - r) * f
                g += (sky[4] - g) * f
                b += (sky[5] - b) * f
            state, grain, tint = sensor_noise(state, noise)
            out[y, x, 0] = np.uint8(min(max(r + grain + tint + 0.5, 0.0), 255.0))
            out[y, x, 1] = np.uint8(min(max(g + grain + 0.5, 0.0), 255.0))
            out[y, x, 2] = np.uint8(min(max(b + grain - tint + 0.5, 0.0), 255.0))
