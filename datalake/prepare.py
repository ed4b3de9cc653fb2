"""One landed clip made ready: every byte verified, every tick read, pictures scrubbed, its object
stored under its name. Nothing of this is visible to a question; only its rows are.

Each way in which a clip can be bad has its own error; the clip goes to quarantine with it and
nothing else is disturbed.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

from datalake.bounds import require_bounded
from datalake.clips import Clip, clip_object, read_clip
from datalake.commit import Ready
from datalake.lake import LakeWriteError
from datalake.landed import MANIFEST, RECEIPT, BadClipError, Landed
from datalake.rows import Stored, clip_rows
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, FileEntry
from vehicle.contracts.home import Home
from vehicle.contracts.tick import Record

MAX_LEAP_S: Final = 60.0
"""Between two ticks of a clip, itself a minute long at most: the clock was set meanwhile."""

_PIECE_BYTES: Final = 1 << 20


class MisnamedClipError(BadClipError):
    """A manifest lies under another clip's name."""


class TruncatedClipError(BadClipError):
    """A file is shorter than its manifest says."""


class OverlongFileError(BadClipError):
    """A file is longer than its manifest says."""


class DamagedClipError(BadClipError):
    """A file has the length of its manifest and another hash."""


class ContradictoryManifestError(BadClipError):
    """The clip holds something else than its manifest says."""


class ClockJumpError(BadClipError):
    """The clip's clock runs backwards or leaps."""


class UnreadableClipError(BadClipError):
    """The clip's reader, or who scrubs it, refuses it."""


class ScrubReportLike(Protocol):
    """What `datalake.scrub` tells of a clip."""

    regions: int
    detector: str


class Scrubs(Protocol):
    """Whoever blurs faces and plates, by the rules of a jurisdiction."""

    def name(self, jurisdiction: str) -> str:
        """Return who looks; raises where home's rules or models are not in order."""
        ...

    def scrub(self, path: Path, out: Path, jurisdiction: str) -> ScrubReportLike:
        """Write `path` to `out` with what must not be seen made unrecognisable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A clip that may be committed, and what then takes the place of its files."""

    ready: Ready
    manifest: ClipManifest
    stored: Stored

    @property
    def receipt(self) -> bytes:
        """Return the note that stays in the landing zone."""
        return receipt_of(self.stored.sha256, self.stored.scrub, self.stored.regions)


def receipt_of(sha256: str, scrub: str, regions: int) -> bytes:
    """Return the bytes of a receipt: which object the lake made of a clip."""
    note = {"schema": "ingested/1", "sha256": sha256, "scrub": scrub, "regions": regions}
    return wire.canonical(note)


def prepare(home: Home, landed: Landed, clip_id: str, scrubber: Scrubs) -> Prepared:
    """Verify, read, scrub and store a landed clip.

    Raises:
        BadClipError: it is not taken; says why.
        LakeError, OSError: this machine's fault, not the clip's.
    """
    manifest = manifest_of(landed, clip_id)
    for entry in manifest.files[1:]:
        with landed.fetch(clip_id, entry) as path:
            _verify(path, entry)
    with landed.fetch(clip_id, manifest.files[0]) as raw:
        _verify(raw, manifest.files[0])
        clip = _read(raw, manifest)
        stored = _store(home, raw, manifest, scrubber)
    return _prepared(manifest, clip, stored)


def prepare_again(home: Home, landed: Landed, clip_id: str) -> Prepared | None:
    """Return the rows of a clip that was in a lake before: from its receipt and the object; None
    when there is no object any more (its car was erased).

    Raises:
        BadClipError: the object is not the one of the receipt.
    """
    manifest = manifest_of(landed, clip_id)
    path = clip_object(home, clip_id)
    if not path.is_file():
        return None
    note = json.loads(landed.read(clip_id, RECEIPT))
    if wire.digest_file(path) != note.get("sha256"):
        raise DamagedClipError(f"{path} is not the object its receipt names")
    stored = Stored(
        path=path.relative_to(home.lake).as_posix(),
        sha256=str(note["sha256"]),
        size_bytes=path.stat().st_size,
        scrub=str(note.get("scrub", "none")),
        regions=int(note.get("regions", 0)),
    )
    return _prepared(manifest, _read(path, manifest), stored)


def manifest_of(landed: Landed, clip_id: str) -> ClipManifest:
    """Return the manifest of a landed clip; raises BadClipError."""
    try:
        data = landed.read(clip_id, MANIFEST)
        manifest = wire.from_bytes(ClipManifest, data, strict=False)
    except wire.ContractError as error:
        raise ContradictoryManifestError(f"{MANIFEST}: {type(error).__name__}: {error}") from error
    if manifest.clip_id != clip_id:
        raise MisnamedClipError(f"the manifest is of clip {manifest.clip_id}, its place another")
    return manifest


