"""Net R: eight pictures in, one view from above out.

Shape letters: B frames, N cameras, C channels, D depth bins, R feature rows (all pixels of all
cameras at stride 8), V voxels, S camera slots per voxel, X forward cells, Y left cells, K kinds.
Both picture sizes go through one backbone of plain convolutions; features are gathered onto the
ground by the tables of lift.py, weighted by a softmax over depth, and read by a small encoder.
Source: index-gather lift as in Fast-BEV++ (arXiv 2512.08237); depth weights as in Philion & Fidler,
"Lift, Splat, Shoot" (2020); heat map as in Zhou et al., "Objects as Points" (2019).
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.lift import VOXELS_PER_CELL, lift_table, net_r_points
from vehicle.config import RIG_R
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import BEV_BOX

BOX_CHANNELS: Final = ("dx_m", "dy_m", "log_length", "log_width", "sin_yaw", "cos_yaw")
DENSE_CHANNELS: Final = ("drivable", "lane", "occupied")
PIXEL_ZERO: Final = 128
PIXEL_SPREAD: Final = 64
"""A pixel p enters the network as (p - 128) / 64: exactly a uint8 with a scale, so no cast."""

HEAT_PRIOR: Final = 0.03
"""Share of cells a fresh network takes for an object: keeps the first focal losses small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Channels per stage; docs/decisions/0002-network-size.md has what each choice costs."""

    stem: int = 16
    quarter: int = 32
    eighth: int = 64
    sixteenth: int = 96
    features: int = 32
    depth_bins: int = 24
    bev: int = 64
    bev_half: int = 96
    head: int = 32


def conv(inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Return convolution, batch norm (folded at export) and ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs, momentum=0.05), nn.ReLU(inplace=True))


class Backbone(nn.Module):
    """Pictures [B*N, 3, H, W] -> features and depth logits [B*N, C or D, H/8, W/8].

    Two last convolutions, not one: each output then has its own scale in the uint8 graph.
    """

    def __init__(self, c: NetConfig) -> None:
        super().__init__()
        self.stem = conv(3, c.stem, stride=2)
        self.quarter = nn.Sequential(conv(c.stem, c.quarter, stride=2), conv(c.quarter, c.quarter))
        self.eighth = nn.Sequential(conv(c.quarter, c.eighth, stride=2), conv(c.eighth, c.eighth))
        self.sixteenth = nn.Sequential(
            conv(c.eighth, c.sixteenth, stride=2), conv(c.sixteenth, c.sixteenth)
        )
        self.back = conv(c.sixteenth, c.eighth, kernel=1)
        self.mix = conv(c.eighth, c.eighth)
        self.feature = nn.Conv2d(c.eighth, c.features, 1)
        self.depth = nn.Conv2d(c.eighth, c.depth_bins, 1)

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and depth logits at stride 8."""
        eighth = self.eighth(self.quarter(self.stem(image_NCHW)))
        wide = F.interpolate(self.back(self.sixteenth(eighth)), scale_factor=2.0, mode="nearest")
        mixed = self.mix(eighth + wide)
        return self.feature(mixed), self.depth(mixed)


class BevEncoder(nn.Module):
    """Ground features [B, C, X, Y] at 1.6 m -> the same, having looked further around."""

    def __init__(self, inputs: int, c: NetConfig) -> None:
        super().__init__()
        self.enter = conv(inputs, c.bev, kernel=1)
        self.near = conv(c.bev, c.bev)
        self.far = nn.Sequential(conv(c.bev, c.bev_half, stride=2), conv(c.bev_half, c.bev_half))
        self.back = conv(c.bev_half, c.bev, kernel=1)
        self.mix = conv(c.bev, c.bev)

    def forward(self, bev_BCXY: Tensor) -> Tensor:
        """Return encoded ground features."""
        near = self.near(self.enter(bev_BCXY))
        far = F.interpolate(self.back(self.far(near)), scale_factor=2.0, mode="nearest")
        return self.mix(near + far)


