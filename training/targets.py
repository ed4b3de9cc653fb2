"""What the network is asked for: labels of a frame as rasters on BEV_BOX and BEV.

A box too small to be seen (LABEL_MIN_PIXELS) is neither wanted nor punished; neither is one of a
kind that the bundle does not name. What nobody labelled is asked of nobody: its mask is 0.
"""

import math
from typing import Final

import numpy as np

from training.model import VELOCITY_UNIT_MPS
from vehicle.contracts.sample import LABEL_MIN_PIXELS
from vehicle.contracts.scene import (
    BEV,
    BEV_BOX,
    BEV_DRIVABLE,
    BEV_LANE,
    BEV_OCCUPIED,
    KINDS,
)

DENSE_BITS: Final = (BEV_DRIVABLE, BEV_LANE, BEV_OCCUPIED)

IGNORED: Final = -1.0
"""Heat target of cells that are neither wanted nor punished."""

_FLOW_MARGIN_M: Final = 0.4
"""A coarse cell belongs to a road user up to so far outside its footprint."""


def heat_and_boxes(boxes: np.ndarray, kinds: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the heat target [K, 50, 32] and the box target [7, 50, 32] of one frame.

    Args:
        boxes: [M, 9 or more], BOX_COLUMNS.
        kinds: names by heat channel.
    Returns:
        heat: 1 at centres, Gaussian around them, IGNORED where nothing is asked.
        box: dx_m, dy_m, log length, log width, sin yaw, cos yaw, and 1 where a box is.
    """
    grid = BEV_BOX
    heat = np.zeros((len(kinds), grid.nx, grid.ny), dtype=np.float32)
    target = np.zeros((7, grid.nx, grid.ny), dtype=np.float32)
    ignored: list[tuple[slice | int, int, int]] = []
    for row in boxes[:, :8].astype(np.float64).tolist():
        kind, x_m, y_m, yaw_rad, length_m, width_m, _, visible_px = row
        x, y = (x_m - grid.x_min_m) / grid.cell_m, (y_m - grid.y_min_m) / grid.cell_m
        ix, iy = math.floor(x), math.floor(y)
        if not (0 <= ix < grid.nx and 0 <= iy < grid.ny):
            continue
        name = KINDS[int(kind)]
        if name not in kinds:
            ignored.append((slice(None), ix, iy))
            continue
        channel = kinds.index(name)
        if visible_px < LABEL_MIN_PIXELS:
            ignored.append((channel, ix, iy))
            continue
        sigma = 0.5 + 0.1 * math.hypot(length_m, width_m) / grid.cell_m
        _splat(heat[channel], ix, iy, sigma)
        target[:, ix, iy] = (
            (x - ix - 0.5) * grid.cell_m,
            (y - iy - 0.5) * grid.cell_m,
            math.log(length_m),
            math.log(width_m),
            math.sin(yaw_rad),
            math.cos(yaw_rad),
            1.0,
        )
    for channel_or_all, ix, iy in ignored:
        around = heat[channel_or_all, max(ix - 1, 0) : ix + 2, max(iy - 1, 0) : iy + 2]
        around[around < 1.0] = IGNORED
    return heat, target


def _splat(plane: np.ndarray, ix: int, iy: int, sigma: float) -> None:
    """Raise a heat plane to a Gaussian of `sigma` cells around a centre; 1 at the centre."""
    reach = math.ceil(3 * sigma)
    x0, x1 = max(ix - reach, 0), min(ix + reach + 1, plane.shape[0])
    y0, y1 = max(iy - reach, 0), min(iy + reach + 1, plane.shape[1])
    dx, dy = np.arange(x0, x1) - ix, np.arange(y0, y1) - iy
    bump = np.exp(-(dx[:, None] ** 2 + dy[None, :] ** 2) / (2 * sigma * sigma))
    bump[bump < 0.01] = 0.0
    np.maximum(plane[x0:x1, y0:y1], bump, out=plane[x0:x1, y0:y1], casting="unsafe")


def motion_target(boxes: np.ndarray, bev: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return velocity [3, 50, 32] at box centres and flow [3, 50, 32] of all that is occupied.

    Both: along x, along y (VELOCITY_UNIT_MPS, over ground, ego axes), and 1 where it is asked.
    What is occupied by no labelled road user stands still: houses, trees.

    Args:
        boxes: [M, 11], BOX_COLUMNS; a box of unknown velocity is asked nowhere.
        bev: uint8 [100, 64] bits.
    """
    grid = BEV_BOX
    velocity = np.zeros((3, grid.nx, grid.ny), np.float32)
    flow = np.zeros((3, grid.nx, grid.ny), np.float32)
    if not (len(boxes) and np.isfinite(boxes[:, 9:11]).any()):
        return velocity, flow
    occupied = (bev & BEV_OCCUPIED) > 0
    flow[2] = occupied.reshape(grid.nx, 2, grid.ny, 2).any(axis=(1, 3))
    for row in boxes.astype(np.float64).tolist():
        _, x_m, y_m, yaw_rad, length_m, width_m, _, visible_px, _, vx, vy = row
        x0, y0, cells = _covered(x_m, y_m, yaw_rad, length_m, width_m)
        if not cells.size:
            continue
        known = visible_px >= LABEL_MIN_PIXELS and math.isfinite(vx)
        values = (vx / VELOCITY_UNIT_MPS, vy / VELOCITY_UNIT_MPS, 1.0) if known else (0.0, 0.0, 0.0)
        window = flow[:, x0 : x0 + cells.shape[0], y0 : y0 + cells.shape[1]]
        window[:, cells] = np.array(values, np.float32)[:, None]
        ix = math.floor((x_m - grid.x_min_m) / grid.cell_m)
        iy = math.floor((y_m - grid.y_min_m) / grid.cell_m)
        if known and 0 <= ix < grid.nx and 0 <= iy < grid.ny:
            velocity[:, ix, iy] = values
    return velocity, flow


def _covered(
    x_m: float, y_m: float, yaw_rad: float, length_m: float, width_m: float
) -> tuple[int, int, np.ndarray]:
    """Return the first cell of a window of BEV_BOX and which of its cells a footprint covers."""
    grid = BEV_BOX
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    half_l, half_w = length_m / 2 + _FLOW_MARGIN_M, width_m / 2 + _FLOW_MARGIN_M
    reach_x, reach_y = abs(c) * half_l + abs(s) * half_w, abs(s) * half_l + abs(c) * half_w
    x0 = max(math.floor((x_m - reach_x - grid.x_min_m) / grid.cell_m), 0)
    x1 = min(math.floor((x_m + reach_x - grid.x_min_m) / grid.cell_m) + 1, grid.nx)
    y0 = max(math.floor((y_m - reach_y - grid.y_min_m) / grid.cell_m), 0)
    y1 = min(math.floor((y_m + reach_y - grid.y_min_m) / grid.cell_m) + 1, grid.ny)
    if x1 <= x0 or y1 <= y0:
        return 0, 0, np.zeros((0, 0), bool)
    dx = (grid.x_min_m + (np.arange(x0, x1) + 0.5) * grid.cell_m - x_m)[:, None]
    dy = (grid.y_min_m + (np.arange(y0, y1) + 0.5) * grid.cell_m - y_m)[None, :]
    inside = (np.abs(c * dx + s * dy) <= half_l) & (np.abs(-s * dx + c * dy) <= half_w)
    centre = (np.abs(dx) <= grid.cell_m / 2) & (np.abs(dy) <= grid.cell_m / 2)
    return x0, y0, inside | centre


def lane_target(lanes: np.ndarray, labelled: bool) -> np.ndarray:
    """Return [2, 4, 50]: y_m of each boundary (0 without one), and 1 there, 0 none, -1 not asked.

    A boundary outside the raster is none.
    """
    target = np.zeros((2, *lanes.shape), np.float32)
    reach = -BEV.y_min_m - BEV.cell_m
    with np.errstate(invalid="ignore"):
        there = np.abs(lanes) < reach
    target[0] = np.where(there, lanes, 0.0)
    target[1] = there if labelled else -1.0
    return target


def dense_target(bev: np.ndarray) -> np.ndarray:
    """Return bits [..., 100, 64] as planes [..., 3, 100, 64] of 0 and 1."""
    return np.stack([(bev & bit) > 0 for bit in DENSE_BITS], axis=-3).astype(np.float32)
