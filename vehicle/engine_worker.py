"""A thread that waits for a network, so that the frame loop never has to.

The loop hands a run over, sleeps until it is done or the deadline has come, and goes on either way.
A run that hangs in one node keeps this thread, not the loop.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Final

BELOW_CALLER: Final = 1
"""How far below the loop this thread stands in the real-time class, so that the loop, when its
deadline comes, takes the core away from a run that does not stop."""

FIRST_OF_ORDINARY: Final = -20
"""The least nice value."""


class Worker:
    """One long-lived thread that does one job at a time for one caller.

    A pair of locks hands over: 13 us there and back where a condition takes 27 and another process
    37 (docs/decisions/0007).

    Args:
        work: the job; gets the number handed to `start`. Whatever it raises is kept in `error`.
    """

    def __init__(self, work: Callable[[int], None]) -> None:
        self._work = work
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        self._job = 0
        self._policy: int | None = None
        self._closed = False
        self.busy = False
        """Whether a job was handed over that nobody has seen the end of."""
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._serve, name="inference", daemon=True)
        self._thread.start()

    @property
    def thread_id(self) -> int:
        """Return the kernel's id of the thread."""
        return self._thread.native_id or 0

    def start(self, job: int) -> None:
        """Hand a job over; only while not busy."""
        self._follow()
        self._job, self.error, self.busy = job, None, True
        self._go.release()

    def wait(self, until_mono_ns: int) -> bool:
        """Sleep until the job is done or `until_mono_ns` has come; return whether it is done."""
        if self.busy:
            left_s = max(0.0, (until_mono_ns - time.monotonic_ns()) * 1e-9)
            self.busy = not self._done.acquire(timeout=left_s)
        return not self.busy

    def interpose(self, wrap: Callable[[Callable[[int], None]], Callable[[int], None]]) -> None:
        """Put something round the job, to see what the caller makes of a fault of it."""
        self._work = wrap(self._work)

    def demote(self) -> None:
        """Take a thread whose run is late out of the real-time class, for it may hang.

        There it would keep the core from the network for half of the cameras, which stands as high,
        until Linux takes the core from the class, and so from the loop, for 50 ms of each second.
        `start` puts it back. Below the class it is the first of all: when it comes back it holds
        the interpreter's lock for some microseconds, and the loop may be waiting for that.
        """
        if self._policy == os.SCHED_FIFO:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(self.thread_id, os.SCHED_OTHER, os.sched_param(0))
                os.setpriority(os.PRIO_PROCESS, self.thread_id, FIRST_OF_ORDINARY)
            self._policy = None

    def close(self) -> None:
        """Stop the thread; one that hangs is left behind, it cannot keep the process alive."""
        if not self._closed:
            self._closed = True
            if not self.busy:
                self._go.release()
            self._thread.join(timeout=1.0)

    def _serve(self) -> None:
        while True:
            self._go.acquire()
            if self._closed:
                return
            try:
                self._work(self._job)
            except Exception as error:  # the caller is told; this thread serves on
                self.error = error
            self._done.release()

    def _follow(self) -> None:
        """Stand one step below the caller in the real-time class, on the caller's core.

        Outside that class the thread may use every core, so that the loop's wake-up need not wait
        for this thread's time slice.
        """
        policy = os.sched_getscheduler(0)
        if policy == self._policy:
            return
        self._policy = policy
        with contextlib.suppress(OSError):  # what could be had is the loop's class, not this one
            if policy == os.SCHED_FIFO:
                priority = max(1, os.sched_getparam(0).sched_priority - BELOW_CALLER)
                os.sched_setaffinity(self.thread_id, os.sched_getaffinity(0))
                os.sched_setscheduler(self.thread_id, policy, os.sched_param(priority))
            else:
                os.sched_setscheduler(self.thread_id, os.SCHED_OTHER, os.sched_param(0))
