"""A front as a process of its own, over gRPC or HTTP, until ctrl-C or SIGTERM."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet.inference.front import Place, serve_front
from fleet.inference.front_http import serve_http_front
from fleet.inference.policy import Policy
from vehicle.contracts import wire


def open_front(
    places: Sequence[Place],
    *,
    policy: Policy,
    port: int,
    url_file: Path | None = None,
    http: bool = False,
) -> dict[str, Any]:
    """Serve until told to stop; return what became of all requests.

    Args:
        places: the regions; their HTTP doors with `http`, else those of gRPC.
        port: 0 takes a free one.
        url_file: gets HOST:PORT once the front is open.
    """
    return asyncio.run(_live(places, policy, port, url_file, http))


async def _live(
    places: Sequence[Place], policy: Policy, port: int, url_file: Path | None, http: bool
) -> dict[str, Any]:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    serve: Any = serve_http_front if http else serve_front
    async with serve(places, policy=policy, port=port) as front:
        print(f"front open at 127.0.0.1:{front.port}", file=sys.stderr, flush=True)
        if url_file is not None:
            wire.atomic_write(url_file, f"127.0.0.1:{front.port}".encode())
        await ended.wait()
        regions = front.regions
    return {
        "requests": dict(regions.counts),
        "regions": {
            r.site.name: {**r.counts, "breaker opened": r.breaker.opened} for r in regions.regions
        },
    }
