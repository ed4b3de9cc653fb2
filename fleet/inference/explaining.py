"""A field of sites and links as a file, and one decision over it, explained.

For a person who wants to know why a request would go where it goes; a car does not read this.
"""

import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from fleet.inference.arrival import LinkModel, Sample
from fleet.inference.carbon import CarbonAware, UnknownLocationError, grams
from fleet.inference.energy import joules
from fleet.inference.policy import Policy, Site
from fleet.inference.router import NS, Choice, Offer, State, Weights, route
from vehicle.clock import Clock
from vehicle.contracts.inference import DataClass, InferenceRequest, Tier
from vehicle.contracts.wire import ContractError

EXAMPLE: Final = "sites.toml"
SAMPLES: Final = 100
ANSWER_BYTES: Final = 1_024


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
    request = _request(question, clock)
    field = read_field(sites)
    offers = tuple(_offers(field, question, carbon, clock))
    found = policy.decide_many(request, [o.site for o in offers])
    state = State(
        utc_ns=clock.utc_ns(),
        decisions={o.site.name: d for o, d in zip(offers, found, strict=True)},
        links={name: _link(name, row) for name, row in field["link"].items()},
    )
    return route(request, offers, state, weights), offers


def read_field(path: Path | None) -> dict[str, Any]:
    """Return the tables of a field's file; None: the example that ships.

    Raises:
        ContractError: it cannot be read, or has no sites or links.
    """
    try:
        if path is None:
            text = (resources.files("fleet.inference") / "tables" / EXAMPLE).read_text()
        else:
            text = path.read_text()
        plain = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ContractError(f"{path}: {error}") from error
    if not (isinstance(plain.get("site"), dict) and isinstance(plain.get("link"), dict)):
        raise ContractError(f"{path} needs tables [site.NAME] and [link.NAME]")
    return plain


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


def _offers(
    field: Mapping[str, Any], question: Question, carbon: CarbonAware, clock: Clock
) -> list[Offer]:
    now = datetime.fromtimestamp(clock.utc_ns() / NS, UTC)
    size_bytes = question.size_bytes + ANSWER_BYTES
    offers = []
    for name, row in field["site"].items():
        try:
            link = field["link"][row["link"]]
            busy_s = row["compute_ms"] / 1e3
            cost = joules(row["processor"], link["network"], busy_s, size_bytes)
            site = Site(
                name=name,
                context=row["context"],
                jurisdiction=row["jurisdiction"],
                landings=tuple(row.get("landings", ())),
                tenants=tuple(row.get("tenants", ())),
            )
            gain = float(row["quality_gain"])
        except (KeyError, TypeError) as error:
            raise ContractError(f"site {name}: {error!r} is missing or of another type") from error
        try:
            rating = carbon.get_average_carbon_intensity(
                site.jurisdiction[:2], now, now + timedelta(hours=1)
            )
        except UnknownLocationError:
            rating = 0.0  # weighs nothing: what is not known cannot speak for or against
        offers.append(
            Offer(
                site=site,
                link=row["link"],
                quality_gain=gain,
                send_bytes=question.size_bytes,
                receive_bytes=ANSWER_BYTES,
                compute_s=busy_s,
                joules=cost.total,
                carbon_g=grams(cost.total, rating),
            )
        )
    return offers


def _link(name: str, row: Mapping[str, Any]) -> LinkModel:
    """Return a model that has seen answers with the quantiles of a link's row."""
    try:
        points = [(0.0, row["quantiles_ms"][0][1] * 0.8), *map(tuple, row["quantiles_ms"])]
        model = LinkModel()
        for i in range(SAMPLES):
            share = (i * 37 % SAMPLES + 0.5) / SAMPLES
            took_s = _between(points, share) / 1e3
            model.observe(Sample(at_s=10.0 * i, size_bytes=row["size_bytes"], took_s=took_s))
    except (KeyError, TypeError, IndexError) as error:
        raise ContractError(f"link {name}: {error!r} is missing or of another type") from error
    return model


def _between(points: list[Any], share: float) -> float:
    """Return the time at a share, straight between the points that are given."""
    for (low, a), (high, b) in pairwise(points):
        if share <= high:
            return float(a + (b - a) * (share - low) / (high - low))
    return float(points[-1][1])
