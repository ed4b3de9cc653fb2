"""A cluster behind the Open Inference Protocol: Ray Serve, HAProxy straight before its replicas.

A replica is a desk like any site's, so requests keep their deadlines, their turn and their words of
refusal; Ray gives it what one machine has not: replicas that come and go with the load, networks
loaded when they are asked for, requests gathered into batches. Ray's own proxy costs ten
milliseconds a request; in HAProxy mode it is less than one (docs/decisions/0024).

Inside the cluster nobody shows a certificate: the site before it looks at them
(fleet/inference/hyperscale_door.py).
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fleet.inference.call import Answer, Call
from fleet.inference.desk import Desk
from fleet.inference.oip_http import HttpDoor
from fleet.inference.oip_model import EngineModel
from fleet.inference.policy import Site
from fleet.inference.queue import Limits, Turns
from fleet.inference.teacher import Adjudicator
from fleet.inference.tenants import Caller, Tenant, Tenants
from fleet.inference.variants import Arrays, Network, Variant, Variants
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.wire import ContractError, require

PERCEIVE: Final = "perceive"
ADJUDICATE: Final = "adjudicate"
MODELS: Final = (PERCEIVE, ADJUDICATE)
"""What every replica answers."""

DRAINING_S: Final = 0.01
"""Ray's default keeps a stopped replica for half a minute."""

SETTINGS: Final = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DRAINING_S),
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Read by Ray when it is imported, here and in every process of the cluster."""

PORT_SETTINGS: Final = ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT")

OBJECT_STORE_BYTES: Final = 100_000_000
"""Requests do not pass through Ray's store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a cluster serves, and how much of it.

    Args:
        bundles: folders of networks that stand in for each other, quickest first.
        tenants: with what each may ask, cluster-wide; each replica grants its share.
        replicas: fewest and most; more come when `busy` requests wait or run in each.
        loaded: networks that one replica keeps in memory; the one not asked for longest goes.
        batch: most requests that one run of a network takes; 1: none are gathered.
        gather_s: how long the first of a batch waits for the others.
        waiting: requests that may wait in one replica, and those of one tenant among them.
        site: as policy and receipts call it.
    """

    bundles: tuple[str, ...]
    tenants: tuple[Tenant, ...] = ()
    replicas: tuple[int, int] = (1, 1)
    busy: float = 2.0
    loaded: int = 2
    batch: int = 1
    gather_s: float = 0.002
    waiting: tuple[int, int] = (64, 16)
    site: str = "hyperscale-1"
    jurisdiction: str = "ZZ"

    def __post_init__(self) -> None:
        low, high = self.replicas
        require(bool(self.bundles), "a cluster without a bundle answers nothing")
        require(0 < low <= high, f"replicas are {self.replicas}, expected least, most")
        require(self.batch >= 1 and self.loaded >= 1, "batch and loaded are 1 or more")

    def of_replica(self) -> tuple[Tenant, ...]:
        """Return what tenants may ask of one replica: requests are spread evenly over all."""
        share = 1.0 / self.replicas[0]
        return tuple(
            Tenant(name=t.name, rate_per_s=t.rate_per_s * share, burst=max(1.0, t.burst * share))
            for t in self.tenants
        )


class ReplicaDesk(Desk):
    """Takes a request's word for its tenant: who gets here came by a door that has checked it.

    Args:
        named: tenants with a bucket of their own.
    """

    def __init__(self, *args: Any, named: Sequence[Tenant], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._named = frozenset(t.name for t in named)

    async def answer(self, caller: Caller, call: Call) -> Answer:
        """See `Desk.answer`; the tenant's own bucket and share of the queue count."""
        tenant = _tenant_of(call)
        if tenant in self._named:
            caller = Caller(tenant=tenant)
            self._tenants.take(caller)
        return await super().answer(caller, call)


def _tenant_of(call: Call) -> str:
    with suppress(ContractError):
        text = (call.parameter or "").encode()
        return wire.from_bytes(InferenceRequest, text, strict=False).tenant
    return ""


