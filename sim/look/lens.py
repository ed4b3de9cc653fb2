"""What weather does at the lens and the sensor: falling rain, drops, dirt, bloom, noise.

Own work. Every random number comes from the stream of the (seed, tick, camera) a picture has;
dirt, and the drops that stay for a while, from the (seed, camera) of the lens.
"""

import math

import numpy as np
from numba import njit

from sim.look.air import patches
from sim.look.raster import hash01
from sim.look.shade import headlight, next_state, noise_state, sensor_noise

_BLOCK = 4
"""Pixels to a cell of the soft picture that blooms, and that drops and dirt show."""
_SHARE, _THIRD = np.float32(1.0 / (_BLOCK * _BLOCK)), np.float32(1.0 / 3.0)
_WHITE, _BRIGHT = np.float32(255.0), np.float32(215.0)
"""A white pixel, and one that begins to bloom."""
_DROP_TICKS = 24


@njit(cache=True)
def _chance(state):  # type: ignore[no-untyped-def]
    """Return the stream's next state and a number 0..1."""
    state = next_state(state)
    return state, float(state >> np.uint64(40)) / 16777216.0


@njit(cache=True, nogil=True)
def rain(lens, camera, light, weather, speed_mps, seed, colour, depth):  # type: ignore[no-untyped-def]
    """Draw falling drops as streaks: they fall, the ego drives into them, the shutter is open."""
    h, w = depth.shape
    fx, fy, cx, cy = lens[0], lens[1], lens[2], lens[3]
    night = light[5] > 0.5
    open_s = 1.0 / 40.0 if night else 1.0 / 70.0
    state = noise_state(seed + 77)
    fall = np.empty(3)
    for k in range(3):  # of the drops in the camera frame: ego x, y, z velocities
        fall[k] = (
            -camera[0, k] * speed_mps + camera[1, k] * weather.wind_mps - camera[2, k] * 7.5
        ) * open_s
    count = int(0.011 * h * w * weather.rain_ratio)
    for _ in range(count):
        state, a = _chance(state)
        state, b = _chance(state)
        state, d = _chance(state)
        z = 1.0 + 11.0 * d * d
        x0, y0 = a * (w + 40) - 20, b * (h + 40) - 30
        px, py = (x0 - cx) / fx * z, (y0 - cy) / fy * z
        z1 = z + fall[2]
        if z1 < 0.4:
            continue
        x1, y1 = fx * (px + fall[0]) / z1 + cx, fy * (py + fall[1]) / z1 + cy
        bright, strong = 0.8 * light[0] * 255.0 + 40.0, 0.1 + 0.26 / z
        if night:
            m = camera
            ex = m[0, 0] * px + m[0, 1] * py + m[0, 2] * z + m[0, 3]
            ey = m[1, 0] * px + m[1, 1] * py + m[1, 2] * z + m[1, 3]
            ez = m[2, 0] * px + m[2, 1] * py + m[2, 2] * z + m[2, 3]
            bright = 225.0 * light[0] + 250.0 * min(headlight(ex, ey, ez) * light[7], 1.0) + 14.0
        _streak(x0, y0, x1, y1, z, bright * weather.gain_ratio, strong, colour, depth)


@njit(cache=True)
def _streak(x0, y0, x1, y1, z, bright, strong, colour, depth):  # type: ignore[no-untyped-def]
    """Blend a line one pixel wide over everything farther than z."""
    h, w = depth.shape
    steps = int(max(abs(x1 - x0), abs(y1 - y0))) + 1
    if steps > 60:
        return
    along_x = abs(x1 - x0) > abs(y1 - y0)
    for i in range(steps + 1):
        t = i / steps
        x, y = x0 + (x1 - x0) * t, y0 + (y1 - y0) * t
        share = strong * (0.4 + 0.6 * math.sin(3.14159 * t))
        ix, iy = math.floor(x), math.floor(y)
        part = y - iy if along_x else x - ix
        for side in range(2):
            u, v = (ix, iy + side) if along_x else (ix + side, iy)
            if 0 <= u < w and 0 <= v < h and depth[v, u] > z:
                amount = share * (part if side else 1.0 - part)
                for k in range(3):
                    colour[v, u, k] += (bright - colour[v, u, k]) * amount


