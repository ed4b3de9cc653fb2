"""Where data may go, decided by the policies that ship and by ones that are broken on purpose."""

from pathlib import Path

import pytest

from fleet.inference.laws import PolicyFileError, read_laws
from fleet.inference.policy import ANONYMOUS, Policy, Site
from vehicle.contracts.inference import DATA_CLASSES, InferenceRequest
from vehicle.contracts.wire import ContractError

POLICY = Policy.default()
MUNICH = Site(name="munich", context="edge", jurisdiction="DE")
OREGON = Site(name="oregon", context="hyperscale", jurisdiction="US-OR")
PLANT = Site(name="plant", context="on-prem", jurisdiction="DE", tenants=("acme",))


def asked(**changes: object) -> InferenceRequest:
    words: dict[str, object] = {
        "request_id": "0" * 32,
        "tenant": "acme",
        "car_id": "car-1",
        "workload": "adjudication",
        "tier": "interactive",
        "input_utc_ns": 1,
        "freshness_s": 1.0,
        "deadline_utc_ns": 2,
        "data_class": "pixels",
        "jurisdiction": "DE",
    }
    return InferenceRequest(**{**words, **changes})  # type: ignore[arg-type]


def satellite(*landings: str, registry: str = "FR") -> Site:
    return Site(name="sat", context="orbital", jurisdiction=registry, landings=landings)


@pytest.mark.parametrize("data_class", ["pixels", "personal"])
def test_what_tells_of_people_stays_in_the_zone_of_its_law(data_class: str) -> None:
    inside, outside = POLICY.decide_many(asked(data_class=data_class), [MUNICH, OREGON])
    assert inside.allowed
    assert inside.name == "allowed"
    assert (outside.allowed, outside.name) == (False, "ResidencyError")
    assert outside.reasons[0].startswith("data-stays-in-its-zone: ")
    assert "of DE" in outside.reasons[0]
    assert "US-OR" in outside.reasons[0]


@pytest.mark.parametrize("data_class", ["features", "anonymised"])
def test_what_tells_of_nobody_may_go_abroad(data_class: str) -> None:
    assert POLICY.decide(asked(data_class=data_class), OREGON).allowed


def test_a_zone_of_several_countries_is_one() -> None:
    assert POLICY.decide(asked(jurisdiction="FR"), MUNICH).allowed
    assert POLICY.decide(asked(jurisdiction="DE-BY"), MUNICH).allowed


def test_a_law_may_keep_every_class() -> None:
    refused = [POLICY.decide(asked(jurisdiction="CN", data_class=c), OREGON) for c in DATA_CLASSES]
    assert {d.name for d in refused} == {"ResidencyError"}


def test_orbit_is_refused_by_where_its_answers_land() -> None:
    assert POLICY.decide(asked(), satellite("NO", "DE")).allowed
    assert POLICY.decide(asked(), satellite("NO", "US")).name == "LandingError"
    assert POLICY.decide(asked(data_class="features"), satellite("NO", "US")).allowed


def test_orbit_is_refused_by_the_state_that_the_satellite_is_registered_in() -> None:
    assert POLICY.decide(asked(), satellite("DE", registry="US")).name == "ResidencyError"


def test_orbit_is_refused_where_the_law_of_the_data_says_so() -> None:
    found = POLICY.decide(asked(jurisdiction="CN"), satellite("CN", registry="CN"))
    assert found.name == "OrbitRefusedError"
    assert found.reasons[0].startswith("grounded-by-law: ")


@pytest.mark.parametrize("tier", ["ultra-low", "low"])
def test_nothing_that_a_drive_waits_for_hangs_on_a_satellite(tier: str) -> None:
    found = POLICY.decide(asked(tier=tier, data_class="features"), satellite())
    assert found.name == "OrbitRefusedError"


def test_a_site_of_some_tenants_refuses_others_and_who_shows_no_certificate() -> None:
    assert POLICY.decide(asked(), PLANT, "acme").allowed
    assert POLICY.decide(asked(tenant="other"), PLANT, "other").name == "TenantRefusedError"
    assert POLICY.decide(asked(), PLANT, ANONYMOUS).name == "TenantRefusedError"


