"""Turns events into clips, in a process of its own, so that no disk can make the loop wait.

The frame loop writes each tick into a shared-memory ring and goes on. The recorder process reads
the ring, keeps the seconds before now, and when a trigger fires writes those, what follows, and
then the manifest. Whatever happens to it, the loop only sees a counter.
"""

import atexit
import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from vehicle.clock import Clock, SystemClock
from vehicle.config import RecordingConfig
from vehicle.contracts import wire
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign
from vehicle.contracts.frame import Observation, Rig
from vehicle.contracts.telemetry import Health
from vehicle.contracts.tick import Tick
from vehicle.contracts.wire import RefusedError
from vehicle.cutter import Action, ClipCutter, Keep, Open, Seal
from vehicle.lifeline import (
    RECORDER,
    TRY_AGAIN,
    Lifeline,
    NoteBook,
    be_nice,
    health_of,
    read_note,
    refuse,
)
from vehicle.publisher import Publisher, ring_for
from vehicle.ring import Ring, RingAddress, Slot
from vehicle.telemetry_pb import decode_telemetry

BACKLOG_BYTES: Final = 256 << 20
START_S: Final = 60.0
CLOSE_S: Final = 120.0
SINGLE: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


COUNTERS: Final = (
    "clips",
    "frames",
    "errors",
    "recovered",
    "salvaged",
    "removed",
    "evicted",
    "dropped_frames",
    "encoder_stalls",
    "backlog_frames",
)
"""Of the recorder's health; `backlog_frames`, what waits to be written, goes up and down."""


SHELVED: Final = (
    "recovered",
    "salvaged",
    "removed",
    "evicted",
    "dropped_frames",
    "encoder_stalls",
)
"""Those the shelf counts, from its own start on."""


