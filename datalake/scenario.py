"""A clip becomes a scene that can be run again, and changed: what if he had come a second later?

The scene is motion JSON (docs/reference/motion-json.md): the ego's path, the road users as the car
perceived them, and ground laid out around where vehicles went, since a clip holds no map. The
simulator reads it; the lake never imports the simulator.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np

from datalake.clips import MissingClipError, clip_object
from datalake.jurisdiction import require_open
from datalake.lake import Lake
from vehicle.contracts import wire
from vehicle.contracts.ego import EgoState
from vehicle.contracts.home import Home
from vehicle.contracts.scenario import LightName, Scenario
from vehicle.contracts.scene import KINDS
from vehicle.contracts.tick import Record
from vehicle.contracts.wire import RefusedError
from vehicle.geometry import to_local_2d
from vehicle.route import RouteReader

SCHEMA: Final = "motion/1"
LEAST_TICKS: Final = 3
"""A track believed in for fewer ticks is a flicker, not a road user."""

_VEHICLES: Final = ("car", "truck", "cyclist", "bus", "motorcycle", "trailer", "emergency")
_PIECE: Final = 5
_BEYOND_M: Final = 100.0
_MOVED_M: Final = 2.0
_SHIFT_S: Final = (-1.5, 1.5)
_SPEED: Final = (0.7, 1.3)


class UnusableClipError(RefusedError, ValueError):
    """A clip cannot become a scene: too short, or without the car's own motion."""


class UnknownTrackError(RefusedError, ValueError):
    """A scene has no such track to change."""


class EmptyChangeError(RefusedError, ValueError):
    """After the change the road user would never be there."""


