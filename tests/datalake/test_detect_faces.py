"""A face network is opened only if it is the file that the policy names."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from lake_parts import TINY

from datalake.config import LakeConfigError, ScrubPolicy
from datalake.detect import Look
from datalake.detect_faces import FaceDetector
from datalake.detect_plates import PlateDetector
from datalake.scrubber import Scrubber
from vehicle.contracts import wire
from vehicle.geometry import look_camera

CAMERA = look_camera("front", width_px=480, height_px=360, yaw_deg=0.0, **TINY)


def policy(model: Path, sha256: str) -> ScrubPolicy:
    return ScrubPolicy(detectors={"*": ("faces",)}, face_model=str(model), face_model_sha256=sha256)


def test_a_face_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LakeConfigError, match="not there"):
        Scrubber(policy(tmp_path / "none.onnx", "0" * 64)).name("DE")


def test_another_face_model_than_the_policy_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(LakeConfigError, match=r"privacy\.toml says"):
        Scrubber(policy(tmp_path / "model.onnx", "0" * 64)).name("DE")


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x")
    with pytest.raises(LakeConfigError, match=r"load|CenterFace"):
        Scrubber(policy(model, wire.digest_file(model))).name("DE")


def test_a_face_in_a_real_picture_is_found() -> None:
    model = Path(os.environ.get("ROADLOOP_FACE_MODEL", ""))
    data = Path(os.environ.get("ROADLOOP_DATA", "../shared/data")) / "camvid" / "train"
    if not model.is_file() or not data.is_dir():
        pytest.skip("needs ROADLOOP_FACE_MODEL (docs/how-to/privacy.md) and ROADLOOP_DATA")
    detector = FaceDetector(model, wire.digest_file(model))
    found = 0
    for path in sorted(data.glob("*.webp"))[::4]:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        found += len(detector.regions(Look(camera=CAMERA, image=image)))
    assert found > 5


def test_a_drawn_plate_is_found_at_bumper_height_and_not_in_the_sky() -> None:
    image = np.full((360, 480, 3), 60, np.uint8)
    for top in (230, 40):
        image[top : top + 16, 200:270] = 230
        for column in range(206, 262, 8):
            image[top + 3 : top + 13, column : column + 3] = 10
    regions = PlateDetector().regions(Look(camera=CAMERA, image=image))
    assert regions
    assert all(200 < (r.top_px + r.bottom_px) / 2 < 260 for r in regions)
    assert any(r.left_px < 215 and r.right_px > 255 for r in regions)