class RecorderStartError(RefusedError):
    """The recorder process did not come up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """All the recorder process is told; travels as canonical bytes, not as a pickle.

    Args:
        car: process id of the frame loop: the recorder ends after it.
    """

    SCHEMA: ClassVar[str] = "recorder/1"
    outbox: str
    car: int
    ring: RingAddress
    rate_hz: float
    car_id: str
    route_id: str
    model: str
    jurisdiction: str
    campaigns: tuple[Campaign, ...]
    config: RecordingConfig = field(default_factory=RecordingConfig)
    tags: dict[str, str] = field(default_factory=dict)


class Recorder:
    """The frame loop's end of the recorder: a sink that writes one slot per tick.

    Args:
        outbox: where clips appear, each in a folder named by its content.
        rig: cameras of the drive, None without.
        rate_hz: ticks per second.
        model: bundle name and version that drives.
        jurisdiction: ISO 3166 code, "ZZ" in simulation.
        tags: what is known of the drive.
        lossless: wait for the recorder when it falls behind, for simulation and replay faster
            than real time. A driving car loses frames of the clip instead, and counts them.
        campaigns: their triggers say how much is kept around an event.
        config: codec, and how much room waiting clips may take; None: recording.toml beside the
            outbox, else the defaults.
        clock: gives the UTC that goes into manifests.
    Raises:
        RecorderStartError: the process did not come up; says why.
    """

    def __init__(
        self,
        *,
        outbox: Path,
        rig: Rig | None,
        rate_hz: float,
        car_id: str,
        route_id: str,
        model: str,
        jurisdiction: str = "ZZ",
        tags: dict[str, str] | None = None,
        lossless: bool = False,
        campaigns: tuple[Campaign, ...] = (DEFAULT_CAMPAIGN,),
        config: RecordingConfig | None = None,
        clock: Clock | None = None,
        slots: int | None = None,
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self._lossless = lossless
        self._last: dict[str, Any] = {}
        self._lost = 0
        self._open = True
        self._gone = False
        config = config or RecordingConfig.of_car(Path(outbox).parent)
        self._ring = ring_for(rig, rate_hz, slots)
        self._publisher = Publisher(self._ring, self._clock)
        settings = RecorderSettings(
            outbox=str(Path(outbox).absolute()),
            car=os.getpid(),
            ring=self._ring.address,
            rate_hz=float(rate_hz),
            car_id=car_id,
            route_id=route_id,
            model=model,
            jurisdiction=jurisdiction,
            campaigns=campaigns,
            config=config,
            tags=dict(tags or {}),
        )
        # Not multiprocessing: its spawn imports the caller's main module a second time.
        path = os.pathsep.join(p for p in sys.path if p)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vehicle.recorder"],
            stdin=subprocess.PIPE,
            env={**os.environ, **SINGLE, "PYTHONPATH": path},
        )
        self._start(wire.to_bytes(settings))
        atexit.register(self.close)  # a drive that ends by an exception keeps its clips

    @property
    def pid(self) -> int:
        """Return the process id of the recorder."""
        return self._process.pid

    @property
    def health(self) -> Health:
        """Return clips written, frames lost, errors, and in words what is wrong."""
        made, note = self._publisher, self._note()
        counters = {name: int(note.get(name, 0)) for name in COUNTERS}
        counters["errors"] += made.errors
        counters["lost_frames"] = self._ring.lost_by(RECORDER) if self._open else self._lost
        note |= {"ok": not made.detail and note.get("ok", True)}
        note |= {"detail": made.detail or note.get("detail", "")}
        plain = {k: v for k, v in note.items() if k in ("ok", "detail")}
        return health_of("recorder", {**counters, **plain}, self._clock.mono_ns())

    def publish(self, obs: Observation, tick: Tick | None) -> None:
        """Hand one tick over: pictures and telemetry into one slot. Never raises, never waits
        (unless `lossless` and nobody called `settle` in time)."""
        if not self._open:
            return
        if self._lossless:
            self.settle()
        self._publisher.publish(obs, tick)
        if self._ring.head % 64 == 0:
            self._alive()

    def settle(self) -> None:
        """Make room for the next tick when `lossless`; call between ticks, outside their timing.

        A dead recorder makes no room: the drive goes on without it.
        """
        while self._lossless and self._open and not self._gone:
            if self._ring.wait_for(RECORDER, 0.25) or not self._alive():
                return

    def close(self) -> Health:
        """Write what is pending, with the post-roll there is, and end the process.

        Returns:
            The last health.
        """
        if not self._open:
            return self.health
        self._ring.end()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._publisher.fail(f"recorder did not finish in {CLOSE_S:.0f} s and was killed")
            self._process.kill()
            self._process.wait()
        self._alive()
        self._last, self._lost = self._note(), self._ring.lost_by(RECORDER)
        self._open = False
        self._ring.close()
        atexit.unregister(self.close)
        return self.health

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, settings: bytes) -> None:
        with contextlib.suppress(OSError), self._process.stdin or contextlib.nullcontext() as pipe:
            if pipe is not None:
                pipe.write(settings)
        give_up = time.monotonic() + START_S
        while not self._ring.is_alive(RECORDER):
            if self._process.poll() is not None or time.monotonic() > give_up:
                why = self._note().get("detail") or f"exit code {self._process.returncode}"
                self._process.kill()
                self._process.wait()
                self._open = False
                self._ring.close()
                raise RecorderStartError(f"the recorder process did not come up: {why}")
            time.sleep(0.005)

    def _alive(self) -> bool:
        """Return whether the process lives or ended well; count its death once."""
        code = self._process.poll()
        if code in (None, 0):
            return True
        if not self._gone:
            self._gone = True
            why = f"recorder process ended with code {code}; clips are lost from here on"
            self._publisher.fail(why)
        return False

    def _note(self) -> dict[str, Any]:
        return (read_note(self._ring, RECORDER) or self._last) if self._open else dict(self._last)


def record(settings_bytes: bytes) -> None:
    """Be the recorder process until the writer ends, dies, or SIGTERM comes."""
    settings = wire.from_bytes(RecorderSettings, settings_bytes)
    line = Lifeline(settings.car, finishes=True)
    be_nice()
    ring = Ring.at(settings.ring)
    desk = _Desk(settings, ring)
    while desk.step():
        if ring.ended or line.cut():
            desk.end()
    ring.close()


class _Desk:
    """The recorder's work: read first, so that nothing is lost, then write one thing."""

    def __init__(self, settings: RecorderSettings, ring: Ring) -> None:
        from vehicle.shelf import DriveFacts, Shelf  # encoders stay out of the drive process

        self._book = NoteBook(ring, RECORDER, **dict.fromkeys(COUNTERS, 0))
        self._cutter = ClipCutter(settings.campaigns)
        self._backlog = max(8, BACKLOG_BYTES // (ring.frame_bytes or 1))
        self._work: deque[Action] = deque()
        self._ending = False
        facts = DriveFacts(
            rig=settings.ring.rig,
            rate_hz=settings.rate_hz,
            car_id=settings.car_id,
            route_id=settings.route_id,
            model=settings.model,
            jurisdiction=settings.jurisdiction,
            tags=settings.tags,
        )
        try:
            self._shelf = Shelf(Path(settings.outbox), facts, settings.config)
        except (RefusedError, OSError) as error:
            raise refuse(ring, self._book, error, TRY_AGAIN) from error
        self._reader = ring.reader(RECORDER)
        self._counted = {name: int(self._book.facts[name]) for name in SHELVED}
        self._begin()

    def _begin(self) -> None:
        """Go on where a recorder that was killed stood: its clip, and what the ring still holds."""
        shelf, facts = self._shelf, self._book.facts
        self._after = int(facts.get("kept", -1))
        if shelf.resumed is not None:
            self._cutter.resume(shelf.resumed.events, shelf.resumed.span_ns[0])
            self._after = max(self._after, shelf.resumed.frames[1])
        self._reader.rewind()
        self._tell()
        if shelf.trouble:
            self._book.fail(shelf.trouble)

    def step(self) -> bool:
        """Do a little; return False when all is done."""
        self._read()
        if self._work:
            self._write()
        elif self._ending and not self._reader.behind:
            self._work.extend(self._cutter.flush())
            while self._work:
                self._write()
            self._shelf.close()
            self._tell()
            return False
        else:
            time.sleep(0.005)
        return True

    def end(self) -> None:
        """Finish once all that was written has been read."""
        self._ending = True

    def _read(self) -> None:
        while len(self._work) < self._backlog and (slot := self._reader.next()) is not None:
            if slot.frame_id <= self._after:
                continue
            self._book.facts["frames"] += 1
            self._work.extend(self._cutter.push(slot, self._events(slot)))
            if self._book.facts["frames"] % 64 == 0:
                self._tell()

    def _events(self, slot: Slot) -> tuple[Any, ...]:
        if not slot.flagged:
            return ()
        try:
            tick = decode_telemetry(slot.telemetry).tick
        except RefusedError as error:
            self._book.fail(error)
            return ()
        return tick.events if tick else ()

    def _write(self) -> None:
        action, facts = self._work.popleft(), {}
        try:
            if isinstance(action, Open):
                self._shelf.open()
            elif isinstance(action, Keep):
                self._shelf.keep(action.slot)
            elif isinstance(action, Seal):
                last = self._shelf.last_frame
                if self._shelf.seal(action.events):
                    facts = {"clips": self._book.facts["clips"] + 1, "ok": True, "kept": last}
        except (RefusedError, OSError) as error:
            self._shelf.drop()
            self._book.fail(error)
            with contextlib.suppress(OSError):  # the disk may be full: the next clip finds room
                self._shelf.make_room()
        self._tell(**facts)

    def _tell(self, **facts: Any) -> None:
        """Show what changed, what the shelf counts, and how much waits."""
        shelf = {
            name: before + getattr(self._shelf, name) for name, before in self._counted.items()
        }
        waiting = len(self._work) + self._reader.behind
        self._book.tell(**shelf, backlog_frames=waiting, **facts)


if __name__ == "__main__":
    record(sys.stdin.buffer.read())
