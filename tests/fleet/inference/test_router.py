"""Where to ask: every reason against asking, and the choice among what is left."""

from dataclasses import replace

import pytest

from fleet.inference.arrival import LinkModel, Sample
from fleet.inference.policy import Policy, Site
from fleet.inference.router import NS, Offer, State, Weights, route
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.wire import ContractError

NOW_NS = 1_000 * NS
POLICY = Policy.default()
EDGE = Site(name="edge", context="edge", jurisdiction="DE")
CLOUD = Site(name="cloud", context="hyperscale", jurisdiction="DE")
ABROAD = Site(name="abroad", context="hyperscale", jurisdiction="US")
ORBIT = Site(name="orbit", context="orbital", jurisdiction="FR", landings=("NO",))
ASKED = InferenceRequest(
    request_id="0" * 32,
    tenant="acme",
    car_id="car-1",
    workload="adjudication",
    tier="interactive",
    input_utc_ns=NOW_NS - NS // 100,
    freshness_s=1.0,
    deadline_utc_ns=NOW_NS + NS // 5,
    data_class="pixels",
    jurisdiction="DE",
)


def link(took_s: float) -> LinkModel:
    model = LinkModel()
    for i in range(100):
        model.observe(Sample(at_s=i * 9.0, size_bytes=10_000, took_s=took_s + i % 5 * 1e-3))
    return model


LINKS = {"near": link(0.02), "far": link(0.08), "slow": link(2.0)}


def offer(site: Site, **changes: object) -> Offer:
    words: dict[str, object] = {
        "link": "near" if site is EDGE else "far",
        "quality_gain": 0.1,
        "send_bytes": 9_000,
        "receive_bytes": 1_000,
        "compute_s": 0.01,
        "joules": 1.0,
    }
    return Offer(site=site, **{**words, **changes})  # type: ignore[arg-type]


def state(*offers: Offer, **changes: object) -> State:
    sites = [o.site for o in offers]
    decisions = POLICY.decide_many(ASKED, sites)
    words: dict[str, object] = {
        "utc_ns": NOW_NS,
        "decisions": dict(zip((s.name for s in sites), decisions, strict=True)),
        "links": LINKS,
    }
    return State(**{**words, **changes})  # type: ignore[arg-type]


def test_the_offer_of_most_worth_is_taken_and_the_others_are_explained() -> None:
    offers = [offer(EDGE), offer(CLOUD, quality_gain=0.3), offer(ABROAD, quality_gain=0.9)]
    choice = route(ASKED, offers, state(*offers))
    assert choice.offer is not None
    assert (choice.context, choice.offer.site) == ("hyperscale", CLOUD)
    assert choice.p_on_time > 0.9
    assert "cloud (hyperscale): in time with 0.9" in choice.why
    assert "less than" in choice.others["edge"]
    assert choice.others["abroad"].startswith("ResidencyError: data-stays-in-its-zone")


def test_what_costs_more_than_it_gains_is_left() -> None:
    dear = offer(CLOUD, joules=500.0)
    choice = route(ASKED, [dear], state(dear))
    assert (choice.offer, choice.context) == (None, "device")
    assert "costs more than it gains" in choice.others["cloud"]


def test_no_gain_stays_local_even_when_it_is_free() -> None:
    free = offer(EDGE, quality_gain=0.0, joules=0.0)
    assert route(ASKED, [free], state(free), Weights(per_megabyte=0.0)).offer is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"link": "slow"}, "in time with 0.0"),
        ({"compute_s": 0.5}, "in time with 0.0"),
        ({"link": "unheard-of"}, "nothing is known of its link"),
        ({"earliest_utc_ns": NOW_NS + 60 * NS}, "not before 60 s from now"),
    ],
)
def test_what_would_come_too_late_is_not_asked(changes: dict[str, object], why: str) -> None:
    late = offer(EDGE, quality_gain=9.0, **changes)
    choice = route(ASKED, [late], state(late))
    assert choice.offer is None
    assert why in choice.others["edge"]


def test_stale_input_is_too_late_before_its_deadline() -> None:
    one = offer(EDGE)
    stale = replace(ASKED, freshness_s=0.03)
    assert route(ASKED, [one], state(one)).offer is one
    assert "in time with" in route(stale, [one], state(one)).others["edge"]


@pytest.mark.parametrize(
    ("request_changes", "state_changes", "why"),
    [
        ({"joules": 0.5}, {}, "over the request's 0.50 J"),
        ({"size_budget_bytes": 9_999}, {}, "over the request's 9,999"),
        ({}, {"joules_left": 0.9}, "over the 0.90 J that are left"),
        ({}, {"bytes_left": 9_999}, "over the 9,999 that are left"),
        ({}, {"open_sites": frozenset({"edge"})}, "breaker is open"),
        ({}, {"decisions": {}}, "policy was not asked"),
    ],
)
def test_budgets_breakers_and_policy_are_honoured(
    request_changes: dict[str, object], state_changes: dict[str, object], why: str
) -> None:
    one = offer(EDGE)
    asked = replace(ASKED, **request_changes)  # type: ignore[arg-type]
    choice = route(asked, [one], state(one, **state_changes))
    assert choice.offer is None
    assert why in choice.others["edge"]


def test_a_contact_plan_that_comes_in_time_lets_orbit_be_asked() -> None:
    batch = replace(
        ASKED, tier="batch", deadline_utc_ns=NOW_NS + 3_600 * NS, freshness_s=7_200.0, joules=0.0
    )
    wait = offer(ORBIT, earliest_utc_ns=NOW_NS + 1_800 * NS)
    choice = route(batch, [wait], state(wait))
    assert choice.context == "orbital"


def test_equal_offers_are_settled_the_same_way_in_any_order() -> None:
    twins = [offer(replace(CLOUD, name=n)) for n in ("b", "a", "c")]
    found = [route(ASKED, order, state(*twins)) for order in (twins, twins[::-1])]
    names = [c.offer.site.name for c in found if c.offer]
    assert names == ["a", "a"]
    assert found[0] == found[1]


def test_an_offer_of_negative_cost_is_refused() -> None:
    with pytest.raises(ContractError, match="negative"):
        offer(EDGE, joules=-1.0)
    with pytest.raises(ContractError, match="finite"):
        offer(EDGE, quality_gain=float("nan"))
