"""From picture to ground: which feature row each voxel above the ground reads, worked out once.

The network gathers features by these tables instead of sampling them by arithmetic: an index
gather costs next to nothing in every runtime (sim-perception note, 3.1). The tables belong to one
rig, so a bundle names its rig and a car with another one refuses it.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from vehicle.contracts.frame import CameraModel, Rig
from vehicle.contracts.scene import BEV, BEV_BOX, BevGrid
from vehicle.geometry import project

STRIDE: Final = 8
"""Image pixels per feature column."""

DEPTH_NEAR_M: Final = 1.0
DEPTH_FAR_M: Final = 64.0

GROUND_HEIGHT_M: Final = 0.0
BODY_HEIGHTS_M: Final = (0.6, 1.2, 1.8)
"""Heights looked at on the coarse raster; the ground itself is looked at on the fine one."""

VOXELS_PER_CELL: Final = 4 + len(BODY_HEIGHTS_M)

CAMERAS_PER_VOXEL: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftTable:
    """For voxel v and slot s: feature row and depth entry to read.

    Args:
        row_VS: int64, row of the stacked features (camera, v, u); `unseen_row` where no camera is.
        depth_VS: int64, entry of the flattened [row, depth bin] weights.
        rows: how many rows the cameras give; the next one, `unseen_row`, is all zero.
    """

    row_VS: np.ndarray
    depth_VS: np.ndarray
    rows: int

    @property
    def unseen_row(self) -> int:
        """Return the index of the zero row."""
        return self.rows


def depth_bin(depth_m: np.ndarray, bins: int) -> np.ndarray:
    """Return the logarithmic bin of a depth; nearer and farther ones fall in the end bins."""
    ratio = np.log(np.maximum(depth_m, 1e-6) / DEPTH_NEAR_M) / math.log(DEPTH_FAR_M / DEPTH_NEAR_M)
    return np.clip(np.floor(ratio * bins), 0, bins - 1).astype(np.int64)


def feature_rows(camera: CameraModel) -> int:
    """Return how many feature rows (pixels at STRIDE) a camera gives."""
    return (camera.height_px // STRIDE) * (camera.width_px // STRIDE)


def voxels(grid: BevGrid, height_m: float) -> np.ndarray:
    """Return voxel centres [nx * ny, 3] of one height level, ego frame."""
    ground = grid.centres().reshape(-1, 2)
    return np.column_stack([ground, np.full(len(ground), height_m)])


def lift_table(rig: Rig, points_ego: np.ndarray, bins: int) -> LiftTable:
    """Return the table for voxel centres [V, 3]: the cameras with the finest picture come first.

    Args:
        rig: cameras in the order in which their features are stacked.
        points_ego: voxel centres, metres.
        bins: depth bins per feature row.
    """
    starts = np.concatenate([[0], np.cumsum([feature_rows(c) for c in rig.cameras])])
    rows, total = [], int(starts[-1])
    depths, fineness = [], []
    for camera, start in zip(rig.cameras, starts, strict=False):
        uv_px, depth_m = project(camera, points_ego)
        column = np.floor((uv_px[:, 0] + 0.5) / STRIDE)
        line = np.floor((uv_px[:, 1] + 0.5) / STRIDE)
        wide, high = camera.width_px // STRIDE, camera.height_px // STRIDE
        seen = (depth_m > 0.3) & (column >= 0) & (column < wide) & (line >= 0) & (line < high)
        row = start + np.where(seen, line * wide + column, 0)
        rows.append(np.where(seen, row, total).astype(np.int64))
        depths.append(depth_bin(depth_m, bins))
        fineness.append(np.where(seen, camera.fx_px / np.maximum(depth_m, 0.3), -1.0))
    order = np.argsort(-np.stack(fineness, axis=1), axis=1, kind="stable")[:, :CAMERAS_PER_VOXEL]
    row_VS = np.take_along_axis(np.stack(rows, axis=1), order, axis=1)
    bin_VS = np.take_along_axis(np.stack(depths, axis=1), order, axis=1)
    return LiftTable(
        row_VS=row_VS,
        depth_VS=np.where(row_VS < total, row_VS * bins + bin_VS, total * bins),
        rows=total,
    )


def net_r_points() -> np.ndarray:
    """Return every voxel net R reads, cell by cell of BEV_BOX, VOXELS_PER_CELL each: four ground
    voxels of 0.8 m, then the body heights.

    In this order the gathered rows are the encoder's input as they lie: nothing is transposed.
    """
    x, y = BEV_BOX.nx, BEV_BOX.ny
    ground = voxels(BEV, GROUND_HEIGHT_M).reshape(x, 2, y, 2, 3).transpose(0, 2, 1, 3, 4)
    body = [voxels(BEV_BOX, h).reshape(x, y, 1, 3) for h in BODY_HEIGHTS_M]
    return np.concatenate([ground.reshape(x, y, 4, 3), *body], axis=2).reshape(-1, 3)
