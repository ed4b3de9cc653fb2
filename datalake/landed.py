"""The landing zone as ingest sees it, of either kind: a folder of this machine, or an S3 bucket.

Ingest takes a landed clip's files once. What stays afterwards is the manifest, by which the door
knows that the clip is home, and beside it a receipt that names the object the lake made of it:
with both, and the lake's objects, a lost catalog can be built again.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from vehicle.contracts import wire
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError

MANIFEST: Final = "manifest.json"
RECEIPT: Final = "ingested.json"
MAX_MANIFEST_BYTES: Final = 4 << 20


State = Literal["landed", "settled"]
"""With its files still here, or with a receipt in their place."""


class BadClipError(RefusedError):
    """A landed clip is not taken; the message becomes the reason."""


class MissingFileError(BadClipError):
    """A file that the manifest names is not there."""


class OversizedManifestError(BadClipError):
    """A manifest is longer than any could be."""


class StoreError(RefusedError):
    """The bucket does not answer, or not as a landing zone would."""


class Landed(Protocol):
    """A landing zone. A clip exists by its manifest, whatever else lies about."""

    def clips(self) -> Iterator[tuple[str, bool]]:
        """Yield the clip ids in order, and whether there is a receipt."""
        ...

    def state(self, clip_id: str) -> State | None:
        """Return how a clip stands now, None when it is not here."""
        ...

    def read(self, clip_id: str, name: str) -> bytes:
        """Return a small file of a clip; raise MissingFileError or OversizedManifestError."""
        ...

    def fetch(self, clip_id: str, entry: FileEntry) -> Any:
        """Return a context manager with the path of a file, which it may not outlive."""
        ...

    def settle(self, clip_id: str, files: tuple[FileEntry, ...], receipt: bytes) -> None:
        """Keep a receipt and let go of the files."""
        ...

    def set_aside(self, clip_id: str, place: Path, note: bytes) -> None:
        """Move all there is of a clip to `place`, with a note; nothing of it stays here.

        Raises:
            FileNotFoundError: another process did it.
        """
        ...

    def forget(self, clip_id: str) -> None:
        """Let go of all there is of a clip; killed in the middle, it can be done again."""
        ...


class LandedFolder:
    """fleet/landing/<clip_id>/ of a home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clips(self) -> Iterator[tuple[str, bool]]:
        """See Landed."""
        if self._folder.is_dir():
            for folder in sorted(self._folder.iterdir()):
                if not folder.name.startswith(".") and (folder / MANIFEST).is_file():
                    yield folder.name, (folder / RECEIPT).is_file()

    def state(self, clip_id: str) -> State | None:
        """See Landed."""
        folder = self._folder / clip_id
        if not (folder / MANIFEST).is_file():
            return None
        return "settled" if (folder / RECEIPT).is_file() else "landed"

    def read(self, clip_id: str, name: str) -> bytes:
        """See Landed."""
        try:
            with _plain(self._folder / clip_id / name).open("rb") as file:
                return _short(file.read(MAX_MANIFEST_BYTES + 1), name)
        except OSError as error:
            raise MissingFileError(f"{name} does not read: {error.strerror}") from error

    @contextmanager
    def fetch(self, clip_id: str, entry: FileEntry) -> Iterator[Path]:
        """See Landed."""
        yield _plain(self._folder / clip_id / entry.name)

    def settle(self, clip_id: str, files: tuple[FileEntry, ...], receipt: bytes) -> None:
        """See Landed."""
        folder = self._folder / clip_id
        wire.atomic_write(folder / RECEIPT, receipt)
        for entry in files:
            if entry.name not in (MANIFEST, RECEIPT):
                (folder / entry.name).unlink(missing_ok=True)

    def set_aside(self, clip_id: str, place: Path, note: bytes) -> None:
        """See Landed."""
        folder = self._folder / clip_id
        (folder / "reason.json").write_bytes(note)
        folder.rename(place)

    def forget(self, clip_id: str) -> None:
        """See Landed."""
        shutil.rmtree(self._folder / clip_id, ignore_errors=True)
        wire.sync_folder(self._folder)


