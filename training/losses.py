"""What the network is asked for, and how wrong it is.

Targets are rasters on BEV_BOX and BEV. A box too small to be seen (LABEL_MIN_PIXELS) is neither
wanted nor punished; neither is one of a kind that the bundle does not name.
Source: focal heat-map loss of Zhou et al., "Objects as Points" (2019), equation 1.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vehicle.contracts.sample import LABEL_MIN_PIXELS
from vehicle.contracts.scene import (
    BEV_BOX,
    BEV_DRIVABLE,
    BEV_LANE,
    BEV_OCCUPIED,
    KINDS,
)

DENSE_BITS: Final = (BEV_DRIVABLE, BEV_LANE, BEV_OCCUPIED)
DENSE_POSITIVE_WEIGHT: Final = (1.0, 3.0, 3.0)
"""Lane paint and occupied cells are few: a missed one counts three times."""

IGNORED: Final = -1.0
"""Heat target of cells that are neither wanted nor punished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """How the parts add up."""

    heat: float = 1.0
    box: float = 0.5
    dense: float = 2.0


def heat_and_boxes(boxes: np.ndarray, kinds: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the heat target [K, 50, 32] and the box target [7, 50, 32] of one frame.

    Args:
        boxes: [M, 11], BOX_COLUMNS.
        kinds: names by heat channel.
    Returns:
        heat: 1 at centres, Gaussian around them, IGNORED where nothing is asked.
        box: dx_m, dy_m, log length, log width, sin yaw, cos yaw, and 1 where a box is.
    """
    grid = BEV_BOX
    heat = np.zeros((len(kinds), grid.nx, grid.ny), dtype=np.float32)
    target = np.zeros((7, grid.nx, grid.ny), dtype=np.float32)
    ignored: list[tuple[slice | int, int, int]] = []
    for kind, x_m, y_m, yaw_rad, length_m, width_m, _, visible_px, *_ in boxes.astype(np.float64):
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


def dense_target(bev: np.ndarray) -> np.ndarray:
    """Return bits [..., 100, 64] as planes [..., 3, 100, 64] of 0 and 1."""
    return np.stack([(bev & bit) > 0 for bit in DENSE_BITS], axis=-3).astype(np.float32)


def heat_loss(logit_BKXY: Tensor, target_BKXY: Tensor) -> Tensor:
    """Return the focal loss per object (alpha 2, beta 4); IGNORED cells count nothing."""
    prob = logit_BKXY.sigmoid()
    here, asked = target_BKXY == 1.0, target_BKXY != IGNORED
    missed = -F.logsigmoid(logit_BKXY) * (1 - prob).square() * here
    invented = -F.logsigmoid(-logit_BKXY) * prob.square() * (1 - target_BKXY).pow(4)
    invented = torch.where(here | ~asked, torch.zeros_like(invented), invented)
    return (missed.sum() + invented.sum()) / here.sum().clamp(min=1)


def box_loss(box_BCXY: Tensor, target_BCXY: Tensor) -> Tensor:
    """Return the mean absolute error per object, summed over the six numbers of a box."""
    where = target_BCXY[:, 6:]
    error = (box_BCXY - target_BCXY[:, :6]).abs() * where
    return error.sum() / where.sum().clamp(min=1)


def dense_loss(logit_BCXY: Tensor, target_BCXY: Tensor) -> Tensor:
    """Return the weighted binary cross entropy, mean over cells and summed over planes."""
    weight = torch.tensor(DENSE_POSITIVE_WEIGHT).view(1, -1, 1, 1)
    loss = F.binary_cross_entropy_with_logits(
        logit_BCXY, target_BCXY, pos_weight=weight, reduction="none"
    )
    return loss.mean(dim=(0, 2, 3)).sum()


def losses(
    out: dict[str, Tensor], batch: dict[str, Tensor], weights: LossWeights
) -> dict[str, Tensor]:
    """Return every part and their weighted sum, `total`."""
    parts = {
        "heat": heat_loss(out["heat"].float(), batch["heat"]),
        "box": box_loss(out["box"].float(), batch["box"]),
        "dense": dense_loss(out["dense"].float(), batch["dense"]),
    }
    total = weights.heat * parts["heat"] + weights.box * parts["box"]
    return {**parts, "total": total + weights.dense * parts["dense"]}
