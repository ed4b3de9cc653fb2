"""Somebody on board says: keep this. A signal to the frame loop, which its next tick carries.

`roadloop vehicle bookmark CAR` finds the loop by the health its car writes, and sends SIGUSR1: the
loop opens no file and takes no lock for it, and a press costs it a few microseconds.
"""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from vehicle.clock import Clock
from vehicle.contracts.ego import DriverInput
from vehicle.contracts.frame import Observation
from vehicle.contracts.wire import RefusedError
from vehicle.supervisor import HEALTH

FRESH_NS: Final = 5_000_000_000
"""Health older than this is of a drive that is over."""

LOOPS: Final = (b"vehicle.road", b"sim.run.live")
"""Modules a frame loop's process runs: a number that is somebody else's by now is not signalled."""


class NoDriveError(RefusedError):
    """The car does not drive now, so there is nothing to bookmark."""


class Bell:
    """Rung by SIGUSR1, heard by the next tick; see `listening`."""

    def __init__(self) -> None:
        self._rung = False

    def ring(self) -> None:
        """Note that somebody pressed."""
        self._rung = True

    def heard_by(self, obs: Observation) -> Observation:
        """Return the observation, with the bookmark where somebody pressed since the last one."""
        if not self._rung:
            return obs
        self._rung = False
        driver = obs.driver or DriverInput(engaged=True)
        return replace(obs, driver=replace(driver, bookmark=True))


@contextmanager
def listening() -> Iterator[Bell]:
    """Hear SIGUSR1 while the loop runs; in another thread than the main one, nobody can ring."""
    bell = Bell()
    if threading.current_thread() is not threading.main_thread():
        yield bell
        return
    signal.signal(signal.SIGUSR1, lambda number, frame: bell.ring())
    try:
        yield bell
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a late press must not end the report


def press(folder: Path, clock: Clock) -> int:
    """Bookmark the drive that runs now; return the process it was told to.

    Args:
        folder: of the car.
        clock: says whether the health is of now.
    Raises:
        NoDriveError: none runs; nothing was signalled.
    """
    try:
        facts = json.loads((folder / HEALTH).read_bytes())
        pid, age_ns = (
            int(facts["parts"]["drive"]["counters"]["pid"]),
            clock.utc_ns() - int(facts["utc_ns"]),
        )
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoDriveError(
            f"no drive of {folder.name} runs ({type(error).__name__}: {error}); start one with "
            "`roadloop vehicle drive` or `roadloop sim live`"
        ) from error
    if age_ns > FRESH_NS or not any(word in LOOPS for word in words):
        raise NoDriveError(
            f"the last drive of {folder.name} is over: its health is {age_ns / 1e9:.0f} s old"
        )
    os.kill(pid, signal.SIGUSR1)
    return pid
