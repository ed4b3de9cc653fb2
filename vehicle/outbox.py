"""The outbox as the uplink sees it: what waits, what home was told, what was spent, what is sent.

The recorder puts clips in and, when the disk is full, takes the least worth of them out again; so a
clip may be gone at any moment, and that is no error. What must survive a kill is on the disk before
the link is used: a clip is counted as spent before its first byte leaves the car, and leaves the
outbox only after its receipt is there.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, ClipSummary
from vehicle.contracts.uplink import MAX_SUMMARY_BYTES
from vehicle.contracts.wire import ContractError, RefusedError
from vehicle.uplink_policy import WINDOW_NS, Spent, What

OUTBOX: Final = "outbox"
SENT: Final = "sent"
MANIFEST: Final = "manifest.json"
SUMMARY: Final = "summary.json"
TOLD: Final = ".told"
BEGUN: Final = ".begun"
WANTED: Final = ".wanted"
LEDGER: Final = "spent.jsonl"
KEPT_CHARGES: Final = 4_096
"""Above that, charges that no budget counts any more are forgotten at the next start."""


class UplinkBusyError(RefusedError):
    """Another uplink sends for this car."""


class ClipGoneError(Exception):
    """The clip is no longer in the outbox: evicted, or sent by another. No fault of anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What stays in the car of a clip that landed."""

    SCHEMA: ClassVar[str] = "receipt/1"
    clip_id: str
    size_bytes: int
    campaigns: tuple[str, ...]
    sent_utc_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Bytes that are counted as spent, from just before they leave the car: a line of spent.jsonl.

    Args:
        link: name of the link's policy.
        campaign: that pays, "" for none.
    """

    SCHEMA: ClassVar[str] = "charge/1"
    utc_ns: int
    link: str
    what: What
    clip_id: str
    campaign: str
    bytes: int


@dataclass(slots=True, kw_only=True)
class OutboxClip:
    """A clip that waits.

    Args:
        value: as its summary says.
        summary_bytes: what telling of it takes.
        told, begun, wanted: see `Waiting`.
    """

    manifest: ClipManifest
    value: float
    summary_bytes: int
    told: bool
    begun: bool
    wanted: bool

    @property
    def size_bytes(self) -> int:
        """Return the bytes of its files."""
        return sum(entry.size_bytes for entry in self.manifest.files)

    @property
    def campaigns(self) -> tuple[str, ...]:
        """Return the campaigns of its events, the most urgent first."""
        events = sorted(self.manifest.events, key=lambda e: -e.priority)
        return tuple(dict.fromkeys(event.campaign_id for event in events))

    @property
    def priority(self) -> int:
        """Return the highest priority of its events."""
        return max((event.priority for event in self.manifest.events), default=0)


