"""The whole ticks of a route file or clip, and what a damaged one lacks, by name and count."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, ClassVar, Final

from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from mcap.records import Message, Metadata

from vehicle.mcap_records import Gap, McapRecords, RouteCorruptError
from vehicle.telemetry_pb import CLASSES
from vehicle.video import is_keyframe

CAMERA_TOPIC: Final = "/camera/"
Told = tuple[str, Message]
"""Topic and message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """One stretch that a damaged file lacks.

    Args:
        at_byte, size_bytes: of the file.
        reason: what is wrong there.
        after_frame, before_frame: the whole ticks around it; None at the ends of the file.
    """

    at_byte: int
    size_bytes: int
    reason: str
    after_frame: int | None
    before_frame: int | None

    def __str__(self) -> str:
        after = "the start" if self.after_frame is None else f"frame {self.after_frame}"
        before = "the end" if self.before_frame is None else f"frame {self.before_frame}"
        return f"{self.reason}; {self.size_bytes} bytes between {after} and {before}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What a file lacks, as far as it can be known.

    Args:
        missing: each stretch.
        ticks: that are whole.
        lost: topic -> messages that the end of the file counts and that are not there; {} where
            the end is missing too.
        undecodable: camera -> pictures that are there, but follow a loss and come before the next
            keyframe: they are left out.
    """

    SCHEMA: ClassVar[str] = "damage/1"
    missing: tuple[Missing, ...]
    ticks: int
    lost: dict[str, int] = field(default_factory=dict)
    undecodable: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [str(m) for m in self.missing]
        parts += [f"{n} messages of {topic} lost" for topic, n in self.lost.items()]
        parts += [
            f"{n} pictures of {name} have lost what they build on"
            for name, n in self.undecodable.items()
        ]
        return f"{self.ticks} whole ticks; " + "; ".join(parts)


class WholeTicks:
    """One pass over a file: the messages of each whole tick, in the order of writing.

    Args:
        file: an open MCAP file.
        recover: go on behind damage. A tick that lost a part of itself is left out, a picture that
            lost the keyframe it builds on too.
    """

    def __init__(self, file: BinaryIO, *, recover: bool = False) -> None:
        self.records = McapRecords(file, recover=recover)
        self.ticks = 0
        self._last: int | None = None
        self._open: list[Gap] = []
        self._missing: list[Missing] = []
        self._cameras: set[str] = set()
        self._stale: set[str] = set()
        self._dropped: set[str] = set()
        self._undecodable: Counter[str] = Counter()
        self._torn = False

    @property
    def damage(self) -> Damage | None:
        """Return what was found missing so far, None when nothing is."""
        open_ = [self._between(gap, None) for gap in self._open]
        lost = self.records.lost()
        if not (self._missing or open_ or lost):
            return None
        return Damage(
            missing=(*self._missing, *open_),
            ticks=self.ticks,
            lost=lost,
            undecodable=dict(sorted(self._undecodable.items())),
        )

    def __iter__(self) -> Iterator[list[Told]]:
        """Yield the messages of each whole tick; "/frame" is the last.

        Raises:
            RouteCorruptError: damage, unless recovering.
        """
        tick: list[Told] = []
        for item in self.records:
            if isinstance(item, Metadata):
                continue
            if isinstance(item, Gap):
                self._tear(item)
                tick = []
                continue
            if tick and item[1].sequence != tick[0][1].sequence:
                self._skips(tick[0][1].sequence, item[1].sequence)
                tick = []
            if item[0].startswith(CAMERA_TOPIC) and not self._decodable(*item):
                continue
            tick.append(item)
            if item[0] == "/frame":
                if whole := self._complete(tick):
                    yield whole
                tick = []

    def reject(self, frame: int, error: Exception) -> None:
        """Take back the tick handed out last: it does not read.

        Raises:
            RouteCorruptError: unless recovering.
        """
        if not self.records.recover:
            raise RouteCorruptError(f"damaged in frame {frame}: {error}") from error
        self.ticks -= 1
        reason = f"frame {frame} does not read: {error}"
        self._tear(Gap(at_byte=self.records.at_byte, size_bytes=0, reason=reason))
        self._torn = False  # the next tick is whole

    def _skips(self, frame: int, other: int) -> None:
        """Note that a tick was begun and another goes on in its place."""
        reason = f"damaged: frame {other} begins before frame {frame} is complete"
        if not self.records.recover:
            raise RouteCorruptError(reason)
        self._tear(Gap(at_byte=self.records.at_byte, size_bytes=0, reason=reason))

    def _tear(self, gap: Gap) -> None:
        self._open.append(gap)
        self._stale |= self._cameras
        self._torn, self._dropped = True, set()

    def _decodable(self, topic: str, message: Message) -> bool:
        name = topic.removeprefix(CAMERA_TOPIC)
        if name not in self._cameras:
            self._cameras.add(name)
            self._stale |= {name} if self.records.gaps else set()
        if name not in self._stale:
            return True
        video = CompressedVideo.FromString(message.data)
        if is_keyframe(video.data, video.format):
            self._stale.discard(name)
            return True
        self._undecodable[name] += 1
        self._dropped.add(name)
        return False

    def _complete(self, tick: list[Told]) -> list[Told]:
        """Return the tick with what its last message says made true, [] when it is not whole."""
        message = tick[-1][1]
        dropped, self._dropped = self._dropped, set()
        if self._torn or dropped:
            frame = CLASSES["Frame"].FromString(message.data)
            first = next(iter(frame.cameras), None)
            begun = first is not None and (
                first in dropped or any(topic == CAMERA_TOPIC + first for topic, _ in tick)
            )
            torn, self._torn = self._torn and not begun, False
            if torn:
                return []
            frame.cameras[:] = [name for name in frame.cameras if name not in dropped]
            tick[-1] = ("/frame", replace(message, data=frame.SerializeToString()))
        self._missing += [self._between(gap, message.sequence) for gap in self._open]
        self._open, self._last = [], message.sequence
        self.ticks += 1
        return tick

    def _between(self, gap: Gap, before: int | None) -> Missing:
        return Missing(
            at_byte=gap.at_byte,
            size_bytes=gap.size_bytes,
            reason=gap.reason,
            after_frame=self._last,
            before_frame=before,
        )
