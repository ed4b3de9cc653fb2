"""The door at home: takes clips in piece by piece, hands campaigns and signed releases out.

HTTP, a bearer token per car. A piece is named by the sha256 of the whole content and carries its
offset, so that a car goes on where it was cut off; the manifest comes last and makes the clip
exist. Offsets and names of headers follow the IETF draft "Resumable Uploads for HTTP".
"""

import asyncio
import fcntl
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from fleet.campaign import Campaigns
from fleet.landing import (
    DigestMismatchError,
    ForeignClipError,
    IncompleteClipError,
    Landing,
    UploadOffsetError,
    Uploads,
    UploadTooLargeError,
    check_sha256,
)
from fleet.registry import Registry, check_car_id
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest
from vehicle.contracts.home import Home
from vehicle.contracts.wire import ContractError, RefusedError


class UnauthorisedError(RefusedError):
    """No token, or one that no car holds."""


class ForeignCarError(RefusedError):
    """A car reaches for another car's things."""


class HeaderError(RefusedError):
    """A header that the request needs is missing or not a number."""


class GatewayRunningError(RefusedError):
    """Two gateways would write to one landing zone."""


class PortTakenError(RefusedError):
    """The address cannot be listened on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the door takes, bytes.

    Args:
        piece: of one request; held in memory.
        content: of one file.
        pending: of one car's contents that no manifest has claimed.
        manifest: of one manifest.
    """

    piece: int = 4 << 20
    content: int = 1 << 30
    pending: int = 4 << 30
    manifest: int = 1 << 20


STATUS: Final[dict[type[RefusedError], int]] = {
    UnauthorisedError: 401,
    ForeignCarError: 403,
    ForeignClipError: 403,
    UploadOffsetError: 409,
    UploadTooLargeError: 413,
    DigestMismatchError: 422,
    IncompleteClipError: 422,
    ContractError: 422,
}
"""Status of each refusal; 400 for the rest."""

STRIPES: Final = 64


class Door:
    """The handlers; each checks who asks before it reads what is sent."""

    def __init__(self, home: Home, limits: Limits) -> None:
        self._home = home
        self._limits = limits
        self._registry = Registry(home)
        self._campaigns = Campaigns(home)
        self._landing = Landing(home)
        self._locks = [asyncio.Lock() for _ in range(STRIPES)]

    def routes(self) -> list[Route | Mount]:
        """Return what the door answers to."""
        repository = self._home.fleet / "repository"
        return [
            Route("/healthz", self.healthz),
            Route("/v1/cars/{car}/campaign", self.campaign),
            Route("/v1/cars/{car}/uploads/{sha256}", self.offset, methods=["HEAD"]),
            Route("/v1/cars/{car}/uploads/{sha256}", self.append, methods=["PATCH"]),
            Route("/v1/cars/{car}/clips/{clip_id}", self.landed, methods=["HEAD"]),
            Route("/v1/cars/{car}/clips/{clip_id}", self.commit, methods=["PUT"]),
            *(
                Mount(f"/tuf/{part}", SignedFiles(directory=repository / part, check_dir=False))
                for part in ("metadata", "targets")
            ),
        ]

    async def healthz(self, request: Request) -> Response:
        """Say that the door is open."""
        return JSONResponse({"ok": True, "cars": len(self._registry.cars())})

    async def campaign(self, request: Request) -> Response:
        """Hand out the campaign the car shall drive with."""
        campaign = self._campaigns.for_car(self._who(request))
        return Response(wire.to_bytes(campaign), media_type="application/json")

    async def offset(self, request: Request) -> Response:
        """Say how many bytes of a content are here, and whether that is all of it."""
        car, sha256 = self._who(request), check_sha256(request.path_params["sha256"])
        uploads = Uploads(self._home, car)
        return _progress(200, uploads.offset(sha256), uploads.whole(sha256) is not None)

    async def append(self, request: Request) -> Response:
        """Add one piece."""
        car, sha256 = self._who(request), check_sha256(request.path_params["sha256"])
        offset, length = _number(request, "upload-offset"), _number(request, "upload-length")
        uploads = Uploads(self._home, car)
        if length > self._limits.content:
            raise UploadTooLargeError(f"{length} bytes, at most {self._limits.content} are taken")
        if offset == 0 and uploads.pending_bytes() + length > self._limits.pending:
            raise UploadTooLargeError(
                f"car {car!r} has {uploads.pending_bytes()} bytes here that no manifest claims, at "
                f"most {self._limits.pending} are kept; send their manifests first"
            )
        data = await _body(request, self._limits.piece)
        async with self._locks[int(sha256[:8], 16) % STRIPES]:
            here = await run_in_threadpool(uploads.append, sha256, offset, length, data)
        return _progress(204, here, here == length)

    async def landed(self, request: Request) -> Response:
        """Say whether one of the car's clips has landed."""
        car, clip_id = self._who(request), check_sha256(request.path_params["clip_id"])
        own = self._landing.has(clip_id) and self._landing.manifest(clip_id).car_id == car
        return Response(status_code=200 if own else 404)

    async def commit(self, request: Request) -> Response:
        """Take a manifest: from here on the clip exists."""
        car, clip_id = self._who(request), check_sha256(request.path_params["clip_id"])
        manifest = wire.from_bytes(ClipManifest, await _body(request, self._limits.manifest))
        if manifest.clip_id != clip_id:
            raise ContractError(f"manifest is of clip {manifest.clip_id}, sent as {clip_id}")
        async with self._locks[int(clip_id[:8], 16) % STRIPES]:
            new = await run_in_threadpool(self._landing.commit, car, manifest)
        return JSONResponse({"clip_id": clip_id, "new": new}, status_code=201 if new else 200)

    def _who(self, request: Request) -> str:
        """Return the car of the address when the token is that car's."""
        car = check_car_id(request.path_params["car"])
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._registry.verify(car, token):
            return car
        if scheme.lower() == "bearer" and self._registry.car_of(token):
            raise ForeignCarError(f"the token is not car {car!r}'s; a car reaches only its own")
        raise UnauthorisedError(
            f"car {car!r} sent {'an unknown' if token else 'no'} token; enrol it: "
            f"roadloop fleet enrol {car}"
        )


