"""What shall happen in the trial of the relay, and when: found from the contact plan alone; and
what came of it."""

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Final

from fleet.orbit.constellation import Declaration
from fleet.orbit.contacts import make_plan
from fleet.orbit.mission import Stretch
from fleet.orbit.plan import Contact, ContactPlan
from fleet.orbit.routing import NoRouteError, Route, Router, Wish

START_UTC_NS: Final = 1_767_225_600 * 10**9
"""2026-01-01T00:00Z: the same trial every day."""

HOURS: Final = 24.0
CAR, UP, DOWN = "car-1", "ground-no", "ground-us"
"""The car; the station that sends releases; the one at which its clips may land."""

FAST: Final = 4_000.0
BEGUN: Final = 40.0
OPEN: Final = 100.0
"""Mission seconds a second: where nothing can happen; at the beginning of a contact that is to be
used; in the rest of it, and in contacts that are used when something was missed."""

_S: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Which node dies, when, and doing what."""

    node: str
    utc_ns: int
    doing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The trial.

    Args:
        plan: of the nodes that take part.
        release, clip: the ways they are expected to go.
        asked: satellite that the car asks, `ask_utc_ns` when.
        kills: each node once.
        stretches: where mission time runs slowly.
        end_utc_ns: when the last is expected.
    """

    plan: ContactPlan
    release: Route
    clip: Route
    asked: str
    ask_utc_ns: int
    kills: tuple[Kill, ...]
    stretches: tuple[Stretch, ...]
    end_utc_ns: int


@dataclass(slots=True, kw_only=True)
class Line:
    """One line of the timeline: minutes after the start, where, what."""

    minute: float
    node: str
    what: str


@dataclass(slots=True, kw_only=True)
class Trial:
    """What came of it.

    Args:
        timeline: in order of mission time.
        counts: sent, arrived, lost, twice; copies that were known for ones.
        refused: what was refused on purpose, by name.
        accel_mps2: the car's own command before the hazard, and the one after advice.
        power: of the satellite that answered; modelled.
    """

    timeline: list[Line] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    accel_mps2: dict[str, float] = field(default_factory=dict)
    power: dict[str, float] = field(default_factory=dict)
    nodes: dict[str, dict[str, int]] = field(default_factory=dict)
    wall_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Return whether all arrived, once, and each had its effect."""
        effects = ("update_installed", "clip_landed", "advice_heeded", "tampered_release_refused")
        none = ("lost", "twice")
        return all(self.counts.get(e) == 1 for e in effects) and not any(
            self.counts.get(n, 1) for n in none
        )

    def plain(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        return asdict(self) | {"holds": self.holds}


def write(release_bytes: int, clip_bytes: int, *, kill: bool) -> Script:
    """Return the trial for a release and a clip of these sizes.

    Raises:
        NoRouteError: the constellation does not carry them in a day.
    """
    plan = make_plan(Declaration.read("sparse"), START_UTC_NS, HOURS)
    router = Router(plan)
    release = _route(router, UP, CAR, release_bytes, ())
    clip = _route(router, CAR, DOWN, clip_bytes, ("US",))
    asked = clip.hops[0]
    kills = _kills(release, clip) if kill else ()
    small = plan.only({UP, CAR, DOWN, *release.hops, *clip.hops})
    end_utc_ns = max(release.arrive_utc_ns, clip.arrive_utc_ns)
    stretches = []
    for leg in (*release.legs, *clip.legs):
        begun = Stretch(
            start_utc_ns=leg.begin_utc_ns - 5 * _S,
            end_utc_ns=leg.begin_utc_ns + 60 * _S,
            speed=BEGUN,
        )
        stretches += [begun, _while_open(leg.contact)]
    ask_utc_ns = clip.legs[0].begin_utc_ns - 60 * _S
    stretches += [
        Stretch(start_utc_ns=t - 20 * _S, end_utc_ns=t + 60 * _S, speed=BEGUN)
        for t in (ask_utc_ns, *(kill.utc_ns for kill in kills))
    ]
    stretches += [_while_open(c) for c in small.contacts if c.start_utc_ns > end_utc_ns]
    return Script(
        plan=small,
        release=release,
        clip=clip,
        asked=asked,
        ask_utc_ns=ask_utc_ns,
        kills=kills,
        stretches=tuple(stretches),
        end_utc_ns=end_utc_ns,
    )


def _kills(release: Route, clip: Route) -> tuple[Kill, ...]:
    """Return one death for each node on both ways: before, while carrying, and in mid-transfer."""
    found: dict[str, Kill] = {}
    first = release.legs[0]
    waiting = (START_UTC_NS + first.begin_utc_ns) // 2
    found[UP] = Kill(node=UP, utc_ns=waiting, doing="holding the release")
    for route, what in ((release, "release"), (clip, "clip")):
        for leg, following in pairwise(route.legs):
            carrying = (leg.arrive_utc_ns + following.begin_utc_ns) // 2
            node = leg.contact.target
            found.setdefault(node, Kill(node=node, utc_ns=carrying, doing=f"carrying the {what}"))
        last = route.legs[-1]
        found.setdefault(
            last.contact.target,
            Kill(
                node=last.contact.target,
                utc_ns=(last.begin_utc_ns + last.sent_utc_ns) // 2,
                doing=f"receiving the {what}",
            ),
        )
    return tuple(sorted(found.values(), key=lambda k: k.utc_ns))


def _route(router: Router, source: str, target: str, size: int, lands_in: tuple[str, ...]) -> Route:
    wish = Wish(
        source=source,
        target=target,
        ready_utc_ns=START_UTC_NS,
        size_bytes=size,
        expires_utc_ns=START_UTC_NS + int(HOURS * 3_600) * _S,
        lands_in=lands_in,
    )
    route = router.route(wish)
    if route is None:
        raise NoRouteError(f"{size:,} bytes do not come from {source} to {target} in a day")
    return route


def _while_open(contact: Contact) -> Stretch:
    start, end = contact.start_utc_ns, contact.end_utc_ns
    return Stretch(start_utc_ns=start, end_utc_ns=end, speed=OPEN)
