"""When to leave a site alone that failed, and when to try it again: a pure state of times.

Closed: it is asked. Open: it is not, for a while that doubles with each failed try. Half open: the
while is over and one request tries; its outcome closes or opens.

Source: Nygard, Release It! (2007), chapter 5, "Circuit Breaker".
"""

from dataclasses import dataclass
from typing import Final

NS: Final = 1_000_000_000


@dataclass(slots=True, kw_only=True)
class Breaker:
    """One site's breaker; all times are monotonic, ns.

    Args:
        failures: in a row, until it opens.
        first_ns, longest_ns: how long it stays open at first, and at most.
    """

    failures: int = 3
    first_ns: int = NS // 2
    longest_ns: int = 30 * NS
    opened: int = 0
    """How often it opened."""

    _failed: int = 0
    _wait_ns: int = 0
    _until_ns: int = 0
    _trying: bool = False

    def allows(self, now_ns: int) -> bool:
        """Return whether the site may be asked now."""
        return not self._wait_ns or (now_ns >= self._until_ns and not self._trying)

    def state(self, now_ns: int) -> str:
        """Return "closed", "open" or "half open"."""
        if not self._wait_ns:
            return "closed"
        return "half open" if now_ns >= self._until_ns else "open"

    def asked(self) -> None:
        """Note that a request is on its way; while half open it is the only one."""
        self._trying = bool(self._wait_ns)

    def answered(self) -> None:
        """Note that the site is well."""
        self._failed, self._wait_ns, self._trying = 0, 0, False

    def withdrawn(self) -> None:
        """Note that a request was taken back before it told anything of the site."""
        self._trying = False

    def failed(self, now_ns: int) -> None:
        """Note that the site did not answer."""
        self._failed += 1
        self._trying = False
        if self._wait_ns and now_ns < self._until_ns:
            return  # asked before it opened
        if self._wait_ns or self._failed >= self.failures:
            self._wait_ns = min(max(2 * self._wait_ns, self.first_ns), self.longest_ns)
            self._until_ns = now_ns + self._wait_ns
            self.opened += 1