class SignedFiles(StaticFiles):
    """The repository's files as they are; before the first release there are none."""

    async def check_config(self) -> None:
        """Take a folder that is not there yet for an empty one: its files are 404."""


def make_app(home: Home, limits: Limits | None = None) -> Starlette:
    """Return the door of `home` as an ASGI application."""
    return Starlette(
        routes=Door(home, limits or Limits()).routes(),
        exception_handlers={
            RefusedError: _refused,
            OSError: _disk,
            ClientDisconnect: _gone,
        },
    )


def serve(home: Home, host: str, port: int, url_file: Path | None = None) -> None:
    """Serve until ctrl-C or SIGTERM; print the address once it takes connections.

    Args:
        home: the run's folder.
        host, port: where to listen; port 0 takes a free one.
        url_file: the address is written here, whole, once the door is open.
    Raises:
        GatewayRunningError: another gateway serves this home.
        PortTakenError: the address cannot be listened on.
    """
    with _alone(home):
        Landing(home).sweep()
        listener = _listen(host, port)
        url = f"http://{host}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            make_app(home), log_level="warning", timeout_graceful_shutdown=3, lifespan="off"
        )
        print(f"gateway at {url} (ctrl-C stops it)", flush=True)
        if url_file is not None:
            wire.atomic_write(url_file, f"{url}\n".encode())
        try:
            with _calm_signals():
                uvicorn.Server(config).run(sockets=[listener])
        finally:
            listener.close()
            if url_file is not None:
                url_file.unlink(missing_ok=True)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTakenError(f"{host}:{port}: {error.strerror}; try --port 0") from error
    listener.listen(128)
    return listener


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Hold the home's lock; it falls by itself when the process dies."""
    home.fleet.mkdir(parents=True, exist_ok=True)
    with (home.fleet / ".gateway.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise GatewayRunningError(
                f"a gateway serves {home.root} already; stop it or use another ROADLOOP_HOME"
            ) from error
        yield


@contextmanager
def _calm_signals() -> Iterator[None]:
    """Let uvicorn's shutdown be the end: it raises the signal once more when it is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {s: signal.signal(s, lambda *_: None) for s in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(status: int, offset: int, complete: bool) -> Response:
    headers = {"Upload-Offset": str(offset), "Upload-Complete": "?1" if complete else "?0"}
    return Response(status_code=status, headers=headers)


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise HeaderError(f"header {name} is {text[:40]!r}, expected a number of bytes")
    return int(text)


async def _body(request: Request, limit: int) -> bytes:
    """Return the whole body; nothing of a body cut short or too long is used."""
    if _number(request, "content-length") > limit:
        raise UploadTooLargeError(f"the body is larger than the {limit} bytes taken at once")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise UploadTooLargeError(f"the body is larger than the {limit} bytes taken at once")
    return bytes(data)


async def _refused(request: Request, error: Exception) -> Response:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 400)
    reasons = error.reasons if isinstance(error, IncompleteClipError) else [str(error)]
    body = {"error": type(error).__name__, "reasons": reasons}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if isinstance(error, UploadOffsetError):
        headers["Upload-Offset"] = str(error.offset)
    return JSONResponse(body, status_code=status, headers=headers)


async def _disk(request: Request, error: Exception) -> Response:
    """Say that home cannot write: the car keeps the clip and tries again."""
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return JSONResponse({"error": "StorageError", "reasons": [reason]}, status_code=507)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)
