"""What the uplink sends next and what waits for what: decided here, touching nothing.

A clip costs its campaign (how much one campaign may send per car) and its link (how much one kind
of link may carry); both are counted over the last 24 hours, so that no budget is spent for life.
A summary is small and always goes first: with it home can ask for the clip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from vehicle.contracts.campaign import UploadBudget

LinkKind = Literal["wifi", "cellular", "orbital"]
What = Literal["summary", "clip"]

WINDOW_NS: Final = 24 * 3600 * 10**9
"""Budgets are per 24 hours that roll, not per calendar day: no rush at midnight."""

NOBODY: Final = 10
"""A priority that no campaign has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPolicy:
    """What one kind of link is for. Summaries go over every link.

    Args:
        priority_from: clips of at least this priority go; NOBODY: none by priority.
        wanted: clips that home asked for go, whatever their priority.
        tiny_bytes: clips up to this size go, whatever their priority.
        most_bytes: larger clips wait for another link; None: any size.
        moving_bytes: larger clips wait until the car is parked; None: any size.
        day_bytes: of clips in 24 hours; None: no limit.
        day_summary_bytes: of summaries in 24 hours; None: no limit.
    """

    name: str
    priority_from: int
    wanted: bool
    tiny_bytes: int = 0
    most_bytes: int | None = None
    moving_bytes: int | None = None
    day_bytes: int | None = None
    day_summary_bytes: int | None = None


WIFI: Final = LinkPolicy(name="wifi", priority_from=0, wanted=True, moving_bytes=256 << 20)
"""A depot: everything goes; a long clip is not begun while the car is about to leave the place."""

CELLULAR: Final = LinkPolicy(
    name="cellular",
    priority_from=5,
    wanted=True,
    moving_bytes=64 << 20,
    day_bytes=500_000_000,
    day_summary_bytes=50_000_000,
)
"""Paid by the byte: what home asked for, and what its campaign calls urgent."""

METERED: Final = LinkPolicy(
    name="metered", priority_from=NOBODY, wanted=False, day_bytes=0, day_summary_bytes=20_000_000
)
"""Somebody else's contract, or roaming: home learns what there is, and no more."""

ORBITAL: Final = LinkPolicy(
    name="orbital",
    priority_from=NOBODY,
    wanted=True,
    tiny_bytes=256 << 10,
    most_bytes=8 << 20,
    day_bytes=16 << 20,
    day_summary_bytes=2 << 20,
)
"""A relay in the sky, minutes a day at some kilobytes a second: facts, and hardly any pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How the car is connected now.

    Args:
        metered: every byte is paid for; only summaries go.
        parked: the car stands and will for a while.
        day_bytes: other than the policy's, as the car's owner says; None: the policy's.
    """

    SCHEMA: ClassVar[str] = "link/1"
    kind: LinkKind = "wifi"
    metered: bool = False
    parked: bool = False
    day_bytes: int | None = None

    @property
    def policy(self) -> LinkPolicy:
        """Return what this link is for."""
        if self.metered:
            return METERED
        return {"wifi": WIFI, "cellular": CELLULAR, "orbital": ORBITAL}[self.kind]

    @property
    def name(self) -> str:
        """Return under which name its bytes are counted."""
        return self.policy.name

    @property
    def limit_bytes(self) -> int | None:
        """Return how many bytes of clips it carries in 24 hours."""
        return self.policy.day_bytes if self.day_bytes is None else self.day_bytes


