"""Attacks on the installer, each asserting the exact refusal, and what a good update does."""

import io
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from fakes_fleet import DAY_NS, URL, Fleet, FolderLink
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from fleet.sign import POLICY, Repository
from vehicle import bundles
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.release import RELEASE_FIELD
from vehicle.installer import (
    DiskError,
    EndlessDataError,
    FreezeError,
    GatewayDownError,
    Installer,
    InstallerBusyError,
    NoRoomError,
    ReusedCounterError,
    RollbackError,
    SelfTestFailedError,
    TamperedReleaseError,
    TrustRootError,
    UnknownSignerError,
    UnreadableReleaseError,
    WrongRigError,
    pin_root,
    pinned_root,
)
from vehicle.releases import Standing, choose
from vehicle.slots import Floor

OTHER_RIG = replace(RIG_R, name="other", cameras=RIG_R.cameras[:2])


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def refused(fleet: Fleet, kind: type[Exception], **changes: object) -> str:
    """Update, expect exactly `kind`, and that what drives is as it was; return the message."""
    before = fleet.installer().active()
    with pytest.raises(kind) as caught:
        fleet.installer(**changes).update(URL)
    assert type(caught.value) is kind
    after = fleet.installer()
    assert after.active() == before
    assert not after.slots.staging.exists()
    assert [*after.log.lines()][-1]["error"] == kind.__name__
    return str(caught.value)


def sign_as(repository: Repository, *documents: tuple[str, object]) -> None:
    """Write metadata with the keys of `repository`: what a thief of these keys can do."""
    root = Metadata[Root].from_bytes(repository.root_bytes()).signed
    for name, signed in documents:
        data = repository._sign(signed, root)  # type: ignore[arg-type]
        (repository.metadata_folder / name).write_bytes(data)


# what a good update does


def test_release_is_installed_and_drives(fleet: Fleet) -> None:
    release = fleet.publish(1)
    installer = fleet.installer()
    assert installer.active() == fleet.base
    result = installer.update(URL)
    assert (result.status, result.release) == ("installed", release)
    assert installer.active() == result.folder == fleet.car_folder / "slots" / "a"
    assert bundles.digest_of(result.folder) == release.bundle_digest
    assert result.received_bytes == release.archive.size_bytes
    assert [line["event"] for line in installer.log.lines()] == ["download", "committed"]


def test_second_release_goes_to_the_other_slot_and_the_first_stays(fleet: Fleet) -> None:
    first = fleet.publish(1)
    fleet.installer().update(URL)
    second = fleet.publish(2)
    result = fleet.installer().update(URL)
    assert result.folder.name == "b"
    current = fleet.installer().slots.current()
    assert current is not None
    assert (current.release, current.other) == (second, first)
    assert bundles.digest_of(fleet.car_folder / "slots" / "a") == first.bundle_digest


def test_nothing_new_downloads_nothing(fleet: Fleet) -> None:
    assert fleet.installer().update(URL).status == "current"
    fleet.publish(1)
    fleet.installer().update(URL)
    fleet.link.asked.clear()
    assert fleet.installer().update(URL).status == "current"
    assert not [path for path in fleet.link.asked if path.startswith("targets/")]


def test_car_takes_the_newest_and_skips_what_lies_between(fleet: Fleet) -> None:
    fleet.publish(1)
    newest = fleet.publish(2)
    assert fleet.installer().update(URL).release == newest


def test_fleet_of_two_rigs_gives_each_car_its_own(fleet: Fleet) -> None:
    mine = fleet.publish(1)
    fleet.publish(2, rig=OTHER_RIG)
    assert fleet.installer().update(URL).release == mine


def test_cut_download_goes_on_where_it_was(fleet: Fleet) -> None:
    release = fleet.publish(1)
    half = release.archive.size_bytes // 2
    fleet.link.cut_at = half
    refused(fleet, GatewayDownError)
    fleet.link.cut_at = None
    result = fleet.installer().update(URL)
    assert result.received_bytes == release.archive.size_bytes - half
    assert not fleet.installer().slots.download.exists()


@pytest.mark.parametrize("role", list(POLICY))
def test_car_follows_rotated_keys_from_the_root_it_was_given(fleet: Fleet, role: str) -> None:
    fleet.publish(1)
    fleet.installer().update(URL)
    fleet.repository.rotate(role)
    fleet.repository.rotate(role)
    release = fleet.publish(2)
    assert fleet.installer().update(URL).release == release


# attacks on who signs


def test_repository_signed_by_an_attacker_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish(1)
    evil = Fleet(tmp_path / "evil")
    evil.publish(9)
    message = refused(fleet, UnknownSignerError, link=FolderLink(evil.repository.folder))
    assert "timestamp" in message


