"""The two checksums of bundles: CRC-16/X.25 and CRC-32C, as the bytes that travel.

Source: RFC 9171 section 4.2.1; ITU-T X.25 (reflected 0x1021, start and end 0xffff); RFC 9260
appendix A (Castagnoli).
"""

import binascii
from enum import IntEnum
from typing import Final

import google_crc32c

_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class CrcKind(IntEnum):
    """Which checksum a block carries, by its number in RFC 9171."""

    NONE = 0
    X25 = 1
    CASTAGNOLI = 2

    @property
    def size_bytes(self) -> int:
        """Return the length of the field."""
        return (0, 2, 4)[self]


def checksum(kind: CrcKind, data: bytes) -> bytes:
    """Return the checksum of `data` in network order; b"" of kind NONE."""
    if kind is CrcKind.CASTAGNOLI:
        return int(google_crc32c.value(data)).to_bytes(4)
    return _x25(data).to_bytes(2) if kind is CrcKind.X25 else b""


def _x25(data: bytes) -> int:
    """Return CRC-16/X.25 by the library's unreflected CCITT: each byte, and the sum, reversed."""
    swapped = binascii.crc_hqx(data.translate(_REVERSED), 0xFFFF).to_bytes(2)
    return int.from_bytes(swapped.translate(_REVERSED), "little") ^ 0xFFFF
