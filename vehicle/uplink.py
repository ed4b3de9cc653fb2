"""Sends the outbox home: piece by piece, from where it was cut off, and nothing is ever lost.

A clip leaves the car only after home has confirmed that it landed whole. What to send and what
an answer means is decided in `uplink_policy`; this file touches the disk and the link.
"""

import contextlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx

from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign
from vehicle.contracts.clip import ClipManifest, FileEntry
from vehicle.contracts.wire import ContractError, RefusedError
from vehicle.uplink_policy import (
    ATTEMPTS,
    SendPlan,
    Spent,
    Verdict,
    Waiting,
    judge,
    plan_sending,
    wait_s,
)

PIECE_BYTES: Final = 256 << 10
MANIFEST: Final = "manifest.json"
CONNECT_S: Final = 5.0
ANSWER_S: Final = 30.0
REWINDS: Final = 32


class UnauthorisedError(RefusedError):
    """Home does not accept this car's token."""


class GatewayDownError(RefusedError):
    """Home does not answer, or cannot take anything now."""


class ClipRefusedError(RefusedError):
    """Home will not take this clip; the reasons are its own."""


class ClipDamagedError(RefusedError):
    """A clip in the outbox is not what its manifest says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What stays in the car of a clip that landed."""

    SCHEMA: ClassVar[str] = "receipt/1"
    clip_id: str
    size_bytes: int
    campaigns: tuple[str, ...]
    sent_utc_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A clip that stays in the outbox, and why."""

    clip_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkReport:
    """What one run of the uplink did.

    Args:
        sent: clips that home confirmed, in order.
        sent_bytes: pieces that went over the link in this run, without what was there before.
        left: clips that stay, each with its reason.
        error: name and words of what ended the run early, "" when it went through.
    """

    sent: tuple[str, ...]
    sent_bytes: int
    left: tuple[Left, ...]
    error: str = ""


class Uplink:
    """One car's link home.

    Args:
        outbox: where the recorder puts clips; receipts go to the folder `sent` beside it.
        gateway_url: e.g. http://127.0.0.1:8787.
        car_id, token: as given at enrolment.
        clock: for waits and receipts.
        campaign: its budget bounds what is sent; what went before under it counts.
        transport: the link itself, another one in tests.
    """

    def __init__(
        self,
        *,
        outbox: Path,
        gateway_url: str,
        car_id: str,
        token: str,
        clock: Clock,
        campaign: Campaign = DEFAULT_CAMPAIGN,
        transport: httpx.BaseTransport | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._outbox, self._car = Path(outbox), car_id
        self._sent_folder = self._outbox.parent / "sent"
        self._clock, self._attempts = clock, attempts
        self._campaign = campaign
        self._random = random.Random()
        self._bytes = 0
        self._url = gateway_url.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self._url}/v1/cars/{car_id}",
            headers={"Authorization": f"Bearer {token.strip()}"},
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            transport=transport,
            trust_env=False,
        )

    def fetch_campaign(self) -> Campaign:
        """Fetch the campaign this car shall drive with.

        Raises:
            UnauthorisedError, GatewayDownError: as named.
        """
        return wire.from_bytes(Campaign, self._ask("GET", "/campaign").content)

    def send_under_campaign(self) -> UplinkReport:
        """Fetch the campaign, then send what its budget allows; as `send_all`, never raises."""
        try:
            self._campaign = self.fetch_campaign()
        except RefusedError as error:
            why = f"{type(error).__name__}: {error}"
            left: list[Left] = []
            left += [Left(clip_id=clip_id, reason=why) for clip_id, _ in self._waiting(left)]
            return UplinkReport(sent=(), sent_bytes=0, left=tuple(left), error=why)
        return self.send_all()

    def send_all(self) -> UplinkReport:
        """Send what the outbox holds and the budget allows; return what went and what stays.

        Never raises for a link or a clip that fails: the clip stays and the report says why.
        """
        self._bytes = 0
        sent: list[str] = []
        left: list[Left] = []
        clips = dict(self._waiting(left))
        plan = self._plan(clips)
        left += [Left(clip_id=c, reason=why) for c, why in plan.hold]
        error = ""
        for clip_id in plan.send:
            if error:
                left.append(Left(clip_id=clip_id, reason=error))
                continue
            try:
                self._send(clips[clip_id])
                sent.append(clip_id)
            except (UnauthorisedError, GatewayDownError) as stop:
                error = f"{type(stop).__name__}: {stop}"
                left.append(Left(clip_id=clip_id, reason=error))
            except (RefusedError, OSError) as why:
                left.append(Left(clip_id=clip_id, reason=f"{type(why).__name__}: {why}"))
        return UplinkReport(sent=tuple(sent), sent_bytes=self._bytes, left=tuple(left), error=error)

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def __enter__(self) -> "Uplink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _waiting(self, left: list[Left]) -> Iterator[tuple[str, ClipManifest]]:
        """Yield the clips of the outbox; what landed before the last run was cut off is tidied."""
        folders = sorted(self._outbox.iterdir()) if self._outbox.is_dir() else []
        for folder in folders:
            if folder.name.startswith(".") or not (folder / MANIFEST).is_file():
                continue
            if self._receipt(folder.name).is_file():
                shutil.rmtree(folder)
                continue
            try:
                manifest = wire.from_bytes(ClipManifest, (folder / MANIFEST).read_bytes())
                _check_belongs(manifest, folder.name, self._car)
            except ContractError as error:
                left.append(Left(clip_id=folder.name, reason=f"{type(error).__name__}: {error}"))
                continue
            yield folder.name, manifest

    def _plan(self, clips: dict[str, ClipManifest]) -> SendPlan:
        receipts = [
            wire.from_bytes(Receipt, path.read_bytes(), strict=False)
            for path in sorted(self._sent_folder.glob("[0-9a-f]*.json"))
        ]
        receipts = [r for r in receipts if self._campaign.campaign_id in r.campaigns]
        spent = Spent(clips=len(receipts), bytes=sum(r.size_bytes for r in receipts))
        waiting = [
            Waiting(
                clip_id=clip_id,
                size_bytes=_size(manifest),
                events=len(manifest.events),
                created_utc_ns=manifest.created_utc_ns,
                begun=(self._outbox / clip_id / ".begun").exists(),
            )
            for clip_id, manifest in clips.items()
        ]
        return plan_sending(waiting, spent, self._campaign.budget)

    def _send(self, manifest: ClipManifest) -> None:
        folder = self._outbox / manifest.clip_id
        place = f"/clips/{manifest.clip_id}"
        if self._ask("HEAD", place, absent_ok=True).status_code == 404:
            with contextlib.suppress(OSError):  # only a hint for the order; the disk may be full
                (folder / ".begun").touch()
            for entry in manifest.files:
                self._send_file(folder / entry.name, entry)
            self._ask("PUT", place, content=wire.to_bytes(manifest))
        receipt = Receipt(
            clip_id=manifest.clip_id,
            size_bytes=_size(manifest),
            campaigns=tuple(sorted({e.campaign_id for e in manifest.events})),
            sent_utc_ns=self._clock.utc_ns(),
        )
        self._confirm(receipt, folder)

    def _send_file(self, path: Path, entry: FileEntry) -> None:
        """Send what home does not have yet of one file; home checks the hash of the whole."""
        _check_whole(path, entry)
        address = f"/uploads/{entry.sha256}"
        answer = self._ask("HEAD", address)
        rewinds = 0
        with path.open("rb") as file:
            while answer.headers.get("Upload-Complete") != "?1":
                offset = _offset(answer, entry)
                file.seek(offset)
                piece = file.read(PIECE_BYTES)
                headers = {"Upload-Offset": str(offset), "Upload-Length": str(entry.size_bytes)}
                answer = self._ask("PATCH", address, content=piece, headers=headers)
                if judge(answer.status_code) is Verdict.DONE:
                    self._bytes += len(piece)
                    continue
                rewinds += 1
                damaged = answer.status_code == 422 and rewinds > 1
                if damaged or rewinds > REWINDS:
                    raise ClipRefusedError(f"{entry.name}: {_reasons(answer)}")
                answer = self._ask("HEAD", address)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        absent_ok: bool = False,
    ) -> httpx.Response:
        """Make one request, again after a wait while home is away.

        Returns:
            The answer when done; for a piece also one that asks to rewind.
        Raises:
            UnauthorisedError, GatewayDownError, ClipRefusedError: as named.
        """
        trouble = ""
        for attempt in range(1, self._attempts + 1):
            try:
                answer = self._http.request(method, path, content=content, headers=headers)
            except httpx.HTTPError as error:
                trouble = f"{type(error).__name__}: {error}"
            else:
                if judge(answer.status_code) is not Verdict.RETRY:
                    return self._accept(answer, method, absent_ok)
                trouble = f"answered {answer.status_code}: {_reasons(answer)}"
            if attempt < self._attempts:
                pause_ns = round(1e9 * wait_s(attempt, self._random.random()))
                self._clock.sleep_until(self._clock.mono_ns() + pause_ns)
        raise GatewayDownError(
            f"{self._url}: {trouble} ({self._attempts} tries); the clips stay, run it again later"
        )

    def _accept(self, answer: httpx.Response, method: str, absent_ok: bool) -> httpx.Response:
        """Return an answer that was hoped for; raise what any other means."""
        verdict = judge(answer.status_code)
        hoped = verdict is Verdict.DONE or (absent_ok and verdict is Verdict.ABSENT)
        if hoped or (method == "PATCH" and answer.status_code in (409, 422)):
            return answer
        reasons = f"{answer.status_code}: {_reasons(answer)}"
        if verdict is Verdict.UNAUTHORISED and _error_name(answer) != "ForeignClipError":
            raise UnauthorisedError(
                f"{self._url} refused the token of car {self._car!r} ({reasons}); enrol the car "
                "again and give it the new token; the clips stay"
            )
        if verdict is Verdict.ABSENT:
            raise GatewayDownError(f"{self._url} is no roadloop gateway ({reasons})")
        raise ClipRefusedError(f"home refused it ({reasons})")

    def _confirm(self, receipt: Receipt, folder: Path) -> None:
        """Swap a landed clip for its receipt; on a full disk the clip makes room for it."""
        data = wire.to_bytes(receipt)
        try:
            wire.atomic_write(self._receipt(receipt.clip_id), data)
        except OSError:
            for path in folder.iterdir():
                if path.name != MANIFEST:
                    path.unlink()
            wire.atomic_write(self._receipt(receipt.clip_id), data)
        shutil.rmtree(folder)

    def _receipt(self, clip_id: str) -> Path:
        return self._sent_folder / f"{clip_id}.json"


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        UnauthorisedError: there is none; says how to get one.
    """
    try:
        return path.read_text().strip()
    except OSError as error:
        raise UnauthorisedError(
            f"no token at {path} ({error.strerror}); "
            f"enrol the car: roadloop fleet enrol CAR --token-file {path}"
        ) from error


