"""Mission time: the machine's clock, or hours of a plan in seconds, the same for every process.

Source: own work.
"""

import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from vehicle.clock import Clock, SystemClock
from vehicle.contracts import wire
from vehicle.contracts.wire import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How mission time runs: straight between pairs of (machine's monotonic ns, UTC ns).

    After the last pair, and before the first, a second is a second.
    """

    SCHEMA: ClassVar[str] = "missioncourse/1"
    knots: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        require(len(self.knots) > 0, "a course without a knot")
        for (a, b), (c, d) in pairwise(self.knots):
            require(a < c and b < d, "the knots of a course do not rise")

    def utc_ns(self, mono_ns: int) -> int:
        """Return the mission's time at a machine's time."""
        return _along([k[0] for k in self.knots], [k[1] for k in self.knots], mono_ns)

    def mono_ns(self, utc_ns: int) -> int:
        """Return the machine's time at a mission's time."""
        return _along([k[1] for k in self.knots], [k[0] for k in self.knots], utc_ns)


def _along(xs: list[int], ys: list[int], x: int) -> int:
    i = bisect_right(xs, x) - 1
    if i < 0:
        return ys[0] + x - xs[0]
    if i == len(xs) - 1:
        return ys[i] + x - xs[i]
    return ys[i] + (x - xs[i]) * (ys[i + 1] - ys[i]) // (xs[i + 1] - xs[i])


class MissionClock:
    """A clock that follows a course.

    Args:
        course: None: the machine's own time.
        offset_s: how wrong it is, s; positive: ahead.
        path: file of the course; read again when it is another one.
    """

    def __init__(
        self,
        course: Course | None = None,
        *,
        offset_s: float = 0.0,
        path: Path | None = None,
        base: Clock | None = None,
    ) -> None:
        self._base, self._set, self._path = base or SystemClock(), course, path
        self._offset_ns = int(offset_s * 1e9)
        self._seen = (0, 0)

    def utc_ns(self) -> int:
        """Return mission time, UTC."""
        course = self._course()
        if course is None:
            return self._base.utc_ns() + self._offset_ns
        return course.utc_ns(self._base.mono_ns()) + self._offset_ns

    def mono_ns(self) -> int:
        """Return mission time where there is a course: it never goes back either."""
        return self._base.mono_ns() if self._course() is None else self.utc_ns()

    def sleep_until(self, mono_ns: int) -> None:
        """Wait until `mono_ns` of `mono_ns()`."""
        if self._course() is None:
            self._base.sleep_until(mono_ns)
        else:
            time.sleep(self.wall_s(mono_ns))

    def wall_s(self, utc_ns: int) -> float:
        """Return how many seconds of the machine it is until a mission's time; 0 when past."""
        course = self._course()
        if course is None:
            return max(0.0, (utc_ns - self.utc_ns()) * 1e-9)
        due = course.mono_ns(utc_ns - self._offset_ns)
        return max(0.0, (due - self._base.mono_ns()) * 1e-9)

    def _course(self) -> Course | None:
        if self._path is not None:
            stat = self._path.stat()
            mark = (stat.st_ino, stat.st_mtime_ns)
            if mark != self._seen:
                self._set, self._seen = wire.from_bytes(Course, self._path.read_bytes()), mark
        return self._set


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A time to go slowly through.

    Args:
        speed: mission seconds a second.
    """

    start_utc_ns: int
    end_utc_ns: int
    speed: float


def hurried(
    stretches: Sequence[Stretch], start_utc_ns: int, end_utc_ns: int, mono_ns: int, fast: float
) -> Course:
    """Return a course that hurries through what is in no stretch; of several the slowest counts.

    Args:
        mono_ns: the machine's time at the start.
        fast: mission seconds a second outside the stretches.
    """
    marks = {start_utc_ns, end_utc_ns}
    marks |= {t for s in stretches for t in (s.start_utc_ns, s.end_utc_ns)}
    edges = sorted(t for t in marks if start_utc_ns <= t <= end_utc_ns)
    knots, now = [(mono_ns, start_utc_ns)], mono_ns
    for a, b in pairwise(edges):
        here = [s.speed for s in stretches if s.start_utc_ns <= a and b <= s.end_utc_ns]
        now += max(1, int((b - a) / min([fast, *here])))
        knots.append((now, b))
    return Course(knots=tuple(knots))
