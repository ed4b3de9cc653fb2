"""nuScenes scenes as tables: every road user at 10 Hz, the recording car among them, and the map.

The recording car is the track "ego" (its box origin is the rear axle, as nuScenes' ego pose is);
the others become the route's traffic. pyarrow is imported here and only when asked for: the car
itself runs without it (docs/decisions/0003-importers-use-pyarrow.md).

Source: Caesar et al., nuScenes (2020); tables in the shape of ScenarioNet (2023).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.scene import KINDS, TRACK, LaneLine, Scene
from vehicle.contracts.wire import RefusedError
from vehicle.geometry import to_ego_2d
from vehicle.importers.layout import LogDamagedError, find_folder, require_files, table
from vehicle.importers.motion import (
    HUMAN,
    VELOCITY_WINDOW_S,
    Motion,
    Mounting,
    check_times,
    driven_path,
    fit,
    motion_from_poses,
    split_jumps,
)
from vehicle.sources import LogSource

LAYOUT: Final = "a scene folder with tracks.parquet, map.parquet and meta.json"
LANE_RANGE_M: Final = 50.0
LANE_STEP_M: Final = 2.0
TRUCK_LENGTH_M: Final = 6.5
"""The tables call everything on four wheels VEHICLE; what is longer than this becomes a truck."""

_COLUMNS: Final = ("t_s", "x_m", "y_m", "heading_rad", "length_m", "width_m", "height_m")
_KINDS: Final = {"VEHICLE": "car", "PEDESTRIAN": "pedestrian", "CYCLIST": "cyclist"}


class MissingPyarrowError(RefusedError, ImportError):
    """The tables are Parquet, and pyarrow is not installed."""


def open_log(path: Path) -> LogSource:
    """Return one scene as a source: ego motion, the driven path, and the traffic around it.

    Raises:
        LogLayoutError: files are missing, or `path` holds several scenes.
        LogDamagedError: a table does not read, or has no "ego" track.
        MissingPyarrowError: pyarrow is not installed.
    """
    folder = find_folder(path, "tracks.parquet", "nuscenes", LAYOUT)
    require_files(folder, ("tracks.parquet", "map.parquet", "meta.json"), "nuscenes", LAYOUT)
    about = _meta(folder / "meta.json")
    motion, traffic = _tracks(folder / "tracks.parquet")
    lanes = _lanes(folder / "map.parquet")
    metadata = {
        "car_id": "nuscenes",
        "route_id": str(about.get("scene") or folder.resolve().name),
        "source": "nuscenes",
        "jurisdiction": "XX",
        "tag.tracks": str(len({int(i) for rows in traffic for i in rows["track_id"]})),
    }

    def walk() -> Iterator[Observation]:
        states = motion.states()
        for i, (state, guidance) in enumerate(zip(states, driven_path(motion), strict=True)):
            yield Observation(
                frame=FrameSet(frame_id=i, mono_ns=state.mono_ns),
                ego=state,
                guidance=guidance,
                driver=HUMAN,
                traffic=Scene(
                    frame_id=i,
                    mono_ns=state.mono_ns,
                    tracks=_in_ego(traffic[i], motion, i),
                    lanes=_near(lanes, motion, i),
                    embedding=np.zeros(0, np.float32),
                    uncertainty_ratio=float("nan"),
                    fresh=True,
                ),
            )

    rate_hz = round(1.0 / float(np.median(np.diff(motion.t_s))), 2)
    return LogSource(rig=None, rate_hz=rate_hz, metadata=metadata, ticks=len(motion.t_s), walk=walk)


def _meta(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise LogDamagedError(f"{path} is not JSON: {error}") from error
    if not isinstance(about, dict):
        raise LogDamagedError(f"{path} holds {type(about).__name__}, expected an object")
    return about


def _read(path: Path, columns: tuple[str, ...]) -> dict[str, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingPyarrowError(
            f"reading {path.name} needs pyarrow: pip install 'roadloop[datalake]'"
        ) from error
    try:
        read = pq.read_table(path, columns=list(columns))
        missing = [c for c in columns if c not in read.column_names]
        if missing:
            raise LogDamagedError(f"{path} lacks the columns {', '.join(missing)}")
        return {name: read.column(name).to_pylist() for name in columns}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise LogDamagedError(f"{path} does not read as Parquet: {error}") from error


def _tracks(path: Path) -> tuple[Motion, list[np.ndarray]]:
    """Return the ego's motion, and per tick TRACK rows still in scene coordinates."""
    columns = _read(path, ("track_id", "type", *_COLUMNS))
    data = table(
        np.array([columns[name] for name in _COLUMNS], dtype=np.float64).T, (-1, 7), str(path)
    )
    names, kinds = np.array(columns["track_id"]), np.array(columns["type"])
    mine = data[names == "ego"]
    mine = mine[np.argsort(mine[:, 0], kind="stable")]
    if not len(mine):
        raise LogDamagedError(f"{path} has no track 'ego', the recording car")
    check_times(mine[:, 0], f"{path}, track 'ego'")
    motion = motion_from_poses(mine[:, 0], mine[:, 1:3], mine[:, 3], mounting=Mounting())
    parts = []
    for number, name in enumerate(sorted(set(names[names != "ego"])), start=1):
        rows = names == name
        parts.append(_one(data[rows], str(kinds[rows][0]), number, mine[:, 0]))
    every = np.concatenate([p[0] for p in parts]) if parts else np.zeros(0, TRACK)
    ticks = np.concatenate([p[1] for p in parts]) if parts else np.zeros(0, np.int64)
    return motion, [every[ticks == i] for i in range(len(mine))]


