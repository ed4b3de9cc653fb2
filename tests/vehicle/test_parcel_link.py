"""A release in one tar goes through the same installer, and is refused by the same names."""

import io
import json
import tarfile

import pytest
from fakes_fleet import DAY_NS, Fleet
from typer.testing import CliRunner

from fleet.cli import app as fleet_app
from fleet.orbit.releases import NothingToSendError, release_parcel
from vehicle.cli import app as vehicle_app
from vehicle.clock import FakeClock, SystemClock
from vehicle.contracts import parcel
from vehicle.contracts.parcel import ParcelError
from vehicle.installer import FreezeError, RollbackError, TamperedReleaseError, UnknownSignerError
from vehicle.parcel_link import PARCEL_URL, ParcelLink


@pytest.fixture
def fleet(tmp_path):
    made = Fleet(tmp_path)
    made.publish(2)
    return made


def rig(fleet):
    return fleet.repository.releases()[-1].rig_digest


def install(fleet, data):
    return fleet.installer(link=ParcelLink.of(data)).update(PARCEL_URL)


def twisted(data, name_part, twist):
    contents = parcel.unpack(data, 1 << 30)
    [name] = [n for n in contents if name_part in n]
    return parcel.pack({**contents, name: twist(contents[name])})


def test_release_in_a_parcel_is_installed_like_any_other(fleet):
    result = install(fleet, release_parcel(fleet.repository, rig(fleet)))
    assert (result.status, result.bundle) == ("installed", "base@2")
    assert install(fleet, release_parcel(fleet.repository, rig(fleet))).status == "current"


def test_car_that_was_away_while_keys_were_rotated_follows_every_root(fleet):
    fleet.repository.rotate("root")
    fleet.repository.rotate("targets")
    assert install(fleet, release_parcel(fleet.repository, rig(fleet))).status == "installed"


def test_tampered_archive_is_refused(fleet):
    data = release_parcel(fleet.repository, rig(fleet))
    bad = twisted(data, "targets/", lambda b: b[:700] + bytes([b[700] ^ 1]) + b[701:])
    with pytest.raises(TamperedReleaseError):
        install(fleet, bad)
    assert fleet.installer().active() == fleet.base


def test_older_parcel_is_refused_as_a_rollback(fleet):
    old = release_parcel(fleet.repository, rig(fleet))
    fleet.publish(3)
    assert install(fleet, release_parcel(fleet.repository, rig(fleet))).bundle == "base@3"
    with pytest.raises(RollbackError):
        install(fleet, old)


def test_parcel_of_another_home_is_refused(fleet, tmp_path):
    other = Fleet(tmp_path / "other")
    other.publish(9)
    with pytest.raises(UnknownSignerError):
        install(fleet, release_parcel(other.repository, rig(other)))


def test_parcel_that_travelled_longer_than_its_signature_lasts_is_refused(fleet):
    data = release_parcel(fleet.repository, rig(fleet))
    fleet.clock.advance_ns(8 * DAY_NS)
    with pytest.raises(FreezeError):
        install(fleet, data)


def test_home_without_a_fitting_release_says_so(fleet):
    with pytest.raises(NothingToSendError):
        release_parcel(fleet.repository, "f" * 64)


def hostile(member, content=b""):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_what_is_no_parcel_is_refused_by_name():
    link = tarfile.TarInfo("metadata/timestamp.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    twice = parcel.pack({"a": b"1"})[:1024] + parcel.pack({"a": b"2"})
    for bad in (
        hostile(tarfile.TarInfo("../escape"), b"x"),
        hostile(tarfile.TarInfo("/etc/passwd"), b"x"),
        hostile(link),
        twice,
        parcel.pack({"a": b"1" * 2_000})[:1_500],
        b"nonsense" * 200,
    ):
        with pytest.raises(ParcelError):
            ParcelLink.of(bad)
    with pytest.raises(ParcelError, match="at most 100"):
        parcel.unpack(parcel.pack({"a": b"1"}), 100)


def test_same_contents_give_the_same_parcel():
    contents = {"b/c": b"2", "a": b"1"}
    assert parcel.pack(contents) == parcel.pack(dict(reversed(contents.items())))
    assert parcel.unpack(parcel.pack(contents), 1 << 20) == contents


def test_release_goes_from_home_to_car_in_a_file(tmp_path):
    fleet, root, tar = Fleet(tmp_path), tmp_path / "root.json", tmp_path / "release.tar"
    fleet.clock = FakeClock(utc_ns=SystemClock().utc_ns())
    fleet.repository.renew()
    fleet.publish(2)
    root.write_bytes(fleet.repository.root_bytes())
    home = {"ROADLOOP_HOME": str(tmp_path / "home")}
    made = CliRunner().invoke(fleet_app, ["orbit", "parcel", "--out", str(tar)], env=home)
    assert made.exit_code == 0, made.output
    words = ["install", "car-1", "--root", str(root), "--parcel", str(tar), "--json"]
    done = CliRunner().invoke(vehicle_app, words, env=home)
    assert json.loads(done.stdout)["status"] == "installed"
