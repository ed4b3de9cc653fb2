"""Time that the host of a virtual machine took away: no scheduling class helps against that."""

import os
from pathlib import Path


class Stolen:
    """Time in which the host ran something else on our cores, as the kernel counts it (10 ms)."""

    def __init__(self) -> None:
        self._file = os.open("/proc/stat", os.O_RDONLY) if Path("/proc/stat").exists() else -1
        self._first = self._last = self._read()

    def since_last_ms(self) -> float:
        """Return milliseconds stolen since the last call."""
        now = self._read()
        gone, self._last = now - self._last, now
        return gone

    def whole_ms(self) -> float:
        """Return milliseconds stolen since the beginning, and stop."""
        whole = self._read() - self._first
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        return whole

    def _read(self) -> float:
        if self._file < 0:
            return 0.0
        words = os.pread(self._file, 256, 0).split(b"\n", 1)[0].split()
        return 1e3 * int(words[8]) / os.sysconf("SC_CLK_TCK") if len(words) > 8 else 0.0
