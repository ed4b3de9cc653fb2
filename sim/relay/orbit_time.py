"""How mission time runs in the trial of the relay: fast where nothing can happen, and as slowly as
the machine needs it while a process starts or works, so that no figure counts that."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from fleet.orbit.mission import Course, Stretch, hurried
from vehicle.clock import SystemClock

NOTICE_NS: Final = 150_000_000
"""How long the processes may take to read a new course, ns of real time: it begins after that."""


class Pacer:
    """Writes the course that every process follows.

    Args:
        write: puts a course where the processes read it.
        stretches: where time runs slowly.
        start_utc_ns, end_utc_ns: of the course.
        fast: mission seconds a second outside the stretches.
    """

    def __init__(
        self,
        write: Callable[[Course], None],
        stretches: Sequence[Stretch],
        start_utc_ns: int,
        end_utc_ns: int,
        fast: float,
    ) -> None:
        self._write, self._stretches, self._fast = write, stretches, fast
        self._start_ns, self._end_ns = start_utc_ns, end_utc_ns
        self._real, self._lock, self._holds = SystemClock(), threading.Lock(), 0
        self._now = Course(knots=((self._real.mono_ns(), start_utc_ns - 3_600 * 10**9),))
        self._write(self._now)

    def begin(self) -> None:
        """Let the course begin: before, it was an hour early, and a second was a second."""
        mono = self._real.mono_ns()
        self._set(hurried(self._stretches, self._start_ns, self._end_ns, mono, self._fast))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let a second be a second while something real takes its time."""
        with self._lock:
            self._holds += 1
            if self._holds == 1:
                self._set(Course(knots=(self._at(0), self._at(NOTICE_NS))))
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1
                if self._holds == 0:
                    here, (mono, utc) = self._at(0), self._at(NOTICE_NS)
                    on = hurried(self._stretches, utc, self._end_ns, mono, self._fast)
                    self._set(Course(knots=(here, *on.knots)))

    def _at(self, later_ns: int) -> tuple[int, int]:
        mono = self._real.mono_ns() + later_ns
        return mono, self._now.utc_ns(mono)

    def _set(self, course: Course) -> None:
        self._now = course
        self._write(course)
