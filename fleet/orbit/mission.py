"""Mission time: the machine's clock, or hours of a plan in seconds, the same for every process.

Source: own work.
"""

import time
from bisect import bisect_right
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
    """

    def __init__(
        self, course: Course | None = None, *, offset_s: float = 0.0, base: Clock | None = None
    ) -> None:
        self._base, self._course = base or SystemClock(), course
        self._offset_ns = int(offset_s * 1e9)

    @classmethod
    def read(cls, path: Path | None, offset_s: float = 0.0) -> "MissionClock":
        """Return the clock of a course in a file; without one, the machine's."""
        course = wire.from_bytes(Course, path.read_bytes()) if path else None
        return cls(course, offset_s=offset_s)

    def utc_ns(self) -> int:
        """Return mission time, UTC."""
        if self._course is None:
            return self._base.utc_ns() + self._offset_ns
        return self._course.utc_ns(self._base.mono_ns()) + self._offset_ns

    def mono_ns(self) -> int:
        """Return mission time; it never goes back."""
        return self.utc_ns() if self._course else self._base.mono_ns()

    def sleep_until(self, mono_ns: int) -> None:
        """Wait until `mono_ns` of `mono_ns()`."""
        if self._course is None:
            self._base.sleep_until(mono_ns)
        else:
            time.sleep(self.wall_s(mono_ns))

    def wall_s(self, utc_ns: int) -> float:
        """Return how many seconds of the machine it is until a mission's time; 0 when past."""
        if self._course is None:
            return max(0.0, (utc_ns - self.utc_ns()) * 1e-9)
        due = self._course.mono_ns(utc_ns - self._offset_ns)
        return max(0.0, (due - self._base.mono_ns()) * 1e-9)


def hurried(
    busy: list[tuple[int, int]], start_utc_ns: int, end_utc_ns: int, mono_ns: int, fast: float,
    slow: float,
) -> Course:  # fmt: skip
    """Return a course that hurries through what is not busy.

    Args:
        busy: stretches (from, to) of mission time in which something happens, UTC ns.
        mono_ns: the machine's time at the start.
        fast, slow: mission seconds a second, outside and within.
    """
    edges = sorted({start_utc_ns, end_utc_ns, *(t for pair in busy for t in pair)})
    edges = [t for t in edges if start_utc_ns <= t <= end_utc_ns]
    knots, now = [(mono_ns, start_utc_ns)], mono_ns
    for a, b in pairwise(edges):
        speed = slow if any(s <= a and b <= e for s, e in busy) else fast
        now += max(1, int((b - a) / speed))
        knots.append((now, b))
    return Course(knots=tuple(knots))
