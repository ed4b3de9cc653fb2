"""Keeps the parts beside the frame loop alive: starts them, watches them, starts the dead again.

A process of its own, for starting a process takes milliseconds that no tick has. What it decides
is in `restart`; what it knows stands in the ring as a note and in health.json of the car.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.telemetry import Health
from vehicle.lifeline import DRIVE, PLACES, REFUSED, SUPERVISOR, Lifeline, health_of, read_note
from vehicle.realtime import ordinary
from vehicle.restart import USUAL, Past, RestartPolicy, died, refused, started
from vehicle.ring import Ring, RingAddress

HEALTH: Final = "health.json"
LOOK_S: Final = 0.05
TELL_NS: Final = 1_000_000_000
CLOSE_S: Final = 120.0
SINGLE: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
FLAT: Final = {"MALLOC_MMAP_THRESHOLD_": "49152", "MALLOC_ARENA_MAX": "1"}
"""For parts that keep and drop pictures for hours: dropped ones go back to the system, and the heap
does not creep (glibc's mallopt(3)). Not for the loop, which must not fault in pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process beside the loop.

    Args:
        name: recorder, shadow, uplink.
        place: its place among the readers of the ring.
        module: run as `python -m`; reads its settings from stdin.
        settings: canonical JSON.
        finishes: ends by itself when the drive ends and must be waited for; others are told to.
    """

    SCHEMA: ClassVar[str] = "part/1"
    name: str
    place: int
    module: str
    settings: str
    finishes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSettings:
    """All the supervisor is told.

    Args:
        car: process id of the frame loop.
        folder: of the car, where health.json is kept.
    """

    SCHEMA: ClassVar[str] = "supervisor/1"
    car: int
    ring: RingAddress
    folder: str
    parts: tuple[Part, ...]
    policy: RestartPolicy = USUAL


def spawn(
    module: str, settings: bytes, *, apart: bool = False, env: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start `python -m module`, one thread, its settings on stdin.

    Not multiprocessing: its spawn imports the caller's main module a second time.

    Args:
        apart: in a session of its own, so that ctrl-C reaches only who started it.
        env: more of its environment.
    """
    path = os.pathsep.join(p for p in sys.path if p)
    child = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        env={**os.environ, **SINGLE, **(env or {}), "PYTHONPATH": path},
        start_new_session=apart,
    )
    with contextlib.suppress(OSError), child.stdin or contextlib.nullcontext() as pipe:
        if pipe is not None:
            pipe.write(settings)
    return child


def supervise(settings_bytes: bytes) -> None:
    """Be the supervisor until the drive ends, its process dies, or SIGTERM comes."""
    settings = wire.from_bytes(SupervisorSettings, settings_bytes)
    line = Lifeline(settings.car, finishes=True)
    ordinary()
    ring = Ring.at(settings.ring)
    watch = _Watch(settings, ring)
    watch.start()
    while not (ring.ended or line.cut(LOOK_S)):
        watch.look()
    watch.end()
    ring.close()


