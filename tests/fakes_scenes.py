"""One synthetic scene in the format of every recorded dataset that can be driven in.

A straight road along x, 200 m long and 8 m wide: the ego drives at 10 m/s on the right half, a car
30 m ahead of it does the same, another is parked, somebody stands at the kerb.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 41
DT_S = 0.1
SPEED_MPS = 10.0
EAST_M, NORTH_M = 1000.0, 2000.0
"""Where the road begins: datasets live in large coordinates."""


def times() -> np.ndarray:
    return DT_S * np.arange(STEPS)


def users() -> dict[str, tuple[str, np.ndarray, tuple[float, float, float]]]:
    """Return name -> kind, x, y, yaw [T, 3] of the box centre, size."""
    t = times()
    still = np.ones_like(t)

    def at(x: np.ndarray, y: float, yaw: float = 0.0) -> np.ndarray:
        return np.stack([EAST_M + x, NORTH_M + y * still, yaw * still], axis=1)

    return {
        "lead": ("car", at(60.0 + SPEED_MPS * t, -2.0), (4.5, 1.8, 1.5)),
        "behind": ("car", at(5.0 + SPEED_MPS * t, -2.0), (4.4, 1.8, 1.5)),
        "parked": ("car", at(90.0 * still, 3.0), (4.6, 1.8, 1.5)),
        "person": ("pedestrian", at(70.0 * still, -4.6, 1.0), (0.6, 0.6, 1.75)),
    }


def ego() -> np.ndarray:
    """Return x, y, yaw [T, 3] of the rear axle."""
    t = times()
    return np.stack([EAST_M + 30.0 + SPEED_MPS * t, NORTH_M - 2.0 + 0.0 * t, 0.0 * t], axis=1)


def line(y: float, n: int = 11) -> np.ndarray:
    return np.column_stack([EAST_M + np.linspace(0.0, 200.0, n), np.full(n, NORTH_M + y)])


def nuscenes(folder: Path, *, change: Any = None) -> Path:
    """Write scene tables; `change(columns)` may spoil them first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("track_id", "type", "t_s", "x_m", "y_m", "z_m", "heading_rad")
    columns: dict[str, list[Any]] = {n: [] for n in (*names, "length_m", "width_m", "height_m")}
    rows = {"ego": ("car", ego(), (1.7, 4.1, 1.6)), **users()}
    for name, (kind, poses, size) in rows.items():
        word = "PEDESTRIAN" if kind == "pedestrian" else "VEHICLE"
        for t, (x, y, yaw) in zip(times(), poses, strict=True):
            for column, value in zip(
                columns, (name, word, float(t), x, y, 0.0, yaw, *size), strict=True
            ):
                columns[column].append(value)
    if change:
        change(columns)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "tracks.parquet")
    ring = np.concatenate([line(4.0), line(-4.0)[::-1], line(4.0)[:1]])
    features = {
        "boundary_0": ("ROAD_LINE_SOLID_SINGLE_WHITE", ring),
        "divider": ("ROAD_LINE_BROKEN_SINGLE_WHITE", line(0.0)),
        "right": ("LANE_SURFACE_STREET", line(-2.0)[:6]),
        "right-on": ("LANE_SURFACE_STREET", line(-2.0)[5:]),
        "left": ("LANE_SURFACE_STREET", line(2.0)[::-1]),
    }
    table = {
        "feature_id": list(features),
        "type": [kind for kind, _ in features.values()],
        "xy_m": [points.reshape(-1).tolist() for _, points in features.values()],
    }
    pq.write_table(pa.table(table), folder / "map.parquet")
    (folder / "meta.json").write_text(json.dumps({"scene": folder.name, "hz": 10}))
    return folder


