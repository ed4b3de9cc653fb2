"""Argoverse 2 as a recorded scene: a sensor log (boxes, ego poses, map) or a forecasting scenario.

In a sensor log boxes lie in the ego frame (under the rear axle), 3-D poses are flattened. In a
forecasting scenario the car "AV" is the ego and sizes are not recorded: kinds have usual ones.

Source: Wilson et al., Argoverse 2 (2021), and the av2-api's map format.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.recorded.logged_scene import (
    EmptyTrackError,
    Lane,
    LoggedScene,
    Paint,
    PoseNotFiniteError,
    SceneDamagedError,
    Track,
    UnknownEgoError,
    distinct,
    on_grid,
    outline,
    points,
)
from sim.recorded.logged_tables import numbers, read_columns, read_json, stamps
from sim.town.lanes import arc_length
from vehicle.config import VehicleConfig
from vehicle.importers.motion import Mounting, motion_from_poses

STEP_S: Final = 0.1
_QUATERNION: Final = ("qw", "qx", "qy", "qz")
_PLACE: Final = ("tx_m", "ty_m", "tz_m")
_SIZE: Final = ("length_m", "width_m", "height_m")
_WORDS: Final = (
    (("PEDESTRIAN", "WHEELED_RIDER", "STROLLER", "WHEELCHAIR"), "pedestrian"),
    (("BICYCLIST", "BICYCLE", "CYCLIST"), "cyclist"),
    (("MOTORCYCL",), "motorcycle"),
    (("BUS",), "bus"),
    (("TRAILER",), "trailer"),
    (("TRUCK", "LARGE_VEHICLE"), "truck"),
    (("REGULAR_VEHICLE", "VEHICLE"), "car"),
    (("DOG", "ANIMAL"), "animal"),
    (("CONE", "BARREL"), "cone"),
    (("BOLLARD", "SIGN", "CONSTRUCTION", "STATIC"), "debris"),
)
_USUAL_M: Final = {
    "car": (4.6, 1.9, 1.6),
    "bus": (11.0, 2.6, 3.2),
    "cyclist": (1.8, 0.7, 1.7),
    "motorcycle": (2.1, 0.8, 1.6),
    "pedestrian": (0.6, 0.6, 1.75),
}


def kind_of(category: str) -> str:
    """Return the house's kind of an Argoverse category."""
    name = category.upper()
    return next((kind for words, kind in _WORDS if any(w in name for w in words)), "other")


def read_argoverse(folder: Path) -> LoggedScene:
    """Return a log folder (annotations.feather) or a scenario folder (scenario_*.parquet).

    Raises:
        LoggedSceneError: a file is missing or damaged, a track is bad, or there is no ego.
    """
    where = f"argoverse {folder.resolve().name}"
    maps = sorted(folder.glob("map/log_map_archive_*.json")) or sorted(
        folder.glob("log_map_archive_*.json")
    )
    if not maps:
        raise SceneDamagedError(f"{where} has no log_map_archive_*.json")
    if (folder / "annotations.feather").is_file():
        ego, tracks = _log(folder, where)
    else:
        ego, tracks = _scenario(folder, where)
    origin = np.round(ego[0, 1:3])
    grid = ego[0, 0] + STEP_S * np.arange(int((ego[-1, 0] - ego[0, 0]) / STEP_S + 1e-6) + 1)
    rows = np.stack([np.interp(grid, ego[:, 0], c) for c in (*ego[:, 1:3].T, np.unwrap(ego[:, 3]))])
    if len(grid) < 3:
        raise EmptyTrackError(f"{where}: the ego has {len(ego)} poses, expected a second or more")
    motion = motion_from_poses(grid, rows[:2].T - origin, rows[2], mounting=Mounting())
    states = np.column_stack([motion.xy_m, motion.yaw_rad, np.maximum(motion.speed_mps, 0.0)])
    lanes, areas, paint, crossings = _map(read_json(maps[0]), origin, where)
    return LoggedScene(
        name=folder.resolve().name, source="argoverse", dt_s=STEP_S, start=states[0], ego=states,
        lanes=lanes, areas_m=areas, paint=paint, crossings_m=crossings,
        origin_m=(float(origin[0]), float(origin[1])), **on_grid(tracks, grid, origin, where),
    )  # fmt: skip


