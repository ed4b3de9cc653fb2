"""How actors move, compiled: IDM along lanes, one road at a time through a junction, people.

Source: Treiber, Hennecke, Helbing, "Congested traffic states in empirical observations and
microscopic simulations" (2000), eq. 3 (IDM).
"""

import math

import numpy as np
from numba import njit

from sim.lanes import lane_pose

_LOOK_STEP_M = 1.5
_HOLD_S = 7.0


@njit(cache=True)
def idm_accel(speed, wish, gap, closing):  # type: ignore[no-untyped-def]
    """Return the IDM acceleration: a 1.8, b 2.5 m/s2, T 1.2 s, s0 2.0 m, exponent 4."""
    free = 1.0 - (speed / max(wish, 0.1)) ** 4
    need = 2.0 + max(0.0, speed * 1.2 + speed * closing / (2.0 * math.sqrt(1.8 * 2.5)))
    a = 1.8 * (free - (need / max(gap, 0.1)) ** 2)
    return min(max(a, -8.0), 1.8)


@njit(cache=True)
def extent(yaw, length, width):  # type: ignore[no-untyped-def]
    """Return half the size of a box along and across a direction it is turned by `yaw` from."""
    c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
    return (c * length + s * width) / 2.0, (s * length + c * width) / 2.0


@njit(cache=True)
def gap_on_path(path, n, length, width, ox, oy, oyaw, olength, owidth):  # type: ignore[no-untyped-def]
    """Return the free metres to an obstacle on a path [n, 3] of x, y, yaw from the own centre,
    1e9 if it is not in the way. Path points are `_LOOK_STEP_M` apart."""
    best, k = 1e18, -1
    for i in range(n):
        d = (path[i, 0] - ox) ** 2 + (path[i, 1] - oy) ** 2
        if d < best:
            best, k = d, i
    c, s = math.cos(path[k, 2]), math.sin(path[k, 2])
    dx, dy = ox - path[k, 0], oy - path[k, 1]
    along, across = c * dx + s * dy, -s * dx + c * dy
    half_l, half_w = extent(oyaw - path[k, 2], olength, owidth)
    if abs(across) > half_w + width / 2.0 + 0.25:
        return 1e9
    ahead = k * _LOOK_STEP_M + along
    if ahead <= 0.3 or abs(along) > half_l + 2.0:
        return 1e9
    return ahead - half_l - length / 2.0


@njit(cache=True)
def lane_path(points, yaw, start, length, lane, s, next1, next2, reach, out):  # type: ignore[no-untyped-def]
    """Fill `out` [N, 3] with poses ahead along up to three lanes; return how many."""
    n, at = 0, s
    hops = 0
    while n < len(out) and n * _LOOK_STEP_M <= reach:
        while at > length[lane]:
            following = next1 if hops == 0 else (next2 if hops == 1 else -1)
            if following < 0:
                return n
            at -= length[lane]
            lane = following
            hops += 1
        out[n, 0], out[n, 1], out[n, 2] = lane_pose(points, yaw, start, length, lane, at)
        n += 1
        at += _LOOK_STEP_M
    return n


@njit(cache=True)
def nearest_gap(path, n, length, width, speed, me, actors, ego):  # type: ignore[no-untyped-def]
    """Return the gap and the closing speed to the first obstacle on a path.

    `me` is the own row, -1 for the ego (which then does not see itself).
    """
    gap, closing = 1e9, 0.0
    x, y = path[0, 0], path[0, 1]
    reach = n * _LOOK_STEP_M + 8.0
    for j in range(len(actors)):
        other = actors[j]
        if j == me or abs(other.x_m - x) > reach or abs(other.y_m - y) > reach:
            continue
        g = gap_on_path(
            path, n, length, width, other.x_m, other.y_m, other.yaw_rad, other.length_m,
            other.width_m,
        )  # fmt: skip
        if g < gap:
            gap = g
            closing = speed - other.speed_mps * math.cos(other.yaw_rad - path[0, 2])
    if me >= 0:
        g = gap_on_path(path, n, length, width, ego[0], ego[1], ego[2], ego[4], ego[5])
        if g < gap:
            gap = g
            closing = speed - ego[3] * math.cos(ego[2] - path[0, 2])
    return gap, closing


