"""Several named byte strings as one tar: what travels where there is no connection to ask over.

The same contents give the same bytes. Nothing in a parcel is ever a path on a disk.
"""

import io
import tarfile
from collections.abc import Mapping
from typing import Final

from vehicle.contracts.wire import RefusedError

MAX_MEMBERS: Final = 512
MAX_NAME: Final = 200


class ParcelError(RefusedError):
    """The bytes are no parcel: not a tar, cut, too large, or of other things than plain files."""


def pack(contents: Mapping[str, bytes]) -> bytes:
    """Return the parcel of named contents; '/' may stand in names, and means nothing.

    Raises:
        ParcelError: a name is empty, absolute, too long, or climbs.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(contents):
            _check_name(name)
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(contents[name]), 0o644
            tar.addfile(member, io.BytesIO(contents[name]))
    return buffer.getvalue()


def unpack(data: bytes, max_bytes: int) -> dict[str, bytes]:
    """Return the contents of a parcel by name.

    Raises:
        ParcelError: as named; nothing of it is used.
    """
    if len(data) > max_bytes:
        raise ParcelError(f"{len(data)} bytes, expected at most {max_bytes}")
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                _check_name(member.name)
                if not member.isreg() or member.issparse() or member.name in contents:
                    raise ParcelError(f"{member.name!a:.80} is no plain file, or there twice")
                if len(contents) >= MAX_MEMBERS:
                    raise ParcelError(f"over {MAX_MEMBERS} members")
                file = tar.extractfile(member)
                content = file.read(member.size) if file else b""
                if len(content) != member.size:
                    raise ParcelError(f"{member.name!a:.80} is cut")
                contents[member.name] = content
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise ParcelError(f"not a whole tar: {error}") from error
    return contents


def _check_name(name: str) -> None:
    parts = name.split("/")
    plain = name.isascii() and name.isprintable() and 0 < len(name) <= MAX_NAME
    if not plain or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise ParcelError(f"name {name!a:.80} of a member is not plain")
