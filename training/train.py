"""Train: datasets and a recipe in, a run folder out. One loop, read from top to bottom.

A run folder holds `run.json` (what was asked), `log.jsonl` (one line per `LOG_EVERY` steps),
`checkpoint.pt` (while it runs) and `weights.npz` (written last). Started again with the same
configuration, an interrupted run goes on from its checkpoint and ends with the same weights.
"""

import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from training.batches import Batches
from training.frames import Frames, load_frames
from training.losses import losses
from training.model import NetR
from training.recipes import TrainConfig
from training.weights import grown, network_of, read_weights, write_weights
from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError

RUN: Final = "run.json"
LOG: Final = "log.jsonl"
CHECKPOINT: Final = "checkpoint.pt"
WEIGHTS: Final = "weights.npz"
LOG_EVERY: Final = 20

Progress = Callable[[int, int, dict[str, float]], None]


class RunMismatchError(RefusedError):
    """The run folder belongs to a run with another configuration, start or data."""


class RunMissingError(RefusedError):
    """A folder holds no training run."""


class DivergedError(RefusedError):
    """The loss is no longer a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run folder was made from.

    Args:
        config: the recipe with its seed.
        dataset_digests: manifests' digests, in the order of `config.mix`.
        datasets: where they were found; not part of what the run is.
        parent_digest: digest of the bundle it started from, "" for none.
    """

    SCHEMA: ClassVar[str] = "run/1"
    config: TrainConfig
    dataset_digests: tuple[str, ...]
    datasets: tuple[str, ...]
    parent_digest: str = ""

    def same_as(self, other: "Run") -> bool:
        """Return whether both would train the same weights."""
        return replace(self, datasets=()) == replace(other, datasets=())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """How a run ended: steps done, and the mean total loss of its first and last log lines."""

    run: Run
    steps: int
    loss_first: float
    loss_last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """How the workers of one run stay together; the default is one worker alone.

    Args:
        rank, world: which worker this is, of how many.
        wrap: makes the network average its gradients over the workers.
    """

    rank: int = 0
    world: int = 1
    wrap: Callable[[nn.Module], nn.Module] = field(default=lambda net: net)


def train(
    config: TrainConfig,
    datasets: Sequence[Path],
    out: Path,
    *,
    parent: Path | None = None,
    crew: Crew | None = None,
    progress: Progress = lambda step, steps, parts: None,
    stop_at: int | None = None,
) -> TrainResult:
    """Train and write the run folder `out`.

    Args:
        config: from a recipe.
        datasets: dataset folders, in the order of `config.mix`.
        parent: bundle folder to start from; its kinds and sizes replace the recipe's, unless the
            recipe grows it.
        stop_at: leave after so many steps with a checkpoint, as an interruption would.
    Raises:
        DatasetError, DatasetRigError, EmptyDatasetError: a dataset cannot be used.
        RunMismatchError: `out` belongs to another run.
        DivergedError: the loss became infinite or not a number.
    """
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    crew = crew or Crew()
    frames = [load_frames(folder) for folder in datasets]
    net, config, parent_digest = _start(config, parent)
    run = Run(
        config=config,
        dataset_digests=tuple(f.manifest.digest for f in frames),
        datasets=tuple(str(folder.absolute()) for folder in datasets),
        parent_digest=parent_digest,
    )
    if crew.rank == 0:
        _claim(out, run)
    optimizer = torch.optim.AdamW(
        _groups(net, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.99)
    )
    first = _resume(out / CHECKPOINT, net, optimizer)
    _fit(net, optimizer, config, frames, out, crew, progress, first, stop_at)
    if crew.rank == 0 and stop_at is None:
        write_weights(out / WEIGHTS, net)
        (out / CHECKPOINT).unlink(missing_ok=True)
    return result_of(out, run)


def result_of(out: Path, run: Run) -> TrainResult:
    """Return how the run in a folder ended, from its log."""
    path = out / LOG
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    if not lines:
        return TrainResult(run=run, steps=0, loss_first=math.nan, loss_last=math.nan)
    first, last = lines[0], lines[-1]
    return TrainResult(
        run=run, steps=last["step"], loss_first=first["total"], loss_last=last["total"]
    )


