"""Time as a part that is handed in: monotonic for control and logs, UTC for people."""

import time
from typing import Protocol


class Clock(Protocol):
    """What every part that needs time takes."""

    def mono_ns(self) -> int:
        """Return monotonic nanoseconds."""
        ...

    def utc_ns(self) -> int:
        """Return nanoseconds since 1970 in UTC."""
        ...

    def sleep_until(self, mono_ns: int) -> None:
        """Wait until `mono_ns`; return at once if it has passed."""
        ...


class SystemClock:
    """The machine's clock."""

    def mono_ns(self) -> int:
        """Return monotonic nanoseconds."""
        return time.monotonic_ns()

    def utc_ns(self) -> int:
        """Return nanoseconds since 1970 in UTC."""
        return time.time_ns()

    def sleep_until(self, mono_ns: int) -> None:
        """Wait until `mono_ns`."""
        delay_ns = mono_ns - time.monotonic_ns()
        if delay_ns > 0:
            time.sleep(delay_ns * 1e-9)


class FakeClock:
    """A clock that moves only when told, for tests and for simulated time."""

    def __init__(self, mono_ns: int = 0, utc_ns: int = 1_700_000_000_000_000_000) -> None:
        self._mono_ns = mono_ns
        self._utc_offset_ns = utc_ns - mono_ns

    def mono_ns(self) -> int:
        """Return the time set so far."""
        return self._mono_ns

    def utc_ns(self) -> int:
        """Return the time set so far, in UTC."""
        return self._mono_ns + self._utc_offset_ns

    def sleep_until(self, mono_ns: int) -> None:
        """Jump to `mono_ns`."""
        self._mono_ns = max(self._mono_ns, mono_ns)

    def advance_ns(self, delta_ns: int) -> None:
        """Move on by `delta_ns`."""
        self._mono_ns += delta_ns
