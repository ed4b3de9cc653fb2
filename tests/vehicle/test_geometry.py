"""There and back again: rigid transforms and projection, as properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehicle import geometry
from vehicle.config import RIG_R
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import CameraModel
from vehicle.contracts.wire import ContractError

angle = st.floats(-math.pi, math.pi)
metres = st.floats(-1000.0, 1000.0)
pixel = st.tuples(st.floats(0, 255), st.floats(0, 127))


@given(angle, st.floats(-1.5, 1.5), angle, metres, metres, metres)
def test_inverse_undoes_a_transform(y: float, p: float, r: float, a: float, b: float, c: float):
    matrix = geometry.transform(geometry.rotation_from_ypr(y, p, r), np.array([a, b, c]))
    assert np.allclose(geometry.inverse(matrix) @ matrix, np.eye(4), atol=1e-9)


@given(angle, st.floats(-1.5, 1.5), angle)
def test_rotations_keep_lengths_and_handedness(y: float, p: float, r: float) -> None:
    rotation = geometry.rotation_from_ypr(y, p, r)
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


@given(angle)
def test_yaw_survives_the_round_trip(yaw: float) -> None:
    difference = geometry.wrap_angle(geometry.yaw_of(geometry.rotation_from_ypr(yaw)) - yaw)
    assert abs(difference) < 1e-9


@given(angle)
def test_quaternion_and_angle_name_the_same_turn(yaw: float) -> None:
    quaternion = geometry.rotation_from_quaternion(math.cos(yaw / 2), 0, 0, math.sin(yaw / 2))
    assert np.allclose(quaternion, geometry.rotation_from_ypr(yaw), atol=1e-12)


def test_quaternion_without_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="no direction"):
        geometry.rotation_from_quaternion(0.0, 0.0, 0.0, 0.0)


@given(metres, metres, angle, metres, metres)
def test_local_and_ego_points_round_trip(x: float, y: float, yaw: float, px: float, py: float):
    ego = EgoState(mono_ns=0, x_m=x, y_m=y, yaw_rad=yaw, speed_mps=0.0)
    point = np.array([px, py])
    back = geometry.to_local_2d(ego, geometry.to_ego_2d(ego, point))
    assert np.allclose(back, point, atol=1e-6)


def test_planar_transform_and_matrix_agree() -> None:
    ego = EgoState(mono_ns=0, x_m=3.0, y_m=-2.0, yaw_rad=0.7, speed_mps=0.0)
    by_matrix = geometry.apply(geometry.local_from_ego(ego), np.array([5.0, 1.0, 0.0]))
    assert np.allclose(by_matrix[:2], geometry.to_local_2d(ego, np.array([5.0, 1.0])))


@pytest.mark.parametrize("camera", RIG_R.cameras, ids=lambda c: c.name)
@given(uv=pixel, depth=st.floats(0.5, 200.0))
def test_projection_undoes_unprojection(camera: CameraModel, uv: tuple, depth: float) -> None:
    point = geometry.unproject(camera, np.array(uv), np.array(depth))
    back, depth_m = geometry.project(camera, point)
    assert np.allclose(back, uv, atol=1e-6)
    assert float(depth_m) == pytest.approx(depth, rel=1e-9)


def test_a_point_ahead_is_in_the_middle_and_left_is_left() -> None:
    camera = geometry.look_camera(
        "c", width_px=100, height_px=50, hfov_deg=90, x_m=0, y_m=0, z_m=1, yaw_deg=0
    )
    ahead, left, up = np.array([[10.0, 0, 1], [10.0, 2, 1], [10.0, 0, 3]])
    (uv, _), (uv_left, _), (uv_up, _) = (geometry.project(camera, p) for p in (ahead, left, up))
    assert np.allclose(uv, [49.5, 24.5])
    assert uv_left[0] < uv[0]
    assert uv_up[1] < uv[1]


def test_distortion_bends_away_from_the_centre_only() -> None:
    base = geometry.look_camera(
        "c", width_px=100, height_px=50, hfov_deg=90, x_m=0, y_m=0, z_m=1, yaw_deg=0
    )
    bent = CameraModel(
        name="c",
        width_px=100,
        height_px=50,
        fx_px=base.fx_px,
        fy_px=base.fy_px,
        cx_px=base.cx_px,
        cy_px=base.cy_px,
        distortion=(-0.3, 0.0, 0.0, 0.0, 0.0),
        ego_from_camera=base.ego_from_camera,
    )
    centre, edge = np.array([10.0, 0, 1]), np.array([10.0, 8, 1])
    assert np.allclose(geometry.project(bent, centre)[0], geometry.project(base, centre)[0])
    assert geometry.project(bent, edge)[0][0] > geometry.project(base, edge)[0][0]
    with pytest.raises(ValueError, match="undistort"):
        geometry.unproject(bent, np.array([3.0, 3.0]), np.array(5.0))


def test_a_skewed_mounting_is_refused() -> None:
    with pytest.raises(ContractError, match="rigid"):
        CameraModel(
            name="c",
            width_px=10,
            height_px=10,
            fx_px=5.0,
            fy_px=5.0,
            cx_px=5.0,
            cy_px=5.0,
            ego_from_camera=(2.0, *([0.0] * 4), 1.0, *([0.0] * 4), 1.0, *([0.0] * 4), 1.0),
        )


def test_box_corners_stand_on_the_ground_counter_clockwise() -> None:
    corners = geometry.box_corners(10.0, 5.0, math.pi / 2, 4.0, 2.0, 1.5)
    assert np.allclose(corners[:4, 2], 0.0)
    assert np.allclose(corners[4:, 2], 1.5)
    x, y = corners[:4, 0], corners[:4, 1]
    area = 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
    assert area == pytest.approx(8.0)
    assert np.allclose(corners[0], [9.0, 7.0, 0.0])


@given(st.floats(-1e6, 1e6))
def test_wrapped_angles_stay_in_range(angle_rad: float) -> None:
    assert -math.pi <= geometry.wrap_angle(angle_rad) < math.pi + 1e-9
