"""Where clips arrive: pieces by content hash, then whole clips, each with its manifest last.

The one file of the fleet that writes what cars send. A clip that is in the landing zone is whole:
its folder appears by one rename, after every byte and the manifest in it have reached the disk.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fleet.registry import check_car_id
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError

SHA256: Final = re.compile(r"[0-9a-f]{64}")
MANIFEST: Final = "manifest.json"


class ContentNameError(RefusedError):
    """A name that should be a sha256 is something else."""


class UploadOffsetError(RefusedError):
    """A piece does not begin where the bytes received so far end."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class UploadTooLargeError(RefusedError):
    """More bytes than the door takes."""


class DigestMismatchError(RefusedError):
    """The bytes received are not the ones their name promises."""


class IncompleteClipError(RefusedError):
    """A manifest names files that are not there; `reasons` lists all of them."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class ForeignClipError(RefusedError):
    """A car offers a clip that belongs to another car."""


def check_sha256(name: str) -> str:
    """Return `name` when it is a lower-case sha256; raise ContentNameError otherwise."""
    if not SHA256.fullmatch(name):
        raise ContentNameError(f"{name[:80]!r} is not a sha256: expected 64 hex digits, lower case")
    return name


class Uploads:
    """What one car has sent so far: `<sha256>.part` grows, `<sha256>` is whole and checked."""

    def __init__(self, home: Home, car_id: str) -> None:
        self._folder = home.fleet / "uploads" / check_car_id(car_id)

    def offset(self, sha256: str) -> int:
        """Return how many bytes of this content are here."""
        whole = self.whole(sha256)
        path = whole or self._part(sha256)
        return path.stat().st_size if path.exists() else 0

    def whole(self, sha256: str) -> Path | None:
        """Return the file with this content when all of it is here and checked, else None."""
        path = self._folder / check_sha256(sha256)
        return path if path.is_file() else None

    def pending_bytes(self) -> int:
        """Return the bytes of this car that no manifest has claimed yet."""
        if not self._folder.is_dir():
            return 0
        return sum(p.stat().st_size for p in self._folder.iterdir() if p.is_file())

    def append(self, sha256: str, offset: int, length: int, data: bytes) -> int:
        """Add the next piece and return how many bytes are here; the last piece is checked.

        Args:
            sha256: name of the whole content.
            offset: where this piece begins, bytes.
            length: of the whole content, bytes.
        Raises:
            UploadOffsetError: pieces so far end elsewhere; carries where.
            UploadTooLargeError: the piece reaches past `length`.
            DigestMismatchError: all bytes are here and are not that content; they are discarded.
        """
        if self.whole(sha256):
            return self.offset(sha256)
        here = self.offset(sha256)
        if offset != here:
            raise UploadOffsetError(
                f"piece of {sha256[:12]} begins at byte {offset}, expected {here}",
                here,
            )
        if here + len(data) > length:
            self._part(sha256).unlink(missing_ok=True)
            raise UploadTooLargeError(
                f"{sha256[:12]} would have {here + len(data)} bytes, expected {length}; "
                "what was received is discarded, begin again at 0"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._part(sha256).open("ab") as file:
            file.write(data)
            if here + len(data) == length:
                file.flush()
                os.fsync(file.fileno())
        if here + len(data) == length:
            self._check(sha256)
        return here + len(data)

    def discard(self, sha256s: list[str]) -> None:
        """Forget whole contents that a landed clip now holds."""
        for sha256 in sha256s:
            (self._folder / check_sha256(sha256)).unlink(missing_ok=True)

    def _check(self, sha256: str) -> None:
        part = self._part(sha256)
        found = wire.digest_file(part)
        if found != sha256:
            part.unlink()
            raise DigestMismatchError(
                f"content is {found}, expected {sha256}; what was received is discarded, "
                "send it again from 0"
            )
        part.replace(self._folder / sha256)
        wire.sync_folder(self._folder)

    def _part(self, sha256: str) -> Path:
        return self._folder / f"{check_sha256(sha256)}.part"


class Landing:
    """The landing zone: `<clip_id>/` with the clip's files and manifest.json, or nothing."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._folder = home.landing

    def has(self, clip_id: str) -> bool:
        """Return whether the clip has landed."""
        return (self._folder / check_sha256(clip_id) / MANIFEST).is_file()

    def manifest(self, clip_id: str) -> ClipManifest:
        """Return the manifest of a landed clip."""
        raw = (self._folder / check_sha256(clip_id) / MANIFEST).read_bytes()
        return wire.from_bytes(ClipManifest, raw, strict=False)

    def commit(self, car_id: str, manifest: ClipManifest) -> bool:
        """Make a clip exist from the pieces its car has sent.

        Args:
            car_id: the car that proved itself at the door.
            manifest: what it says the clip is.
        Returns:
            False when the clip had landed before: nothing is written then.
        Raises:
            ForeignClipError: the manifest, or the clip already here, is another car's.
            IncompleteClipError: files are missing or of another size; all are named.
        """
        if manifest.car_id != car_id:
            raise ForeignClipError(f"manifest is of car {manifest.car_id!r}, sent by {car_id!r}")
        if self.has(manifest.clip_id):
            owner = self.manifest(manifest.clip_id).car_id
            if owner != car_id:
                raise ForeignClipError(f"clip {manifest.clip_id[:12]} landed from another car")
            return False
        uploads = Uploads(self._home, car_id)
        pieces = _pieces(manifest, uploads)
        self._build(manifest, pieces)
        uploads.discard([entry.sha256 for entry in manifest.files])
        return True

    def clips(self) -> Iterator[tuple[Path, ClipManifest]]:
        """Yield the folder and manifest of every landed clip, by clip id."""
        if not self._folder.is_dir():
            return
        for folder in sorted(self._folder.iterdir()):
            if SHA256.fullmatch(folder.name) and (folder / MANIFEST).is_file():
                yield folder, self.manifest(folder.name)

    def sweep(self) -> int:
        """Remove what a killed gateway left half-done; return how many. No clip is touched."""
        leftovers = list(self._folder.glob(".tmp-*"))
        for folder in leftovers:
            shutil.rmtree(folder, ignore_errors=True)
        # A second hard link means that a landed clip holds the content already.
        pieces = (self._home.fleet / "uploads").glob("*/" + "[0-9a-f]" * 64)
        claimed = [p for p in pieces if p.stat().st_nlink > 1]
        for piece in claimed:
            piece.unlink()
        return len(leftovers) + len(claimed)

    def _build(self, manifest: ClipManifest, pieces: Mapping[str, Path]) -> None:
        temp = self._folder / f".tmp-{manifest.clip_id}-{os.getpid()}"
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir(parents=True)
        try:
            for name, path in pieces.items():
                os.link(path, temp / name)
            wire.atomic_write(temp / MANIFEST, wire.to_bytes(manifest))
            temp.rename(self._folder / manifest.clip_id)
        except BaseException:
            shutil.rmtree(temp, ignore_errors=True)
            raise
        wire.sync_folder(self._folder)


def _pieces(manifest: ClipManifest, uploads: Uploads) -> dict[str, Path]:
    """Return file name -> received content; raise IncompleteClipError with every reason."""
    reasons: list[str] = []
    pieces: dict[str, Path] = {}
    for entry in manifest.files:
        path = uploads.whole(entry.sha256)
        if entry.name == MANIFEST or entry.name in pieces:
            reasons.append(f"{entry.name}: the name is taken")
        elif path is None:
            here = uploads.offset(entry.sha256)
            reasons.append(f"{entry.name}: {here} of {entry.size_bytes} bytes are here")
        elif path.stat().st_size != entry.size_bytes:
            reasons.append(
                f"{entry.name}: {path.stat().st_size} bytes, manifest says {entry.size_bytes}"
            )
        else:
            pieces[entry.name] = path
    if reasons:
        raise IncompleteClipError(reasons)
    return pieces
