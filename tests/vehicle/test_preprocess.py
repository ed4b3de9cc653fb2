"""Images reach the network unchanged, or turned so that far points land where they belong."""

from dataclasses import replace

import numpy as np
import pytest

from vehicle.config import RIG_R
from vehicle.contracts.frame import CameraModel, FrameSet, MissingCalibrationError, Rig
from vehicle.geometry import look_camera, project
from vehicle.preprocess import (
    GREY,
    CameraFrameError,
    Preprocessor,
    RigMismatchError,
    source_pixels,
    stack_images,
)

FAR_M = 5_000.0


def noise(rig: Rig, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        c.name: rng.integers(0, 256, (c.height_px, c.width_px, 3), dtype=np.uint8)
        for c in rig.cameras
    }


def frame(images: dict[str, np.ndarray]) -> FrameSet:
    return FrameSet(frame_id=3, mono_ns=0, images=images)


def stereo_rig(**changes: object) -> Rig:
    """Return two cameras ahead, in the manner of KITTI."""
    common = {"width_px": 1240, "height_px": 376, "hfov_deg": 81.0, "z_m": 1.65, "yaw_deg": 0.0}
    pair = (
        look_camera("left", x_m=1.0, y_m=0.27, **common),
        look_camera("right", x_m=1.0, y_m=-0.27, **common),
    )
    return Rig(name="stereo", cameras=tuple(replace(c, **changes) for c in pair))


def draw_dot(camera: CameraModel, point_ego: np.ndarray) -> np.ndarray:
    """Return a black image with a soft white dot where the camera sees a point."""
    uv, depth = project(camera, point_ego)
    assert depth > 0
    u, v = np.meshgrid(np.arange(camera.width_px), np.arange(camera.height_px))
    sigma = camera.width_px / 256 * 2.0
    level = 255 * np.exp(-((u - uv[0]) ** 2 + (v - uv[1]) ** 2) / (2 * sigma**2))
    return np.repeat(level.astype(np.uint8)[..., None], 3, axis=2)


def dot_centre(image: np.ndarray, least: int = 130) -> np.ndarray:
    """Return the centre of what is bright, ignoring the grey border."""
    weight = np.where(image[..., 0] > least, image[..., 0].astype(float), 0.0)
    v, u = np.indices(weight.shape)
    return np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()


def test_own_rig_passes_pixels_unchanged_and_in_order() -> None:
    images = noise(RIG_R)
    inputs = Preprocessor(RIG_R, RIG_R)(frame(images))
    assert np.array_equal(inputs["front"], np.stack([images[c.name] for c in RIG_R.cameras[:2]]))
    assert np.array_equal(inputs["side"], np.stack([images[c.name] for c in RIG_R.cameras[2:]]))


def test_training_stacks_images_as_the_car_does() -> None:
    images = noise(RIG_R)
    front, side = stack_images(images, RIG_R)
    inputs = Preprocessor(RIG_R, RIG_R)(frame(images))
    assert np.array_equal(front, inputs["front"])
    assert np.array_equal(side, inputs["side"])


def test_buffers_are_reused_and_a_lost_camera_leaves_no_old_pixels() -> None:
    images = noise(RIG_R)
    preprocessor = Preprocessor(RIG_R, RIG_R)
    first = preprocessor(frame(images))
    del images["left_front"]
    second = preprocessor(frame(images))
    assert second["side"] is first["side"]
    assert (second["side"][0] == GREY).all()
    assert preprocessor.missing == ("left_front",)
    assert len(preprocessor.fed) == 7


def test_another_rig_is_refused_and_the_difference_named() -> None:
    with pytest.raises(RigMismatchError, match="left_front"):
        Preprocessor(stereo_rig(), RIG_R)
    moved = replace(RIG_R, cameras=(replace(RIG_R.cameras[0], fx_px=99.0), *RIG_R.cameras[1:]))
    with pytest.raises(RigMismatchError, match="front_wide"):
        Preprocessor(moved, RIG_R)


@pytest.mark.parametrize("adapt", [False, True])
def test_camera_without_calibration_is_refused(adapt: bool) -> None:
    images = {**noise(RIG_R), "roof": np.zeros((96, 192, 3), np.uint8)}
    with pytest.raises(MissingCalibrationError, match="roof"):
        Preprocessor(RIG_R, RIG_R, adapt=adapt)(frame(images))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((96, 191, 3), np.uint8),
        np.zeros((96, 192), np.uint8),
        np.zeros((96, 192, 4), np.uint8),
        np.zeros((96, 192, 3), np.float32),
    ],
)
def test_image_of_wrong_size_or_type_is_refused(image: np.ndarray) -> None:
    with pytest.raises(CameraFrameError, match="left_rear"):
        Preprocessor(RIG_R, RIG_R)(frame({**noise(RIG_R), "left_rear": image}))
    with pytest.raises(CameraFrameError, match="left_rear"):
        stack_images({**noise(RIG_R), "left_rear": image}, RIG_R)


def test_frame_without_images_is_refused() -> None:
    with pytest.raises(CameraFrameError, match="no images"):
        Preprocessor(RIG_R, RIG_R)(frame({}))


