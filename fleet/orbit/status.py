"""Status reports: what became of a bundle, told to whom its source named.

BPv7 has no custody transfer, and no acknowledgement but these.

Source: RFC 9171 section 6.1; reasons from the IANA registry of it (RFC 9172 adds 12 to 16).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Self

from fleet.orbit import cbor
from fleet.orbit.blocks import BundleFlags, Place, Timestamp
from fleet.orbit.bundle import Bundle, create
from fleet.orbit.cbor import flag, items, uint
from fleet.orbit.eid import Eid
from fleet.orbit.errors import MalformedBundleError

STATUS_REPORT: Final = 1


class Reason(IntEnum):
    """Why."""

    NONE = 0
    LIFETIME_EXPIRED = 1
    UNIDIRECTIONAL_LINK = 2
    TRANSMISSION_CANCELLED = 3
    DEPLETED_STORAGE = 4
    DESTINATION_UNAVAILABLE = 5
    NO_ROUTE = 6
    NO_TIMELY_CONTACT = 7
    BLOCK_UNINTELLIGIBLE = 8
    HOP_LIMIT_EXCEEDED = 9
    TRAFFIC_PARED = 10
    BLOCK_UNSUPPORTED = 11
    SECURITY_MISSING = 12
    SECURITY_UNKNOWN = 13
    SECURITY_UNEXPECTED = 14
    SECURITY_FAILED = 15
    SECURITY_CONFLICTING = 16


class Event(IntEnum):
    """What a node reports, in the order of the report's entries."""

    RECEIVED = 0
    FORWARDED = 1
    DELIVERED = 2
    DELETED = 3


ASKED_BY: Final = {
    Event.RECEIVED: BundleFlags.REPORT_RECEPTION,
    Event.FORWARDED: BundleFlags.REPORT_FORWARDING,
    Event.DELIVERED: BundleFlags.REPORT_DELIVERY,
    Event.DELETED: BundleFlags.REPORT_DELETION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """One report.

    Args:
        events: what happened, each with its DTN time, or None where no time was asked for.
        reason: a Reason, or a number that is not known here.
        source, created: of the bundle it is about.
        place_bytes: offset and length of the fragment it is about; None: a whole bundle.
    """

    events: dict[Event, int | None]
    source: Eid
    created: Timestamp
    reason: int = Reason.NONE
    place_bytes: tuple[int, int] | None = None

    def to_bytes(self) -> bytes:
        """Return the administrative record: the payload of the bundle that brings it."""
        told: list[list[Any]] = []
        for event in Event:
            when = self.events.get(event)
            told.append([event in self.events] + ([] if when is None else [when]))
        created = [self.created.dtn_ms, self.created.sequence]
        place = list(self.place_bytes or ())
        content = [told, int(self.reason), self.source.to_item(), created, *place]
        return cbor.dumps([STATUS_REPORT, content])

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Read the payload of an administrative bundle.

        Raises:
            BundleError: it is no status report.
        """
        kind, content = items(cbor.loads(payload, "administrative record"), "record", 2)
        if uint(kind, "record type") != STATUS_REPORT:
            raise MalformedBundleError(f"administrative record of type {kind}, expected 1")
        told, reason, source, created, *place = items(content, "status report", 4, 6)
        events: dict[Event, int | None] = {}
        for event, entry in zip(Event, items(told, "status", len(Event)), strict=True):
            said, *when = items(entry, event.name, 1, 2)
            if flag(said, event.name):
                events[event] = uint(when[0], "status time") if when else None
            elif when:
                raise MalformedBundleError(f"{event.name} did not happen, but has a time")
        at = (uint(place[0], "offset"), uint(place[1], "length")) if place else None
        return cls(
            events=events,
            reason=uint(reason, "reason"),
            source=Eid.from_item(source, "source"),
            created=Timestamp(*items(created, "creation timestamp", 2)),
            place_bytes=at,
        )


def report_on(
    bundle: Bundle,
    event: Event,
    node: Eid,
    *,
    created: Timestamp,
    reason: Reason = Reason.NONE,
    lifetime_ms: int = 86_400_000,
    unasked: bool = False,
) -> Bundle | None:
    """Return the report that a bundle asks for; None when it asks for none.

    No report is made about an administrative record, so that reports cannot breed.

    Args:
        node: this node's ID, whom the report is from.
        created: of the report; its time is the event's too, where the bundle asks for one.
        unasked: of a block that asks for it when it is not understood.
    """
    primary = bundle.primary
    asked = unasked or primary.flags & ASKED_BY[event]
    if not asked or primary.flags & BundleFlags.ADMINISTRATIVE or primary.report_to.is_none:
        return None
    timed = primary.flags & BundleFlags.REPORT_TIME
    place: Place | None = primary.place
    report = StatusReport(
        events={event: created.dtn_ms if timed else None},
        reason=reason,
        source=primary.source,
        created=primary.created,
        place_bytes=(place.offset_bytes, len(bundle.payload)) if place else None,
    )
    return create(
        node,
        primary.report_to,
        report.to_bytes(),
        created=created,
        lifetime_ms=lifetime_ms,
        report_to=Eid.NONE,
        flags=BundleFlags.ADMINISTRATIVE,
    )
