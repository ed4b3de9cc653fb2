"""The same training loop on Ray Train: one or two CPU workers, or a cluster of them.

The only file of this package that knows Ray. Each worker is one process with one thread (two
threads per worker are many times slower on a shared machine); gradients are averaged by gloo.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import ray
import ray.train
import ray.train.torch
from ray.train import RunConfig, ScalingConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.recipes import TrainConfig
from training.train import Crew, TrainResult, read_run, result_of
from training.train import train as train_alone
from training.weights import WEIGHTS
from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError

OBJECT_STORE_BYTES: Final = 100_000_000
"""Frames are read from disk by each worker; Ray's store carries next to nothing."""


class WorkerFailedError(RefusedError):
    """A training worker stopped; the message carries its own error."""


def start_ray(cpus: int) -> None:
    """Start Ray on this machine once, quietly; joins the cluster named by RAY_ADDRESS if set."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    local: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        local = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE_BYTES}
    ray.init(
        include_dashboard=False,
        configure_logging=True,
        logging_level=logging.ERROR,
        log_to_driver=False,
        **local,
    )


def train(
    config: TrainConfig,
    datasets: Sequence[Path],
    out: Path,
    *,
    workers: int = 1,
    parent: Path | None = None,
) -> TrainResult:
    """Train as `training.train.train` does, on `workers` Ray workers, into the same run folder.

    Args:
        workers: processes with one thread each; `config.batch` is split over them.
        parent: bundle folder to start from. Workers report through `log.jsonl` in `out`.
    Raises:
        WorkerFailedError: a worker stopped; and what `training.train.train` refuses beforehand.
    """
    start_ray(workers + 1)
    out.mkdir(parents=True, exist_ok=True)
    task = {
        "config": wire.to_bytes(config),
        "datasets": [str(Path(d).absolute()) for d in datasets],
        "out": str(out.absolute()),
        "parent": str(parent.absolute()) if parent else None,
    }
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config=task,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=False),
        run_config=RunConfig(name="ray", storage_path=str(out.absolute())),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise WorkerFailedError(f"training stopped: {_first_cause(error)}") from error
    if not (out / WEIGHTS).is_file():
        raise WorkerFailedError(f"training left no {WEIGHTS} in {out}: see its log.jsonl")
    return result_of(out, read_run(out))


def _work(task: dict[str, Any]) -> None:
    """Run in each worker."""
    context = ray.train.get_context()
    world = context.get_world_size()
    crew = Crew(rank=context.get_world_rank(), world=world, wrap=_averaged if world > 1 else _same)
    train_alone(
        wire.from_bytes(TrainConfig, task["config"]),
        [Path(d) for d in task["datasets"]],
        Path(task["out"]),
        parent=Path(task["parent"]) if task["parent"] else None,
        crew=crew,
    )


def _same(net: nn.Module) -> nn.Module:
    return net


def _averaged(net: nn.Module) -> nn.Module:
    return DistributedDataParallel(net, broadcast_buffers=False, find_unused_parameters=True)


def _first_cause(error: BaseException) -> str:
    """Return the last line that says anything: Ray wraps a worker's error in pages of trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error:" in line]
    return (named or lines or [type(error).__name__])[-1]
