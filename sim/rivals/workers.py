"""Many jobs over some processes: what is finished is kept, what is lost is driven again."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from sim.rivals.jobs import Job, run_one
from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError

TRIES: Final = 3
"""A job that may have cost this many workers is given up, by name."""


Keep = Callable[[Job, dict[str, Any]], None]
"""Told of every job and what came of it, once it is done."""

Spread = Callable[[Sequence[Job], Path, Keep], None]
"""Drives jobs somewhere else than in processes of this machine: sim.rivals.cluster.over_ray."""


class WorkerLostError(RefusedError):
    """A worker process died again and again; the message names what it drove."""


def finished(job: Job, out: Path) -> dict[str, Any] | None:
    """Return the kept result of a job, None when it has to be driven."""
    try:
        kept = json.loads(job.path(out).read_bytes())
    except (OSError, ValueError):
        return None
    usable = isinstance(kept, dict) and kept.get("digest") == job.digest
    return kept if usable and isinstance(kept.get("scores"), dict) else None


def run_all(
    jobs: Sequence[Job],
    out: Path,
    *,
    workers: int = 1,
    spread: Spread | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> list[dict[str, Any]]:
    """Drive what is not finished yet and return all results, in the order of `jobs`.

    Args:
        workers: processes; 1 drives in this one.
        spread: drives them instead, whatever `workers` says.
        progress: called with how many are done, of how many, and what has just been.
    Raises:
        WorkerLostError: a worker died `TRIES` times over the same jobs.
    """
    kept = {j.digest: found for j in jobs if (found := finished(j, out)) is not None}
    missing = [job for job in jobs if job.digest not in kept]

    def keep(job: Job, result: dict[str, Any]) -> None:
        wire.atomic_write(job.path(out), wire.canonical(result))
        kept[job.digest] = result
        progress(len(kept), len(jobs), f"{job.subject} {job.case.name}")

    progress(len(kept), len(jobs), "")
    if spread is not None:
        spread(missing, out, keep)
    elif workers <= 1:
        for job in missing:
            keep(job, run_one(job, out))
    else:
        _in_parallel(missing, out, workers, keep)
    return [kept[job.digest] for job in jobs]


def _in_parallel(jobs: list[Job], out: Path, workers: int, keep: Keep) -> None:
    """Drive jobs in processes; a worker that dies costs what it drove, which is tried again."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    lost: dict[str, int] = {}
    left = list(jobs)
    while left:
        try:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                left = _drain(pool, left, out, workers, keep)
        except BrokenProcessPool:
            raise WorkerLostError("workers cannot be started on this machine") from None
        if left:
            first = left[: 2 * workers]
            for job in first:
                lost[job.digest] = lost.get(job.digest, 0) + 1
            bad = [j for j in first if lost[j.digest] >= TRIES]
            if bad:
                names = ", ".join(f"{j.subject} {j.case.name}" for j in bad)
                raise WorkerLostError(f"a worker died {TRIES} times over: {names}")


def _drain(
    pool: ProcessPoolExecutor,
    jobs: list[Job],
    out: Path,
    workers: int,
    keep: Keep,
) -> list[Job]:
    """Return the jobs that are left when a worker dies, those it may have been at first."""
    waiting, going = list(jobs), dict[Future[dict[str, Any]], Job]()
    while waiting or going:
        try:
            while waiting and len(going) < 2 * workers:
                going[pool.submit(run_one, waiting[0], out)] = waiting[0]
                waiting.pop(0)
        except BrokenProcessPool:
            return [*going.values(), *waiting]
        done, _ = wait(going, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                result = future.result()
            except BrokenProcessPool:
                return [*going.values(), *waiting]
            keep(going.pop(future), result)
    return []
