"""Ways to choose where to ask, played over one trace of outcomes.

Each sees what it asked for and nothing else, after a warm-up in which all see everything and which
does not count. What a way pays, it pays whether an answer comes or not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from fleet.inference.arrival import LOST, LinkModel
from fleet.inference.breaker import Breaker
from fleet.inference.energy import joules
from fleet.inference.policy import Decision
from fleet.inference.router import NS, Offer, State, Weights, route, worth
from sim.choice.router_quality import Judged
from sim.choice.router_sites import ANSWER_BYTES, PLACES, Place
from sim.choice.router_trace import WAIT_S, Asked
from sim.net.links import PROFILES
from vehicle.contracts.inference import CONTEXTS, InferenceRequest

WARM_SHARE: Final = 0.25
"""Of the trace: every way to choose sees all links' outcomes of it, and nothing of it counts."""

PROBE_BYTES: Final = 200
PROBE_FIRST_NS: Final = NS
PROBE_LONGEST_NS: Final = 8 * NS

WEIGHTS: Final = Weights(p_on_time=0.9, per_joule=1e-4, per_megabyte=0.02)
"""The fleet's own judgement: a point of recall is worth 100 J or half a megabyte."""

EPOCH_S: Final = 15.0
START_NS: Final = 1_800_000_000 * NS
PASS_PHASE_S: Final = 2_400.0
"""Where in the sparse relay's round the trace begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """All that is the same for every way to choose.

    Args:
        gains: by network, mean gain a frame on frames that no request is about: what is expected.
        held_gains: the same on those that requests are about: what an answer in time is worth.
            Not the gain of each request's own frame: those are lumps, and luck would decide.
    """

    trace: Sequence[Asked]
    judged: Judged
    gains: Mapping[str, float]
    held_gains: Mapping[str, float]
    networks: Mapping[str, str]
    busy_s: Mapping[str, float]
    decisions: Sequence[Mapping[str, Decision]]

    @property
    def first(self) -> int:
        """Return the first request that counts."""
        return int(WARM_SHARE * len(self.trace))


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one way to choose got and paid."""

    name: str
    asked: int = 0
    in_time: int = 0
    refused: int = 0
    size_bytes: int = 0
    joules: float = 0.0
    worth: float = 0.0
    harmed: int = 0
    false_added: int = 0
    recalls: list[float] = field(default_factory=list)
    contexts: dict[str, int] = field(default_factory=dict)


class Chooser:
    """One way to choose; it sees what it asked for, and nothing else."""

    def choose(self, made: Field, number: int) -> Place | None:
        """Return whom to ask about request `number`, or None."""
        return None

    def asked(self, place: Place, asked: Asked, busy_s: float) -> None:
        """See a request go, and learn when its time has come what became of it."""

    def probes(self, made: Field, number: int) -> int:
        """Probe what is away; return how many probes went."""
        return 0


class Naive(Chooser):
    """Always the first of a fixed order, if the law lets it; or without asking the law."""

    def __init__(self, order: Callable[[Field, Place], Any], *, lawful: bool) -> None:
        self._order, self._lawful = order, lawful

    def choose(self, made: Field, number: int) -> Place | None:
        """Return the first."""
        able = [
            p
            for p in PLACES
            if p.site.name in made.trace[number].took_s
            and (not self._lawful or made.decisions[number][p.site.name].allowed)
        ]
        return min(able, key=lambda p: self._order(made, p), default=None)


class Routed(Chooser):
    """The router: a model of each radio, and a breaker for each radio and for each site behind it.

    A site that lost an answer, and a radio that lost two in a row, are asked nothing until a probe
    of a few bytes has come back; probes come rarer the longer it takes.
    """

    def __init__(self) -> None:
        self.links = {p.link: new_link(p.link) for p in PLACES}
        self._sites = {p.site.name: _breaker(1) for p in PLACES}
        self._radios = {link: _breaker(2) for link in self.links}
        self._out: list[tuple[float, Place, int, float]] = []

    def choose(self, made: Field, number: int) -> Place | None:
        """Return the place of most worth."""
        asked = made.trace[number]
        self._settle(asked.at_s)
        now_ns = START_NS + int(asked.at_s * NS)
        now = _mono(asked)
        away = {
            p.site.name
            for p in PLACES
            if self._sites[p.site.name].state(now) != "closed"
            or self._radios[p.link].state(now) != "closed"
        }
        state = State(
            utc_ns=now_ns,
            decisions=made.decisions[number],
            links=self.links,
            open_sites=frozenset(away),
        )
        offers = [_offer(p, asked, made) for p in PLACES if p.site.name in asked.took_s]
        choice = route(_timed(asked, now_ns), offers, state, WEIGHTS)
        if choice.offer is None:
            return None
        name = choice.offer.site.name
        return next(p for p in PLACES if p.site.name == name)

    def asked(self, place: Place, asked: Asked, busy_s: float) -> None:
        """Note that a request went, and when it will be known what became of it."""
        took_s = asked.took_s[place.site.name]
        number = self.links[place.link].asked(asked.at_s, asked.size_bytes)
        known_s = asked.at_s + min(took_s, WAIT_S)
        self._out.append((known_s, place, number, max(took_s - busy_s, 0.0)))

    def probes(self, made: Field, number: int) -> int:
        """Probe what is away and due; return how many probes went."""
        asked, sent = made.trace[number], 0
        now = _mono(asked)
        for place in PLACES:
            site, radio = self._sites[place.site.name], self._radios[place.link]
            due = "half open" in (site.state(now), radio.state(now))
            if not due or place.site.name not in asked.took_s:
                continue
            sent += 1  # what lost a frame at this moment loses a probe as well
            for breaker in (site, radio):
                if asked.took_s[place.site.name] != LOST:
                    breaker.answered()
                elif breaker.state(now) == "half open":
                    breaker.failed(now)
        return sent

    def _settle(self, now_s: float) -> None:
        due = sorted((o for o in self._out if o[0] <= now_s), key=lambda o: o[0])
        self._out = [o for o in self._out if o[0] > now_s]
        for known_s, place, number, took_s in due:
            self.links[place.link].answered(number, took_s)
            for breaker in (self._sites[place.site.name], self._radios[place.link]):
                if took_s == LOST:
                    breaker.failed(int(known_s * NS))
                elif breaker.state(int(known_s * NS)) == "closed":
                    breaker.answered()


