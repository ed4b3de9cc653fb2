"""A front as a process of its own, over gRPC or HTTP, until ctrl-C or SIGTERM."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet.inference.client import ClientTls
from fleet.inference.field import read_field
from fleet.inference.front import Place, serve_front
from fleet.inference.front_http import serve_http_front
from fleet.inference.policy import Policy
from fleet.inference.routed import Router
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.wire import require


def open_front(
    places: Sequence[Place],
    *,
    policy: Policy,
    router: Router | None = None,
    port: int = 0,
    socket: Path | None = None,
    url_file: Path | None = None,
    http: bool = False,
) -> dict[str, Any]:
    """Serve until told to stop; return what became of all requests.

    Args:
        places: the regions; their HTTP doors with `http` or `socket`, else those of gRPC.
        port: 0 takes a free one.
        socket: the door is a socket of this path instead, for whoever runs this alone.
        url_file: gets HOST:PORT, or the socket's path, once the front is open.
    """
    return asyncio.run(_live(places, policy, router, port, socket, url_file, http))


def routed_places(sites: Path, tls: ClientTls | None) -> tuple[list[Place], Router]:
    """Return the places of a field's file, and the router that chooses among them.

    Raises:
        ContractError, NoPowerModelError: the file is no field, or a site has no address.
    """
    field = read_field(sites)
    for name, spot in field.spots.items():
        require(":" in spot.address, f"{sites}: site {name} has no address, expected HOST:PORT")
    places = [Place(site=s.site, address=s.address, tls=tls) for s in field.spots.values()]
    return places, Router(field, SystemClock())


async def _live(
    places: Sequence[Place],
    policy: Policy,
    router: Router | None,
    port: int,
    socket: Path | None,
    url_file: Path | None,
    http: bool,
) -> dict[str, Any]:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    opened: Any = (
        serve_http_front(places, policy=policy, router=router, port=port, socket=socket)
        if http or socket
        else serve_front(places, policy=policy, router=router, port=port)
    )
    async with opened as front:
        door = str(socket) if socket else f"127.0.0.1:{front.port}"
        print(f"front open at {door}", file=sys.stderr, flush=True)
        if url_file is not None:
            wire.atomic_write(url_file, door.encode())
        await ended.wait()
        regions = front.regions
    return {
        "requests": dict(regions.counts),
        "regions": {
            r.site.name: {**r.counts, "breaker opened": r.breaker.opened} for r in regions.regions
        },
    }
