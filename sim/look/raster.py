"""The compiled core of the renderer: quads, shadows, ground and sky of one camera, in one pass.

Depth of a flat face is linear in 1/z over the image, so a face costs one plane per quad and one
multiply-add per pixel. No fastmath anywhere: two runs give the same bytes.
"""

import math

import numpy as np
from numba import njit

NEAR_M = 0.12
_FACADE, _TAIL, _HEAD, _LAMP, _LEAVES, _BEACON = 1, 2, 3, 4, 5, 6


@njit(cache=True)
def hash01(a, b):  # type: ignore[no-untyped-def]
    """Return a repeatable number in 0..1 of two integers."""
    h = (np.uint64(a) * np.uint64(0x9E3779B97F4A7C15)) ^ (
        np.uint64(b) * np.uint64(0xC2B2AE3D27D4EB4F)
    )
    h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(32)
    return (h & np.uint64(0xFFFFFF)) / 16777216.0


@njit(cache=True)
def clip_near(quad, rot, move, out):  # type: ignore[no-untyped-def]
    """Move a quad [4, 3] into the camera and cut it at the near plane; return vertices kept."""
    cam = np.empty((4, 3))
    for v in range(4):
        for k in range(3):
            cam[v, k] = (
                rot[k, 0] * quad[v, 0] + rot[k, 1] * quad[v, 1] + rot[k, 2] * quad[v, 2] + move[k]
            )
    n = 0
    for v in range(4):
        w = (v + 1) % 4
        za, zb = cam[v, 2], cam[w, 2]
        if za >= NEAR_M:
            for k in range(3):
                out[n, k] = cam[v, k]
            n += 1
        if (za >= NEAR_M) != (zb >= NEAR_M):
            t = (NEAR_M - za) / (zb - za)
            for k in range(3):
                out[n, k] = cam[v, k] + t * (cam[w, k] - cam[v, k])
            n += 1
    return n


@njit(cache=True)
def row_span(px, py, n, y):  # type: ignore[no-untyped-def]
    """Return where a convex polygon crosses image row `y`."""
    low, high = 1e18, -1e18
    for v in range(n):
        w = v + 1 if v + 1 < n else 0
        a, b = v, w
        if py[a] > py[b]:
            a, b = b, a
        if py[a] <= y < py[b]:
            x = px[a] + (y - py[a]) / (py[b] - py[a]) * (px[b] - px[a])
            low, high = min(low, x), max(high, x)
    return low, high


@njit(cache=True, nogil=True)
def draw_mesh(
    quads,
    normals,
    colours,
    material,
    first,
    spheres,
    ids,
    rot,
    move,
    eye,
    lens,
    light,
    colour,
    depth,
    who,
    glow,
):  # type: ignore[no-untyped-def]
    """Draw objects of one mesh into the buffers of one camera.

    Args:
        rot, move: camera_from_town. eye: camera position in town.
        lens: fx, fy, cx, cy, width, height.
        light: see sim.look.staging.Light.
    """
    fx, fy, cx, cy = lens[0], lens[1], lens[2], lens[3]
    width, height = int(lens[4]), int(lens[5])
    side_x = math.hypot(1.0, max(cx + 0.5, width - cx) / fx)
    side_y = math.hypot(1.0, max(cy + 0.5, height - cy) / fy)
    tan_x, tan_y = max(cx + 0.5, width - cx) / fx, max(cy + 0.5, height - cy) / fy
    poly = np.empty((8, 3))
    px, py = np.empty(8), np.empty(8)
    for o in range(len(first) - 1):
        sx, sy, sz, r = spheres[o, 0], spheres[o, 1], spheres[o, 2], spheres[o, 3]
        z = rot[2, 0] * sx + rot[2, 1] * sy + rot[2, 2] * sz + move[2]
        if z + r < NEAR_M or z - r > 170.0:
            continue
        x = rot[0, 0] * sx + rot[0, 1] * sy + rot[0, 2] * sz + move[0]
        y = rot[1, 0] * sx + rot[1, 1] * sy + rot[1, 2] * sz + move[1]
        if abs(x) - z * tan_x > r * side_x or abs(y) - z * tan_y > r * side_y:
            continue
        for q in range(first[o], first[o + 1]):
            nx, ny, nz = normals[q, 0], normals[q, 1], normals[q, 2]
            facing = (
                nx * (eye[0] - quads[q, 0, 0])
                + ny * (eye[1] - quads[q, 0, 1])
                + nz * (eye[2] - quads[q, 0, 2])
            )
            if facing <= 0.0:
                continue
            n = clip_near(quads[q], rot, move, poly)
            if n < 3:
                continue
            draw_face(
                poly, n, px, py, quads[q, 0], nx, ny, nz, facing, colours[q], material[q], ids[o],
                rot, eye, lens, light, colour, depth, who, glow,
            )  # fmt: skip


