"""The way of the ego through a recorded scene: along its log, or over lanes to a goal."""

import heapq
import math
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from sim.recorded.logged_scene import Lane, LoggedScene
from sim.town.lanes import arc_length, headings, resample
from sim.users.dynamics import Motion
from vehicle.contracts.ego import Guidance

AHEAD_M: Final = 90
BEHIND_M: Final = 5
_BEYOND_M: Final = 150.0
_LEAST_LIMIT_MPS: Final = 8.3
_MARGIN: Final = 1.1
_BESIDE_COST_M: Final = 30.0
_OFF_COST: Final = 10.0
_BLEND_M: Final = 45.0
_SNAP_M: Final = 3.0


@dataclass(slots=True, eq=False)
class RoutePath:
    """A path of points 1 m apart, and where on it the ego is.

    Args:
        path: float64 [P, 3] x, y, yaw; it begins behind the start and goes on past the end.
        limit_mps: [P]. width_m: [P].
        source: "log" where a recorded driver went, "map" over lanes.
        sure: points up to here are recorded or planned; what follows only goes on from there.
        index: the point beside the rear axle.
    """

    path: np.ndarray
    limit_mps: np.ndarray
    width_m: np.ndarray
    source: str
    sure: int
    index: int = field(default=0)

    def follow(self, motion: Motion) -> None:
        """Move on to the point nearest to the rear axle, looking a little ahead only."""
        window = self.path[self.index : self.index + 25]
        d = np.hypot(window[:, 0] - motion.x_m, window[:, 1] - motion.y_m)
        self.index += int(np.argmin(d))

    def guidance(self, motion: Motion) -> Guidance:
        """Return the path ahead in the ego frame."""
        first = max(self.index - BEHIND_M, 0)
        line = self.path[first : self.index + AHEAD_M, :2]
        if len(line) < 2:
            line = self.path[-2:, :2]
        c, s = math.cos(motion.yaw_rad), math.sin(motion.yaw_rad)
        d = line - [motion.x_m, motion.y_m]
        return Guidance(
            centreline_m=np.stack([c * d[:, 0] + s * d[:, 1], c * d[:, 1] - s * d[:, 0]], axis=1),
            speed_limit_mps=float(self.limit_mps[self.index]),
            lane_width_m=float(self.width_m[self.index]),
            source="log" if self.source == "log" else "map",
        )


def plan_route(scene: LoggedScene) -> RoutePath:
    """Return the ego's route: its own log where there is one, else lanes towards the goal."""
    usual = scene.start[3] if scene.ego is None else float(scene.ego[:, 3].max())
    default = max(_LEAST_LIMIT_MPS, _MARGIN * float(usual))
    lanes = {lane.name: lane for lane in scene.lanes}
    if scene.ego is not None:
        line, source = _driven(scene.ego), "log"
    else:
        line, source = _to_goal(scene, lanes), "map"
    yaw = float(headings(line)[-1]) if len(line) > 1 else float(scene.start[2])
    sure = BEHIND_M + int(arc_length(line)[-1])
    line = _go_on(line, yaw, lanes)
    back = float(headings(line)[0])
    line = np.concatenate([[line[0] - BEHIND_M * np.array([math.cos(back), math.sin(back)])], line])
    line = resample(line, 1.0)
    limit, width = np.full(len(line), default), np.full(len(line), 3.5)
    for i in range(0, len(line), 5):
        ahead = min(i + 1, len(line) - 1)
        lane = nearest_lane(
            line[i], float(math.atan2(*(line[ahead] - line[ahead - 1])[::-1])), lanes
        )
        if lane is not None:
            limit[i : i + 5], width[i : i + 5] = lane.speed_mps or default, lane.width_m
    route = RoutePath(
        path=np.column_stack([line, headings(line)]),
        limit_mps=limit,
        width_m=width,
        source=source,
        sure=sure,
    )
    here = np.hypot(*(line - scene.start[:2]).T)[: BEHIND_M + 40]
    route.index = int(np.argmin(here))
    return route


