"""The signed repository that cars trust: keys, roles, and the order in which files appear.

TUF (the Update Framework) splits trust over four roles, so that one stolen key is not enough: root
says whose keys count, targets says which bundles are releases, snapshot and timestamp say what is
newest. What is current follows from `timestamp.json` alone; it is written last, so a publish that
is cut leaves the repository as it was.

Source: The Update Framework specification 1.0.34, sections 4 to 6; python-tuf `tuf.api.metadata`.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import RepositoryError, StorageError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from fleet.keys import KeyFolder
from vehicle import bundles
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.release import RELEASE_FIELD, Release


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePolicy:
    """How many keys a role has, how many must sign, and how long its signature lasts."""

    keys: int
    threshold: int
    days: int


POLICY: Final = {
    "root": RolePolicy(keys=3, threshold=2, days=365),
    "targets": RolePolicy(keys=1, threshold=1, days=90),
    "snapshot": RolePolicy(keys=1, threshold=1, days=30),
    "timestamp": RolePolicy(keys=1, threshold=1, days=7),
}
"""A week is how long a car may be kept from hearing of a newer release without noticing."""


class RepositoryExistsError(wire.RefusedError):
    """The repository has been made before; making it again would orphan every car."""


class NoRepositoryError(wire.RefusedError):
    """There is no signed repository in this home yet."""


class KeyMissingError(wire.RefusedError):
    """A role cannot sign: fewer of its private keys are here than must sign."""


class CounterReusedError(wire.RefusedError):
    """A release counter does not grow; cars would refuse the release as a rollback."""


class ReleaseMismatchError(wire.RefusedError):
    """A release describes other bytes than the bundle that is to be published."""


class RepositoryDamagedError(wire.RefusedError):
    """Metadata that must be there is missing or unreadable."""


class UnknownRoleError(wire.RefusedError):
    """Only root, targets, snapshot and timestamp have keys."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Repository:
    """The TUF repository of one home: `fleet/repository` (public) and `fleet/keys` (private).

    Args:
        home: the run's folder.
        now: gives the time that expiries count from.
    """

    def __init__(self, home: Home, *, now: Callable[[], datetime] = _utc_now) -> None:
        self.folder = home.fleet / "repository"
        self.metadata_folder = self.folder / "metadata"
        self.targets_folder = self.folder / "targets"
        self._keys = KeyFolder(home)
        self.keys_folder = self._keys.folder
        self._now = now

    @property
    def exists(self) -> bool:
        """Return whether the repository has been made: its first root, written last, is there."""
        return (self.metadata_folder / "1.root.json").is_file()

    def create(self) -> None:
        """Make keys (0600, never leaving this folder) and the first, empty, signed repository.

        Raises:
            RepositoryExistsError: there is one; use `rotate` to change keys.
        """
        with self._keys.locked():
            if self.exists:
                raise RepositoryExistsError(
                    f"{self.metadata_folder} holds a repository; rotate its keys instead"
                )
            root = Root(consistent_snapshot=True)
            for role, policy in POLICY.items():
                for _ in range(policy.keys):
                    root.add_key(self._keys.new_signer(role).public_key, role)
                root.roles[role].threshold = policy.threshold
            self.targets_folder.mkdir(parents=True, exist_ok=True)
            self._write_chain(root, Targets(), Snapshot(), Timestamp(), step=0)
            self._write("1.root.json", self._sign(root, root))

    def publish(self, bundle_folder: Path, release: Release) -> Path:
        """Add a release to the repository and sign the whole chain anew.

        Args:
            bundle_folder: the bundle; packed into one tar.
            release: from the gate; its counter must be above every counter so far.
        Returns:
            The archive as the gateway serves it.
        Raises:
            NoRepositoryError, CounterReusedError, ReleaseMismatchError, KeyMissingError.
        """
        path = release.target_path
        archive = bundles.pack(bundle_folder)
        self._check_bytes(bundle_folder, release, archive)
        with self._keys.locked():
            root, targets, snapshot, timestamp = self._chain()
            newest = max((r.release_counter for r in _releases_of(targets)), default=0)
            if release.release_counter <= newest:
                raise CounterReusedError(
                    f"{release.bundle}: release_counter is {release.release_counter}, "
                    f"expected above {newest}, the newest published"
                )
            target = TargetFile.from_data(path, archive, ["sha256"])
            target.unrecognized_fields["custom"] = {RELEASE_FIELD: wire.to_bytes(release).decode()}
            targets.targets[path] = target
            folder, _, name = path.rpartition("/")
            file = self.targets_folder / folder / f"{release.archive.sha256}.{name}"
            wire.atomic_write(file, archive)
            self._write_chain(root, targets, snapshot, timestamp)
        return file

    def rotate(self, role: str) -> None:
        """Give a role new keys, by a root that the old and (for root) the new keys both sign.

        Raises:
            UnknownRoleError, NoRepositoryError, KeyMissingError.
        """
        if role not in POLICY:
            raise UnknownRoleError(f"role {role!r}: expected one of {', '.join(POLICY)}")
        with self._keys.locked():
            root, targets, snapshot, timestamp = self._chain()
            before = deepcopy(root)
            retired = list(root.roles[role].keyids)
            for keyid in retired:
                root.revoke_key(keyid, role)
            for _ in range(POLICY[role].keys):
                root.add_key(self._keys.new_signer(role).public_key, role)
            self._write_root(root, before)
            self._write_chain(root, targets, snapshot, timestamp)
            for file, signer in self._keys.signers():
                if signer.public_key.keyid in retired:
                    file.unlink()

    def renew(self) -> None:
        """Sign everything anew with full lifetimes, so that idle homes do not freeze their cars."""
        with self._keys.locked():
            root, targets, snapshot, timestamp = self._chain()
            self._write_root(root, deepcopy(root))
            self._write_chain(root, targets, snapshot, timestamp)

    def releases(self) -> tuple[Release, ...]:
        """Return every published release, oldest first."""
        return _releases_of(self._chain()[1])

    def next_counter(self) -> int:
        """Return the counter of the next release."""
        return max((r.release_counter for r in self.releases()), default=0) + 1

    def root_bytes(self) -> bytes:
        """Return the newest root: what a car is given, by hand, when it is enrolled."""
        return self._root_file().read_bytes()

    def current_files(self) -> tuple[str, ...]:
        """Return the names of the metadata files that a car reads: every root, the newest rest."""
        _, targets, snapshot, _ = self._chain()
        roots = sorted(path.name for path in self.metadata_folder.glob("*.root.json"))
        chain = (f"{snapshot.version}.snapshot.json", f"{targets.version}.targets.json")
        return (*roots, "timestamp.json", *chain)

    def expiries(self) -> dict[str, datetime]:
        """Return until when each role's newest metadata is good."""
        return {signed.type: signed.expires for signed in self._chain()}

    def key_ids(self) -> dict[str, tuple[str, ...]]:
        """Return the key ids that root lists per role."""
        root = self._chain()[0]
        return {role: tuple(root.roles[role].keyids) for role in POLICY}

    def _check_bytes(self, bundle_folder: Path, release: Release, archive: bytes) -> None:
        found = {
            "bundle_digest": (bundles.digest_of(bundle_folder), release.bundle_digest),
            "archive.sha256": (wire.digest(archive), release.archive.sha256),
        }
        for field, (is_now, said) in found.items():
            if is_now != said:
                raise ReleaseMismatchError(
                    f"{release.bundle}: release.{field} is {said}, but {bundle_folder} gives "
                    f"{is_now}; run the gate again on the bundle as it is"
                )

    def _chain(self) -> tuple[Root, Targets, Snapshot, Timestamp]:
        """Return what clients see as current, following timestamp -> snapshot -> targets."""
        root_file, folder = self._root_file(), self.metadata_folder
        try:
            root = Metadata[Root].from_file(str(root_file)).signed
            timestamp = Metadata[Timestamp].from_file(str(folder / "timestamp.json")).signed
            name = f"{timestamp.snapshot_meta.version}.snapshot.json"
            snapshot = Metadata[Snapshot].from_file(str(folder / name)).signed
            name = f"{snapshot.meta['targets.json'].version}.targets.json"
            targets = Metadata[Targets].from_file(str(folder / name)).signed
        except (StorageError, RepositoryError, KeyError) as error:
            raise RepositoryDamagedError(
                f"{folder} has no whole chain root -> timestamp -> snapshot -> targets ({error}); "
                "restore it from a copy"
            ) from error
        return root, targets, snapshot, timestamp

    def _root_file(self) -> Path:
        files = list(self.metadata_folder.glob("*.root.json"))
        if not files or not self.exists:
            raise NoRepositoryError(
                f"no repository in {self.folder}: make it with `roadloop fleet keys`"
            )
        return max(files, key=lambda f: int(f.name.partition(".")[0]))

    def _write_root(self, root: Root, before: Root) -> None:
        root.version += 1
        self._write(f"{root.version}.root.json", self._sign(root, root, before))

    def _write_chain(
        self, root: Root, targets: Targets, snapshot: Snapshot, timestamp: Timestamp, step: int = 1
    ) -> None:
        targets.version += step
        data = self._sign(targets, root)
        self._write(f"{targets.version}.targets.json", data)
        snapshot.meta["targets.json"] = MetaFile.from_data(targets.version, data, ["sha256"])
        snapshot.version += step
        data = self._sign(snapshot, root)
        self._write(f"{snapshot.version}.snapshot.json", data)
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, data, ["sha256"])
        timestamp.version += step
        self._write("timestamp.json", self._sign(timestamp, root))

    def _sign(self, signed: Root | Targets | Snapshot | Timestamp, *roots: Root) -> bytes:
        """Return the signed bytes, with signatures enough for each of `roots`."""
        life = timedelta(days=POLICY[signed.type].days)
        signed.expires = self._now().replace(microsecond=0) + life
        metadata: Metadata[Any] = Metadata(signed)
        signers = {s.public_key.keyid: s for _, s in self._keys.signers()}
        for root in roots:
            wanted = root.roles[signed.type]
            here = [signers[k] for k in wanted.keyids if k in signers]
            if len(here) < wanted.threshold:
                raise KeyMissingError(
                    f"{signed.type}: {len(here)} of its private keys are in {self.keys_folder}, "
                    f"expected {wanted.threshold}; bring them from where they are kept"
                )
            for signer in here:
                metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def _write(self, name: str, data: bytes) -> None:
        wire.atomic_write(self.metadata_folder / name, data)


def _releases_of(targets: Targets) -> tuple[Release, ...]:
    texts = [t.custom[RELEASE_FIELD] for t in targets.targets.values()]
    releases = [wire.from_bytes(Release, text.encode()) for text in texts]
    return tuple(sorted(releases, key=lambda r: r.release_counter))
