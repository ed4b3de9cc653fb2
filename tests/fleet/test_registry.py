import multiprocessing

import pytest

from fleet.registry import (
    AlreadyEnrolledError,
    CarNameError,
    EnrolledCar,
    Registry,
    RegistryCorruptError,
    RegistryOldError,
    UnknownCarError,
)
from vehicle.contracts.home import Home

RIG = "ab" * 32
OLD, NEW = "1" * 64, "2" * 64


def car(name: str = "car-1", certificate: str = OLD) -> EnrolledCar:
    return EnrolledCar(
        car_id=name, rig_digest=RIG, certificate_sha256=certificate, expires_utc_ns=1
    )


def test_enrolled_car_is_known_by_its_certificate_alone(tmp_path):
    registry = Registry(Home(tmp_path))
    registry.enrol(car())
    assert registry.why_not("car-1", OLD) == ""
    assert "newer certificate" in registry.why_not("car-1", NEW)
    assert "not enrolled" in registry.why_not("car-2", OLD)
    assert registry.cars()["car-1"].rig_digest == RIG


def test_second_enrolment_is_refused_unless_renewed(tmp_path):
    registry = Registry(Home(tmp_path))
    registry.enrol(car())
    with pytest.raises(AlreadyEnrolledError, match="--renew"):
        registry.enrol(car(certificate=NEW))
    registry.enrol(car(certificate=NEW), renew=True)
    assert registry.why_not("car-1", OLD)
    assert registry.why_not("car-1", NEW) == ""


def test_revoked_car_is_shut_out_until_it_is_renewed(tmp_path):
    registry = Registry(Home(tmp_path))
    registry.enrol(car())
    registry.revoke("car-1")
    assert "revoked" in registry.why_not("car-1", OLD)
    assert registry.cars()["car-1"].revoked
    registry.enrol(car(certificate=NEW), renew=True)
    assert registry.why_not("car-1", NEW) == ""
    with pytest.raises(UnknownCarError, match="known: car-1"):
        registry.revoke("car-2")


@pytest.mark.parametrize("name", ["", "..", "../car", ".hidden", "a/b", "a b", "-x", "ä", "x" * 65])
def test_hostile_car_names_are_refused(tmp_path, name):
    with pytest.raises(CarNameError):
        Registry(Home(tmp_path)).enrol(car(name))


def _enrol_ten(root, first):
    for i in range(first, first + 10):
        Registry(Home(root)).enrol(car(f"car-{i}"))


def test_two_processes_enrolling_at_once_lose_no_car(tmp_path):
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_enrol_ten, args=(tmp_path, i)) for i in (0, 10)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert len(Registry(Home(tmp_path)).cars()) == 20


def test_running_registry_sees_a_car_enrolled_by_another(tmp_path):
    running = Registry(Home(tmp_path))
    assert running.cars() == {}
    Registry(Home(tmp_path)).enrol(car())
    assert running.why_not("car-1", OLD) == ""


def test_damaged_registry_is_named(tmp_path):
    registry = Registry(Home(tmp_path))
    registry.enrol(car())
    (tmp_path / "fleet" / "registry.json").write_text("{")
    with pytest.raises(RegistryCorruptError, match=r"registry\.json"):
        registry.cars()


def test_registry_of_the_days_of_tokens_says_to_enrol_again(tmp_path):
    path = tmp_path / "fleet" / "registry.json"
    path.parent.mkdir()
    path.write_text('{"cars":{},"schema":"registry/1"}')
    with pytest.raises(RegistryOldError, match="enrol every car again"):
        Registry(Home(tmp_path)).cars()
