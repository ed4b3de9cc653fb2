"""Net R: eight pictures and a memory in, one view from above out.

Shape letters: B frames, N cameras, C channels, D depth bins, R feature rows (all pixels
of all cameras at stride 8), V voxels, S camera slots per voxel, X forward cells, Y left cells,
K kinds, M memory channels.
Both picture sizes go through one backbone of plain convolutions; features are gathered onto the
ground by the tables of lift.py, weighted by a softmax over depth, joined by what the network kept
of the frame before (already moved into this frame by the car), and read by a small encoder.
Source: index-gather lift as in Fast-BEV++ (arXiv 2512.08237); depth weights as in Philion & Fidler,
"Lift, Splat, Shoot" (2020); heat map as in Zhou et al., "Objects as Points" (2019); a ground map of
the frame before as memory as in Huang & Huang, "BEVDet4D" (2022).
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.heads import EgoMotionHead, LaneHead, LightHead, conv
from training.lift import VOXELS_PER_CELL, lift_table, net_r_points
from training.warp import warp
from vehicle.config import RIG_R
from vehicle.contracts.frame import Rig
from vehicle.contracts.scene import BEV_BOX
from vehicle.preprocess import FRONT_CAMERAS

BOX_CHANNELS: Final = ("dx_m", "dy_m", "log_length", "log_width", "sin_yaw", "cos_yaw")
DENSE_CHANNELS: Final = ("drivable", "lane", "occupied")
VELOCITY_UNIT_MPS: Final = 10.0
"""Velocities and flow leave the network in this unit; the graph of a car gives m/s."""

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
    memory: int = 32


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
    """Ground features [B, C, X, Y] at 1.6 m and memory -> the same, having looked further around.

    Memory and the widest look around enter through convolutions that begin at zero: a network
    without them can be grown into one with them and computes at first what it did before.
    """

    def __init__(self, inputs: int, c: NetConfig) -> None:
        super().__init__()
        self.enter = conv(inputs, c.bev, kernel=1)
        self.recall = nn.Conv2d(c.memory, c.bev, 1, bias=False)
        self.near = conv(c.bev, c.bev)
        self.far = nn.Sequential(conv(c.bev, c.bev_half, stride=2), conv(c.bev_half, c.bev_half))
        self.wide = nn.Sequential(
            conv(c.bev_half, c.bev_half, stride=2), conv(c.bev_half, c.bev_half)
        )
        self.wide_back = nn.Conv2d(c.bev_half, c.bev_half, 1)
        self.back = conv(c.bev_half, c.bev, kernel=1)
        self.mix = conv(c.bev, c.bev)
        for fresh in (self.recall.weight, self.wide_back.weight, self.wide_back.bias):
            nn.init.zeros_(fresh)  # type: ignore[arg-type]

    def forward(self, bev_BCXY: Tensor, memory_BMXY: Tensor) -> Tensor:
        """Return encoded ground features."""
        near = self.near(self.enter(bev_BCXY) + self.recall(memory_BMXY))
        far = self.far(near)
        wide = F.interpolate(self.wide_back(self.wide(far)), size=far.shape[2:], mode="nearest")
        back = F.interpolate(self.back(far + wide), scale_factor=2.0, mode="nearest")
        return self.mix(near + back)


class NetR(nn.Module):
    """The network as trained: returns logits; `training.deploy` makes the graphs a car runs."""

    def __init__(
        self, kinds: tuple[str, ...], config: NetConfig | None = None, rig: Rig = RIG_R
    ) -> None:
        super().__init__()
        c = self.config = config or NetConfig()
        self.kinds = kinds
        table = lift_table(rig, net_r_points(), c.depth_bins)
        self.register_buffer("row_VS", torch.from_numpy(table.row_VS).int(), persistent=False)
        self.register_buffer("depth_VS", torch.from_numpy(table.depth_VS).int(), persistent=False)
        self.register_buffer("heat_scale", torch.ones(len(kinds)))
        self.register_buffer("heat_offset", torch.zeros(len(kinds)))
        self.backbone = Backbone(c)
        self.encoder = BevEncoder(c.features * VOXELS_PER_CELL, c)
        self.heat = nn.Sequential(conv(c.bev, c.head), nn.Conv2d(c.head, len(kinds), 1))
        self.box = nn.Sequential(conv(c.bev, c.head), nn.Conv2d(c.head, len(BOX_CHANNELS), 1))
        self.dense_trunk = conv(c.bev, c.head)
        self.dense = nn.Conv2d(c.head, 4 * len(DENSE_CHANNELS), 1)
        self.motion_trunk = conv(c.bev, c.head)
        self.motion = nn.Conv2d(c.head, 4, 1)
        self.lanes = LaneHead(c.bev, c.head)
        self.light = LightHead(c.features, c.head, rig.cameras[:FRONT_CAMERAS])
        self.ego_motion = EgoMotionHead()
        self.keep = nn.Conv2d(c.bev, c.memory - 1, 1)
        nn.init.constant_(self.heat[1].bias, math.log(HEAT_PRIOR / (1 - HEAT_PRIOR)))

    @property
    def embedding_size(self) -> int:
        """Return the length of the embedding."""
        return self.config.features + self.config.head

    def forward(
        self,
        front_BNHWC: Tensor,
        side_BNHWC: Tensor,
        before: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return logits: heat [B,K,50,32], box [B,6,50,32], dense [B,3,100,64] and all the others.

        Args:
            front_BNHWC: uint8 pictures of the two front cameras, RGB.
            side_BNHWC: uint8 pictures of the six others.
            before: what makes the memory, for some frames of the batch: int64 [P] which ones, front
                and side pictures [P, ...] of the frame before, and motion [P, 3] (dx_m, dy_m,
                dyaw_rad) from there to here. The others have no memory.
        """
        memory = self.no_memory(len(front_BNHWC))
        if before is not None:
            which, front, side, motion = before
            with torch.no_grad():
                rows = self.rows(*scaled(front, side), len(front))
                bev = self.encoder(self.lift(*rows), self.no_memory(len(front)))
            moved = warp(self._keep(bev), motion)
            memory = memory.to(moved.dtype).index_copy(0, which, moved)
        return self.view(*scaled(front_BNHWC, side_BNHWC), memory)

    def no_memory(self, batch: int) -> Tensor:
        """Return the memory of a car that has none: zeros."""
        shape = (batch, self.config.memory, BEV_BOX.nx, BEV_BOX.ny)
        return torch.zeros(shape, device=self.heat_scale.device)

    def view(self, front_NCHW: Tensor, side_NCHW: Tensor, memory_BMXY: Tensor) -> dict[str, Tensor]:
        """Return the same from scaled pictures, the cameras of a frame one after another."""
        feature_BRC, depth_BRD = self.rows(front_NCHW, side_NCHW, len(memory_BMXY))
        return self.read(feature_BRC, depth_BRD, memory_BMXY)

    def read(
        self, feature_BRC: Tensor, depth_BRD: Tensor, memory_BMXY: Tensor
    ) -> dict[str, Tensor]:
        """Return every head's answer from camera rows and memory."""
        bev = self.encoder(self.lift(feature_BRC, depth_BRD), memory_BMXY)
        dense_trunk, motion_trunk = self.dense_trunk(bev), self.motion_trunk(bev)
        kept = self._keep(bev)
        velocity, flow = self.motion(motion_trunk).split(2, dim=1)
        return {
            "heat": self.heat(bev),
            "box": self.box(bev),
            "dense": F.pixel_shuffle(self.dense(dense_trunk), 2),
            "embedding": torch.cat([_row_mean(feature_BRC), dense_trunk.mean(dim=(2, 3))], dim=1),
            "velocity": velocity,
            "flow": flow,
            "lanes": self.lanes(bev),
            "light": self.light(feature_BRC),
            "ego_motion": self.ego_motion(kept, memory_BMXY),
            "memory_out": kept,
        }

    def _keep(self, bev: Tensor) -> Tensor:
        """Return what to remember. Channel 0 is one everywhere: moved along with the others, it
        says afterwards which cells were looked at before, and how far the car says it moved."""
        kept = self.keep(bev)
        return torch.cat([torch.ones_like(kept[:, :1]), kept], dim=1)

    def rows(self, front_NCHW: Tensor, side_NCHW: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Return features [B, R, C] and depth weights [B, R, D] of pictures, in camera order."""
        features, logits = [], []
        for image_NCHW in (front_NCHW, side_NCHW):
            feature, logit = self.backbone(image_NCHW)
            features.append(_rows(feature, batch))
            logits.append(_rows(logit, batch))
        depth_BRD = torch.cat(logits, dim=1).softmax(dim=2) * self.config.depth_bins
        return torch.cat(features, dim=1), depth_BRD

    def lift(self, feature_BRC: Tensor, depth_BRD: Tensor) -> Tensor:
        """Return ground features [B, 7 C, X, Y]: each voxel reads its cameras' rows."""
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


def scaled(*images_BNHWC: Tensor) -> list[Tensor]:
    """Return uint8 pictures as the numbers the network computes with, [B*N, 3, H, W]."""
    return [
        (image.flatten(0, 1).permute(0, 3, 1, 2).float() - PIXEL_ZERO) / PIXEL_SPREAD
        for image in images_BNHWC
    ]


def _rows(map_NCHW: Tensor, batch: int) -> Tensor:
    """Return maps of all cameras as rows [B, N * H * W, C]."""
    return map_NCHW.permute(0, 2, 3, 1).reshape(batch, -1, map_NCHW.shape[1])


def _row_mean(feature_BRC: Tensor) -> Tensor:
    """Return the mean over rows, as a product: five times faster than a reduction in the car."""
    rows = feature_BRC.shape[1]
    return (feature_BRC.new_full((1, 1, rows), 1.0 / rows) @ feature_BRC).squeeze(1)


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
