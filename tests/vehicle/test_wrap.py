"""Somebody's detector becomes a bundle, its boxes road users on the ground, and those a plan."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vehicle import bundles
from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.config import RIG_R
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.frame import (
    CameraModel,
    FrameSet,
    MissingCalibrationError,
    Observation,
    Rig,
)
from vehicle.contracts.scene import KINDS
from vehicle.contracts.wire import ContractError
from vehicle.detector2d import STRIDES, DetectorShapeError, PictureBoxes
from vehicle.drive import Drive
from vehicle.flatground import FlatGround, open_perception, to_ground
from vehicle.geometry import CAMERA_AXES, box_corners, look_camera, project, transform
from vehicle.preprocess import CameraFrameError, RigMismatchError
from vehicle.wrap import ClassListError, UnknownDetectorError, read_classes, wrap

CAMERA = look_camera(
    "front", width_px=640, height_px=320, hfov_deg=80.0, x_m=1.5, y_m=0.0, z_m=1.5, yaw_deg=0.0
)
RIG = Rig(name="one", cameras=(CAMERA,))
PICTURE = np.full((320, 640, 3), 120, np.uint8)
CAR, WALKER = KINDS.index("car"), KINDS.index("pedestrian")


def detector(path: Path, answer: np.ndarray, shape: tuple[int, ...] = (1, 3, 160, 320)) -> Path:
    """Write a network that takes a picture and always gives `answer`."""
    axes = numpy_helper.from_array(np.arange(len(shape)), "axes")
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, answer.shape)],
        [
            axes,
            numpy_helper.from_array(np.float32(0.0), "zero"),
            numpy_helper.from_array(answer.astype(np.float32), "answer"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


def seen_box(x: float, y: float, kind: str = "car") -> tuple[float, float, float, float]:
    """Return the box in the picture of a road user standing on the ground."""
    size = (4.4, 1.8, 1.5) if kind == "car" else (0.6, 0.6, 1.75)
    uv, _ = project(CAMERA, box_corners(x, y, 0.0, *size))
    return (*uv.min(axis=0), *uv.max(axis=0))


def boxes_answer(*rows: tuple[float, ...]) -> np.ndarray:
    """Return a "boxes" output for boxes in the picture: half its size goes into the network."""
    made = np.zeros((1, 4, 6))
    for i, (x1, y1, x2, y2, score, number) in enumerate(rows):
        made[0, i] = [*(0.5 * (np.array([x1, y1, x2, y2]) + 0.5)), score, number]
    return made


def wrapped(folder: Path, *rows: tuple[float, ...]) -> Path:
    model = detector(folder / "mine.onnx", boxes_answer(*rows))
    wrap(model, folder / "bundle", like="boxes", rig=RIG, cameras=("front",))
    return folder / "bundle"


def frame(i: int = 0) -> FrameSet:
    """Return a frame whose picture is like no other: a camera that repeats itself is frozen."""
    noise = np.random.default_rng(i).integers(0, 20, PICTURE.shape, dtype=np.uint8)
    return FrameSet(frame_id=i, mono_ns=i * 100_000_000, images={"front": PICTURE + noise})


def test_boxes_become_road_users_where_they_stand(tmp_path: Path) -> None:
    folder = wrapped(
        tmp_path,
        (*seen_box(20.0, 3.0), 0.9, 2),
        (*seen_box(12.0, -4.0, "pedestrian"), 0.8, 0),
        (*seen_box(30.0, -4.0), 0.1, 2),
    )
    perception = open_perception(folder, RIG)
    assert isinstance(perception, FlatGround)
    found = perception.perceive(frame())
    perception.close()
    assert found.tracks["kind"].tolist() == [CAR, WALKER]
    places = np.stack([found.tracks["x_m"], found.tracks["y_m"]], axis=1)
    assert np.linalg.norm(places - [[20.0, 3.0], [12.0, -4.0]], axis=1).max() < 0.7
    assert found.noise_m is not None
    assert (found.noise_m < 2.0).all()
    assert found.occupancy is None
    assert math.isnan(found.uncertainty_ratio)
    assert set(perception.stage_us) == {"preprocess", "inference", "decode"}


def test_a_wrapped_bundle_passes_its_self_test_and_travels(tmp_path: Path) -> None:
    folder = wrapped(tmp_path, (*seen_box(20.0, 0.0), 0.9, 2))
    bundles.self_test(folder)
    bundle = bundles.load(folder)
    assert bundle.detector is not None
    assert (bundle.tag, bundle.detector.cameras) == ("mine@1", ("front",))
    (tmp_path / "bundle.tar").write_bytes(bundles.pack(folder))
    assert bundles.unpack(tmp_path / "bundle.tar", tmp_path / "there") == bundle


def test_the_car_drives_on_a_wrapped_detector_and_stops_for_what_it_sees(tmp_path: Path) -> None:
    folder = wrapped(tmp_path, (*seen_box(18.0, 0.0), 0.9, 2))
    drive = Drive(
        car_id="c", route_id="r", rig=RIG, bundle=folder, campaigns=(DEFAULT_CAMPAIGN,),
        budget=Budget(enforce=False, clock=SystemClock()),
    )  # fmt: skip
    line = np.stack([np.arange(-5.0, 80.0), np.zeros(85)], axis=1)
    for i in range(6):
        ego = EgoState(mono_ns=i * 100_000_000, x_m=0, y_m=0, yaw_rad=0, speed_mps=8.0)
        guidance = Guidance(centreline_m=line, speed_limit_mps=13.0, lane_width_m=3.5, source="map")
        tick = drive.tick(Observation(frame=frame(i), ego=ego, guidance=guidance))
    drive.close()
    assert drive.parts["perception"] == "drives"
    assert tick.scene is not None
    assert tick.scene.fresh
    assert tick.scene.tracks["kind"].tolist() == [CAR]
    assert tick.command is not None
    assert tick.command.accel_mps2 < -1.0


def yolox_answer(x1: float, y1: float, x2: float, y2: float, number: int) -> np.ndarray:
    """Return a yolox output for a 160 x 320 input with one box, pixels of the input."""
    rows = [(160 // s) * (320 // s) for s in STRIDES]
    raw = np.zeros((1, sum(rows), 85))
    middle, size = np.array([x1 + x2, y1 + y2]) / 2, np.array([x2 - x1, y2 - y1])
    column, row = (middle // 16).astype(int)
    cell = rows[0] + row * (320 // 16) + column
    raw[0, cell, :2] = middle / 16 - [column, row]
    raw[0, cell, 2:4] = np.log(size / 16)
    raw[0, cell, 4], raw[0, cell, 5 + number] = 0.9, 0.8
    return raw


def fastestdet_answer(x1: float, y1: float, x2: float, y2: float, number: int) -> np.ndarray:
    """Return a fastestdet output, 10 x 20 cells, with one box as shares of the picture."""
    raw = np.full((1, 85, 10, 20), 1e-4)
    middle, size = np.array([x1 + x2, y1 + y2]) / 2, np.array([x2 - x1, y2 - y1])
    column, row = (middle * [20, 10]).astype(int)
    cell = raw[0, :, row, column]
    cell[0], cell[5 + number] = 0.9, 0.8
    cell[1:3] = np.arctanh(middle * [20, 10] - [column, row])
    cell[3:5] = np.log(size / (1 - size))
    return raw


@pytest.mark.parametrize("like", ["yolox", "fastestdet"])
def test_known_families_are_read_as_they_mean_it(tmp_path: Path, like: str) -> None:
    box = np.array(seen_box(15.0, -2.0))
    if like == "yolox":
        answer = yolox_answer(*(0.5 * (box + 0.5)), 2)
    else:
        answer = fastestdet_answer(*((box + 0.5) / [640, 320, 640, 320]), 2)
    model = detector(tmp_path / "m.onnx", answer)
    wrap(model, tmp_path / "b", like=like, rig=RIG, cameras=("front",))
    perception = FlatGround(tmp_path / "b", RIG)
    tracks = perception.perceive(frame()).tracks
    perception.close()
    assert tracks["kind"].tolist() == [CAR]
    assert math.dist((tracks["x_m"][0], tracks["y_m"][0]), (15.0, -2.0)) < 0.6


@pytest.mark.parametrize(
    ("like", "shape", "answer", "says"),
    [
        ("yolox", (1, 3, 160, 320), (1, 100, 85), "expected one float32 output"),
        ("yolox", (1, 160, 320, 3), (1, 1050, 85), r"expected one float32 or uint8 input \(1, 3"),
        ("fastestdet", (1, 3, 160, 320), (1, 25, 10, 20), "classes others"),
        ("boxes", (1, 3, 160, 320), (1, 9, 5), r"\(1, N, 6\)"),
        ("boxes", (2, 3, 160, 320), (1, 9, 6), "one picture"),
    ],
)
def test_a_network_of_another_kind_is_refused_with_both_shapes(
    tmp_path: Path, like: str, shape: tuple[int, ...], answer: tuple[int, ...], says: str
) -> None:
    model = detector(tmp_path / "m.onnx", np.zeros(answer), shape)
    with pytest.raises(DetectorShapeError, match=says):
        wrap(model, tmp_path / "b", like=like, rig=RIG, cameras=("front",))
    assert not (tmp_path / "b").exists()


def test_wrong_words_are_refused_by_name(tmp_path: Path) -> None:
    model = detector(tmp_path / "m.onnx", np.zeros((1, 9, 6)))
    with pytest.raises(UnknownDetectorError, match="fastestdet, yolox, boxes"):
        wrap(model, tmp_path / "b", like="detr", rig=RIG, cameras=("front",))
    with pytest.raises(MissingCalibrationError, match="rear"):
        wrap(model, tmp_path / "b", like="boxes", rig=RIG, cameras=("rear",))
    with pytest.raises(ContractError, match="min_score_prob"):
        wrap(model, tmp_path / "b", like="boxes", rig=RIG, cameras=("front",), min_score_prob=7.0)
    (tmp_path / "classes.txt").write_text("car\n-\nlorry\n")
    with pytest.raises(ClassListError, match="line 3: 'lorry'"):
        read_classes(tmp_path / "classes.txt")
    (tmp_path / "classes.txt").write_text("car\n-\ntruck\n")
    assert read_classes(tmp_path / "classes.txt") == ("car", "", "truck")


def test_other_cameras_are_refused_or_taken_by_name(tmp_path: Path) -> None:
    folder = wrapped(tmp_path, (*seen_box(20.0, 0.0), 0.9, 2))
    lower = look_camera(
        "front", width_px=640, height_px=320, hfov_deg=80.0, x_m=1.5, y_m=0.0, z_m=1.2, yaw_deg=0.0
    )
    other = Rig(name="lower", cameras=(lower,))
    with pytest.raises(RigMismatchError, match="--adapt"):
        FlatGround(folder, other)
    FlatGround(folder, other, adapt=True).close()
    with pytest.raises(RigMismatchError, match="front"):
        FlatGround(folder, RIG_R, adapt=True)
    perception = FlatGround(folder, RIG)
    with pytest.raises(CameraFrameError, match="expected one of"):
        perception.perceive(FrameSet(frame_id=1, mono_ns=0, images={"side": PICTURE}))
    with pytest.raises(CameraFrameError, match=r"\[320, 640, 3\]"):
        perception.perceive(FrameSet(frame_id=1, mono_ns=0, images={"front": PICTURE[:100]}))
    perception.close()


def test_a_box_cut_by_the_picture_is_placed_by_what_is_left() -> None:
    near, far = seen_box(6.0, 2.6), seen_box(25.0, 0.0)
    cut = (max(near[0], 0.0), near[1], near[2], 319.0)
    found = PictureBoxes(
        box_px=np.array([cut, far]),
        kind=np.array([CAR, CAR], np.int8),
        score=np.array([0.9, 0.8]),
        px_per_input=(2.0, 2.0),
    )
    tracks, noise_m = to_ground(CAMERA, found, 1.5)
    assert tracks["x_m"][-1] == pytest.approx(25.0, abs=1.0)
    assert noise_m[-1] < 3.0
    assert tracks.size == 1 or noise_m[0] > 1.0  # placed with doubt, or not at all


@pytest.mark.slow
@pytest.mark.parametrize(("name", "like"), [("FastestDet", "fastestdet"), ("yolox_nano", "yolox")])
def test_public_detectors_see_the_parked_cars_of_a_real_street(
    data_folder: Path, tmp_path: Path, name: str, like: str
) -> None:
    from vehicle.importers.kinds import open_log

    model, log = data_folder / "models" / f"{name}.onnx", data_folder / "kitti-odom-1"
    if not model.is_file() or not log.is_dir():
        pytest.skip(f"no {model} or no {log}")
    source = open_log("kitti", log)
    assert source.rig is not None
    wrap(model, tmp_path / "b", like=like, rig=source.rig, cameras=("left",))
    perception = FlatGround(tmp_path / "b", source.rig)
    for obs in source:
        if obs.frame.frame_id == 5:
            break
    found = perception.perceive(obs.frame)
    perception.close()
    nearest = found.tracks[np.argmin(np.hypot(found.tracks["x_m"], found.tracks["y_m"]))]
    assert nearest["kind"] == CAR  # parked on the right, its back 7 m ahead of the camera
    assert 8.0 < nearest["x_m"] < 14.0
    assert -6.0 < nearest["y_m"] < -2.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["car", "pedestrian", "cyclist"])
def test_labelled_boxes_of_real_streets_are_placed_within_what_is_told(
    data_folder: Path, kind: str
) -> None:
    from vehicle.importers import kitti_mot

    if not (data_folder / "kitti-mot").is_dir():
        pytest.skip(f"no KITTI tracking data at {data_folder / 'kitti-mot'}")
    camera = kitti_camera()
    wrong, told, away = [], [], []
    for name in kitti_mot.names(data_folder / "kitti-mot"):
        labels = kitti_mot.read(data_folder / "kitti-mot", name).labels
        clear = (labels.name == kitti_mot.CLASSES[kind]) & (labels.occlusion == 0)
        for row in np.flatnonzero(clear & (labels.truncation == 0)):
            found = PictureBoxes(
                box_px=labels.image_px[row : row + 1],
                kind=np.array([KINDS.index(kind)], np.int8),
                score=np.ones(1),
                px_per_input=(3.0, 3.0),
            )
            tracks, noise_m = to_ground(camera, found, 1.5)
            if tracks.size:
                away.append(math.hypot(*labels.boxes[row, :2]))
                wrong.append(abs(math.hypot(tracks["x_m"][0], tracks["y_m"][0]) - away[-1]))
                told.append(noise_m[0])
    off, sigma, range_m = np.array(wrong), np.array(told), np.array(away)
    for near, far, limit_m in ((0, 10, 1.0), (10, 20, 1.2), (20, 30, 1.8), (30, 50, 4.5)):
        there = (range_m >= near) & (range_m < far)
        half, most = np.percentile(off[there], (50, 90))
        print(f"{kind} {near}-{far} m: p50 {half:.2f} m, p90 {most:.2f} m, n {there.sum()}")
        assert half < limit_m
    assert (off < 2.0 * sigma).mean() > 0.8


def kitti_camera() -> CameraModel:
    """Return KITTI's left colour camera, level, 1.65 m above ground."""
    return CameraModel(
        name="left",
        width_px=1242,
        height_px=375,
        fx_px=721.5377,
        fy_px=721.5377,
        cx_px=609.5593,
        cy_px=172.854,
        ego_from_camera=tuple(transform(CAMERA_AXES, np.array([0.0, 0.0, 1.65])).reshape(-1)),
    )


def test_the_verb_says_what_it_made_and_whether_it_is_fast_enough(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from vehicle.cli import app

    model = detector(tmp_path / "My Net.onnx", np.zeros((1, 9, 6)))
    words = [str(model), "--like", "boxes", "--camera", "front_wide", "-o", str(tmp_path / "b")]
    done = CliRunner().invoke(app, ["wrap", *words])
    assert done.exit_code == 0, done.output
    assert "my-net@1, boxes [1, 3, 160, 320] through front_wide: car, pedestrian" in done.output
    assert "a tick has 5.5 ms for it" in done.output
    assert bundles.load(tmp_path / "b").rig == RIG_R