def _driven(ego: np.ndarray) -> np.ndarray:
    """Return the driven path, smooth: standing still adds no points, jitter is averaged."""
    keep, last = [0], ego[0, :2]
    for i, point in enumerate(ego[:, :2]):
        if np.hypot(*(point - last)) >= 0.5:
            keep.append(i)
            last = point
    first = ego[0, :2] + 0.5 * np.array([math.cos(ego[0, 2]), math.sin(ego[0, 2])])
    if len(keep) < 4:  # it hardly moved: where it points
        return np.array([ego[0, :2], first])
    line = resample(ego[keep, :2], 1.0)
    padded = np.pad(line, ((2, 2), (0, 0)), mode="reflect", reflect_type="odd")
    return np.stack([np.convolve(padded[:, k], np.full(5, 0.2), mode="valid") for k in (0, 1)], 1)


def nearest_lane(point: np.ndarray, yaw: float, lanes: dict[str, Lane]) -> Lane | None:
    """Return the lane whose centre passes a point in a direction, None if none is near."""
    near = lanes_at(point, yaw, lanes)
    return lanes[min(near, key=lambda name: near[name])] if near else None


def lanes_at(point: np.ndarray, yaw: float, lanes: dict[str, Lane]) -> dict[str, float]:
    """Return the lanes whose centre passes near a point in a direction, and how far from it."""
    found = {}
    for name, lane in lanes.items():
        c = lane.centre_m
        low, high = c.min(axis=0) - _SNAP_M, c.max(axis=0) + _SNAP_M
        if (point < low).any() or (point > high).any():
            continue
        gap, along = _beside(point, c)
        if gap < _SNAP_M and abs(math.remainder(along - yaw, 2 * math.pi)) < 0.7:
            found[name] = gap
    return found


def _beside(point: np.ndarray, line: np.ndarray) -> tuple[float, float]:
    """Return the distance of a point from a polyline and the polyline's heading there."""
    a, d = line[:-1], np.diff(line, axis=0)
    share = ((point - a) * d).sum(axis=1) / np.maximum((d**2).sum(axis=1), 1e-9)
    gap = np.hypot(*(a + np.clip(share, 0.0, 1.0)[:, None] * d - point).T)
    i = int(np.argmin(gap))
    return float(gap[i]), math.atan2(d[i, 1], d[i, 0])


def _go_on(line: np.ndarray, yaw: float, lanes: dict[str, Lane]) -> np.ndarray:
    """Return the line with as much lane after its end as guidance may ask for, else straight."""
    lane, parts, left = nearest_lane(line[-1], yaw, lanes), [line], _BEYOND_M
    seen: set[str] = set()
    end = line[-1]
    while lane is not None and left > 0.0 and lane.name not in seen:
        seen.add(lane.name)
        centre = resample(lane.centre_m, 1.0)
        ahead = centre[int(np.argmin(np.hypot(*(centre - end).T))) + 1 :]
        if len(ahead):
            off = end - centre[max(len(centre) - len(ahead) - 1, 0)]
            fade = np.clip(1.0 - np.arange(1, len(ahead) + 1) / 20.0, 0.0, 1.0)
            ahead = ahead + off * (fade * fade * (3 - 2 * fade))[:, None]
            parts.append(ahead)
            end, left = ahead[-1], left - len(ahead)
        choices = [lanes[n] for n in lane.successors if n in lanes]
        last = centre[-1] - centre[-2]
        lane = min(choices, key=lambda n: _bend(last, n), default=None)
    whole = np.concatenate(parts)
    if left > 0.0:
        d = whole[-1] - whole[-min(len(whole), 4)]
        d = d / max(float(np.hypot(*d)), 1e-6)
        whole = np.concatenate([whole, whole[-1] + d * np.arange(1.0, left + 2.0)[:, None]])
    return whole


def _bend(last: np.ndarray, lane: Lane) -> float:
    d = lane.centre_m[-1] - lane.centre_m[0]
    return abs(math.remainder(math.atan2(d[1], d[0]) - math.atan2(last[1], last[0]), 2 * math.pi))


