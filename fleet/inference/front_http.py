"""The same door over HTTP, as cars and chat clients ask: open protocol, and answers that stream.

What comes in goes out as it came, to a region that policy allows; of a request only the house's own
part is read, for deadline, law and budget.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fleet.inference.client import SiteRefusedError, UnreachableSiteError
from fleet.inference.explain_chat import error_body, event
from fleet.inference.explain_client import context_of
from fleet.inference.front import ABOUT_S, Place
from fleet.inference.front_stream import streamed
from fleet.inference.policy import Policy
from fleet.inference.refusals import (
    MalformedRequestError,
    OversizedRequestError,
    status_of,
    words_of,
)
from fleet.inference.regions import NoRegionError, Region, Regions
from fleet.inference.routed import Router
from fleet.inference.server import quiet_server
from fleet.serving import listen, listen_alone
from vehicle.clock import Clock, SystemClock
from vehicle.contracts import wire
from vehicle.contracts.inference import MAX_TENSOR_BYTES, PARAMETER, InferenceRequest
from vehicle.contracts.wire import RefusedError

JSON_SIZE: Final = "inference-header-content-length"
PASSED_ON: Final = ("content-type", JSON_SIZE, "accept")
MOST_BYTES: Final = MAX_TENSOR_BYTES + (64 << 10)
READY: Final = "/v2/health/ready"
CHAT: Final = "/v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """One request as it goes to every region alike."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def __len__(self) -> int:
        return len(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What a region answered."""

    headers: dict[str, str]
    body: bytes


class HttpRefusedError(SiteRefusedError):
    """A region said no over HTTP; `code` and `body` are its own.

    Args:
        code: of HTTP.
        body: as it came.
    """

    def __init__(self, code: int, body: bytes) -> None:
        self.code, self.body = code, body
        name, reason = _refusal(code, body)
        super().__init__(str(code), name, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFront:
    """A front that is open."""

    regions: Regions[HttpCall, HttpAnswer]
    port: int


@asynccontextmanager
async def serve_http_front(
    places: Sequence[Place],
    *,
    policy: Policy | None = None,
    router: Router | None = None,
    clock: Clock | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    socket: Path | None = None,
) -> AsyncIterator[HttpFront]:
    """Keep a front over HTTP open for the length of a block.

    Args:
        places: the regions' HTTP doors.
        policy: what decides which region a request may go to; None: any.
        router: who ranks the regions; None: they are asked by their times.
        port: 0 takes a free one.
        socket: a path to listen at instead; only this user may connect.
    Raises:
        PortTakenError: the port is taken, or somebody listens at the socket.
    """
    async with AsyncExitStack() as stack:
        clients = {p.site.name: await stack.enter_async_context(_client(p)) for p in places}
        regions = Regions(
            [_region(place, clients[place.site.name]) for place in places],
            clock=clock or SystemClock(),
            policy=policy,
            router=router,
            size_of=lambda answer: len(answer.body),
        )
        door = _Door(regions, clients)
        app = Starlette(routes=[Route("/{path:path}", door.answer, methods=["GET", "POST"])])
        await stack.enter_async_context(regions.watched())
        with closing(listen_alone(socket) if socket else listen(host, port)) as listener:
            server = quiet_server(app, None)
            serving = asyncio.create_task(server.serve([listener]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.001)
            try:
                yield HttpFront(regions=regions, port=0 if socket else listener.getsockname()[1])
            finally:
                server.should_exit = True
                await serving
                if socket:
                    socket.unlink(missing_ok=True)


class _Door:
    """The app."""

    def __init__(
        self, regions: Regions[HttpCall, HttpAnswer], clients: dict[str, httpx.AsyncClient]
    ) -> None:
        self._regions, self._clients = regions, clients

    async def answer(self, request: Request) -> Response:
        """Answer one request; a refusal has the status that it would have at a region."""
        try:
            call = await _read(request)
            if call.method != "POST":
                found = await self._about(call)
                return Response(found.body, headers=found.headers)
            asked, streams = _inside(call)
            if streams:
                return await self._stream(call, asked)
            found = await self._regions.ask(call, asked)
            return Response(found.body, headers=found.headers)
        except HttpRefusedError as error:
            return Response(error.body, error.code, media_type="application/json")
        except RefusedError as error:
            words, status = words_of(error), status_of(error)[1]
            chats = request.url.path == CHAT
            body = error_body(words, status) if chats else {"error": words}
            return JSONResponse(body, status)

    async def _about(self, call: HttpCall) -> HttpAnswer:
        """Return what a region that is up says of itself: a question without data, so without law.

        Raises:
            NoRegionError: none is up.
        """
        for region in self._regions.regions:
            if region.up:
                with contextlib.suppress(UnreachableSiteError):
                    return await _sent(self._clients[region.site.name], call, ABOUT_S)
        raise NoRegionError("no region is up")

    async def _stream(self, call: HttpCall, asked: InferenceRequest | None) -> Response:
        """Answer as events; what is refused before the first has a status, later an event."""
        said = streamed(
            self._regions, lambda r, left: self._events(r, call, left), asked, len(call)
        )
        first = await anext(said)

        async def rest() -> AsyncGenerator[bytes, None]:
            yield first
            try:
                async with aclosing(said):
                    async for data in said:
                        yield data
            except RefusedError as error:
                yield event(error_body(words_of(error), status_of(error)[1]))

        return StreamingResponse(rest(), media_type="text/event-stream")

    async def _events(
        self, region: Region[Any, Any], call: HttpCall, left_s: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the events of one region's answer.

        Raises:
            SiteRefusedError, UnreachableSiteError: as named.
        """
        client = self._clients[region.site.name]
        try:
            async with client.stream(
                call.method, call.path, content=call.body, headers=call.headers, timeout=left_s
            ) as answer:
                if answer.status_code != 200:
                    raise HttpRefusedError(answer.status_code, await answer.aread())
                async for line in answer.aiter_lines():
                    if not line.startswith("data: ") or line == "data: [DONE]":
                        continue
                    plain = json.loads(line[6:])
                    if "error" in plain:
                        raise HttpRefusedError(502, line[6:].encode())
                    yield plain
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise _unreachable(error) from error


def _client(place: Place) -> httpx.AsyncClient:
    verify = True if place.tls is None else context_of(place.tls)
    scheme = "http" if place.tls is None else "https"
    return httpx.AsyncClient(
        base_url=f"{scheme}://{place.address}", verify=verify, trust_env=False, timeout=None
    )


def _region(place: Place, client: httpx.AsyncClient) -> Region[HttpCall, HttpAnswer]:
    async def send(call: HttpCall, left_s: float) -> HttpAnswer:
        return await _sent(client, call, left_s)

    async def probe() -> bool:
        try:
            # a site of explanations has no such address, and says so: it is up
            return (await client.get(READY)).status_code < 500
        except httpx.HTTPError as error:
            raise _unreachable(error) from error

    return Region(site=place.site, send=send, probe=probe)


async def _sent(client: httpx.AsyncClient, call: HttpCall, left_s: float) -> HttpAnswer:
    """Return a region's answer to a call.

    Raises:
        HttpRefusedError, UnreachableSiteError: as named.
    """
    try:
        found = await client.request(
            call.method, call.path, content=call.body, headers=call.headers, timeout=left_s
        )
    except httpx.HTTPError as error:
        raise _unreachable(error) from error
    if found.status_code != 200:
        raise HttpRefusedError(found.status_code, found.content)
    headers = {k: found.headers[k] for k in ("content-type", JSON_SIZE) if k in found.headers}
    return HttpAnswer(headers=headers, body=found.content)


async def _read(request: Request) -> HttpCall:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise OversizedRequestError(f"over {MOST_BYTES} bytes; none was passed on")
    return HttpCall(
        method=request.method,
        path=request.url.path,
        headers={k: request.headers[k] for k in PASSED_ON if k in request.headers},
        body=bytes(body),
    )


def _inside(call: HttpCall) -> tuple[InferenceRequest | None, bool]:
    """Return the house's request inside a call, and whether its answer streams.

    Raises:
        MalformedRequestError, ContractError: it is none, or not in range.
    """
    try:
        size = int(call.headers.get(JSON_SIZE, len(call.body)))
        plain = json.loads(call.body[:size])
        chats = call.path == CHAT
        inside = (plain if chats else plain.get("parameters", {})).get(PARAMETER)
    except (ValueError, AttributeError, RecursionError) as error:
        raise MalformedRequestError(f"the body is no request: {error}") from error
    streams = chats and plain.get("stream") is True
    if inside is None:
        return None, streams
    if isinstance(inside, str):
        return wire.from_bytes(InferenceRequest, inside.encode(), strict=False), streams
    return wire.from_plain(InferenceRequest, inside, strict=False), streams


def _refusal(code: int, body: bytes) -> tuple[str, str]:
    """Return name and reason of a region's refusal, in either protocol's words."""
    try:
        error = json.loads(body)["error"]
        words = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return "", f"HTTP {code}"
    name, _, reason = words.partition(": ")
    return (name, reason) if name.endswith("Error") else ("", words)


def _unreachable(error: Exception) -> UnreachableSiteError:
    return UnreachableSiteError("UNAVAILABLE", "", f"{type(error).__name__}: {error}")
