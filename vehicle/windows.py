"""Windows of an expression, kept up to date tick by tick: each takes one value and answers at once.

All hold the ticks from now - S to now, both included. Constant work per tick on average, whatever
S is; a steady state allocates one pair per tick and window.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

_NAN: Final = math.nan
_LONG_AGO: Final = -(1 << 62)


class Window(Protocol):
    """What all windows are."""

    def push(self, now_ns: int, value: Any) -> Any:
        """Take this tick's value and return the window's; ticks come in order of time."""
        ...


class Extreme:
    """lowest (sign 1) or highest (sign -1) of the known values."""

    def __init__(self, span_ns: int, sign: float) -> None:
        self._span_ns, self._sign = span_ns, sign
        self._kept: deque[tuple[int, float]] = deque()  # values rise from left to right

    def push(self, now_ns: int, value: float) -> float:
        """Return the extreme, NaN without a known value."""
        kept = self._kept
        if value == value:
            value *= self._sign
            while kept and kept[-1][1] >= value:
                kept.pop()
            kept.append((now_ns, value))
        oldest_ns = now_ns - self._span_ns
        while kept and kept[0][0] < oldest_ns:
            kept.popleft()
        return kept[0][1] * self._sign if kept else _NAN


class Average:
    """Mean of the known values; what is infinite counts as unknown."""

    def __init__(self, span_ns: int) -> None:
        self._span_ns, self._sum = span_ns, 0.0
        self._kept: deque[tuple[int, float]] = deque()

    def push(self, now_ns: int, value: float) -> float:
        """Return the mean, NaN without a known value."""
        kept = self._kept
        if math.isfinite(value):
            kept.append((now_ns, value))
            self._sum += value
        oldest_ns = now_ns - self._span_ns
        while kept and kept[0][0] < oldest_ns:
            self._sum -= kept.popleft()[1]
        if not kept:
            self._sum = 0.0  # what rounding left behind
            return _NAN
        return self._sum / len(kept)


class Change:
    """Now minus the earliest tick in the window."""

    def __init__(self, span_ns: int) -> None:
        self._span_ns = span_ns
        self._kept: deque[tuple[int, float]] = deque()

    def push(self, now_ns: int, value: float) -> float:
        """Return the difference, NaN when either is unknown."""
        kept = self._kept
        kept.append((now_ns, value))
        oldest_ns = now_ns - self._span_ns
        while kept[0][0] < oldest_ns:
            kept.popleft()
        return value - kept[0][1]


class Held:
    """Whether a condition held on every tick."""

    def __init__(self, span_ns: int) -> None:
        self._span_ns, self._failed_ns = span_ns, _LONG_AGO

    def push(self, now_ns: int, holds: bool) -> bool:
        """Return whether it did."""
        if not holds:
            self._failed_ns = now_ns
        return self._failed_ns < now_ns - self._span_ns


class Seen:
    """Whether a condition held on any tick."""

    def __init__(self, span_ns: int) -> None:
        self._span_ns, self._held_ns = span_ns, _LONG_AGO

    def push(self, now_ns: int, holds: bool) -> bool:
        """Return whether it did."""
        if holds:
            self._held_ns = now_ns
        return self._held_ns >= now_ns - self._span_ns


class Times:
    """On how many ticks a condition held."""

    def __init__(self, span_ns: int) -> None:
        self._span_ns = span_ns
        self._kept: deque[int] = deque()

    def push(self, now_ns: int, holds: bool) -> float:
        """Return how many."""
        kept = self._kept
        if holds:
            kept.append(now_ns)
        oldest_ns = now_ns - self._span_ns
        while kept and kept[0] < oldest_ns:
            kept.popleft()
        return float(len(kept))


class Rises:
    """Whether a condition holds now and did not on the tick before."""

    def __init__(self) -> None:
        self._before = True  # the first tick is no rise

    def push(self, now_ns: int, holds: bool) -> bool:
        """Return whether it rose."""
        rose = holds and not self._before
        self._before = holds
        return rose


class Appears:
    """Number of tracks that came to fulfil a condition since the tick before."""

    def __init__(self) -> None:
        self._before: set[int] | None = None

    def push(self, now_ns: int, ids: set[int] | None) -> float:
        """Return how many, NaN where this tick or the one before had no scene."""
        before, self._before = self._before, ids
        return _NAN if ids is None or before is None else float(len(ids - before))


MADE: Final[dict[str, Callable[[int], Window]]] = {
    "lowest": lambda span_ns: Extreme(span_ns, 1.0),
    "highest": lambda span_ns: Extreme(span_ns, -1.0),
    "average": Average,
    "change": Change,
    "held": Held,
    "seen": Seen,
    "times": Times,
    "rises": lambda span_ns: Rises(),
    "appears": lambda span_ns: Appears(),
}
"""Call -> window over so many nanoseconds."""
