"""One file to home, part by part: only what is missing there, until home says that it is whole."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from vehicle.contracts.clip import FileEntry
from vehicle.contracts.uplink import Part, PartDigest, Upload, UploadAsk, UploadParts, cut
from vehicle.contracts.wire import RefusedError
from vehicle.gateway_link import ClipRefusedError, GatewayDownError, GatewayLink
from vehicle.outbox import ClipGoneError
from vehicle.uplink_answers import Verdict

ROUNDS: Final = 16
"""Times home is asked anew for the parts of one file without one of them getting there."""

Arrived = Callable[[int, int], None]


class ClipDamagedError(RefusedError):
    """A clip in the outbox is not what its manifest says."""


class FileSender:
    """Sends files over one link.

    Args:
        part_bytes: of the parts that home takes; home's answer corrects it.
    """

    def __init__(self, home: GatewayLink, part_bytes: int) -> None:
        self._home, self.part_bytes = home, part_bytes

    def send(self, path: Path, entry: FileEntry, arrived: Arrived) -> None:
        """Send what home does not have yet; return when home has checked the whole.

        The file is held open: a clip that is evicted from here on still gets home. An address that
        is too old, or a part that was spoilt on the way, costs one more question.

        Args:
            arrived: called after each part with its size and with all that home has now, bytes.
        Raises:
            ClipGoneError: the clip was evicted.
            ClipDamagedError: the file is not what the manifest says.
            ClipRefusedError: home asks again and again and takes nothing.
            GatewayDownError, UnauthorisedError, UnknownHomeError: see `GatewayLink`.
        """
        with _opened(path) as file:
            parts = _digests(file, path, entry, self.part_bytes)
            fruitless, trouble = 0, ""
            while fruitless < ROUNDS:
                upload = self._home.ask(
                    entry.sha256,
                    UploadAsk(
                        size_bytes=entry.size_bytes, part_bytes=self.part_bytes, parts=tuple(parts)
                    ),
                )
                if upload.complete:
                    return
                if upload.part_bytes != self.part_bytes:
                    self.part_bytes, trouble = upload.part_bytes, "home changes the size of parts"
                    parts, fruitless = _digests(file, path, entry, self.part_bytes), fruitless + 1
                    continue
                missing = _missing(upload, entry)
                count, trouble = self._put(file, missing, parts, entry, arrived)
                fruitless = 0 if count else fruitless + 1
                if not trouble:
                    verdict = self._home.complete(entry.sha256, _named(parts))
                    if verdict is Verdict.DONE:
                        return
                    trouble, fruitless = "home does not find the whole in its parts", fruitless + 1
        raise ClipRefusedError(f"{entry.name} does not get there: {trouble}")

    def _put(
        self,
        file: BinaryIO,
        missing: list[Part],
        parts: list[str],
        entry: FileEntry,
        arrived: Arrived,
    ) -> tuple[int, str]:
        """Put parts until all are there or an address is good no more; return how many, and why."""
        here = entry.size_bytes - sum(part.size_bytes for part in missing)
        for count, part in enumerate(missing):
            file.seek(part.offset)
            data = file.read(part.size_bytes)
            trouble = self._home.put(part.url, data, parts[part.number - 1])
            if trouble:
                return count, trouble
            here += len(data)
            arrived(len(data), here)
        return len(missing), ""


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        if not path.parent.exists():
            raise ClipGoneError(path.parent.name) from error
        raise ClipDamagedError(f"{path} is missing, its manifest names it") from error


def _digests(file: BinaryIO, path: Path, entry: FileEntry, part_bytes: int) -> list[str]:
    """Return the sha256 of every part; the whole must be what the manifest names.

    Before a byte goes: a link is dearer than a disk.
    """
    whole, parts, size = hashlib.sha256(), [], 0
    file.seek(0)
    for _, _, length in cut(entry.size_bytes, part_bytes):
        data = file.read(length)
        size += len(data)
        whole.update(data)
        parts.append(hashlib.sha256(data).hexdigest())
    if size != entry.size_bytes or file.read(1):
        found = path.stat().st_size
        raise ClipDamagedError(f"{path}: {found} bytes, its manifest says {entry.size_bytes}")
    if whole.hexdigest() != entry.sha256:
        raise ClipDamagedError(f"{path}: its content is not what its manifest says")
    return parts


def _missing(upload: Upload, entry: FileEntry) -> list[Part]:
    """Return the parts home does not have, after checking that they are parts of this file."""
    found = [(part.number, part.offset, part.size_bytes) for part in upload.parts]
    if found != list(cut(entry.size_bytes, upload.part_bytes)):
        raise GatewayDownError(f"home asks for {len(found)} parts that {entry.name} does not have")
    return [part for part in upload.parts if not part.have]


def _named(parts: list[str]) -> UploadParts:
    return UploadParts(
        parts=tuple(PartDigest(number=i + 1, sha256=sha256) for i, sha256 in enumerate(parts))
    )
