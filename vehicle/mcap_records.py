"""Messages of an MCAP file in file order, with every kind of damage named.

The library's indexed reader refuses a cut file outright; this one reads from the front, checks each
chunk's CRC, that of all data and the count of messages, and can hand out what is whole before and
behind the damage, down to the message inside a half-written chunk.
"""

import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import zstandard
from mcap.exceptions import EndOfFile, McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, McapRecord, Message, Metadata, Statistics
from mcap.stream_reader import StreamReader, breakup_chunk

from vehicle.contracts.wire import RefusedError

MAGIC: Final = b"\x89MCAP0\r\n"
CHUNK_BYTES: Final = 512 * 1024
"""Uncompressed size at which a chunk is closed: a random frame costs 3 ms, at 4 MiB 11."""

LIMIT_BYTES: Final = 256 * 1024 * 1024
"""A longer record or chunk is damage or an attack, not a log."""

MOST_GAPS: Final = 1000
"""A file with more is noise."""

_OPCODES: Final = frozenset(int(code) for code in Opcode)
_ZSTD: Final = b"\x04\x00\x00\x00zstd"
_ZSTD_AT: Final = 1 + 8 + 8 + 8 + 8 + 4
"""Bytes of a chunk record before the name of its compression."""

_DAMAGE: Final = (
    McapError,
    zstandard.ZstdError,
    struct.error,
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
    OverflowError,
)


class RouteMissingError(RefusedError, FileNotFoundError):
    """There is no route file at this path."""


class RouteCorruptError(RefusedError, ValueError):
    """The file is empty, not a route, cut off or damaged."""


def open_mcap(path: Path) -> BinaryIO:
    """Return `path` opened behind its magic check.

    Raises:
        RouteMissingError: no such file.
        RouteCorruptError: empty, a folder, or not MCAP.
    """
    if path.is_dir():
        raise RouteCorruptError(f"{path} is a folder; expected a route file (*.mcap)")
    if not path.is_file():
        raise RouteMissingError(f"{path} does not exist; expected a route file (*.mcap)")
    file = path.open("rb")
    head = file.read(len(MAGIC))
    if head != MAGIC:
        file.close()
        if not head:
            raise RouteCorruptError(f"{path} is empty; record or import the route again")
        raise RouteCorruptError(
            f"{path} is not a route file: it begins with {head!r}, expected MCAP magic {MAGIC!r}"
        )
    file.seek(0)
    return file


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch of the file that does not read.

    Args:
        at_byte: where the record begins that is damaged.
        size_bytes: up to the next record that reads, or to the end of the file.
        reason: in words, with the place.
    """

    at_byte: int
    size_bytes: int
    reason: str


class McapRecords:
    """One pass over an MCAP file: metadata, channels and messages in the order of writing."""

    def __init__(self, file: BinaryIO, *, recover: bool = False) -> None:
        """Take an open file; `recover` goes on behind damage and hands it out as a Gap."""
        self._file = file
        self.recover = recover
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.gaps: list[Gap] = []
        self.messages = 0
        """Whole messages handed out so far."""
        self.counts: Counter[int] = Counter()
        """The same by channel."""
        self.channels: dict[int, Channel] = {}
        self.statistics: Statistics | None = None
        """What the end of the file says was written; None where it has no end."""

    def __iter__(self) -> Iterator[tuple[str, Message] | Metadata | Gap]:
        """Yield (topic, message) pairs, metadata records and, when recovering, gaps.

        Raises:
            RouteCorruptError: damage, unless recovering; says where and what.
        """
        start, records = 0, self._records()
        while True:
            try:
                self._refuse_unknown(start)
                record = next(records, None)
                inner = _inside(record) if isinstance(record, Chunk) else [record]
            except _DAMAGE as error:
                resume = self._resume(start)
                gap = self._gap(start, resume, error)
                if not self.recover:
                    raise RouteCorruptError(gap.reason) from error
                if resume is None:
                    yield from self._hand_out(_rescue(self._file, start))
                yield gap
                if resume is None or len(self.gaps) >= MOST_GAPS:
                    return
                if len(self.gaps) == 1:
                    self._learn_channels()
                self._file.seek(resume)
                start, records = resume, self._records(skip_magic=True)
                continue
            yield from self._hand_out(inner)
            if record is None:
                break
            start = self._file.tell()
        lost = self.statistics.message_count - self.messages if self.statistics else 0
        if lost > 0 and not self.gaps and not self.recover:
            raise RouteCorruptError(f"damaged: {lost} of its messages cannot be found")

    @property
    def at_byte(self) -> int:
        """Return how far the file is read."""
        return self._file.tell()

    def lost(self) -> dict[str, int]:
        """Return topic -> messages that were written and not found; {} where the end of the file,
        which counts them, is missing too."""
        written = self.statistics.channel_message_counts if self.statistics else {}
        missing: Counter[str] = Counter()
        for channel_id, count in written.items():
            topic = self.channels[channel_id].topic if channel_id in self.channels else "unknown"
            missing[topic] += count - self.counts[channel_id]
        return {topic: count for topic, count in sorted(missing.items()) if count > 0}

    def _records(self, *, skip_magic: bool = False) -> Iterator[McapRecord]:
        return StreamReader(
            self._file,
            skip_magic=skip_magic,
            emit_chunks=True,
            validate_crcs=True,
            record_size_limit=LIMIT_BYTES,
        ).records

    def _hand_out(
        self, items: Iterable[McapRecord | None]
    ) -> Iterator[tuple[str, Message] | Metadata]:
        for item in items:
            if isinstance(item, Channel):
                self.channels[item.id] = item
            elif isinstance(item, Message) and item.channel_id in self.channels:
                self.messages += 1
                self.counts[item.channel_id] += 1
                yield self.channels[item.channel_id].topic, item
            elif isinstance(item, Metadata):
                yield item
            elif isinstance(item, Statistics):
                self.statistics = item

    def _refuse_unknown(self, start: int) -> None:
        """Raise McapError at a kind of record that MCAP keeps for itself and does not have: the
        library passes over it, and a chunk whose first byte was changed would be gone unseen."""
        code = self._file.read(1)
        self._file.seek(start)
        if start and code and code[0] not in _OPCODES and code[0] < 0x80:
            raise McapError(f"there is no record of kind {code[0]}")

    def _gap(self, start: int, resume: int | None, error: Exception) -> Gap:
        cut = resume is None and isinstance(error, EndOfFile | EOFError | struct.error)
        reason = (
            f"cut off in the record that begins at byte {start}"
            if cut
            else f"damaged at byte {start}: {str(error) or type(error).__name__}"
        )
        end = self._size if resume is None else resume
        gap = Gap(at_byte=start, size_bytes=max(0, end - start), reason=reason)
        self.gaps.append(gap)
        return gap

    def _resume(self, start: int) -> int | None:
        """Return where reading goes on behind a damaged record, None at a cut end."""
        start = max(start, len(MAGIC))
        after = self._next(start)
        if after is not None and self._next(after) is not None:
            return after
        return self._find_chunk(start + 1)

    def _next(self, at: int) -> int | None:
        """Return where the record at `at` ends, None when nothing there looks like one."""
        self._file.seek(at)
        head = self._file.read(9)
        end = at + 9 + int.from_bytes(head[1:], "little")
        if len(head) == 9 and head[0] in _OPCODES and end <= self._size - len(MAGIC):
            return end
        return None

    def _find_chunk(self, at: int) -> int | None:
        """Return where the next chunk seems to begin, from its compression's name on."""
        self._file.seek(at)
        base, data = at, b""
        while block := self._file.read(1 << 20):
            data += block
            found = data.find(_ZSTD)
            while found >= 0:
                begin = base + found - _ZSTD_AT
                self._file.seek(begin)
                is_chunk = begin >= at and self._file.read(1) == bytes([Opcode.CHUNK])
                if is_chunk and self._next(begin) is not None:
                    return begin
                found = data.find(_ZSTD, found + 1)
            self._file.seek(base + len(data))
            base, data = base + max(0, len(data) - 64), data[-64:]
        return None

    def _learn_channels(self) -> None:
        """Take the channels from the end of the file: those of a damaged chunk are lost here."""
        self._file.seek(max(0, self._size - 8 - 8 - 20 - 1))
        tail = self._file.read(29)
        if len(tail) < 29 or tail[0] != Opcode.FOOTER:
            return
        at = int.from_bytes(tail[9:17], "little")
        if not 0 < at < self._size:
            return
        self._file.seek(at)
        try:
            for record in self._records(skip_magic=True):
                if isinstance(record, Channel):
                    self.channels.setdefault(record.id, record)
        except _DAMAGE:
            return