@njit(cache=True)
def draw_face(
    poly,
    n,
    px,
    py,
    anchor,
    nx,
    ny,
    nz,
    facing,
    paint,
    material,
    owner,
    rot,
    eye,
    lens,
    light,
    colour,
    depth,
    who,
    glow,
):  # type: ignore[no-untyped-def]
    """Fill one clipped face [n, 3] (camera frame) where nothing nearer is."""
    fx, fy, cx, cy = lens[0], lens[1], lens[2], lens[3]
    width, height = int(lens[4]), int(lens[5])
    top, bottom = 1e18, -1e18
    for v in range(n):
        px[v] = fx * poly[v, 0] / poly[v, 2] + cx
        py[v] = fy * poly[v, 1] / poly[v, 2] + cy
        top, bottom = min(top, py[v]), max(bottom, py[v])
    y0, y1 = max(math.ceil(top), 0), min(math.floor(bottom), height - 1)
    if y0 > y1:
        return
    # 1/z = (n . ray) / (n . p) with everything in the camera frame; n . p = -facing.
    ca = -(rot[0, 0] * nx + rot[0, 1] * ny + rot[0, 2] * nz) / facing / fx
    cb = -(rot[1, 0] * nx + rot[1, 1] * ny + rot[1, 2] * nz) / facing / fy
    cc = -(rot[2, 0] * nx + rot[2, 1] * ny + rot[2, 2] * nz) / facing - ca * cx - cb * cy
    night = light[5] > 0.5
    away = math.sqrt(
        (eye[0] - anchor[0]) ** 2 + (eye[1] - anchor[1]) ** 2 + (eye[2] - anchor[2]) ** 2
    )
    shade, shine = face_light(material, paint, nx, ny, nz, facing / away, light)
    lit = 1.0 if shine == 1 else shade
    cr, cg, cblue = paint[0] * lit, paint[1] * lit, paint[2] * lit
    plain = material not in (_FACADE, _LEAVES)
    for y in range(y0, y1 + 1):
        low, high = row_span(px, py, n, y)
        if low > high:
            continue
        x0, x1 = max(math.ceil(low), 0), min(math.ceil(high) - 1, width - 1)
        for x in range(x0, x1 + 1):
            inverse = ca * x + cb * y + cc
            if inverse <= 0.0:
                continue
            z = 1.0 / inverse
            if z >= depth[y, x]:
                continue
            depth[y, x] = z
            who[y, x] = owner
            glow[y, x] = shine
            if plain:
                colour[y, x, 0], colour[y, x, 1], colour[y, x, 2] = cr, cg, cblue
                continue
            ux, uy = (x - cx) / fx * z, (y - cy) / fy * z
            wx = rot[0, 0] * ux + rot[1, 0] * uy + rot[2, 0] * z + eye[0]
            wy = rot[0, 1] * ux + rot[1, 1] * uy + rot[2, 1] * z + eye[1]
            wz = rot[0, 2] * ux + rot[1, 2] * uy + rot[2, 2] * z + eye[2]
            if material == _LEAVES:
                f, window = leaves(wx, wy, wz), 0
            else:
                along = (wx - anchor[0]) * -ny + (wy - anchor[1]) * nx
                f, window = facade(along, wz, paint, night)
            if window == 2:
                glow[y, x] = 1
                colour[y, x, 0], colour[y, x, 1], colour[y, x, 2] = 210.0, 168.0, 96.0
            elif window == 1:
                colour[y, x, 0], colour[y, x, 1] = 52.0 * shade, 62.0 * shade
                colour[y, x, 2] = 74.0 * shade
            else:
                colour[y, x, 0], colour[y, x, 1], colour[y, x, 2] = cr * f, cg * f, cblue * f


