"""An answer that streams, taken over by another region when the one that speaks goes away.

Explainers are deterministic: of two regions with the same model, each says the same. So a second
one is asked anew, what was heard already is held against what it says and not passed on again, and
the rest follows. Where it says something else, the stream ends by name: half of one answer and half
of another is none.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from fleet.inference.breaker import NS
from fleet.inference.client import SiteRefusedError, UnreachableSiteError
from fleet.inference.explain_chat import DONE, event
from fleet.inference.refusals import LateAnswerError, SiteRefusalError
from fleet.inference.regions import ELSEWHERE, NoRegionError, Region, RegionDiedError, Regions
from vehicle.contracts.inference import InferenceRequest

T = TypeVar("T")

SILENCE_S: Final = 0.5
"""A region that says nothing for so long has gone; words come every few milliseconds."""

Open = Callable[[Region[Any, Any], float], AsyncGenerator[dict[str, Any], None]]
"""(region, seconds left) -> the events of its answer, [DONE] left out."""


class OtherAnswerError(SiteRefusalError):
    """The region that took over says something else than the one before it said."""

    GRPC: ClassVar[str] = "ABORTED"
    HTTP: ClassVar[int] = 502


@dataclass(slots=True)
class Heard:
    """What of an answer was passed on, and what the region that speaks now has said so far."""

    said: str = ""
    now: str = ""

    def more(self, text: str) -> str:
        """Return what of `text` is new.

        Raises:
            OtherAnswerError: it is not what was passed on.
        """
        self.now += text
        both = min(len(self.now), len(self.said))
        if self.now[:both] != self.said[:both]:
            raise OtherAnswerError(f"{self.now[:both][-40:]!r}, after {self.said[:both][-40:]!r}")
        new = self.now[len(self.said) :]
        self.said += new
        return new


async def streamed(
    regions: Regions[Any, Any], open_: Open, request: InferenceRequest | None, size_bytes: int
) -> AsyncGenerator[bytes, None]:
    """Yield an answer as events, whichever regions it took; [DONE] is the last.

    Args:
        size_bytes: of the request, for its byte budget.
    Raises:
        NoRegionError, RegionDiedError, LateAnswerError, OtherAnswerError, SiteRefusedError: as
            named; after the first event too.
    """
    left_s, able, why = regions.admit(request, size_bytes)
    clock = regions.clock
    deadline_ns, heard, sent_bytes = clock.mono_ns() + int(left_s * NS), Heard(), 0
    budget = request.size_budget_bytes if request else 0
    for region in able:
        left_s = (deadline_ns - clock.mono_ns()) / NS
        if not region.breaker.allows(clock.mono_ns()):
            why.append(f"{region.site.name} failed lately")
            continue
        if sent_bytes and 0 < budget < sent_bytes + size_bytes:
            why.append(f"{region.site.name} is over the budget of {budget:,} bytes")
            break
        region.breaker.asked()
        region.counts["taken over" if sent_bytes else "asked"] += 1
        sent_bytes += size_bytes
        heard.now = ""
        try:
            async with aclosing(_passed_on(open_(region, left_s), heard, deadline_ns, clock)) as on:
                async for data in on:
                    yield data
        except UnreachableSiteError as error:
            why.append(f"{region.site.name}: {error}")
            region.breaker.failed(clock.mono_ns())
            region.counts["failed"] += 1
            continue
        except SiteRefusedError as error:
            region.breaker.answered()
            if heard.said or error.name not in ELSEWHERE:
                regions.counts["refused"] += 1
                raise
            why.append(f"{region.site.name}: {error}")
            continue
        except (LateAnswerError, OtherAnswerError) as error:
            region.breaker.withdrawn()
            regions.counts["late" if isinstance(error, LateAnswerError) else "refused"] += 1
            raise
        region.breaker.answered()
        region.counts["answered"] += 1
        regions.counts["answered"] += 1
        yield DONE
        return
    regions.counts["refused"] += 1
    kind = RegionDiedError if sent_bytes else NoRegionError
    raise kind("; ".join(why) or "no region is left")


async def _passed_on(
    events: AsyncGenerator[dict[str, Any], None], heard: Heard, deadline_ns: int, clock: Any
) -> AsyncGenerator[bytes, None]:
    """Yield what is new of one region's events.

    Raises:
        UnreachableSiteError: it broke off, or fell silent.
        LateAnswerError: the deadline passed first.
    """
    ended = False
    while True:
        left_s = (deadline_ns - clock.mono_ns()) / NS
        try:
            async with asyncio.timeout(max(min(left_s, SILENCE_S), 0.0)):
                plain = await anext(events, None)
        except TimeoutError:
            await events.aclose()
            if left_s <= SILENCE_S:
                raise LateAnswerError(f"not said to its end: {heard.said[-40:]!r}") from None
            raise UnreachableSiteError("UNAVAILABLE", "", f"silent for {SILENCE_S:g} s") from None
        if plain is None:
            break
        ended = ended or any(c.get("finish_reason") for c in plain["choices"])
        wanted = _rest(plain, heard)
        if wanted is not None:
            yield event(wanted)
    if not ended:
        raise UnreachableSiteError("UNAVAILABLE", "", "the answer broke off")


def _rest(plain: dict[str, Any], heard: Heard) -> dict[str, Any] | None:
    """Return an event with only what is new of its words, None when nothing is."""
    keep = not plain["choices"]  # counts and the reply come last, once
    for choice in plain["choices"]:
        delta = choice["delta"]
        first = "role" in delta and not heard.said and not heard.now
        new = heard.more(delta.get("content") or "")
        keep = keep or bool(new) or bool(choice.get("finish_reason")) or first
        if "content" in delta:
            delta["content"] = new
        if not first:
            delta.pop("role", None)
    return json.loads(json.dumps(plain)) if keep else None
