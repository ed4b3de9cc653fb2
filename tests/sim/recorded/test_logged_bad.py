"""Recorded scenes that must be refused, each by its name."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes_scenes
import numpy as np
import pytest

from sim.recorded.logged import LoggedEpisode, UnknownSceneError, read_scene, scenes_in
from sim.recorded.logged_ground import TooLargeError
from sim.recorded.logged_scene import (
    DuplicateTimeError,
    EmptyTrackError,
    ForbiddenXmlError,
    LoggedSceneError,
    NoRoadError,
    PoseNotFiniteError,
    SceneDamagedError,
    TooManyActorsError,
    UnknownEgoError,
)
from vehicle.contracts.frame import Rig
from vehicle.contracts.wire import RefusedError

BLIND = Rig(name="none", cameras=())
LAUGHS = (
    '<!DOCTYPE lolz [<!ENTITY a "lol">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]>"
)


def spoilt(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    data = fakes_scenes.motion_data()
    change(data)
    path.write_text(json.dumps(data))
    return path


def change_track(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["tracks"][0].update(values)


def many(data: dict[str, Any]) -> None:
    data["tracks"] = [{**data["tracks"][0], "id": str(i)} for i in range(2_001)]


N = fakes_scenes.STEPS
MOTION = {
    "nan pose": (change_track(x_m=[float("nan")] * N), PoseNotFiniteError),
    "null pose that is valid": (change_track(y_m=[None] * N), PoseNotFiniteError),
    "no size": (change_track(length_m=0.0), PoseNotFiniteError),
    "infinite size": (change_track(width_m=float("inf")), PoseNotFiniteError),
    "zero-length track": (change_track(x_m=[]), EmptyTrackError),
    "never valid": (change_track(valid=[0] * N), EmptyTrackError),
    "short column": (change_track(x_m=[1.0, 2.0]), SceneDamagedError),
    "words": (change_track(x_m=["a"] * N), SceneDamagedError),
    "same id twice": (change_track(id="behind"), DuplicateTimeError),
    "no ego": (lambda d: d.update(ego=None), UnknownEgoError),
    "ego not finite": (lambda d: d["ego"].update(x_m=[float("nan")] * N), PoseNotFiniteError),
    "thousands": (many, TooManyActorsError),
    "other schema": (lambda d: d.update(schema="motion/9"), SceneDamagedError),
    "no map": (lambda d: d.pop("map"), SceneDamagedError),
    "no road": (lambda d: d["map"].update(drivable=[]), NoRoadError),
    "no step": (lambda d: d.update(dt_s=0.0), SceneDamagedError),
    "endless": (lambda d: d.update(steps=10**9), SceneDamagedError),
    "half a ring": (
        lambda d: d["map"].update(drivable=[{"rings": [[[0, 0], [1, 1]]]}]), SceneDamagedError,
    ),
    "at the end of the world": (change_track(x_m=[1e8] * N), PoseNotFiniteError),
    "faster than any car": (
        lambda d: d["ego"].update(x_m=[1e3 * i for i in range(N)]), PoseNotFiniteError,
    ),
    "point not finite": (
        lambda d: d["map"]["lanes"][0]["centre_m"].append([float("nan"), 0.0]), PoseNotFiniteError,
    ),
    "a town's scenario": (
        lambda d: d.update(
            scenario={"schema": "scenario/1", "town": 3, "seed": 0, "family": "jaywalker"}
        ),
        SceneDamagedError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MOTION)
def test_spoilt_motion_json_is_refused_by_name(what: str, tmp_path: Path) -> None:
    change, error = MOTION[what]
    with pytest.raises(error):
        read_scene(spoilt(tmp_path / "scene.json", change))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema":"motion/1"', '{"schema":"motion/1"}', "[" * 9999]
)
def test_file_that_is_no_motion_json_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "scene.json"
    path.write_text(text)
    with pytest.raises(LoggedSceneError):
        read_scene(path)


def test_billion_laughs_are_refused(tmp_path: Path) -> None:
    path = fakes_scenes.commonroad(tmp_path / "laughs.xml", inside=LAUGHS)
    with pytest.raises(ForbiddenXmlError, match="document type"):
        read_scene(path)


def test_document_type_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = fakes_scenes.commonroad(tmp_path / "laughs.xml", inside=LAUGHS)
    text = path.read_text().replace(
        '<?xml version="1.0"?>', '<?xml version="1.0" encoding="UTF-16"?>'
    )
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(ForbiddenXmlError):
        read_scene(path)


XML = {
    "cut off": (lambda t: t[: len(t) // 2], SceneDamagedError),
    "another root": (lambda t: t.replace("commonRoad ", "other ").replace("/commonRoad", "/other"),
                     SceneDamagedError),
    "no problem": (lambda t: t[: t.index("<planningProblem")] + "</commonRoad>", UnknownEgoError),
    "nan": (lambda t: t.replace("<x>1060.0</x>", "<x>nan</x>", 1), PoseNotFiniteError),
    "word": (lambda t: t.replace("<x>1060.0</x>", "<x>far</x>", 1), SceneDamagedError),
    "twice": (lambda t: t.replace("<time><exact>5</exact>", "<time><exact>4</exact>", 1),
              DuplicateTimeError),
    "backwards": (lambda t: t.replace("<time><exact>5</exact>", "<time><exact>2</exact>", 1),
                  SceneDamagedError),
    "no lanelet": (lambda t: t[: t.index("<lanelet")] + t[t.index("<obstacle") :], NoRoadError),
    "no shape": (lambda t: t.replace("shape>", "shap>"), EmptyTrackError),
    "no step": (lambda t: t.replace('timeStepSize="0.1"', 'timeStepSize="0"'), LoggedSceneError),
}  # fmt: skip


@pytest.mark.parametrize("what", XML)
def test_spoilt_commonroad_is_refused_by_name(what: str, tmp_path: Path) -> None:
    change, error = XML[what]
    path = fakes_scenes.commonroad(tmp_path / "cr.xml")
    path.write_text(change(path.read_text()))
    with pytest.raises(error):
        read_scene(path)


def rows_of(columns: dict[str, list[Any]], name: str) -> list[int]:
    return [i for i, track in enumerate(columns["track_id"]) if track == name]


def no_ego(columns: dict[str, list[Any]]) -> None:
    columns["track_id"] = ["x" if n == "ego" else n for n in columns["track_id"]]


def nan_pose(columns: dict[str, list[Any]]) -> None:
    columns["x_m"][rows_of(columns, "lead")[3]] = float("nan")


def nan_ego(columns: dict[str, list[Any]]) -> None:
    columns["heading_rad"][rows_of(columns, "ego")[3]] = float("nan")


def twice(name: str) -> Callable[[dict[str, list[Any]]], None]:
    def change(columns: dict[str, list[Any]]) -> None:
        rows = rows_of(columns, name)
        columns["t_s"][rows[4]] = columns["t_s"][rows[3]]

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (no_ego, UnknownEgoError),
        (nan_pose, PoseNotFiniteError),
        (nan_ego, PoseNotFiniteError),
        (twice("lead"), DuplicateTimeError),
        (twice("ego"), DuplicateTimeError),
        (lambda c: c.pop("width_m"), SceneDamagedError),
    ],
)
def test_spoilt_scene_tables_are_refused_by_name(
    change: Callable[[dict[str, list[Any]]], None], error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error):
        read_scene(fakes_scenes.nuscenes(tmp_path / "s", change=change))


@pytest.mark.parametrize("name", ["tracks.parquet", "map.parquet", "meta.json"])
@pytest.mark.parametrize("spoil", ["cut", "gone", "noise"])
def test_damaged_files_of_scene_tables_are_refused(name: str, spoil: str, tmp_path: Path) -> None:
    path = fakes_scenes.nuscenes(tmp_path / "s") / name
    data = path.read_bytes()
    if spoil == "gone":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if spoil == "cut" else b"\x93NUMPY" * 9)
    with pytest.raises(LoggedSceneError):
        read_scene(tmp_path / "s")


def test_damaged_argoverse_logs_are_refused(tmp_path: Path) -> None:
    whole = fakes_scenes.argoverse(tmp_path / "log")
    ground = "map/log_map_archive_x____PIT_city_1.json"
    for name in ("annotations.feather", "city_SE3_egovehicle.feather", ground):
        copy = shutil.copytree(whole, tmp_path / f"cut-{Path(name).name}")
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(SceneDamagedError):
            read_scene(copy)


def test_argoverse_boxes_without_an_ego_pose_are_refused(tmp_path: Path) -> None:
    import pyarrow.feather as feather

    path = fakes_scenes.argoverse(tmp_path / "log") / "city_SE3_egovehicle.feather"
    feather.write_feather(feather.read_table(path).slice(0, 20), path)
    with pytest.raises(UnknownEgoError):
        read_scene(tmp_path / "log")


def test_scene_that_covers_a_country_is_refused(tmp_path: Path) -> None:
    def far(data: dict[str, Any]) -> None:
        data.update(dt_s=1.0)
        data["ego"]["x_m"] = np.linspace(0.0, 5e3, N).tolist()

    scene = read_scene(spoilt(tmp_path / "scene.json", far))
    with pytest.raises(TooLargeError):
        LoggedEpisode(scene, rig=BLIND)


def test_endless_lane_is_refused(tmp_path: Path) -> None:
    def far(data: dict[str, Any]) -> None:
        data["map"]["lanes"][0]["centre_m"] = [[0.0, 0.0], [1e5, 0.0]]

    with pytest.raises(LoggedSceneError, match="long"):
        read_scene(spoilt(tmp_path / "scene.json", far))


def test_road_somewhere_else_is_no_road(tmp_path: Path) -> None:
    def far(data: dict[str, Any]) -> None:
        data["map"]["drivable"] = [{"rings": [[[9e3, 9e3], [9.1e3, 9e3], [9e3, 9.1e3]]]}]

    scene = read_scene(spoilt(tmp_path / "scene.json", far))
    with pytest.raises(NoRoadError):
        LoggedEpisode(scene, rig=BLIND)


def test_folder_without_a_scene_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UnknownSceneError, match="CommonRoad"):
        scenes_in(tmp_path)
    with pytest.raises(UnknownSceneError):
        read_scene(tmp_path / "missing.xml")


def test_every_refusal_is_one_the_command_prints() -> None:
    assert issubclass(LoggedSceneError, RefusedError)
    with pytest.raises(LoggedSceneError, match="rate_hz"):
        LoggedEpisode(_scene_of_two_steps(), rate_hz=0.0, rig=BLIND)


def _scene_of_two_steps() -> Any:
    from sim.recorded.logged_scene import LoggedScene

    ring = np.array([[-50.0, -5.0], [50.0, -5.0], [50.0, 5.0], [-50.0, 5.0]])
    return LoggedScene(
        name="x", source="test", dt_s=0.1, names=(), kinds=np.zeros(0, np.int64),
        sizes_m=np.zeros((0, 3)), poses=np.zeros((0, 2, 3)), valid=np.zeros((0, 2), bool),
        start=np.zeros(4), ego=None, lanes=(), areas_m=((ring,),),
    )  # fmt: skip


def test_empty_scene_can_be_driven() -> None:
    world = LoggedEpisode(_scene_of_two_steps(), rig=BLIND)
    world.step(None)
    assert len(world.snapshot().actors) == 0
    assert world.done


@pytest.mark.parametrize("kind", ["nuscenes", "argoverse"])
def test_flipped_bytes_are_refused_or_harmless(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    folder = fakes_scenes.WRITERS[kind](tmp_path)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        whole = path.read_bytes()
        for _ in range(12):
            spoilt_bytes = bytearray(whole)
            for at in rng.integers(0, len(whole), 4):
                spoilt_bytes[at] = rng.integers(256)
            path.write_bytes(bytes(spoilt_bytes))
            with contextlib.suppress(RefusedError):
                read_scene(folder)
        path.write_bytes(whole)
