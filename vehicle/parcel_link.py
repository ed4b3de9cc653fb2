"""A release without a gateway: the signed repository came in one tar, by orbit or on a stick.

The installer reads it as it reads a gateway. Who carried it is not asked: what is installed is
believed because it is signed, and metadata that is too old is refused as from anyone.
"""

from collections.abc import Generator, Mapping
from typing import Final

from tuf.api.exceptions import DownloadHTTPError

from vehicle import bundles
from vehicle.contracts import parcel

PARCEL_URL: Final = "parcel"
"""Stands where a gateway's address stands."""

MAX_BYTES: Final = bundles.MAX_ARCHIVE_BYTES + (8 << 20)
PIECE_BYTES: Final = 1 << 16


class ParcelLink:
    """Reads what a gateway would serve out of a parcel.

    Args:
        contents: by path under `tuf/`: `metadata/...` and `targets/...`.
    """

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = contents

    @classmethod
    def of(cls, data: bytes) -> "ParcelLink":
        """Return the link into a parcel's bytes; raise ParcelError when they are none."""
        return cls(parcel.unpack(data, MAX_BYTES))

    def read(self, url: str, offset: int = 0) -> Generator[bytes, None, None]:
        """Yield the content that a gateway has at `url`; what is not in the parcel is "404"."""
        path = url.removeprefix(f"{PARCEL_URL}/tuf/")
        if path not in self._contents:
            raise DownloadHTTPError(f"the parcel has no {path}", 404)
        data = self._contents[path]
        for start in range(offset, len(data), PIECE_BYTES):
            yield data[start : start + PIECE_BYTES]
