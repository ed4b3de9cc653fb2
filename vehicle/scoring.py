"""Score what was rolled out: contacts, time to collision, road, comfort, agreement with before."""

import math
from typing import Final

import numpy as np
from numba import njit

from vehicle.paths import KAPPA, PATH_BEHIND, YAW, facing_of, locate
from vehicle.proposals import (
    OFFSET,
    STEP_S,
    STEPS,
    TLEN,
    TVX,
    TVY,
    TWID,
    boxes_touch,
    edges_of,
    rollout,
)

SCORES: Final = (
    *("no_collision", "drivable", "progress", "ttc", "comfort", "lane_keeping"),
    *("consistency", "red_light", "goal"),
)
"""Columns of the score table, in order; "goal" is 1 unless navigation asks for an arrival."""
NC, DAC, EP, TTC, CF, LK, EC, TLC, GOAL = range(9)
COLUMNS: Final = len(SCORES)

_NEVER: Final = 1e9
_NEAR_M: Final = 6.0
_LOOKS: Final = (3, 6, 9)
_SHIFTS: Final = (-4, 4, 8)
_CROSSING: Final = 0.4
_FAST_MPS: Final = 3.0
_TTC_FIRST, _TTC_LAST, _TTC_LATE = 12, 36, 0.7
_LANE_M: Final = 0.45
_HARD_MPS2: Final = 4.05
_LATERAL_MPS2: Final = 3.0
_EXTENDED: Final = (0.7, 0.1)
"""Acceleration and yaw rate two plans may differ by (NAVSIM v2)."""
_SWEEP_1PM: Final = 0.03
_BESIDE: Final = (0.3, 0.2, 0.1)
_BEHIND: Final = (1.0, 0.5, 0.2)


@njit(cache=True)
def nearby(along: np.ndarray, farthest: float) -> np.ndarray:
    """Return bool [N]: who comes near the path, not behind the ego nor beyond its reach.

    Args:
        along: from `along_path`.
        farthest: metres along the path.
    """
    out = np.zeros(along.shape[0], np.bool_)
    for n in range(along.shape[0]):
        for k in range(along.shape[1]):
            a = along[n, k]
            if abs(a[1]) - a[3] < _NEAR_M and a[0] + a[2] > -_NEAR_M and a[0] - a[2] < farthest:
                out[n] = True
                break
    return out


@njit(cache=True)
def _touches(
    boxes: np.ndarray, half_long: float, half_wide: float, k: int, x: float, y: float, c: float,
    s: float, middle: float, half_l: float, half_w: float,
) -> bool:  # fmt: skip
    cx, cy = x + c * middle, y + s * middle
    reach = half_l + half_w + half_long + half_wide
    dx, dy = boxes[k, 0] - cx, boxes[k, 1] - cy
    if dx * dx + dy * dy > reach * reach:
        return False
    return boxes_touch(
        cx, cy, c, s, half_l, half_w,
        boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3], half_long, half_wide,
    )  # fmt: skip


