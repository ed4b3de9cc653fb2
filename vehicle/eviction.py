"""Keeps the outbox within its quota: what is worth least gives way, and leaves a line behind.

The rule that recorder and uplink share on the disk is in docs/reference/sending-home.md: a clip is
taken out by one rename, and put back when it turns out that its sending had begun.
"""

import contextlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

from vehicle.config import RecordingConfig
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, ClipSummary
from vehicle.contracts.wire import ContractError
from vehicle.quota import Disk, Held, make_room
from vehicle.worth import value_of

CLIP: Final = "clip.mcap"
MANIFEST: Final = "manifest.json"
SUMMARY: Final = "summary.json"
TOMBSTONES: Final = ".evicted.jsonl"
FIXED: Final = (".begun", ".wanted")
"""Marks of the uplink in a clip's folder: being sent, asked for by home."""

_GONE: Final = "gone-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What stays of a clip that was given up, one line of `outbox/.evicted.jsonl`.

    Args:
        value: what it was worth.
        triggers: campaign/trigger of its events.
        why: what was short.
        created_utc_ns: when its last frame was recorded.
    """

    SCHEMA: ClassVar[str] = "tombstone/1"
    clip_id: str
    value: float
    size_bytes: int
    triggers: tuple[str, ...]
    created_utc_ns: int
    why: str


class OutboxRoom:
    """The room in one car's outbox; only the recorder that holds the outbox has one.

    Args:
        outbox: complete clips, each in a folder named by its content.
        building: a folder on the same disk, for clips on their way out.
    """

    def __init__(self, outbox: Path, building: Path, config: RecordingConfig) -> None:
        self._outbox, self._building, self._config = outbox, building, config
        self._known: dict[str, Held] = {}
        self.evicted = 0
        """Clips given up so far, new ones that found no room among them."""

    def tidy(self) -> None:
        """Finish what a killed recorder began, and make the outbox fit a quota that shrank."""
        for folder in sorted(self._building.glob(f"{_GONE}*")):
            clip_id = folder.name.removeprefix(_GONE)
            if (self._outbox / clip_id).exists():
                shutil.rmtree(folder, ignore_errors=True)
            elif _is_fixed(folder):
                folder.rename(self._outbox / clip_id)
            else:
                told = clip_id in _last_ids(self._outbox / TOMBSTONES)
                why = "evicted; the recorder was killed at it"
                self._bury(folder, self._look(folder, clip_id), why, told=told)
        ruling = make_room(self._held(), None, self._disk(), self._config)
        for clip_id in ruling.go:
            self._evict(clip_id, ruling.why)

    def admit(self, folder: Path, clip_id: str) -> bool:
        """Make room for the complete clip in `folder`; return whether it may come in.

        When not, it is gone but for its line.
        """
        new = self._look(folder, clip_id)
        begun: set[str] = set()
        while True:
            held = [replace(h, fixed=h.fixed or h.clip_id in begun) for h in self._held()]
            ruling = make_room(held, new, self._disk(), self._config)
            if not ruling.stays:
                self._bury(folder, new, ruling.why)
                return False
            stayed = {clip_id for clip_id in ruling.go if not self._evict(clip_id, ruling.why)}
            if not stayed:
                return True
            begun |= stayed

    def _evict(self, clip_id: str, why: str) -> bool:
        """Take one clip out; return whether it went: its sending may have begun just now."""
        place, gone = self._outbox / clip_id, self._building / f"{_GONE}{clip_id}"
        try:
            place.rename(gone)
        except FileNotFoundError:  # it was sent meanwhile
            return True
        if _is_fixed(gone):
            gone.rename(place)
            return False
        wire.sync_folder(self._outbox)
        self._bury(gone, self._look(gone, clip_id), why)
        return True

    def _bury(self, folder: Path, clip: Held, why: str, *, told: bool = False) -> None:
        """Write the line, then remove the clip: a kill between leaves it to the next start."""
        stone = Tombstone(
            clip_id=clip.clip_id,
            value=clip.value,
            size_bytes=clip.size_bytes,
            triggers=_triggers(folder),
            created_utc_ns=clip.created_utc_ns,
            why=why,
        )
        if not told:
            try:
                _append(self._outbox / TOMBSTONES, wire.to_bytes(stone))
            except OSError:  # a full disk: what goes makes room for the line that says so
                (folder / CLIP).unlink(missing_ok=True)
                _append(self._outbox / TOMBSTONES, wire.to_bytes(stone))
        shutil.rmtree(folder, ignore_errors=True)
        self.evicted += 1

    def _held(self) -> list[Held]:
        """Return the clips of the outbox; each is read once, its marks each time."""
        before, self._known = self._known, {}
        for manifest in self._outbox.glob(f"[0-9a-f]*/{MANIFEST}"):
            folder = manifest.parent
            clip = before.get(folder.name) or self._look(folder, folder.name)
            self._known[folder.name] = replace(clip, fixed=_is_fixed(folder))
        return list(self._known.values())

    def _look(self, folder: Path, clip_id: str) -> Held:
        size = 0
        for path in folder.glob("*"):
            try:
                size += path.stat().st_size
            except FileNotFoundError:
                continue
        value, created_utc_ns = _worth(folder)
        return Held(
            clip_id=clip_id,
            size_bytes=size,
            value=value,
            created_utc_ns=created_utc_ns,
            fixed=_is_fixed(folder),
        )

    def _disk(self) -> Disk:
        usage = shutil.disk_usage(self._outbox)
        return Disk(size_bytes=usage.total, free_bytes=usage.free)


def _is_fixed(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in FIXED)


def _worth(folder: Path) -> tuple[float, int]:
    """Return value and birth of a clip; without a summary what its events alone are worth, and
    nothing where it has no readable manifest."""
    try:
        data = (folder / SUMMARY).read_bytes()
        summary = wire.from_bytes(ClipSummary, data, strict=False)
        return summary.value, summary.manifest.created_utc_ns
    except (OSError, ContractError):
        manifest = _manifest(folder)
    return (value_of(manifest.events, {}), manifest.created_utc_ns) if manifest else (0.0, 0)


def _triggers(folder: Path) -> tuple[str, ...]:
    manifest = _manifest(folder)
    events = manifest.events if manifest else ()
    return tuple(sorted({f"{e.campaign_id}/{e.trigger}" for e in events}))


def _manifest(folder: Path) -> ClipManifest | None:
    try:
        return wire.from_bytes(ClipManifest, (folder / MANIFEST).read_bytes(), strict=False)
    except (OSError, ContractError):
        return None


def _append(path: Path, line: bytes) -> None:
    """Add a line that lasts; half a line that a kill left is closed first."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _last_ids(path: Path) -> set[object]:
    """Return the clips of the last lines."""
    try:
        lines = path.read_bytes().splitlines()[-64:]
    except OSError:
        return set()
    found: set[object] = set()
    for line in lines:
        with contextlib.suppress(ValueError, AttributeError):
            found.add(json.loads(line).get("clip_id"))
    return found
