"""A candidate network on the frames the car drives by, in spare time: where would it differ?

A process of its own, nice to all others. It always takes the newest frame and says how many it had
no time for. Nothing it finds reaches the command.
"""

import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.config import VehicleConfig
from vehicle.contracts import wire
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.plan import Plan
from vehicle.contracts.tick import Record
from vehicle.contracts.wire import RefusedError
from vehicle.disagreement import Disagreement, disagreement
from vehicle.lifeline import SHADOW, Lifeline, NoteBook, be_nice, refuse
from vehicle.planner import Planner
from vehicle.ring import Ring, RingAddress, Slot
from vehicle.sight import Sight
from vehicle.telemetry_pb import decode_telemetry

LOG_BYTES: Final = 32 << 20
"""A log longer than this becomes NAME.1, in place of the one before."""

IDLE_S: Final = 0.003


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSettings:
    """All the shadow process is told.

    Args:
        car: process id of the frame loop.
        bundle: folder of the candidate.
        log: JSON lines, one per frame compared.
    """

    SCHEMA: ClassVar[str] = "shadow/1"
    car: int
    ring: RingAddress
    bundle: str
    log: str


class Shadow:
    """The candidate's own sight, tracker and planner, and what it thinks of the driving ones.

    Args:
        bundle: folder of the candidate.
        ring: of the car; only its rig is used here.
    Raises:
        All errors of Perception: a wrong bundle is refused.
    """

    def __init__(self, bundle: Path, ring: RingAddress) -> None:
        config = VehicleConfig()
        self._sight = Sight.open(bundle, ring.rig, True, config)
        self._budget = Budget(enforce=False, clock=SystemClock())
        self._planner = Planner(config)
        self._previous: Plan | None = None

    def compare(self, slot: Slot) -> Disagreement | None:
        """Return how far the candidate disagrees on one frame; None where the loop did not see it.

        Raises:
            TelemetryError: the slot is not a tick.
        """
        record: Record = decode_telemetry(slot.telemetry)
        if record.tick is None or not slot.images:
            return None
        seen = record.observation
        frame = FrameSet(frame_id=slot.frame_id, mono_ns=slot.mono_ns, images=slot.images)
        obs = Observation(frame=frame, ego=seen.ego, guidance=seen.guidance)
        self._budget.begin(slot.frame_id)
        scene = self._sight.see(obs, self._budget)
        if obs.ego is not None:
            self._previous = self._planner.plan(scene, obs, self._previous, "full")
        else:
            self._previous = None
        return disagreement(record.tick.scene, scene, record.tick.plan, self._previous)

    def close(self) -> None:
        """Stop the candidate."""
        self._sight.close()


def shadow(settings_bytes: bytes) -> None:
    """Be the shadow process until the drive ends, its process dies, or SIGTERM comes."""
    settings = wire.from_bytes(ShadowSettings, settings_bytes)
    line = Lifeline(settings.car)
    be_nice()
    ring = Ring.at(settings.ring)
    book = NoteBook(ring, SHADOW, frames=0, skipped=0, errors=0)
    try:
        candidate = Shadow(Path(settings.bundle), settings.ring)
    except RefusedError as error:
        raise refuse(ring, book, error) from error
    reader, log = ring.reader(SHADOW), Log(Path(settings.log))
    book.tell()
    while not (ring.ended or line.cut()):
        slot, passed = reader.newest()
        book.facts["skipped"] += passed
        if slot is None:
            time.sleep(IDLE_S)
            continue
        try:
            found = candidate.compare(slot)
        except RefusedError as error:
            book.fail(error)
            continue
        if found is not None:
            book.tell(**_note(slot, found, book.facts["frames"] + 1))
            log.write(slot, found)
    candidate.close()
    ring.close()


def _note(slot: Slot, found: Disagreement, frames: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"frames": frames, "ok": True}
    if math.isfinite(found.score):
        facts |= {"frame_id": slot.frame_id, "score": round(found.score, 4)}
    return facts


class Log:
    """The lines of shadow.jsonl; a full disk costs lines, not the shadow.

    Args:
        path: appended to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lost = 0

    def write(self, slot: Slot, found: Disagreement) -> None:
        """Append one frame's disagreement."""
        line = {
            "frame_id": slot.frame_id,
            "mono_ns": slot.mono_ns,
            "utc_ns": slot.utc_ns,
            "score": _rounded(found.score),
            "boxes": _rounded(found.boxes),
            "drivable": _rounded(found.drivable),
            "plan": _rounded(found.plan),
        }
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")
                full = file.tell() > LOG_BYTES
            if full:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
        except OSError:
            self.lost += 1


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)


if __name__ == "__main__":
    shadow(sys.stdin.buffer.read())
