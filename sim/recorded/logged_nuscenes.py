"""nuScenes scene tables (tracks.parquet, map.parquet, meta.json) as a recorded scene.

The track "ego" is the recording car, its origin under the rear axle. The closed rings among the
map's boundaries are the outline of the drivable ground and its holes (a map without them has its
lanes as ground); lanes come as centrelines without links, which are found where one ends and
another begins.

Source: Caesar et al., nuScenes (2020); tables in the shape of ScenarioNet (2023).
"""

from pathlib import Path
from typing import Final

import numpy as np

from sim.recorded.logged_scene import (
    DuplicateTimeError,
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
from sim.recorded.logged_tables import numbers, read_columns, read_json
from sim.town.lanes import offset_line
from vehicle.importers.motion import Mounting, motion_from_poses

LANE_WIDTH_M: Final = 3.5
_LINK_M: Final = 0.8
_LINK_RAD: Final = 0.5
_POSE: Final = ("t_s", "x_m", "y_m", "heading_rad")
_SIZE: Final = ("length_m", "width_m", "height_m")
_KINDS: Final = {
    "VEHICLE": "car",
    "PEDESTRIAN": "pedestrian",
    "CYCLIST": "cyclist",
    "TRAFFIC_CONE": "cone",
    "TRAFFIC_BARRIER": "debris",
}


def read_nuscenes(folder: Path) -> LoggedScene:
    """Return one scene folder.

    Raises:
        LoggedSceneError: a file is missing or damaged, a track is bad, or there is no ego.
    """
    about = read_json(folder / "meta.json")
    name = str(about.get("scene") or folder.resolve().name)
    where = f"nuscenes {name}"
    columns = read_columns(folder / "tracks.parquet", ("track_id", "type", *_POSE, *_SIZE))
    data = numbers(columns, _POSE + _SIZE, where)
    ids, kinds = columns["track_id"].astype(str), columns["type"].astype(str)
    ego = _ego(data[ids == "ego"], where)
    origin = np.round(ego[0, 1:3])
    dt = round(float(np.median(np.diff(ego[:, 0]))), 3)
    grid = ego[0, 0] + dt * np.arange(round(float(ego[-1, 0] - ego[0, 0]) / dt) + 1)
    tracks = []
    for track in dict.fromkeys(ids[ids != "ego"]):
        rows = data[ids == track]
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        size = np.median(rows[:, 4:7], axis=0)
        kind = _KINDS.get(str(kinds[ids == track][0]), "other")
        tracks.append(
            Track(name=track, kind=kind, t_s=rows[:, 0], poses=rows[:, 1:4], size_m=tuple(size))
        )
    motion = motion_from_poses(ego[:, 0], ego[:, 1:3] - origin, ego[:, 3], mounting=Mounting())
    states = np.column_stack([motion.xy_m, motion.yaw_rad, np.maximum(motion.speed_mps, 0.0)])
    states = np.stack([np.interp(grid, ego[:, 0], states[:, k]) for k in range(4)], axis=1)
    lanes, areas, paint = _map(folder / "map.parquet", origin, where)
    return LoggedScene(
        name=name, source="nuscenes", dt_s=dt, start=states[0], ego=states, lanes=lanes,
        areas_m=areas, paint=paint, origin_m=(float(origin[0]), float(origin[1])),
        **on_grid(tracks, grid, origin, where),
    )  # fmt: skip


def _ego(rows: np.ndarray, where: str) -> np.ndarray:
    if not len(rows):
        raise UnknownEgoError(f"{where} has no track 'ego', the recording car")
    if not np.isfinite(rows[:, :4]).all():
        raise PoseNotFiniteError(f"{where}: track 'ego' has a pose that is not finite")
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    if len(rows) < 3:
        raise EmptyTrackError(f"{where}: track 'ego' has {len(rows)} poses, expected 3 or more")
    if (np.diff(rows[:, 0]) <= 0.0).any():
        raise DuplicateTimeError(f"{where}: track 'ego' has two poses at one time")
    return rows


def _map(
    path: Path, origin: np.ndarray, where: str
) -> tuple[tuple[Lane, ...], tuple[tuple[np.ndarray, ...], ...], tuple[Paint, ...]]:
    columns = read_columns(path, ("feature_id", "type", "xy_m"))
    lines: list[tuple[str, np.ndarray]] = []
    rings, paint = [], []
    for name, kind, flat in zip(*(columns[c] for c in columns), strict=True):
        values = np.asarray(flat if flat is not None else [], np.float64)
        if len(values) % 2 or values.ndim != 1:
            raise SceneDamagedError(f"{where}: map feature {name!r} is no list of x, y pairs")
        if len(values) < 4:
            continue
        line = distinct(points(values.reshape(-1, 2), f"{where}: map feature {name!r}") - origin)
        if str(kind).startswith("LANE"):
            lines.append((str(name), line))
        elif str(name).startswith("boundary") and len(line) > 3:
            rings.append(line)
        elif str(kind).startswith("ROAD_LINE"):
            closed = len(line) > 3 and np.hypot(*(line[0] - line[-1])) < 0.01
            # dividers come as closed loops; the last edge is not painted
            line = line[:-1] if closed else line
            paint.append(
                Paint(points_m=line, yellow="YELLOW" in str(kind), dashed="BROKEN" in str(kind))
            )
    lanes = link(lines)
    areas = (tuple(rings),) if rings else tuple((lane.outline_m,) for lane in lanes)
    return lanes, areas, tuple(paint)


def link(lines: list[tuple[str, np.ndarray]]) -> tuple[Lane, ...]:
    """Return lanes of centrelines; one leads into another that begins where it ends."""
    if not lines:
        return ()
    starts = np.array([line[0] for _, line in lines])
    first = np.array([np.arctan2(*(line[1] - line[0])[::-1]) for _, line in lines])
    lanes = []
    for name, line in lines:
        yaw = np.arctan2(*(line[-1] - line[-2])[::-1])
        turn = np.abs((first - yaw + np.pi) % (2 * np.pi) - np.pi)
        near = (np.hypot(*(starts - line[-1]).T) < _LINK_M) & (turn < _LINK_RAD)
        half = LANE_WIDTH_M / 2
        lanes.append(
            Lane(
                name=name,
                centre_m=line,
                outline_m=outline(offset_line(line, half), offset_line(line, -half)),
                width_m=LANE_WIDTH_M,
                successors=tuple(lines[i][0] for i in np.flatnonzero(near) if lines[i][0] != name),
            )
        )
    return tuple(lanes)
