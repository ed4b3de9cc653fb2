"""The uplink as a process beside the loop: sends the outbox while the car drives."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError
from vehicle.lifeline import UPLINK, Lifeline, NoteBook, be_nice
from vehicle.ring import Ring, RingAddress

if TYPE_CHECKING:
    from vehicle.uplink import Uplink


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSettings:
    """All the uplink process is told.

    Args:
        car: process id of the frame loop.
        every_s: pause between two looks into the outbox.
    """

    SCHEMA: ClassVar[str] = "sender/1"
    car: int
    ring: RingAddress
    outbox: str
    gateway: str
    car_id: str
    token_file: str
    every_s: float


def send(settings_bytes: bytes) -> None:
    """Be the uplink process until SIGTERM comes or the loop's process is no more.

    A link that is away is no fault of this part: it says so, keeps the clips and tries again.
    """
    settings = wire.from_bytes(SenderSettings, settings_bytes)
    line = Lifeline(settings.car)
    be_nice()
    ring = Ring.at(settings.ring)
    book = NoteBook(ring, UPLINK, sent=0, sent_bytes=0, left=0, errors=0)
    book.tell()
    link = None
    while True:
        link = _send_once(settings, book, link)
        if line.cut(settings.every_s):
            break
    if link is not None:
        link.close()
    ring.close()


def _send_once(settings: SenderSettings, book: NoteBook, link: "Uplink | None") -> "Uplink | None":
    """Send what can be sent; return the link where it is worth keeping."""
    try:
        link = link or _open(settings)
    except (RefusedError, OSError) as error:  # the token may come later
        book.fail(error)
        return None
    report = link.send_under_campaign()
    facts = book.facts
    book.tell(
        sent=facts["sent"] + len(report.sent),
        sent_bytes=facts["sent_bytes"] + report.sent_bytes,
        left=len(report.left),
        errors=facts["errors"] + bool(report.error),
        ok=not report.error,
        detail=report.error[:400],
    )
    if report.error:
        link.close()
        return None
    return link


def _open(settings: SenderSettings) -> "Uplink":
    from vehicle.uplink import Uplink, read_token  # HTTP stays out of the drive process

    return Uplink(
        outbox=Path(settings.outbox),
        gateway_url=settings.gateway,
        car_id=settings.car_id,
        token=read_token(Path(settings.token_file)),
        clock=SystemClock(),
    )


if __name__ == "__main__":
    send(sys.stdin.buffer.read())
