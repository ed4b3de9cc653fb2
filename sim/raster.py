"""The compiled core of the renderer: quads, shadows, ground and sky of one camera, in one pass.

Depth of a flat face is linear in 1/z over the image, so a face costs one plane per quad and one
multiply-add per pixel. No fastmath anywhere: two runs give the same bytes.
"""

import math

import numpy as np
from numba import njit

NEAR_M = 0.12
_FACADE, _TAIL, _HEAD, _LAMP, _LEAVES = 1, 2, 3, 4, 5


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


@njit(cache=True)
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
    frame,
    colour,
    depth,
    who,
    glow,
):  # type: ignore[no-untyped-def]
    """Draw objects of one mesh into the buffers of one camera.

    Args:
        rot, move: camera_from_town. eye: camera position in town.
        lens: fx, fy, cx, cy, width, height.
        light: ambient, direct, sun x y z, night (0 or 1).
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
    y0, y1 = max(int(math.ceil(top)), 0), min(int(math.floor(bottom)), height - 1)
    if y0 > y1:
        return
    # 1/z = (n . ray) / (n . p) with everything in the camera frame; n . p = -facing.
    ca = -(rot[0, 0] * nx + rot[0, 1] * ny + rot[0, 2] * nz) / facing / fx
    cb = -(rot[1, 0] * nx + rot[1, 1] * ny + rot[1, 2] * nz) / facing / fy
    cc = -(rot[2, 0] * nx + rot[2, 1] * ny + rot[2, 2] * nz) / facing - ca * cx - cb * cy
    night = light[5] > 0.5
    if night:
        shade = 0.5 + 0.5 * max(0.0, facing / math.sqrt(
            (eye[0] - anchor[0]) ** 2 + (eye[1] - anchor[1]) ** 2 + (eye[2] - anchor[2]) ** 2
        ))  # fmt: skip
    else:
        shade = light[0] + light[1] * max(0.0, nx * light[2] + ny * light[3] + nz * light[4])
    shine = np.uint8(0)
    gain = 1.0
    if material == _TAIL:
        gain = paint[0] / 150.0  # brake lights are painted brighter than 150
        shine = np.uint8(1) if night or gain > 1.2 else np.uint8(0)
    elif (material == _HEAD or material == _LAMP) and night:
        shine = np.uint8(1)
    cr, cg, cblue = paint[0], paint[1], paint[2]
    if shine == 0:
        cr, cg, cblue = cr * shade, cg * shade, cblue * shade
    wall = material == _FACADE
    leaf = material == _LEAVES
    for y in range(y0, y1 + 1):
        low, high = row_span(px, py, n, y)
        if low > high:
            continue
        x0, x1 = max(int(math.ceil(low)), 0), min(int(math.ceil(high)) - 1, width - 1)
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
            if wall or leaf:
                ux, uy = (x - cx) / fx * z, (y - cy) / fy * z
                wx = rot[0, 0] * ux + rot[1, 0] * uy + rot[2, 0] * z + eye[0]
                wy = rot[0, 1] * ux + rot[1, 1] * uy + rot[2, 1] * z + eye[1]
                wz = rot[0, 2] * ux + rot[1, 2] * uy + rot[2, 2] * z + eye[2]
                if wall:
                    along = (wx - anchor[0]) * -ny + (wy - anchor[1]) * nx
                    f, lit, glass = facade(along, wz, z, paint, night)
                    if lit:
                        glow[y, x] = 1
                        colour[y, x, 0], colour[y, x, 1], colour[y, x, 2] = 210.0, 168.0, 96.0
                        continue
                    if glass:
                        colour[y, x, 0] = 52.0 * shade
                        colour[y, x, 1] = 62.0 * shade
                        colour[y, x, 2] = 74.0 * shade
                        continue
                else:
                    f = 0.72 + 0.5 * hash01(
                        int(math.floor(wx * 4.0)) * 7919 + int(math.floor(wz * 4.0)),
                        int(math.floor(wy * 4.0)),
                    )
                colour[y, x, 0], colour[y, x, 1], colour[y, x, 2] = cr * f, cg * f, cblue * f
            else:
                colour[y, x, 0], colour[y, x, 1], colour[y, x, 2] = cr, cg, cblue


@njit(cache=True)
def facade(along, up, z, paint, night):  # type: ignore[no-untyped-def]
    """Return brightness, lit window, dark window of a wall at `along`, `up` metres."""
    column, floor = math.floor(along / 2.6), math.floor((up - 0.6) / 3.2)
    u, v = along / 2.6 - column, (up - 0.6) / 3.2 - floor
    if 0.25 < u < 0.75 and 0.28 < v < 0.78 and floor >= 0:
        lit = night and hash01(int(column) + 50_000, int(floor) * 131 + int(paint[0] * 8)) < 0.28
        return 1.0, lit, not lit
    if up < 0.6:
        return 0.75, False, False
    return 0.9 if v < 0.08 else 1.0, False, False


@njit(cache=True)
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
        for y in range(max(int(math.ceil(top)), 0), min(int(math.floor(bottom)), height - 1) + 1):
            low, high = row_span(px, py, n, y)
            if low <= high:
                x0, x1 = max(int(math.ceil(low)), 0), min(int(math.ceil(high)) - 1, width - 1)
                for x in range(x0, x1 + 1):
                    mask[y, x] = max(mask[y, x], value)


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
def fill_rest(
    rays,
    place,
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
    who,
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
    for y in range(h):
        for x in range(w):
            if depth[y, x] < 1e8:
                continue
            z = rays[y, x, 2]
            if z <= 0.0:
                e = rays[y, x, 0]
                ridge = 0.03 * sky[6] * (
                    1.0 + math.sin(3.0 * (rays[y, x, 1] + ego[2]) + sky[7])
                    + 0.5 * math.sin(11.0 * (rays[y, x, 1] + ego[2]) + 2.0 * sky[7])
                )  # fmt: skip
                if e < ridge:
                    for k in range(3):
                        colour[y, x, k] = sky[3 + k] * 0.55
                else:
                    f = math.sqrt(min(e, 1.0))
                    for k in range(3):
                        colour[y, x, k] = sky[3 + k] + (sky[k] - sky[3 + k]) * f
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
            shade = sun
            if night:
                shade = 1.0
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
def finish(
    rays, lens, ego_from_camera, ego, lamps, origin, light, sky, seed, colour, depth, glow, out
):  # type: ignore[no-untyped-def]
    """Light the night, add haze and sensor noise, and write 8-bit RGB."""
    h, w = depth.shape
    fx, fy, cx, cy = lens[0], lens[1], lens[2], lens[3]
    c, s = math.cos(ego[2]), math.sin(ego[2])
    night = light[5] > 0.5
    noise = light[6]
    lh, lw = lamps.shape
    state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x1234567)
    for y in range(h):
        for x in range(w):
            z = depth[y, x]
            r, g, b = colour[y, x, 0], colour[y, x, 1], colour[y, x, 2]
            if night and glow[y, x] != 1:
                ux, uy = (x - cx) / fx * z, (y - cy) / fy * z
                m = ego_from_camera
                ex = m[0, 0] * ux + m[0, 1] * uy + m[0, 2] * z + m[0, 3]
                ey = m[1, 0] * ux + m[1, 1] * uy + m[1, 2] * z + m[1, 3]
                ez = m[2, 0] * ux + m[2, 1] * uy + m[2, 2] * z + m[2, 3]
                beam = headlight(ex, ey, ez) * light[7] + 0.07 * glow[y, x]
                lx = int(c * ex - s * ey + ego[0] - origin[0])
                ly = int(s * ex + c * ey + ego[1] - origin[1])
                lamp = 0.0
                if 0 <= lx < lw and 0 <= ly < lh:
                    lamp = lamps[ly, lx] * light[8] / 255.0 / (1.0 + max(ez - 3.0, 0.0))
                r *= light[0] * 0.9 + beam + lamp
                g *= light[0] * 0.95 + beam * 0.97 + lamp * 0.82
                b *= light[0] * 1.25 + beam * 0.88 + lamp * 0.55
            elif not night and z < 1e8:
                f = z * z / (z * z + light[9])
                r += (sky[3] - r) * f
                g += (sky[4] - g) * f
                b += (sky[5] - b) * f
            state ^= state << np.uint64(13)
            state ^= state >> np.uint64(7)
            state ^= state << np.uint64(17)
            a = float(state & np.uint64(0xFF)) + float((state >> np.uint64(8)) & np.uint64(0xFF))
            d = float((state >> np.uint64(16)) & np.uint64(0xFF)) - 127.5
            grain = (a - 255.0) / 104.0 * noise
            tint = d / 73.6 * noise * 0.5
            out[y, x, 0] = np.uint8(min(max(r + grain + tint + 0.5, 0.0), 255.0))
            out[y, x, 1] = np.uint8(min(max(g + grain + 0.5, 0.0), 255.0))
            out[y, x, 2] = np.uint8(min(max(b + grain - tint + 0.5, 0.0), 255.0))
