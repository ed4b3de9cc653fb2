import shutil

import pytest

from fleet.identity import enrol
from vehicle.contracts.home import Home
from vehicle.identity import ForeignIdentityError, Identity, IdentityCorruptError, NotEnrolledError


@pytest.fixture
def folder(tmp_path):
    home = Home(tmp_path)
    enrol(home, "car-1", "", home.car("car-1") / "identity")
    return home.car("car-1") / "identity"


def test_enrolled_car_knows_who_it_is(folder):
    assert Identity.at(folder, "car-1").car_id == Identity.at(folder).car_id == "car-1"


@pytest.mark.parametrize("name", ["car.key", "car.crt", "home.crt"])
def test_missing_file_is_named_with_how_to_enrol(folder, name):
    (folder / name).unlink()
    with pytest.raises(NotEnrolledError, match=f"has no {name}; .*roadloop fleet enrol car-1"):
        Identity.at(folder)


@pytest.mark.parametrize("name", ["car.key", "car.crt", "home.crt"])
@pytest.mark.parametrize("data", [b"", b"-----BEGIN CERTIFICATE-----\nno\n", b"\xff" * 99])
def test_file_that_is_no_key_or_certificate_is_named(folder, name, data):
    (folder / name).write_bytes(data)
    with pytest.raises(IdentityCorruptError, match="fleet enrol car-1 --renew"):
        Identity.at(folder)


def test_key_of_another_certificate_is_refused(folder, tmp_path):
    other = Home(tmp_path / "other")
    enrol(other, "car-1", "", other.root)
    shutil.copyfile(other.root / "car.key", folder / "car.key")
    with pytest.raises(IdentityCorruptError, match=r"KEY_VALUES_MISMATCH|key values mismatch"):
        Identity.at(folder)


def test_another_cars_folder_is_refused(folder):
    with pytest.raises(ForeignIdentityError, match="is of car 'car-1', expected 'car-2'"):
        Identity.at(folder, "car-2")
