"""How the ring lies in memory, and what a reader takes out of it."""

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from vehicle.contracts.frame import Rig

MAGIC: Final = 0x524F_4144_5249_4E47
READERS: Final = 8
NOTE_BYTES: Final = 4096
HEADER_WORDS: Final = 16
READER_WORDS: Final = 8 + NOTE_BYTES // 8
SLOT_WORDS: Final = 8
MAX_CAMERAS: Final = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One frame as a reader took it out: its own copies, safe to keep.

    Args:
        flagged: the writer marked it (the recorder's mark: a trigger fired on this tick).
    """

    frame_id: int
    mono_ns: int
    utc_ns: int
    flagged: bool
    telemetry: bytes
    images: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class RingAddress:
    """All that another process must know to look into a ring; travels in its settings."""

    SCHEMA: ClassVar[str] = "ringaddress/1"
    name: str
    slots: int
    telemetry_bytes: int
    rig: Rig | None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie, bytes; the same on both sides because both derive it from the rig."""

    rig: Rig | None
    slots: int
    telemetry_bytes: int

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        cameras = self.rig.cameras if self.rig else ()
        return {c.name: (c.height_px, c.width_px, 3) for c in cameras}

    @property
    def image_bytes(self) -> int:
        return sum(h * w * c for h, w, c in self.shapes.values())

    @property
    def slot_bytes(self) -> int:
        return -(-(SLOT_WORDS * 8 + self.telemetry_bytes + self.image_bytes) // 64) * 64

    @property
    def first_slot(self) -> int:
        return (HEADER_WORDS + READERS * READER_WORDS) * 8

    @property
    def size(self) -> int:
        return self.first_slot + self.slots * self.slot_bytes

    @property
    def rig_mark(self) -> int:
        return int(self.rig.digest[:15], 16) if self.rig else 0