class NetR(nn.Module):
    """The network as trained: returns logits; `training.deploy` makes the graph a car runs."""

    def __init__(
        self, kinds: tuple[str, ...], config: NetConfig | None = None, rig: Rig = RIG_R
    ) -> None:
        super().__init__()
        c = self.config = config or NetConfig()
        self.kinds = kinds
        table = lift_table(rig, net_r_points(), c.depth_bins)
        self.register_buffer("row_VS", torch.from_numpy(table.row_VS), persistent=False)
        self.register_buffer("depth_VS", torch.from_numpy(table.depth_VS), persistent=False)
        self.backbone = Backbone(c)
        self.encoder = BevEncoder(c.features * VOXELS_PER_CELL, c)
        self.heat = nn.Sequential(conv(c.bev, c.head), nn.Conv2d(c.head, len(kinds), 1))
        self.box = nn.Sequential(conv(c.bev, c.head), nn.Conv2d(c.head, len(BOX_CHANNELS), 1))
        self.dense_trunk = conv(c.bev, c.head)
        self.dense = nn.Conv2d(c.head, 4 * len(DENSE_CHANNELS), 1)
        nn.init.constant_(self.heat[1].bias, math.log(HEAT_PRIOR / (1 - HEAT_PRIOR)))

    @property
    def embedding_size(self) -> int:
        """Return the length of the embedding."""
        return self.config.features + self.config.head

    def forward(self, front_BNHWC: Tensor, side_BNHWC: Tensor) -> dict[str, Tensor]:
        """Return logits: heat [B,K,50,32], box [B,6,50,32], dense [B,3,100,64], embedding [B,E].

        Args:
            front_BNHWC: uint8 pictures of the two front cameras, RGB.
            side_BNHWC: uint8 pictures of the six others.
        """
        scaled = [
            (image.flatten(0, 1).permute(0, 3, 1, 2).float() - PIXEL_ZERO) / PIXEL_SPREAD
            for image in (front_BNHWC, side_BNHWC)
        ]
        return self.view(*scaled, batch=len(front_BNHWC))

    def view(self, front_NCHW: Tensor, side_NCHW: Tensor, *, batch: int) -> dict[str, Tensor]:
        """Return the same from scaled pictures, the cameras of `batch` frames one after another."""
        feature_BRC, depth_BRD = self._see(front_NCHW, side_NCHW, batch)
        bev = self.encoder(self._lift(feature_BRC, depth_BRD))
        trunk = self.dense_trunk(bev)
        return {
            "heat": self.heat(bev),
            "box": self.box(bev),
            "dense": F.pixel_shuffle(self.dense(trunk), 2),
            "embedding": torch.cat([feature_BRC.mean(dim=1), trunk.mean(dim=(2, 3))], dim=1),
        }

    def _see(self, front_NCHW: Tensor, side_NCHW: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        features, logits = [], []
        for image_NCHW in (front_NCHW, side_NCHW):
            feature, logit = self.backbone(image_NCHW)
            features.append(_rows(feature, batch))
            logits.append(_rows(logit, batch))
        depth_BRD = torch.cat(logits, dim=1).softmax(dim=2) * self.config.depth_bins
        return torch.cat(features, dim=1), depth_BRD

    def _lift(self, feature_BRC: Tensor, depth_BRD: Tensor) -> Tensor:
        batch, _, channels = feature_BRC.shape
        feature_BRC = F.pad(feature_BRC, (0, 0, 0, 1))
        weight_BR = F.pad(depth_BRD, (0, 0, 0, 1)).flatten(1)
        voxel_BVC = sum(
            feature_BRC.index_select(1, self.row_VS[:, s])
            * weight_BR.index_select(1, self.depth_VS[:, s]).unsqueeze(2)
            for s in range(self.row_VS.shape[1])
        )
        bev_BXYC = voxel_BVC.reshape(batch, BEV_BOX.nx, BEV_BOX.ny, VOXELS_PER_CELL * channels)
        return bev_BXYC.permute(0, 3, 1, 2)


def _rows(map_NCHW: Tensor, batch: int) -> Tensor:
    """Return maps of all cameras as rows [B, N * H * W, C]."""
    return map_NCHW.permute(0, 2, 3, 1).reshape(batch, -1, map_NCHW.shape[1])


def count_parameters(net: nn.Module) -> int:
    """Return how many numbers are learned."""
    return sum(p.numel() for p in net.parameters())


def count_mmac(net: NetR) -> float:
    """Return millions of multiply-accumulates of all convolutions for one frame."""
    total = 0

    def add(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        total += out.numel() * layer.weight[0].numel()  # type: ignore[union-attr, operator]

    hooks = [m.register_forward_hook(add) for m in net.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        net.eval()(
            torch.zeros(1, 2, 128, 256, 3, dtype=torch.uint8),
            torch.zeros(1, 6, 96, 192, 3, dtype=torch.uint8),
        )
    for hook in hooks:
        hook.remove()
    return total / 1e6
