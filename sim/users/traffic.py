"""How actors move, compiled: IDM along lanes, one road at a time through a junction, people.

Source: Treiber, Hennecke, Helbing, "Congested traffic states in empirical observations and
microscopic simulations" (2000), eq. 3 (IDM).
"""

import math

import numpy as np
from numba import njit

from sim.town.lanes import lane_pose

_LOOK_STEP_M = 1.5


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
def shift_path(path, n, left):  # type: ignore[no-untyped-def]
    """Move a path to its left by `left` metres."""
    for k in range(n):
        path[k, 0] -= left * math.sin(path[k, 2])
        path[k, 1] += left * math.cos(path[k, 2])


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
    actors, ego_lanes, dt, length, junction, end_junction, conflicts, count, lights
):  # type: ignore[no-untyped-def]
    """Let cars into junctions: one more per junction and step, whoever waited longest, if no
    connector that crosses its own is in use. A car that waited over 6 s holds back who would
    cross it. The ego's own connector, `ego_lanes` [2] or -1, always counts as in use. Before a red
    light, or a yellow one it can still stop at, nobody is let in."""
    used = np.zeros(len(length), np.int64)
    for lane in ego_lanes:
        if lane >= 0:
            used[lane] += 1
    for i in range(len(actors)):
        car = actors[i]
        if car.moving == 1:
            if junction[car.lane] >= 0:
                used[car.lane] += 1
            elif car.granted == 1 and car.next1 >= 0:
                if must_stop(car.speed_mps, length[car.lane] - car.s_m, lights[car.lane]):
                    car.granted = 0
                else:
                    used[car.next1] += 1
    best = np.full(count, -1, np.int64)
    eldest = np.full(count, -1, np.int64)
    for i in range(len(actors)):
        car = actors[i]
        if car.moving != 1 or car.granted == 1 or car.next1 < 0 or junction[car.lane] >= 0:
            continue
        if end_junction[car.lane] < 0:  # nobody to wait for: a through lane of a motorway
            continue
        if length[car.lane] - car.s_m > 22.0:
            car.wait_s = 0.0
            continue
        if must_stop(car.speed_mps, length[car.lane] - car.s_m, lights[car.lane]):
            car.wait_s = 0.0
            continue
        car.wait_s += dt
        j = end_junction[car.lane]
        if eldest[j] < 0 or car.wait_s > actors[eldest[j]].wait_s:
            eldest[j] = i
        free = True
        for lane in range(len(length)):
            if used[lane] > 0 and conflicts[car.next1, lane] == 1:
                free = False
                break
        if free and (best[j] < 0 or car.wait_s > actors[best[j]].wait_s):
            best[j] = i
    for j in range(count):
        if best[j] < 0:
            continue
        first, car = actors[eldest[j]], actors[best[j]]
        if first.wait_s > 6.0 and conflicts[first.next1, car.next1] == 1:
            continue
        car.granted = 1
        car.wait_s = 0.0


@njit(cache=True)
def must_stop(speed, left, light):  # type: ignore[no-untyped-def]
    """Return whether a light at `left` metres (0 red, 1 yellow, 2 green) means to stop: where
    2.5 m/s2 are enough before yellow, where 6 m/s2 are before red."""
    room = left - 5.5
    if light == 2 or room < -2.0:
        return False
    return speed * speed / (2.0 * (6.0 if light == 0 else 2.5)) < max(room, 0.0) + 0.5


@njit(cache=True)
def drift(car, dt):  # type: ignore[no-untyped-def]
    """Slide a car towards where it keeps beside its lane's centre, never faster than it rolls."""
    far = car.keep_m - car.lateral_m
    most = min(1.3, 0.35 * car.speed_mps) * dt
    aside = min(max(far, -most), most)
    car.lateral_m += aside
    car.x_m -= car.lateral_m * math.sin(car.yaw_rad)
    car.y_m += car.lateral_m * math.cos(car.yaw_rad)
    if dt > 0.0 and aside != 0.0:
        car.yaw_rad += math.atan2(aside / dt, max(car.speed_mps, 0.5))


