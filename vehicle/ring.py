"""A ring of frames in shared memory: one writer that never waits, readers that may lose.

Every process of the car sees the same frames without copies through a queue, without locks and
without pickle. A slot is guarded by a sequence number, odd while the slot is being written (a
seqlock): a reader copies, looks again, and counts the frame as lost when the writer came round.
Stores are seen in program order on x86-64, which is what the guard needs.
"""

import os
import time
from typing import Self

import numpy as np

from vehicle.contracts.frame import FrameSet, Rig
from vehicle.contracts.wire import RefusedError, require
from vehicle.ring_layout import (
    HEADER_WORDS,
    MAGIC,
    MAX_CAMERAS,
    NOTE_BYTES,
    READER_WORDS,
    READERS,
    SLOT_WORDS,
    Layout,
    RingAddress,
    Slot,
)
from vehicle.shared_memory import RingError, attach, create

__all__ = ["Ring", "RingAddress", "RingError", "RingReader", "Slot"]

# Words of the header.
_MAGIC, _SLOTS, _TELEMETRY, _RIG, _HEAD, _CLOSED = range(6)
# Words of a reader.
_PID, _CURSOR, _LOST, _NOTE_SEQ, _NOTE_LEN = range(5)
# Words of a slot.
_SEQ, _FRAME, _MONO, _UTC, _PRESENT, _LENGTH, _FLAGS = range(7)


class ReaderBusyError(RefusedError):
    """Another living process reads in this place of the ring."""


class FrameShapeError(RefusedError):
    """A picture does not fit the ring, which was laid out for the rig."""


class TelemetryTooLargeError(RefusedError):
    """A tick's telemetry does not fit into a slot."""


