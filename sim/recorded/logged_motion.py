"""Motion JSON, our own documented schema of recorded traffic (docs/reference/motion-json.md).

The lake writes a mined clip in it; anything else that has tracks can be written in it too.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.recorded.logged_scene import (
    MAX_ACTORS,
    DuplicateTimeError,
    EmptyTrackError,
    Goal,
    Lane,
    LoggedScene,
    Paint,
    PoseNotFiniteError,
    SceneDamagedError,
    TooManyActorsError,
    UnknownEgoError,
    distinct,
    kind_index,
    outline,
    points,
)
from sim.recorded.logged_tables import read_json
from sim.town.lanes import offset_line
from vehicle.contracts import wire
from vehicle.contracts.scenario import Scenario
from vehicle.importers.motion import Mounting, motion_from_poses

SCHEMA: Final = "motion/1"
FAMILY: Final = "logged"
"""Family of a Scenario whose world is the file it stands in, not a town."""


def read_motion(path: Path) -> LoggedScene:
    """Return the scene of a motion JSON file.

    Raises:
        LoggedSceneError: another schema, missing fields, bad tracks, no ego or no road.
    """
    data = read_json(path)
    if data.get("schema") != SCHEMA:
        raise SceneDamagedError(
            f"{path} has the schema {data.get('schema')!r}, expected {SCHEMA!r}"
        )
    name = str(data.get("name") or path.stem)
    where = f"motion {name}"
    dt, steps = _number(data, "dt_s", where), int(_number(data, "steps", where))
    if not 2 <= steps <= 100_000 or not 0.005 <= dt <= 1.0:
        raise SceneDamagedError(f"{where}: {steps} steps of {dt} s; expected 2 or more of 0.005..1")
    start, ego = _ego(data, steps, dt, where)
    origin = np.round(start[:2])
    start[:2] -= origin
    if ego is not None:
        ego[:, :2] -= origin
    ground = _object(data, "map", where)
    lanes = tuple(_lane(row, origin, where) for row in _list(ground, "lanes", where))
    return LoggedScene(
        name=name, source=str(data.get("source") or "motion"), dt_s=dt, start=start, ego=ego,
        lanes=lanes,
        areas_m=tuple(
            tuple(points(r, f"{where}: drivable", 3) - origin for r in _list(a, "rings", where))
            for a in _list(ground, "drivable", where)
        ),
        paint=tuple(
            Paint(
                points_m=distinct(points(p.get("points_m"), f"{where}: line") - origin),
                yellow=p.get("colour") == "yellow",
                dashed=p.get("style") == "dashed",
            )
            for p in _list(ground, "lines", where)
        ),
        crossings_m=tuple(
            points(c.get("ring_m"), f"{where}: crossing", 3) - origin
            for c in _list(ground, "crossings", where)
        ),
        goal=_goal(data.get("goal"), origin, where),
        scenario=_scenario(data.get("scenario"), where),
        origin_m=(float(origin[0]), float(origin[1])),
        **_tracks(_list(data, "tracks", where), steps, origin, where),
    )  # fmt: skip


def _object(data: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = data.get(key)
    if not isinstance(value, dict):
        raise SceneDamagedError(f"{where}.{key} is {type(value).__name__}, expected an object")
    return value


def _list(data: Any, key: str, where: str) -> list[Any]:
    value = data.get(key, []) if isinstance(data, dict) else None
    if not isinstance(value, list) or (
        key != "rings" and any(not isinstance(v, dict) for v in value)
    ):
        raise SceneDamagedError(f"{where}.{key} is no list of objects")
    return value


def _number(data: dict[str, Any], key: str, where: str, otherwise: float | None = None) -> float:
    value = data.get(key, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SceneDamagedError(f"{where}.{key} is {value!r}, expected a number")
    if not -1e15 < value < 1e15:
        raise PoseNotFiniteError(f"{where}.{key} is out of range, expected a finite number")
    return float(value)


def _column(row: dict[str, Any], key: str, steps: int, where: str) -> np.ndarray:
    """Return a list of `steps` numbers, NaN where null."""
    value = row.get(key)
    try:
        column = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SceneDamagedError(f"{where}.{key} does not hold numbers: {error}") from error
    if column.ndim == 1 and len(column) == 0:
        raise EmptyTrackError(f"{where}.{key} is empty")
    if column.shape != (steps,):
        raise SceneDamagedError(f"{where}.{key} has shape {column.shape}, expected {steps} numbers")
    return column


def _ego(
    data: dict[str, Any], steps: int, dt: float, where: str
) -> tuple[np.ndarray, np.ndarray | None]:
    ego = data.get("ego")
    if not isinstance(ego, dict):
        raise UnknownEgoError(f"{where} has no ego: give its path, or only where it starts")
    if "start" in ego:
        at = _object(ego, "start", f"{where}.ego")
        columns = ("x_m", "y_m", "yaw_rad", "speed_mps")
        return np.array([_number(at, k, f"{where}.ego.start") for k in columns]), None
    rows = np.stack([_column(ego, k, steps, f"{where}.ego") for k in ("x_m", "y_m", "yaw_rad")])
    if not np.isfinite(rows).all():
        raise PoseNotFiniteError(f"{where}.ego has a pose that is not finite")
    if steps < 3:
        raise EmptyTrackError(f"{where}.ego has {steps} poses, expected 3 or more")
    motion = motion_from_poses(
        dt * np.arange(steps), rows[:2].T.copy(), rows[2], mounting=Mounting()
    )
    states = np.column_stack([motion.xy_m, motion.yaw_rad, np.maximum(motion.speed_mps, 0.0)])
    return states[0].copy(), states


def _tracks(
    rows: list[dict[str, Any]], steps: int, origin: np.ndarray, where: str
) -> dict[str, Any]:
    if len(rows) > MAX_ACTORS:
        raise TooManyActorsError(f"{where} has {len(rows)} actors, at most {MAX_ACTORS}")
    poses, valid = np.zeros((len(rows), steps, 3)), np.zeros((len(rows), steps), bool)
    names, kinds, sizes = [], [], []
    for i, row in enumerate(rows):
        name = str(row.get("id"))
        here = f"{where}: track {name!r}"
        if name in names:
            raise DuplicateTimeError(f"{here} occurs twice: two poses at one time")
        poses[i] = np.stack([_column(row, k, steps, here) for k in ("x_m", "y_m", "yaw_rad")], 1)
        valid[i] = _column(row, "valid", steps, here) > 0.5
        if not valid[i].any():
            raise EmptyTrackError(f"{here} is never valid")
        poses[i, :, :2] -= origin
        names.append(name)
        kinds.append(kind_index(str(row.get("kind"))))
        sizes.append([_number(row, k, here) for k in ("length_m", "width_m", "height_m")])
    return {
        "names": tuple(names),
        "kinds": np.array(kinds, np.int64),
        "sizes_m": np.array(sizes, np.float64).reshape(-1, 3),
        "poses": poses,
        "valid": valid,
    }


def _lane(row: dict[str, Any], origin: np.ndarray, where: str) -> Lane:
    name = str(row.get("id"))
    where = f"{where}: lane {name!r}"
    centre = distinct(points(row.get("centre_m"), where) - origin)
    width = _number(row, "width_m", where, 3.5)
    limit = row.get("speed_limit_mps")
    junction = row.get("junction")
    return Lane(
        name=name,
        centre_m=centre,
        outline_m=outline(offset_line(centre, width / 2), offset_line(centre, -width / 2)),
        width_m=width,
        speed_mps=None if limit is None else _number(row, "speed_limit_mps", where),
        successors=_names(row, "successors", where),
        beside=_names(row, "beside", where),
        junction=None if junction is None else bool(junction),
    )


def _names(row: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = row.get(key) or []
    if not isinstance(value, list):
        raise SceneDamagedError(f"{where}.{key} is {value!r}, expected a list of lane ids")
    return tuple(str(v) for v in value)


def _scenario(data: Any, where: str) -> Scenario | None:
    if data is None:
        return None
    try:
        scenario = wire.from_plain(Scenario, data)
    except wire.ContractError as error:
        raise SceneDamagedError(f"{where}.scenario: {error}") from error
    if scenario.family != FAMILY:
        raise SceneDamagedError(f"{where}.scenario.family is {scenario.family!r}, not {FAMILY!r}")
    return scenario


def _goal(data: Any, origin: np.ndarray, where: str) -> Goal | None:
    if data is None:
        return None
    where = f"{where}.goal"
    if not isinstance(data, dict):
        raise SceneDamagedError(f"{where} is {type(data).__name__}, expected an object or null")
    spans = {}
    for key in ("speed_mps", "yaw_rad"):
        span = data.get(key)
        if span is not None:
            if not isinstance(span, list) or len(span) != 2:
                raise SceneDamagedError(f"{where}.{key} is {span!r}, expected [least, most]")
            low, high = (_number({key: v}, key, where) for v in span)
            spans[key] = (low, high)
    return Goal(
        regions_m=tuple(
            points(r, where, 3) - origin
            for r in _list({"rings": data.get("rings", [])}, "rings", where)
        ),
        from_s=_number(data, "from_s", where),
        to_s=_number(data, "to_s", where),
        **spans,
    )
