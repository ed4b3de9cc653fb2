"""Faces and plates where the car says that somebody is: its tracks, through the rig's calibration.

No pixels are needed. A clip is read after the fact, so a track also speaks for the second before it
was believed in and the second after it was lost.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from datalake.detect import Kind, Look, Region
from vehicle.contracts.frame import CameraModel
from vehicle.contracts.scene import KINDS, TRACK
from vehicle.contracts.tick import Record
from vehicle.geometry import apply, distort, inverse

SPEAKS_FOR_S: Final = 1.0
"""How far before and after it was seen a track is moved on at its speed."""

HEAD_M: Final = 0.25
PLATE_M: Final = 0.52
"""Height of a head, width of a number plate (EU; others are narrower and no taller than a hand)."""

_NEAR_M: Final = 0.2
_TOLD: Final = 1 << 40
_PEOPLE: Final = np.isin(KINDS, ("pedestrian", "cyclist", "motorcycle"))
_PLATED: Final = np.isin(KINDS, ("car", "truck", "bus", "motorcycle", "trailer", "emergency"))
_CORNERS: Final = np.array(
    [[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (0.0, 1.0)]
)


class TrackDetector:
    """Projects the heads of people and the plates of vehicles that the car tracked.

    Args:
        min_face_px: a head lower than this in the picture is left alone.
        min_plate_px: a plate narrower than this is left alone.
    """

    name = "tracks@1"
    needs_pixels = False

    def __init__(self, *, min_face_px: float = 10.0, min_plate_px: float = 20.0) -> None:
        self._min_face_px, self._min_plate_px = min_face_px, min_plate_px

    def regions(self, look: Look) -> list[Region]:
        """Return a rectangle around every head and plate area, wider the less sure its place is."""
        if not len(look.tracks):
            return []
        kinds = np.clip(look.tracks["kind"], 0, len(KINDS) - 1)
        people = look.tracks[_PEOPLE[kinds]]
        found = self._boxed("face", look.camera, people, _heads(people), HEAD_M, self._min_face_px)
        vehicles = look.tracks[_PLATED[kinds]]
        eye_m = look.camera.matrix[:2, 3]
        for end in (1.0, -1.0):
            shown = vehicles[_faces(vehicles, end, eye_m)]
            solid = _plates(shown, end)
            found += self._boxed("plate", look.camera, shown, solid, PLATE_M, self._min_plate_px)
        return found

    def _boxed(
        self,
        kind: Kind,
        camera: CameraModel,
        tracks: np.ndarray,
        solids_ego: np.ndarray,
        true_m: float,
        min_px: float,
    ) -> list[Region]:
        """Return the rectangles of solids [N, 8, 3] whose thing of `true_m` covers `min_px`."""
        if not len(tracks):
            return []
        p = apply(inverse(camera.matrix), solids_ego)
        nearest_m = np.maximum(p[..., 2].min(axis=1), _NEAR_M)
        ahead = (p[..., 2].max(axis=1) > _NEAR_M) & (camera.fy_px * true_m / nearest_m >= min_px)
        deep_m = np.maximum(p[..., 2], _NEAR_M)
        x, y = p[..., 0] / deep_m, p[..., 1] / deep_m
        if any(camera.distortion):  # beyond a wide lens the polynomial means nothing
            x, y = distort(camera, np.clip(x, -2.0, 2.0), np.clip(y, -2.0, 2.0))
        u, v = camera.fx_px * x + camera.cx_px, camera.fy_px * y + camera.cy_px
        edges = np.stack([u.min(1), v.min(1), u.max(1), v.max(1)], axis=1)
        inside = (edges[:, 2] > 0) & (edges[:, 3] > 0)
        inside &= (edges[:, 0] < camera.width_px) & (edges[:, 1] < camera.height_px)
        edges = np.clip(edges, -1.0, 8192.0)
        return [
            Region(
                kind=kind,
                left_px=math.floor(left),
                top_px=math.floor(top),
                right_px=math.ceil(right) + 1,
                bottom_px=math.ceil(bottom) + 1,
                score=float(track["score_prob"]),
            )
            for track, (left, top, right, bottom) in zip(
                tracks[ahead & inside], edges[ahead & inside].tolist(), strict=True
            )
        ]


def _heads(tracks: np.ndarray) -> np.ndarray:
    """Return the volumes float64 [N, 8, 3] that hold the heads: the top fifth, and room to err."""
    range_m, height_m = _range_m(tracks), tracks["height_m"].astype(np.float64)
    wide_m, high_m = 0.7 + 0.05 * range_m, 0.1 + 0.02 * range_m
    low_m = 0.8 * height_m - high_m
    return _solids(tracks, 0.0 * range_m, wide_m, wide_m, low_m, height_m + high_m)


def _plates(tracks: np.ndarray, end: float) -> np.ndarray:
    """Return the volumes [N, 8, 3] where plates sit at the front (+1) or the rear (-1)."""
    range_m, height_m = _range_m(tracks), tracks["height_m"].astype(np.float64)
    at_m = end * tracks["length_m"].astype(np.float64) / 2
    deep_m, wide_m = 0.0 * range_m + 0.4, PLATE_M / 2 + 0.2 + 0.02 * range_m
    return _solids(tracks, at_m, deep_m, wide_m, 0.1 * height_m, np.minimum(0.5 * height_m, 1.2))


def _range_m(tracks: np.ndarray) -> np.ndarray:
    """Return how far tracks are: their places err by as many parts in a hundred as are given."""
    return np.asarray(np.hypot(tracks["x_m"], tracks["y_m"]), np.float64)


def _faces(tracks: np.ndarray, end: float, eye_m: np.ndarray) -> np.ndarray:
    """Return whether a vehicle's end can be seen from the eye (x, y, ego frame)."""
    c, s = end * np.cos(tracks["yaw_rad"]), end * np.sin(tracks["yaw_rad"])
    half = tracks["length_m"] / 2
    dx, dy = eye_m[0] - tracks["x_m"] - half * c, eye_m[1] - tracks["y_m"] - half * s
    return np.asarray(c * dx + s * dy > -0.5)


