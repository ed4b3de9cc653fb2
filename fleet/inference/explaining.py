"""One decision of the router over a field of sites, explained to a person."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from fleet.inference.carbon import CarbonAware
from fleet.inference.field import ANSWER_BYTES, read_field
from fleet.inference.policy import Policy
from fleet.inference.router import NS, Choice, Offer, State, Weights, route
from vehicle.clock import Clock
from vehicle.contracts.inference import DataClass, InferenceRequest, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be decided.

    Args:
        deadline_s: from now.
        size_bytes: to be sent.
        joules, budget_bytes: most that may be spent; 0: no limit.
    """

    data_class: DataClass
    jurisdiction: str
    tenant: str
    tier: Tier
    deadline_s: float
    size_bytes: int
    joules: float = 0.0
    budget_bytes: int = 0


def explain(
    question: Question,
    *,
    sites: Path | None,
    policy: Policy,
    weights: Weights,
    carbon: CarbonAware,
    clock: Clock,
) -> tuple[Choice, tuple[Offer, ...]]:
    """Return what the router decides over the field of a file, and all offers.

    Raises:
        ContractError: the file is no field, or the question breaks the contract of a request.
    """
    request, now_ns = _request(question, clock), clock.utc_ns()
    field = read_field(sites)
    offers = tuple(
        spot.offer(question.size_bytes, ANSWER_BYTES, now_ns, carbon)
        for spot in field.spots.values()
    )
    found = policy.decide_many(request, [o.site for o in offers])
    state = State(
        utc_ns=now_ns,
        decisions={o.site.name: d for o, d in zip(offers, found, strict=True)},
        links=field.links,
    )
    return route(request, offers, state, weights), offers


def _request(question: Question, clock: Clock) -> InferenceRequest:
    now_ns = clock.utc_ns()
    return InferenceRequest(
        request_id=secrets.token_hex(16),
        tenant=question.tenant,
        car_id="any",
        workload="explained",
        tier=question.tier,
        input_utc_ns=now_ns,
        freshness_s=question.deadline_s,
        deadline_utc_ns=now_ns + int(question.deadline_s * NS),
        data_class=question.data_class,
        jurisdiction=question.jurisdiction,
        joules=question.joules,
        size_budget_bytes=question.budget_bytes,
    )
