"""When a dead part is started again: decided from its deaths and the clock, touching nothing."""

from dataclasses import dataclass, replace
from typing import ClassVar, Final

from vehicle.contracts.wire import require


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How patiently parts are started again.

    Args:
        first_wait_s: after the first death; each further one in the window doubles the wait.
        longest_wait_s: bounds that.
        deaths: so many in `window_s` and the part is given up.
        window_s: deaths longer ago are forgotten.
    """

    SCHEMA: ClassVar[str] = "restartpolicy/1"
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0
    deaths: int = 5
    window_s: float = 60.0

    def __post_init__(self) -> None:
        require(self.deaths >= 1, f"deaths is {self.deaths}, expected at least 1")
        require(
            0.0 <= self.first_wait_s <= self.longest_wait_s <= self.window_s,
            f"expected 0 <= first_wait_s <= longest_wait_s <= window_s, found {self.first_wait_s}, "
            f"{self.longest_wait_s}, {self.window_s}",
        )


USUAL: Final = RestartPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What became of a part so far: a value, moved only by `died` and `started`.

    Args:
        deaths_ns: within the window, oldest first.
        restarts: in all.
        due_ns: when to start it; None while it runs, and once it is given up.
        gave_up: why it is not started again, "" while it is.
    """

    deaths_ns: tuple[int, ...] = ()
    restarts: int = 0
    due_ns: int | None = None
    gave_up: str = ""


def died(past: Past, why: str, now_ns: int, policy: RestartPolicy = USUAL) -> Past:
    """Return the past of a part that just died: when it is due, or that it is given up."""
    window_ns = round(policy.window_s * 1e9)
    deaths = (*(t for t in past.deaths_ns if t > now_ns - window_ns), now_ns)
    if len(deaths) >= policy.deaths:
        words = f"given up after {len(deaths)} deaths in {policy.window_s:g} s, the last: {why}"
        return replace(past, deaths_ns=deaths, due_ns=None, gave_up=words)
    wait_s = min(policy.longest_wait_s, policy.first_wait_s * 2 ** (len(deaths) - 1))
    return replace(past, deaths_ns=deaths, due_ns=now_ns + round(wait_s * 1e9))


def refused(past: Past, why: str) -> Past:
    """Return the past of a part that refuses what it was told: starting it again is no use."""
    return replace(past, due_ns=None, gave_up=f"not started again: {why}")


def started(past: Past) -> Past:
    """Return the past of a part that was started again."""
    return replace(past, restarts=past.restarts + 1, due_ns=None)
