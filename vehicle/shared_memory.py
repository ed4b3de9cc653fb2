"""Shared memory that is all there from the start, and that only its maker removes."""

import os
import shutil
import sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Final

from vehicle.contracts.wire import RefusedError

SHARED: Final = Path("/dev/shm")
MEMORY: Final = Path("/proc/meminfo")


class RingError(RefusedError):
    """The shared memory is not the ring that was expected, or there is none to be had."""


def create(size: int) -> SharedMemory:
    """Return new memory whose pages are all there: a page missing later would kill the loop.

    Raises:
        RingError: it does not fit. Nothing is filled to find that out, for filling the memory of
            a machine ends other programs first.
    """
    free = _free_bytes()
    if size > free:
        raise _too_large(size, free)
    memory = SharedMemory(create=True, size=size)
    handle = os.open(SHARED / memory.name, os.O_RDWR) if SHARED.is_dir() else -1
    if handle < 0:
        return memory
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        memory.close()
        memory.unlink()
        raise _too_large(size, _free_bytes()) from error
    finally:
        os.close(handle)
    return memory


def _free_bytes() -> int:
    """Return what shared memory has room for: its own limit, and what the machine has left."""
    room = shutil.disk_usage(SHARED).free if SHARED.is_dir() else sys.maxsize
    if not MEMORY.is_file():
        return room
    lines = (line.split() for line in MEMORY.read_text().splitlines())
    left = next((int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"), room)
    return min(room, left)


def _too_large(size: int, free: int) -> RingError:
    return RingError(
        f"the ring needs {size:,} bytes of shared memory, {SHARED} has {free:,} free; "
        "make room there (docker: --shm-size) or use fewer slots"
    )


def attach(name: str) -> SharedMemory:
    """Return existing memory without becoming its keeper.

    Until Python 3.13 looking into shared memory made a process's tracker remove it at exit
    (CPython issue 82300).
    """
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    register = resource_tracker.register
    resource_tracker.register = lambda *_: None
    try:
        return SharedMemory(name)
    finally:
        resource_tracker.register = register
