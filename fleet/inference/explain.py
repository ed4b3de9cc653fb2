"""The site of the conversational tier: why the car decided so, streamed word by word over HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fleet.inference.explain_door import ChatDoor
from fleet.inference.explain_engine import Engine
from fleet.inference.explain_model import ExplainModel
from fleet.inference.policy import Policy, Site
from fleet.inference.receipts import Receipts
from fleet.inference.server import OpenDoorError, SiteTls, is_here, quiet_server
from fleet.inference.tenants import Tenant, Tenants
from fleet.serving import listen
from vehicle.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Explaining:
    """A site of explanations that is open."""

    engine: Engine
    door: ChatDoor
    port: int


@asynccontextmanager
async def serve_explain(
    model: ExplainModel,
    *,
    site: Site,
    policy: Policy | None = None,
    tenants: Sequence[Tenant] = (),
    receipts: Receipts | None = None,
    tls: SiteTls | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    slots: int = 8,
    waiting: int = 64,
    clock: Clock | None = None,
) -> AsyncIterator[Explaining]:
    """Keep a site of explanations open for the length of a block.

    Args:
        slots, waiting: see `Engine`.
        port: 0 takes a free one.
    Raises:
        OpenDoorError: no TLS, and an address that others reach.
        PortTakenError: the address cannot be listened on.
    """
    if tls is None and not is_here(host):
        raise OpenDoorError(f"{host} without TLS is open to everybody; give it certificates")
    clock = clock or SystemClock()
    async with Engine(model, clock, slots=slots, waiting=waiting) as engine:
        door = ChatDoor(
            engine,
            site=site,
            tenants=Tenants(tenants, clock),
            clock=clock,
            policy=policy,
            receipts=receipts,
        )
        with contextlib.closing(listen(host, port)) as listener:
            server = quiet_server(door, tls)
            serving = asyncio.create_task(server.serve([listener]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.001)
            try:
                yield Explaining(engine=engine, door=door, port=listener.getsockname()[1])
            finally:
                server.should_exit = True
                await serving
