"""Messages of an MCAP file in file order, with every kind of damage named.

The library's indexed reader refuses a cut file outright; this one reads from the front, checks
each chunk's CRC, and can hand out what is whole before the damage, down to the message inside a
half-written chunk.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import zstandard
from mcap.exceptions import EndOfFile, McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, McapRecord, Message, Metadata
from mcap.stream_reader import StreamReader, breakup_chunk

from vehicle.contracts.wire import RefusedError

MAGIC: Final = b"\x89MCAP0\r\n"
CHUNK_BYTES: Final = 512 * 1024
"""Uncompressed size at which a chunk is closed: a random frame costs 3 ms, at 4 MiB 11."""

LIMIT_BYTES: Final = 256 * 1024 * 1024
"""A longer record or chunk is damage or an attack, not a log."""

_DAMAGE: Final = (
    McapError,
    zstandard.ZstdError,
    struct.error,
    ValueError,
    KeyError,
    EOFError,
    MemoryError,
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


class McapRecords:
    """One pass over an MCAP file: metadata, channels and messages in the order of writing."""

    def __init__(self, file: BinaryIO, *, recover: bool = False) -> None:
        """Take an open file; `recover` ends quietly at damage and leaves it in `damage`."""
        self._file = file
        self._recover = recover
        self.damage: str | None = None
        self.messages = 0
        """Whole messages handed out so far."""
        self.channels: dict[int, Channel] = {}

    def __iter__(self) -> Iterator[tuple[str, Message] | Metadata]:
        """Yield (topic, message) pairs and metadata records.

        Raises:
            RouteCorruptError: damage, unless recovering; says how many messages are whole.
        """
        records = StreamReader(
            self._file, emit_chunks=True, validate_crcs=False, record_size_limit=LIMIT_BYTES
        ).records
        while True:
            start = self._file.tell()
            try:
                record = next(records, None)
                inner = _inside(record) if isinstance(record, Chunk) else [record]
            except _DAMAGE as error:
                self.damage = _reason(error, start)
                inner = _rescue(self._file, start) if self._recover else []
                record = None
            for item in inner:
                if isinstance(item, Channel):
                    self.channels[item.id] = item
                elif isinstance(item, Message) and item.channel_id in self.channels:
                    self.messages += 1
                    yield self.channels[item.channel_id].topic, item
                elif isinstance(item, Metadata):
                    yield item
            if record is None:
                break
        if self.damage and not self._recover:
            raise RouteCorruptError(self.damage)


def _reason(error: Exception, start: int) -> str:
    if isinstance(error, EndOfFile | EOFError | struct.error):
        return f"cut off in the record that begins at byte {start}"
    return f"damaged at byte {start}: {str(error) or type(error).__name__}"


def _inside(chunk: Chunk) -> list[McapRecord]:
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
        _, _, size, _, name_len = struct.unpack_from("<QQQII", body)
        if body[32 : 32 + name_len] != b"zstd" or size > LIMIT_BYTES:
            return []
        packed = io.BytesIO(body[32 + name_len + 8 :])
        whole = _whole(zstandard.ZstdDecompressor().stream_reader(packed), size)
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


def _whole(stream: zstandard.ZstdDecompressionReader, size: int) -> bytes:
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
    return bytes(data[:end])