def test_rig_of_mixed_sizes_is_no_model_rig() -> None:
    mixed = replace(RIG_R, cameras=RIG_R.cameras[1:])
    with pytest.raises(RigMismatchError, match="front cameras"):
        stack_images({}, mixed)


def test_adapted_cameras_are_fed_or_listed_as_missing() -> None:
    rig = stereo_rig()
    preprocessor = Preprocessor(rig, RIG_R, adapt=True)
    inputs = preprocessor(frame(noise(rig)))
    assert {"front_wide", "front_narrow"} <= set(preprocessor.fed)
    assert {"rear_left", "rear_right", "left_rear"} <= set(preprocessor.missing)
    assert set(preprocessor.fed) | set(preprocessor.missing) == {c.name for c in RIG_R.cameras}
    assert preprocessor.coverage_ratio["rear_left"] == 0.0
    assert (inputs["side"][4:] == GREY).all()
    assert (inputs["front"][0, 0] == GREY).all()  # the sky above the source image
    assert inputs["front"][1].std() > 5.0


@pytest.mark.parametrize("adapt", [False, True])
@pytest.mark.parametrize("odd", [0, 1])
def test_half_of_the_cameras_are_those_of_a_whole_look(odd: int, adapt: bool) -> None:
    rig = stereo_rig() if adapt else RIG_R
    images = noise(rig)
    preprocessor = Preprocessor(rig, RIG_R, adapt=adapt)
    whole = {n: a.copy() for n, a in preprocessor(frame(images)).items()}
    half = preprocessor(frame(images), odd)
    assert (half["front"] == whole["front"][odd::2]).all()
    assert (half["side"] == whole["side"][odd::2]).all()


DISTORTED = {"distortion": (-0.3, 0.1, 0.001, -0.001, 0.0)}


@pytest.mark.parametrize("changes", [{}, DISTORTED], ids=["rectified", "distorted"])
@pytest.mark.parametrize("direction", [(0.0, 0.0), (0.15, 0.02), (-0.3, 0.05)])
def test_adapted_far_point_lands_where_the_model_camera_sees_it(
    direction: tuple[float, float], changes: dict[str, object]
) -> None:
    rig = stereo_rig(**changes)
    point = np.array([1.0, *direction]) * FAR_M
    images = {c.name: draw_dot(c, point) for c in rig.cameras}
    inputs = Preprocessor(rig, RIG_R, adapt=True)(frame(images))
    for i, camera in enumerate(RIG_R.cameras[:2]):
        uv, _ = project(camera, point)
        inside = 4 < uv[0] < camera.width_px - 5 and 4 < uv[1] < camera.height_px - 5
        if inside:
            assert dot_centre(inputs["front"][i]) == pytest.approx(uv, abs=0.3)


def test_large_source_is_averaged_so_that_fine_stripes_turn_grey() -> None:
    rig = stereo_rig()
    stripes = np.zeros((376, 1240, 3), np.uint8)
    stripes[:, ::2] = 255
    inputs = Preprocessor(rig, RIG_R, adapt=True)(frame(dict.fromkeys(("left", "right"), stripes)))
    seen = inputs["front"][0, 64, 60:200]
    assert seen.mean() == pytest.approx(127.5, abs=8.0)
    assert seen.std() < 127.5 / 4


def test_adapt_with_the_own_rig_changes_nothing() -> None:
    images = noise(RIG_R)
    inputs = Preprocessor(RIG_R, RIG_R, adapt=True)(frame(images))
    assert np.array_equal(inputs["front"][0], images["front_wide"])


def test_adapt_that_would_see_nothing_is_refused() -> None:
    up = look_camera(
        "up", width_px=64, height_px=64, hfov_deg=20, x_m=0, y_m=0, z_m=2, yaw_deg=0, pitch_deg=-89
    )
    with pytest.raises(RigMismatchError, match="nothing but grey"):
        Preprocessor(Rig(name="up", cameras=(up,)), RIG_R, adapt=True)
    with pytest.raises(RigMismatchError, match="no cameras"):
        Preprocessor(Rig(name="none", cameras=()), RIG_R, adapt=True)


def test_adapted_camera_that_drops_out_is_missing_for_that_frame() -> None:
    rig = stereo_rig()
    preprocessor = Preprocessor(rig, RIG_R, adapt=True)
    images = noise(rig)
    all_fed = preprocessor.fed
    preprocessor(frame({"right": images["right"]}))
    assert set(preprocessor.fed) < set(all_fed)
    preprocessor(frame(images))
    assert preprocessor.fed == all_fed


def test_pixels_beyond_the_fold_of_a_strong_lens_are_not_seen() -> None:
    narrow = stereo_rig(distortion=(-0.5, 0.0, 0.0, 0.0, 0.0)).cameras[0]
    wide = look_camera(
        "wide", width_px=256, height_px=128, hfov_deg=140, x_m=0, y_m=0, z_m=1, yaw_deg=0
    )
    _, seen = source_pixels(wide, narrow)
    columns = np.flatnonzero(seen[64])
    assert len(columns) > 0
    assert (np.diff(columns) == 1).all()  # one piece: nothing mirrored in from outside the lens
    assert not seen[:, :5].any()
