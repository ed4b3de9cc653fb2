"""The smaller heads of net R: lanes, traffic light, own motion.

Shape letters as in model.py; L lane boundaries, J columns of the fine raster.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from training.lift import STRIDE
from vehicle.contracts.frame import CameraModel
from vehicle.contracts.scene import BEV, BEV_BOX

LANES: Final = 4
"""Boundaries: next lane's far left, own left, own right, next lane's far right."""

LIGHTS: Final = ("none", "red", "yellow", "green")
LIGHT_REACH_M: Final = 60.0
"""A light farther away along the route is no light (the label's reach)."""

MEMORY_AGE_S: Final = 0.1
"""How old the memory is in training: own motion is read off it by this."""

_LANE_PRIOR: Final = -5.0
_LANE_LOGIT_MAX: Final = 16.0
"""Keeps squares of masses inside float32, and their sum above zero."""


def conv(inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Return convolution, batch norm (folded at export) and ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs, momentum=0.05), nn.ReLU(inplace=True))


class LaneHead(nn.Module):
    """Ground [B, C, X, Y] -> logits [B, L, X, J]: in which column a boundary crosses each row.

    "In none" is one more column whose logit is 0, so where and whether are one distribution.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.trunk = conv(inputs, hidden)
        self.column = nn.Conv2d(hidden, LANES * (BEV.ny // BEV_BOX.ny), 1)
        nn.init.constant_(self.column.bias, _LANE_PRIOR)

    def forward(self, bev_BCXY: Tensor) -> Tensor:
        """Return the logits of all columns."""
        logit = self.column(self.trunk(bev_BCXY))
        batch, _, x, y = logit.shape
        split = logit.reshape(batch, LANES, -1, x, y).permute(0, 1, 3, 4, 2)
        return split.reshape(batch, LANES, x, -1)


def lane_points(logit_BLXJ: Tensor) -> tuple[Tensor, Tensor]:
    """Return y_m by soft argmax over the columns and the probability of a line, [B, L, X] each.

    The distribution is squared first, so that far columns of little mass do not pull.
    """
    y_m = BEV.y_min_m + (torch.arange(BEV.ny) + 0.5) * BEV.cell_m
    mass = logit_BLXJ.float().clamp(-_LANE_LOGIT_MAX, _LANE_LOGIT_MAX).exp()
    moments = mass.square() @ torch.stack([y_m, torch.ones_like(y_m)], dim=1)
    there = mass @ torch.ones(BEV.ny, 1)
    where_m = moments[..., 0] / moments[..., 1]
    return where_m, (there / (1.0 + there)).squeeze(3)


class LightHead(nn.Module):
    """Rows of the front cameras -> [B, 5]: logits of LIGHTS, and the stop line's distance (0..1).

    Every pixel says what it would answer and how much it is to be asked; a learned map of the
    picture says where lights that count are hung.
    """

    def __init__(self, inputs: int, hidden: int, cameras: Sequence[CameraModel]) -> None:
        super().__init__()
        self._shape = (cameras[0].height_px // STRIDE, cameras[0].width_px // STRIDE)
        self._cameras = len(cameras)
        self.trunk = conv(inputs, hidden)
        self.answer = nn.Conv2d(hidden, len(LIGHTS) + 2, 1)
        self.place = nn.Parameter(torch.zeros(self._cameras, 1, *self._shape))

    def forward(self, feature_BRC: Tensor) -> Tensor:
        """Return logits and distance; front rows are the first of `feature_BRC`."""
        batch, _, channels = feature_BRC.shape
        height, width = self._shape
        rows = feature_BRC[:, : self._cameras * height * width]
        picture = rows.reshape(batch * self._cameras, height, width, channels).permute(0, 3, 1, 2)
        answer = self.answer(self.trunk(picture)).reshape(batch, self._cameras, -1, height, width)
        asked = (answer[:, :, :1] + self.place).permute(0, 2, 1, 3, 4).reshape(batch, 1, -1)
        said = answer[:, :, 1:].permute(0, 2, 1, 3, 4).reshape(batch, len(LIGHTS) + 1, -1)
        return (said * asked.softmax(dim=2)).sum(dim=2)


class EgoMotionHead(nn.Module):
    """What moved between memory and picture -> [B, 2]: speed (in 10 m/s) and yaw rate (rad/s).

    Reads how far the memory was moved off its covered cells, and off the ground features whether
    what stands still lies where memory puts it. Without memory the answer means nothing.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs + BEV_BOX.nx + BEV_BOX.ny, inputs)
        self.second = nn.Linear(inputs, 2)

    def forward(self, motion_BCXY: Tensor, covered_B1XY: Tensor) -> Tensor:
        """Return speed and yaw rate."""
        seen = [covered_B1XY[:, 0].mean(dim=1), covered_B1XY[:, 0].mean(dim=2)]
        seen = [10.0 * (1.0 - part) for part in seen]
        pooled = torch.cat([motion_BCXY.mean(dim=(2, 3)), *seen], dim=1)
        return self.second(self.first(pooled).relu())