@njit(cache=True)
def step_cars(
    actors,
    ego,
    ego_lanes,
    dt,
    points,
    yaw,
    start,
    length,
    successors,
    speed,
    junction,
    end_junction,
    turn,
    conflicts,
    count,
    choices,
    draw,
    lights,
):  # type: ignore[no-untyped-def]
    """Move every car in traffic on by `dt`; nobody drives through anybody."""
    grant_junctions(actors, ego_lanes, dt, length, junction, end_junction, conflicts, count, lights)
    tail = np.full(len(length), 1e9)
    for i in range(len(actors)):
        car = actors[i]
        if car.moving == 1:
            tail[car.lane] = min(tail[car.lane], car.s_m - car.length_m / 2.0)
    path = np.empty((40, 3))
    for i in range(len(actors)):
        car = actors[i]
        if car.moving != 1:
            continue
        v = car.speed_mps
        n = lane_path(
            points, yaw, start, length, car.lane, car.s_m, car.next1, car.next2,
            12.0 + v * 3.5, path,
        )  # fmt: skip
        if car.keep_m != 0.0:
            shift_path(path, n, car.keep_m)
        gap, closing = nearest_gap(path, n, car.length_m, car.width_m, v, i, actors, ego)
        wish = speed[car.lane] * car.wish_mps
        left = length[car.lane] - car.s_m
        if car.next1 >= 0 and turn[car.next1] != 0 and left < 22.0:
            wish = min(wish, math.sqrt(25.0 + 2.0 * 1.5 * max(left, 0.0)))
        if end_junction[car.lane] >= 0 and car.next1 >= 0:
            full = car.next2 >= 0 and tail[car.next2] < car.length_m + 2.0
            if car.granted == 0 or (full and left > 3.0):
                stop = max(left - car.length_m / 2.0 - 5.5, 0.05)
                if stop < gap:
                    gap, closing = stop, v
        if car.next1 < 0 and left - car.length_m / 2.0 - 1.0 < gap:  # a dead end
            gap, closing = max(left - car.length_m / 2.0 - 1.0, 0.05), v
        a = idm_accel(v, wish, gap, closing)
        if car.halt_s > 0.0:
            a = min(a, -6.5)
            car.halt_s -= dt
        new_v = max(0.0, v + a * dt)
        ds = min((v + new_v) / 2.0 * dt, max(0.0, gap - 0.4))
        if dt > 0.0:
            car.accel_mps2 = (new_v - v) / dt
            car.speed_mps = min(new_v, ds / dt + 0.5)
        car.s_m += ds
        follow_lanes(car, length, successors, junction, choices, draw)
        car.x_m, car.y_m, car.yaw_rad = lane_pose(points, yaw, start, length, car.lane, car.s_m)
        if car.lateral_m != 0.0 or car.keep_m != 0.0:
            drift(car, dt)


@njit(cache=True)
def follow_lanes(car, length, successors, junction, choices, draw):  # type: ignore[no-untyped-def]
    """Put a car that ran over the end of its lane onto the next, and draw what comes after."""
    while car.s_m > length[car.lane] and car.next1 >= 0:
        car.s_m -= length[car.lane]
        car.lane, car.next1 = car.next1, car.next2
        if junction[car.lane] < 0:
            car.granted = 0
        count = 0
        if car.next1 >= 0:
            while count < 4 and successors[car.next1, count] >= 0:
                count += 1
        if count > 0:
            draw[0] += 1
            car.next2 = successors[car.next1, choices[draw[0] % len(choices)] % count]
        else:
            car.next2 = -1


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
        vs, vd, facing = 0.0, 0.0, 0.0
        if crossing:
            pace = max(pace, 1.1)
            sign = 1.0 if p.goal_m > p.side_m else -1.0
            in_way = car_at(p.x_m, p.y_m, p.yaw_rad, actors, ego) if dt > 0.0 else 0
            if in_way == 1:  # a parked car: walk along it until there is a gap
                vs = pace * p.heading
                p.s_m = min(max(p.s_m + vs * dt, 0.5), last - first - 0.5)
            elif in_way == 2:  # somebody drives here: wait, then give up
                p.halt_s += dt
                if p.halt_s > 3.0:
                    p.goal_m = -p.goal_m
                    p.halt_s = 0.0
            else:
                p.halt_s = 0.0
                vd = pace * sign
                p.side_m += sign * min(pace * dt, abs(p.goal_m - p.side_m))
            facing = sign * pace
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
        if crossing:  # they look where they want to go, also while they wait
            p.yaw_rad = math.atan2(dx * facing, -dy * facing)
        elif vs != 0.0:
            p.yaw_rad = math.atan2(dy * vs, dx * vs)
        p.speed_mps = math.hypot(vs, vd)
        p.gait_rad += p.speed_mps * dt * 4.2


@njit(cache=True)
def car_at(x, y, yaw, actors, ego):  # type: ignore[no-untyped-def]
    """Return what stands on the next step of a person: 0 nothing, 1 parked, 2 in traffic."""
    px, py = x + 0.8 * math.cos(yaw), y + 0.8 * math.sin(yaw)
    if inside(px, py, ego[0], ego[1], ego[2], ego[4], ego[5]):
        return 2
    for j in range(len(actors)):
        car = actors[j]
        if car.road >= 0 or abs(car.x_m - px) > 4.0 or abs(car.y_m - py) > 4.0:
            continue
        if inside(px, py, car.x_m, car.y_m, car.yaw_rad, car.length_m, car.width_m):
            return 1 + car.moving
    return 0


@njit(cache=True)
def inside(px, py, x, y, yaw, length, width):  # type: ignore[no-untyped-def]
    """Return whether a point lies in a box or within 0.35 m of it."""
    c, s = math.cos(yaw), math.sin(yaw)
    dx, dy = px - x, py - y
    return abs(c * dx + s * dy) < length / 2.0 + 0.35 and abs(-s * dx + c * dy) < width / 2.0 + 0.35


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
