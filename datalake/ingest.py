"""Landing zone to lake, exactly once.

A clip goes through four steps: verify every byte against its manifest, read every tick, store the
file under its own hash, append its rows. The rows of a clip appear in one transaction that first
looks whether the clip is in, so a crash at any point, a second run or a second process leaves the
same rows. A bad clip is moved to the lake's quarantine with the reason; nothing else is disturbed.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from datalake.clips import clip_object, read_clip
from datalake.lake import Lake, LakeWriteError, Writer
from datalake.rows import Stored, clip_rows
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, FileEntry
from vehicle.contracts.home import Home

BATCH_CLIPS: Final = 32
BATCH_ROWS: Final = 50_000
"""Clips are committed together up to these sizes: fewer, larger Parquet files."""

_PIECE_BYTES: Final = 1 << 20


class BadClipError(wire.RefusedError):
    """A landed clip does not hold what its manifest says; the message becomes the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A clip that was set aside, and why."""

    clip_id: str
    reason: str
    folder: str


@dataclass(slots=True, kw_only=True)
class IngestReport:
    """What one ingest did.

    Args:
        ingested: clips whose rows this run appended.
        already: landed clips that were in the lake before.
        quarantined: clips set aside by this run.
        clip_ids: the clips ingested.
        rows: rows appended, over all tables.
        bytes: size of the clip files stored.
        snapshot: newest snapshot of the lake afterwards.
    """

    SCHEMA = "ingest/1"
    ingested: int = 0
    already: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    clip_ids: list[str] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    snapshot: int = 0


@dataclass(frozen=True, slots=True)
class _Ready:
    clip_id: str
    tables: dict[str, pa.Table]
    size_bytes: int

    @property
    def rows(self) -> int:
        return sum(t.num_rows for t in self.tables.values())


def ingest(home: Home, *, progress: Callable[[int, int], None] | None = None) -> IngestReport:
    """Take every landed clip into the lake, exactly once.

    Args:
        home: whose landing zone and lake.
        progress: called with clips done and clips in all.
    Returns:
        what was ingested, what was in already, what was set aside and why.
    Raises:
        LakeError: the lake cannot be read or written; what was committed before stays.
    """
    report = IngestReport()
    _sweep(home.lake / "clips")
    with Lake(home) as lake:
        landed = list(_landed(home.landing))
        known = _known(lake)
        todo = [folder for folder in landed if folder.name not in known]
        report.already = len(landed) - len(todo)
        batch: list[_Ready] = []
        for done, folder in enumerate(todo):
            if progress is not None:
                progress(done, len(todo))
            try:
                batch.append(prepare(home, folder))
            except BadClipError as error:
                _set_aside(home, folder, str(error), report)
            if len(batch) >= BATCH_CLIPS or sum(r.rows for r in batch) >= BATCH_ROWS:
                _commit(lake, batch, report)
                batch = []
        _commit(lake, batch, report)
        report.snapshot = lake.snapshot()
    if progress is not None:
        progress(len(todo), len(todo))
    return report


def prepare(home: Home, folder: Path) -> _Ready:
    """Verify a landed clip, store its file by hash and return its rows; the tables are untouched.

    Raises:
        BadClipError: with the reason.
    """
    manifest = _manifest(folder)
    for entry in manifest.files[1:]:
        _verify(folder, entry)
    stored = clip_object(home, manifest.clip_id)
    try:
        _store(folder, manifest.files[0], stored)
    except OSError as error:
        raise LakeWriteError(f"cannot store {stored}: {error}; then ingest again") from error
    try:
        clip = read_clip(stored)
        if clip.rig_digest != manifest.rig_digest:
            raise BadClipError("the clip's cameras are not those its manifest names (rig_digest)")
        frames = [r.observation.frame.frame_id for r in clip.records]
        if not frames:
            raise BadClipError("the clip holds no tick")
        if any(b <= a for a, b in pairwise(frames)):
            raise BadClipError("the clip's frame_ids do not increase")
        if (frames[0], frames[-1]) != manifest.frames:
            raise BadClipError(
                f"the clip holds frames {frames[0]}..{frames[-1]}, "
                f"its manifest says {manifest.frames[0]}..{manifest.frames[1]}"
            )
    except (OSError, MemoryError) as error:
        if not isinstance(error, wire.RefusedError):
            raise  # this machine's fault, not the clip's
        raise _refused(stored, error) from error
    except Exception as error:  # whatever a strange file makes its reader do: one clip, one reason
        raise _refused(stored, error) from error
    tables = clip_rows(
        manifest,
        clip.records,
        rig=clip.rig,
        rate_hz=clip.rate_hz,
        luma=clip.luma,
        stored=Stored(
            path=stored.relative_to(home.lake).as_posix(),
            sha256=manifest.clip_id,
            size_bytes=manifest.files[0].size_bytes,
        ),
    )
    return _Ready(manifest.clip_id, tables, manifest.files[0].size_bytes)


def _refused(stored: Path, error: Exception) -> BadClipError:
    stored.unlink(missing_ok=True)
    if isinstance(error, BadClipError):
        return error
    return BadClipError(f"{type(error).__name__}: {error}")


def _commit(lake: Lake, batch: list[_Ready], report: IngestReport) -> None:
    if not batch:
        return

    def append(writer: Writer) -> set[str]:
        known = writer.known("clips", "clip_id", [r.clip_id for r in batch])
        fresh = [r for r in batch if r.clip_id not in known]
        for name in fresh[0].tables if fresh else ():
            writer.append(name, pa.concat_tables([r.tables[name] for r in fresh]))
        return known

    known = lake.write(append)
    for ready in batch:
        if ready.clip_id in known:
            report.already += 1
        else:
            report.ingested += 1
            report.clip_ids.append(ready.clip_id)
            report.rows += ready.rows
            report.bytes += ready.size_bytes


def _landed(landing: Path) -> Iterator[Path]:
    """Yield the folders whose manifest is there; a clip without one is still on its way."""
    if landing.is_dir():
        for folder in sorted(landing.iterdir()):
            if not folder.name.startswith(".") and (folder / "manifest.json").is_file():
                yield folder


def _known(lake: Lake) -> set[str]:
    return set(lake.sql("SELECT clip_id FROM clips")["clip_id"].to_pylist())


def _manifest(folder: Path) -> ClipManifest:
    try:
        data = (folder / "manifest.json").read_bytes()
        manifest = wire.from_bytes(ClipManifest, data, strict=False)
    except (OSError, wire.ContractError) as error:
        raise BadClipError(f"manifest.json: {type(error).__name__}: {error}") from error
    if manifest.clip_id != folder.name:
        raise BadClipError(f"the manifest is of clip {manifest.clip_id}, its folder another")
    return manifest


def _verify(folder: Path, entry: FileEntry, copy: Any = None) -> None:
    """Read a file once, compare size and hash, and write it to `copy` on the way."""
    path = folder / entry.name
    if path.is_symlink() or not path.is_file():
        raise BadClipError(f"{entry.name} is missing")
    size = path.stat().st_size
    if size < entry.size_bytes:
        raise BadClipError(
            f"{entry.name} is truncated: {size} bytes, its manifest says {entry.size_bytes}"
        )
    if size > entry.size_bytes:
        raise BadClipError(
            f"{entry.name} is too long: {size} bytes, its manifest says {entry.size_bytes}"
        )
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            if copy is not None:
                copy.write(piece)
    if digest.hexdigest() != entry.sha256:
        raise BadClipError(
            f"{entry.name} is damaged: sha256 is {digest.hexdigest()[:16]}..., "
            f"its manifest says {entry.sha256[:16]}..."
        )


def _store(folder: Path, entry: FileEntry, stored: Path) -> None:
    """Verify the clip file and copy it to its place in the lake, whole or not at all."""
    if stored.is_file() and stored.stat().st_size == entry.size_bytes:
        _verify(folder, entry)
        return
    stored.parent.mkdir(parents=True, exist_ok=True)
    temp = stored.with_name(f".{stored.name}.{os.getpid()}.part")
    try:
        with temp.open("wb") as file:
            _verify(folder, entry, file)
            file.flush()
            os.fsync(file.fileno())
        temp.replace(stored)
    finally:
        temp.unlink(missing_ok=True)
    wire.sync_folder(stored.parent)


def _sweep(clips: Path) -> None:
    """Remove half-copied files of processes that no longer run."""
    for part in clips.glob("*/.*.part"):
        try:
            os.kill(int(part.name.split(".")[-2]), 0)
        except (ProcessLookupError, ValueError, OverflowError):
            part.unlink(missing_ok=True)
        except PermissionError:
            continue  # somebody else's, and alive


def _set_aside(home: Home, folder: Path, reason: str, report: IngestReport) -> None:
    """Move a bad clip to the quarantine with its reason; another process may have done it."""
    quarantine = home.lake / "quarantine"
    quarantine.mkdir(parents=True, exist_ok=True)
    note = {"schema": "quarantine/1", "clip_id": folder.name, "reason": reason}
    try:
        (folder / "reason.json").write_bytes(wire.canonical(note))
        place = _free_name(quarantine / folder.name)
        folder.rename(place)
    except FileNotFoundError:
        return
    wire.sync_folder(quarantine)
    report.quarantined.append(
        Quarantined(clip_id=folder.name, reason=reason, folder=str(place.relative_to(home.root)))
    )


def _free_name(path: Path) -> Path:
    name, count = path, 1
    while name.exists():
        count += 1
        name = path.with_name(f"{path.name}.{count}")
    return name
