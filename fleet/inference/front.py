"""The door in front of several regions: the Open Inference Protocol over gRPC, passed on as bytes.

It stands at the side of whoever asks and shows its caller's certificate, so that a region sees the
car it knows. Of a request it reads the envelope only; tensors go through as they came.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from fleet.inference.client import ClientTls, SiteError, UnreachableSiteError, error_of
from fleet.inference.oip_messages import CLASSES, SERVICE, InferRequest
from fleet.inference.policy import Policy, Site
from fleet.inference.refusals import MalformedRequestError, status_of, words_of
from fleet.inference.regions import NoRegionError, Region, Regions
from fleet.inference.routed import Router
from vehicle.clock import Clock, SystemClock
from vehicle.contracts import wire
from vehicle.contracts.inference import MAX_TENSOR_BYTES, PARAMETER, InferenceRequest
from vehicle.contracts.wire import RefusedError, require

ABOUT: Final = ("ServerLive", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig")
"""Asked of whichever region is up: they serve the same models."""

ABOUT_S: Final = 5.0

_OPTIONS: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]

Handler = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a region's gRPC door is.

    Args:
        site: as policy sees it.
        address: HOST:PORT.
        tls: what is shown to it; None for one on this machine without certificates.
    """

    site: Site
    address: str
    tls: ClientTls | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A front that is open."""

    regions: Regions[bytes, bytes]
    port: int


@asynccontextmanager
async def serve_front(
    places: Sequence[Place],
    *,
    policy: Policy | None = None,
    router: Router | None = None,
    clock: Clock | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Front]:
    """Keep a front open for the length of a block.

    Args:
        places: the regions, best first while nothing is known of their times.
        policy: what decides which region a request may go to; None: any.
        router: who ranks the regions; None: they are asked by their times.
        port: 0 takes a free one.
    """
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(_channel(place)) for place in places]
        regions = Regions(
            [_region(p, c) for p, c in zip(places, channels, strict=True)],
            clock=clock or SystemClock(),
            policy=policy,
            router=router,
            size_of=len,
        )
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", 2 * MAX_TENSOR_BYTES),
            ]
        )
        methods = {name: _about(name, regions, channels) for name in ABOUT}
        methods |= {"ModelInfer": _infer(regions), "ServerReady": _ready(regions)}
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {n: grpc.unary_unary_rpc_method_handler(h) for n, h in methods.items()},
                )
            ]
        )
        bound = server.add_insecure_port(f"{host}:{port}")
        await stack.enter_async_context(regions.watched())
        await server.start()
        try:
            yield Front(regions=regions, port=bound)
        finally:
            await server.stop(0.5)


def _channel(place: Place) -> grpc.aio.Channel:
    if place.tls is None:
        return grpc.aio.insecure_channel(place.address, _OPTIONS)
    return grpc.aio.secure_channel(place.address, place.tls.credentials(), _OPTIONS)


def _region(place: Place, channel: grpc.aio.Channel) -> Region[bytes, bytes]:
    infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    ready = channel.unary_unary(f"/{SERVICE}/ServerReady")

    async def send(payload: bytes, left_s: float) -> bytes:
        try:
            return bytes(await infer(payload, timeout=left_s))
        except grpc.RpcError as error:
            raise error_of(error) from None

    async def probe() -> bool:
        try:
            found = CLASSES["ServerReadyResponse"].FromString(await ready(b""))
        except grpc.RpcError as error:
            raise error_of(error) from None
        return bool(found.ready)

    return Region(site=place.site, send=send, probe=probe)


def _infer(regions: Regions[bytes, bytes]) -> Handler:
    async def answer(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return await regions.ask(data, _request(data), context.time_remaining())
        except RefusedError as error:
            await _refuse(context, error)
        return b""  # abort has raised

    return answer


def _ready(regions: Regions[bytes, bytes]) -> Handler:
    async def answer(_: bytes, __: grpc.aio.ServicerContext) -> bytes:
        up = any(region.up for region in regions.regions)
        return bytes(CLASSES["ServerReadyResponse"](ready=up).SerializeToString())

    return answer


def _about(
    name: str, regions: Regions[bytes, bytes], channels: Sequence[grpc.aio.Channel]
) -> Handler:
    calls = [channel.unary_unary(f"/{SERVICE}/{name}") for channel in channels]

    async def answer(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        why: RefusedError = NoRegionError("no region is up")
        for region, call in zip(regions.regions, calls, strict=True):
            if not region.up:
                continue
            try:
                return bytes(await call(data, timeout=ABOUT_S))
            except grpc.RpcError as error:
                why = error_of(error)
                if not isinstance(why, UnreachableSiteError):
                    break
        await _refuse(context, why)
        return b""  # abort has raised

    return answer


def _request(data: bytes) -> InferenceRequest | None:
    """Return the house's request inside a ModelInferRequest, None where there is none.

    Raises:
        MalformedRequestError, ContractError: it is none, or not in range.
    """
    try:
        message: Any = InferRequest.FromString(data)
    except DecodeError as error:
        raise MalformedRequestError(f"{len(data)} bytes are no ModelInferRequest") from error
    if PARAMETER not in message.parameters:
        return None
    text = message.parameters[PARAMETER].string_param
    return wire.from_bytes(InferenceRequest, text.encode(), strict=False)


async def _refuse(context: grpc.aio.ServicerContext, error: RefusedError) -> None:
    """End a call with a refusal's own status and words."""
    if isinstance(error, SiteError):
        await context.abort(grpc.StatusCode[error.status], str(error))
    status, _ = status_of(error)
    await context.abort(grpc.StatusCode[status], words_of(error))


def place_of(text: str, tls: ClientTls | None = None) -> Place:
    """Return the place that NAME=HOST:PORT,JURISDICTION names, a hyperscale region.

    Raises:
        ContractError: it names none.
    """
    name, _, rest = text.partition("=")
    address, _, jurisdiction = rest.rpartition(",")
    require(bool(name and ":" in address), f"{text!r} is not NAME=HOST:PORT,JURISDICTION")
    site = Site(name=name, context="hyperscale", jurisdiction=jurisdiction)
    return Place(site=site, address=address, tls=tls)
