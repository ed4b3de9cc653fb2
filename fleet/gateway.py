"""The door at home: takes clips in part by part, hands campaigns and signed releases out.

HTTPS, a certificate per car. `vehicle/contracts/uplink.py` says what is asked and answered; this
file checks who asks, how much, and gives each refusal its status.
"""

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from fleet.campaign import CampaignCorruptError, Campaigns
from fleet.grants import GrantError
from fleet.inbox import MOST_SUMMARIES, Summaries, Wanted
from fleet.landing import (
    DigestMismatchError,
    ForeignClipError,
    IncompleteClipError,
    PartsMissingError,
    UploadTooLargeError,
    check_sha256,
)
from fleet.registry import Registry, RegistryCorruptError, RegistryOldError, check_car_id
from fleet.store import LocalStore, Store, StoreDownError
from fleet.tls import UnauthorisedError, peer
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import (
    MAX_SUMMARY_BYTES,
    PART_DIGEST_HEADER,
    Inbox,
    SummaryAnswer,
    Upload,
    UploadAsk,
    UploadParts,
)
from vehicle.contracts.wire import ContractError, RefusedError


class ForeignCarError(RefusedError):
    """A car reaches for another car's things."""


class HeaderError(RefusedError):
    """A header that the request needs is missing or not a number."""


class SlowBodyError(RefusedError):
    """The body of a request came too slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the door takes, bytes but for the last two.

    Args:
        content: of one file.
        pending: of one car's contents that no manifest has claimed.
        manifest: of one manifest, or of one request for an upload.
        summary: of one summary.
        summaries: of one car, of clips it did not send; count.
        body_s: longest a body may take to come in, s.
    """

    content: int = 1 << 30
    pending: int = 4 << 30
    manifest: int = 1 << 20
    summary: int = MAX_SUMMARY_BYTES
    summaries: int = MOST_SUMMARIES
    body_s: float = 120.0


STATUS: Final[dict[type[RefusedError], int]] = {
    UnauthorisedError: 401,
    ForeignCarError: 403,
    ForeignClipError: 403,
    GrantError: 403,
    SlowBodyError: 408,
    PartsMissingError: 409,
    UploadTooLargeError: 413,
    DigestMismatchError: 422,
    IncompleteClipError: 422,
    ContractError: 422,
    CampaignCorruptError: 500,
    RegistryCorruptError: 500,
    RegistryOldError: 500,
    StoreDownError: 503,
}
"""Status of each refusal; 400 for the rest. 500: home must be mended; cars keep what they have and
try again."""

STRIPES: Final = 64


