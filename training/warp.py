"""A memory of the ground moved from the frame before into this one, for training.

The car moves its memory in compiled code; both sample the same cells (tests hold them together).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from vehicle.contracts.scene import BEV_BOX


def warp(memory_BCXY: Tensor, motion_B3: Tensor) -> Tensor:
    """Return memory as seen from here: bilinear, zero where nothing was seen before.

    Args:
        memory_BCXY: on the cells of BEV_BOX, in the ego frame of the frame before.
        motion_B3: dx_m, dy_m, dyaw_rad: pose of this frame's ego in the frame before.
    """
    grid = BEV_BOX
    x_m = grid.x_min_m + (torch.arange(grid.nx) + 0.5) * grid.cell_m
    y_m = grid.y_min_m + (torch.arange(grid.ny) + 0.5) * grid.cell_m
    x_m, y_m = torch.meshgrid(x_m, y_m, indexing="ij")
    dx_m, dy_m, dyaw = (motion_B3[:, i].float().view(-1, 1, 1) for i in range(3))
    c, s = dyaw.cos(), dyaw.sin()
    before_x_m, before_y_m = c * x_m - s * y_m + dx_m, s * x_m + c * y_m + dy_m
    along = (before_x_m - grid.x_min_m) * (2.0 / (grid.nx * grid.cell_m)) - 1.0
    across = (before_y_m - grid.y_min_m) * (2.0 / (grid.ny * grid.cell_m)) - 1.0
    place = torch.stack([across, along], dim=3)
    return F.grid_sample(
        memory_BCXY.float(), place, mode="bilinear", padding_mode="zeros", align_corners=False
    )