@njit(cache=True)
def face_light(material, paint, nx, ny, nz, towards, light):  # type: ignore[no-untyped-def]
    """Return how bright a face is, and 1 if it shines by itself.

    `towards` is the cosine between the face's normal and the camera. Brake lights are painted
    brighter than 150 and shine by day too.
    """
    night, lamps_on = light[5] > 0.5, light[11] > 0.5
    shine = np.uint8(0)
    if material == _TAIL:
        shine = np.uint8(1) if lamps_on or paint[0] > 180.0 else np.uint8(0)
    elif material == _HEAD:
        shine = np.uint8(1) if night or (lamps_on and paint[0] > 245.0) else np.uint8(0)
    elif material == _LAMP and night:
        shine = np.uint8(1)
    elif material == _BEACON:
        shine = np.uint8(1) if paint[2] > 200.0 else np.uint8(0)
    if light[12] > 0.5:  # dusk: the bright quarter of the sky, and the rest of it from above
        return 0.55 + 0.3 * max(0.0, nx * light[2] + ny * light[3]) + 0.2 * nz, shine
    if night:
        return 0.5 + 0.5 * max(0.0, towards), shine
    return light[0] + light[1] * max(0.0, nx * light[2] + ny * light[3] + nz * light[4]), shine


@njit(cache=True)
def leaves(x, y, z):  # type: ignore[no-untyped-def]
    """Return the brightness of a clump of leaves, 0.25 m large."""
    return 0.72 + 0.5 * hash01(
        math.floor(x * 4.0) * 7919 + math.floor(z * 4.0), math.floor(y * 4.0)
    )


@njit(cache=True)
def facade(along, up, paint, night):  # type: ignore[no-untyped-def]
    """Return brightness of a wall at `along`, `up` metres, and 1 for a dark window, 2 for a lit."""
    column, floor = math.floor(along / 2.6), math.floor((up - 0.6) / 3.2)
    u, v = along / 2.6 - column, (up - 0.6) / 3.2 - floor
    if 0.25 < u < 0.75 and 0.28 < v < 0.78 and floor >= 0:
        lit = night and hash01(int(column) + 50_000, int(floor) * 131 + int(paint[0] * 8)) < 0.28
        return 1.0, 2 if lit else 1
    if up < 0.6:
        return 0.75, 0
    return 0.9 if v < 0.08 else 1.0, 0


@njit(cache=True, nogil=True)
def draw_shadows(quads, rot, move, lens, value, mask):  # type: ignore[no-untyped-def]
    """Raise `mask` to `value` under ground quads [Q, 4, 3] (town frame, convex)."""
    fx, fy, cx, cy = lens[0], lens[1], lens[2], lens[3]
    width, height = int(lens[4]), int(lens[5])
    poly = np.empty((8, 3))
    px, py = np.empty(8), np.empty(8)
    for q in range(len(quads)):
        n = clip_near(quads[q], rot, move, poly)
        if n < 3:
            continue
        top, bottom = 1e18, -1e18
        for v in range(n):
            px[v] = fx * poly[v, 0] / poly[v, 2] + cx
            py[v] = fy * poly[v, 1] / poly[v, 2] + cy
            top, bottom = min(top, py[v]), max(bottom, py[v])
        for y in range(max(math.ceil(top), 0), min(math.floor(bottom), height - 1) + 1):
            low, high = row_span(px, py, n, y)
            if low <= high:
                x0, x1 = max(math.ceil(low), 0), min(math.ceil(high) - 1, width - 1)
                for x in range(x0, x1 + 1):
                    mask[y, x] = max(mask[y, x], value)