class Door:
    """The handlers; each checks who asks before it reads what is sent."""

    def __init__(self, home: Home, limits: Limits, store: Store) -> None:
        self._home, self._limits, self._store = home, limits, store
        self._registry, self._campaigns = Registry(home), Campaigns(home)
        self._summaries, self._wanted = Summaries(home, limits.summaries), Wanted(home)
        self._locks = [asyncio.Lock() for _ in range(STRIPES)]

    def routes(self) -> list[Route | Mount]:
        """Return what the door answers to."""
        repository = self._home.fleet / "repository"
        car = "/v1/cars/{car}"
        return [
            Route("/healthz", self.healthz),
            Route(f"{car}/inbox", self.inbox),
            Route(f"{car}/summaries/{{clip_id}}", self.tell, methods=["PUT"]),
            Route(f"{car}/uploads/{{sha256}}", self.grant, methods=["POST"]),
            Route(f"{car}/uploads/{{sha256}}/complete", self.complete, methods=["POST"]),
            Route(f"{car}/parts/{{grant}}", self.put, methods=["PUT"]),
            Route(f"{car}/clips/{{clip_id}}", self.landed, methods=["HEAD"]),
            Route(f"{car}/clips/{{clip_id}}", self.commit, methods=["PUT"]),
            *(
                Mount(f"/tuf/{part}", SignedFiles(self._registry, repository / part))
                for part in ("metadata", "targets")
            ),
        ]

    async def healthz(self, request: Request) -> Response:
        """Say that the door is open, to whoever has any certificate of this home."""
        return JSONResponse({"ok": True, "cars": len(self._registry.cars())})

    async def inbox(self, request: Request) -> Response:
        """Hand out the car's campaigns, and what home wants of it."""
        car = self._who(request)
        kept = self._campaigns.for_car(car, int(datetime.now(UTC).timestamp() * 1e9))
        inbox = Inbox(
            campaigns=tuple(k.envelope for k in kept),
            wanted=self._wanted.of(car),
            part_bytes=self._store.part_bytes,
        )
        return _contract(inbox)

    async def tell(self, request: Request) -> Response:
        """Take a summary; say whether home asks for the clip."""
        car, clip_id = self._who(request), check_sha256(request.path_params["clip_id"])
        data = await self._body(request, self._limits.summary)
        async with self._lock(clip_id):
            await run_in_threadpool(self._summaries.put, car, clip_id, data, self._has)
        return _contract(SummaryAnswer(want=clip_id in self._wanted.of(car)))

    async def grant(self, request: Request) -> Response:
        """Say which parts of a content are here, and where the others are to be put."""
        car, sha256 = self._who(request), check_sha256(request.path_params["sha256"])
        ask = wire.from_bytes(UploadAsk, await self._body(request, self._limits.manifest))
        if ask.size_bytes > self._limits.content:
            raise UploadTooLargeError(
                f"{ask.size_bytes} bytes, at most {self._limits.content} are taken"
            )
        async with self._lock(sha256):
            return _contract(await run_in_threadpool(self._grant, car, sha256, ask))

    async def put(self, request: Request) -> Response:
        """Take one part, where contents lie on this machine."""
        car = self._who(request)
        if not isinstance(self._store, LocalStore):
            raise GrantError("parts go to the store by the addresses it was asked for")
        grant = self._store.open(car, request.path_params["grant"])
        data = await self._body(request, grant.length)
        checksum = request.headers.get(PART_DIGEST_HEADER, "")
        async with self._lock(grant.sha256):
            await run_in_threadpool(self._store.put, grant, data, checksum)
        return Response(headers={"ETag": f'"{grant.part_sha256}"'})

    async def complete(self, request: Request) -> Response:
        """Put the parts of a content together, and check the whole."""
        car, sha256 = self._who(request), check_sha256(request.path_params["sha256"])
        parts = wire.from_bytes(UploadParts, await self._body(request, self._limits.manifest))
        async with self._lock(sha256):
            await run_in_threadpool(self._store.complete, car, sha256, parts)
        return JSONResponse({"complete": True})

    async def landed(self, request: Request) -> Response:
        """Say whether one of the car's clips has landed."""
        car, clip_id = self._who(request), check_sha256(request.path_params["clip_id"])
        manifest = await run_in_threadpool(self._store.manifest, clip_id)
        own = manifest is not None and manifest.car_id == car
        return Response(status_code=200 if own else 404)

    async def commit(self, request: Request) -> Response:
        """Take a manifest: from here on the clip exists."""
        car, clip_id = self._who(request), check_sha256(request.path_params["clip_id"])
        raw = await self._body(request, self._limits.manifest)
        manifest = wire.from_bytes(ClipManifest, raw)
        if manifest.clip_id != clip_id:
            raise ContractError(f"manifest is of clip {manifest.clip_id}, sent as {clip_id}")
        async with self._lock(clip_id):
            new = await run_in_threadpool(self._store.commit, car, manifest)
        self._wanted.done(car, clip_id)
        return JSONResponse({"clip_id": clip_id, "new": new}, status_code=201 if new else 200)

    def _grant(self, car: str, sha256: str, ask: UploadAsk) -> Upload:
        pending = self._store.pending(car)
        others = sum(size for name, size in pending.items() if name != sha256)
        if others + ask.size_bytes > self._limits.pending:
            raise UploadTooLargeError(
                f"car {car!r} has {others} bytes here that no manifest claims, at most "
                f"{self._limits.pending} are kept; send their manifests first"
            )
        return self._store.grant(car, sha256, ask)

    def _has(self, clip_id: str) -> bool:
        return self._store.manifest(clip_id) is not None

    def _lock(self, sha256: str) -> asyncio.Lock:
        return self._locks[int(sha256[:8], 16) % STRIPES]

    def _who(self, request: Request) -> str:
        """Return the car of the address when the certificate is that car's."""
        car = check_car_id(request.path_params["car"])
        shown = enrolled(self._registry, request.scope)
        if shown != car:
            raise ForeignCarError(f"car {shown!r} asks for {car!r}; a car reaches only its own")
        return car

    async def _body(self, request: Request, limit: int) -> bytes:
        """Return the whole body; nothing of a body cut short, too long or too slow is used."""
        if _number(request, "content-length") > limit:
            raise UploadTooLargeError(f"the body is larger than the {limit} bytes taken at once")
        data = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_s):
                async for chunk in request.stream():
                    data += chunk
                    if len(data) > limit:
                        raise UploadTooLargeError(
                            f"the body is larger than the {limit} bytes taken at once"
                        )
        except TimeoutError:
            raise SlowBodyError(
                f"{len(data)} bytes in {self._limits.body_s:g} s; send it again"
            ) from None
        return bytes(data)


def enrolled(registry: Registry, scope: Scope) -> str:
    """Return the car whose certificate a request came with.

    Raises:
        UnauthorisedError: there is none, or the car was revoked or has a newer one.
    """
    car, sha256 = peer(scope)
    reason = registry.why_not(car, sha256)
    if reason:
        raise UnauthorisedError(f"{reason}; enrol it: roadloop fleet enrol {car} --renew")
    return car


class SignedFiles(StaticFiles):
    """The repository's files as they are, for enrolled cars; before the first release there are
    none."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        super().__init__(directory=folder, check_dir=False)
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check who asks, then serve the file."""
        enrolled(self._registry, scope)
        await super().__call__(scope, receive, send)

    async def check_config(self) -> None:
        """Take a folder that is not there yet for an empty one: its files are 404."""


def make_app(home: Home, limits: Limits | None = None, store: Store | None = None) -> Starlette:
    """Return the door of `home` as an ASGI application; clips land in the home without a store."""
    return Starlette(
        routes=Door(home, limits or Limits(), store or LocalStore(home)).routes(),
        exception_handlers={
            RefusedError: _refused,
            OSError: _disk,
            ClientDisconnect: _gone,
        },
    )


def _contract(answer: object) -> Response:
    return Response(wire.to_bytes(answer), media_type="application/json")


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise HeaderError(f"header {name} is {text[:40]!r}, expected a number of bytes")
    return int(text)


async def _refused(request: Request, error: Exception) -> Response:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 400)
    reasons = error.reasons if isinstance(error, IncompleteClipError) else [str(error)]
    body = {"error": type(error).__name__, "reasons": reasons}
    return JSONResponse(body, status_code=status)


async def _disk(request: Request, error: Exception) -> Response:
    """Say that home cannot write: the car keeps the clip and tries again."""
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return JSONResponse({"error": "StorageError", "reasons": [reason]}, status_code=507)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)
