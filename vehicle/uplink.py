"""Sends the outbox home: summaries first, clips part by part, and nothing is ever lost.

A clip leaves the car only after home has confirmed that it landed whole. What goes now is decided
in `uplink_policy`, what is durable lies in `outbox`, what is said to home stands in `gateway_link`;
this file brings them together. It may be killed at any instant: what home has is asked for first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from vehicle.campaigns import HeldCampaigns, Taken
from vehicle.clock import Clock
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign
from vehicle.contracts.uplink import IDENTITY, PART_BYTES
from vehicle.contracts.wire import RefusedError
from vehicle.gateway_link import GatewayDownError, GatewayLink, UnauthorisedError, UnknownHomeError
from vehicle.identity import Identity, NotEnrolledError
from vehicle.outbox import BEGUN, TOLD, WANTED, Charge, ClipGoneError, Outbox, OutboxClip, Receipt
from vehicle.uplink_answers import ATTEMPTS
from vehicle.uplink_file import ClipDamagedError, FileSender
from vehicle.uplink_policy import USUAL_LINK, Link, SendPlan, Step, Waiting, plan_sending

__all__ = ["ClipDamagedError", "Left", "Uplink", "UplinkReport"]

INBOX_NS: Final = 60 * 10**9
"""How old the inbox may be while a long outbox is sent."""

STOPS: Final = (UnauthorisedError, UnknownHomeError, GatewayDownError, NotEnrolledError)

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A clip that stays in the outbox, and why.

    Args:
        waits: nothing is wrong: it waits for a budget, a link, or for home to ask.
    """

    clip_id: str
    reason: str
    waits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkReport:
    """What one run of the uplink did.

    Args:
        sent: clips that home confirmed, in order.
        sent_bytes: parts that went over the link in this run, without what was there before.
        told: clips whose summary home has since this run.
        left: clips that stay, each with its reason.
        campaigns: what the inbox changed in what the car holds.
        error: name and words of what ended the run early, "" when it went through.
    """

    sent: tuple[str, ...]
    sent_bytes: int
    left: tuple[Left, ...]
    told: tuple[str, ...] = ()
    campaigns: Taken = field(default_factory=Taken)
    error: str = ""

    @property
    def refused(self) -> bool:
        """Return whether something is wrong: clips that only wait are not."""
        wrong = any(not clip.waits for clip in self.left)
        return bool(self.error or self.campaigns.refused) or wrong


@dataclass(slots=True)
class _Run:
    """What a run has done so far."""

    sent: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    bytes: int = 0
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    taken: Taken = field(default_factory=Taken)
    error: str = ""


