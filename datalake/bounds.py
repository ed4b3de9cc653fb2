"""What a clip may cost to open, told from its record headers before anything is unpacked.

A few kilobytes of zstd can name gigabytes. The headers of an MCAP file say how long each chunk is
unpacked, and the reader never unpacks more than its header says; so adding those up, without
reading the chunks, bounds the memory that opening the file can take.
"""

import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import zstandard

from datalake.landed import BadClipError

MAX_FILE_BYTES: Final = 4 << 30
MAX_CHUNK_BYTES: Final = 64 << 20
"""Ours are 0.5 MB; one 8-camera tick of keyframes is under 4."""

MAX_GAIN_BYTES: Final = 1 << 30
"""Unpacked minus packed: telemetry is small and video hardly packs."""

MAX_GAIN_RATIO: Final = 100
FREE_BYTES: Final = 64 << 20
"""Up to here nobody asks for the ratio: an empty road packs well."""

_MAGIC: Final = b"\x89MCAP0\r\n"
_CHUNK: Final = 0x06
_FOOTER: Final = 0x02
_HEAD: Final = struct.Struct("<BQ")
_CHUNK_HEAD: Final = struct.Struct("<QQQII")
_PACKINGS: Final = (b"", b"zstd")


class OversizedClipError(BadClipError):
    """A clip is, or would unpack to, more than a clip can be."""


class ForeignPackingError(BadClipError):
    """A chunk is packed in a way that no clip of ours is."""


def require_bounded(path: Path) -> None:
    """Refuse a clip that is too large, or would be once unpacked; reads headers only.

    A file that ends early or holds nonsense passes: the reader names that better.

    Args:
        path: an MCAP file.
    Raises:
        OversizedClipError, ForeignPackingError: naming the chunk and the limit.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise OversizedClipError(f"the file has {size} bytes, expected at most {MAX_FILE_BYTES}")
    most = max(FREE_BYTES, min(size * MAX_GAIN_RATIO, size + MAX_GAIN_BYTES))
    total, at = 0, len(_MAGIC)
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return
        while at + _HEAD.size <= size:
            file.seek(at)
            opcode, length = _HEAD.unpack(file.read(_HEAD.size))
            if opcode == _CHUNK:
                total += _unpacked(file, at)
            elif length > MAX_CHUNK_BYTES:
                raise OversizedClipError(f"the record at byte {at} claims {length} bytes")
            if total > most:
                raise OversizedClipError(
                    f"{size} bytes unpack to more than {total} by byte {at}, "
                    f"expected at most {most}"
                )
            if opcode == _FOOTER:
                return
            at += _HEAD.size + length


def _unpacked(file: BinaryIO, at: int) -> int:
    """Return how long the chunk at a byte says it is unpacked; `file` stands at its body."""
    head = file.read(_CHUNK_HEAD.size)
    if len(head) < _CHUNK_HEAD.size:
        return 0
    _, _, unpacked, _, name_bytes = _CHUNK_HEAD.unpack(head)
    packing = file.read(min(name_bytes, 8))
    if packing not in _PACKINGS:
        raise ForeignPackingError(f"the chunk at byte {at} is packed as {packing!r}, expected zstd")
    file.read(8)  # length of what follows
    if packing:
        with suppress(zstandard.ZstdError):  # the reader names the damage
            unpacked = max(unpacked, zstandard.frame_content_size(file.read(18)))
    if unpacked > MAX_CHUNK_BYTES:
        raise OversizedClipError(
            f"the chunk at byte {at} claims {unpacked} bytes, expected at most {MAX_CHUNK_BYTES}"
        )
    return int(unpacked)