def _breaker(failures: int) -> Breaker:
    return Breaker(failures=failures, first_ns=PROBE_FIRST_NS, longest_ns=PROBE_LONGEST_NS)


def play(name: str, chooser: Chooser, made: Field) -> Tally:
    """Play one way to choose over the trace; nothing of the warm-up counts."""
    tally = Tally(name=name)
    for number, asked in enumerate(made.trace):
        if number < made.first:
            chooser.choose(made, number)
            for place in PLACES:
                if place.site.name in asked.took_s:
                    chooser.asked(place, asked, made.busy_s[place.site.name])
            continue
        place = chooser.choose(made, number)
        tally.size_bytes += PROBE_BYTES * chooser.probes(made, number)
        _count(tally, chooser, place, number, made)
    return tally


def _count(tally: Tally, chooser: Chooser, place: Place | None, number: int, made: Field) -> None:
    """Count one request: what it cost, whether it came in time, and what the car then knew."""
    asked, judged = made.trace[number], made.judged
    alone = judged.recall(asked.frame)
    if place is None:
        tally.contexts["device"] = tally.contexts.get("device", 0) + 1
        tally.recalls.append(alone)
        return
    name = place.site.name
    tally.asked += 1
    tally.contexts[place.site.context] = tally.contexts.get(place.site.context, 0) + 1
    _pay(tally, place, asked, made)
    if not made.decisions[number][name].allowed:  # the site refuses it; the bytes are gone
        tally.refused += 1
        tally.recalls.append(alone)
        return
    chooser.asked(place, asked, made.busy_s[name])
    in_time = _waited_s(place, asked) + asked.took_s[name] <= asked.deadline_s
    tally.in_time += in_time
    recall = judged.recall(asked.frame, made.networks[name]) if in_time else alone
    tally.harmed += recall < alone
    tally.worth += WEIGHTS.quality * in_time * made.held_gains[made.networks[name]]
    tally.recalls.append(recall)
    if in_time:
        tally.false_added += int(judged.false_with[made.networks[name]][asked.frame])


def _pay(tally: Tally, place: Place, asked: Asked, made: Field) -> None:
    offer = _offer(place, asked, made)
    tally.size_bytes += offer.size_bytes
    tally.joules += offer.joules
    tally.worth += worth(offer, 0.0, WEIGHTS)  # what it costs, whatever comes of it


def _offer(place: Place, asked: Asked, made: Field) -> Offer:
    name = place.site.name
    size_bytes = asked.size_bytes + ANSWER_BYTES
    busy_s = made.busy_s[name]
    wait_s = _waited_s(place, asked)
    start_ns = START_NS + int(asked.at_s * NS)
    return Offer(
        site=place.site,
        link=place.link,
        quality_gain=made.gains[made.networks[name]],
        send_bytes=asked.size_bytes,
        receive_bytes=ANSWER_BYTES,
        compute_s=busy_s,
        joules=joules(place.processor, place.link, busy_s, size_bytes).total,
        earliest_utc_ns=start_ns + int(wait_s * NS) if wait_s else 0,
    )


def _waited_s(place: Place, asked: Asked) -> float:
    """Return how long the sparse relay is waited for: until its next pass; 0 for all others."""
    outage = next(iter(PROFILES[place.link].outages), None)
    if outage is None:
        return 0.0
    now_s = PASS_PHASE_S + asked.at_s
    if not outage.covers(now_s):
        return 0.0
    return outage.length_s - (now_s - outage.start_s) % outage.every_s


def _timed(asked: Asked, now_ns: int) -> InferenceRequest:
    return replace(
        asked.request,
        input_utc_ns=now_ns,
        deadline_utc_ns=now_ns + int(asked.deadline_s * NS),
        freshness_s=asked.deadline_s,
    )


def new_link(link: str) -> LinkModel:
    """Return what is known of a radio before anything was sent."""
    return LinkModel(period_s=EPOCH_S if link == "leo-dense" else 0.0)


def _mono(asked: Asked) -> int:
    return int(asked.at_s * NS)


def _nearest(made: Field, place: Place) -> Any:
    usual = np.median(
        [a.took_s[place.site.name] for a in made.trace[: made.first] if place.site.name in a.took_s]
        or [LOST]
    )
    return (CONTEXTS.index(place.site.context), float(usual), place.site.name)


def _biggest(made: Field, place: Place) -> Any:
    gain = made.gains[made.networks[place.site.name]]
    return (-gain, place.site.context != "hyperscale", place.site.name)


WAYS: Final[dict[str, Callable[[], Chooser]]] = {
    "router": Routed,
    "always local": Chooser,
    "always nearest": lambda: Naive(_nearest, lawful=False),
    "always biggest": lambda: Naive(_biggest, lawful=False),
    "always nearest, within the law": lambda: Naive(_nearest, lawful=True),
    "always biggest, within the law": lambda: Naive(_biggest, lawful=True),
}
