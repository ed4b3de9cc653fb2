"""What asking a site costs beside the work itself: our wires, NVIDIA's client, and a bare gRPC.

The site is a process of its own; its model gives back at once, so that all that is measured is what
lies between. Paths take turns, so that the machine's other work is shared fairly. Last, the answers
of a fleet while another floods the site.
"""

import asyncio
import json
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import numpy as np

from fleet.identity import enrol
from fleet.inference.asking import make_request
from fleet.inference.client import Client, ClientTls
from fleet.inference.policy import Policy, Site
from fleet.inference.receipts import Receipts
from fleet.inference.server import SiteTls, serve_site
from fleet.inference.tenants import Tenant
from sim.benches.bench_flood import flood_rows
from sim.benches.bench_still import Still
from vehicle.clock import SystemClock
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.home import Home

FRAMES: Final = 1_000
SIZES: Final = (1_024, 98_304, 1_048_576)
"""Bytes of a request: numbers, a picture of the note's size, a frame of all cameras."""

PICTURE: Final = SIZES[1]
FLOOD_ASKS: Final = 700
MOST_TIMES_BARE: Final = 2.0
_SITE: Final = Site(name="bench", context="on-prem", jurisdiction="DE", undeclared=True)
_BARE: Final = "/bare/Echo"
_PEER: Final = Path(__file__).parent / "serving_peers.py"
_INTEROP: Final = Path(__file__).parents[2] / ".venv-interop" / "bin" / "python"


def serving_bench(*, frames: int, progress: Callable[[float], None], bundle: Path | None) -> Bench:
    """Measure every path at every size; `bundle` plays no part."""
    bench = Bench(name="serving")
    with tempfile.TemporaryDirectory() as name:
        home = Home(Path(name))
        identity = home.car("car-1") / "identity"
        enrol(home, "car-1", "", identity)
        here, there = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_site_process, args=(there, home), daemon=True
        )
        process.start()
        try:
            ports = here.recv()
            _rows(bench, ports, ClientTls.of_identity(identity), frames, progress)
        finally:
            here.send(None)
            process.join(10)
    flood_rows(bench, min(frames, FLOOD_ASKS))
    progress(1.0)
    return bench


def _rows(
    bench: Bench,
    ports: dict[str, int],
    tls: ClientTls,
    frames: int,
    progress: Callable[[float], None],
) -> None:
    p50: dict[tuple[str, int], float] = {}
    with (
        Client(f"127.0.0.1:{ports['grpc']}") as plain,
        Client(f"localhost:{ports['tls']}", tls) as proven,
        httpx.Client(base_url=f"http://127.0.0.1:{ports['http']}", trust_env=False) as http,
        grpc.insecure_channel(f"127.0.0.1:{ports['bare']}") as bare,
    ):
        for i, size in enumerate(SIZES):
            paths = _paths(size, plain, proven, http, bare)
            for path, took_ms in _timed(paths, frames).items():
                _row(bench, p50, path, size, took_ms)
            for wire in ("grpc", "http"):
                found = _tritonclient(wire, ports[wire], size, frames)
                if found is None:
                    bench.rows.append({"row": f"tritonclient {wire}: not here (make interop)"})
                else:
                    _row(bench, p50, f"tritonclient {wire}", size, found)
            progress(0.6 * (i + 1) / len(SIZES))
    ratio = p50["our gRPC client", PICTURE] / p50["bare gRPC", PICTURE]
    bench.must.append(
        Must(
            figure=f"asking a site for {PICTURE} bytes by gRPC, p50 over a bare gRPC echo",
            value=round(ratio, 3),
            op="<=",
            limit=MOST_TIMES_BARE,
            unit="ratio",
            n=frames,
            peer=f"bare grpc.aio {p50['bare gRPC', PICTURE]:.2f} ms",
        )
    )


def _paths(
    size: int, plain: Client, proven: Client, http: httpx.Client, bare: grpc.Channel
) -> dict[str, Callable[[], object]]:
    inputs, clock, data = {"x": np.zeros(size, np.uint8)}, SystemClock(), bytes(size)
    echo = bare.unary_unary(_BARE)
    tensor = {"name": "x", "shape": [size], "datatype": "UINT8"}
    tensor |= {"parameters": {"binary_data_size": size}}  # type: ignore[dict-item]
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}

    def by_http() -> None:
        answer = http.post("/v2/models/still/infer", content=head + data, headers=headers)
        assert answer.status_code == 200, answer.text

    return {
        "bare gRPC": lambda: echo(data),
        "our gRPC client": lambda: plain.infer("still", inputs, None, 5.0),
        "our gRPC client, with a request": lambda: plain.infer(
            "still", inputs, make_request(clock), 5.0
        ),
        "our gRPC client, mutual TLS, policy, receipts on disk": lambda: proven.infer(
            "still", inputs, make_request(clock), 5.0
        ),
        "httpx": by_http,
    }


def _timed(paths: dict[str, Callable[[], object]], frames: int) -> dict[str, list[float]]:
    """Return milliseconds of each path; they take turns, after ten rounds that do not count."""
    took: dict[str, list[float]] = {path: [] for path in paths}
    for _ in range(frames + 10):
        for path, ask in paths.items():
            began = time.perf_counter()
            ask()
            took[path].append((time.perf_counter() - began) * 1e3)
    return {path: each[10:] for path, each in took.items()}


def _row(
    bench: Bench, p50: dict[tuple[str, int], float], path: str, size: int, took_ms: list[float]
) -> None:
    p50[path, size] = float(np.median(took_ms))
    bench.rows.append({"row": f"{path}, {size:,} bytes", "overhead_ms": percentiles(took_ms)})


def _tritonclient(wire: str, port: int, size: int, frames: int) -> list[float] | None:
    if not _INTEROP.exists():
        return None
    words = [wire, str(port), "still", str(size), str(frames)]
    done = subprocess.run(
        [_INTEROP, "-W", "ignore", "-P", _PEER, *words], capture_output=True, text=True, check=True
    )
    found: list[float] = json.loads(done.stdout)
    return found


def _site_process(there: Connection, home: Home) -> None:
    """Be the sites, and the bare server beside them, until told to stop."""
    asyncio.run(_sites(there, home))


async def _sites(there: Connection, home: Home) -> None:
    tls, clock = SiteTls.of_home(home), SystemClock()
    tenant = Tenant(
        name="fleet",
        authority=str(tls.authorities),
        home=str(home.root),
        rate_per_s=1e5,
        burst=1e5,
    )
    with Receipts(home.root / "receipts", site=_SITE.name, clock=clock) as receipts:
        async with AsyncExitStack() as stack:
            plain = await stack.enter_async_context(serve_site([Still()], site=_SITE))
            proven = await stack.enter_async_context(
                serve_site(
                    [Still()],
                    site=_SITE,
                    policy=Policy.default(),
                    tenants=[tenant],
                    receipts=receipts,
                    tls=tls,
                )
            )
            bare = grpc.aio.server()
            bare.add_generic_rpc_handlers([_Echo()])
            ports = {"bare": bare.add_insecure_port("127.0.0.1:0"), "tls": proven.grpc_port}
            await bare.start()
            there.send(ports | {"grpc": plain.grpc_port, "http": plain.http_port})
            await asyncio.to_thread(there.recv)
            await bare.stop(0.0)


class _Echo(grpc.GenericRpcHandler):
    """Bytes in, a kilobyte out: what gRPC itself costs."""

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        """Return the one method."""

        async def echo(data: bytes, context: Any) -> bytes:
            return data[:1_024]

        return grpc.unary_unary_rpc_method_handler(echo)
