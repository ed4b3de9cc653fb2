"""The signed repository: roles, keys on disk, what a cut publish leaves, rotation."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes_bundle import make_bundle, make_report
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root

from fleet.release import GateRules, gate
from fleet.sign import (
    POLICY,
    CounterReusedError,
    KeyMissingError,
    NoRepositoryError,
    ReleaseMismatchError,
    Repository,
    RepositoryDamagedError,
    RepositoryExistsError,
    UnknownRoleError,
)
from vehicle import bundles
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.release import Release


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(Home(tmp_path / "home"))
    repository.create()
    return repository


def release_of(folder: Path, counter: int) -> Release:
    report = make_report(bundles.digest_of(folder))
    return gate(folder, [report], [], release_counter=counter, rules=GateRules())


def publish(repository: Repository, folder: Path, counter: int) -> Path:
    make_bundle(folder, version=counter, gain=0.5 + counter / 10)
    return repository.publish(folder, release_of(folder, counter))


def metadata(repository: Repository, name: str) -> Metadata:
    return Metadata.from_file(str(repository.metadata_folder / name))


def test_keys_are_private_and_their_counts_follow_the_policy(repository: Repository) -> None:
    files = sorted(repository.keys_folder.glob("*.pem"))
    assert len(files) == sum(p.keys for p in POLICY.values()) == 6
    assert {f.stat().st_mode & 0o777 for f in files} == {0o600}
    assert repository.keys_folder.stat().st_mode & 0o777 == 0o700
    served = b"".join(f.read_bytes() for f in repository.folder.rglob("*") if f.is_file())
    assert b"PRIVATE" not in served


def test_root_needs_two_of_three(repository: Repository) -> None:
    root = metadata(repository, "1.root.json")
    assert root.signed.roles["root"].threshold == 2
    root.signatures = dict(list(root.signatures.items())[:1])
    with pytest.raises(UnsignedMetadataError):
        root.verify_delegate("root", root)


def test_making_it_twice_is_refused(repository: Repository) -> None:
    before = repository.root_bytes()
    with pytest.raises(RepositoryExistsError):
        repository.create()
    assert repository.root_bytes() == before


def test_asking_before_it_is_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRepositoryError):
        Repository(Home(tmp_path)).releases()


def test_missing_metadata_is_named(repository: Repository) -> None:
    (repository.metadata_folder / "1.snapshot.json").unlink()
    with pytest.raises(RepositoryDamagedError, match=r"1\.snapshot\.json"):
        repository.releases()


def test_published_release_is_a_target_under_its_digest(
    repository: Repository, tmp_path: Path
) -> None:
    file = publish(repository, tmp_path / "b", 1)
    release = repository.releases()[0]
    assert file.name == f"{release.archive.sha256}.1.tar"
    assert file.parent.name == "base"
    assert wire.digest(file.read_bytes()) == release.archive.sha256
    targets = metadata(repository, "2.targets.json").signed.targets
    text = targets["base/1.tar"].custom["release"]
    assert wire.from_bytes(Release, text.encode()) == release
    assert repository.next_counter() == 2


def test_counter_must_grow(repository: Repository, tmp_path: Path) -> None:
    publish(repository, tmp_path / "b", 3)
    make_bundle(tmp_path / "c")
    for counter in (1, 3):
        with pytest.raises(CounterReusedError, match="above 3"):
            repository.publish(tmp_path / "c", release_of(tmp_path / "c", counter))


def test_bundle_changed_after_the_gate_is_refused(repository: Repository, tmp_path: Path) -> None:
    make_bundle(tmp_path / "b")
    release = release_of(tmp_path / "b", 1)
    make_bundle(tmp_path / "b", gain=0.7)
    with pytest.raises(ReleaseMismatchError, match="bundle_digest"):
        repository.publish(tmp_path / "b", release)
    assert repository.releases() == ()


def test_publish_cut_at_any_write_leaves_the_repository_as_it_was(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository, tmp_path / "a", 1)
    make_bundle(tmp_path / "b")
    release = release_of(tmp_path / "b", 2)
    timestamp = (repository.metadata_folder / "timestamp.json").read_bytes()
    whole, written = wire.atomic_write, []

    for cut in range(4):
        written.clear()

        def write(path: Path, data: bytes, cut: int = cut) -> None:
            if len(written) == cut:
                raise OSError("power")
            written.append(path.name)
            whole(path, data)

        monkeypatch.setattr(wire, "atomic_write", write)
        with pytest.raises(OSError, match="power"):
            repository.publish(tmp_path / "b", release)
        assert (repository.metadata_folder / "timestamp.json").read_bytes() == timestamp
        assert [r.release_counter for r in repository.releases()] == [1]
    monkeypatch.setattr(wire, "atomic_write", whole)
    repository.publish(tmp_path / "b", release)
    assert [r.release_counter for r in repository.releases()] == [1, 2]


@pytest.mark.parametrize("role", list(POLICY))
def test_rotation_is_signed_by_old_and_new_and_retires_the_old_keys(
    repository: Repository, role: str, tmp_path: Path
) -> None:
    old_ids = repository.key_ids()[role]
    repository.rotate(role)
    old: Metadata[Root] = metadata(repository, "1.root.json")
    new: Metadata[Root] = metadata(repository, "2.root.json")
    old.verify_delegate("root", new)
    new.verify_delegate("root", new)
    assert not set(old_ids) & set(repository.key_ids()[role])
    assert len(list(repository.keys_folder.glob("*.pem"))) == 6
    publish(repository, tmp_path / "b", 1)
    assert len(repository.releases()) == 1


def test_unknown_role_has_no_keys_to_rotate(repository: Repository) -> None:
    with pytest.raises(UnknownRoleError):
        repository.rotate("driver")


def test_signing_without_enough_keys_is_refused(repository: Repository, tmp_path: Path) -> None:
    for path in list(repository.keys_folder.glob("root-*.pem"))[:2]:
        path.unlink()
    with pytest.raises(KeyMissingError, match="1 of its private keys"):
        repository.rotate("timestamp")
    publish(repository, tmp_path / "b", 1)  # root stays away from daily work


def test_renewal_moves_every_expiry(tmp_path: Path) -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    times = [start]
    repository = Repository(Home(tmp_path), now=lambda: times[0])
    repository.create()
    assert repository.expiries()["timestamp"] == start + timedelta(days=7)
    times[0] = start + timedelta(days=30)
    repository.renew()
    ends = repository.expiries()
    assert {r: (t - times[0]).days for r, t in ends.items()} == {
        r: p.days for r, p in POLICY.items()
    }