def _rotations(q: np.ndarray) -> np.ndarray:
    """Return [N, 3, 3] of unit quaternions w, x, y, z."""
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _log(folder: Path, where: str) -> tuple[np.ndarray, list[Track]]:
    pose = read_columns(
        folder / "city_SE3_egovehicle.feather", ("timestamp_ns", *_QUATERNION, *_PLACE)
    )
    names = ("timestamp_ns", "track_uuid", "category", *_SIZE, *_QUATERNION, *_PLACE)
    boxes = read_columns(folder / "annotations.feather", names)
    values = numbers(pose, _QUATERNION + _PLACE, where)
    if not len(values) or not len(boxes["timestamp_ns"]):
        raise EmptyTrackError(f"{where} has {len(values)} ego poses and no box to go with them")
    if not np.isfinite(values).all():
        raise PoseNotFiniteError(f"{where}: an ego pose is not finite")
    pose_ns, first = np.unique(stamps(pose, "timestamp_ns", where), return_index=True)
    values = values[first]
    box_ns = stamps(boxes, "timestamp_ns", where)
    at = np.searchsorted(pose_ns, box_ns)
    if (at >= len(pose_ns)).any() or (pose_ns[at] != box_ns).any():
        raise UnknownEgoError(f"{where}: boxes lie at a time for which there is no ego pose")
    turn, place = _rotations(values[:, :4]), values[:, 4:]
    local = numbers(boxes, _QUATERNION + _PLACE + _SIZE, where)
    if not np.isfinite(local).all():
        row = int(np.argmax(~np.isfinite(local).all(axis=1)))
        raise PoseNotFiniteError(f"{where}: track {boxes['track_uuid'][row]!r} is not finite")
    centre = np.einsum("nij,nj->ni", turn[at], local[:, 4:7]) + place[at]
    ahead = np.einsum("nij,nj->ni", turn[at], _rotations(local[:, :4])[:, :, 0])
    zero = box_ns.min()
    poses = np.column_stack([centre[:, :2], np.arctan2(ahead[:, 1], ahead[:, 0])])
    ids, kinds = boxes["track_uuid"].astype(str), boxes["category"].astype(str)
    tracks = []
    for name in dict.fromkeys(ids):
        mine = np.flatnonzero(ids == name)
        mine = mine[np.argsort(box_ns[mine], kind="stable")]
        tracks.append(
            Track(
                name=name,
                kind=kind_of(kinds[mine[0]]),
                t_s=(box_ns[mine] - zero) * 1e-9,
                poses=poses[mine],
                size_m=tuple(np.median(local[mine, 7:10], axis=0)),
            )
        )
    inside = (pose_ns >= zero) & (pose_ns <= box_ns.max())
    yaw = np.arctan2(turn[inside, 1, 0], turn[inside, 0, 0])
    return np.column_stack([(pose_ns[inside] - zero) * 1e-9, place[inside, :2], yaw]), tracks


def _scenario(folder: Path, where: str) -> tuple[np.ndarray, list[Track]]:
    found = sorted(folder.glob("scenario_*.parquet"))
    if not found:
        raise SceneDamagedError(f"{where} has neither annotations.feather nor scenario_*.parquet")
    number_columns = ("timestep", "position_x", "position_y", "heading")
    columns = read_columns(found[0], ("track_id", "object_type", *number_columns))
    data = numbers(columns, number_columns, where)
    data[:, 0] *= STEP_S
    ids, kinds = columns["track_id"].astype(str), columns["object_type"].astype(str)
    tracks, ego = [], None
    config = VehicleConfig()
    for name in dict.fromkeys(ids):
        rows = data[ids == name]
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        if name == "AV":
            ego = rows.copy()
            reach = config.length_m / 2 - config.rear_overhang_m
            ego[:, 1] -= reach * np.cos(rows[:, 3])
            ego[:, 2] -= reach * np.sin(rows[:, 3])
            continue
        kind = kind_of(str(kinds[ids == name][0]))
        size = _USUAL_M.get(kind, (0.7, 0.7, 1.0))
        tracks.append(Track(name=name, kind=kind, t_s=rows[:, 0], poses=rows[:, 1:], size_m=size))
    if ego is None:
        raise UnknownEgoError(f"{where} has no track 'AV', the recording car")
    if not np.isfinite(ego).all():
        raise PoseNotFiniteError(f"{where}: track 'AV' has a pose that is not finite")
    return ego, tracks