def _inside(chunk: Chunk) -> list[McapRecord]:
    if chunk.compression not in ("", "zstd"):  # lz4 is unpacked by the library without a bound
        raise McapError(f"a chunk is packed as {chunk.compression!r}, expected 'zstd'")
    size = chunk.uncompressed_size
    if chunk.compression == "zstd":
        size = max(size, zstandard.frame_content_size(chunk.data))
    if size > LIMIT_BYTES:
        raise McapError(f"a chunk claims {size} bytes, over {LIMIT_BYTES}")
    return breakup_chunk(chunk, validate_crc=True)


def _rescue(file: BinaryIO, start: int) -> list[McapRecord]:
    """Return the whole records of a chunk that the end of the file cuts."""
    file.seek(start)
    head = file.read(9)
    if len(head) < 9 or head[0] != Opcode.CHUNK:
        return []
    body = file.read(min(int.from_bytes(head[1:], "little"), LIMIT_BYTES))
    try:
        _, _, size, crc, name_len = struct.unpack_from("<QQQII", body)
        if body[32 : 32 + name_len] != b"zstd" or size > LIMIT_BYTES:
            return []
        packed = io.BytesIO(body[32 + name_len + 8 :])
        whole, complete = _whole(zstandard.ZstdDecompressor().stream_reader(packed), size)
        if complete and crc and zlib.crc32(whole) != crc:
            return []  # not cut but changed: nothing says which of its messages are right
        return breakup_chunk(
            Chunk(
                compression="",
                data=whole,
                message_start_time=0,
                message_end_time=0,
                uncompressed_crc=0,
                uncompressed_size=len(whole),
            )
        )
    except _DAMAGE:
        return []


def _whole(stream: zstandard.ZstdDecompressionReader, size: int) -> tuple[bytes, bool]:
    """Return the whole records that can be unpacked, and whether that is all of the chunk."""
    data = bytearray()
    try:
        while len(data) < size and (piece := stream.read(65536)):
            data += piece
    except zstandard.ZstdError:
        pass  # what came before the damage is wanted
    end = 0
    while end + 9 <= len(data):
        next_end = end + 9 + int.from_bytes(data[end + 1 : end + 9], "little")
        if next_end > len(data):
            break
        end = next_end
    return bytes(data[:end]), len(data) == size
