"""A signed release from the gateway into the car: verify, stage, self-test, swap, commit or revert.

Who may say what is newest is decided by TUF (python-tuf's client, from a root pinned when the car
was enrolled). What this car then does with it is decided by `choose`, which sees only values. Until
the one atomic write of the pointer, the network that drives is untouched; every error is named and
leaves it driving.

Source: The Update Framework specification 1.0.34, section 5; Uptane standard 2.1.0, section 5.4.4
(release counters).
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Targets
from tuf.ngclient import Updater, UpdaterConfig

from vehicle import bundles
from vehicle.clock import Clock, SystemClock
from vehicle.contracts import wire
from vehicle.contracts.release import Release
from vehicle.contracts.uplink import IDENTITY
from vehicle.contracts.wire import RefusedError
from vehicle.identity import Identity
from vehicle.link import HttpLink, Link, TufFetcher, download
from vehicle.releases import (
    DiskError,
    EndlessDataError,
    FreezeError,
    GatewayDownError,
    InstallerBusyError,
    InstallError,
    NoRoomError,
    ReusedCounterError,
    RollbackError,
    SelfTestFailedError,
    SlowGatewayError,
    Standing,
    TamperedReleaseError,
    TrustRootError,
    UnknownSignerError,
    UnreadableReleaseError,
    WrongRigError,
    choose,
    refusal,
    release_of,
)
from vehicle.slots import Active, InstallLog, Slots, swapped

__all__ = [
    "DiskError",
    "EndlessDataError",
    "FreezeError",
    "GatewayDownError",
    "InstallError",
    "InstallResult",
    "Installer",
    "InstallerBusyError",
    "NoRoomError",
    "ReusedCounterError",
    "RollbackError",
    "SelfTestFailedError",
    "SlowGatewayError",
    "TamperedReleaseError",
    "TrustRootError",
    "UnknownSignerError",
    "UnreadableReleaseError",
    "WrongRigError",
    "pin_root",
    "pinned_root",
]

LIMITS: Final = UpdaterConfig(
    root_max_length=64_000,
    timestamp_max_length=8_000,
    snapshot_max_length=16_000,
    targets_max_length=2_000_000,
    max_root_rotations=64,
    max_delegations=1,
)
"""What a car reads at most; our own metadata is far below each of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallResult:
    """What an update did.

    Args:
        status: "installed", or "current" when the newest release drives already.
        folder: the bundle to drive with from the next start on.
        received_bytes: of the archive, in this run.
        timing_ms: per step.
    """

    status: Literal["installed", "current"]
    release: Release | None
    folder: Path
    received_bytes: int = 0
    timing_ms: dict[str, float] = field(default_factory=dict)

    @property
    def bundle(self) -> str:
        """Return the name@version that drives, or "" for the base bundle."""
        return self.release.bundle if self.release else ""


def pin_root(car_folder: Path, root: bytes) -> None:
    """Give a car the root it trusts from now on; done once, at enrolment, by hand.

    Raises:
        TrustRootError: another root is pinned.
    """
    path = car_folder / "trust" / "root.json"
    if path.is_file() and path.read_bytes() != root:
        raise TrustRootError(
            f"{path} pins {wire.digest_file(path)[:12]}, asked for {wire.digest(root)[:12]}; a car "
            "changes whom it trusts only by a root its old keys signed"
        )
    wire.atomic_write(path, root)


def pinned_root(car_folder: Path) -> bytes:
    """Return the root pinned at enrolment.

    Raises:
        TrustRootError: there is none.
    """
    path = car_folder / "trust" / "root.json"
    if not path.is_file():
        raise TrustRootError(
            f"{path} is missing: give the car its fleet's root once, with `roadloop vehicle "
            "install CAR --root FILE` (FILE from `roadloop fleet keys --root-out FILE`)"
        )
    return path.read_bytes()