class _Watch:
    """The children, their pasts, and what is told of them."""

    def __init__(self, settings: SupervisorSettings, ring: Ring) -> None:
        self._settings, self._ring, self._clock = settings, ring, SystemClock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._pasts = {part.name: Past() for part in settings.parts}
        self._done: set[str] = set()
        self._told_ns = 0

    def start(self) -> None:
        """Start all parts."""
        for part in self._settings.parts:
            self._children[part.name] = spawn(part.module, part.settings.encode(), env=FLAT)
        self._tell()

    def look(self) -> None:
        """Find the dead, start those that are due, tell what is new."""
        now_ns = self._clock.mono_ns()
        changed = False
        for part in self._settings.parts:
            child, past = self._children.get(part.name), self._pasts[part.name]
            if child is not None and child.poll() is not None:
                del self._children[part.name]
                self._bury(part, child.returncode, now_ns)
                changed = True
            elif past.due_ns is not None and past.due_ns <= now_ns:
                self._children[part.name] = spawn(part.module, part.settings.encode(), env=FLAT)
                self._pasts[part.name] = started(past)
                changed = True
        if changed or now_ns - self._told_ns >= TELL_NS:
            self._tell()

    def end(self) -> None:
        """Let the recorder finish, stop the others; a recorder that dies at it is started again."""
        for part in self._settings.parts:
            child = self._children.get(part.name)
            if not part.finishes:
                self._done.add(part.name)
                if child is not None:
                    child.terminate()
        give_up_ns = self._clock.mono_ns() + round(CLOSE_S * 1e9)
        while self._children or any(p.due_ns is not None for p in self._pasts.values()):
            self.look()
            now_ns = self._clock.mono_ns()
            if now_ns > give_up_ns:
                for child in self._children.values():
                    child.kill()
                break
            self._clock.sleep_until(now_ns + 10_000_000)
        self._tell()

    def _bury(self, part: Part, code: int, now_ns: int) -> None:
        """Take note of an end; decide whether the part is started again."""
        said = str(read_note(self._ring, part.place).get("detail", ""))
        why = f"ended with code {code}" + (f": {said}" if said else "")
        past, over = self._pasts[part.name], part.name in self._done or self._ring.ended
        if over and (code == 0 or not part.finishes):
            self._pasts[part.name] = Past(restarts=past.restarts, deaths_ns=past.deaths_ns)
        elif code == REFUSED:
            self._pasts[part.name] = refused(past, why)
        else:
            self._pasts[part.name] = died(past, why, now_ns, self._settings.policy)

    def _tell(self) -> None:
        self._told_ns = self._clock.mono_ns()
        parts: dict[str, dict[str, Any]] = {}
        for part in self._settings.parts:
            past, child = self._pasts[part.name], self._children.get(part.name)
            parts[part.name] = {
                "pid": child.pid if child else 0,
                "restarts": past.restarts,
                "gave_up": past.gave_up[:300],
            }
        note = {"pid": os.getpid(), "beat_ns": self._told_ns, "parts": parts}
        self._ring.leave_note(SUPERVISOR, json.dumps(note).encode())
        with contextlib.suppress(OSError):  # a full disk: the note in the ring still says it
            self._write_health()

    def _write_health(self) -> None:
        """Keep the health of all parts where `roadloop vehicle status` finds it; not for ever, so
        nothing is synced."""
        facts = {
            "schema": "carhealth/1",
            "utc_ns": self._clock.utc_ns(),
            "frames": self._ring.head,
            "parts": {k: wire.to_plain(v) for k, v in parts_health(self._ring).items()},
        }
        path = Path(self._settings.folder) / HEALTH
        path.with_suffix(".tmp").write_text(json.dumps(facts))
        path.with_suffix(".tmp").replace(path)


def parts_health(ring: Ring, mono_ns: int | None = None) -> dict[str, Health]:
    """Return the Health of every supervised part, of the supervisor and, if it tells, the loop.

    Counters: what the part counts, and restarts, lost_frames, alive (1 or 0), pid.
    """
    now_ns = SystemClock().mono_ns() if mono_ns is None else mono_ns
    boss = read_note(ring, SUPERVISOR)
    out = {}
    for name, state in boss.get("parts", {}).items():
        place = PLACES[name]
        note = read_note(ring, place)
        alive = bool(state["pid"])
        note |= {"restarts": state["restarts"], "alive": int(alive), "pid": state["pid"]}
        note["lost_frames"] = ring.lost_by(place)
        if state["gave_up"]:
            note |= {"ok": False, "detail": state["gave_up"]}
        elif not alive and not ring.ended:
            note |= {
                "ok": False,
                "detail": f"dead, due again; {note.get('detail', '')}".strip("; "),
            }
        out[name] = health_of(name, note, now_ns)
    late_ns = now_ns - int(boss.get("beat_ns", 0))
    ok = bool(boss) and (late_ns < 5 * TELL_NS or ring.ended)
    detail = "" if ok else "the supervisor says nothing: the dead are not started again"
    facts = {"ok": ok, "detail": detail, "pid": int(boss.get("pid", 0))}
    out["supervisor"] = health_of("supervisor", facts, now_ns)
    loop = read_note(ring, DRIVE)
    if loop:
        out["drive"] = health_of("drive", loop, now_ns)
    return out


if __name__ == "__main__":
    supervise(sys.stdin.buffer.read())