def _one(
    rows: np.ndarray, kind: str, number: int, ego_t_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return one road user as TRACK rows in scene coordinates, and the tick of each row."""
    _, first = np.unique(rows[:, 0], return_index=True)
    rows = rows[first]
    tick = np.clip(np.searchsorted(ego_t_s, rows[:, 0] - 0.02), 0, len(ego_t_s) - 1)
    seen = np.abs(ego_t_s[tick] - rows[:, 0]) < 0.02
    out = np.zeros(len(rows), dtype=TRACK)
    house_kind = _KINDS.get(kind, "other")
    if house_kind == "car" and rows[:, 4].max() > TRUCK_LENGTH_M:
        house_kind = "truck"
    out["track_id"], out["kind"], out["score_prob"] = number, KINDS.index(house_kind), 1.0
    for name, column in zip(
        ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "height_m"), rows[:, 1:].T, strict=True
    ):
        out[name] = column
    if len(rows) >= 3:  # the tables' own velocities are wrong where a track begins or ends
        steady = split_jumps(rows[:, 0], rows[:, 1:3])[0]
        out["vx_mps"], out["vy_mps"] = fit(
            rows[:, 0], steady, window_s=VELOCITY_WINDOW_S, degree=1
        )[1].T
    out["age_ticks"] = np.arange(len(rows))
    return out[seen], tick[seen]


def _in_ego(rows: np.ndarray, motion: Motion, i: int) -> np.ndarray:
    out = rows.copy()
    yaw, (x, y) = float(motion.yaw_rad[i]), motion.xy_m[i]
    c, s = np.cos(yaw), np.sin(yaw)
    dx, dy = rows["x_m"] - x, rows["y_m"] - y
    out["x_m"], out["y_m"] = c * dx + s * dy, c * dy - s * dx
    vx, vy = rows["vx_mps"], rows["vy_mps"]
    out["vx_mps"], out["vy_mps"] = c * vx + s * vy, c * vy - s * vx
    out["yaw_rad"] = (rows["yaw_rad"] - yaw + np.pi) % (2 * np.pi) - np.pi
    return out


def _lanes(path: Path) -> list[tuple[str, np.ndarray]]:
    """Return ("centre" or "boundary", points [P, 2] about 2 m apart) of every line of the map."""
    columns = _read(path, ("type", "xy_m"))
    lines: list[tuple[str, np.ndarray]] = []
    for kind, flat in zip(columns["type"], columns["xy_m"], strict=True):
        if not str(kind).startswith(("LANE", "ROAD_LINE")) or not flat or len(flat) < 4:
            continue
        points = table(np.array(flat)[: len(flat) // 2 * 2].reshape(-1, 2), (-1, 2), str(path))
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        at = np.linspace(0.0, along[-1], max(2, int(along[-1] / LANE_STEP_M) + 1))
        points = np.column_stack([np.interp(at, along, points[:, k]) for k in (0, 1)])
        lines.append(("centre" if str(kind).startswith("LANE") else "boundary", points))
    return lines


def _near(lines: list[tuple[str, np.ndarray]], motion: Motion, i: int) -> tuple[LaneLine, ...]:
    here, state = motion.xy_m[i], None
    near: list[LaneLine] = []
    for kind, points in lines:
        inside = (np.abs(points - here) < LANE_RANGE_M).all(axis=1)
        if not inside.any():
            continue
        state = state or motion.state(i)
        edges = np.flatnonzero(np.diff(inside.astype(np.int8), prepend=0, append=0))
        for first, end in edges.reshape(-1, 2):  # a long line may come back into view
            if end - first >= 2:
                piece = np.round(to_ego_2d(state, points[first:end]), 2)
                near.append(LaneLine(kind=kind, points_m=piece))
    return tuple(near)
