"""Asks a context for advice and puts the answer into the mailbox: a process beside the loop.

Both sides of the connection show certificates; what comes over one where they did not is put in as
unproven, and the loop refuses it. The loop waits for no answer: the link may be slow, silent or
cut, and the car drives as it would without one.
"""

import secrets
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from vehicle.asking import OffboardSettings, question, reason_to_ask, split
from vehicle.clock import Clock, SystemClock
from vehicle.contracts import wire
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.uplink import IDENTITY
from vehicle.contracts.wire import RefusedError
from vehicle.identity import Identity
from vehicle.lifeline import OFFBOARD, Lifeline, NoteBook, be_nice, words
from vehicle.offboard import Mailbox
from vehicle.ring import Ring, Slot
from vehicle.site_link import (
    COUNTED,
    LateAnswerError,
    SiteAwayError,
    SiteLink,
    SiteRefusedError,
)
from vehicle.telemetry_pb import decode_telemetry

IDLE_S: Final = 0.003
AWAY_NS: Final = 1_000_000_000
"""Pause after a site could not be reached."""


class Asker:
    """Decides from each tick whether to ask, asks, and puts in what was answered.

    Args:
        link: to the site.
        mailbox: of the car.
        clock: UTC and monotonic; the loop's frames are stamped by the same monotonic clock.
    """

    def __init__(
        self, link: SiteLink, mailbox: Mailbox, settings: OffboardSettings, clock: Clock
    ) -> None:
        self._link, self._mailbox, self._settings = link, mailbox, settings
        self._clock, self._next_ns = clock, 0
        self.facts: dict[str, Any] = dict.fromkeys(("asked", "answered", *COUNTED.values()), 0)
        self.facts |= {"ok": True, "detail": "", "rtt_us": 0}

    @property
    def is_due(self) -> bool:
        """Return whether a question may be asked by now."""
        return self._clock.mono_ns() >= self._next_ns

    def look(self, slot: Slot) -> bool:
        """Ask about one tick if that is worth it; return whether anything was done.

        Raises:
            TelemetryError: the slot is not a tick.
        """
        now_ns = self._clock.mono_ns()
        record = decode_telemetry(slot.telemetry)
        tick, ego = record.tick, record.observation.ego
        if tick is None or ego is None:
            return False
        reason = reason_to_ask(tick, ego)
        if reason is None:
            return False
        self._next_ns = now_ns + round(self._settings.every_s * 1e9)
        try:
            if not self._link.is_open:
                self._link.open()
                return True  # the next tick is fresher
            self._ask(slot.mono_ns, question(tick.scene, ego, self._settings.origin_m), reason)
        except tuple(COUNTED) as error:
            self.facts[COUNTED[type(error)]] += 1
            well = isinstance(error, LateAnswerError | SiteRefusedError)  # as links and sites are
            self.facts |= {"ok": well, "detail": words(error)}
            if isinstance(error, SiteAwayError):
                self._next_ns = self._clock.mono_ns() + AWAY_NS
        return True

    def _ask(self, mono_ns: int, inputs: dict[str, np.ndarray], reason: str) -> None:
        settings, clock = self._settings, self._clock
        taken_ns = mono_ns + clock.utc_ns() - clock.mono_ns()
        request = InferenceRequest(
            request_id=secrets.token_hex(16),
            tenant=settings.tenant,
            car_id=settings.car_id,
            workload="collective-perception",
            tier="low",
            input_utc_ns=taken_ns,
            freshness_s=settings.freshness_s,
            deadline_utc_ns=taken_ns + round(settings.deadline_s * 1e9),
            data_class="features",
            jurisdiction=settings.jurisdiction,
        )
        began_ns = clock.mono_ns()
        self.facts["asked"] += 1
        self.facts[f"asked_{reason}"] = self.facts.get(f"asked_{reason}", 0) + 1
        advice, _ = self._link.ask(request, inputs)
        self._mailbox.put(advice, proven=self._link.proven, fresh_s=settings.freshness_s)
        took_us = (clock.mono_ns() - began_ns) // 1_000
        self.facts |= {"answered": self.facts["answered"] + 1, "rtt_us": took_us}
        self.facts |= {"ok": True, "detail": ""}


def offboard(settings_bytes: bytes) -> None:
    """Be the asking process until the drive ends, its process dies, or SIGTERM comes."""
    settings = wire.from_bytes(OffboardSettings, settings_bytes)
    line, clock = Lifeline(settings.car), SystemClock()
    be_nice()
    ring = Ring.at(settings.ring)
    book, mailbox = NoteBook(ring, OFFBOARD), Mailbox.at(settings.mailbox)
    asker: Asker | None = None
    reader = ring.reader(OFFBOARD)
    while not (ring.ended or line.cut(IDLE_S)):
        slot = reader.newest()[0] if asker is None or asker.is_due else None
        if slot is None:
            continue
        try:
            asker = asker or _open(settings, mailbox, clock)
            if asker.look(slot):
                book.tell(**asker.facts)
        except (RefusedError, OSError) as error:  # the car may be enrolled later
            book.fail(error)
    mailbox.close()
    ring.close()


def _open(settings: OffboardSettings, mailbox: Mailbox, clock: Clock) -> Asker:
    identity = None
    if split(settings.address)[0].startswith("https://"):
        identity = Identity.at(Path(settings.folder) / IDENTITY, settings.car_id)
    return Asker(SiteLink(settings.address, identity, clock), mailbox, settings, clock)


if __name__ == "__main__":
    offboard(sys.stdin.buffer.read())