class Uplink:
    """One car's link home.

    Args:
        car_folder: cars/CAR: outbox/, sent/, campaigns/, identity/.
        gateway_url: https://HOST:PORT of `roadloop fleet serve`.
        clock: for waits, receipts and budgets.
        link: how the car is connected; may be set anew between runs.
        identity: read from the car's folder unless given.
        transport: the link itself, another one in tests.
        told: called with a clip's id, the bytes home has of it, and all of them.
    Raises:
        NotEnrolledError, IdentityCorruptError, ForeignIdentityError: see `Identity.at`.
        UplinkBusyError: another uplink sends for this car.
    """

    def __init__(
        self,
        *,
        car_folder: Path,
        gateway_url: str,
        clock: Clock,
        link: Link = USUAL_LINK,
        identity: Identity | None = None,
        transport: httpx.BaseTransport | None = None,
        attempts: int = ATTEMPTS,
        told: Told | None = None,
    ) -> None:
        car_id = car_folder.absolute().name
        identity = identity or Identity.at(car_folder / IDENTITY, car_id)
        self._home = GatewayLink(
            gateway_url, identity, clock, transport=transport, attempts=attempts
        )
        self._held = HeldCampaigns(car_folder, identity.car_id, clock)
        self._clock, self.link, self._told = clock, link, told
        self._files = FileSender(self._home, PART_BYTES)
        self._outbox = Outbox(car_folder, identity.car_id)
        self._campaigns = self._known()

    def send_all(self) -> UplinkReport:
        """Look into the inbox, then send what the outbox holds and link and budgets allow.

        Never raises for a link or a clip that fails: the clip stays and the report says why.
        """
        run = _Run()
        fresh_ns = -INBOX_NS
        try:
            while True:
                if self._clock.mono_ns() - fresh_ns >= INBOX_NS:
                    self._look_in(run)
                    fresh_ns = self._clock.mono_ns()
                todo = [s for s in self._plan()[0].steps if (s.what, s.clip_id) not in run.failed]
                todo = [s for s in todo if s.what == "summary"] or todo[:1]
                if not todo:
                    break
                for step in todo:
                    self._do(step, run)
        except STOPS as stop:
            run.error = f"{type(stop).__name__}: {stop}"
        return self._report(run)

    def close(self) -> None:
        """Let go of the connections and of the outbox."""
        self._home.close()
        self._outbox.close()

    def __enter__(self) -> "Uplink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look_in(self, run: _Run) -> None:
        """Fetch the inbox: keep its campaigns, mark what home wants."""
        inbox = self._home.inbox()
        self._files.part_bytes = inbox.part_bytes
        clips, wanted = self._outbox.clips()[0], set(inbox.wanted)
        for clip_id, clip in clips.items():
            if clip_id in wanted and not clip.wanted:
                self._outbox.mark(clip, WANTED)
        taken = self._held.take(inbox.campaigns)
        self._campaigns = self._known()
        run.taken = Taken(
            new=(*run.taken.new, *taken.new),
            withdrawn=(*run.taken.withdrawn, *taken.withdrawn),
            refused=taken.refused,
        )

    def _plan(self) -> tuple[SendPlan, dict[str, OutboxClip], dict[str, str]]:
        """Return what goes now, out of which clips, and which are none."""
        clips, bad = self._outbox.clips()
        now, link = self._clock.utc_ns(), self.link.name
        waiting = [self._waiting(clip) for clip in clips.values()]
        spent = self._outbox.spent(link, now)
        budgets = {name: campaign.budget for name, campaign in self._campaigns.items()}
        return plan_sending(waiting, self.link, spent, budgets), clips, bad

    def _known(self) -> dict[str, Campaign]:
        """Return the campaigns whose budgets and wishes count."""
        return {c.campaign_id: c for c in (DEFAULT_CAMPAIGN, *self._held.held()[0])}

    def _waiting(self, clip: OutboxClip) -> Waiting:
        manifest, now = clip.manifest, self._clock.utc_ns()
        known = [self._campaigns[c] for c in clip.campaigns if c in self._campaigns]
        paid = self._outbox.paid(manifest.clip_id, "clip", now)
        link = self.link.name
        told_paid = link in self._outbox.paid(manifest.clip_id, "summary", now)
        return Waiting(
            clip_id=manifest.clip_id,
            size_bytes=clip.size_bytes,
            summary_bytes=0 if told_paid else clip.summary_bytes,
            created_utc_ns=manifest.created_utc_ns,
            campaigns=clip.campaigns,
            priority=clip.priority,
            value=clip.value,
            told=clip.told,
            wanted=clip.wanted,
            on_request=bool(known) and all(c.full == "on_request" for c in known),
            begun=clip.begun,
            paid=link in paid,
            payer=next((c for c in paid.values() if c), ""),
        )

    def _do(self, step: Step, run: _Run) -> None:
        """Take one step; what is wrong with one clip is noted and stops no other."""
        clip = self._outbox.clip(step.clip_id)
        try:
            if clip is None:
                raise ClipGoneError(step.clip_id)
            if step.what == "summary":
                self._tell(clip, run)
            else:
                self._send(clip, step, run)
        except ClipGoneError:
            run.failed[step.what, step.clip_id] = ""
        except STOPS:
            raise
        except (RefusedError, OSError) as error:
            run.failed[step.what, step.clip_id] = f"{type(error).__name__}: {error}"

    def _tell(self, clip: OutboxClip, run: _Run) -> None:
        clip_id, summary = clip.manifest.clip_id, self._outbox.summary(clip)
        self._charge("summary", clip_id, len(summary), "")
        if self._home.tell(clip_id, summary):
            self._outbox.mark(clip, WANTED)
        self._outbox.mark(clip, TOLD)
        run.told.append(clip_id)

    def _send(self, clip: OutboxClip, step: Step, run: _Run) -> None:
        manifest = clip.manifest
        if not self._home.has(manifest.clip_id):
            self._charge("clip", manifest.clip_id, clip.size_bytes, step.payer)
            self._outbox.mark(clip, BEGUN)
            before = 0
            for entry in manifest.files:
                path = self._outbox.folder(manifest.clip_id) / entry.name

                def arrived(size: int, home_has: int, before: int = before) -> None:
                    run.bytes += size
                    if self._told is not None:
                        self._told(manifest.clip_id, before + home_has, clip.size_bytes)

                self._files.send(path, entry, arrived)
                before += entry.size_bytes
            self._home.commit(manifest)
        self._outbox.confirm(
            Receipt(
                clip_id=manifest.clip_id,
                size_bytes=clip.size_bytes,
                campaigns=clip.campaigns,
                sent_utc_ns=self._clock.utc_ns(),
            )
        )
        run.sent.append(manifest.clip_id)

    def _charge(self, what: str, clip_id: str, size: int, campaign: str) -> None:
        self._outbox.charge(
            Charge(
                utc_ns=self._clock.utc_ns(),
                link=self.link.name,
                what="clip" if what == "clip" else "summary",
                clip_id=clip_id,
                campaign=campaign,
                bytes=size,
            )
        )

    def _report(self, run: _Run) -> UplinkReport:
        """Say what became of every clip that is still there."""
        plan, clips, bad = self._plan()
        waits = {hold.clip_id: hold.reason for hold in plan.hold if hold.what == "clip"}
        left = [Left(clip_id=clip_id, reason=reason) for clip_id, reason in bad.items()]
        for clip_id in clips:
            wrong = run.failed.get(("clip", clip_id)) or run.failed.get(("summary", clip_id)) or ""
            if wrong or clip_id not in waits:
                left.append(Left(clip_id=clip_id, reason=wrong or run.error or "not tried yet"))
            else:
                left.append(Left(clip_id=clip_id, reason=waits[clip_id], waits=True))
        return UplinkReport(
            sent=tuple(run.sent),
            sent_bytes=run.bytes,
            left=tuple(left),
            told=tuple(run.told),
            campaigns=run.taken,
            error=run.error,
        )