class Installer:
    """Installs releases into one car; takes no part in driving.

    Args:
        car_folder: the car's own folder (`Home.car`).
        rig_digest: of the cameras it has.
        trusted_root: root metadata pinned at enrolment.
        clock: UTC for expiries, monotonic for deadlines.
        link: where bytes come from; None: the address itself, over https with the car's identity.
        base: the bundle that drives when nothing is installed; the shipped one when None.
    """

    def __init__(
        self,
        *,
        car_folder: Path,
        rig_digest: str,
        trusted_root: bytes,
        clock: Clock | None = None,
        link: Link | None = None,
        base: Path | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._rig_digest = rig_digest
        self._root = trusted_root
        self._link = link
        self._identity = car_folder / IDENTITY
        self._metadata = car_folder / "trust" / "metadata"
        self.slots = Slots(car_folder / "slots", base or bundles.base_folder())
        self.log = InstallLog(car_folder / "install.jsonl", self._clock)

    def active(self) -> Path:
        """Return the bundle to drive with, verified now; the base bundle when nothing is whole.

        A slot that is committed but broken is passed over, and the log says why.
        """
        active = self.slots.active()
        if active.reason:
            with suppress(OSError):  # a full or read-only disk must not keep the car from starting
                self.log.add("passed-over", reason=active.reason, driving=str(active.folder))
        return active.folder

    def status(self) -> Active:
        """Return what drives, its release, and why it is not what was committed."""
        return self.slots.active()

    def update(self, base_url: str) -> InstallResult:
        """Install the newest release of the gateway at `base_url`, if this car does not have it.

        Raises:
            InstallError: by its named kinds; what drives is unchanged.
            NotEnrolledError, IdentityCorruptError: the car cannot show who it is.
        """
        url = base_url.rstrip("/")
        with self._alone(), self._linked(url) as link:
            try:
                return self._update(url, link)
            except Exception as error:
                named = refusal(error, url)
                with suppress(OSError):
                    self.slots.clear_staging()
                    self.log.add("refused", error=type(named).__name__, reason=str(named))
                if named is error:
                    raise
                raise named from error

    def _update(self, url: str, link: Link) -> InstallResult:
        lap = _Laps(self._clock)
        self.slots.clear_staging()
        updater, offered = self._refresh(url, link)
        lap("refresh")
        active, floor = self.slots.active(), self.slots.floor()
        standing = Standing(
            rig_digest=self._rig_digest,
            floor_counter=floor.release_counter,
            installed=None if active.reason else active.release,
            blocked=floor.blocked,
        )
        release = choose(offered.values(), standing)
        if release is None:
            return InstallResult(status="current", release=active.release, folder=active.folder)
        archive, received = self._fetch(updater, release, url, link)
        lap("download")
        self._stage(release, archive)
        lap("stage")
        self._self_test(release)
        lap("self-test")
        folder = self._commit(release, active)
        lap("commit")
        shutil.rmtree(self.slots.download, ignore_errors=True)
        return InstallResult(
            status="installed",
            release=release,
            folder=folder,
            received_bytes=received,
            timing_ms=lap.ms,
        )

    def _refresh(self, url: str, link: Link) -> tuple[Updater, dict[str, Release]]:
        """Return what the home has signed as newest, and keep the metadata through a power loss."""
        self._metadata.mkdir(parents=True, exist_ok=True)
        try:
            updater = Updater(
                str(self._metadata),
                f"{url}/tuf/metadata/",
                fetcher=TufFetcher(link),
                config=LIMITS,
                bootstrap=self._root,
            )
        except tuf_errors.RepositoryError as error:
            raise TrustRootError(f"the pinned root is no root: {error}; enrol again") from error
        floor = self.slots.floor()
        utc_ns = max(self._clock.utc_ns(), floor.utc_ns)
        updater._trusted_set.reference_time = datetime.fromtimestamp(utc_ns * 1e-9, UTC)
        updater.refresh()
        _sync_tree(self._metadata)
        if utc_ns > floor.utc_ns:
            self.slots.raise_floor(replace(floor, utc_ns=utc_ns))
        names = Metadata[Targets].from_file(str(self._metadata / "targets.json")).signed.targets
        offered = {}
        for name in names:
            target = updater.get_targetinfo(name)
            if target is not None:
                offered[name] = release_of(target)
        return updater, offered

    def _fetch(self, updater: Updater, release: Release, url: str, link: Link) -> tuple[Path, int]:
        """Download the archive, going on where an earlier try was cut."""
        target = updater.get_targetinfo(release.target_path)
        if target is None or target.length > bundles.MAX_ARCHIVE_BYTES:
            raise TamperedReleaseError(
                f"{release.target_path} is {target.length if target else 0} bytes, a bundle has at "
                f"most {bundles.MAX_ARCHIVE_BYTES}"
            )
        folder = self.slots.download
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{release.archive.sha256}.part"
        for other in folder.iterdir():
            if other != path:
                other.unlink()
        free = shutil.disk_usage(folder).free
        if free < 3 * target.length:
            raise NoRoomError(
                f"{folder} has {free} bytes free, {release.bundle} needs {3 * target.length}"
            )
        parent, _, name = release.target_path.rpartition("/")
        source = f"{url}/tuf/targets/{parent}/{release.archive.sha256}.{name}"
        self.log.add("download", release=release.release_counter, bundle=release.bundle)
        received = download(link, source, path, target.length)
        found, size = wire.digest_file(path), path.stat().st_size
        if found != release.archive.sha256 or size != target.length:
            path.unlink()
            raise TamperedReleaseError(
                f"{source}: found sha256 {found} ({size} bytes), signed is "
                f"{release.archive.sha256} ({target.length} bytes)"
            )
        return path, received

    def _stage(self, release: Release, archive: Path) -> None:
        try:
            bundle = bundles.unpack(archive, self.slots.staging)
            self.slots.verify(self.slots.staging, release)
        except RefusedError as error:
            raise TamperedReleaseError(
                f"{release.target_path}: {type(error).__name__}: {error}"
            ) from error
        if bundle.rig.digest != self._rig_digest:
            raise WrongRigError(
                f"{bundle.tag} was made for rig {bundle.rig.digest[:12]} ({bundle.rig.name}), this "
                f"car has {self._rig_digest[:12]}"
            )

    def _self_test(self, release: Release) -> None:
        try:
            bundles.self_test(self.slots.staging)
        except OSError:
            raise
        except Exception as error:  # whatever a strange network does, it does not drive
            reason = f"{type(error).__name__}: {error}"
            floor = self.slots.floor()
            blocked = {**floor.blocked, release.bundle_digest: reason}
            self.slots.raise_floor(replace(floor, blocked=blocked))
            raise SelfTestFailedError(f"{release.bundle}: {reason}") from error

    def _commit(self, release: Release, driving: Active) -> Path:
        """Swap the slots with one atomic write; go back when what stands there is not whole."""
        before = self.slots.current()
        after = swapped(driving, release)
        folder = self.slots.fill(after.slot)
        self.slots.point(after)
        active = self.slots.active()
        if active.folder != folder:
            self.slots.point(before)
            raise TamperedReleaseError(
                f"slot {after.slot} does not read back ({active.reason}); went back to "
                f"{self.slots.active().folder}"
            )
        self.slots.raise_floor(replace(self.slots.floor(), release_counter=release.release_counter))
        self.log.add(
            "committed",
            release=release.release_counter,
            bundle=release.bundle,
            bundle_digest=release.bundle_digest,
            slot=after.slot,
        )
        return folder

    @contextmanager
    def _linked(self, url: str) -> Iterator[Link]:
        if self._link is not None:
            yield self._link
            return
        identity = Identity.at(self._identity) if url.startswith("https:") else None
        with closing(HttpLink(self._clock, identity)) as link:
            yield link

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.slots.folder.mkdir(parents=True, exist_ok=True)
        with (self.slots.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InstallerBusyError(f"{self.slots.folder} is being installed to") from error
            yield


class _Laps:
    def __init__(self, clock: Clock) -> None:
        self._clock, self._last_ns = clock, clock.mono_ns()
        self.ms: dict[str, float] = {}

    def __call__(self, step: str) -> None:
        now_ns = self._clock.mono_ns()
        self.ms[step] = round((now_ns - self._last_ns) / 1e6, 3)
        self._last_ns = now_ns


def _sync_tree(folder: Path) -> None:
    """Put every file of a folder on disk: python-tuf renames but does not fsync."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            continue
        if path.is_dir():
            wire.sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    wire.sync_folder(folder)
