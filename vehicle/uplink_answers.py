"""What an answer of home or of a store means, and how long to wait before asking again."""

from enum import Enum
from typing import Final

FIRST_WAIT_S: Final = 0.2
MOST_WAIT_S: Final = 20.0
ATTEMPTS: Final = 6
"""Times one request is tried before the gateway counts as down; the next run goes on from there."""


class Verdict(Enum):
    """What an answer means for the sending."""

    DONE = "done"
    ABSENT = "absent"
    AGAIN = "again"
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
        return Verdict.AGAIN
    if status in (408, 425, 429) or status >= 500:
        return Verdict.RETRY
    return Verdict.REFUSED


def judge_part(status: int) -> Verdict:
    """Return what the status of a part's address means; a store is no gateway.

    An address that is too old (403), whose upload is gone (404), that takes other bytes than came
    (400, 409) is asked for anew; home then says whether that is worth it.

    Source: Amazon S3 API reference, UploadPart and list of error codes.
    """
    return Verdict.AGAIN if status in (400, 401, 403, 404, 409, 410) else judge(status)


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