@njit(cache=True)
def grant_junctions(
    actors, ego, ego_approach, dt, length, junction, end_junction, approach, centres, locks
):  # type: ignore[no-untyped-def]
    """Update `locks` [J, 3]: approach that may enter (-1 none), seconds held, cars inside."""
    n = len(centres)
    wants = np.full(n, -1, np.int64)
    nearest = np.full(n, 1e9)
    for j in range(n):
        locks[j, 2] = 0.0
        near = math.hypot(ego[0] - centres[j, 0], ego[1] - centres[j, 1])
        if near < 9.0:
            locks[j, 2] += 1.0
        if near < 26.0 and ego_approach >= 0:
            dx, dy = centres[j, 0] - ego[0], centres[j, 1] - ego[1]
            if dx * math.cos(ego[2]) + dy * math.sin(ego[2]) > -4.0:
                wants[j], nearest[j] = ego_approach, 0.0
    for i in range(len(actors)):
        car = actors[i]
        if car.moving == 0:
            continue
        j = junction[car.lane]
        if j >= 0:
            locks[j, 2] += 1.0
            continue
        j = end_junction[car.lane]
        left = length[car.lane] - car.s_m
        held = locks[j, 0] == approach[car.lane] and locks[j, 1] > _HOLD_S
        if left < 18.0 and left < nearest[j] and not held:
            nearest[j], wants[j] = left, approach[car.lane]
    for j in range(n):
        locks[j, 1] += dt
        waiting = wants[j] >= 0 and wants[j] != locks[j, 0]
        if locks[j, 2] == 0.0 and (locks[j, 0] < 0 or waiting):
            locks[j, 0], locks[j, 1] = wants[j], 0.0
        elif locks[j, 0] >= 0 and not waiting and locks[j, 1] > _HOLD_S:
            locks[j, 1] = 0.0


@njit(cache=True)
def step_cars(
    actors,
    ego,
    ego_approach,
    dt,
    points,
    yaw,
    start,
    length,
    successors,
    speed,
    junction,
    end_junction,
    approach,
    turn,
    centres,
    locks,
    choices,
    draw,
):  # type: ignore[no-untyped-def]
    """Move every car in traffic on by `dt`; nobody drives through anybody."""
    grant_junctions(
        actors, ego, ego_approach, dt, length, junction, end_junction, approach, centres, locks
    )
    tail = np.full(len(length), 1e9)
    for i in range(len(actors)):
        car = actors[i]
        if car.moving == 1:
            tail[car.lane] = min(tail[car.lane], car.s_m - car.length_m / 2.0)
    path = np.empty((40, 3))
    for i in range(len(actors)):
        car = actors[i]
        if car.moving == 0:
            continue
        v = car.speed_mps
        n = lane_path(
            points, yaw, start, length, car.lane, car.s_m, car.next1, car.next2,
            12.0 + v * 3.5, path,
        )  # fmt: skip
        gap, closing = nearest_gap(path, n, car.length_m, car.width_m, v, i, actors, ego)
        wish = speed[car.lane] * car.wish_mps
        left = length[car.lane] - car.s_m
        if car.next1 >= 0 and turn[car.next1] != 0 and left < 22.0:
            wish = min(wish, math.sqrt(25.0 + 2.0 * 1.5 * max(left, 0.0)))
        j = end_junction[car.lane]
        if j >= 0 and car.next1 >= 0:
            full = car.next2 >= 0 and tail[car.next2] < car.length_m + 2.0
            late = locks[j, 1] > _HOLD_S and left > 2.0
            if (locks[j, 0] != approach[car.lane] or full or late) and left > 0.0:
                stop = max(left - car.length_m / 2.0 - 5.5, 0.05)
                if stop < gap and (stop > v * v / 12.0 or v < 2.0):
                    gap, closing = stop, v
        a = idm_accel(v, wish, gap, closing)
        if car.halt_s > 0.0:
            a = min(a, -6.5)
            car.halt_s -= dt
        new_v = max(0.0, v + a * dt)
        ds = min((v + new_v) / 2.0 * dt, max(0.0, gap - 0.4))
        car.accel_mps2 = (new_v - v) / dt if dt > 0.0 else 0.0
        car.speed_mps = min(new_v, ds / dt + 0.5)
        car.s_m += ds
        while car.s_m > length[car.lane] and car.next1 >= 0:
            car.s_m -= length[car.lane]
            car.lane, car.next1 = car.next1, car.next2
            count = 0
            if car.next1 >= 0:
                while count < 4 and successors[car.next1, count] >= 0:
                    count += 1
            if count > 0:
                draw[0] += 1
                car.next2 = successors[car.next1, choices[draw[0] % len(choices)] % count]
            else:
                car.next2 = -1
        car.x_m, car.y_m, car.yaw_rad = lane_pose(points, yaw, start, length, car.lane, car.s_m)


