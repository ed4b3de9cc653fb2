"""What a killed recorder left of a clip: looked at, and carried over into a whole file."""

from dataclasses import dataclass
from pathlib import Path

from mcap.records import Message, Metadata

from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.frame import Rig
from vehicle.contracts.wire import RefusedError
from vehicle.mcap_records import McapRecords, open_mcap
from vehicle.route import RouteReader, RouteWriter
from vehicle.telemetry_pb import CLASSES
from vehicle.telemetry_schema import MESSAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """An unfinished clip as far as it is whole.

    Args:
        rate_hz, rig, metadata: as the file says.
        frames: first and last whole tick.
        span_ns: their times.
        events: on the whole ticks; never empty.
    """

    path: Path
    rate_hz: float
    rig: Rig | None
    metadata: dict[str, str]
    frames: tuple[int, int]
    span_ns: tuple[int, int]
    events: tuple[TriggerEvent, ...]

    def holds(self, other: "Remains") -> bool:
        """Return whether all of `other` is in here too, as where a salvage was itself cut off."""
        same = self.metadata == other.metadata
        return same and self.frames[0] <= other.frames[0] and other.frames[1] <= self.frames[1]


def look(part: Path) -> Remains | None:
    """Return what is whole of an unfinished clip, None when there is no event in it.

    Pre-roll without its event is nothing that was asked for; where the ring still holds the event,
    the recorder cuts it again.
    """
    try:
        reader = RouteReader(part, recover=True)
        ticks, events = _walk(part)
    except RefusedError:
        return None
    if not events:
        return None
    (first, start_ns), (last, end_ns) = ticks[0], ticks[-1]
    return Remains(
        path=part,
        rate_hz=reader.rate_hz,
        rig=reader.rig,
        metadata=dict(reader.metadata),
        frames=(first, last),
        span_ns=(start_ns, end_ns),
        events=tuple(events),
    )


def _walk(part: Path) -> tuple[list[tuple[int, int]], list[TriggerEvent]]:
    """Return frame and time of every whole tick, and their events; nothing else is decoded, for
    while this is done the ring goes on."""
    ticks: list[tuple[int, int]] = []
    events: list[TriggerEvent] = []
    pending: list[TriggerEvent] = []
    with open_mcap(part) as file:
        for item in McapRecords(file, recover=True):
            if isinstance(item, Metadata):
                continue
            topic, message = item
            if topic == "/event":
                event = CLASSES["Event"].FromString(message.data)
                pending.append(TriggerEvent(**{f: getattr(event, f) for f in MESSAGES["Event"]}))
            elif topic == "/frame":
                ticks.append((message.sequence, message.log_time))
                events += pending
                pending = []
    return ticks, events


def carry_over(part: Path, writer: RouteWriter) -> None:
    """Append the whole ticks of `part` to a new file, pictures as they were encoded."""
    tick: list[tuple[str, Message]] = []
    with open_mcap(part) as file:
        for item in McapRecords(file, recover=True):
            if isinstance(item, Metadata):
                continue
            tick.append(item)
            if item[0] == "/frame":
                for topic, message in tick:
                    writer.carry(topic, message)
                tick = []