@njit(cache=True)
def boxes_of(futures: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return [N, STEPS, 4]: x, y, cos and sin of yaw; unfilled for who is not near."""
    out = np.empty((futures.shape[0], STEPS, 4))
    for n in range(futures.shape[0]):
        if not near[n]:
            continue
        yaw, c, s = 0.0, 1.0, 0.0
        for k in range(STEPS):
            if futures[n, k, 2] != yaw:  # most keep their heading: nothing to compute
                yaw = futures[n, k, 2]
                c, s = math.cos(yaw), math.sin(yaw)
            out[n, k, 0], out[n, k, 1], out[n, k, 2], out[n, k, 3] = (
                futures[n, k, 0], futures[n, k, 1], c, s,
            )  # fmt: skip
    return out


@njit(cache=True)
def _spans(xy: np.ndarray) -> tuple[float, float, float, float]:
    """Return least and largest x, least and largest y of [STEPS, 2 or more]."""
    x0, x1, y0, y1 = xy[0, 0], xy[0, 0], xy[0, 1], xy[0, 1]
    for k in range(1, STEPS):
        x0, x1 = min(x0, xy[k, 0]), max(x1, xy[k, 0])
        y0, y1 = min(y0, xy[k, 1]), max(y1, xy[k, 1])
    return x0, x1, y0, y1


@njit(cache=True)
def spans_of(boxes: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return [N, 4]: least and largest x, least and largest y of everybody's way."""
    out = np.zeros((boxes.shape[0], 4))
    for n in range(boxes.shape[0]):
        if near[n]:
            out[n, 0], out[n, 1], out[n, 2], out[n, 3] = _spans(boxes[n])
    return out


@njit(cache=True)
def margins_of(
    users: np.ndarray, boxes: np.ndarray, near: np.ndarray,
    front: float, rear: float, width: float,
) -> np.ndarray:  # fmt: skip
    """Return [N, 2] metres to keep beside and behind each: less where the ego is nearer already.

    A negative one says that the bodies touch. Who is not near has none.
    """
    middle, half_l, half_w = 0.5 * (front - rear), 0.5 * (front + rear), 0.5 * width
    out = np.zeros((users.shape[0], 2))
    for n in range(users.shape[0]):
        if not near[n]:
            continue
        b, half_long, half_wide = boxes[n], 0.5 * users[n, TLEN], 0.5 * users[n, TWID]
        if _touches(b, half_long, half_wide, 0, 0.0, 0.0, 1.0, 0.0, middle, half_l, half_w):
            out[n] = -1.0
            continue
        for beside in _BESIDE:
            wide = half_wide + beside
            if _touches(b, half_long, wide, 0, 0.0, 0.0, 1.0, 0.0, middle, half_l, half_w):
                continue
            out[n, 0] = beside
            for gap in _BEHIND:
                if not _touches(
                    b, half_long, wide, 0, 0.0, 0.0, 1.0, 0.0, middle + 0.5 * gap,
                    half_l + 0.5 * gap, half_w,
                ):  # fmt: skip
                    out[n, 1] = gap
                    break
            break
    return out


@njit(cache=True)
def collisions(
    states: np.ndarray, facing: np.ndarray, users: np.ndarray, boxes: np.ndarray,
    spans: np.ndarray, margins: np.ndarray, near: np.ndarray,
    front: float, rear: float, width: float,
) -> tuple[float, float]:  # fmt: skip
    """Return seconds to the first collision at fault, and how well TTC stays above 0.95 s, 0..1.

    Contacts that exist already, at standstill or by somebody faster from behind are no fault of
    the plan's. Time to collision holds speed and heading for 0.3, 0.6, 0.9 s; the later it falls
    short, the less it counts, since much is guessed by then. To come nearer than the margins is
    to fall short.

    Args:
        facing: [2, STEPS] cos and sin of the yaw of `states`.
        boxes, spans: from `boxes_of` and `spans_of`.
        margins: [N, 2] metres to keep beside and behind each; negative: the bodies touch already.
        near: bool [N], from `nearby`.
    Source: NAVSIM v1 sub-scores NC and TTC (Dauner et al., 2024), on predicted tracks.
    """
    middle, half_l, half_w = 0.5 * (front - rear), 0.5 * (front + rear), 0.5 * width
    hit, late = _NEVER, _TTC_LAST
    c, s = facing[0], facing[1]
    x0, x1, y0, y1 = _spans(states[:, 1:3])
    fastest = states[:, 4].max()
    for n in range(users.shape[0]):
        if not near[n] or margins[n, 0] < 0.0:
            continue
        b, gap = boxes[n], 0.5 * margins[n, 1]
        half_long, body_wide = 0.5 * users[n, TLEN], 0.5 * users[n, TWID]
        half_wide = body_wide + margins[n, 0]
        speed = math.hypot(users[n, TVX], users[n, TVY])
        reach = half_l + half_w + half_long + half_wide + 2.0 * gap + 0.9 * speed + abs(middle)
        apart = max(spans[n, 0] - x1, x0 - spans[n, 1], spans[n, 2] - y1, y0 - spans[n, 3])
        if apart > reach + 0.9 * fastest + 0.01:  # their ways never come within `far`, see below
            continue
        for k in range(STEPS):
            t, x, y, v = states[k, 0], states[k, 1], states[k, 2], states[k, 4]
            if t >= hit:
                break
            dx, dy, far = b[k, 0] - x, b[k, 1] - y, reach + 0.9 * v
            if v < 0.05 or dx * dx + dy * dy > far * far or dx * c[k] + dy * s[k] < 0.0:
                continue
            if _touches(
                b, half_long, half_wide, k, x, y, c[k], s[k], middle + gap, half_l + gap, half_w
            ):
                late = min(late, k)  # too near is no reason to slam the brakes; a contact is
                if _touches(b, half_long, body_wide, k, x, y, c[k], s[k], middle, half_l, half_w):
                    hit = t
                    break
            if k % 2 == 1 or k >= late:
                continue
            if abs(b[k, 3] * c[k] - b[k, 2] * s[k]) > _CROSSING:
                # who crosses may come sooner or later than thought
                for shift in _SHIFTS:
                    if shift > _SHIFTS[1] and speed < _FAST_MPS:
                        break
                    if 0 <= k + shift < STEPS and _touches(
                        b, half_long, half_wide, k + shift, x, y, c[k], s[k], middle, half_l, half_w
                    ):
                        late = k
                        break
            if k < late and k + _LOOKS[2] < STEPS:
                for look in _LOOKS:
                    way = v * look * STEP_S
                    if _touches(
                        b, half_long, half_wide, k + look, x + c[k] * way, y + s[k] * way, c[k],
                        s[k], middle, half_l, half_w,
                    ):  # fmt: skip
                        late = k
                        break
    ttc = (
        1.0
        if late >= _TTC_LAST
        else _TTC_LATE * max(0.0, late - _TTC_FIRST) / (_TTC_LAST - _TTC_FIRST)
    )
    return hit, ttc


@njit(cache=True)
def drivable_ratio(
    states: np.ndarray, facing: np.ndarray,
    grid: np.ndarray, x_min: float, y_min: float, cell: float,
    front: float, rear: float, width: float,
) -> float:  # fmt: skip
    """Return the share of body corners, over 3 s, that the network believes to be on the road."""
    seen, off = 0, 0
    for k in range(2, 31, 2):
        c, s = facing[0, k], facing[1, k]
        for along, across in ((front, width), (front, -width), (-rear, width), (-rear, -width)):
            x = states[k, 1] + c * along - s * across * 0.5
            y = states[k, 2] + s * along + c * across * 0.5
            i, j = math.floor((x - x_min) / cell), math.floor((y - y_min) / cell)
            if x > front and 0 <= i < grid.shape[0] and 0 <= j < grid.shape[1]:
                seen += 1
                off += grid[i, j] < 64
    return 1.0 if seen == 0 else 1.0 - off / seen


@njit(cache=True)
def leaves_corridor(
    states: np.ndarray, path: np.ndarray, left: float, right: float, front: float, width: float
) -> bool:
    """Return whether the body leaves the lane it may use, where the path is nearly straight.

    Args:
        left, right: metres from the path's centre that may be used.
    """
    row, outside = PATH_BEHIND, True
    for k in range(0, STEPS, 4):
        row, _, d = locate(path, states[k, 1], states[k, 2], row)
        turn = (states[k, 3] - path[row, YAW] + math.pi) % (2.0 * math.pi) - math.pi
        low = min(d, d + front * math.sin(turn)) - 0.5 * width
        high = max(d, d + front * math.sin(turn)) + 0.5 * width
        out = (low < -right or high > left) and abs(path[row, KAPPA]) < _SWEEP_1PM
        if out and not outside:
            return True
        outside = outside and out  # who is out already may come back
    return False


@njit(cache=True)
def manners(states: np.ndarray, beside: np.ndarray) -> tuple[float, float]:
    """Return comfort and lane keeping, 0..1; `beside`: [STEPS] metres left of the path."""
    worst, brake, away, out = 0.0, 0.0, 0.0, 0
    for k in range(STEPS):
        worst = max(worst, states[k, 4] ** 2 * abs(states[k, 6]))
        brake = max(brake, -states[k, 5])
        away += abs(beside[k])
        out += abs(beside[k]) > _LANE_M
    comfort = 1.0 - max(0.0, worst - _LATERAL_MPS2) / 3.0
    if brake > _HARD_MPS2:
        comfort -= 0.5
    comfort -= 0.1 * max(0.0, brake - 3.0)
    return max(0.0, comfort), max(0.0, 1.0 - out / STEPS - 0.2 * away / STEPS)


@njit(cache=True)
def agreement(states: np.ndarray, before: np.ndarray, apart_s: float) -> float:
    """Return 1 where a plan intends what an older one did, 0 where they differ three times over.

    Args:
        before: states of the older plan, [STEPS, 7] or [0, 7] for none.
        apart_s: how much older it is.
    Source: NAVSIM v2, two-frame extended comfort, on acceleration and yaw rate.
    """
    if before.shape[0] < STEPS:
        return 1.0
    shift = apart_s / STEP_S
    accel, turn, count = 0.0, 0.0, 0
    for k in range(STEPS):
        i = int(k + shift)
        if i + 1 >= STEPS:
            break
        f = k + shift - i
        was = before[i, 5] + f * (before[i + 1, 5] - before[i, 5])
        rate = before[i, 4] * before[i, 6] * (1.0 - f) + before[i + 1, 4] * before[i + 1, 6] * f
        accel += (states[k, 5] - was) ** 2
        turn += (states[k, 4] * states[k, 6] - rate) ** 2
        count += 1
    if count == 0:
        return 1.0
    worst = max(math.sqrt(accel / count) / _EXTENDED[0], math.sqrt(turn / count) / _EXTENDED[1])
    return max(0.0, 1.0 - worst / 3.0)


@njit(cache=True)
def propose(
    states: np.ndarray, scores: np.ndarray, hits: np.ndarray, start: np.ndarray, path: np.ndarray,
    profile: np.ndarray, gains: np.ndarray, users: np.ndarray, futures: np.ndarray,
    along: np.ndarray, table: np.ndarray, body: np.ndarray, rear: float, room: np.ndarray,
    grid: np.ndarray, corner: np.ndarray, older: np.ndarray, apart_s: float,
) -> None:  # fmt: skip
    """Fill states [P, STEPS, 7], scores [P, COLUMNS] and seconds to collision [P] of P proposals.

    Args:
        start, path, profile, gains, body: as in `rollout`.
        users: [N, 7] road users; futures: [N, STEPS, 3] where they will be; along: the same
            beside the path, from `along_path`.
        table: [P, 5] what each proposal does.
        rear: rear axle to rear bumper.
        room: metres of road left and right of the path; and 1 where a line has to be kept.
        grid: uint8 drivable probability, empty when unknown; corner: x_min, y_min, cell.
        older, apart_s: a plan made before, and how long ago, for agreement.
    """
    near = nearby(along, STEPS * STEP_S * (start[0] + 3.0) + body[0])
    boxes = boxes_of(futures, near)
    spans, margins = spans_of(boxes, near), margins_of(users, boxes, near, body[0], rear, body[1])
    leads, edges = facing_of(path), edges_of(along)
    beside, facing = np.empty(STEPS), np.empty((2, STEPS))
    for p in range(table.shape[0]):
        row = table[p]
        gained = rollout(states[p], beside, start, path, leads, profile, edges, gains, row, body)
        for k in range(STEPS):
            facing[0, k], facing[1, k] = math.cos(states[p, k, 3]), math.sin(states[p, k, 3])
        hits[p], scores[p, TTC] = collisions(
            states[p], facing, users, boxes, spans, margins, near, body[0], rear, body[1]
        )
        scores[p, NC] = 1.0 if hits[p] > 1e8 else 0.0
        ratio = 1.0
        if grid.shape[0] > 0:
            ratio = drivable_ratio(
                states[p], facing, grid, corner[0], corner[1], corner[2], body[0], rear, body[1]
            )
        # perceived road edges are noisy: a tenth of the corners may be wrong, and none forbids
        scores[p, DAC] = 1.0 if ratio >= 0.9 else max(0.2, ratio)
        if row[OFFSET] != 0.0 and leaves_corridor(
            states[p], path, room[0], room[1], body[0], body[1]
        ):
            scores[p, DAC] *= 0.2
        scores[p, EP] = max(0.0, gained)
        scores[p, CF], scores[p, LK] = manners(states[p], beside)
        scores[p, EC] = agreement(states[p], older, apart_s)
        scores[p, TLC] = 1.0 if gained + body[0] < room[2] or room[2] < 0.0 else 0.0
        scores[p, GOAL] = 1.0
