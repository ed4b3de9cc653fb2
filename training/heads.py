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

TRACKED: Final = 8
"""Channels of the memory in which own motion is looked for."""

_TURN_ARM_M: Final = 20.0
_DOUBTS: Final = 16
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
    """How far the ground moved between memory and now -> [B, 2]: speed (10 m/s), yaw rate (rad/s).

    The memory's covered cells say how far the car believes it went. Where what stands still does
    not lie where memory puts it, the gradient of the map says how wrong that was: the least-squares
    shift along x and y and turn about the rear axle. Small shifts are noise: how far to go along
    with one is learned. Without memory the answer means nothing.
    Source: Lucas & Kanade, "An iterative image registration technique" (1981), on feature maps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told = nn.Linear(BEV_BOX.nx + BEV_BOX.ny, 2)
        self.wrong = nn.Sequential(nn.Linear(3, _DOUBTS), nn.ReLU(), nn.Linear(_DOUBTS, 2))
        x_m = BEV_BOX.x_min_m + (torch.arange(BEV_BOX.nx) + 0.5) * BEV_BOX.cell_m
        y_m = BEV_BOX.y_min_m + (torch.arange(BEV_BOX.ny) + 0.5) * BEV_BOX.cell_m
        place = torch.stack(torch.meshgrid(x_m, y_m, indexing="ij"))[:, 1:-1, 1:-1] / _TURN_ARM_M
        self.register_buffer("place", place, persistent=False)

    def forward(self, kept_BMXY: Tensor, memory_BMXY: Tensor) -> Tensor:
        """Return speed and yaw rate from what is kept now and what was kept, moved here."""
        cover = memory_BMXY[:, 0]
        seen = torch.cat([1.0 - cover.mean(dim=1), 1.0 - cover.mean(dim=2)], dim=1)
        was = memory_BMXY[:, 1 : 1 + TRACKED]
        change = (kept_BMXY[:, 1 : 1 + TRACKED] - was)[:, :, 1:-1, 1:-1]
        covered = _inner(cover, 0, 0) + _inner(cover, 1, 0) + _inner(cover, -1, 0)
        covered = (covered + _inner(cover, 0, 1) + _inner(cover, 0, -1) - 5.0) * 50.0 + 1.0
        change = change * covered.relu().unsqueeze(1)
        ahead = _inner(was, 1, 0) - _inner(was, -1, 0)
        aside = _inner(was, 0, 1) - _inner(was, 0, -1)
        turned = self.place[0] * aside - self.place[1] * ahead
        shifts = [
            2.0 * (way * change).sum(dim=(1, 2, 3)) / ((way * way).sum(dim=(1, 2, 3)) + 1e-3)
            for way in (ahead, aside, turned)
        ]
        return self.told(10.0 * seen) + self.wrong(10.0 * torch.stack(shifts, dim=1))


def _inner(map_XY: Tensor, dx: int, dy: int) -> Tensor:
    """Return a map without its border, moved by whole cells."""
    x, y = map_XY.shape[-2:]
    return map_XY[..., 1 + dx : x - 1 + dx, 1 + dy : y - 1 + dy]
