"""Named ways to train. A recipe is a function, so that a run is repeated by its name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from training.losses import LossWeights
from training.model import NetConfig
from vehicle.contracts import wire
from vehicle.contracts.scene import KINDS
from vehicle.contracts.wire import RefusedError, require


class UnknownRecipeError(RefusedError):
    """There is no recipe of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides the weights, beside the data and the start.

    Args:
        recipe: name of the function that made this.
        kinds: road users to detect, in heat-map order.
        steps, batch: optimiser steps of `batch` frames (over all workers together).
        learning_rate: at its peak; cosine to 0.01 of it, after `warmup` steps from 0.
        norm_until: batch statistics are learned in the first so many steps and then frozen, so
            that both picture sizes see the same ones; 0 in a fine-tune (ota note, section 6).
        mix: share of each dataset, in the order given on the command line; () is by size.
        flip_ratio: share of frames mirrored left to right.
        brightness: largest relative change of gain; noise_levels: largest sigma in grey levels.
        rarity: draws frames with rare kinds more often, 0 all alike, 1 every kind
            equally often.
        forget_ratio: share of frames with a memory that are learned without it, as after a start.
        odometry_error: relative error (one sigma) of the motion told for half of the memories.
        grow: a parent lends its weights wherever they fit, and this recipe says kinds and sizes;
            else the parent says them.
        checkpoint_every: steps between checkpoints.
    """

    SCHEMA: ClassVar[str] = "train/1"
    recipe: str
    steps: int
    batch: int
    learning_rate: float
    warmup: int
    norm_until: int
    kinds: tuple[str, ...] = ("car", "pedestrian")
    mix: tuple[float, ...] = ()
    weight_decay: float = 0.01
    clip_norm: float = 10.0
    flip_ratio: float = 0.5
    brightness: float = 0.2
    noise_levels: float = 4.0
    rarity: float = 0.0
    forget_ratio: float = 0.2
    odometry_error: float = 0.2
    grow: bool = False
    checkpoint_every: int = 200
    seed: int = 0
    net: NetConfig = field(default_factory=NetConfig)
    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        require(self.steps > 0 and self.batch > 0, f"recipe {self.recipe!r}: nothing to do")
        require(self.learning_rate > 0, f"recipe {self.recipe!r}: learning_rate is not positive")
        require(
            all(m > 0 for m in self.mix), f"recipe {self.recipe!r}: a mix share is not positive"
        )

    @property
    def digest(self) -> str:
        """Return the sha256 of the canonical form."""
        return wire.digest(wire.to_bytes(self))


def base() -> TrainConfig:
    """On the simulator's whole world: the network that ships in vehicle/base.

    Grown from the base network before it (`--init`), which knew cars and people by day.
    """
    return TrainConfig(
        recipe="base",
        steps=11_500,
        batch=8,
        learning_rate=1.2e-3,
        warmup=100,
        norm_until=400,
        kinds=KINDS,
        rarity=0.5,
        grow=True,
        weights=LossWeights(heat=1.5, velocity=1.5, light=1.5, rare_kind=1.5),
    )


def polish() -> TrainConfig:
    """From a network `base` made: a short end at a low rate, that looks harder at own motion."""
    config = base()
    return replace(
        config,
        recipe="polish",
        steps=2_400,
        learning_rate=5e-4,
        warmup=50,
        norm_until=0,
        weights=replace(config.weights, ego_motion=3.0),
    )


TEACHER_NET: Final = NetConfig(stem=24, quarter=48, eighth=96, sixteenth=128, bev=96, bev_half=128)
"""Twice the work of the network a car runs: R96 of docs/decisions/0002-network-size.md."""


def teacher() -> TrainConfig:
    """From the shipped bundle (`--init`): a wider network, to judge what the car was unsure of.

    It never drives, so it need not fit the car's frame; `training export --mirrored` lets it look
    at every frame a second time in a mirror.
    """
    return replace(
        base(),
        recipe="teacher",
        steps=1_200,
        learning_rate=8e-4,
        warmup=50,
        norm_until=100,
        checkpoint_every=100,
        net=TEACHER_NET,
    )


def teacher_polish() -> TrainConfig:
    """From a network `teacher` made: a longer end at a lower rate."""
    return replace(
        teacher(),
        recipe="teacher-polish",
        steps=1_000,
        learning_rate=4e-4,
        norm_until=0,
    )


def finetune(*, steps: int = 200, seed: int = 0) -> TrainConfig:
    """From a parent bundle: mined frames first, frames to remember second, half and half."""
    return TrainConfig(
        recipe="finetune",
        steps=steps,
        seed=seed,
        batch=12,
        learning_rate=5e-4,
        warmup=20,
        norm_until=0,
        mix=(0.5, 0.5),
        checkpoint_every=50,
    )


def tiny() -> TrainConfig:
    """A few steps of a few frames: shows that every part fits, learns next to nothing."""
    return TrainConfig(
        recipe="tiny",
        steps=12,
        batch=2,
        learning_rate=1e-3,
        warmup=2,
        norm_until=6,
        checkpoint_every=6,
    )


RECIPES: Final[dict[str, Callable[[], TrainConfig]]] = {
    "base": base,
    "polish": polish,
    "teacher": teacher,
    "teacher-polish": teacher_polish,
    "finetune": finetune,
    "tiny": tiny,
}


def recipe(name: str) -> TrainConfig:
    """Return the configuration called `name`.

    Raises:
        UnknownRecipeError: names the ones there are.
    """
    if name not in RECIPES:
        raise UnknownRecipeError(f"recipe {name!r} is unknown; there are: {', '.join(RECIPES)}")
    return RECIPES[name]()
