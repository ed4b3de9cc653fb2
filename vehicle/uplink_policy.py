"""What the uplink sends next, and what an answer means: decided here, touching nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from vehicle.contracts.campaign import UploadBudget

FIRST_WAIT_S: Final = 0.2
MOST_WAIT_S: Final = 20.0
ATTEMPTS: Final = 6
"""Times one request is tried before the gateway counts as down; the next run goes on from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A clip in the outbox.

    Args:
        size_bytes: of its files.
        events: how many triggers fired in it.
        created_utc_ns: when its last frame was recorded.
        begun: part of it is at the gateway already.
    """

    clip_id: str
    size_bytes: int
    events: int
    created_utc_ns: int
    begun: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What this car has sent so far."""

    clips: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPlan:
    """Clips to send, in order, and clips to keep with the reason."""

    send: tuple[str, ...]
    hold: tuple[tuple[str, str], ...]


def plan_sending(waiting: Sequence[Waiting], spent: Spent, budget: UploadBudget) -> SendPlan:
    """Choose what to send within the budget.

    What was begun is finished first; then clips with more events, then older ones. A clip that
    does not fit is held and smaller ones behind it still go.

    Args:
        waiting: the outbox.
        spent: what left the car before.
        budget: of the campaign.
    Returns:
        Every clip of `waiting` exactly once, in `send` or in `hold`.
    """
    order = sorted(waiting, key=lambda c: (not c.begun, -c.events, c.created_utc_ns, c.clip_id))
    send: list[str] = []
    hold: list[tuple[str, str]] = []
    clips, total = spent.clips, spent.bytes
    for clip in order:
        if clips + 1 > budget.max_clips:
            hold.append((clip.clip_id, f"budget: {clips} of {budget.max_clips} clips are sent"))
        elif total + clip.size_bytes > budget.max_bytes:
            left = budget.max_bytes - total
            hold.append(
                (clip.clip_id, f"budget: {clip.size_bytes} bytes, {max(0, left)} may still be sent")
            )
        else:
            clips, total = clips + 1, total + clip.size_bytes
            send.append(clip.clip_id)
    return SendPlan(send=tuple(send), hold=tuple(hold))


class Verdict(Enum):
    """What an answer means for the sending."""

    DONE = "done"
    ABSENT = "absent"
    REWIND = "rewind"
    RETRY = "retry"
    REFUSED = "refused"
    UNAUTHORISED = "unauthorised"


def judge(status: int) -> Verdict:
    """Return what an HTTP status means: only a refusal of this clip gives this clip up.

    A 401 or 403 is never taken for done (openpilot's uploader did, and lost the files).
    """
    if 200 <= status < 300:
        return Verdict.DONE
    if status in (401, 403):
        return Verdict.UNAUTHORISED
    if status == 404:
        return Verdict.ABSENT
    if status == 409:
        return Verdict.REWIND
    if status in (408, 425, 429) or status >= 500:
        return Verdict.RETRY
    return Verdict.REFUSED


def wait_s(attempt: int, jitter_ratio: float) -> float:
    """Return how long to wait before try `attempt` + 1.

    Doubling with full jitter, so that a fleet does not come back at one instant.

    Args:
        attempt: tries made so far, from 1.
        jitter_ratio: 0..1, drawn anew each time.
    Source: M. Brooker, Exponential Backoff And Jitter (2015), "full jitter", with a floor.
    """
    ceiling = min(MOST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1))
    return FIRST_WAIT_S / 2 + jitter_ratio * (ceiling - FIRST_WAIT_S / 2)
