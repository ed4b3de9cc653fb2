"""What every part's process does alike: be nice, hear SIGTERM, notice that the car is gone."""

import json
import os
import select
import signal
from contextlib import suppress
from typing import Any, Final

from vehicle.contracts.telemetry import Health
from vehicle.realtime import ordinary
from vehicle.ring import Ring

RECORDER: Final = 0
SHADOW: Final = 1
UPLINK: Final = 2
SUPERVISOR: Final = 3
DRIVE: Final = 4
OFFBOARD: Final = 5
"""Places in the ring's table of readers. RECORDER, SHADOW and OFFBOARD read frames, all leave
notes."""

PLACES: Final = {"recorder": RECORDER, "shadow": SHADOW, "uplink": UPLINK, "offboard": OFFBOARD}

NICE: Final = 10

REFUSED: Final = 3
"""Exit code of a part that was told something it must refuse: starting it again is no use."""

TRY_AGAIN: Final = 1
"""Exit code of a part whose trouble may pass: a full disk, an outbox in use."""


def be_nice() -> None:
    """Take what the loop and the supervisor leave of any core."""
    ordinary()
    os.nice(NICE)


class Lifeline:
    """Tells a part when to end: on SIGTERM, or when the car's process is no more.

    Not `getppid`: the parent is the supervisor, and a car that lost it drives on and still wants
    its clips.

    Args:
        car: process id of the frame loop.
        finishes: SIGTERM asks to finish; without it, a part that may be cut off anywhere just ends.
    """

    def __init__(self, car: int, *, finishes: bool = False) -> None:
        self._stopped = False
        self._bell = os.eventfd(0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the loop, which then ends us
        if finishes:
            signal.signal(signal.SIGTERM, self._stop)
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        with suppress(ProcessLookupError):
            self._poll.register(os.pidfd_open(car), select.POLLIN)
            return
        self._stopped = True

    def cut(self, wait_s: float = 0.0) -> bool:
        """Return whether to end; wait up to `wait_s` for it."""
        self._stopped = self._stopped or bool(self._poll.poll(wait_s * 1000))
        return self._stopped

    def _stop(self, number: int, frame: Any) -> None:
        os.eventfd_write(self._bell, 1)  # wakes `cut`


class NoteBook:
    """One part's health as a note in the ring, for the car and its supervisor to read.

    A part that is started again goes on with the counts of the one that died.

    Args:
        ring: of the car.
        place: RECORDER, SHADOW, ...
    """

    def __init__(self, ring: Ring, place: int, **counters: int) -> None:
        self._ring, self._place = ring, place
        before = health_of("", read_note(ring, place), 0).counters
        self.facts: dict[str, Any] = {**counters, **before, "ok": True, "detail": ""}

    def tell(self, **facts: Any) -> None:
        """Change some facts and show all of them."""
        self.facts |= facts
        self._ring.leave_note(self._place, json.dumps(self.facts).encode())

    def fail(self, error: Exception | str) -> None:
        """Count an error and show it in words."""
        errors = int(self.facts.get("errors", 0)) + 1
        self.tell(errors=errors, ok=False, detail=words(error))


def read_note(ring: Ring, place: int, tries: int = 100) -> dict[str, Any]:
    """Return what a part last said of itself, {} when it has said nothing."""
    raw = ring.note_of(place, tries)
    try:
        return dict(json.loads(raw)) if raw else {}
    except ValueError:
        return {}


def health_of(part: str, note: dict[str, Any], mono_ns: int) -> Health:
    """Return a note as the Health of a part: its whole numbers are the counters."""
    counters = {k: v for k, v in note.items() if isinstance(v, int) and not isinstance(v, bool)}
    return Health(
        part=part,
        mono_ns=mono_ns,
        ok=bool(note.get("ok", True)),
        detail=str(note.get("detail", "")),
        counters=counters,
    )


def words(error: Exception | str) -> str:
    """Return an error in words that fit into a note."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return text.encode("ascii", "replace").decode()[:400]


def refuse(ring: Ring, notes: NoteBook, error: Exception, code: int = REFUSED) -> SystemExit:
    """Return the exit of a part that cannot work, its reason left in its note."""
    notes.fail(error)
    ring.close()
    return SystemExit(code)