class Ring:
    """The shared memory itself. The side that creates it owns it and removes it.

    Args:
        rig: cameras whose pictures travel, None for a route without cameras.
        slots: frames it holds.
        telemetry_bytes: most a tick's telemetry may have.
        name: of an existing ring to look into; None creates one.
    Raises:
        RingError: `name` is not a ring of this rig and size, or is gone; no memory for a new one.
    """

    def __init__(
        self,
        rig: Rig | None,
        *,
        slots: int,
        telemetry_bytes: int = 128 << 10,
        name: str | None = None,
    ) -> None:
        require(slots >= 2, f"ring has {slots} slots, expected at least 2")
        layout = Layout(rig, slots, telemetry_bytes)
        require(len(layout.shapes) <= MAX_CAMERAS, f"more than {MAX_CAMERAS} cameras")
        self._layout = layout
        self._shapes = layout.shapes
        self._owner = name is None
        try:
            self._memory = create(layout.size) if name is None else attach(name)
        except FileNotFoundError as error:
            raise RingError(f"ring {name!r} is gone; its owner has closed it") from error
        fixed = layout.first_slot
        self._words = np.frombuffer(self._buffer[:fixed], dtype=np.int64)
        self._slots = [self._views(fixed + i * layout.slot_bytes) for i in range(slots)]
        wanted = (MAGIC, slots, telemetry_bytes, layout.rig_mark)
        if self._owner:
            self._words[:4] = wanted
        elif self._memory.size < layout.size or tuple(self._words[:4].tolist()) != wanted:
            found = tuple(self._words[:4].tolist())
            self.close()
            raise RingError(f"ring {name!r} is laid out as {found}, expected {wanted}")

    @classmethod
    def at(cls, address: RingAddress) -> Self:
        """Return the ring of another process, to look into.

        Raises:
            RingError: it is gone, or laid out otherwise.
        """
        facts = {"slots": address.slots, "telemetry_bytes": address.telemetry_bytes}
        return cls(address.rig, name=address.name, **facts)

    @property
    def _buffer(self) -> memoryview:
        buffer = self._memory.buf
        if buffer is None:
            raise RingError("the ring is closed")
        return buffer

    @property
    def name(self) -> str:
        """Return the name other processes find it by."""
        return self._memory.name

    @property
    def address(self) -> RingAddress:
        """Return what other processes are told of it."""
        layout = self._layout
        return RingAddress(
            name=self.name,
            slots=layout.slots,
            telemetry_bytes=layout.telemetry_bytes,
            rig=layout.rig,
        )

    @property
    def slots(self) -> int:
        """Return how many frames it holds."""
        return self._layout.slots

    @property
    def telemetry_bytes(self) -> int:
        """Return the most a tick's telemetry may have."""
        return self._layout.telemetry_bytes

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one frame's pictures."""
        return self._layout.image_bytes

    @property
    def head(self) -> int:
        """Return how many frames have been written."""
        return int(self._words[_HEAD])

    @property
    def ended(self) -> bool:
        """Return whether the writer has said that no frame will follow."""
        return bool(self._words[_CLOSED])

    def write(self, frame: FrameSet, telemetry: bytes, utc_ns: int, *, flag: bool = False) -> None:
        """Put one frame into the next slot; never waits.

        Raises:
            TelemetryTooLargeError: it does not fit; nothing is written.
            FrameShapeError: a picture is not of the rig; nothing is written.
        """
        if len(telemetry) > self._layout.telemetry_bytes:
            raise TelemetryTooLargeError(
                f"telemetry has {len(telemetry)} bytes, a slot takes {self._layout.telemetry_bytes}"
            )
        present = self._present(frame)
        head = int(self._words[_HEAD])
        words, text, images = self._slots[head % self._layout.slots]
        words[_SEQ] = 2 * head + 1
        words[_FRAME:] = (frame.frame_id, frame.mono_ns, utc_ns, present, len(telemetry), flag, 0)
        text[: len(telemetry)] = np.frombuffer(telemetry, dtype=np.uint8)
        for name, picture in frame.images.items():
            np.copyto(images[name], picture)
        words[_SEQ] = 2 * head + 2
        self._words[_HEAD] = head + 1

    def end(self) -> None:
        """Say that no frame will follow."""
        self._words[_CLOSED] = 1

    def reader(self, index: int) -> "RingReader":
        """Return reader `index`; it goes on where that reader stood before it ended or died.

        Raises:
            ReaderBusyError: a living process reads there.
        """
        owner = int(self.reader_words(index)[_PID])
        if owner != os.getpid() and _lives(owner):
            raise ReaderBusyError(f"process {owner} is reader {index} of ring {self.name} already")
        return RingReader(self, index)

    def unread_by(self, index: int) -> int:
        """Return how many frames reader `index` has not taken yet."""
        return self.head - int(self.reader_words(index)[_CURSOR])

    def is_full(self, index: int) -> bool:
        """Return whether the next write would take a frame away from reader `index`."""
        return self.unread_by(index) >= self._layout.slots

    def wait_for(self, index: int, timeout_s: float) -> bool:
        """Wait until the next write takes nothing away from reader `index`.

        For simulation and replay faster than real time, called outside the timed part of a tick;
        a driving car never calls it.

        Returns:
            False when the reader did not make room in `timeout_s`.
        """
        give_up = time.monotonic() + timeout_s
        while self.is_full(index):
            if time.monotonic() > give_up:
                return False
            time.sleep(0.0005)
        return True

    def leave_note(self, index: int, text: bytes) -> None:
        """Leave a note (health) for the other processes, as reader `index`; cut to NOTE_BYTES."""
        data = text[:NOTE_BYTES].ljust(NOTE_BYTES, b"\0")
        words = self.reader_words(index)
        words[_NOTE_SEQ] |= 1  # odd already where its writer was killed at it
        words[_NOTE_LEN] = min(len(text), NOTE_BYTES)
        words[8:] = np.frombuffer(data, dtype=np.int64)
        words[_NOTE_SEQ] += 1

    def note_of(self, index: int, tries: int = 100) -> bytes:
        """Return the last note reader `index` left (its health), or b"" without a whole one.

        Args:
            tries: a tenth of a millisecond apart; 1 never waits.
        """
        words = self.reader_words(index)
        for left in range(tries, 0, -1):
            before = int(words[_NOTE_SEQ])
            note = words[8:].tobytes()[: int(words[_NOTE_LEN])]
            if before % 2 == 0 and int(words[_NOTE_SEQ]) == before:
                return note
            if left > 1:
                time.sleep(0.0001)
        return b""

    def lost_by(self, index: int) -> int:
        """Return how many frames reader `index` came too late for."""
        return int(self.reader_words(index)[_LOST])

    def is_alive(self, index: int) -> bool:
        """Return whether reader `index` has announced itself and its process is there."""
        return _lives(int(self.reader_words(index)[_PID]))

    def close(self) -> None:
        """Let go of the memory; the owner removes it. Safe to call twice, and after a crash of
        the owner the resource tracker of multiprocessing removes it."""
        self._slots = []
        self._words = np.zeros(self._layout.first_slot // 8, dtype=np.int64)
        self._memory.close()
        if self._owner:
            self._owner = False
            self._memory.unlink()

    def reader_words(self, index: int) -> np.ndarray:
        """Return the cells of one reader: only its own process writes them."""
        require(0 <= index < READERS, f"reader {index}, expected 0..{READERS - 1}")
        start = HEADER_WORDS + index * READER_WORDS
        return self._words[start : start + READER_WORDS]

    def take(self, number: int) -> Slot | None:
        """Return frame `number` (counted from 0), or None when the writer has come round."""
        words, text, images = self._slots[number % self._layout.slots]
        wanted = 2 * number + 2
        if int(words[_SEQ]) != wanted:
            return None
        _, frame_id, mono_ns, utc_ns, present, length, flag, _ = words.tolist()
        telemetry = text[: max(0, min(length, self._layout.telemetry_bytes))].tobytes()
        pictures = {n: p.copy() for i, (n, p) in enumerate(images.items()) if present >> i & 1}
        if int(words[_SEQ]) != wanted:
            return None
        return Slot(
            frame_id=frame_id,
            mono_ns=mono_ns,
            utc_ns=utc_ns,
            flagged=bool(flag),
            telemetry=telemetry,
            images=pictures,
        )

    def _present(self, frame: FrameSet) -> int:
        """Return a bit per camera that has a picture, after checking that all of them fit."""
        shapes = self._shapes if frame.images else {}
        for name, picture in frame.images.items():
            wanted = shapes.get(name)
            if picture.shape != wanted or picture.dtype != np.uint8:
                raise FrameShapeError(
                    f"camera {name!r} gave {picture.dtype} {picture.shape}, the ring takes uint8 "
                    f"{wanted or sorted(shapes)}"
                )
        return sum(1 << i for i, name in enumerate(shapes) if name in frame.images)

    def _views(self, start: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Return the words, the telemetry bytes and the pictures of the slot at `start`."""
        buffer, at = self._buffer, start + SLOT_WORDS * 8
        words = np.frombuffer(buffer[start:at], dtype=np.int64)
        text = np.frombuffer(buffer[at : at + self._layout.telemetry_bytes], dtype=np.uint8)
        at += self._layout.telemetry_bytes
        images = {}
        for name, shape in self._layout.shapes.items():
            count = shape[0] * shape[1] * shape[2]
            images[name] = np.frombuffer(buffer[at : at + count], dtype=np.uint8).reshape(shape)
            at += count
        return words, text, images


class RingReader:
    """One reader's place in the ring."""

    def __init__(self, ring: Ring, index: int) -> None:
        self._ring = ring
        self._index = index
        self._words[_PID] = os.getpid()

    @property
    def _words(self) -> np.ndarray:
        return self._ring.reader_words(self._index)

    @property
    def lost(self) -> int:
        """Return how many frames came round before this reader took them."""
        return int(self._words[_LOST])

    @property
    def behind(self) -> int:
        """Return how many frames wait."""
        return self._ring.head - int(self._words[_CURSOR])

    def rewind(self) -> None:
        """Go back to the oldest frame the ring holds: who starts anew has kept nothing of them.

        Frames that came round while nobody read here are counted as lost.
        """
        oldest = max(0, self._ring.head - self._ring.slots + 1)
        self._words[_LOST] += max(0, oldest - int(self._words[_CURSOR]))
        self._words[_CURSOR] = oldest

    def newest(self) -> tuple[Slot | None, int]:
        """Return the newest frame if it was not taken yet, and how many were passed over for it.

        For who looks at frames in spare time; what is passed over here is not lost.
        """
        words, head = self._words, self._ring.head
        waiting = head - int(words[_CURSOR])
        if waiting <= 0:
            return None, 0
        words[_CURSOR] = head
        slot = self._ring.take(head - 1)
        return slot, waiting - (slot is not None)

    def next(self) -> Slot | None:
        """Return the next frame, or None when there is none yet; overrun frames are counted."""
        words = self._words
        cursor = int(words[_CURSOR])
        while cursor < (head := self._ring.head):
            # The slot after the newest may be in the writer's hands already.
            oldest = max(cursor, head - self._ring.slots)
            words[_LOST] += oldest - cursor
            cursor = oldest
            slot = self._ring.take(cursor)
            cursor += 1
            words[_CURSOR] = cursor
            if slot is not None:
                return slot
            words[_LOST] += 1
        return None


def _lives(pid: int) -> bool:
    """Return whether there is such a process."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
