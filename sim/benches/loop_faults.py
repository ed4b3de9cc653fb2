"""Faults the loop bench does to a car that drives: real ones, over and over, and their end."""

import hashlib
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

import numpy as np

from vehicle.contracts.frame import FrameSet
from vehicle.contracts.wire import RefusedError
from vehicle.drive import Drive

FIRST_S: Final = 1.0
EVERY_S: Final = 8.0
LASTS_S: Final = (0.3, 2.0)
"""Faults begin so often and last so long, in turns: a hiccup, and longer than coasting does."""

FILE_BYTES: Final = 100_000
_ROUNDS: Final = 20_000
"""Rounds of a hash that take some tens of milliseconds."""


class UnknownFaultError(RefusedError):
    """There is no fault of that name."""


class Processes(Protocol):
    """What runs beside the loop (vehicle.processes.Car)."""

    def pid_of(self, part: str) -> int:
        """Return the process id of a part, 0 while it is dead."""
        ...


class Fault:
    """Nothing is wrong; others override what they spoil."""

    def begin(self, lasts_s: float) -> None:
        """Start to be wrong."""

    def end(self) -> None:
        """Be right again."""

    def spoil(self, frame: FrameSet) -> FrameSet:
        """Return a frame of a time when this is wrong."""
        return frame


class Picture(Fault):
    """A camera's picture is spoilt: one camera, and in every second turn the first two."""

    def __init__(self, spoil: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self._spoil = spoil
        self._turn = 0
        self._first: dict[str, np.ndarray] = {}

    def begin(self, lasts_s: float) -> None:
        """Take the next camera, or the first two of the rig."""
        self._turn += 1
        self._first = {}

    def spoil(self, frame: FrameSet) -> FrameSet:
        """Return the frame with the pictures of those cameras spoilt."""
        names = list(frame.images)
        chosen = names[:2] if self._turn % 2 else [names[self._turn // 2 % len(names)]]
        images = dict(frame.images)
        for name in chosen:
            first = self._first.setdefault(name, images[name])
            images[name] = self._spoil(images[name], first)
        return replace(frame, images=images)


class Late(Fault):
    """The pictures of two cameras are 80 ms old."""

    def spoil(self, frame: FrameSet) -> FrameSet:
        """Return the frame with those times."""
        names = list(frame.images)[1:3]
        return replace(frame, exposed_ns=dict.fromkeys(names, frame.mono_ns - 80_000_000))


class Hang(Fault):
    """One run of the network burns its core and hears no cancel."""

    def __init__(self, drive: Drive) -> None:
        self._lasts_s = 0.0
        drive.sight.interpose(self._hold)

    def begin(self, lasts_s: float) -> None:
        """Let the next run hang as long."""
        self._lasts_s = lasts_s

    def _hold(self, infer: Callable[[int], None]) -> Callable[[int], None]:
        def run(side: int) -> None:
            lasts_s, self._lasts_s = self._lasts_s, 0.0
            _burn(time.monotonic() + lasts_s)
            infer(side)

        return run


class SlowCore(Fault):
    """Every run of the network is done twice."""

    def __init__(self, drive: Drive) -> None:
        self._times = 1
        drive.sight.interpose(self._repeat)

    def begin(self, lasts_s: float) -> None:
        """Be half as fast."""
        self._times = 2

    def end(self) -> None:
        """Be as fast as before."""
        self._times = 1

    def _repeat(self, infer: Callable[[int], None]) -> Callable[[int], None]:
        def run(side: int) -> None:
            for _ in range(self._times):
                infer(side)

        return run


class KillRecorder(Fault):
    """The recorder process is killed (SIGKILL); the supervisor starts it again."""

    def __init__(self, car: Processes) -> None:
        self._car = car
        self.killed = 0

    def begin(self, lasts_s: float) -> None:
        """Kill it where it lives."""
        pid = self._car.pid_of("recorder")
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed += 1


class DiskFull(Fault):
    """The recorder's files may not grow (RLIMIT_FSIZE): every write beyond fails."""

    def __init__(self, car: Processes) -> None:
        self._car = car

    def begin(self, lasts_s: float) -> None:
        """Fill the disk, as the recorder sees it."""
        self._limit(FILE_BYTES)

    def end(self) -> None:
        """Make room."""
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size_bytes: int) -> None:
        pid = self._car.pid_of("recorder")
        if pid:
            with suppress(OSError):
                hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


def _burn(until_s: float) -> None:
    """Keep a core busy in C code without the interpreter's lock, as a node that never ends does."""
    while time.monotonic() < until_s:
        hashlib.pbkdf2_hmac("sha256", b"hang", b"node", _ROUNDS)


def _frozen(image: np.ndarray, first: np.ndarray) -> np.ndarray:
    return first


def _black(image: np.ndarray, first: np.ndarray) -> np.ndarray:
    return np.zeros_like(image)


def _cut(image: np.ndarray, first: np.ndarray) -> np.ndarray:
    return image[: image.shape[0] // 2]


FAULTS: Final[dict[str, Callable[[Drive, Processes], Fault]]] = {
    "": lambda drive, car: Fault(),
    "hang": lambda drive, car: Hang(drive),
    "freeze": lambda drive, car: Picture(_frozen),
    "black": lambda drive, car: Picture(_black),
    "wrong-size": lambda drive, car: Picture(_cut),
    "late": lambda drive, car: Late(),
    "slow-core": lambda drive, car: SlowCore(drive),
    "disk-full": lambda drive, car: DiskFull(car),
    "kill-recorder": lambda drive, car: KillRecorder(car),
}
"""What can be wrong, by name; "" is nothing."""


def make_fault(name: str, drive: Drive, car: Processes) -> Fault:
    """Return a fault by name.

    Raises:
        UnknownFaultError: names the ones there are.
    """
    if name not in FAULTS:
        known = ", ".join(n for n in FAULTS if n)
        raise UnknownFaultError(f"fault {name!r} is unknown; there are: {known}")
    return FAULTS[name](drive, car)


def windows(frames: int, rate_hz: float) -> Iterator[tuple[int, int, float]]:
    """Yield first frame, frame after the last, and seconds of each time when something is wrong."""
    start_s, turn = FIRST_S, 0
    while (first := round(start_s * rate_hz)) < frames:
        lasts_s = LASTS_S[turn % len(LASTS_S)]
        yield first, first + round(lasts_s * rate_hz), lasts_s
        start_s, turn = start_s + EVERY_S, turn + 1
