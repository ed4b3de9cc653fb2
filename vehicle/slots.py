"""Two places for a network in a car, and one small file that says which of them drives.

A slot's content is believed only when its manifest is the one its release names and every file has
its digest; otherwise the other slot, then the bundle that ships with the car, drives instead, and
the log says why. What is half-written is never pointed to.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from vehicle import bundles
from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.release import Release
from vehicle.contracts.wire import RefusedError

SlotName = Literal["a", "b"]
OTHER: Final[dict[SlotName, SlotName]] = {"a": "b", "b": "a"}


class BrokenSlotError(RefusedError):
    """A slot does not hold the bundle its release names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """Which slot drives, with the release in it, and what the other slot holds."""

    SCHEMA: ClassVar[str] = "slots/1"
    slot: SlotName
    release: Release
    other: Release | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What only grows, kept apart from the pointer so that losing one does not lose both.

    Args:
        release_counter: newest release ever committed; an older one is a rollback.
        utc_ns: time of the newest refresh that verified; the clock is not believed below it.
        blocked: bundle digest -> why it failed its self-test on this car.
    """

    SCHEMA: ClassVar[str] = "floor/1"
    release_counter: int = 0
    utc_ns: int = 0
    blocked: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """The bundle to drive with: its folder, its release (None for the base bundle), and why it is
    not the one that was committed ("" when it is)."""

    folder: Path
    slot: SlotName | None = None
    release: Release | None = None
    reason: str = ""


def swapped(driving: Active, release: Release) -> Current:
    """Return the pointer after `release` was put into a slot that does not drive."""
    if driving.slot is None:
        return Current(slot="a", release=release)
    return Current(slot=OTHER[driving.slot], release=release, other=driving.release)


class Slots:
    """The slots of one car on disk.

    Args:
        folder: the car's `slots/`: `a/`, `b/`, `staging/`, `download/`, `current.json`,
            `floor.json`.
        base: the bundle that ships with the car.
    """

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self.base = base
        self.staging = folder / "staging"
        self.download = folder / "download"

    def current(self) -> Current | None:
        """Return the pointer, or None when nothing was ever committed or it cannot be read."""
        found: Current | None = self._read(Current, "current.json")
        return found

    def floor(self) -> Floor:
        """Return what only grows; the pointer's release counts too."""
        floor: Floor = self._read(Floor, "floor.json") or Floor()
        current = self.current()
        if current is None or current.release.release_counter <= floor.release_counter:
            return floor
        counter = current.release.release_counter
        return Floor(release_counter=counter, utc_ns=floor.utc_ns, blocked=floor.blocked)

    def active(self) -> Active:
        """Return the bundle to drive with: verified now, file by file."""
        current = self.current()
        if current is None:
            torn = (self.folder / "current.json").exists()
            return Active(folder=self.base, reason="current.json is unreadable" if torn else "")
        reasons: list[str] = []
        tries = ((current.slot, current.release), (OTHER[current.slot], current.other))
        for slot, release in tries:
            if release is None:
                continue
            folder = self.folder / slot
            try:
                self.verify(folder, release)
            except (RefusedError, OSError) as error:
                reasons.append(f"slot {slot}: {type(error).__name__}: {error}")
                continue
            return Active(folder=folder, slot=slot, release=release, reason="; ".join(reasons))
        return Active(folder=self.base, reason="; ".join(reasons))

    def verify(self, folder: Path, release: Release) -> None:
        """Check that `folder` holds the bundle of `release`.

        Raises:
            BrokenSlotError: another bundle.
            RefusedError: no whole bundle (see `vehicle.bundles.load`).
        """
        found = bundles.digest_of(folder)
        if found != release.bundle_digest:
            raise BrokenSlotError(
                f"{folder} has bundle digest {found}, expected {release.bundle_digest} "
                f"({release.bundle})"
            )
        bundles.load(folder)

    def clear_staging(self) -> None:
        """Remove what an interrupted install left; nothing points to it."""
        if self.staging.exists():
            shutil.rmtree(self.staging)

    def fill(self, slot: SlotName) -> Path:
        """Move the staged bundle into `slot`, which must not be the one that drives."""
        target = self.folder / slot
        if target.exists():
            shutil.rmtree(target)
        self.staging.rename(target)
        wire.sync_folder(self.folder)
        return target

    def point(self, current: Current | None) -> None:
        """Make `current` what drives from the next start on: one atomic write."""
        path = self.folder / "current.json"
        if current is not None:
            wire.atomic_write(path, wire.to_bytes(current))
        elif path.exists():
            path.unlink()
            wire.sync_folder(self.folder)

    def raise_floor(self, floor: Floor) -> None:
        """Keep what only grows."""
        wire.atomic_write(self.folder / "floor.json", wire.to_bytes(floor))

    def _read(self, cls: type[Any], name: str) -> Any:
        try:
            return wire.from_bytes(cls, (self.folder / name).read_bytes())
        except (OSError, wire.ContractError):
            return None


class InstallLog:
    """What the installer did, one JSON line each, on disk before the next step."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def add(self, event: str, **facts: Any) -> None:
        """Append one line and wait until it is on disk."""
        line = wire.canonical({"utc_ns": self._clock.utc_ns(), "event": event, **facts})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            cut = file.read(1) not in (b"", b"\n")
            file.write((b"\n" if cut else b"") + line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the whole lines, oldest first; a line cut by a power loss is passed over."""
        if not self._path.is_file():
            return
        for line in self._path.read_bytes().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue
