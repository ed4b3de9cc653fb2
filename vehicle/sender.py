"""The uplink as a process beside the loop: sends the outbox while the car drives.

How the car is connected changes as it drives: whoever knows (a modem's or a network manager's
script) writes `link.json` into the car's folder, and it counts from the next look on.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError
from vehicle.lifeline import UPLINK, Lifeline, NoteBook, be_nice
from vehicle.ring import Ring, RingAddress
from vehicle.uplink_policy import USUAL_LINK, Link

if TYPE_CHECKING:
    from vehicle.uplink import Uplink

LINK: Final = "link.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSettings:
    """All the uplink process is told.

    Args:
        car: process id of the frame loop.
        folder: of the car: outbox/, identity/, campaigns/, link.json.
        link: how the car is connected while no link.json says otherwise.
        every_s: pause between two looks into the outbox.
    """

    SCHEMA: ClassVar[str] = "sender/1"
    car: int
    ring: RingAddress
    folder: str
    gateway: str
    every_s: float
    link: Link = USUAL_LINK


def send(settings_bytes: bytes) -> None:
    """Be the uplink process until SIGTERM comes or the loop's process is no more.

    A link that is away is no fault of this part: it says so, keeps the clips and tries again.
    """
    settings = wire.from_bytes(SenderSettings, settings_bytes)
    line = Lifeline(settings.car)
    be_nice()
    ring = Ring.at(settings.ring)
    book = NoteBook(ring, UPLINK, sent=0, sent_bytes=0, told=0, left=0, errors=0)
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
        link.link = read_link(Path(settings.folder)) or settings.link
    except (RefusedError, OSError) as error:  # the car may be enrolled later
        book.fail(error)
        return link
    report = link.send_all()
    facts = book.facts
    book.tell(
        sent=facts["sent"] + len(report.sent),
        sent_bytes=facts["sent_bytes"] + report.sent_bytes,
        told=facts["told"] + len(report.told),
        left=len(report.left),
        errors=facts["errors"] + bool(report.error),
        ok=not report.error,
        detail=report.error[:400],
    )
    if report.error:
        link.close()
        return None
    return link


def read_link(car_folder: Path) -> Link | None:
    """Return how the car is connected as its link.json says, None without one.

    Raises:
        ContractError: the file says something else.
    """
    try:
        data = (car_folder / LINK).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return wire.from_bytes(Link, data)
    except wire.ContractError as error:
        raise wire.ContractError(
            f"{car_folder / LINK}: {error}; nothing is sent until it says how the car is connected"
        ) from error


def _open(settings: SenderSettings) -> "Uplink":
    from vehicle.uplink import Uplink  # HTTP stays out of the drive process

    return Uplink(
        car_folder=Path(settings.folder), gateway_url=settings.gateway, clock=SystemClock()
    )


if __name__ == "__main__":
    send(sys.stdin.buffer.read())
