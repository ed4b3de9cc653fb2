"""A site on a free port of this machine, models that do what a test wants, requests to it."""

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from fleet.inference.client import Client
from fleet.inference.oip_tensors import BYTES
from fleet.inference.policy import Site
from fleet.inference.server import Served, serve_site
from vehicle.clock import SystemClock
from vehicle.contracts.bundle import TensorSpec
from vehicle.contracts.inference import InferenceRequest

EDGE = Site(name="edge-1", context="edge", jurisdiction="DE")


class Echo:
    """Gives back what it got, after a while.

    Args:
        takes_s: how long an answer takes; `says_us` is what it says, if that is something else.
        spoil: raised instead of an answer.
    """

    name, version, digest = "echo", "1", "0" * 64
    inputs = (
        TensorSpec(name="x", shape=(-1,), dtype="float32"),
        TensorSpec(name="words", shape=(-1,), dtype=BYTES),
    )
    outputs = inputs

    def __init__(
        self, takes_s: float = 0.0, says_us: int | None = None, spoil: Exception | None = None
    ) -> None:
        self.takes_s, self.spoil = takes_s, spoil
        self.says_us = int(takes_s * 1e6) if says_us is None else says_us
        self.asked: list[InferenceRequest | None] = []
        self.cancelled = 0

    async def infer(
        self, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
    ) -> Mapping[str, np.ndarray]:
        self.asked.append(request)
        if self.spoil is not None:
            raise self.spoil
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return dict(inputs)

    def expected_us(self) -> int:
        return self.says_us


def ask(**changes: Any) -> InferenceRequest:
    """Return a request as a car would send it now; `lasts_s` and `age_s` set its times."""
    now_ns = SystemClock().utc_ns()
    lasts_ns, age_ns = (int(changes.pop(n, s) * 1e9) for n, s in (("lasts_s", 15), ("age_s", 0)))
    usual = {
        "request_id": secrets.token_hex(16),
        "tenant": "home",
        "car_id": "car-1",
        "workload": "echo",
        "tier": "low",
        "input_utc_ns": now_ns - age_ns,
        "freshness_s": 10.0,
        "deadline_utc_ns": now_ns - age_ns + lasts_ns,
        "data_class": "features",
        "jurisdiction": "DE",
    }
    return InferenceRequest(**(usual | changes))


def tensors(count: int = 3) -> dict[str, np.ndarray]:
    """Return inputs for Echo."""
    words = np.array([b"a", b"", "ü".encode()], dtype=object)
    return {"x": np.arange(count, dtype=np.float32), "words": words}


@contextmanager
def site(*models: Any, **options: Any) -> Iterator[Served]:
    """Keep a site open in a thread of its own, as `serve_site` does in its loop."""
    ready: Any = threading.Event()
    served: list[Served] = []
    failed: list[BaseException] = []
    stop: list[Callable[[], None]] = []

    async def live() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        async with serve_site(models, **({"site": EDGE} | options)) as open_site:
            served.append(open_site)
            ready.set()
            await ended.wait()

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(20)
    if not served:
        raise failed[0]
    try:
        yield served[0]
    finally:
        stop[0]()
        thread.join(20)


@contextmanager
def client(served: Served, tls: Any = None) -> Iterator[Client]:
    """Keep a connection to a site's gRPC door."""
    with Client(f"localhost:{served.grpc_port}", tls) as open_client:
        yield open_client