def read_run(folder: Path) -> Run:
    """Return what a run folder was made from.

    Raises:
        RunMissingError: it is no run folder.
    """
    path = folder / RUN
    if not path.is_file():
        raise RunMissingError(
            f"{folder} is no run folder: it has no {RUN}; `training train` makes one"
        )
    return wire.from_bytes(Run, path.read_bytes())


def _start(config: TrainConfig, parent: Path | None) -> tuple[NetR, TrainConfig, str]:
    if parent is None:
        return NetR(config.kinds, config.net), config, ""
    bundle, weights = read_weights(parent)
    digest = wire.digest((parent / "bundle.json").read_bytes())
    if config.grow:
        return grown(config.kinds, config.net, bundle.kinds, weights), config, digest
    net = network_of(bundle.kinds, weights)
    return net, replace(config, kinds=bundle.kinds, net=net.config), digest


def _claim(out: Path, run: Run) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if (out / RUN).is_file() and not run.same_as(read_run(out)):
        raise RunMismatchError(
            f"{out} belongs to a run with another recipe, seed, start or dataset; "
            "give another --out, or remove it"
        )
    wire.atomic_write(out / RUN, wire.to_bytes(run))


def _groups(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights of convolutions decay; biases and norms do not."""
    wide = [p for p in net.parameters() if p.ndim > 1]
    flat = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": wide, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}]


def _fit(
    net: NetR,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    frames: list[Frames],
    out: Path,
    crew: Crew,
    progress: Progress,
    first: int,
    stop_at: int | None,
) -> None:
    batches = Batches(frames, config, rank=crew.rank, world=crew.world)
    wrapped = crew.wrap(net.to(memory_format=torch.channels_last))
    journal = _Journal(out / LOG, config, progress) if crew.rank == 0 else None
    for step in range(first, config.steps if stop_at is None else stop_at):
        wrapped.train()
        if step >= config.norm_until:
            freeze_norm(net)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        parts = _step(wrapped, optimizer, batches.batch(step), config)
        done = step + 1
        last = done in (config.steps, stop_at)
        if journal:
            journal.add(done, parts, flush=last)
        if crew.rank == 0 and (last or done % config.checkpoint_every == 0):
            _save(out / CHECKPOINT, net, optimizer, done)


class _Journal:
    """Means of the losses since the last line, one line per LOG_EVERY steps and one at the end."""

    def __init__(self, path: Path, config: TrainConfig, progress: Progress) -> None:
        self._path, self._config, self._progress = path, config, progress
        self._started_ns, self._steps = time.monotonic_ns(), 0
        self._parts: list[dict[str, float]] = []

    def add(self, done: int, parts: dict[str, float], *, flush: bool) -> None:
        self._parts.append(parts)
        self._steps += 1
        if not flush and done % LOG_EVERY:
            return
        seconds = (time.monotonic_ns() - self._started_ns) * 1e-9
        means = {k: sum(p[k] for p in self._parts) / len(self._parts) for k in parts}
        line = {
            "step": done,
            "lr": learning_rate(self._config, done - 1),
            "seconds": seconds,
            "frames_per_s": self._steps * self._config.batch / seconds,
            **means,
        }
        with self._path.open("a") as file:
            file.write(json.dumps({k: round(v, 6) for k, v in line.items()}) + "\n")
        self._progress(done, self._config.steps, means)
        self._parts = []


def _step(
    net: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], config: TrainConfig
) -> dict[str, float]:
    before = None
    if len(batch["before_index"]):
        before = tuple(batch[f"before_{k}"] for k in ("index", "front", "side", "motion"))
    with torch.autocast("cpu", torch.bfloat16):
        answer = net(batch["front"], batch["side"], before)
    parts = losses(answer, batch, config.weights, config.kinds)
    total = float(parts["total"].detach())
    if not math.isfinite(total):
        raise DivergedError(f"the loss is {total}; lower the recipe's learning_rate")
    optimizer.zero_grad(set_to_none=True)
    parts["total"].backward()
    nn.utils.clip_grad_norm_(net.parameters(), config.clip_norm)
    optimizer.step()
    return {k: float(v.detach()) for k, v in parts.items()}


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up, then a cosine to a hundredth."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    share = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def freeze_norm(net: nn.Module) -> None:
    """Keep the batch statistics as they are: both picture sizes and every worker use the same."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _save(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    buffer = io.BytesIO()
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state, buffer)
    wire.atomic_write(path, buffer.getvalue())


def _resume(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load a checkpoint if there is one; return the step to go on with."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
