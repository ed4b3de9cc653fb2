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


class RingError(RefusedError):
    """The shared memory is not the ring that was expected, or there is none to be had."""


def create(size: int) -> SharedMemory:
    """Return new memory whose pages are all there: a page missing later would kill the loop."""
    memory = SharedMemory(create=True, size=size)
    handle = os.open(SHARED / memory.name, os.O_RDWR) if SHARED.is_dir() else -1
    if handle < 0:
        return memory
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        memory.close()
        memory.unlink()
        free = shutil.disk_usage(SHARED).free
        raise RingError(
            f"the ring needs {size:,} bytes of shared memory, {SHARED} has {free:,} free; "
            "make room there (docker: --shm-size) or use fewer slots"
        ) from error
    finally:
        os.close(handle)
    return memory


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