def scene_of(path: Path, *, name: str, tags: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a route file or clip as motion JSON.

    Args:
        path: MCAP file.
        name: of the scene.
        tags: of the clip; "light" and "weather" go into its Scenario.
    Raises:
        UnusableClipError: fewer than three ticks with ego motion.
        RouteCorruptError, RouteMissingError: the file cannot be read.
    """
    reader = RouteReader(path)
    records = [r for r in reader.records() if r.observation.ego is not None]
    if len(records) < LEAST_TICKS:
        raise UnusableClipError(
            f"{name} has {len(records)} ticks with ego motion, expected {LEAST_TICKS} or more"
        )
    egos = [cast(EgoState, r.observation.ego) for r in records]
    t_s = np.array([(e.mono_ns - egos[0].mono_ns) * 1e-9 for e in egos])
    dt = round(1.0 / reader.rate_hz, 4)
    grid = dt * np.arange(round(float(t_s[-1]) / dt) + 1)
    if len(grid) < LEAST_TICKS or (np.diff(t_s) <= 0.0).any():
        raise UnusableClipError(f"{name}: the times of its {len(records)} ticks do not go on")
    yaw = np.unwrap([e.yaw_rad for e in egos])
    path_m = np.array([[e.x_m, e.y_m] for e in egos])
    ego = [np.interp(grid, t_s, c) for c in (path_m[:, 0], path_m[:, 1], yaw)]
    tracks = _tracks(records, egos, t_s, grid)
    tags = {**reader.metadata, **{f"tag.{k}": v for k, v in (tags or {}).items()}}
    return {
        "schema": SCHEMA,
        "name": name,
        "source": f"clip of {reader.metadata.get('source', 'unknown')}",
        "dt_s": dt,
        "steps": len(grid),
        "ego": {k: _numbers(v) for k, v in zip(("x_m", "y_m", "yaw_rad"), ego, strict=True)},
        "tracks": tracks,
        "map": _map(records, egos, path_m, tracks),
        "goal": None,
        "scenario": wire.to_plain(_scenario(tags, dt, float(grid[-1]))),
        "changes": [],
    }


def scene_of_clip(home: Home, clip_id: str) -> dict[str, Any]:
    """Return a clip of the lake as motion JSON.

    Args:
        clip_id: its sha256, or the beginning of it.
    Raises:
        MissingClipError: the lake has no such clip, or several.
        ClosedJurisdictionError: the clip may not leave the lake.
    """
    if not clip_id or set(clip_id) - set("0123456789abcdef"):
        raise MissingClipError(f"{clip_id!r} is neither a file nor the sha256 of a clip")
    with Lake(home) as lake:
        found = lake.sql(
            f"SELECT clip_id, tags FROM clips WHERE starts_with(clip_id, '{clip_id}')"
        ).to_pylist()
        require_open(lake, [row["clip_id"] for row in found])
    if len(found) != 1:
        raise MissingClipError(
            f"{len(found)} clips of the lake begin with {clip_id!r}; "
            "`roadloop datalake sql 'SELECT clip_id FROM clips'` lists them"
        )
    whole = found[0]["clip_id"]
    tags = {str(k): str(v) for k, v in json.loads(found[0]["tags"] or "{}").items()}
    return scene_of(clip_object(home, whole), name=whole[:12], tags=tags)


def read_scene(path: Path) -> dict[str, Any]:
    """Return a motion JSON file that was written before.

    Raises:
        wire.SchemaError: not JSON, or of another schema.
    """
    try:
        scene = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise wire.SchemaError(f"{path} does not read as JSON: {error}") from error
    if not isinstance(scene, dict) or scene.get("schema") != SCHEMA:
        raise wire.SchemaError(f"{path} is no scene: its schema is not {SCHEMA!r}")
    return scene


def change(
    scene: dict[str, Any],
    *,
    track: str | None = None,
    shift_s: float | None = None,
    speed_factor: float | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Return a scene in which one road user comes at another time, or at another speed.

    Args:
        scene: motion JSON; left as it is.
        track: id of the road user; None: one that moves, drawn by `seed`.
        shift_s: later (positive) or earlier on its path.
        speed_factor: of its speed from where it is first seen.
        seed: draws what is not given, the same on every run.
    Raises:
        UnknownTrackError: no such track, or none that moves.
        EmptyChangeError: nothing of it would be left.
    """
    rng = np.random.default_rng((9_001, 0 if seed is None else seed))
    rows = {str(t["id"]): t for t in scene["tracks"]}
    if track is None:
        moving = sorted(i for i, t in rows.items() if _way_m(t) > _MOVED_M)
        if not moving:
            raise UnknownTrackError(f"nobody moves in {scene['name']}: there is nothing to change")
        track = moving[int(rng.integers(len(moving)))]
    if track not in rows:
        known = ", ".join(sorted(rows)[:12])
        raise UnknownTrackError(f"{scene['name']} has no track {track!r}; it has {known}")
    drawn = shift_s is None and speed_factor is None
    if drawn:
        shift_s, speed_factor = float(rng.uniform(*_SHIFT_S)), float(rng.uniform(*_SPEED))
    shift = 0.0 if shift_s is None else shift_s
    factor = 1.0 if speed_factor is None else speed_factor
    wire.require_finite("change", shift_s=shift, speed_factor=factor)
    if not 0.1 <= factor <= 5.0:
        raise EmptyChangeError(f"a speed factor of {factor} is out of range, expected 0.1..5")
    moved = _moved(rows[track], scene["dt_s"], shift, factor)
    note = {"track": track, "shift_s": round(shift, 4), "speed_factor": round(factor, 4)}
    return {
        **scene,
        "tracks": [moved if str(t["id"]) == track else t for t in scene["tracks"]],
        "changes": [*scene.get("changes", []), note],
    }


def _moved(row: dict[str, Any], dt_s: float, shift_s: float, factor: float) -> dict[str, Any]:
    """Return a track on the path it had, at other times."""
    valid = np.array(row["valid"], bool)
    known = np.flatnonzero(valid)
    first, last = known[0], known[-1]
    at = first + (np.arange(len(valid)) - first - shift_s / dt_s) * factor
    there = (at >= first - 1e-9) & (at <= last + 1e-9)
    near = np.clip(np.round(at), first, last).astype(int)
    there &= valid[near]
    if not there.any():
        raise EmptyChangeError(
            f"track {row['id']!r} would never be there with a shift of {shift_s:.2f} s and a speed"
            f" factor of {factor:.2f}"
        )
    columns = {}
    for name in ("x_m", "y_m", "yaw_rad"):
        values = np.array([row[name][i] for i in known], np.float64)
        values = np.unwrap(values) if name == "yaw_rad" else values
        columns[name] = _numbers(np.interp(np.clip(at, first, last), known, values))
    return {**row, **columns, "valid": [int(v) for v in there]}


def _way_m(row: dict[str, Any]) -> float:
    known = [i for i, v in enumerate(row["valid"]) if v]
    a, b = known[0], known[-1]
    return math.hypot(row["x_m"][b] - row["x_m"][a], row["y_m"][b] - row["y_m"][a])


def _numbers(values: np.ndarray) -> list[float]:
    return [round(float(v), 4) for v in values]


def _tracks(
    records: list[Record], egos: list[EgoState], t_s: np.ndarray, grid: np.ndarray
) -> list[dict[str, Any]]:
    """Return what the car believed in, in the local frame, on even steps; id 0 has no track yet."""
    seen: dict[int, list[tuple[int, np.void]]] = {}
    for record, ego, t in zip(records, egos, t_s, strict=True):
        tick, obs = record.tick, record.observation
        scene = tick.scene if tick is not None and tick.scene is not None else obs.traffic
        step = int(np.argmin(np.abs(grid - t)))
        for row in () if scene is None else scene.tracks:
            if row["track_id"] != 0:
                here = row.copy()
                here["x_m"], here["y_m"] = to_local_2d(
                    ego, np.array([[row["x_m"], row["y_m"]]], np.float64)
                )[0]
                here["yaw_rad"] += ego.yaw_rad
                seen.setdefault(int(row["track_id"]), []).append((step, here))
    return [
        _track(i, rows, len(grid)) for i, rows in sorted(seen.items()) if len(rows) >= LEAST_TICKS
    ]


def _track(number: int, rows: Iterable[tuple[int, np.void]], steps: int) -> dict[str, Any]:
    by_step = dict(rows)
    at = np.array(sorted(by_step))
    kinds = Counter(KINDS[int(by_step[i]["kind"])] for i in at)
    out: dict[str, Any] = {"id": str(number), "kind": kinds.most_common(1)[0][0]}
    for name in ("length_m", "width_m", "height_m"):
        size = float(np.median([float(by_step[i][name]) for i in at]))
        out[name] = round(max(size, 0.2), 3)
    for name in ("x_m", "y_m", "yaw_rad"):
        values = np.array([float(by_step[i][name]) for i in at])
        values = np.unwrap(values) if name == "yaw_rad" else values
        out[name] = _numbers(np.interp(np.arange(steps), at, values))
    out["valid"] = [int(i in by_step) for i in range(steps)]
    return out


def _map(
    records: list[Record], egos: list[EgoState], path_m: np.ndarray, tracks: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the lane that was followed and ground around everywhere a vehicle went."""
    centre, width, limit = _lane(records, egos, path_m)
    areas = [*_band(centre, 1.5 * width), *_band(_sparse(path_m), 0.5 * width + 0.3)]
    for row in tracks:
        if row["kind"] not in _VEHICLES:
            continue
        known = [i for i, v in enumerate(row["valid"]) if v]
        line = np.array([[row["x_m"][i], row["y_m"][i]] for i in known])
        half = row["width_m"] / 2 + 0.6
        ends = np.array([math.cos(row["yaw_rad"][known[0]]), math.sin(row["yaw_rad"][known[0]])])
        reach = (row["length_m"] / 2 + 0.6) * ends
        areas += _band(np.array([line[0] - reach, line[0] + reach]), half)
        if _way_m(row) > _MOVED_M:
            areas += _band(_sparse(line), half)
    edges = [_offset(centre, side * width / 2) for side in (1, -1)]
    return {
        "assumed": True,
        "lanes": [
            {
                "id": "route",
                "centre_m": _pairs(centre),
                "width_m": round(width, 3),
                "speed_limit_mps": limit,
                "successors": [],
                "beside": [],
                "junction": False,
            }
        ],
        "drivable": [{"rings": [_pairs(ring)]} for ring in areas],
        "lines": [{"points_m": _pairs(e), "colour": "white", "style": "dashed"} for e in edges],
        "crossings": [],
    }


def _lane(
    records: list[Record], egos: list[EgoState], path_m: np.ndarray
) -> tuple[np.ndarray, float, float | None]:
    """Return the centre of the lane the car was guided along, its width, its limit."""
    guided = [
        (r.observation.guidance, e)
        for r, e in zip(records, egos, strict=True)
        if r.observation.guidance is not None
    ]
    if not guided:
        return _ahead(_sparse(path_m), egos[-1].yaw_rad), 3.5, None
    places = []
    for guidance, ego in guided:
        line = guidance.centreline_m
        k = int(np.argmin(np.hypot(line[:, 0], line[:, 1])))
        places.append(to_local_2d(ego, line[k : k + 1])[0])
    guidance, ego = guided[-1]
    k = int(np.argmin(np.hypot(guidance.centreline_m[:, 0], guidance.centreline_m[:, 1])))
    onwards = to_local_2d(ego, guidance.centreline_m[k + 1 :])
    centre = _sparse(np.concatenate([np.array(places), onwards]))
    yaw = math.atan2(*(centre[-1] - centre[-2])[::-1])
    width = float(np.median([g.lane_width_m for g, _ in guided]))
    limit = round(float(np.median([g.speed_limit_mps for g, _ in guided])), 3)
    return _ahead(centre, yaw), width, limit


def _ahead(line: np.ndarray, yaw: float) -> np.ndarray:
    reach = np.arange(5.0, _BEYOND_M + 1.0, 5.0)[:, None]
    return np.concatenate([line, line[-1] + reach * [math.cos(yaw), math.sin(yaw)]])


def _sparse(line: np.ndarray, step_m: float = 1.0) -> np.ndarray:
    """Return points at least `step_m` apart, two or more."""
    kept = [line[0]]
    for point in line[1:]:
        if math.hypot(*(point - kept[-1])) >= step_m:
            kept.append(point)
    if len(kept) == 1:
        kept.append(line[0] + [step_m, 0.0] if len(line) < 2 else line[-1] + [0.01, 0.0])
    return np.array(kept)


def _offset(line: np.ndarray, left_m: float) -> np.ndarray:
    d = np.gradient(line, axis=0)
    d /= np.maximum(np.hypot(d[:, 0], d[:, 1]), 1e-6)[:, None]
    return line + left_m * np.column_stack([-d[:, 1], d[:, 0]])


def _band(line: np.ndarray, half_m: float) -> list[np.ndarray]:
    """Return short polygons that cover a band along a line."""
    left, right = _offset(line, half_m), _offset(line, -half_m)
    return [
        np.concatenate([left[i : i + _PIECE + 1], right[i : i + _PIECE + 1][::-1]])
        for i in range(0, len(line) - 1, _PIECE)
    ]


def _pairs(points: np.ndarray) -> list[list[float]]:
    return [[round(float(x), 3), round(float(y), 3)] for x, y in points]


def _scenario(tags: dict[str, str], dt_s: float, duration_s: float) -> Scenario:
    light = tags.get("tag.light", "day")
    return Scenario(
        town=0,
        seed=0,
        light=cast(LightName, light if light in get_args(LightName) else "day"),
        family="logged",
        rate_hz=round(1.0 / dt_s, 4),
        duration_s=max(duration_s, dt_s),
    )
