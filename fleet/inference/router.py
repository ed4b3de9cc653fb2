"""Where to ask, if anywhere: a pure decision over what policy allows and links have done.

The device has its own answer already and drives by it. Among sites that policy allows and that
answer in time with a chance of at least p*, the one of most worth is asked: the expected gain of
quality less what joules, money, bytes and carbon cost. Where none is worth more than nothing, the
car stays with what it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fleet.inference.arrival import LinkModel
from fleet.inference.policy import Decision, Site
from vehicle.contracts.inference import ANY, CONTEXTS, Context, InferenceRequest
from vehicle.contracts.wire import require, require_finite

NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What asking one site would take and give.

    Args:
        site: where.
        link: name of the way there, as in `State.links`.
        quality_gain: how much better its answer is than the car's own, in the unit of `Weights`
            (measured, e.g. recall of its model less recall of the car's); may be negative.
        send_bytes, receive_bytes: over the link.
        compute_s: until the site has answered, once it has the request.
        joules: off the car and on the link, J, modelled (fleet/inference/energy.py).
        money: in any one currency.
        carbon_g: grams of CO2 equivalent.
        earliest_utc_ns: an answer cannot come before (contact plan of a sparse orbit); 0: at any
            time.
    """

    site: Site
    link: str
    quality_gain: float
    send_bytes: int
    receive_bytes: int
    compute_s: float
    joules: float
    money: float = 0.0
    carbon_g: float = 0.0
    earliest_utc_ns: int = 0

    def __post_init__(self) -> None:
        numbers = (self.compute_s, self.joules, self.money, self.carbon_g)
        require_finite("Offer", quality_gain=self.quality_gain, compute_s=self.compute_s)
        require_finite("Offer", joules=self.joules, money=self.money, carbon_g=self.carbon_g)
        require(min(numbers) >= 0.0, f"{self.site.name}: a cost is negative: {numbers}")
        require(min(self.send_bytes, self.receive_bytes) >= 0, f"{self.site.name}: bytes below 0")

    @property
    def size_bytes(self) -> int:
        """Return what crosses the link, both ways."""
        return self.send_bytes + self.receive_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What things are worth, in the unit of `quality`; the fleet's own judgement, not a measure.

    Args:
        p_on_time: p*: least chance of being in time.
        quality: of one unit of quality gain.
        per_joule, per_money, per_megabyte, per_gram: what one of each costs.
    """

    p_on_time: float = 0.9
    quality: float = 1.0
    per_joule: float = 0.001
    per_money: float = 1.0
    per_megabyte: float = 0.02
    per_gram: float = 0.0

    def __post_init__(self) -> None:
        require(0.0 < self.p_on_time <= 1.0, f"p_on_time is {self.p_on_time}, expected 0..1")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known when it is decided.

    Args:
        utc_ns: now.
        decisions: policy's, by name of the site; a site without one is not allowed.
        links: by name; a link nobody knows of is not used.
        open_sites: sites whose breaker is open: not asked.
        joules_left, bytes_left: of a budget over time (of a day, a month); None: none is set.
    """

    utc_ns: int
    decisions: Mapping[str, Decision]
    links: Mapping[str, LinkModel]
    open_sites: frozenset[str] = frozenset()
    joules_left: float | None = None
    bytes_left: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where to ask, and why.

    Args:
        offer: None: stay with the car's own answer.
        p_on_time, worth: of the chosen offer; 1 and 0 of the car's own.
        why: one line, for a person.
        others: name of a site that was not chosen -> why not.
    """

    offer: Offer | None
    p_on_time: float
    worth: float
    why: str
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def context(self) -> Context:
        """Return where the request is answered; "device" when nobody is asked."""
        return self.offer.site.context if self.offer else "device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An offer that may be taken, and what it is worth."""

    offer: Offer
    p_on_time: float
    worth: float

    @property
    def words(self) -> str:
        """Return its worth, for a person."""
        return f"worth {self.worth:+.4f}"


