"""The car's side of the door at home: one method per request, each with its patience and its words.

Everything of home's goes over one connection that shows the car's certificate. A part may be put
elsewhere: to an S3-compatible store, which is never shown who the car is.
"""

import json
import random
import ssl
from typing import Any, Final, TypeVar

import httpx

from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest
from vehicle.contracts.uplink import (
    PART_DIGEST_HEADER,
    Inbox,
    SummaryAnswer,
    Upload,
    UploadAsk,
    UploadParts,
    address,
    checksum_of,
)
from vehicle.contracts.wire import ContractError, RefusedError
from vehicle.identity import Identity
from vehicle.uplink_answers import ATTEMPTS, Verdict, judge, judge_part, wait_s

T = TypeVar("T")

CONNECT_S: Final = 5.0
ANSWER_S: Final = 30.0
CHECK_S: Final = 300.0
"""Home reads the whole of a large content before it answers that all of it is right."""


class UnauthorisedError(RefusedError):
    """Home does not accept this car's certificate."""


class UnknownHomeError(RefusedError):
    """Whoever answers is not the home that this car was enrolled at."""


class GatewayDownError(RefusedError):
    """Home does not answer, or cannot take anything now."""


class ClipRefusedError(RefusedError):
    """Home will not take this clip; the reasons are its own."""