USUAL_LINK: Final = Link()
"""What a drive takes for given until it is told how the car is connected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A clip in the outbox.

    Args:
        size_bytes, summary_bytes: of its files, and of what is told of it first.
        created_utc_ns: when its last frame was recorded.
        campaigns: that its events belong to; one of them pays for it.
        priority: highest of its events, 0..9.
        value: what the recorder thinks it is worth.
        told: home has its summary.
        wanted: home asked for all of it.
        on_request: all its campaigns send a clip only when home asks.
        begun: part of it is at the gateway already.
        paid: it is counted in what this link carried already.
        payer: the campaign that has paid for it already, on whatever link; "" for none.
    """

    clip_id: str
    size_bytes: int
    summary_bytes: int = 0
    created_utc_ns: int = 0
    campaigns: tuple[str, ...] = ()
    priority: int = 0
    value: float = 0.0
    told: bool = False
    wanted: bool = False
    on_request: bool = False
    begun: bool = False
    paid: bool = False
    payer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What this car has sent in the last 24 hours: on this link, and per campaign on any link."""

    clip_bytes: int = 0
    summary_bytes: int = 0
    campaign_clips: Mapping[str, int] = field(default_factory=dict)
    campaign_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to send.

    Args:
        payer: the campaign whose budget a clip takes, the most urgent one that has enough left; ""
            where nobody's: a summary, a clip that home asked for.
    """

    what: What
    clip_id: str
    payer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One thing that is not sent now, and what it waits for."""

    what: What
    clip_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPlan:
    """What to send, in order, and what to keep."""

    steps: tuple[Step, ...]
    hold: tuple[Hold, ...]


def plan_sending(
    waiting: Sequence[Waiting],
    link: Link,
    spent: Spent,
    budgets: Mapping[str, UploadBudget] | None = None,
) -> SendPlan:
    """Choose what goes over this link now.

    First every summary that home does not have, then clips. What was begun is finished first; then
    by priority; among equals what home asked for, what is worth more, what is older. What does not
    fit a budget is held and smaller clips behind it still go.

    Args:
        waiting: the outbox.
        spent: in the last 24 hours.
        budgets: of the campaigns; one that is not here has the usual one.
    Returns:
        For each clip of `waiting` its summary (unless told) and itself exactly once, among the
        steps or among what is held.
    """
    order = sorted(waiting, key=_rank)
    purse = _Purse(link, spent, budgets or {})
    steps: list[Step] = []
    hold: list[Hold] = []
    for clip in (c for c in order if not c.told):
        reason = purse.summary(clip)
        if reason:
            hold.append(Hold(what="summary", clip_id=clip.clip_id, reason=reason))
        else:
            steps.append(Step(what="summary", clip_id=clip.clip_id))
    for clip in order:
        reason = _not_over(link, clip)
        payer = ""
        if not reason:
            payer, reason = purse.clip(clip)
        if reason:
            hold.append(Hold(what="clip", clip_id=clip.clip_id, reason=reason))
        else:
            steps.append(Step(what="clip", clip_id=clip.clip_id, payer=payer))
    return SendPlan(steps=tuple(steps), hold=tuple(hold))


def _rank(clip: Waiting) -> tuple[bool, int, bool, float, int, str]:
    order = (not clip.begun, -clip.priority, not clip.wanted, -clip.value, clip.created_utc_ns)
    return (*order, clip.clip_id)


def _not_over(link: Link, clip: Waiting) -> str:
    """Return why a clip does not go over this kind of link, "" when it may."""
    policy, size = link.policy, clip.size_bytes
    if clip.on_request and not clip.wanted:
        return "waits for home to ask for it: its campaign sends summaries first"
    by_size = policy.tiny_bytes > 0 and size <= policy.tiny_bytes
    if not (clip.priority >= policy.priority_from or by_size or (clip.wanted and policy.wanted)):
        asks = f"priority {policy.priority_from}" if policy.priority_from < NOBODY else ""
        asks = " or ".join(w for w in (asks, "home's request" if policy.wanted else "") if w)
        return f"waits for wifi: priority {clip.priority}, {policy.name} carries " + (
            f"clips of {asks}" if asks else "summaries only"
        )
    if policy.most_bytes is not None and size > policy.most_bytes:
        return f"waits for wifi: {size} bytes, {policy.name} carries up to {policy.most_bytes}"
    if policy.moving_bytes is not None and size > policy.moving_bytes and not link.parked:
        return f"waits until the car is parked: {size} bytes, above {policy.moving_bytes}"
    return ""


class _Purse:
    """What may still be spent, while a plan is made."""

    def __init__(self, link: Link, spent: Spent, budgets: Mapping[str, UploadBudget]) -> None:
        self._link, self._budgets = link, budgets
        self._clip_bytes, self._summary_bytes = spent.clip_bytes, spent.summary_bytes
        self._count, self._bytes = dict(spent.campaign_clips), dict(spent.campaign_bytes)

    def summary(self, clip: Waiting) -> str:
        """Pay for a summary; return why that is not possible."""
        limit, size = self._link.policy.day_summary_bytes, clip.summary_bytes
        if limit is not None and self._summary_bytes + size > limit:
            return _spent_words(self._link.name, "summaries", self._summary_bytes, limit)
        self._summary_bytes += size
        return ""

    def clip(self, clip: Waiting) -> tuple[str, str]:
        """Pay for a clip; return which campaign did, or why that is not possible."""
        if clip.paid:
            return clip.payer, ""
        limit, size = self._link.limit_bytes, clip.size_bytes
        if limit is not None and self._clip_bytes + size > limit:
            return "", _spent_words(self._link.name, "clips", self._clip_bytes, limit)
        payer = clip.payer
        if not payer and clip.campaigns and not clip.wanted:
            lacks = {c: self._lacks(c, size) for c in clip.campaigns}
            able = [c for c, reason in lacks.items() if not reason]
            if not able:
                return "", "; ".join(lacks.values())
            payer = able[0]
            self._count[payer] = self._count.get(payer, 0) + 1
            self._bytes[payer] = self._bytes.get(payer, 0) + size
        self._clip_bytes += size
        return payer, ""

    def _lacks(self, campaign: str, size: int) -> str:
        budget = self._budgets.get(campaign, UploadBudget())
        count, total = self._count.get(campaign, 0), self._bytes.get(campaign, 0)
        if count >= budget.max_clips:
            return f"budget of {campaign!r}: {count} of {budget.max_clips} clips in 24 h"
        if total + size > budget.max_bytes:
            left = max(0, budget.max_bytes - total)
            return f"budget of {campaign!r}: {size} bytes, {left} may still go in 24 h"
        return ""


def _spent_words(link: str, what: str, spent: int, limit: int) -> str:
    return f"waits for tomorrow: {link} carried {spent} of {limit} bytes of {what} in 24 h"