class Replica:
    """One process of the cluster: a desk over networks that are loaded when they are asked for."""

    async def __init__(self, plan: Plan) -> None:  # type: ignore[misc]  # Ray awaits it
        clock = SystemClock()
        chosen = [Variant.at(Path(folder)) for folder in plan.bundles]
        perceive = Variants(PERCEIVE, chosen, loader(plan, chosen), clock)
        limits = Limits(waiting=plan.waiting[0], of_tenant=plan.waiting[1])
        site = Site(name=plan.site, context="hyperscale", jurisdiction=plan.jurisdiction)
        adjudicate = Adjudicator(ADJUDICATE, perceive, plan.site, clock)
        self._desk = ReplicaDesk(
            [perceive, adjudicate],
            site=site,
            tenants=Tenants(plan.of_replica(), clock),
            turns=Turns(clock, plan.batch, limits),
            clock=clock,
            named=plan.tenants,
        )
        await adjudicate.warm(plan.loaded)

    def __serve_build_asgi_app__(self) -> Any:
        """Return what answers HTTP in this replica; Ray calls it."""
        return _lived(HttpDoor(self._desk))


def loader(plan: Plan, variants: Sequence[Variant]) -> Callable[[str], Awaitable[Network]]:
    """Return what gives a variant's network: loaded when first asked for, the oldest let go."""
    from ray import serve

    folders = {v.tag: v.folder for v in variants}

    async def run_all(jobs: list[tuple[EngineModel, Arrays]]) -> list[Arrays]:
        runs = (EngineModel.infer(engine, arrays, None) for engine, arrays in jobs)
        return list(await asyncio.gather(*runs))

    gathered = None
    if plan.batch > 1:
        gather = serve.batch(max_batch_size=plan.batch, batch_wait_timeout_s=plan.gather_s)
        gathered = gather(run_all)

    async def load(tag: str) -> Network:
        return await asyncio.to_thread(_Loaded, folders[tag], gathered)

    found: Callable[[str], Awaitable[Network]] = serve.multiplexed(
        max_num_models_per_replica=plan.loaded
    )(load)
    return found


class _Loaded(EngineModel):
    """A network that ends with the last reference to it, as Ray lets go of what it loaded."""

    def __init__(self, folder: Path, gathered: Any) -> None:
        self._gathered = gathered
        super().__init__(folder)

    async def infer(self, inputs: Arrays, request: InferenceRequest | None) -> Arrays:
        """Run alone, or with others that came in the same moment."""
        if self._gathered is None:
            return await super().infer(inputs, request)
        outputs: Arrays = await self._gathered((self, inputs))
        return outputs

    def __del__(self) -> None:
        self._thread.shutdown(wait=False)


@contextmanager
def cluster(plan: Plan, http_port: int = 0) -> Iterator[str]:
    """Run a cluster on this machine for the length of a block; yield its address.

    Only this machine reaches it. One in a process: Ray reads its settings when it is imported.

    Args:
        http_port: of HAProxy; 0 takes a free one.
    """
    port, *others = (http_port or _free_port(), _free_port(), _free_port())
    os.environ.update(SETTINGS)
    os.environ.update(zip(PORT_SETTINGS, map(str, others), strict=True))
    import ray
    from ray import serve

    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.init(
        num_cpus=1,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(application(plan), name=plan.site, route_prefix="/")
        yield f"http://127.0.0.1:{port}"
    finally:
        with redirect_stdout(sys.stderr):  # Ray prints what dies meanwhile; stdout is the caller's
            serve.shutdown()  # type: ignore[no-untyped-call]
            ray.shutdown()


def application(plan: Plan) -> Any:
    """Return what Ray Serve is to run: for `serve.run` here, or on a cluster elsewhere."""
    from ray import serve

    low, high = plan.replicas
    deployment: Any = serve.deployment(serve.ingress()(Replica))
    deployment = deployment.options(
        name=plan.site,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=plan.waiting[0] + plan.batch,
        max_queued_requests=plan.waiting[0],
        autoscaling_config={
            "min_replicas": low,
            "max_replicas": high,
            "target_ongoing_requests": plan.busy,
            "upscale_delay_s": 1.0,
            "downscale_delay_s": 30.0,
            "metrics_interval_s": 1.0,
            "look_back_period_s": 2.0,
        },
        graceful_shutdown_timeout_s=2.0,
        graceful_shutdown_wait_loop_s=0.1,
    )
    return deployment.bind(plan)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _lived(app: Any) -> Any:
    """Return an app that also says that it has started and stopped."""

    async def lived(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        while True:
            word = (await receive())["type"]
            await send({"type": f"{word}.complete"})
            if word == "lifespan.shutdown":
                return

    return lived