def _to_goal(scene: LoggedScene, lanes: dict[str, Lane]) -> np.ndarray:
    """Return lane centres from the start to the goal, changing lanes where the map allows."""
    start, yaw = scene.start[:2], float(scene.start[2])
    first = lanes_at(start, yaw, lanes)
    ahead = start + np.array([math.cos(yaw), math.sin(yaw)])
    if not first:
        return np.array([start, ahead])
    way = _search(first, _goal_lanes(scene, lanes), lanes)
    line, at, k = start[None], start, 0
    while k < len(way):
        here = resample(lanes[way[k]].centre_m, 1.0)
        i = int(np.argmin(np.hypot(*(here - at).T)))
        piece = here[i + 1 :]
        while k + 1 < len(way) and way[k + 1] in lanes[way[k]].beside:
            piece = _change(piece, resample(lanes[way[k + 1]].centre_m, 1.0))
            k += 1
        line = np.concatenate([line, piece])
        at, k = line[-1], k + 1
    if len(line) < 3:
        return np.array([start, ahead])
    return _eased(line)


def _eased(line: np.ndarray) -> np.ndarray:
    """Return a line from the start that meets the lane centre within 15 m, without repeats."""
    kept = line[np.concatenate([[True], np.hypot(*np.diff(line, axis=0).T) > 0.05])]
    if len(kept) < 3:
        return kept
    s = arc_length(kept)
    d = kept[2] - kept[1]
    normal = np.array([-d[1], d[0]]) / max(float(np.hypot(*d)), 1e-6)
    off = float((kept[0] - kept[1]) @ normal)
    fade = np.clip(1.0 - s / 15.0, 0.0, 1.0)
    out = kept + (off * fade * fade * (3 - 2 * fade))[:, None] * normal
    out[0] = kept[0]
    return out


def _change(line: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """Return a line that leaves one lane and ends in the one beside it."""
    if len(line) < 2 or len(beside) < 2:
        return beside
    gaps = np.hypot(line[:, None, 0] - beside[None, :, 0], line[:, None, 1] - beside[None, :, 1])
    other = beside[gaps.argmin(axis=1)]
    share = np.clip(np.arange(len(line)) / min(len(line) - 1.0, _BLEND_M), 0.0, 1.0)
    share = (share * share * (3 - 2 * share))[:, None]
    return line * (1 - share) + other * share


def _goal_lanes(scene: LoggedScene, lanes: dict[str, Lane]) -> set[str]:
    """Return the lanes with a centre inside a region of the goal."""
    found: set[str] = set()
    for region in () if scene.goal is None else scene.goal.regions_m:
        ring = region.astype(np.float32)
        for lane in lanes.values():
            middle = resample(lane.centre_m, 2.0)
            if any(cv2.pointPolygonTest(ring, (float(x), float(y)), False) > 0 for x, y in middle):
                found.add(lane.name)
    return found


def _search(first: dict[str, float], goals: set[str], lanes: dict[str, Lane]) -> list[str]:
    """Return the lanes from where the ego is to the nearest goal lane, only the one it is on if
    none is reached.

    Args:
        first: lanes at the start and how far off their centre it is; junctions have several.
    Source: Dijkstra, "A note on two problems in connexion with graphs" (1959).
    """
    queue: list[tuple[float, str, tuple[str, ...]]] = [
        (_OFF_COST * gap, name, (name,)) for name, gap in first.items()
    ]
    heapq.heapify(queue)
    done: set[str] = set()
    while queue:
        cost, name, way = heapq.heappop(queue)
        if name in goals:
            return list(way)
        if name in done:
            continue
        done.add(name)
        lane = lanes[name]
        for following in lane.successors:
            if following in lanes:
                length = float(arc_length(lane.centre_m)[-1])
                heapq.heappush(queue, (cost + length, following, (*way, following)))
        for beside in lane.beside:
            if beside in lanes and _same_way(lane, lanes[beside]):
                heapq.heappush(queue, (cost + _BESIDE_COST_M, beside, (*way, beside)))
    return [min(first, key=lambda name: first[name])]


def _same_way(a: Lane, b: Lane) -> bool:
    return float((a.centre_m[-1] - a.centre_m[0]) @ (b.centre_m[-1] - b.centre_m[0])) > 0.0