def _xy(values: Any, where: str, least: int = 2) -> np.ndarray:
    try:
        return points([[p["x"], p["y"]] for p in values], where, least)
    except (TypeError, KeyError) as error:
        raise SceneDamagedError(f"{where} does not hold points: {error!r}") from error


def _map(
    data: dict[str, Any], origin: np.ndarray, where: str
) -> tuple[
    tuple[Lane, ...],
    tuple[tuple[np.ndarray, ...], ...],
    tuple[Paint, ...],
    tuple[np.ndarray, ...],
]:
    lanes, paint = [], []
    try:
        segments = list(data["lane_segments"].values())
        areas = [a["area_boundary"] for a in data["drivable_areas"].values()]
        crossings = [(c["edge1"], c["edge2"]) for c in data["pedestrian_crossings"].values()]
    except (KeyError, AttributeError, TypeError) as error:
        raise SceneDamagedError(f"{where}: the map lacks {error}") from error
    for segment in segments:
        lane, marks = _segment(segment, origin, where)
        paint += marks
        if lane is not None:
            lanes.append(lane)
    grounds = tuple((_xy(a, f"{where}: drivable area", 3) - origin,) for a in areas)
    stripes = tuple(
        outline(_xy(a, f"{where}: crossing") - origin, _xy(b, f"{where}: crossing") - origin)
        for a, b in crossings
    )
    return tuple(lanes), grounds, tuple(paint), stripes


def _segment(
    segment: dict[str, Any], origin: np.ndarray, where: str
) -> tuple[Lane | None, list[Paint]]:
    where = f"{where}: lane {segment.get('id')}"
    try:
        sides = [distinct(_xy(segment[f"{s}_lane_boundary"], where)) for s in ("left", "right")]
        marks = [str(segment[f"{s}_lane_mark_type"]) for s in ("left", "right")]
        kind, junction = segment["lane_type"], bool(segment["is_intersection"])
        following = tuple(str(i) for i in segment["successors"])
        beside = [segment.get(f"{s}_neighbor_id") for s in ("left", "right")]
    except KeyError as error:
        raise SceneDamagedError(f"{where} lacks {error}") from error
    sides = [side - origin for side in sides]
    paint = [
        Paint(points_m=side, yellow="YELLOW" in mark, dashed="DASH" in mark)
        for side, mark in zip(sides, marks, strict=True)
        if mark not in ("NONE", "UNKNOWN")
    ]
    if kind == "BIKE":
        return None, paint
    at = np.linspace(0.0, 1.0, max(int(max(arc_length(s)[-1] for s in sides) / 2.0), 2))
    left, right = (_at_share(s, at) for s in sides)
    width = float(np.median(np.hypot(*(left - right).T)))
    lane = Lane(
        name=str(segment["id"]),
        centre_m=distinct((left + right) / 2),
        outline_m=outline(*sides),
        width_m=max(width, 2.0),
        successors=following,
        beside=tuple(str(b) for b in beside if b is not None),
        junction=junction,
    )
    return lane, paint


def _at_share(line: np.ndarray, share: np.ndarray) -> np.ndarray:
    s = arc_length(line)
    return np.stack([np.interp(share * s[-1], s, line[:, k]) for k in (0, 1)], axis=1)
