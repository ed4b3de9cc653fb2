"""Where clips arrive on this disk: contents part by part, then whole clips, the manifest last.

A clip that is in the landing zone is whole:
its folder appears by one rename, after every byte and the manifest in it have reached the disk.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from fleet.registry import check_car_id
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import PartDigest
from vehicle.contracts.wire import RefusedError

SHA256: Final = re.compile(r"[0-9a-f]{64}")
MANIFEST: Final = "manifest.json"


class ContentNameError(RefusedError):
    """A name that should be a sha256 is something else."""


class PartsMissingError(RefusedError):
    """A content is said to be complete, and parts of it are not here."""


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
    """What one car has sent so far, by sha256 of the whole.

    `<sha256>.part` has the promised size and fills up part by part; `<sha256>.have` has a line for
    each part that is in it; `<sha256>` is whole and checked. Parts are not forced to the disk one
    by one: what a power loss takes is found missing when the whole is checked.
    """

    def __init__(self, home: Home, car_id: str) -> None:
        self._folder = home.fleet / "uploads" / check_car_id(car_id)

    def whole(self, sha256: str) -> Path | None:
        """Return the file with this content when all of it is here and checked, else None."""
        path = self._folder / check_sha256(sha256)
        return path if path.is_file() else None

    def begin(self, sha256: str, size_bytes: int) -> dict[int, str]:
        """Make room for a content; return the sha256 of each part that is here already."""
        part = self._part(sha256)
        if part.is_file() and part.stat().st_size == size_bytes:
            return self._have(sha256)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._list(sha256).unlink(missing_ok=True)
        with part.open("wb") as file:
            file.truncate(size_bytes)
        return {}

    def put(self, sha256: str, part: PartDigest, offset: int, data: bytes) -> None:
        """Put one part in its place.

        Args:
            part: which one, and the sha256 that `data` was found to have.
        Raises:
            PartsMissingError: nobody began this content, or it was discarded since.
        """
        if self.whole(sha256):
            return
        try:
            with self._part(sha256).open("r+b") as file:
                file.seek(offset)
                file.write(data)
        except FileNotFoundError:
            raise PartsMissingError(f"{sha256[:12]} is not begun here; ask for it again") from None
        with self._list(sha256).open("a") as file:
            file.write(f"{part.number} {len(data)} {part.sha256}\n")

    def complete(self, sha256: str, parts: Sequence[PartDigest]) -> None:
        """Take the parts for the whole, and check that it is.

        Raises:
            PartsMissingError: not all of `parts` are here.
            DigestMismatchError: all are, and the whole is not that content; it is discarded.
        """
        if self.whole(sha256):
            return
        have = self._have(sha256)
        missing = [part.number for part in parts if have.get(part.number) != part.sha256]
        if missing or not self._part(sha256).is_file():
            raise PartsMissingError(
                f"{sha256[:12]}: {len(missing) or 'all'} of {len(parts)} parts are not here, "
                f"the first is {missing[0] if missing else 1}; ask which and send them"
            )
        found = wire.digest_file(self._part(sha256))
        if found != sha256:
            self._drop(sha256)
            raise DigestMismatchError(
                f"content is {found}, expected {sha256}; what was received is discarded, "
                "send it again"
            )
        with self._part(sha256).open("rb") as file:
            os.fsync(file.fileno())
        self._part(sha256).replace(self._folder / sha256)
        self._list(sha256).unlink(missing_ok=True)
        wire.sync_folder(self._folder)

    def received(self, sha256: str) -> int:
        """Return how many bytes of this content are here."""
        whole = self.whole(sha256)
        if whole:
            return whole.stat().st_size
        return sum({number: size for number, size, _ in self._lines(sha256)}.values())

    def pending(self) -> dict[str, int]:
        """Return the promised size of each content that no manifest has claimed yet, bytes."""
        if not self._folder.is_dir():
            return {}
        files = (p for p in self._folder.iterdir() if p.is_file() and p.suffix != ".have")
        return {p.stem: p.stat().st_size for p in files}

    def discard(self, sha256s: Sequence[str]) -> None:
        """Forget whole contents that a landed clip now holds, and a list of parts that a kill
        left beside one."""
        for sha256 in sha256s:
            (self._folder / check_sha256(sha256)).unlink(missing_ok=True)
            self._list(sha256).unlink(missing_ok=True)

    def _drop(self, sha256: str) -> None:
        self._part(sha256).unlink(missing_ok=True)
        self._list(sha256).unlink(missing_ok=True)

    def _have(self, sha256: str) -> dict[int, str]:
        return {number: digest for number, _, digest in self._lines(sha256)}

    def _lines(self, sha256: str) -> list[tuple[int, int, str]]:
        """Return number, size and sha256 of each part; a line cut by a crash counts for none."""
        try:
            lines = self._list(sha256).read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
        fields = [line.split(" ") for line in lines]
        return [
            (int(f[0]), int(f[1]), f[2])
            for f in fields
            if len(f) == 3 and f[0].isdigit() and f[1].isdigit()
        ]

    def _part(self, sha256: str) -> Path:
        return self._folder / f"{check_sha256(sha256)}.part"

    def _list(self, sha256: str) -> Path:
        return self._folder / f"{check_sha256(sha256)}.have"


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

    def sweep(self, stale_before_s: float = 0.0) -> int:
        """Remove what a killed gateway left half-done, and what cars began and left.

        Args:
            stale_before_s: unclaimed contents untouched since this POSIX time go.
        Returns:
            How many things were removed. No clip is touched.
        """
        leftovers = list(self._folder.glob(".tmp-*"))
        for folder in leftovers:
            shutil.rmtree(folder, ignore_errors=True)
        # A second hard link means that a landed clip holds the content already; one that ingest has
        # settled since has only its manifest left.
        pieces = list((self._home.fleet / "uploads").glob("*/" + "[0-9a-f]" * 64 + "*"))
        claimed = [p for p in pieces if p.stat().st_nlink > 1 or self.has(p.name[:64])]
        left = (self._home.fleet / "uploads").glob("*/*")
        stale = [p for p in left if p.stat().st_mtime < stale_before_s]
        for piece in {*claimed, *stale}:
            piece.unlink()
        return len(leftovers) + len({*claimed, *stale})

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
            here = uploads.received(entry.sha256)
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
