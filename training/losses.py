"""How wrong the network is, head by head. A batch names its targets as `training.batches` does.

Source: focal heat-map loss of Zhou et al., "Objects as Points" (2019), equation 1.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from training.heads import LIGHT_REACH_M, LIGHTS, lane_points
from training.targets import IGNORED
from vehicle.contracts.scene import BEV

DENSE_POSITIVE_WEIGHT: Final = (1.0, 3.0, 3.0)
"""Lane paint and occupied cells are few: a missed one counts three times."""

LIGHT_WEIGHT: Final = (1.0, 2.0, 4.0, 2.0)
"""Most frames show no light, and yellow is short."""

COMMON_KINDS: Final = ("car",)
_MOVING: Final = 0.05
"""In VELOCITY_UNIT_MPS: what moves less than 0.5 m/s is judged with what stands."""

_LANE_METRE: Final = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """How the parts add up; `rare_kind` is what an object counts that is no car."""

    heat: float = 1.0
    box: float = 0.5
    dense: float = 2.0
    velocity: float = 1.0
    flow: float = 0.5
    lanes: float = 0.5
    light: float = 0.5
    ego_motion: float = 0.5
    rare_kind: float = 1.0


def heat_loss(logit_BKXY: Tensor, target_BKXY: Tensor, weight_K: Tensor | None = None) -> Tensor:
    """Return the focal loss per object (alpha 2, beta 4); IGNORED cells count nothing."""
    prob = logit_BKXY.sigmoid()
    here, asked = target_BKXY == 1.0, target_BKXY != IGNORED
    missed = -F.logsigmoid(logit_BKXY) * (1 - prob).square() * here
    invented = -F.logsigmoid(-logit_BKXY) * prob.square() * (1 - target_BKXY).pow(4)
    invented = torch.where(here | ~asked, torch.zeros_like(invented), invented)
    loss_K = (missed + invented).sum(dim=(0, 2, 3))
    if weight_K is not None:
        loss_K = loss_K * weight_K
    return loss_K.sum() / here.sum().clamp(min=1)


def box_loss(box_BCXY: Tensor, target_BCXY: Tensor) -> Tensor:
    """Return the mean absolute error per object, summed over the numbers of a box.

    The last channel of the target says where a box is.
    """
    where = target_BCXY[:, -1:]
    error = (box_BCXY - target_BCXY[:, :-1]).abs() * where
    return error.sum() / where.sum().clamp(min=1)


def dense_loss(logit_BCXY: Tensor, target_BCXY: Tensor) -> Tensor:
    """Return the weighted binary cross entropy, mean over cells and summed over planes."""
    weight = torch.tensor(DENSE_POSITIVE_WEIGHT).view(1, -1, 1, 1)
    loss = F.binary_cross_entropy_with_logits(
        logit_BCXY, target_BCXY, pos_weight=weight, reduction="none"
    )
    return loss.mean(dim=(0, 2, 3)).sum()


def flow_loss(flow_BCXY: Tensor, target_BCXY: Tensor) -> Tensor:
    """Return the mean absolute error of what moves plus that of what stands, each by itself."""
    wanted, asked = target_BCXY[:, :2], target_BCXY[:, 2]
    error = (flow_BCXY - wanted).abs().sum(dim=1)
    moving = asked * (wanted.square().sum(dim=1) > _MOVING**2)
    standing = asked - moving
    parts = [(error * part).sum() / part.sum().clamp(min=1) for part in (moving, standing)]
    return parts[0] + parts[1]


def lane_loss(logit_BLXJ: Tensor, target_B2LX: Tensor) -> Tensor:
    """Return the cross entropy over columns and "none", plus the error of the soft argmax (0.3 m).

    A line between two columns belongs to both in proportion.
    """
    y_m, there = target_B2LX[:, 0], target_B2LX[:, 1]
    asked, exists = (there >= 0).float(), (there > 0).float()
    log_prob = F.pad(logit_BLXJ, (0, 1)).log_softmax(dim=3)
    column = (y_m - BEV.y_min_m) / BEV.cell_m - 0.5
    left = column.floor().clamp(0, BEV.ny - 2).long().unsqueeze(3)
    share = (column - left.squeeze(3)).clamp(0, 1)
    near = [log_prob.gather(3, left + k).squeeze(3) for k in (0, 1)]
    entropy = exists * ((1 - share) * near[0] + share * near[1])
    entropy = entropy + (1 - exists) * log_prob[..., -1]
    error = F.smooth_l1_loss(lane_points(logit_BLXJ)[0], y_m, beta=_LANE_METRE, reduction="none")
    lines = exists * asked
    return (-(entropy * asked).sum() / asked.sum().clamp(min=1)) + (
        error * lines
    ).sum() / lines.sum().clamp(min=1)


def light_loss(said_B5: Tensor, target_B2: Tensor) -> Tensor:
    """Return the weighted cross entropy of the state plus the relative error of the distance.

    Args:
        target_B2: state (-1: not asked) and distance (negative: none).
    """
    state, distance_m = target_B2[:, 0], target_B2[:, 1]
    asked, shown = (state >= 0).float(), (state > 0).float()
    weight = torch.tensor(LIGHT_WEIGHT)
    wanted = state.clamp(min=0).long()
    entropy = F.cross_entropy(said_B5[:, : len(LIGHTS)], wanted, weight=weight, reduction="none")
    apart = (said_B5[:, -1].sigmoid() - distance_m / LIGHT_REACH_M).abs()
    shown = shown * (distance_m >= 0)
    return (entropy * asked).sum() / asked.sum().clamp(min=1) + 2.0 * (
        apart * shown
    ).sum() / shown.sum().clamp(min=1)


def ego_motion_loss(said_B2: Tensor, target_B3: Tensor) -> Tensor:
    """Return the mean absolute error of speed and yaw rate; the last column says where asked."""
    asked = target_B3[:, 2:]
    error = (said_B2 - target_B3[:, :2]).abs() * asked
    return error.sum() / asked.sum().clamp(min=1)


def losses(
    out: dict[str, Tensor],
    batch: dict[str, Tensor],
    weights: LossWeights,
    kinds: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """Return every part and their weighted sum, `total`.

    Args:
        kinds: names by heat channel; those that are not in COMMON_KINDS weigh `rare_kind`.
    """
    weight_K = torch.tensor([1.0 if k in COMMON_KINDS else weights.rare_kind for k in kinds])
    answer = {k: v.float() for k, v in out.items()}
    parts = {
        "heat": heat_loss(answer["heat"], batch["heat"], weight_K if kinds else None),
        "box": box_loss(answer["box"], batch["box"]),
        "dense": dense_loss(answer["dense"], batch["dense"]),
        "velocity": box_loss(answer["velocity"], batch["velocity"]),
        "flow": flow_loss(answer["flow"], batch["flow"]),
        "lanes": lane_loss(answer["lanes"], batch["lanes"]),
        "light": light_loss(answer["light"], batch["light"]),
        "ego_motion": ego_motion_loss(answer["ego_motion"], batch["ego_motion"]),
    }
    total = sum(getattr(weights, name) * part for name, part in parts.items())
    return {**parts, "total": total}  # type: ignore[dict-item]