def route(
    request: InferenceRequest,
    offers: Sequence[Offer],
    state: State,
    weights: Weights | None = None,
) -> Choice:
    """Return the offer of most worth among those that may be taken, or none."""
    able, others = rank(request, offers, state, weights)
    if not able or able[0].worth <= 0.0:
        others |= {r.offer.site.name: f"{r.words}: it costs more than it gains" for r in able}
        why = "no site is worth asking" if able else "no site may be asked, or none is in time"
        return Choice(offer=None, p_on_time=1.0, worth=0.0, why=why, others=others)
    best = able[0]
    offer = best.offer
    others |= {r.offer.site.name: f"{r.words}, less than {best.worth:+.4f}" for r in able[1:]}
    why = (
        f"{offer.site.name} ({offer.site.context}): in time with {best.p_on_time:.3f}, gain "
        f"{offer.quality_gain:+.4f}, {offer.joules:.2f} J, {offer.size_bytes:,} bytes, {best.words}"
    )
    return Choice(offer=offer, p_on_time=best.p_on_time, worth=best.worth, why=why, others=others)


def rank(
    request: InferenceRequest,
    offers: Sequence[Offer],
    state: State,
    weights: Weights | None = None,
) -> tuple[list[Ranked], dict[str, str]]:
    """Return the offers that may be taken, best first, and why the others may not, by site.

    Equal worth goes to the likelier, then to fewer joules, the nearer context, the first name.
    """
    weights = weights or Weights()
    able, others = list[Ranked](), dict[str, str]()
    for offer in offers:
        chance, against = _chance(request, offer, state, weights)
        if against:
            others[offer.site.name] = against
        else:
            able.append(Ranked(offer=offer, p_on_time=chance, worth=worth(offer, chance, weights)))
    able.sort(
        key=lambda r: (
            -r.worth,
            -r.p_on_time,
            r.offer.joules,
            _nearness(r.offer),
            r.offer.site.name,
        )
    )
    return able, others


def worth(offer: Offer, chance: float, weights: Weights) -> float:
    """Return what asking is worth: the gain comes with its chance, the costs come for certain."""
    return (
        weights.quality * chance * offer.quality_gain
        - weights.per_joule * offer.joules
        - weights.per_money * offer.money
        - weights.per_megabyte * offer.size_bytes / 1e6
        - weights.per_gram * offer.carbon_g
    )


def _chance(
    request: InferenceRequest, offer: Offer, state: State, weights: Weights
) -> tuple[float, str]:
    """Return the chance of being in time, and why the offer cannot be taken ("": it can)."""
    against = _forbidden(request, offer, state)
    if against:
        return 0.0, against
    link = state.links[offer.link]
    start_ns = max(state.utc_ns, offer.earliest_utc_ns)
    left_s = (_last_ns(request) - start_ns) / NS - offer.compute_s
    chance = link.p_on_time(offer.size_bytes, left_s, state.utc_ns / NS)
    if chance < weights.p_on_time:
        wait = f", not before {(start_ns - state.utc_ns) / NS:.0f} s from now" * bool(
            offer.earliest_utc_ns > state.utc_ns
        )
        return chance, (
            f"in time with {chance:.3f}, below {weights.p_on_time:g} ({max(left_s, 0.0) * 1e3:.0f} "
            f"ms are left for the link, {link.expected_s(offer.size_bytes) * 1e3:.0f} ms are "
            f"usual{wait})"
        )
    return chance, ""


def _last_ns(request: InferenceRequest) -> int:
    """Return when an answer is last wanted: its deadline, or when its input is stale."""
    return min(request.deadline_utc_ns, request.input_utc_ns + int(request.freshness_s * NS))


def _forbidden(request: InferenceRequest, offer: Offer, state: State) -> str:
    """Return what stands against asking at all, "" when nothing does."""
    name, decision = offer.site.name, state.decisions.get(offer.site.name)
    if decision is None:
        return "policy was not asked"
    if not decision.allowed:
        return f"{decision.name}: {'; '.join(decision.reasons)}"
    if name in state.open_sites:
        return "it failed lately (its breaker is open)"
    if offer.link not in state.links:
        return f"nothing is known of its link {offer.link}"
    if request.joules and offer.joules > request.joules:
        return f"{offer.joules:.2f} J, over the request's {request.joules:.2f} J"
    if request.size_budget_bytes != ANY and offer.size_bytes > request.size_budget_bytes:
        return f"{offer.size_bytes:,} bytes, over the request's {request.size_budget_bytes:,}"
    if state.joules_left is not None and offer.joules > state.joules_left:
        return f"{offer.joules:.2f} J, over the {state.joules_left:.2f} J that are left"
    if state.bytes_left is not None and offer.size_bytes > state.bytes_left:
        return f"{offer.size_bytes:,} bytes, over the {state.bytes_left:,} that are left"
    return ""


def _nearness(offer: Offer) -> int:
    return CONTEXTS.index(offer.site.context)