def argoverse(folder: Path) -> Path:
    """Write a sensor log: boxes in the ego frame, poses in the city."""
    import pyarrow as pa
    import pyarrow.feather as feather

    start_ns = 315_973_157_959_879_000
    stamps = [start_ns + round(t * 1e9) for t in times()]
    still = {"qw": 1.0, "qx": 0.0, "qy": 0.0, "qz": 0.0}
    poses = [
        {"timestamp_ns": n, **still, "tx_m": x, "ty_m": y, "tz_m": 13.0}
        for n, (x, y, _) in zip(stamps, ego(), strict=True)
    ]
    boxes = []
    for name, (kind, path, size) in users().items():
        for n, (x, y, yaw), (ex, ey, _) in zip(stamps, path, ego(), strict=True):
            boxes.append(
                {
                    "timestamp_ns": n,
                    "track_uuid": name,
                    "category": "PEDESTRIAN" if kind == "pedestrian" else "REGULAR_VEHICLE",
                    **dict(zip(("length_m", "width_m", "height_m"), size, strict=True)),
                    **still,
                    **{"qw": np.cos(yaw / 2), "qz": np.sin(yaw / 2)},
                    **{"tx_m": x - ex, "ty_m": y - ey, "tz_m": 0.8},
                }
            )
    (folder / "map").mkdir(parents=True, exist_ok=True)
    feather.write_feather(pa.Table.from_pylist(boxes), folder / "annotations.feather")
    feather.write_feather(pa.Table.from_pylist(poses), folder / "city_SE3_egovehicle.feather")

    def xyz(points: np.ndarray) -> list[dict[str, float]]:
        return [{"x": float(x), "y": float(y), "z": 13.0} for x, y in points]

    lane = {
        "id": 7,
        "is_intersection": False,
        "lane_type": "VEHICLE",
        "left_lane_boundary": xyz(line(0.0)),
        "left_lane_mark_type": "DASHED_WHITE",
        "right_lane_boundary": xyz(line(-4.0)),
        "right_lane_mark_type": "SOLID_WHITE",
        "successors": [],
        "predecessors": [],
        "left_neighbor_id": None,
        "right_neighbor_id": None,
    }
    ring = np.concatenate([line(4.0), line(-4.0)[::-1]])
    ground = {
        "lane_segments": {"7": lane},
        "drivable_areas": {"1": {"area_boundary": xyz(ring), "id": 1}},
        "pedestrian_crossings": {},
    }
    (folder / "map" / "log_map_archive_x____PIT_city_1.json").write_text(json.dumps(ground))
    return folder