def _solids(
    tracks: np.ndarray,
    along_m: np.ndarray,
    half_x_m: np.ndarray,
    half_y_m: np.ndarray,
    low_m: np.ndarray,
    high_m: np.ndarray,
) -> np.ndarray:
    """Return corners [N, 8, 3], ego frame, of upright boxes along the tracks' headings."""
    x = along_m[:, None] + half_x_m[:, None] * _CORNERS[:, 0]
    y = half_y_m[:, None] * _CORNERS[:, 1]
    z = low_m[:, None] + (high_m - low_m)[:, None] * _CORNERS[:, 2]
    yaw = tracks["yaw_rad"].astype(np.float64)[:, None]
    c, s = np.cos(yaw), np.sin(yaw)
    x_ego = tracks["x_m"].astype(np.float64)[:, None] + c * x - s * y
    y_ego = tracks["y_m"].astype(np.float64)[:, None] + s * x + c * y
    return np.stack([x_ego, y_ego, z], axis=-1)


def believed(records: Sequence[Record]) -> list[np.ndarray]:
    """Return per tick TRACK [N], ego frame: what was seen, and what must have been there.

    Each track is moved to the ticks within SPEAKS_FOR_S on which the car did not have it, at its
    velocity over ground, through the ego's poses.
    """
    seen = [_seen(record) for record in records]
    time_s = np.array([r.observation.frame.mono_ns for r in records], np.float64) * 1e-9
    poses = np.array([_pose(record) for record in records]).reshape(-1, 3)
    extra: list[list[np.ndarray]] = [[] for _ in records]
    for rows, ticks in _by_track(seen):
        order = np.arange(len(records))
        after = np.clip(np.searchsorted(ticks, order), 0, len(ticks) - 1)
        before = np.maximum(after - 1, 0)
        to_after = np.abs(time_s[ticks[after]] - time_s)
        nearer = to_after < np.abs(time_s[ticks[before]] - time_s)
        source = np.where(nearer, after, before)
        dt_s = time_s - time_s[ticks[source]]
        wanted = (np.abs(dt_s) <= SPEAKS_FOR_S) & ~np.isin(order, ticks)
        for tick in np.flatnonzero(wanted):
            at = source[tick]
            extra[tick].append(_moved(rows[at], poses[ticks[at]], poses[tick], dt_s[tick]))
    return [
        np.concatenate([rows, np.array(more, TRACK)]) if more else rows
        for rows, more in zip(seen, extra, strict=True)
    ]


def _seen(record: Record) -> np.ndarray:
    told, own = record.observation.traffic, record.tick.scene if record.tick else None
    rows = np.concatenate([scene.tracks for scene in (told, own) if scene] or [np.zeros(0, TRACK)])
    if told is not None:  # the log's annotators count their road users from 1 too
        rows["track_id"][: len(told.tracks)] += _TOLD
    sane = np.ones(len(rows), bool)
    for name in ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "height_m", "vx_mps", "vy_mps"):
        sane &= np.isfinite(rows[name]) & (np.abs(rows[name]) < 1e4)
    return rows[sane]


def _pose(record: Record) -> tuple[float, float, float]:
    ego = record.observation.ego
    return (ego.x_m, ego.y_m, ego.yaw_rad) if ego else (0.0, 0.0, 0.0)


def _by_track(seen: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each track its rows and the ticks that hold them, in order."""
    rows = np.concatenate([*seen, np.zeros(0, TRACK)])
    ticks = np.repeat(np.arange(len(seen)), [len(s) for s in seen])
    owned = rows["track_id"] > 0
    rows, ticks = rows[owned], ticks[owned]
    order = np.argsort(rows["track_id"], kind="stable")
    cuts = np.flatnonzero(np.diff(rows["track_id"][order])) + 1
    return [(rows[part], ticks[part]) for part in np.split(order, cuts) if len(part)]


def _moved(row: np.ndarray, here: np.ndarray, there: np.ndarray, dt_s: float) -> np.ndarray:
    """Return a track as seen from another pose, `dt_s` later (or earlier)."""
    c, s = math.cos(here[2]), math.sin(here[2])
    x, y = row["x_m"] + row["vx_mps"] * dt_s, row["y_m"] + row["vy_mps"] * dt_s
    east, north = c * x - s * y + here[0] - there[0], s * x + c * y + here[1] - there[1]
    turn = float(here[2] - there[2])
    c, s = math.cos(there[2]), math.sin(there[2])
    out = row.copy()
    out["x_m"], out["y_m"] = c * east + s * north, -s * east + c * north
    out["yaw_rad"] = row["yaw_rad"] + turn
    return out
