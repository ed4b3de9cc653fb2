import multiprocessing

import pytest

from fleet.campaign import CampaignCorruptError, CampaignNameError, Campaigns
from fleet.registry import AlreadyEnrolledError, CarNameError, Registry, RegistryCorruptError
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign, TriggerSpec
from vehicle.contracts.home import Home

RIG = "ab" * 32


def test_enrolled_car_is_known_by_its_token_and_only_the_hash_is_kept(tmp_path):
    registry = Registry(Home(tmp_path))
    token = registry.enrol("car-1", RIG)
    assert registry.car_of(token) == "car-1"
    assert registry.verify("car-1", token)
    assert not registry.verify("car-2", token)
    assert not registry.verify("car-1", token + "x")
    assert registry.car_of("") is None
    text = (tmp_path / "fleet" / "registry.json").read_text()
    assert token not in text
    assert registry.cars()["car-1"].rig_digest == RIG


def test_second_enrolment_is_refused_unless_renewed(tmp_path):
    registry = Registry(Home(tmp_path))
    old = registry.enrol("car-1", RIG)
    with pytest.raises(AlreadyEnrolledError, match="--renew"):
        registry.enrol("car-1", RIG)
    new = registry.enrol("car-1", RIG, renew=True)
    assert registry.car_of(old) is None
    assert registry.car_of(new) == "car-1"


@pytest.mark.parametrize("name", ["", "..", "../car", ".hidden", "a/b", "a b", "-x", "ä", "x" * 65])
def test_hostile_car_names_are_refused(tmp_path, name):
    with pytest.raises(CarNameError):
        Registry(Home(tmp_path)).enrol(name, RIG)


def _enrol_ten(root, first):
    for i in range(first, first + 10):
        Registry(Home(root)).enrol(f"car-{i}", RIG)


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
    token = Registry(Home(tmp_path)).enrol("car-1", RIG)
    assert running.car_of(token) == "car-1"


def test_damaged_registry_is_named(tmp_path):
    registry = Registry(Home(tmp_path))
    registry.enrol("car-1", RIG)
    (tmp_path / "fleet" / "registry.json").write_text("{")
    with pytest.raises(RegistryCorruptError, match=r"registry\.json"):
        registry.cars()


def test_car_gets_the_campaign_that_names_it_before_one_for_all(tmp_path):
    campaigns = Campaigns(Home(tmp_path))
    trigger = TriggerSpec(name="ttc", kind="ttc", threshold=2.0)
    assert campaigns.for_car("car-1") == DEFAULT_CAMPAIGN
    for name, cars, expires in (("all", ("*",), None), ("a", ("car-1",), 100)):
        campaigns.put(
            Campaign(campaign_id=name, cars=cars, triggers=(trigger,), expires_utc_ns=expires)
        )
    assert campaigns.for_car("car-1").campaign_id == "a"
    assert campaigns.for_car("car-1", utc_ns=101).campaign_id == "all"
    assert campaigns.for_car("car-2").campaign_id == "all"


def test_campaign_with_a_hostile_name_or_damaged_file_is_refused(tmp_path):
    campaigns = Campaigns(Home(tmp_path))
    with pytest.raises(CampaignNameError):
        campaigns.put(Campaign(campaign_id="../x", triggers=()))
    (tmp_path / "fleet" / "campaigns").mkdir(parents=True)
    (tmp_path / "fleet" / "campaigns" / "x.json").write_text("{}")
    with pytest.raises(CampaignCorruptError):
        campaigns.for_car("car-1")