@njit(cache=True, nogil=True)
def soften(colour, bloom):  # type: ignore[no-untyped-def]
    """Return two small pictures [H/4 + 1, W/4 + 1, 3]: out of focus, and what shines too bright."""
    h, w = colour.shape[:2]
    soft = np.zeros(((h - 1) // _BLOCK + 1, (w - 1) // _BLOCK + 1, 3), np.float32)
    shine = np.zeros_like(soft)
    for j in range(soft.shape[0]):
        for i in range(soft.shape[1]):
            for y in range(j * _BLOCK, min((j + 1) * _BLOCK, h)):
                for x in range(i * _BLOCK, min((i + 1) * _BLOCK, w)):
                    r, g, b = colour[y, x, 0], colour[y, x, 1], colour[y, x, 2]
                    grey = (r + g + b) * _THIRD
                    over = max(grey - _BRIGHT, np.float32(0.0)) / max(grey, _BRIGHT) * _SHARE
                    for k in range(3):
                        soft[j, i, k] += min(colour[y, x, k], _WHITE) * _SHARE
                        shine[j, i, k] += colour[y, x, k] * over
    _blur(soft, 0.35, 1)
    if bloom > 0.0:
        _blur(shine, 0.6, 2)
    return soft, shine


@njit(cache=True)
def _blur(cells, share, times):  # type: ignore[no-untyped-def]
    """Blur in place, right, left, down and up, each cell mixed with the one before."""
    h, w = cells.shape[:2]
    share = np.float32(share)
    for _ in range(times):
        for y in range(h):
            for x in range(1, w):
                for k in range(3):
                    cells[y, x, k] += (cells[y, x - 1, k] - cells[y, x, k]) * share
            for x in range(w - 2, -1, -1):
                for k in range(3):
                    cells[y, x, k] += (cells[y, x + 1, k] - cells[y, x, k]) * share
        for y in range(1, h):
            for x in range(w):
                for k in range(3):
                    cells[y, x, k] += (cells[y - 1, x, k] - cells[y, x, k]) * share
        for y in range(h - 2, -1, -1):
            for x in range(w):
                for k in range(3):
                    cells[y, x, k] += (cells[y + 1, x, k] - cells[y, x, k]) * share


@njit(cache=True, nogil=True)
def drops(soft, weather, lens_seed, tick, colour):  # type: ignore[no-untyped-def]
    """Put water drops on the lens: each shows the picture upside down, stays a while and slides."""
    h, w = colour.shape[:2]
    for k in range(int(weather.drops_ratio * 16.0 + 0.5)):
        born = (tick + int(hash01(lens_seed, 911 + k) * _DROP_TICKS)) // _DROP_TICKS
        age = (tick + int(hash01(lens_seed, 911 + k) * _DROP_TICKS)) % _DROP_TICKS
        key = k * 131 + born * 8_191
        radius = w / 256.0 * (2.2 + 7.0 * hash01(lens_seed + 1, key) ** 3)
        x0 = hash01(lens_seed + 2, key) * w
        y0 = hash01(lens_seed + 3, key) * h + radius * age / _DROP_TICKS
        for y in range(max(int(y0 - radius), 0), min(int(y0 + radius) + 2, h)):
            for x in range(max(int(x0 - radius), 0), min(int(x0 + radius) + 2, w)):
                dx, dy = (x - x0) / radius, (y - y0) / radius * 0.9
                off = dx * dx + dy * dy
                if off >= 1.0:
                    continue
                amount = min((1.0 - off) * 3.0, 1.0) * 0.85
                u = int(min(max(x0 - dx * radius * 3.0, 0.0), w - 1.0)) // _BLOCK
                v = int(min(max(y0 - dy * radius * 4.0, 0.0), h - 1.0)) // _BLOCK
                edge = 1.12 - 0.4 * off - 0.15 * dy
                for c in range(3):
                    colour[y, x, c] += (soft[v, u, c] * edge - colour[y, x, c]) * amount


@njit(cache=True, nogil=True)
def lens_layer(soft, shine, weather, lens_seed):  # type: ignore[no-untyped-def]
    """Return [h, w, 4]: light to add, and the share of the picture that comes through."""
    h, w = soft.shape[:2]
    layer = np.empty((h, w, 4), np.float32)
    mean = 0.0
    for y in range(h):
        for x in range(w):
            mean += soft[y, x, 1] / (h * w)
    shift = hash01(lens_seed, 5) * 1000.0
    for y in range(h):
        for x in range(w):
            dirt = 0.0
            if weather.dirt_ratio > 0.0:
                wide = patches(x * 6.0 / w + shift, y * 4.0 / w * 2.0)
                fine = patches(x * 26.0 / w + shift, y * 14.0 / w * 2.0 + 50.0)
                smear = min(max((0.65 * wide + 0.35 * fine) * 3.4 - 1.5, 0.0), 1.0)
                speck = hash01(lens_seed + 9 + x, y) < 0.012
                dirt = min(smear * 0.75 + 0.75 * speck, 0.9) * weather.dirt_ratio
            layer[y, x, 3] = 1.0 - dirt
            for k in range(3):
                brown = 1.0 - 0.08 * k
                through = soft[y, x, k] * 0.5 + mean * 0.16
                bloom = 6.0 * weather.bloom_ratio * shine[y, x, k]
                layer[y, x, k] = dirt * through * brown + 110.0 * bloom / (110.0 + bloom)
    return layer


@njit(cache=True, nogil=True)
def develop(colour, layer, seed, noise, out):  # type: ignore[no-untyped-def]
    """Lay the lens over the picture, add the sensor's noise and write 8-bit RGB."""
    h, w = colour.shape[:2]
    lh, lw = layer.shape[:2]
    row = np.empty((lw, 4))
    state = noise_state(seed)
    for y in range(h):
        ty = min(max((y + 0.5) / _BLOCK - 0.5, 0.0), lh - 1.001)
        iy = int(ty)
        ay = ty - iy
        for i in range(lw):
            for k in range(4):
                row[i, k] = layer[iy, i, k] * (1.0 - ay) + layer[iy + 1, i, k] * ay
        for x in range(w):
            tx = min(max((x + 0.5) / _BLOCK - 0.5, 0.0), lw - 1.001)
            ix = int(tx)
            ax = tx - ix
            keep = row[ix, 3] * (1.0 - ax) + row[ix + 1, 3] * ax
            state, grain, tint = sensor_noise(state, noise)
            for k in range(3):
                add = row[ix, k] * (1.0 - ax) + row[ix + 1, k] * ax
                v = colour[y, x, k] * keep + add + grain + tint * (1 - k)
                out[y, x, k] = np.uint8(min(max(v + 0.5, 0.0), 255.0))
