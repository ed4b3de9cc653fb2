import numpy as np
import pytest

from training.lift import (
    STRIDE,
    VOXELS_PER_CELL,
    depth_bin,
    feature_rows,
    lift_table,
    net_r_points,
)
from vehicle.config import RIG_R
from vehicle.contracts.scene import BEV_BOX
from vehicle.geometry import project

BINS = 24
STARTS = np.concatenate([[0], np.cumsum([feature_rows(c) for c in RIG_R.cameras])])


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return net_r_points()


@pytest.fixture(scope="module")
def table(points):
    return lift_table(RIG_R, points, BINS)


def where(row: int) -> tuple[int, int, int]:
    """Return camera, line and column of a feature row."""
    camera = int(np.searchsorted(STARTS, row, side="right")) - 1
    wide = RIG_R.cameras[camera].width_px // STRIDE
    line, column = divmod(row - int(STARTS[camera]), wide)
    return camera, line, column


def test_every_voxel_reads_the_pixel_it_projects_to(points, table):
    rng = np.random.default_rng(0)
    for v in rng.choice(len(points), 400, replace=False):
        for row, entry in zip(table.row_VS[v], table.depth_VS[v], strict=True):
            if row == table.unseen_row:
                assert entry == table.rows * BINS
                continue
            camera, line, column = where(row)
            uv_px, depth_m = project(RIG_R.cameras[camera], points[v])
            assert depth_m > 0
            assert column * STRIDE <= uv_px[0] + 0.5 < (column + 1) * STRIDE
            assert line * STRIDE <= uv_px[1] + 0.5 < (line + 1) * STRIDE
            assert entry == row * BINS + depth_bin(depth_m, BINS)


def test_a_voxel_no_camera_sees_reads_only_the_zero_row():
    above = np.array([[0.0, 0.0, 60.0]])
    table = lift_table(RIG_R, above, BINS)
    assert (table.row_VS == table.unseen_row).all()


def test_the_finer_of_two_cameras_comes_first():
    far_ahead = np.array([[40.0, 0.0, 1.0]])
    table = lift_table(RIG_R, far_ahead, BINS)
    names = [RIG_R.cameras[where(row)[0]].name for row in table.row_VS[0]]
    assert names == ["front_narrow", "front_wide"]


def test_nearly_all_ground_in_reach_is_seen(points, table):
    away = np.hypot(points[:, 0], points[:, 1]) > 8.0
    seen = (table.row_VS[:, 0] != table.unseen_row)[away]
    assert seen.mean() > 0.95


def test_voxels_of_a_cell_lie_in_that_cell(points):
    cells = points.reshape(BEV_BOX.nx, BEV_BOX.ny, VOXELS_PER_CELL, 3)
    away = np.abs(cells[..., :2] - BEV_BOX.centres()[:, :, None, :])
    assert (away <= BEV_BOX.cell_m / 2).all()
    assert (cells[:, :, :4, 2] == 0).all()
    assert (cells[:, :, 4:, 2] > 0).all()


def test_depth_bins_grow_with_depth_and_stay_in_range():
    bins = depth_bin(np.array([0.1, 1.0, 4.0, 16.0, 63.0, 500.0]), BINS)
    assert (np.diff(bins) >= 0).all()
    assert bins[0] == 0
    assert bins[-1] == BINS - 1
