"""What a killed recorder left of a clip: looked at, and carried over into a whole file."""

from dataclasses import dataclass
from pathlib import Path

from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.frame import Rig
from vehicle.contracts.wire import RefusedError
from vehicle.mcap_records import open_mcap
from vehicle.route import RouteReader, RouteWriter
from vehicle.telemetry_pb import CLASSES
from vehicle.telemetry_schema import MESSAGES
from vehicle.whole_ticks import Damage, WholeTicks


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
    with open_mcap(part) as file:
        for tick in WholeTicks(file, recover=True):
            for topic, message in tick:
                if topic == "/event":
                    event = CLASSES["Event"].FromString(message.data)
                    events.append(TriggerEvent(**{f: getattr(event, f) for f in MESSAGES["Event"]}))
            ticks.append((tick[-1][1].sequence, tick[-1][1].log_time))
    return ticks, events


def carry_over(part: Path, writer: RouteWriter) -> Damage | None:
    """Append the whole ticks of `part` to a new file, pictures as they were encoded.

    Returns:
        What `part` lacks, None when nothing.
    """
    with open_mcap(part) as file:
        ticks = WholeTicks(file, recover=True)
        for tick in ticks:
            for topic, message in tick:
                writer.carry(topic, message)
    return ticks.damage