def test_car_with_another_root_refuses_everything(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish(1)
    other = Repository(Home(tmp_path / "other"), now=fleet.now)
    other.create()
    refused(fleet, UnknownSignerError, trusted_root=other.root_bytes())


def test_pinned_root_that_is_no_root_is_refused(fleet: Fleet) -> None:
    fleet.publish(1)
    refused(fleet, TrustRootError, trusted_root=b"{}")


def test_targets_by_an_attacker_with_snapshot_and_timestamp_keys_are_refused(fleet: Fleet) -> None:
    release = fleet.publish(1)
    _, targets, snapshot, timestamp = fleet.repository._chain()
    evil = replace(release, release_counter=9, bundle_digest="e" * 64)
    target = targets.targets.pop(release.target_path)
    target.unrecognized_fields["custom"] = {RELEASE_FIELD: wire.to_bytes(evil).decode()}
    targets.targets[evil.target_path] = target
    targets.version += 1
    signer = CryptoSigner.generate_ed25519()
    metadata = Metadata(targets)
    metadata.sign(signer)
    name = f"{targets.version}.targets.json"
    (fleet.repository.metadata_folder / name).write_bytes(metadata.to_bytes())
    _point_to(fleet.repository, targets, snapshot, timestamp)
    message = refused(fleet, UnknownSignerError)
    assert "targets was signed by 0/1" in message


def _point_to(
    repository: Repository, targets: Targets, snapshot: Snapshot, timestamp: Timestamp
) -> None:
    """Make snapshot and timestamp name the targets file on disk, as their keys' owner can."""
    snapshot.meta["targets.json"] = MetaFile(targets.version)
    snapshot.version += 1
    timestamp.snapshot_meta = MetaFile(snapshot.version)
    timestamp.version += 1
    sign_as(
        repository, (f"{snapshot.version}.snapshot.json", snapshot), ("timestamp.json", timestamp)
    )


def test_one_stolen_root_key_changes_nobody(fleet: Fleet) -> None:
    fleet.publish(1)
    root = Metadata[Root].from_bytes(fleet.pinned).signed
    _, stolen = next(fleet.repository._keys.signers("root"))
    signer = CryptoSigner.generate_ed25519()
    root.version = 2
    root.add_key(signer.public_key, "timestamp")
    metadata = Metadata(root)
    metadata.sign(stolen)
    metadata.sign(signer, append=True)
    (fleet.repository.metadata_folder / "2.root.json").write_bytes(metadata.to_bytes())
    assert "root was signed by 1/2" in refused(fleet, UnknownSignerError)


# attacks on bytes


def test_tampered_archive_is_refused_by_name_and_digest(fleet: Fleet) -> None:
    release = fleet.publish(1)
    fleet.link.twist = lambda path, data: (
        data[:600] + bytes([data[600] ^ 1]) + data[601:] if path.startswith("targets/") else data
    )
    message = refused(fleet, TamperedReleaseError)
    assert "1.tar" in message
    assert release.archive.sha256 in message
    assert message.count("sha256") == 1
    fleet.link.twist = lambda path, data: data
    assert fleet.installer().update(URL).status == "installed"


def test_short_archive_is_refused(fleet: Fleet) -> None:
    fleet.publish(1)
    fleet.link.twist = lambda path, data: data[:-1] if path.startswith("targets/") else data
    refused(fleet, TamperedReleaseError)


@pytest.mark.parametrize("name", ["snapshot", "targets"])
def test_metadata_with_one_flipped_bit_is_refused(fleet: Fleet, name: str) -> None:
    fleet.publish(1)
    fleet.link.twist = lambda path, data: (
        data[:-9] + bytes([data[-9] ^ 1]) + data[-8:] if f"{name}.json" in path else data
    )
    refused(fleet, TamperedReleaseError)


def test_metadata_that_is_no_json_is_refused(fleet: Fleet) -> None:
    fleet.publish(1)
    fleet.link.twist = lambda path, data: b"<html>" if "timestamp" in path else data
    refused(fleet, TamperedReleaseError)


@pytest.mark.parametrize("path_part", ["targets/base", "metadata/timestamp", "metadata/2.targets"])
def test_endless_data_is_cut_off(fleet: Fleet, path_part: str) -> None:
    fleet.publish(1)
    fleet.link.twist = lambda path, data: (
        data + b" " * 1_000_000 if path.startswith(path_part) else data
    )
    refused(fleet, EndlessDataError)
    assert not list(fleet.car_folder.rglob("*.part"))


def test_signed_archive_with_a_path_out_of_it_is_refused(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bundles.pack(fleet.bundle(1))
    buffer = io.BytesIO(whole)
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        member = tarfile.TarInfo("../../escaped")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    monkeypatch.setattr(bundles, "pack", lambda folder: buffer.getvalue())
    fleet.publish(1)
    assert "UnsafeArchiveError" in refused(fleet, TamperedReleaseError)
    assert not list(fleet.root.rglob("escaped"))


def test_release_that_lies_about_its_bundle_is_refused(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fleet.bundle(1)
    release = replace(fleet.release(folder, 1), bundle_digest="b" * 64)
    monkeypatch.setattr(bundles, "digest_of", lambda folder: "b" * 64)
    fleet.repository.publish(folder, release)
    monkeypatch.undo()
    assert "BrokenSlotError" in refused(fleet, TamperedReleaseError)


def test_release_that_is_not_of_its_target_is_refused(fleet: Fleet) -> None:
    release = fleet.publish(1)
    _, targets, snapshot, timestamp = fleet.repository._chain()
    target = targets.targets[release.target_path]
    moved = replace(release, release_counter=5)
    target.unrecognized_fields["custom"] = {RELEASE_FIELD: wire.to_bytes(moved).decode()}
    targets.version += 1
    sign_as(fleet.repository, (f"{targets.version}.targets.json", targets))
    _point_to(fleet.repository, targets, snapshot, timestamp)
    assert "5.tar" in refused(fleet, TamperedReleaseError)


def test_release_in_unknown_words_is_refused(fleet: Fleet) -> None:
    release = fleet.publish(1)
    _, targets, snapshot, timestamp = fleet.repository._chain()
    text = wire.canonical({**wire.to_plain(release), "force": True}).decode()
    targets.targets[release.target_path].unrecognized_fields["custom"] = {RELEASE_FIELD: text}
    targets.version += 1
    sign_as(fleet.repository, (f"{targets.version}.targets.json", targets))
    _point_to(fleet.repository, targets, snapshot, timestamp)
    assert "force" in refused(fleet, UnreadableReleaseError)


# attacks on time


def test_old_metadata_played_again_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish(1)
    shutil.copytree(fleet.repository.folder, tmp_path / "old")
    fleet.publish(2)
    fleet.installer().update(URL)
    refused(fleet, RollbackError, link=FolderLink(tmp_path / "old"))


def test_older_release_signed_anew_is_refused(fleet: Fleet) -> None:
    fleet.publish(1)
    newest = fleet.publish(2)
    fleet.installer().update(URL)
    _, targets, snapshot, timestamp = fleet.repository._chain()
    del targets.targets[newest.target_path]
    targets.version += 1
    sign_as(fleet.repository, (f"{targets.version}.targets.json", targets))
    _point_to(fleet.repository, targets, snapshot, timestamp)
    message = refused(fleet, RollbackError)
    assert "release 1 as the newest, this car has had 2" in message


def test_floor_holds_when_the_pointer_and_the_metadata_are_lost(fleet: Fleet) -> None:
    fleet.publish(1)
    old = fleet.root / "old"
    shutil.copytree(fleet.repository.folder, old)
    fleet.publish(2)
    fleet.installer().update(URL)
    (fleet.car_folder / "slots" / "current.json").unlink()
    shutil.rmtree(fleet.car_folder / "trust")
    refused(fleet, RollbackError, link=FolderLink(old))
    assert fleet.installer().update(URL).status == "installed"


def test_one_counter_for_two_bundles_is_refused(fleet: Fleet) -> None:
    release = fleet.publish(1)
    fleet.installer().update(URL)
    _, targets, snapshot, timestamp = fleet.repository._chain()
    target = targets.targets[release.target_path]
    other = replace(release, bundle_digest="c" * 64)
    target.unrecognized_fields["custom"] = {RELEASE_FIELD: wire.to_bytes(other).decode()}
    targets.version += 1
    sign_as(fleet.repository, (f"{targets.version}.targets.json", targets))
    _point_to(fleet.repository, targets, snapshot, timestamp)
    refused(fleet, ReusedCounterError)


def test_expired_metadata_stops_installs_and_not_driving(fleet: Fleet) -> None:
    fleet.publish(1)
    fleet.installer().update(URL)
    driving = fleet.installer().active()
    fleet.clock.advance_ns(8 * DAY_NS)
    assert "timestamp" in refused(fleet, FreezeError)
    assert fleet.installer().active() == driving
    fleet.repository.renew()
    assert fleet.installer().update(URL).status == "current"


def test_clock_set_back_is_not_believed(fleet: Fleet) -> None:
    fleet.publish(1)
    fleet.installer().slots.raise_floor(Floor(utc_ns=fleet.clock.utc_ns() + 8 * DAY_NS))
    refused(fleet, FreezeError)


# wrong releases, honestly signed


def test_release_for_other_cameras_is_refused(fleet: Fleet) -> None:
    fleet.publish(1, rig=OTHER_RIG)
    assert OTHER_RIG.digest[:12] in refused(fleet, WrongRigError)


def test_bundle_for_other_cameras_under_a_fitting_release_is_refused(fleet: Fleet) -> None:
    folder = fleet.bundle(1, rig=OTHER_RIG)
    release = replace(fleet.release(folder, 1), rig_digest=RIG_R.digest)
    fleet.repository.publish(folder, release)
    assert "was made for rig" in refused(fleet, WrongRigError)


def test_network_that_fails_its_golden_vectors_is_refused_and_not_fetched_again(
    fleet: Fleet,
) -> None:
    fleet.publish(1, golden_gain=0.9)
    assert "SelfTestError" in refused(fleet, SelfTestFailedError)
    fleet.link.asked.clear()
    assert "before" in refused(fleet, SelfTestFailedError)
    assert not [path for path in fleet.link.asked if path.startswith("targets/")]
    good = fleet.publish(2)
    assert fleet.installer().update(URL).release == good


# the car's own troubles


def test_gateway_without_a_repository_is_said_to_be_so(fleet: Fleet, tmp_path: Path) -> None:
    assert "404" in refused(fleet, GatewayDownError, link=FolderLink(tmp_path / "none"))


def test_full_disk_is_refused_before_the_download(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.publish(1)
    usage = shutil.disk_usage(fleet.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=10))
    assert "10 bytes free" in refused(fleet, NoRoomError)


@pytest.mark.parametrize(("number", "kind"), [(28, NoRoomError), (30, DiskError)])
def test_disk_that_takes_no_write_is_named(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    fleet.publish(1)

    def write(path: Path, data: bytes) -> None:
        raise OSError(number, "no", str(path))

    monkeypatch.setattr(wire, "atomic_write", write)
    refused(fleet, kind)


def test_two_installers_at_once_are_refused(fleet: Fleet) -> None:
    fleet.publish(1)
    with fleet.installer()._alone(), pytest.raises(InstallerBusyError):
        fleet.installer().update(URL)


def test_broken_slot_is_passed_over_said_and_repaired(fleet: Fleet) -> None:
    first = fleet.publish(1)
    fleet.installer().update(URL)
    second = fleet.publish(2)
    fleet.installer().update(URL)
    model = fleet.car_folder / "slots" / "b" / bundles.MODEL
    model.write_bytes(model.read_bytes()[:-1])

    installer = fleet.installer()
    assert bundles.digest_of(installer.active()) == first.bundle_digest
    line = [*installer.log.lines()][-1]
    assert line["event"] == "passed-over"
    assert "TamperedBundleError" in line["reason"]

    assert installer.update(URL).release == second
    assert installer.status().reason == ""
    assert bundles.digest_of(fleet.car_folder / "slots" / "a") == first.bundle_digest


def test_car_with_both_slots_broken_drives_the_base_bundle(fleet: Fleet) -> None:
    fleet.publish(1)
    fleet.installer().update(URL)
    shutil.rmtree(fleet.car_folder / "slots" / "a")
    assert fleet.installer().active() == fleet.base
    assert fleet.installer().update(URL).status == "installed"


def test_root_is_pinned_once(tmp_path: Path) -> None:
    with pytest.raises(TrustRootError):
        pinned_root(tmp_path)
    pin_root(tmp_path, b"first")
    pin_root(tmp_path, b"first")
    with pytest.raises(TrustRootError):
        pin_root(tmp_path, b"second")
    assert pinned_root(tmp_path) == b"first"


def test_log_cut_by_a_power_loss_is_read_on(fleet: Fleet) -> None:
    installer = fleet.installer()
    installer.log.add("one")
    path = fleet.car_folder / "install.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event": "tor')
    installer.log.add("two")
    assert [line["event"] for line in installer.log.lines()] == ["one", "two"]


def test_choice_is_made_from_values_alone() -> None:
    assert choose([], Standing(rig_digest="r")) is None
    with pytest.raises(RollbackError):
        choose([], Standing(rig_digest="r", floor_counter=3))


def test_installer_is_built_without_touching_the_disk(tmp_path: Path) -> None:
    Installer(car_folder=tmp_path / "car", rig_digest="r", trusted_root=b"")
    assert not (tmp_path / "car").exists()
