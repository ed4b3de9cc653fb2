"""Opens a site: one desk behind gRPC and HTTP, until it is told to stop; then it drains.

Over TLS both sides show certificates: the site the one its home's authority gave it, the cars those
they were enrolled with. Without TLS nobody can be told from another, so only this machine may ask.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import uvicorn
from starlette.types import ASGIApp

from fleet.identity import Authority
from fleet.inference.desk import Desk, Joules
from fleet.inference.oip_grpc import Servicer
from fleet.inference.oip_http import HttpDoor
from fleet.inference.oip_model import Model
from fleet.inference.policy import Policy, Site
from fleet.inference.queue import Limits, Turns
from fleet.inference.receipts import Receipts
from fleet.inference.stats import Stats
from fleet.inference.tenants import Tenant, Tenants
from fleet.serving import PortTakenError, listen
from fleet.tls import PeerProtocol, server_context
from vehicle.clock import Clock, SystemClock
from vehicle.contracts.home import Home
from vehicle.contracts.inference import MAX_TENSOR_BYTES
from vehicle.contracts.wire import RefusedError

GRACE_S: Final = 5.0
"""How long those who were let in are still answered once a site closes."""

MOST_CALLS: Final = 1_024
"""Calls of gRPC at one time, and connections of HTTP."""

_ENVELOPE_BYTES: Final = 64 << 10
"""What gRPC may carry beside the tensors; larger messages are cut off by gRPC itself."""


class OpenDoorError(RefusedError):
    """Without TLS a site would answer whoever reaches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteTls:
    """What a site shows and whom it believes: files in PEM.

    Args:
        certificate, key: the site's own.
        authorities: of the tenants' cars, one after the other in one file.
    """

    certificate: Path
    key: Path
    authorities: Path

    @classmethod
    def of_home(cls, home: Home, names: Sequence[str] = ()) -> "SiteTls":
        """Return what the authority of a home gives: its gateway's certificate, its own cars."""
        authority = Authority(home)
        certificate, key = authority.gateway_files(names)
        return cls(certificate=certificate, key=key, authorities=authority.certificate_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A site that is open."""

    desk: Desk
    grpc_port: int
    http_port: int

    @property
    def stats(self) -> Stats:
        """Return what it has answered and refused."""
        return self.desk.stats


@asynccontextmanager
async def serve_site(
    models: Sequence[Model],
    *,
    site: Site,
    policy: Policy | None = None,
    tenants: Sequence[Tenant] = (),
    receipts: Receipts | None = None,
    joules: Joules | None = None,
    tls: SiteTls | None = None,
    host: str = "127.0.0.1",
    grpc_port: int = 0,
    http_port: int = 0,
    at_once: int = 1,
    limits: Limits | None = None,
    clock: Clock | None = None,
    grace_s: float = GRACE_S,
) -> AsyncIterator[Served]:
    """Keep a site open for the length of a block.

    Args:
        models: what it answers with.
        tenants: whose cars may ask, with `tls`; without it everybody here is one tenant.
        grpc_port, http_port: 0 takes a free one.
        at_once: models that run side by side.
        grace_s: see GRACE_S.
    Raises:
        OpenDoorError: no TLS, and an address that others reach.
        PortTakenError: an address cannot be listened on.
    """
    if tls is None and not is_here(host):
        raise OpenDoorError(f"{host} without TLS is open to everybody; give it certificates")
    clock = clock or SystemClock()
    desk = Desk(
        models,
        site=site,
        tenants=Tenants(tenants, clock),
        turns=Turns(clock, at_once, limits),
        clock=clock,
        policy=policy,
        receipts=receipts,
        joules=joules,
    )
    grpc_server, bound = _grpc_server(desk, tls, host, grpc_port)
    with contextlib.closing(listen(host, http_port)) as listener:
        http_server = quiet_server(HttpDoor(desk), tls)
        await grpc_server.start()
        serving = asyncio.create_task(http_server.serve([listener]))
        while not http_server.started and not serving.done():
            await asyncio.sleep(0.001)
        try:
            yield Served(desk=desk, grpc_port=bound, http_port=listener.getsockname()[1])
        finally:
            await desk.close(grace_s)
            http_server.should_exit = True
            await asyncio.gather(grpc_server.stop(1.0), serving)


def _grpc_server(
    desk: Desk, tls: SiteTls | None, host: str, port: int
) -> tuple[grpc.aio.Server, int]:
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_TENSOR_BYTES + _ENVELOPE_BYTES),
        ("grpc.max_send_message_length", -1),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MOST_CALLS)
    server.add_generic_rpc_handlers([Servicer(desk).handler()])
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if tls is None:
            return server, server.add_insecure_port(address)
        credentials = grpc.ssl_server_credentials(
            [(tls.key.read_bytes(), tls.certificate.read_bytes())],
            root_certificates=tls.authorities.read_bytes(),
            require_client_auth=True,
        )
        return server, server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise PortTakenError(f"{address}: {error}; try port 0") from error


class _Quiet(uvicorn.Server):
    """A server that leaves the process's signals alone: the block's end is its end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


def quiet_server(app: ASGIApp, tls: SiteTls | None) -> uvicorn.Server:
    """Return an HTTP server of an app that leaves signals and logs to others."""
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CALLS,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,  # all are answered by then; this is for who holds the line
    )
    if tls is not None:
        config.ssl_context_factory = lambda *_: server_context(
            tls.certificate, tls.key, tls.authorities
        )
    return _Quiet(config)


def is_here(host: str) -> bool:
    """Return whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
