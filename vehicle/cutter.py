"""Which frames belong to which clip: decided from frames and events alone, touching nothing."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vehicle.contracts.campaign import Campaign, TriggerSpec
from vehicle.contracts.clip import TriggerEvent
from vehicle.ring import Slot

MAX_CLIP_S: Final = 60.0
"""Events that follow each other closely share a clip up to this length, then a new one begins."""

MAX_EVENTS: Final = 300
"""And up to this many: a manifest names them all, and a summary with it has at most 128 KiB."""


@dataclass(frozen=True, slots=True)
class Open:
    """A clip begins."""


@dataclass(frozen=True, slots=True)
class Keep:
    """This frame belongs to the open clip."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Seal:
    """The open clip is complete and shows these events."""

    events: tuple[TriggerEvent, ...]


Action = Open | Keep | Seal


class ClipCutter:
    """Keeps what may become pre-roll and cuts clips around events.

    Two events whose windows touch give one clip, whichever campaigns they are of. That is known
    only when the later one's pre-roll could no longer reach back, so a clip is sealed one pre-roll
    after its last wanted frame.

    Args:
        campaigns: their triggers say how much before and after an event is kept; an event of a
            trigger they do not know gets the trigger defaults.
    """

    def __init__(self, campaigns: Sequence[Campaign], max_clip_s: float = MAX_CLIP_S) -> None:
        self._specs = {(c.campaign_id, spec.name): spec for c in campaigns for spec in c.triggers}
        self._other = TriggerSpec(name="other", kind="ttc", threshold=0.0)
        specs = [*self._specs.values(), self._other]
        self._max_pre_ns = max(_ns(spec.pre_s) for spec in specs)
        self._max_clip_ns = _ns(max_clip_s)
        self._loose: deque[Slot] = deque()
        self._events: list[TriggerEvent] = []
        self._start_ns = self._end_ns = 0

    def resume(self, events: Sequence[TriggerEvent], start_ns: int) -> None:
        """Go on with the open clip of a cutter that was killed.

        Args:
            events: the clip shows so far; not empty.
            start_ns: of its first frame. Frames pushed from here on must follow its last one.
        """
        self._events = list(events)
        self._start_ns = start_ns
        self._end_ns = max(e.mono_ns + _ns(self._spec(e).post_s) for e in events)

    def push(self, slot: Slot, events: Sequence[TriggerEvent] = ()) -> list[Action]:
        """Take the next frame and the events on it; return what follows for the clips."""
        self._loose.append(slot)
        actions: list[Action] = []
        if events:
            start_ns = min(slot.mono_ns - _ns(self._spec(e).pre_s) for e in events)
            end_ns = max(slot.mono_ns + _ns(self._spec(e).post_s) for e in events)
            touches = start_ns <= self._end_ns
            fits = max(end_ns, self._end_ns) - self._start_ns <= self._max_clip_ns
            fits = fits and len(self._events) + len(events) <= MAX_EVENTS
            if self._events and touches and fits:
                self._end_ns = max(end_ns, self._end_ns)
            else:
                actions += self._seal()
                self._begin(start_ns, end_ns)
                actions.append(Open())
            self._events += events
        if self._events:
            actions += self._keep()
            if slot.mono_ns > self._end_ns + self._max_pre_ns:
                actions += self._seal()
        while self._loose and self._loose[0].mono_ns < slot.mono_ns - self._max_pre_ns:
            self._loose.popleft()
        return actions

    def flush(self) -> list[Action]:
        """Return what completes the open clip: the drive is over."""
        return self._seal()

    def _begin(self, start_ns: int, end_ns: int) -> None:
        while self._loose[0].mono_ns < start_ns:
            self._loose.popleft()
        self._start_ns, self._end_ns = self._loose[0].mono_ns, end_ns

    def _keep(self) -> list[Action]:
        kept: list[Action] = []
        while self._loose and self._loose[0].mono_ns <= self._end_ns:
            kept.append(Keep(self._loose.popleft()))
        return kept

    def _seal(self) -> list[Action]:
        if not self._events:
            return []
        sealed = Seal(tuple(self._events))
        self._events = []
        return [sealed]

    def _spec(self, event: TriggerEvent) -> TriggerSpec:
        return self._specs.get((event.campaign_id, event.trigger), self._other)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