class LandedStore:
    """clips/<clip_id>/manifest.json and objects/<sha256> of a bucket."""

    def __init__(self, store: Any, work: Path) -> None:
        """Take an obstore store and a folder to download to."""
        self._store, self._work = store, work

    def clips(self) -> Iterator[tuple[str, bool]]:
        """See Landed."""
        names: dict[str, set[str]] = {}
        for meta in self._list("clips"):
            _, clip_id, name = (*meta["path"].split("/", 2), "", "")[:3]
            names.setdefault(clip_id, set()).add(name)
        for clip_id in sorted(names):
            if MANIFEST in names[clip_id]:
                yield clip_id, RECEIPT in names[clip_id]

    def state(self, clip_id: str) -> State | None:
        """See Landed."""
        names = {m["path"].rsplit("/", 1)[-1] for m in self._list(f"clips/{clip_id}")}
        if MANIFEST not in names:
            return None
        return "settled" if RECEIPT in names else "landed"

    def read(self, clip_id: str, name: str) -> bytes:
        """See Landed."""
        return _short(b"".join(self._pieces(f"clips/{clip_id}/{name}", name)), name)

    @contextmanager
    def fetch(self, clip_id: str, entry: FileEntry) -> Iterator[Path]:
        """See Landed; a file that is longer than its manifest says is not downloaded further."""
        self._work.mkdir(parents=True, exist_ok=True)
        path = self._work / f"{entry.sha256}.{os.getpid()}.part"
        try:
            left = entry.size_bytes + 1
            with path.open("wb") as file:
                for piece in self._pieces(f"objects/{entry.sha256}", entry.name):
                    file.write(piece[:left])
                    left -= len(piece)
                    if left <= 0:
                        break
            yield path
        finally:
            path.unlink(missing_ok=True)

    def settle(self, clip_id: str, files: tuple[FileEntry, ...], receipt: bytes) -> None:
        """See Landed."""
        import obstore

        obstore.put(self._store, f"clips/{clip_id}/{RECEIPT}", receipt)
        for entry in files:
            self._delete(f"objects/{entry.sha256}")

    def set_aside(self, clip_id: str, place: Path, note: bytes) -> None:
        """See Landed; the manifest goes last, so that a killed run is done again."""
        place.mkdir(parents=True)
        try:
            data = self.read(clip_id, MANIFEST)
        except BadClipError:
            data = b""
        (place / MANIFEST).write_bytes(data)
        (place / "reason.json").write_bytes(note)
        for name, sha256 in _claimed(data):
            try:
                with (place / name).open("wb") as file:
                    file.writelines(self._pieces(f"objects/{sha256}", name))
            except MissingFileError:
                (place / name).unlink(missing_ok=True)
            self._delete(f"objects/{sha256}")
        self._delete(f"clips/{clip_id}/{MANIFEST}")

    def forget(self, clip_id: str) -> None:
        """See Landed; the manifest goes last."""
        for _, sha256 in _claimed(self.read(clip_id, MANIFEST)):
            self._delete(f"objects/{sha256}")
        for name in (RECEIPT, MANIFEST):
            self._delete(f"clips/{clip_id}/{name}")

    def _list(self, prefix: str) -> Iterator[Any]:
        import obstore

        try:
            for batch in obstore.list(self._store, prefix=prefix):
                yield from batch
        except obstore.exceptions.BaseError as error:
            raise StoreError(f"the bucket does not list {prefix}: {error}") from error

    def _pieces(self, key: str, name: str) -> Iterator[bytes]:
        import obstore

        try:
            for piece in obstore.get(self._store, key).stream():
                yield bytes(piece)
        except FileNotFoundError:
            raise MissingFileError(f"{name} is missing") from None
        except obstore.exceptions.BaseError as error:
            raise StoreError(f"the bucket does not hand out {key}: {error}") from error

    def _delete(self, key: str) -> None:
        import obstore

        with suppress(FileNotFoundError):
            obstore.delete(self._store, key)


def landed(home: Home, store: str | None = None) -> Landed:
    """Return the landing zone: of this machine, or a bucket.

    Args:
        home: whose.
        store: s3://bucket/prefix; credentials and endpoint come from AWS_* of the environment.
    Raises:
        StoreError: the address is of no kind that is known.
    """
    if store is None:
        return LandedFolder(home.landing)
    import obstore

    if not store.startswith("s3://"):
        raise StoreError(f"found {store!r}, expected s3://bucket/prefix")
    plain = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", ""))
    options = {"allow_http": True} if plain.startswith("http://") else {}
    try:
        bucket = obstore.store.from_url(store, client_options=options)
    except obstore.exceptions.BaseError as error:
        raise StoreError(f"{store}: {error}") from error
    return LandedStore(bucket, home.lake / "work")


def sweep_work(work: Path) -> None:
    """Remove what killed processes of this machine left half-made under `work`."""
    for part in work.glob("*.part"):
        if not is_alive(part.name.split(".")[-2]):
            shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink()


def is_alive(pid: str) -> bool:
    """Return whether a process of this machine has this number."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def _plain(path: Path) -> Path:
    """Return a path that is a file of its own; a link may lead anywhere."""
    if path.is_symlink() or not path.is_file():
        raise MissingFileError(f"{path.name} is missing")
    return path


def _short(data: bytes, name: str) -> bytes:
    if len(data) > MAX_MANIFEST_BYTES:
        raise OversizedManifestError(f"{name} is longer than {MAX_MANIFEST_BYTES} bytes")
    return data


def _claimed(manifest: bytes) -> list[tuple[str, str]]:
    """Return name and sha256 of every file that a manifest names, none where it does not read."""
    from vehicle.contracts.clip import ClipManifest

    try:
        read = wire.from_bytes(ClipManifest, manifest, strict=False)
    except wire.ContractError:
        return []
    return [(e.name, e.sha256) for e in read.files if e.name != MANIFEST]