class Outbox:
    """What one car has to send; one uplink at a time holds it.

    Args:
        car_folder: cars/CAR: `outbox/` with the recorder's clips, `sent/` with receipts.
        car_id: clips of other cars are no clips of this outbox.
    Raises:
        UplinkBusyError: another uplink holds it.
    """

    def __init__(self, car_folder: Path, car_id: str) -> None:
        self._folder, self._sent, self._car = car_folder / OUTBOX, car_folder / SENT, car_id
        self._sent.mkdir(parents=True, exist_ok=True)
        self._lock = (self._sent / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise UplinkBusyError(
                f"another uplink sends for {car_folder}; end it, or let it do the work"
            ) from error
        for half in self._sent.glob(".*.part"):  # of an uplink that was killed writing
            half.unlink(missing_ok=True)
        self._clips: dict[str, OutboxClip] = {}
        self._charges: dict[tuple[str, What], list[Charge]] = {}
        self._read_ledger()

    def close(self) -> None:
        """Let another uplink have it."""
        self._lock.close()

    def clips(self) -> tuple[dict[str, OutboxClip], dict[str, str]]:
        """Return the clips that wait, by id, and those that cannot go, with the reason.

        What landed before the last run was cut off is tidied away.
        """
        found: dict[str, OutboxClip] = {}
        bad: dict[str, str] = {}
        for folder in self._folders():
            name = folder.name
            if name in self._clips and (folder / MANIFEST).is_file():
                found[name] = self._clips[name]
            elif self._receipt(name).is_file():
                shutil.rmtree(folder, ignore_errors=True)
            else:
                try:
                    clip = self._look(folder)
                except (ContractError, OSError) as error:
                    bad[name] = f"{type(error).__name__}: {error}"
                else:
                    found |= {name: clip} if clip else {}
        self._clips = found
        return dict(found), bad

    def clip(self, clip_id: str) -> OutboxClip | None:
        """Return a clip of the last look, None when it is gone since."""
        clip = self._clips.get(clip_id)
        return clip if clip and (self.folder(clip_id) / MANIFEST).is_file() else None

    def folder(self, clip_id: str) -> Path:
        """Return where a clip's files are."""
        return self._folder / clip_id

    def summary(self, clip: OutboxClip) -> bytes:
        """Return what home is told of a clip first.

        Raises:
            ClipGoneError: it was evicted meanwhile.
        """
        folder = self.folder(clip.manifest.clip_id)
        if not (folder / MANIFEST).is_file():
            raise ClipGoneError(clip.manifest.clip_id)
        return wire.to_bytes(_summary(folder, clip.manifest))

    def mark(self, clip: OutboxClip, name: str) -> None:
        """Note in the clip's folder that home was told of it (TOLD), wants it (WANTED), or is being
        sent it (BEGUN); the recorder evicts neither of the last two.

        Only a hint, which a full disk or an eviction may prevent: what is lost is sent twice.
        """
        with contextlib.suppress(OSError):
            (self.folder(clip.manifest.clip_id) / name).touch()
        clip.told, clip.begun = clip.told or name == TOLD, clip.begun or name == BEGUN
        clip.wanted = clip.wanted or name == WANTED

    def confirm(self, receipt: Receipt) -> None:
        """Swap a landed clip for its receipt; on a full disk the clip makes room for it."""
        folder, data = self.folder(receipt.clip_id), wire.to_bytes(receipt)
        path = self._receipt(receipt.clip_id)
        try:
            wire.atomic_write(path, data)
        except OSError:
            for old in folder.iterdir():
                if old.name != MANIFEST:
                    old.unlink()
            wire.atomic_write(path, data)
        shutil.rmtree(folder, ignore_errors=True)
        self._clips.pop(receipt.clip_id, None)

    def spent(self, link: str, utc_ns: int) -> Spent:
        """Return what was spent in the last 24 hours, on `link` and by each campaign.

        A charge dated more than 24 hours ahead was written under a wrong clock and counts no more
        than one of yesterday.
        """
        every = (c for charges in self._charges.values() for c in charges)
        recent = [c for c in every if abs(utc_ns - c.utc_ns) < WINDOW_NS]
        counts: dict[str, int] = {}
        sizes: dict[str, int] = {}
        clips = {(c.clip_id, c.campaign): c for c in recent if c.what == "clip" and c.campaign}
        for charge in clips.values():
            counts[charge.campaign] = counts.get(charge.campaign, 0) + 1
            sizes[charge.campaign] = sizes.get(charge.campaign, 0) + charge.bytes
        here = [c for c in recent if c.link == link]
        return Spent(
            clip_bytes=sum(c.bytes for c in here if c.what == "clip"),
            summary_bytes=sum(c.bytes for c in here if c.what == "summary"),
            campaign_clips=counts,
            campaign_bytes=sizes,
        )

    def paid(self, clip_id: str, what: What, utc_ns: int) -> dict[str, str]:
        """Return on which links `spent` counts this already, and which campaign paid there."""
        charges = self._charges.get((clip_id, what), ())
        return {c.link: c.campaign for c in charges if abs(utc_ns - c.utc_ns) < WINDOW_NS}

    def charge(self, charge: Charge) -> None:
        """Count bytes as spent, for good before they go.

        On a full disk only in memory: sending is what makes room again.
        """
        if charge.link in self.paid(charge.clip_id, charge.what, charge.utc_ns):
            return
        self._charges.setdefault((charge.clip_id, charge.what), []).append(charge)
        with contextlib.suppress(OSError), (self._sent / LEDGER).open("ab") as file:
            file.write(b"\n" + wire.to_bytes(charge))  # first: half a line may stand before it
            file.flush()
            os.fsync(file.fileno())

    def _folders(self) -> Iterator[Path]:
        if self._folder.is_dir():
            yield from sorted(f for f in self._folder.iterdir() if not f.name.startswith("."))

    def _look(self, folder: Path) -> OutboxClip | None:
        """Return a clip as it lies there; None where there is none, or none any more."""
        try:
            manifest = wire.from_bytes(ClipManifest, (folder / MANIFEST).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        wire.require(manifest.clip_id == folder.name, f"manifest is of clip {manifest.clip_id}")
        wire.require(
            manifest.car_id == self._car, f"clip is of car {manifest.car_id!r}, not {self._car!r}"
        )
        summary = _summary(folder, manifest)
        return OutboxClip(
            manifest=manifest,
            value=summary.value,
            summary_bytes=len(wire.to_bytes(summary)),
            told=(folder / TOLD).exists(),
            begun=(folder / BEGUN).exists(),
            wanted=(folder / WANTED).exists(),
        )

    def _receipt(self, clip_id: str) -> Path:
        return self._sent / f"{clip_id}.json"

    def _read_ledger(self) -> None:
        """Take up what is written down, and forget what no budget counts any more.

        Half a line is of an uplink that was killed before it sent what it was about to.
        """
        path = self._sent / LEDGER
        lines = path.read_bytes().splitlines() if path.is_file() else []
        charges: list[Charge] = []
        for line in lines:
            with contextlib.suppress(ContractError):
                charges.append(wire.from_bytes(Charge, line, strict=False))
        if len(charges) > KEPT_CHARGES:
            last_ns = charges[-1].utc_ns
            old = [abs(last_ns - c.utc_ns) >= WINDOW_NS for c in charges]
            charges = [c for c, gone in zip(charges, old, strict=True) if not gone]
            with contextlib.suppress(OSError):
                wire.atomic_write(path, b"\n".join(wire.to_bytes(c) for c in charges))
        for charge in charges:
            self._charges.setdefault((charge.clip_id, charge.what), []).append(charge)


def _summary(folder: Path, manifest: ClipManifest) -> ClipSummary:
    """Return the recorder's summary of a clip; of one without, what its manifest says."""
    plain = ClipSummary(manifest=manifest, value=0.0)
    try:
        data = (folder / SUMMARY).read_bytes()
        summary = wire.from_bytes(ClipSummary, data)
    except (OSError, ContractError):
        return plain
    fits = summary.manifest == manifest and len(wire.to_bytes(summary)) <= MAX_SUMMARY_BYTES
    return summary if fits else plain
