import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from vehicle.campaigns import HeldCampaigns
from vehicle.clock import FakeClock
from vehicle.contracts import wire
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign
from vehicle.contracts.uplink import CAMPAIGN_PAYLOAD_TYPE
from vehicle.identity import NotEnrolledError

HOUR_NS = 3600 * 10**9
HOME, STRANGER = (CryptoSigner.generate_ed25519() for _ in range(2))
TOWN = replace(DEFAULT_CAMPAIGN, campaign_id="town", version=3, cars=("car-1", "car-9"))


def pem(signer: CryptoSigner) -> bytes:
    key = signer._private_key.public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signed(
    campaign: Campaign | bytes, signer: CryptoSigner = HOME, kind: str = CAMPAIGN_PAYLOAD_TYPE
) -> dict:
    payload = campaign if isinstance(campaign, bytes) else wire.to_bytes(campaign)
    envelope = Envelope(payload, kind, {})
    envelope.sign(signer)
    return envelope.to_dict()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def car(tmp_path):
    (tmp_path / "identity").mkdir()
    (tmp_path / "identity" / "campaign.pub").write_bytes(pem(HOME))
    return tmp_path


@pytest.fixture
def held(car, clock):
    return HeldCampaigns(car, "car-1", clock)


def names(held: HeldCampaigns, jurisdiction: str = "ZZ") -> list[str]:
    return [c.campaign_id for c in held.to_drive_with(jurisdiction)]


def why(taken) -> str:
    (refused,) = taken.refused
    return refused.reason


def test_car_without_campaigns_drives_with_the_default_one(held):
    assert held.to_drive_with("ZZ") == (DEFAULT_CAMPAIGN,)
    assert held.take([]).new == ()


def test_signed_campaigns_are_kept_and_driven_with_by_priority(held, clock, car):
    rare = replace(TOWN, campaign_id="rare", priority=7)
    assert held.take([signed(TOWN), signed(rare)]).new == ("town", "rare")
    assert held.to_drive_with("ZZ") == (rare, TOWN)
    again = HeldCampaigns(car, "car-1", clock)
    assert again.to_drive_with("DE") == (rare, TOWN)
    assert again.take([signed(TOWN), signed(rare)]).new == ()


def test_campaign_that_home_lists_no_longer_is_removed(held):
    held.take([signed(TOWN), signed(replace(TOWN, campaign_id="rare"))])
    assert held.take([signed(TOWN)]).withdrawn == ("rare",)
    assert names(held) == ["town"]


@pytest.mark.parametrize(
    ("envelope", "error"),
    [
        (signed(TOWN, STRANGER), "UnknownSignerError: signed by "),
        (signed(TOWN, kind="text/plain"), "CampaignCorruptError: payload type is 'text/plain'"),
        (signed(replace(TOWN, version=2)), "CampaignRollbackError: version 2, this car has held"),
        (signed(replace(TOWN, cars=("car-2",))), "ForeignCampaignError: it is for car-2, this is"),
        (signed(replace(TOWN, expires_utc_ns=1)), "ExpiredCampaignError: it ended"),
        (signed(b"{}"), "CampaignCorruptError: signed, but no campaign: SchemaError"),
        (
            signed(wire.to_bytes(TOWN)[:-1] + b',"shell":"rm"}'),
            "CampaignCorruptError: signed, but no campaign: UnknownFieldError",
        ),
        ({"payload": "?"}, "CampaignCorruptError: no DSSE envelope"),
        ({"payload": "\ud800"}, "CampaignCorruptError: no canonical form"),
        (signed(replace(TOWN, campaign_id="../../etc")), "CampaignCorruptError: its name"),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_what_is_refused_is_named_and_what_was_held_stays(held, envelope, error):
    held.take([signed(TOWN)])
    taken = held.take([signed(TOWN), envelope])
    assert why(taken).startswith(error)
    assert held.to_drive_with("ZZ") == (TOWN,)


def test_refused_new_version_leaves_the_old_one_in_force(held):
    held.take([signed(TOWN)])
    taken = held.take([signed(replace(TOWN, version=4), STRANGER)])
    assert (taken.new, taken.withdrawn) == ((), ())
    assert names(held) == ["town"]


def test_withdrawing_a_campaign_makes_no_room_for_an_older_version_of_it(held):
    held.take([signed(TOWN)])
    held.take([])
    assert "held version 3" in why(held.take([signed(replace(TOWN, version=2))]))
    assert held.take([signed(replace(TOWN, version=4))]).new == ("town",)


def test_changed_byte_of_a_signed_campaign_is_refused_wherever_it_is(held, car):
    held.take([signed(TOWN)])
    path = car / "campaigns" / "town.json"
    plain = json.loads(path.read_bytes())
    payload = bytearray(base64.b64decode(plain["payload"]))
    payload[40] ^= 1
    path.write_text(json.dumps(plain | {"payload": base64.b64encode(payload).decode()}))
    campaigns, refused = held.held("ZZ")
    assert (campaigns, refused[0].reason.partition(":")[0]) == ([], "UnknownSignerError")
    assert held.to_drive_with("ZZ") == (DEFAULT_CAMPAIGN,)


def test_campaign_expires_while_it_is_held(held, clock):
    held.take([signed(replace(TOWN, expires_utc_ns=clock.utc_ns() + HOUR_NS))])
    assert names(held) == ["town"]
    clock.advance_ns(3 * HOUR_NS)
    assert "it ended 2.0 h ago" in held.held("ZZ")[1][0].reason
    assert names(held) == ["default"]


def test_campaign_of_another_jurisdiction_is_kept_and_not_driven_with(held):
    held.take([signed(replace(TOWN, jurisdictions=("DE", "FR")))])
    assert (names(held, "FR"), names(held, "CH")) == (["town"], ["default"])
    assert held.held("CH")[1][0].reason == (
        "JurisdictionError: it holds in DE, FR, the car is in CH"
    )


def test_any_key_of_the_file_may_have_signed(held, car):
    (car / "identity" / "campaign.pub").write_bytes(pem(STRANGER) + pem(HOME))
    assert held.take([signed(TOWN)]).new == ("town",)
    (car / "identity" / "campaign.pub").write_bytes(pem(STRANGER))
    assert held.held("ZZ")[1][0].reason.startswith("UnknownSignerError")


def test_without_a_key_to_check_with_nothing_is_believed(held, car):
    held.take([signed(TOWN)])
    (car / "identity" / "campaign.pub").unlink()
    with pytest.raises(NotEnrolledError, match="roadloop fleet enrol car-1 --renew"):
        held.take([signed(TOWN)])
    assert names(held) == ["default"]
    assert "NotEnrolledError" in held.held("ZZ")[1][0].reason


def test_campaign_under_another_name_than_its_own_is_refused(held, car):
    held.take([signed(TOWN)])
    (car / "campaigns" / "town.json").rename(car / "campaigns" / "other.json")
    assert "holds 'town'" in held.held("ZZ")[1][0].reason


@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_no_file_in_the_folder_keeps_the_car_from_starting(tmp_path_factory, data):
    car = tmp_path_factory.mktemp("car")
    for folder in ("identity", "campaigns"):
        (car / folder).mkdir()
    (car / "identity" / "campaign.pub").write_bytes(pem(HOME))
    (car / "campaigns" / "bad.json").write_bytes(data)
    held = HeldCampaigns(car, "car-1", FakeClock())
    assert held.to_drive_with("ZZ") == (DEFAULT_CAMPAIGN,)
    assert held.held("ZZ")[1][0].reason.startswith("CampaignCorruptError")
