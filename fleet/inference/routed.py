"""The router at work: it ranks the places before each request, and learns their links from each.

It is told of a request, of what policy says of each place and of who is away; it answers who is
asked, best first. What a place then takes teaches the model of its link.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sized
from typing import ClassVar, TypeVar

from fleet.inference.arrival import LOST
from fleet.inference.carbon import CarbonAware
from fleet.inference.client import UnreachableSiteError
from fleet.inference.field import ANSWER_BYTES, Field
from fleet.inference.policy import Decision
from fleet.inference.refusals import SiteRefusalError
from fleet.inference.router import NS, State, Weights, rank
from vehicle.clock import Clock
from vehicle.contracts.inference import InferenceRequest

P = TypeVar("P", bound=Sized)
T = TypeVar("T")
Send = Callable[[P, float], Awaitable[T]]


class StayLocalError(SiteRefusalError):
    """No place is in time or worth asking: whoever asks stays with the answer of its own."""

    GRPC: ClassVar[str] = "FAILED_PRECONDITION"
    HTTP: ClassVar[int] = 412


class Router:
    """Decides who is asked, and learns from what came of it.

    Args:
        field: places and links; its link models are taught.
        carbon: None: carbon weighs nothing.
    """

    def __init__(
        self,
        field: Field,
        clock: Clock,
        weights: Weights | None = None,
        carbon: CarbonAware | None = None,
    ) -> None:
        self._field, self._clock, self._weights = field, clock, weights
        self._carbon = carbon

    def order(
        self,
        request: InferenceRequest,
        size_bytes: int,
        decisions: Mapping[str, Decision],
        away: frozenset[str],
    ) -> list[str]:
        """Return the places that are worth asking, best first.

        Args:
            size_bytes: to be sent.
            decisions: policy's, by name of the place.
            away: who is down or failed lately.
        Raises:
            StayLocalError: none is; says for each why.
        """
        now_ns = self._clock.utc_ns()
        offers = [
            spot.offer(size_bytes, ANSWER_BYTES, now_ns, self._carbon)
            for spot in self._field.spots.values()
        ]
        state = State(utc_ns=now_ns, decisions=decisions, links=self._field.links, open_sites=away)
        able, others = rank(request, offers, state, self._weights)
        worthy = [r.offer.site.name for r in able if r.worth > 0.0]
        if not worthy:
            others |= {r.offer.site.name: f"{r.words}: it costs more than it gains" for r in able}
            raise StayLocalError("; ".join(f"{name}: {why}" for name, why in others.items()))
        return worthy

    def learning(self, name: str, send: Send[P, T]) -> Send[P, T]:
        """Return `send` of a place, from which its link learns.

        A call that is taken back before its time teaches nothing; one that is at its end was lost.
        """
        spot = self._field.spots[name]
        link = self._field.links[spot.link]

        async def sent(payload: P, left_s: float) -> T:
            began_ns = self._clock.mono_ns()
            number = link.asked(self._clock.utc_ns() / NS, len(payload) + ANSWER_BYTES)
            try:
                answer = await send(payload, left_s)
            except (Exception, asyncio.CancelledError) as error:
                late = self._clock.mono_ns() - began_ns >= int(left_s * NS)
                if late or isinstance(error, UnreachableSiteError):
                    link.answered(number, LOST)
                else:
                    link.withdrawn(number)
                raise
            took_s = (self._clock.mono_ns() - began_ns) / NS
            link.answered(number, max(took_s - spot.compute_s, 0.0))
            return answer

        return sent