def test_a_request_in_another_tenants_name_is_refused() -> None:
    assert POLICY.decide(asked(tenant="other"), MUNICH, "acme").name == "TenantForgedError"


def test_undeclared_data_is_taken_only_where_the_site_says_so() -> None:
    takes = Site(name="open", context="edge", jurisdiction="DE", undeclared=True)
    assert POLICY.decide(None, MUNICH, "acme").name == "UndeclaredDataError"
    assert POLICY.decide(None, takes).allowed
    assert not POLICY.egress(None, takes, OREGON).allowed


def test_on_prem_sends_on_only_what_tells_of_nobody() -> None:
    by_class = {c: POLICY.egress(asked(data_class=c), PLANT, MUNICH).name for c in DATA_CLASSES}
    assert by_class == {
        "features": "allowed",
        "anonymised": "allowed",
        "pixels": "EgressRefusedError",
        "personal": "EgressRefusedError",
    }
    assert POLICY.egress(asked(), MUNICH, Site(name="b", context="edge", jurisdiction="FR")).allowed


def test_a_policy_that_fails_while_it_is_evaluated_refuses() -> None:
    text = """
        @id("all") permit (principal, action, resource);
        @id("sum") forbid (principal, action, resource)
        when { 9223372036854775807 + 1 == 0 && resource.undeclared };
    """
    found = Policy({"a.cedar": text}, LAWS).decide(asked(), MUNICH)
    assert (found.allowed, found.name) == (False, "PolicyBrokenError")


LAWS = '[default]\nkeeps = ["pixels"]\ngrounds = []\n'


def test_what_no_policy_permits_is_refused() -> None:
    found = Policy(
        {"a.cedar": '@id("no") forbid (principal, action, resource) when {false};'}, LAWS
    )
    assert found.decide(asked(), MUNICH).name == "NoPermitError"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("permit (principal, action, resource", "not Cedar"),
        ("permit (principal, action, resource);", "has no @id"),
        ('@id("x") permit (principal, action, resource) when { resource.colour == 1 };', "colour"),
        ('@id("x") permit (principal, action, resource);' * 2, "stands twice"),
    ],
)
def test_policies_that_cannot_be_trusted_are_refused(text: str, says: str) -> None:
    with pytest.raises(PolicyFileError, match=says):
        Policy({"a.cedar": text}, LAWS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[default]",
        "x = [",
        '[default]\nkeeps = ["all"]\ngrounds = []',
        LAWS + "[X]\nkeeps = []",
    ],
)
def test_laws_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(PolicyFileError, match=r"laws\.toml"):
        read_laws(text)


def test_a_folder_of_policies_is_read_and_any_change_changes_the_digest(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match="has no"):
        Policy.from_folder(tmp_path)
    (tmp_path / "ours.cedar").write_text('@id("all") permit (principal, action, resource);')
    first = Policy.from_folder(tmp_path)
    assert first.decide(asked(), OREGON).allowed
    (tmp_path / "laws.toml").write_text(LAWS)
    second = Policy.from_folder(tmp_path)
    assert len({first.digest, second.digest, POLICY.digest}) == 3
    assert second.decide(asked(), OREGON).digest == second.digest


def test_a_site_without_a_place_and_two_of_one_name_are_refused() -> None:
    with pytest.raises(ContractError, match="ISO 3166"):
        Site(name="x", context="edge", jurisdiction="Bavaria")
    with pytest.raises(ContractError, match="one name"):
        POLICY.decide_many(asked(), [MUNICH, MUNICH])


def test_decision_that_is_remembered_is_the_one_for_its_question() -> None:
    fresh, sites = Policy.default(), [MUNICH, OREGON, PLANT, satellite("US")]
    questions = [None] + [
        asked(data_class=d, jurisdiction=j, tenant=t)
        for d in ("features", "personal")
        for j in ("DE", "US-CA")
        for t in ("acme", "other")
    ]
    for request in questions * 2:
        wanted = fresh.decide_many(request, sites, "acme")
        assert [POLICY.decide(request, site, "acme") for site in sites] == wanted