def refused(report: UplinkReport) -> bool:
    """Return whether clips stay for another reason than the campaign's budget."""
    return bool(report.error) or any(not c.reason.startswith("budget:") for c in report.left)


def _size(manifest: ClipManifest) -> int:
    return sum(entry.size_bytes for entry in manifest.files)


def _check_belongs(manifest: ClipManifest, name: str, car_id: str) -> None:
    wire.require(manifest.clip_id == name, f"manifest is of clip {manifest.clip_id}")
    wire.require(manifest.car_id == car_id, f"clip is of car {manifest.car_id!r}, not {car_id!r}")


def _check_whole(path: Path, entry: FileEntry) -> None:
    """Raise ClipDamagedError unless the file is the one its manifest names."""
    if not path.is_file() or path.stat().st_size != entry.size_bytes:
        found = path.stat().st_size if path.is_file() else "no"
        raise ClipDamagedError(f"{path}: {found} bytes, its manifest says {entry.size_bytes}")
    if wire.digest_file(path) != entry.sha256:
        raise ClipDamagedError(f"{path}: its content is not what its manifest says")


def _offset(answer: httpx.Response, entry: FileEntry) -> int:
    """Return where home wants the next piece to begin."""
    text = answer.headers.get("Upload-Offset", "")
    offset = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= offset <= entry.size_bytes:
        raise GatewayDownError(f"{entry.name}: home asks for byte {text!r} of {entry.size_bytes}")
    return offset


def _error_name(answer: httpx.Response) -> str:
    return str(_body(answer).get("error", ""))


def _reasons(answer: httpx.Response) -> str:
    reasons = _body(answer).get("reasons")
    if isinstance(reasons, list) and reasons:
        return "; ".join(str(reason) for reason in reasons)[:500]
    return answer.reason_phrase or "no reason given"


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
