"""Jobs over many machines by Ray: but for the loop, the only file of the simulator that knows it.

The results folder must be one that every machine of the cluster sees.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import ray
from ray.exceptions import RayError

from sim.rivals.jobs import Job, run_one
from sim.rivals.workers import TRIES, Keep, WorkerLostError

OBJECT_STORE_BYTES = 100_000_000
"""Results are small: Ray's own store carries next to nothing."""


def over_ray(jobs: Sequence[Job], out: Path, keep: Keep) -> None:
    """Drive jobs on the cluster named by RAY_ADDRESS, or on this machine's cores without one.

    A job is one task of one core; Ray starts it again elsewhere when its machine is lost.

    Raises:
        WorkerLostError: a job was lost `TRIES` times; the message names it.
    """
    start_ray()
    drive = ray.remote(num_cpus=1, max_retries=TRIES - 1)(run_one)
    going = {drive.remote(job, out.absolute()): job for job in jobs}
    while going:
        [done], _ = ray.wait(list(going), num_returns=1)
        job = going.pop(done)
        try:
            result = ray.get(done)
        except RayError as error:
            for other in going:
                ray.cancel(other)
            raise WorkerLostError(
                f"a Ray task was lost over {job.subject} {job.case.name}: {error}"
            ) from error
        keep(job, result)


def start_ray() -> None:
    """Join the cluster of RAY_ADDRESS, or start a quiet one here."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    local = {} if os.environ.get("RAY_ADDRESS") else {"object_store_memory": OBJECT_STORE_BYTES}
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **local)
