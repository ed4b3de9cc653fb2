"""The outbox as a place: a clip is built out of sight and appears whole, by one rename."""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from vehicle.config import RecordingConfig
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, FileEntry, TriggerEvent
from vehicle.contracts.frame import Rig
from vehicle.contracts.wire import ContractError, RefusedError
from vehicle.eviction import CLIP, MANIFEST, SUMMARY, OutboxRoom
from vehicle.ring import Slot
from vehicle.route import RouteWriter
from vehicle.salvage import Remains, carry_over, look
from vehicle.summary import Summariser
from vehicle.telemetry_pb import parse_telemetry
from vehicle.worth import key_of

BUILDING: Final = ".tmp"
KEPT: Final = ".kept.json"
"""How many clips this car has kept by trigger, in the outbox: what is rare is worth more."""


class OutboxBusyError(RefusedError):
    """Another recorder writes into this outbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveFacts:
    """What every clip of a drive says about it.

    Args:
        rig: None for a route without cameras.
        model: bundle name and version that drives.
        tags: what is known of the drive; "source" says where it comes from.
    """

    rig: Rig | None
    rate_hz: float
    car_id: str
    route_id: str
    model: str
    jurisdiction: str
    tags: dict[str, str]

    @property
    def metadata(self) -> dict[str, str]:
        """Return the same facts as metadata of a route file."""
        named = {
            "car_id": self.car_id,
            "route_id": self.route_id,
            "model": self.model,
            "jurisdiction": self.jurisdiction,
            "source": self.tags.get("source", "unknown"),
        }
        return {**named, **{f"tag.{name}": text for name, text in self.tags.items()}}

    @classmethod
    def of(cls, remains: Remains) -> Self:
        """Return the facts of the drive that an unfinished clip is of."""
        about = remains.metadata
        named = {n: about.get(n, "") for n in ("car_id", "route_id", "model", "jurisdiction")}
        tags = {k.removeprefix("tag."): v for k, v in about.items() if k.startswith("tag.")}
        return cls(rig=remains.rig, rate_hz=remains.rate_hz, tags=tags, **named)


class Shelf:
    """Builds one clip at a time in outbox/.tmp and puts it into outbox/<clip_id>/.

    Args:
        outbox: the car's outbox. Of what a killed recorder left in it, a complete clip is put in
            place; an unfinished one is gone on with (`resumed`) where it is of this drive, sealed
            as far as it is whole where it is of another, removed where no event is in it.
        config: codec and quota.
    Raises:
        OutboxBusyError: another recorder holds it.
    """

    def __init__(
        self, outbox: Path, facts: DriveFacts, config: RecordingConfig | None = None
    ) -> None:
        self._outbox, self._facts = outbox, facts
        self._config = config or RecordingConfig()
        self._building = outbox / BUILDING
        self._building.mkdir(parents=True, exist_ok=True)
        self._lock = (self._building / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise OutboxBusyError(
                f"{outbox} is written by another recorder; end that drive or use another outbox"
            ) from error
        self._count = 1 + max((_number(f) for f in self._building.glob("clip-*")), default=-1)
        self._room = OutboxRoom(outbox, self._building, self._config)
        self._kept = _read_kept(outbox / KEPT)
        self._clip = facts
        self._summariser = Summariser(facts.rig)
        self._frames = 0
        self._writer: RouteWriter | None = None
        self._first: Slot | None = None
        self._last: Slot | None = None
        self.recovered = 0
        self.salvaged = 0
        self._stalls = 0
        self.removed = 0
        self.dropped_frames = 0
        """Frames of clips that were begun and could not be completed."""
        self.trouble = ""
        self.resumed: Remains | None = None
        self._remains: Path | None = None
        self._recover()
        self._room.tidy()

    @property
    def evicted(self) -> int:
        """Return how many clips were given up for want of room."""
        return self._room.evicted

    @property
    def encoder_stalls(self) -> int:
        """Return how often a camera's encoder stopped answering and another one went on."""
        return self._stalls + (self._writer.encoder_stalls if self._writer else 0)

    @property
    def last_frame(self) -> int:
        """Return the last frame of the open clip, -1 without any."""
        return self._last.frame_id if self._last else -1

    def open(self, facts: DriveFacts | None = None) -> None:
        """Begin a clip, of this drive or of another's."""
        self.drop()
        self._count += 1
        self._clip, self._frames = facts or self._facts, 0
        self._summariser = Summariser(self._clip.rig)
        self._writer = RouteWriter(
            self._folder / CLIP,
            self._clip.rig,
            rate_hz=self._clip.rate_hz,
            metadata=self._clip.metadata,
            codec=self._config.codec,
        )

    def keep(self, slot: Slot) -> None:
        """Add a frame to the clip; it is counted as dropped when the clip was."""
        if self._writer is None:
            self.dropped_frames += 1
            return
        record = parse_telemetry(slot.telemetry)
        self._frames += 1
        self._writer.write_record(record, slot.images)
        self._summariser.tick(record, slot.images)
        self._first, self._last = self._first or slot, slot

    def seal(self, events: Sequence[TriggerEvent]) -> bool:
        """Finish the clip; return whether the outbox has one more.

        It has not when the same clip is there already, or when there is no room and all that
        waits is worth as much.
        """
        if self._writer is None or self._first is None or self._last is None:
            return False
        self._writer.close()
        path = self._folder / CLIP
        entry = FileEntry(name=CLIP, sha256=wire.digest_file(path), size_bytes=path.stat().st_size)
        manifest = self._manifest(entry, tuple(events), self._first, self._last)
        summary = self._summariser.summary(manifest, self._kept)
        wire.atomic_write(self._folder / SUMMARY, wire.to_bytes(summary))
        wire.atomic_write(self._folder / MANIFEST, wire.to_bytes(manifest))
        new = self._place(self._folder, manifest.clip_id)
        if new:
            self._count_kept(manifest.events)
        self._put_down()
        self._bury()
        return new

    def drop(self) -> None:
        """Give the clip up and leave nothing of it."""
        if self._writer is not None:
            self._writer.abort()
            self.dropped_frames += self._frames
        self._put_down()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _put_down(self) -> None:
        self._stalls = self.encoder_stalls
        self._writer = self._first = self._last = None

    def _count_kept(self, events: Sequence[TriggerEvent]) -> None:
        for key in {key_of(event) for event in events}:
            self._kept[key] = self._kept.get(key, 0) + 1
        with contextlib.suppress(OSError):  # a full disk: counted until this recorder ends
            wire.atomic_write(self._outbox / KEPT, wire.canonical(self._kept))

    def make_room(self) -> None:
        """Evict what the quota and the disk's free share ask for, as at the start."""
        self._room.tidy()

    def _bury(self) -> None:
        """Remove what the clip just sealed was salvaged from: until then it is the only copy that
        is sure to be on the disk."""
        if self._remains is not None:
            shutil.rmtree(self._remains, ignore_errors=True)
            self._remains = None

    def close(self) -> None:
        """Let another recorder have the outbox."""
        self.drop()
        self._lock.close()

    @property
    def _folder(self) -> Path:
        return self._building / f"clip-{self._count}"

    def _manifest(
        self, entry: FileEntry, events: tuple[TriggerEvent, ...], first: Slot, last: Slot
    ) -> ClipManifest:
        facts = self._clip
        return ClipManifest(
            clip_id=entry.sha256,
            car_id=facts.car_id,
            route_id=facts.route_id,
            events=events,
            frames=(first.frame_id, last.frame_id),
            start_mono_ns=first.mono_ns,
            end_mono_ns=last.mono_ns,
            created_utc_ns=last.utc_ns,
            jurisdiction=facts.jurisdiction,
            model=facts.model,
            rig_digest=facts.rig.digest if facts.rig else "",
            files=(entry,),
            tags=dict(facts.tags),
        )

    def _place(self, folder: Path, clip_id: str) -> bool:
        """Move a complete clip to its name; False when the same clip is there already, or there is
        no room for it."""
        place = self._outbox / clip_id
        if place.exists():
            shutil.rmtree(folder, ignore_errors=True)
            return False
        if not self._room.admit(folder, clip_id):
            return False
        folder.rename(place)
        wire.sync_folder(self._outbox)
        return True

    def _recover(self) -> None:
        left: list[tuple[Path, Remains]] = []
        for folder in sorted(self._building.glob("clip-*"), key=_number):
            clip_id = _complete(folder)
            if clip_id:
                self.recovered += self._place(folder, clip_id)
                continue
            remains = next((r for p in sorted(folder.glob(f"{CLIP}*")) if (r := look(p))), None)
            if remains is None:
                shutil.rmtree(folder, ignore_errors=True)
                self.removed += 1
            else:
                left.append((folder, remains))
        for folder, remains in sorted(left, key=lambda item: self._is_ours(item[1])):
            doubled = any(o.holds(remains) for f, o in left if f != folder and f.exists())
            if doubled or self._has(remains):
                shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                self._salvage(folder, remains)
            except (RefusedError, OSError) as error:  # it stays as it is for the next start
                self.trouble = f"{folder} stays unfinished: {type(error).__name__}: {error}"
                self._remains = self.resumed = None
                self.drop()

    def _has(self, remains: Remains) -> bool:
        """Return whether a clip of the outbox shows all of it: its recorder was killed tidying."""
        theirs = DriveFacts.of(remains)
        for path in self._outbox.glob(f"[0-9a-f]*/{MANIFEST}"):
            clip = wire.from_bytes(ClipManifest, path.read_bytes())
            same = (clip.car_id, clip.route_id) == (theirs.car_id, theirs.route_id)
            if same and clip.frames[0] <= remains.frames[0] <= remains.frames[1] <= clip.frames[1]:
                return True
        return False

    def _is_ours(self, remains: Remains) -> bool:
        theirs = DriveFacts.of(remains)
        return (self._facts.car_id, self._facts.route_id) == (theirs.car_id, theirs.route_id)

    def _salvage(self, folder: Path, remains: Remains) -> None:
        """Begin a clip with what is whole of an unfinished one; seal it if its drive is over."""
        utc_ns, ours = remains.path.stat().st_mtime_ns, self._is_ours(remains)
        if self.resumed is not None:
            self.seal(self.resumed.events)
            self.resumed = None
        self.open(DriveFacts.of(remains))
        self._remains = folder
        assert self._writer is not None
        carry_over(remains.path, self._writer)
        self._summariser.read(remains.path)
        self._first, self._last = (
            Slot(
                frame_id=frame_id,
                mono_ns=mono_ns,
                utc_ns=utc_ns,
                flagged=False,
                telemetry=b"",
                images={},
            )
            for frame_id, mono_ns in zip(remains.frames, remains.span_ns, strict=True)
        )
        self.salvaged += 1
        if ours:
            self.resumed = remains
        else:
            self.seal(remains.events)


def _read_kept(path: Path) -> dict[str, int]:
    """Return clips kept by trigger; a damaged or missing count begins anew."""
    try:
        found = json.loads(path.read_bytes())
        return {str(key): int(count) for key, count in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _number(folder: Path) -> int:
    """Return n of a folder clip-n."""
    text = folder.name.removeprefix("clip-")
    return int(text) if text.isdigit() else 0


def _complete(folder: Path) -> str | None:
    """Return the id of the clip in `folder` when all of it is there."""
    try:
        manifest = wire.from_bytes(ClipManifest, (folder / MANIFEST).read_bytes())
        whole = wire.digest_file(folder / CLIP) == manifest.clip_id
    except (OSError, ContractError):
        return None
    return manifest.clip_id if whole else None