class GatewayLink:
    """Requests of one car to its gateway.

    Args:
        url: https://HOST:PORT.
        identity: shown to the gateway alone.
        clock: for waits; a jump of its UTC does nothing to them.
        transport: another way there and to stores, in tests.
        attempts: times one request is tried.
    Raises:
        ContractError: the address is not https.
    """

    def __init__(
        self,
        url: str,
        identity: Identity,
        clock: Clock,
        *,
        transport: httpx.BaseTransport | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.url = url.rstrip("/")
        wire.require(
            self.url.startswith("https://"),
            f"gateway is {url!r}, expected https://HOST:PORT: home and car prove who they are",
        )
        self._identity, self._clock, self._attempts = identity, clock, attempts
        self._transport, self._random = transport, random.Random()
        self._own = address(identity.car_id)
        self._home = self._client(identity.context)
        self._elsewhere: httpx.Client | None = None

    def inbox(self) -> Inbox:
        """Return what home has for this car."""
        return self._read(Inbox, self._ask("GET", "/inbox"))

    def tell(self, clip_id: str, summary: bytes) -> bool:
        """Send a summary; return whether home wants the clip now."""
        answer = self._ask("PUT", f"/summaries/{clip_id}", summary)
        return self._read(SummaryAnswer, answer).want

    def has(self, clip_id: str) -> bool:
        """Return whether a clip has landed."""
        answer = self._ask("HEAD", f"/clips/{clip_id}", also=(Verdict.ABSENT,))
        return judge(answer.status_code) is Verdict.DONE

    def ask(self, sha256: str, ask: UploadAsk) -> Upload:
        """Return which parts of a content home has, and where the others go."""
        answer = self._ask("POST", f"/uploads/{sha256}", wire.to_bytes(ask))
        return self._read(Upload, answer)

    def put(self, url: str, data: bytes, sha256: str) -> str:
        """Put one part; return "", or why another address must be asked for.

        Raises:
            GatewayDownError: nobody there, after all tries.
            ClipRefusedError: the store says no in a way that asking again does not mend.
        """
        there = httpx.URL(self.url).join(url)
        client = self._home if _origin(there) == _origin(httpx.URL(self.url)) else self._store()
        headers = {PART_DIGEST_HEADER: checksum_of(sha256)}
        answer = self._patiently(client, "PUT", str(there), data, headers)
        verdict = judge_part(answer.status_code)
        if verdict is Verdict.REFUSED:
            raise ClipRefusedError(f"{there.host} refused a part ({_told(answer)})")
        return "" if verdict is Verdict.DONE else _told(answer)

    def complete(self, sha256: str, parts: UploadParts) -> Verdict:
        """Say that all parts are there; return DONE, AGAIN (some are not) or REFUSED (the whole is
        another content, and was discarded)."""
        answer = self._ask(
            "POST",
            f"/uploads/{sha256}/complete",
            wire.to_bytes(parts),
            also=(Verdict.AGAIN, Verdict.REFUSED),
            answer_s=CHECK_S,
        )
        return judge(answer.status_code)

    def commit(self, manifest: ClipManifest) -> None:
        """Make the clip exist at home."""
        self._ask("PUT", f"/clips/{manifest.clip_id}", wire.to_bytes(manifest))

    def close(self) -> None:
        """Let go of the connections."""
        for client in (self._home, self._elsewhere):
            if client is not None:
                client.close()

    def _client(self, context: ssl.SSLContext) -> httpx.Client:
        return httpx.Client(
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            transport=self._transport,
            verify=context,
            trust_env=False,
        )

    def _store(self) -> httpx.Client:
        if self._elsewhere is None:
            self._elsewhere = self._client(ssl.create_default_context())
        return self._elsewhere

    def _ask(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        also: tuple[Verdict, ...] = (),
        answer_s: float = ANSWER_S,
    ) -> httpx.Response:
        """Make one request of home's; return the answer when it is done, or of a kind in `also`.

        Raises:
            UnauthorisedError, UnknownHomeError, GatewayDownError, ClipRefusedError: as named.
        """
        address = f"{self.url}{self._own}{path}"
        answer = self._patiently(self._home, method, address, content, {}, answer_s)
        verdict = judge(answer.status_code)
        if verdict is Verdict.DONE or verdict in also:
            return answer
        told = _told(answer)
        if verdict is Verdict.UNAUTHORISED and _body(answer).get("error") != "ForeignClipError":
            raise UnauthorisedError(
                f"{self.url} refused the certificate of car {self._identity.car_id!r} ({told}); "
                f"enrol the car again (--renew) into {self._identity.folder}; the clips stay"
            )
        if verdict is Verdict.ABSENT:
            raise GatewayDownError(f"{self.url} is no roadloop gateway ({told})")
        raise ClipRefusedError(f"home refused it ({told})")

    def _patiently(
        self,
        client: httpx.Client,
        method: str,
        address: str,
        content: bytes | None,
        headers: dict[str, str],
        answer_s: float = ANSWER_S,
    ) -> httpx.Response:
        """Make one request, again after a wait while the other side is away."""
        judged = judge if client is self._home and PART_DIGEST_HEADER not in headers else judge_part
        timeout = httpx.Timeout(answer_s, connect=CONNECT_S)
        trouble = ""
        for attempt in range(1, self._attempts + 1):
            try:
                answer = client.request(
                    method, address, content=content, headers=headers, timeout=timeout
                )
            except httpx.HTTPError as error:
                self._name(error, client)
                trouble = f"{type(error).__name__}: {error}{_hint(error)}"
            else:
                if judged(answer.status_code) is not Verdict.RETRY:
                    return answer
                trouble = f"answered {_told(answer)}"
            if attempt < self._attempts:
                pause_ns = round(1e9 * wait_s(attempt, self._random.random()))
                self._clock.sleep_until(self._clock.mono_ns() + pause_ns)
        place = httpx.URL(address)
        raise GatewayDownError(
            f"{place.scheme}://{place.netloc.decode()}: {trouble} ({self._attempts} tries); the "
            "clips stay, run it again later"
        )

    def _name(self, error: httpx.HTTPError, client: httpx.Client) -> None:
        """Raise what asking again does not mend: one of the two sides is not who it must be."""
        words = str(error)
        if client is not self._home:
            return
        if "CERTIFICATE_VERIFY_FAILED" in words:
            raise UnknownHomeError(
                f"{self.url} is not the home of car {self._identity.car_id!r} ({words}); check "
                "the address; if home has a new authority, enrol the car again"
            ) from error
        if "alert" in words.lower():
            raise UnauthorisedError(
                f"{self.url} refused the certificate of car {self._identity.car_id!r} ({words}); "
                f"enrol the car again (--renew) into {self._identity.folder}; the clips stay"
            ) from error

    def _read(self, kind: type[T], answer: httpx.Response) -> T:
        """Return an answer as the contract it must be; fields it gained since are passed over."""
        try:
            return wire.from_bytes(kind, answer.content, strict=False)
        except ContractError as error:
            raise GatewayDownError(f"{self.url} is no roadloop gateway ({error})") from error


def _hint(error: httpx.HTTPError) -> str:
    """Return what else an error may mean: servers hang up on certificates without a word."""
    hung_up = isinstance(error, httpx.RemoteProtocolError)
    return " Or home does not know who signed this car's certificate." if hung_up else ""


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _told(answer: httpx.Response) -> str:
    """Return what a refusal says of itself."""
    reasons = _body(answer).get("reasons")
    if isinstance(reasons, list) and reasons:
        words = "; ".join(str(reason) for reason in reasons)[:500]
    else:
        words = answer.reason_phrase or "no reason given"
    return f"{answer.status_code}: {words}"


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = json.loads(answer.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
