import json
import typing

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from fleet.campaign import (
    CampaignCorruptError,
    CampaignKey,
    CampaignNameError,
    Campaigns,
    UnknownCampaignError,
)
from fleet.campaign_example import EXAMPLE
from vehicle.contracts import wire
from vehicle.contracts.campaign import Campaign, TriggerKind, TriggerSpec
from vehicle.contracts.campaign_file import CampaignFileError, read
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import CAMPAIGN_PAYLOAD_TYPE

TRIGGER = TriggerSpec(name="ttc", kind="ttc", threshold=2.0)


def make(name="night", **more):
    return Campaign(campaign_id=name, triggers=(TRIGGER,), **more)


def key_of(home):
    return SSlibKey.from_crypto(load_pem_public_key(CampaignKey(home).public_pem()))


def test_campaign_is_signed_by_homes_campaign_key_and_nothing_of_it_can_be_changed(tmp_path):
    home = Home(tmp_path)
    Campaigns(home).put(make())
    [kept] = Campaigns(home).for_car("car-1", 0)
    envelope = Envelope.from_dict(json.loads(json.dumps(kept.envelope)))
    assert envelope.payload_type == CAMPAIGN_PAYLOAD_TYPE
    assert envelope.payload == wire.to_bytes(make())
    envelope.verify([key_of(home)], 1)
    envelope.payload = wire.to_bytes(make(priority=9))
    with pytest.raises(VerificationError):
        envelope.verify([key_of(home)], 1)
    [private] = (home.fleet / "keys").glob("campaign-*.pem")
    assert private.stat().st_mode & 0o777 == 0o600


def test_change_makes_the_next_version_and_the_same_again_changes_nothing(tmp_path):
    campaigns = Campaigns(Home(tmp_path))
    assert campaigns.put(make()).version == 1
    assert campaigns.put(make()).version == 1
    assert campaigns.put(make(priority=2)).version == 2
    assert campaigns.put(make(priority=3, version=7)).version == 7


def test_withdrawn_campaign_is_handed_out_no_more_and_comes_back_with_a_higher_version(tmp_path):
    campaigns = Campaigns(Home(tmp_path))
    campaigns.put(make(version=4))
    campaigns.withdraw("night")
    assert campaigns.for_car("car-1", 0) == []
    with pytest.raises(UnknownCampaignError, match="known: none"):
        campaigns.withdraw("night")
    assert campaigns.put(make()).version == 5


def test_car_gets_every_campaign_that_is_for_it_and_has_not_ended(tmp_path):
    campaigns = Campaigns(Home(tmp_path))
    campaigns.put(make("all"))
    campaigns.put(make("mine", cars=("car-1",), expires_utc_ns=100))
    campaigns.put(make("others", cars=("car-2",)))
    names = [k.campaign.campaign_id for k in campaigns.for_car("car-1", 99)]
    assert names == ["all", "mine"]
    assert [k.campaign.campaign_id for k in campaigns.for_car("car-1", 100)] == ["all"]


@pytest.mark.parametrize("text", ["{}", "", "[]", '{"schema":"campaign/1"}', "null"])
def test_file_that_is_no_signed_campaign_is_named_with_what_to_do(tmp_path, text):
    folder = tmp_path / "fleet" / "campaigns"
    folder.mkdir(parents=True)
    (folder / "x.json").write_text(text)
    with pytest.raises(CampaignCorruptError, match=r"x\.json.*campaign add"):
        Campaigns(Home(tmp_path)).for_car("car-1", 0)


def test_hostile_names_are_refused(tmp_path):
    with pytest.raises(CampaignNameError):
        Campaigns(Home(tmp_path)).put(make("../x"))
    with pytest.raises(CampaignNameError):
        Campaigns(Home(tmp_path)).get("../x")


def test_example_is_a_campaign_with_every_kind_of_trigger(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(EXAMPLE)
    campaign = read(path)
    assert {t.kind for t in campaign.triggers} == set(typing.get_args(TriggerKind))
    assert campaign.expires_utc_ns == 1_924_992_000 * 10**9


def test_campaign_reads_the_same_from_json(tmp_path):
    path = tmp_path / "c.json"
    path.write_bytes(wire.to_bytes(make(priority=3)))
    assert read(path) == make(priority=3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("priority = 3", "prioriti = 3"), r"no key 'prioriti'; it may have campaign_id, cars"),
        (("priority = 3", "priority = 12"), r"priority is 12, expected 0\.\.9"),
        (("priority = 3", 'priority = "high"'), r"priority is 'high', expected int"),
        (("2031-01-01T00:00:00Z", "2031-01-01T00:00:00"), "a time with its zone"),
        (('kind = "ttc"', 'kind = "ttcc"'), "is 'ttcc', expected one of"),
        (("max_clips = 100", "max_clipz = 100"), r"\[budget\] has no key 'max_clipz'"),
        (("threshold = 3.5", "treshold = 3.5"), "a trigger has no key 'treshold'"),
        (("accel_mps2 <= -3", "acel_mps2 <= -3"), "acel_mps2"),
        (("[budget]", "[budget"), "line 12"),
    ],
)
def test_mistake_in_a_file_is_named_with_what_is_expected(tmp_path, change, words):
    path = tmp_path / "c.toml"
    path.write_text(EXAMPLE.replace(*change, 1))
    with pytest.raises(CampaignFileError, match=words):
        read(path)


@pytest.mark.parametrize("text", ["", "triggers = 3", 'triggers = ["x"]', "\xff"])
def test_what_is_no_campaign_at_all_is_refused(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(CampaignFileError, match="--example"):
        read(path)
