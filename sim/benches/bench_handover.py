"""What it costs to let somebody else run the network: ways to hand a job over and wait for it.

The job blocks half a millisecond without the interpreter's lock, as a run does; what is measured is
the rest: there, and back. One core, in the real-time class where that can be had, the other side
one step below, as in the car (docs/decisions/0007).
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from vehicle.contracts.bench import Bench, percentiles
from vehicle.engine_worker import Worker
from vehicle.realtime import FIFO_PRIORITY

RUNS = 1_000
PAUSE_S = 0.002
JOB_S = 0.0005
LIMIT_S = 0.02


def handover_rows(bench: Bench, runs: int = RUNS) -> None:
    """Add a row of microseconds per way; the machine's core and class are given back after."""
    affinity, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    ways = {
        "in the loop's own thread": _job,
        "pair of locks (ships)": _by_locks(),
        "condition": _by_condition(),
        "two events": _by_events(),
        "process, pipe": _by_pipe(),
    }
    try:
        os.sched_setaffinity(0, {max(affinity)})
        had = _take(FIFO_PRIORITY, 0)
        for name, way in ways.items():
            taken = []
            for _ in range(runs):
                time.sleep(PAUSE_S)
                began_ns = time.perf_counter_ns()
                job_ns = way()
                taken.append((time.perf_counter_ns() - began_ns - job_ns) * 1e-3)
            row = f"hand-over of a job, {name}"
            bench.rows.append({"row": row, "real_time": had, "us": percentiles(np.array(taken))})
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, policy, os.sched_param(0))
        os.sched_setaffinity(0, affinity)


def _job() -> int:
    began_ns = time.perf_counter_ns()
    time.sleep(JOB_S)
    return time.perf_counter_ns() - began_ns


def _take(priority: int, thread: int) -> str:
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        return f"no: {error.strerror}"
    return "yes"


def _stand() -> None:
    """Be where the car's helper is: on the loop's core, one step below."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    _take(FIFO_PRIORITY - 1, 0)


def _by_locks() -> Callable[[], int]:
    took = [0]

    def work(_: int) -> None:
        took[0] = _job()

    worker = Worker(work)

    def run() -> int:
        worker.start(0)
        worker.wait(time.monotonic_ns() + int(LIMIT_S * 1e9))
        return took[0]

    return run


def _serving(serve: Callable[[], None]) -> None:
    def stand_and_serve() -> None:
        _stand()
        while True:
            serve()

    threading.Thread(target=stand_and_serve, daemon=True).start()


def _by_condition() -> Callable[[], int]:
    changed, state = threading.Condition(), {"asked": 0, "done": 0, "took": 0}

    def serve() -> None:
        with changed:
            changed.wait_for(lambda: state["asked"] > state["done"])
        state["took"] = _job()
        with changed:
            state["done"] = state["asked"]
            changed.notify_all()

    def run() -> int:
        with changed:
            state["asked"] += 1
            changed.notify_all()
            changed.wait_for(lambda: state["done"] == state["asked"], timeout=LIMIT_S)
        return state["took"]

    _serving(serve)
    return run


def _by_events() -> Callable[[], int]:
    go, done, took = threading.Event(), threading.Event(), [0]

    def serve() -> None:
        go.wait()
        go.clear()
        took[0] = _job()
        done.set()

    def run() -> int:
        done.clear()
        go.set()
        done.wait(LIMIT_S)
        return took[0]

    _serving(serve)
    return run


def _by_pipe() -> Callable[[], int]:
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve_pipe, args=(there,), daemon=True
    )
    process.start()
    here.recv_bytes()  # it is up

    def run() -> int:
        here.send_bytes(b"run")
        here.poll(LIMIT_S)
        return int.from_bytes(here.recv_bytes(), "little")

    return run


def _serve_pipe(pipe: Any) -> None:
    _stand()
    pipe.send_bytes(b"up")
    with suppress(EOFError, OSError):  # the other end is gone
        while True:
            pipe.recv_bytes()
            pipe.send_bytes(_job().to_bytes(8, "little"))
