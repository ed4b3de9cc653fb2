"""Lane changes of traffic by MOBIL: who gains more than others lose, and hurts nobody, changes.

Source: Kesting, Treiber, Helbing, "General lane-changing model MOBIL for car-following models"
(2007), eq. 2 and 3. Parameters: politeness p = 0.2, threshold 0.2 m/s2, safe deceleration
2.0 m/s2; accelerations are those of `idm_accel`.
"""

import math

import numpy as np
from numba import njit

from sim.town.lanes import LaneGraph
from sim.users.traffic import idm_accel, lane_path, nearest_gap

POLITENESS = 0.2
THRESHOLD_MPS2 = 0.2
SAFE_MPS2 = 2.0
_THINK_S = 1.0
_REST_S = 6.0
_FROM_START_M, _BEFORE_END_M = 8.0, 32.0


@njit(cache=True)
def mobil(own, own_there, new, new_there, old, old_there):  # type: ignore[no-untyped-def]
    """Return whether to change lanes, from accelerations now and after the change in m/s2.

    Args:
        own: of the car that thinks of it. new: of who would follow it there. old: of who follows
            it now.
    """
    if new_there < -SAFE_MPS2:
        return False
    gain = own_there - own + POLITENESS * ((new_there - new) + (old_there - old))
    return gain > THRESHOLD_MPS2


def neighbours(lanes: LaneGraph) -> np.ndarray:
    """Return int64 [L, 2]: the road lane of the same direction at the left and right, or -1."""
    out = np.full((len(lanes.length_m), 2), -1, np.int64)
    for lane in lanes.road_lanes():
        for side, other in ((0, lane - 1), (1, lane + 1)):
            if not 0 <= other < len(lanes.length_m) or lanes.junction[other] >= 0:
                continue
            if lanes.approach[other] == lanes.approach[lane]:
                out[lane, side] = other
    return out


@njit(cache=True)
def followers(me, car, aside, actors, ego):  # type: ignore[no-untyped-def]
    """Return the nearest behind on a line `aside` metres to the left: free gap, speed, wished
    speed; gap 1e9 if nobody is, negative if somebody is right there."""
    c, s = math.cos(car.yaw_rad), math.sin(car.yaw_rad)
    gap, speed, wish = 1e9, 0.0, 0.0
    for j in range(-1, len(actors)):
        if j == me:
            continue
        if j < 0:
            x, y, v, long, wide = ego[0], ego[1], ego[3], ego[4], ego[5]
        else:
            other = actors[j]
            x, y, v = other.x_m, other.y_m, other.speed_mps
            long, wide = other.length_m, other.width_m
        dx, dy = x - car.x_m, y - car.y_m
        along, across = c * dx + s * dy, -s * dx + c * dy - aside
        if abs(across) > (wide + car.width_m) / 2.0 + 0.5 or along > 60.0 or along < -60.0:
            continue
        half = (long + car.length_m) / 2.0
        if along > -half - 1.0 and along < half + 1.0:
            return -1.0, v, v
        if along < 0.0 and -along - half < gap:
            gap, speed, wish = -along - half, v, max(v + 2.0, 8.0)
    return gap, speed, wish


@njit(cache=True)
def change_lanes(
    actors,
    ego,
    dt,
    points,
    yaw,
    start,
    length,
    successors,
    limit,
    beside,
    width,
    choices,
    draw,
):  # type: ignore[no-untyped-def]
    """Let every car in traffic think of changing lanes once a second, and begin if it pays."""
    path, there = np.empty((40, 3)), np.empty((40, 3))
    for i in range(len(actors)):
        car = actors[i]
        if car.moving != 1 or car.keep_m != 0.0:
            continue
        car.calm_s -= dt
        if car.calm_s > 0.0 or abs(car.lateral_m) > 0.1 or car.granted == 1:
            continue
        car.calm_s = _THINK_S
        left = length[car.lane] - car.s_m
        if car.s_m < _FROM_START_M or left < _BEFORE_END_M or car.speed_mps < 1.5:
            continue
        v, reach = car.speed_mps, 15.0 + car.speed_mps * 3.5
        n = lane_path(
            points, yaw, start, length, car.lane, car.s_m, car.next1, car.next2, reach, path
        )
        gap, closing = nearest_gap(path, n, car.length_m, car.width_m, v, i, actors, ego)
        wish = limit[car.lane] * car.wish_mps
        own = idm_accel(v, wish, gap, closing)
        for side in range(2):
            target = beside[car.lane, side]
            if target < 0:
                continue
            aside = width if side == 0 else -width
            at = car.s_m * length[target] / length[car.lane]
            following = successors[target, 0]
            n = lane_path(points, yaw, start, length, target, at, following, -1, reach, there)
            free, nearing = nearest_gap(there, n, car.length_m, car.width_m, v, i, actors, ego)
            behind, vb, wb = followers(i, car, aside, actors, ego)
            mine, vo, wo = followers(i, car, 0.0, actors, ego)
            if behind < 0.0 or free < 2.0:
                continue
            own_there = idm_accel(v, wish, free, nearing)
            new, new_there, old, old_there = 0.0, 0.0, 0.0, 0.0
            if behind < 1e8:
                new = idm_accel(vb, wb, behind + car.length_m + free, vb - v + nearing)
                new_there = idm_accel(vb, wb, behind, vb - v)
            if 0.0 <= mine < 1e8:
                old = idm_accel(vo, wo, mine, vo - v)
                old_there = idm_accel(vo, wo, mine + car.length_m + gap, vo - v + closing)
            if mobil(own, own_there, new, new_there, old, old_there):
                car.lane, car.s_m, car.lateral_m = target, at, -aside
                draw[0] += 1
                count = 0
                while count < 4 and successors[target, count] >= 0:
                    count += 1
                car.next1 = successors[target, choices[draw[0] % len(choices)] % count]
                car.next2 = successors[car.next1, 0]
                car.calm_s = _REST_S
                break
