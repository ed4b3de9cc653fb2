"""Ask the machine for punctuality, and say honestly what could be had."""

import ctypes
import gc
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

FIFO_PRIORITY = 50
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_NAMES = {
    "sched_fifo": "SCHED_FIFO",
    "affinity": "core of its own",
    "memory_lock": "locked memory",
    "gc": "frozen garbage collector",
}


def prepare(core: int | None = None, *, fifo: bool = True) -> dict[str, str]:
    """Make this process as punctual as the machine allows; call it after warm-up.

    A loop in SCHED_FIFO must sleep between frames: Linux takes 50 ms of each second from one that
    never does. `core` is shared with nothing only if whoever starts the car arranged that. The
    thread that runs the network follows the loop by itself (vehicle/engine_worker.py); threads that
    an inference runtime keeps of its own come along here, one step below the loop.

    Args:
        core: CPU to stay on; None takes the last one this process may use.
        fifo: ask for the real-time class; without, to see what it is good for.
    Returns:
        What was asked for -> "had", or why not.
    """
    return {
        "gc": _attempt(_freeze_garbage),
        "affinity": _attempt(lambda: _pin(core)),
        "memory_lock": _attempt(_lock_memory),
        "sched_fifo": _attempt(_take_class) if fifo else "not asked for",
    }


def in_words(granted: Mapping[str, str]) -> str:
    """Return in one line what `prepare` could have, and what not and why."""
    had = [_NAMES.get(name, name) for name, state in granted.items() if state == "had"]
    lacks = [
        f"no {_NAMES.get(name, name)} ({state})"
        for name, state in granted.items()
        if state != "had"
    ]
    if not lacks:
        return f"real time: {', '.join(had)}"
    return f"best effort: {', '.join(lacks)}; had: {', '.join(had) or 'nothing'}"


def ordinary() -> None:
    """Be an ordinary process on any core again, whatever a real-time parent handed on."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with suppress(OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    ctypes.CDLL(None).munlockall()  # or all that is loaded from now on would be locked as well


@contextmanager
def punctual() -> Iterator[None]:
    """Run one tick in the real-time class where that can be had, and hand the class back after.

    For a process that does other work between ticks, as a simulator does: in the class for good it
    would be throttled, and keep the recorder from its core.
    """
    before = os.sched_getscheduler(0)
    try:
        with suppress(OSError):
            _real_time_class()
        gc.disable()
        yield
    finally:
        gc.enable()
        if os.sched_getscheduler(0) != before:
            os.sched_setscheduler(0, before, os.sched_param(0))


@contextmanager
def same_class() -> Iterator[None]:
    """Keep this thread in its class, and put threads that are begun inside into the same one.

    SVT-AV1, opened by root, raises its caller and all its threads to the top of the real-time
    class: above the frame loop, and before whatever else this process waits for.
    """
    others = set(os.listdir("/proc/self/task")) - {str(threading.get_native_id())}
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for name in set(os.listdir("/proc/self/task")) - others:
            with suppress(OSError):
                os.sched_setscheduler(int(name), policy, param)


def _attempt(ask: Callable[[], None]) -> str:
    try:
        ask()
    except (OSError, AttributeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "had"


def _freeze_garbage() -> None:
    gc.collect()
    gc.freeze()
    gc.disable()  # a steady tick makes no cycles


def _pin(core: int | None) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    chosen = allowed[-1] if core is None else core
    if chosen not in allowed:
        raise ValueError(f"core {chosen} is not one of {allowed}")
    os.sched_setaffinity(0, {chosen})


def _lock_memory() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _real_time_class() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))


def _take_class() -> None:
    """Put this thread into the real-time class, and the native threads it may come to wait for."""
    _real_time_class()
    ours = {thread.native_id for thread in threading.enumerate()}
    below = os.sched_param(FIFO_PRIORITY - 1)
    for name in os.listdir("/proc/self/task"):
        if int(name) not in ours:
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.sched_setscheduler(int(name), os.SCHED_FIFO, below)