@njit(cache=True)
def step_people(actors, ego, dt, crossing_hz, dice, points, start, halves):  # type: ignore[no-untyped-def]
    """Walk everybody on foot on by `dt`: along the sidewalk, or across the road."""
    for i in range(len(actors)):
        p = actors[i]
        if p.road < 0:
            continue
        first, last = start[p.road], start[p.road + 1] - 1
        crossing = abs(p.goal_m - p.side_m) > 0.05
        pace = p.wish_mps
        vs, vd = 0.0, 0.0
        if crossing:
            pace = max(pace, 1.1)
            vd = pace if p.goal_m > p.side_m else -pace
            move = min(abs(vd) * dt, abs(p.goal_m - p.side_m))
            p.side_m += move if vd > 0.0 else -move
        else:
            vs = pace * p.heading
            p.s_m += vs * dt
            if p.s_m < 0.5:
                p.s_m, p.heading = 0.5, 1
            if p.s_m > last - first - 0.5:
                p.s_m, p.heading = last - first - 0.5, -1
            if dice[i] < crossing_hz * dt and road_is_calm(p.x_m, p.y_m, actors, ego):
                p.goal_m = (
                    -p.side_m / abs(p.side_m) * (halves[p.road, 1 if p.side_m > 0 else 0] + 1.6)
                )
        k = min(max(int(p.s_m), 0), last - first - 1)
        f = p.s_m - k
        a = first + k
        dx, dy = points[a + 1, 0] - points[a, 0], points[a + 1, 1] - points[a, 1]
        norm = math.hypot(dx, dy)
        dx, dy = dx / norm, dy / norm
        p.x_m = points[a, 0] + (points[a + 1, 0] - points[a, 0]) * f - dy * p.side_m
        p.y_m = points[a, 1] + (points[a + 1, 1] - points[a, 1]) * f + dx * p.side_m
        if vs != 0.0 or vd != 0.0:
            p.yaw_rad = math.atan2(dy * vs + dx * vd, dx * vs - dy * vd)
        p.speed_mps = math.hypot(vs, vd)
        p.gait_rad += p.speed_mps * dt * 4.2


@njit(cache=True)
def road_is_calm(x, y, actors, ego):  # type: ignore[no-untyped-def]
    """Return whether nothing that moves comes within 14 m."""
    if math.hypot(ego[0] - x, ego[1] - y) < 14.0:
        return False
    for j in range(len(actors)):
        other = actors[j]
        if (
            other.moving == 1
            and other.speed_mps > 1.0
            and math.hypot(other.x_m - x, other.y_m - y) < 14.0
        ):
            return False
    return True