def _prepared(manifest: ClipManifest, clip: Clip, stored: Stored) -> Prepared:
    tables = clip_rows(
        manifest,
        clip.records,
        rig=clip.rig,
        rate_hz=clip.rate_hz,
        luma=clip.luma,
        stored=stored,
    )
    return Prepared(ready=Ready(manifest.clip_id, tables), manifest=manifest, stored=stored)


def _read(path: Path, manifest: ClipManifest) -> Clip:
    try:
        require_bounded(path)
        clip = read_clip(path)
        _require_agreement(clip, manifest)
    except (OSError, MemoryError) as error:
        if not isinstance(error, wire.RefusedError):
            raise  # this machine's fault, not the clip's
        raise _as_bad(error) from error
    except Exception as error:  # whatever a strange file makes its reader do: one clip, one reason
        raise _as_bad(error) from error
    return clip


def _require_agreement(clip: Clip, manifest: ClipManifest) -> None:
    """Raise unless the clip is what its manifest says, in an order and at times that can be."""
    if clip.rig_digest != manifest.rig_digest:
        raise ContradictoryManifestError(
            "the clip's cameras are not those its manifest names (rig_digest)"
        )
    frames = [r.observation.frame.frame_id for r in clip.records]
    if not frames:
        raise ContradictoryManifestError("the clip holds no tick")
    if any(b <= a for a, b in pairwise(frames)):
        raise ContradictoryManifestError("the clip's frame_ids do not increase")
    if (frames[0], frames[-1]) != manifest.frames:
        raise ContradictoryManifestError(
            f"the clip holds frames {frames[0]}..{frames[-1]}, "
            f"its manifest says {manifest.frames[0]}..{manifest.frames[1]}"
        )
    _require_steady_clock(clip.records)


def _require_steady_clock(records: list[Record]) -> None:
    for a, b in pairwise(r.observation.frame for r in records):
        step_s = (b.mono_ns - a.mono_ns) * 1e-9
        if not 0.0 < step_s <= MAX_LEAP_S:
            raise ClockJumpError(
                f"from frame {a.frame_id} to {b.frame_id} the clock goes {step_s:+.3f} s; "
                f"expected forward, and at most {MAX_LEAP_S:g} s"
            )


def _as_bad(error: Exception) -> BadClipError:
    if isinstance(error, BadClipError):
        return error
    return UnreadableClipError(f"{type(error).__name__}: {error}")


def _verify(path: Path, entry: FileEntry) -> None:
    """Compare size and hash of a file with its manifest's."""
    size = path.stat().st_size
    says = f"{size} bytes, its manifest says {entry.size_bytes}"
    if size < entry.size_bytes:
        raise TruncatedClipError(f"{entry.name} is truncated: {says}")
    if size > entry.size_bytes:
        raise OverlongFileError(f"{entry.name} is too long: {says}")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    if digest.hexdigest() != entry.sha256:
        raise DamagedClipError(
            f"{entry.name} is damaged: sha256 is {digest.hexdigest()[:16]}..., "
            f"its manifest says {entry.sha256[:16]}..."
        )


def _store(home: Home, raw: Path, manifest: ClipManifest, scrubber: Scrubs) -> Stored:
    """Put the scrubbed clip in its place in the lake, whole or not at all.

    Where nothing was blurred the raw file itself takes the place: the same bytes under its hash.
    """
    scrubber.name(manifest.jurisdiction)  # a fault of home's rules is not the clip's
    place = clip_object(home, manifest.clip_id)
    work = home.lake / "work" / f"{manifest.clip_id}.object.{os.getpid()}.part"
    try:
        work.mkdir(parents=True, exist_ok=True)
        out = work / "clip.mcap"
        try:
            report = scrubber.scrub(raw, out, manifest.jurisdiction)
        except (wire.RefusedError, ValueError) as error:
            raise _as_bad(error) from error
        if report.regions == 0:
            out.unlink(missing_ok=True)
            _link_or_copy(raw, out)
        with out.open("rb") as file:
            os.fsync(file.fileno())
        sha256, size = wire.digest_file(out), out.stat().st_size
        place.parent.mkdir(parents=True, exist_ok=True)
        out.replace(place)
        wire.sync_folder(place.parent)
    except OSError as error:
        if isinstance(error, wire.RefusedError):
            raise
        raise LakeWriteError(f"cannot store {place}: {error}; then ingest again") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Stored(
        path=place.relative_to(home.lake).as_posix(),
        sha256=sha256,
        size_bytes=size,
        scrub=report.detector,
        regions=report.regions,
    )


def _link_or_copy(raw: Path, out: Path) -> None:
    try:
        os.link(raw, out)
    except OSError:  # another disk, or one without links
        shutil.copyfile(raw, out)
