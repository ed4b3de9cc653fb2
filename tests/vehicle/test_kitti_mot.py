"""KITTI's tracking files come in with their frames told apart, or are refused by name."""

import math
from pathlib import Path

import numpy as np
import pytest

from vehicle.importers import kitti_mot
from vehicle.importers.layout import LogDamagedError, LogLayoutError

LABEL = "0 3 Car 0 1 -1.6 100 120 180 190 1.5 1.8 4.4 2.0 1.65 20.0 -1.5707963\n"
FOUND = "0,2,100,120,180,190,9.5,1.5,1.8,4.4,2.0,1.65,20.0,-1.5707963,-1.6\n"
POSE = "1 0 0 0 0 1 0 0 0 0 1 0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"label": LABEL, "calib": "P0: 1\n", "ego_orbslam3": POSE + POSE}
    files |= {f"pointrcnn_{name}_val": "" for name in ("Pedestrian", "Cyclist")}
    files["pointrcnn_Car_val"] = FOUND
    for name, text in files.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "0001.txt").write_text(text)
    return tmp_path


def test_a_car_ahead_to_the_right_is_ahead_to_the_right(folder: Path) -> None:
    assert kitti_mot.names(folder) == ("0001",)
    sequence = kitti_mot.read(folder, "0001")
    ahead = [20.0, -2.0, -1.65, 0.0, 4.4, 1.8, 1.5]
    assert sequence.labels.boxes[0] == pytest.approx(ahead, abs=1e-6)
    assert sequence.found["car"].boxes[0] == pytest.approx(ahead, abs=1e-6)
    assert sequence.found["car"].score.tolist() == [9.5]
    assert sequence.found["cyclist"].boxes.shape == (0, 7)
    assert sequence.labels.name.tolist() == ["Car"]
    assert sequence.frames == 2


def test_a_level_box_comes_back_where_it_was_whatever_the_camera_does(folder: Path) -> None:
    turn, nod = 0.8, 0.05
    yawed = np.array(
        [[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]]
    )
    nodded = np.array(
        [[1, 0, 0], [0, math.cos(nod), -math.sin(nod)], [0, math.sin(nod), math.cos(nod)]]
    )
    pose = np.hstack([yawed @ nodded, [[3.0], [0.2], [40.0]]])
    (folder / "ego_orbslam3" / "0001.txt").write_text(
        POSE + " ".join(str(v) for v in pose.reshape(-1)) + "\n"
    )
    sequence = kitti_mot.read(folder, "0001", ("car",))
    boxes = np.array(
        [[25.0, 3.0, -1.6, 0.4, 4.4, 1.8, 1.5], [60.0, -9.0, -1.2, -2.0, 4.0, 1.7, 1.6]]
    )
    level = sequence.to_level(1, boxes)
    assert sequence.to_camera(1, level) == pytest.approx(boxes, abs=0.01)
    assert abs(level[1, 2] - boxes[1, 2]) > 1.0  # 60 m ahead of a camera that nods by 3 degrees


def test_what_is_missing_or_damaged_is_named(folder: Path) -> None:
    with pytest.raises(kitti_mot.UnknownClassError, match="tram"):
        kitti_mot.read(folder, "0001", ("tram",))
    with pytest.raises(LogLayoutError, match=r"label/0002\.txt"):
        kitti_mot.read(folder, "0002")
    (folder / "label" / "0001.txt").write_text(LABEL.replace("0 3", "7 3", 1))
    with pytest.raises(LogDamagedError, match="frame 7 of 2 poses"):
        kitti_mot.read(folder, "0001")
    (folder / "label" / "0001.txt").write_text("0 3 Car 0\n")
    with pytest.raises(LogDamagedError, match="line 1 has 4 values"):
        kitti_mot.read(folder, "0001")
    (folder / "label" / "0001.txt").write_text(LABEL.replace("20.0", "far"))
    with pytest.raises(LogDamagedError, match="does not read"):
        kitti_mot.read(folder, "0001")
    with pytest.raises(LogLayoutError):
        kitti_mot.names(folder / "label")