def commonroad(
    path: Path,
    *,
    version: str = "2018b",
    inside: str = "",
    one_way: bool = False,
    goal: tuple[float, float] = (40.0, -2.0),
) -> Path:
    """Write a scenario: the ego must be around `goal`, 40 m on, after 3 to 4 s.

    Args:
        inside: text after the XML declaration. one_way: both lanes lead along x.
    """

    def point(x: float, y: float) -> str:
        return f"<point><x>{x}</x><y>{y}</y></point>"

    def bound(name: str, points: np.ndarray) -> str:
        return f"<{name}>{''.join(point(x, y) for x, y in points)}</{name}>"

    def state(tag: str, k: int, pose: np.ndarray, speed: float) -> str:
        return (
            f"<{tag}><position>{point(pose[0], pose[1])}</position>"
            f"<orientation><exact>{pose[2]}</exact></orientation><time><exact>{k}</exact></time>"
            f"<velocity><exact>{speed}</exact></velocity></{tag}>"
        )

    way = "same" if one_way else "opposite"
    sides = [line(0.0)[::-1], line(4.0)[::-1]]
    if one_way:
        sides = [side[::-1] for side in sides[::-1]]
    beside = "Right" if one_way else "Left"
    lanelets = [
        f'<lanelet id="1">{bound("leftBound", line(0.0))}{bound("rightBound", line(-4.0))}'
        f'<adjacentLeft ref="2" drivingDir="{way}"/><speedLimit>13.9</speedLimit></lanelet>',
        f'<lanelet id="2">{bound("leftBound", sides[0])}{bound("rightBound", sides[1])}'
        f'<adjacent{beside} ref="1" drivingDir="{way}"/></lanelet>',
    ]
    obstacles = []
    for number, (kind, path_m, size) in enumerate(users().values(), start=10):
        shape = (
            f"<shape><rectangle><length>{size[0]}</length><width>{size[1]}</width></rectangle>"
            "</shape>"
        )
        moves = path_m[0, 0] != path_m[-1, 0]
        speed = SPEED_MPS if moves else 0.0
        body = f"<type>{kind}</type>{shape}{state('initialState', 0, path_m[0], speed)}"
        if moves:
            states = [state("state", k, p, speed) for k, p in enumerate(path_m) if k]
            body += f"<trajectory>{''.join(states)}</trajectory>"
        role = "dynamic" if moves else "static"
        if version == "2018b":
            obstacles.append(f'<obstacle id="{number}"><role>{role}</role>{body}</obstacle>')
        else:
            obstacles.append(f'<{role}Obstacle id="{number}">{body}</{role}Obstacle>')
    x, y = EAST_M + 31.35, NORTH_M - 2.0
    problem = (
        f'<planningProblem id="99">{state("initialState", 0, np.array([x, y, 0.0]), SPEED_MPS)}'
        "<goalState><position><rectangle><length>30</length><width>4</width>"
        f"<center><x>{x + goal[0]}</x><y>{NORTH_M + goal[1]}</y></center></rectangle></position>"
        "<time><intervalStart>30</intervalStart><intervalEnd>40</intervalEnd></time></goalState>"
        "</planningProblem>"
    )
    path.write_text(
        f'<?xml version="1.0"?>{inside}<commonRoad timeStepSize="0.1" '
        f'commonRoadVersion="{version}" benchmarkID="ZZ_Fake-1_1_T-1">'
        f"{''.join(lanelets)}{''.join(obstacles)}{problem}</commonRoad>"
    )
    return path


def motion_data() -> dict[str, Any]:
    """Return the scene as motion JSON."""
    columns = ("x_m", "y_m", "yaw_rad")
    return {
        "schema": "motion/1",
        "name": "fake",
        "source": "test",
        "dt_s": DT_S,
        "steps": STEPS,
        "ego": {k: ego()[:, i].tolist() for i, k in enumerate(columns)},
        "tracks": [
            {
                "id": name,
                "kind": kind,
                **dict(zip(("length_m", "width_m", "height_m"), size, strict=True)),
                **{k: poses[:, i].tolist() for i, k in enumerate(columns)},
                "valid": [1] * STEPS,
            }
            for name, (kind, poses, size) in users().items()
        ],
        "map": {
            "lanes": [
                {"id": "r", "centre_m": line(-2.0).tolist(), "width_m": 4.0,
                 "speed_limit_mps": 13.9, "successors": [], "beside": [], "junction": False},
                {"id": "l", "centre_m": line(2.0)[::-1].tolist(), "width_m": 4.0,
                 "speed_limit_mps": None},
            ],
            "drivable": [
                {"rings": [np.concatenate([line(4.0), line(-4.0)[::-1]]).tolist()]}
            ],
            "lines": [
                {"points_m": line(0.0).tolist(), "colour": "white", "style": "dashed"}
            ],
            "crossings": [],
        },
        "goal": None,
    }  # fmt: skip


def motion(path: Path, **changes: Any) -> Path:
    """Write the scene as motion JSON, with top-level fields replaced."""
    path.write_text(json.dumps({**motion_data(), **changes}))
    return path


WRITERS = {
    "nuscenes": lambda folder: nuscenes(folder / "scene-1"),
    "argoverse": lambda folder: argoverse(folder / "log-1"),
    "commonroad": lambda folder: commonroad(folder / "ZZ_Fake-1_1_T-1.xml"),
    "commonroad-2020a": lambda folder: commonroad(folder / "ZZ_Fake.xml", version="2020a"),
    "motion": lambda folder: motion(folder / "scene.json"),
}
"""Format -> writes the scene under a folder and returns its path."""
