"""What a cluster costs a request beside a plain site, and what the batch tier gets done.

One network, one client, the same frames: asked at a plain site, at the cluster's proxy, and at the
site before the cluster, in turns, so that a busy machine is busy for all of them.
"""

import asyncio
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from fleet.inference import batch, remote
from fleet.inference.asking import make_request
from fleet.inference.client import AsyncClient
from fleet.inference.energy import PROCESSORS
from fleet.inference.hyperscale import MODELS, PERCEIVE, Plan, cluster
from fleet.inference.oip_model import Model
from fleet.inference.policy import Site
from fleet.inference.server import serve_site
from fleet.inference.variants import Variant, Variants, kept
from sim.run.episode import Episode
from vehicle.bundles import base_folder
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.inference import TIER_BAND_MS
from vehicle.route import RouteWriter

FRAMES: Final = 700
"""Requests by each way: enough for a p99."""

PROXY_LIMIT_MS: Final = 2.5
"""Most that the cluster's way may add at the median: a quarter of what Ray's own proxy does."""

WARM_UP: Final = 30
CLIPS, CLIP_FRAMES = 2, 40
PROCESSOR: Final = "region-core"
_READY_S: Final = 120.0

Ask = Callable[[], Coroutine[Any, Any, Any]]


def hyperscale_bench(
    *, frames: int, progress: Callable[[float], None], bundle: Path | None
) -> Bench:
    """Ask by every way, then label and embed clips.

    Args:
        frames: requests by each way.
        bundle: the network; None: the one that ships.
    """
    bench, folder = Bench(name="hyperscale"), bundle or base_folder()
    with _server(_plain, folder) as plain, _server(_clustered, folder) as ray:
        bench.rows.append({"row": "cluster", "seconds_to_start": ray["seconds"]})
        times = asyncio.run(_race(plain, ray, frames, lambda share: progress(0.8 * share)))
    for way, took_ms in times.items():
        bench.rows.append({"row": way, "ms": percentiles(took_ms)})
    _judge(bench, times)
    _batch(bench, folder, lambda share: progress(0.8 + 0.2 * share))
    return bench


def _judge(bench: Bench, times: dict[str, list[float]]) -> None:
    """Say what each way adds to its plain twin; pairs stand in the same turn."""
    pairs = (
        ("proxy, HTTP", "plain site, HTTP", PROXY_LIMIT_MS),
        ("site before the cluster, HTTP", "plain site, HTTP", 3 * PROXY_LIMIT_MS),
        ("site before the cluster, gRPC", "plain site, gRPC", 3 * PROXY_LIMIT_MS),
    )
    for way, peer, limit in pairs:
        more = np.array(times[way]) - np.array(times[peer])
        added = percentiles(more)
        bench.rows.append({"row": f"{way}: more than {peer}", "ms": added})
        bench.must.append(
            Must(
                figure=f"{way}, added p50",
                value=None if "p50" not in added else float(added["p50"]),
                op="<=",
                limit=limit,
                unit="ms",
                n=len(more),
                peer=peer,
            )
        )
    found = percentiles(times["site before the cluster, gRPC"])
    bench.must.append(
        Must(
            figure="site before the cluster, gRPC, p95 without a link",
            value=None if "p95" not in found else float(found["p95"]),
            op="<=",
            limit=TIER_BAND_MS["interactive"][1],
            unit="ms",
            n=int(found["n"]),
        )
    )


async def _race(
    plain: dict[str, Any], ray: dict[str, Any], frames: int, progress: Callable[[float], None]
) -> dict[str, list[float]]:
    clock, rng = SystemClock(), np.random.default_rng(0)
    digest = {PERCEIVE: "0" * 64}
    urls = {
        "plain site, HTTP": plain["http"],
        "proxy, HTTP": ray["proxy"],
        "site before the cluster, HTTP": ray["http"],
    }
    grpcs = {"plain site, gRPC": plain["grpc"], "site before the cluster, gRPC": ray["grpc"]}
    async with AsyncExitStack() as stack:
        clients = {w: await stack.enter_async_context(AsyncClient(a)) for w, a in grpcs.items()}
        models = {}
        for way, url in urls.items():
            http = await stack.enter_async_context(remote.client(url))
            models[way] = (await remote.discover(http, digest, clock))[0]
        specs = next(iter(models.values())).inputs
        inputs = {s.name: rng.integers(0, 256, s.shape).astype(s.dtype) for s in specs}

        def asks() -> Iterator[tuple[str, Ask]]:
            for way, model in models.items():
                yield way, lambda m=model: m.infer(inputs, make_request(clock))
            for way, client in clients.items():
                yield way, lambda c=client: c.infer(PERCEIVE, inputs, make_request(clock), 5.0)

        ways = list(asks())
        times: dict[str, list[float]] = {way: [] for way, _ in ways}
        for turn in range(WARM_UP + frames):
            for place in range(len(ways)):  # who is first changes with each turn
                way, ask = ways[(turn + place) % len(ways)]
                began_ns = time.perf_counter_ns()
                await ask()
                if turn >= WARM_UP:
                    times[way].append((time.perf_counter_ns() - began_ns) * 1e-6)
            progress((turn + 1) / (WARM_UP + frames))
    return times


@contextmanager
def _server(target: Callable[..., None], folder: Path) -> Iterator[dict[str, Any]]:
    """Run a server in a process of its own; yield where it is."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    began_ns = time.monotonic_ns()
    process = context.Process(target=target, args=(there, str(folder)))
    process.start()
    try:
        if not here.poll(_READY_S):
            raise TimeoutError(f"{target.__name__} was not ready after {_READY_S:g} s")
        told: dict[str, Any] = here.recv()
        yield {**told, "seconds": round((time.monotonic_ns() - began_ns) * 1e-9, 1)}
    finally:
        if process.is_alive():
            here.send("stop")
        process.join(40.0)
        if process.is_alive():
            process.kill()


def _plain(pipe: Connection, folder: str) -> None:
    """Be a plain site, until told to stop."""
    variants = [Variant.at(Path(folder))]
    model = Variants(PERCEIVE, variants, kept(variants), SystemClock())
    asyncio.run(_open([model], pipe, {}))


def _clustered(pipe: Connection, folder: str) -> None:
    """Be a cluster with a site before it, until told to stop."""
    with cluster(Plan(bundles=(folder,))) as url:

        async def live() -> None:
            async with remote.client(url) as http:
                digests = dict.fromkeys(MODELS, wire.digest(folder.encode()))
                await _open(
                    await remote.discover(http, digests, SystemClock()), pipe, {"proxy": url}
                )

        asyncio.run(live())


async def _open(models: list[Any] | list[Model], pipe: Connection, told: dict[str, Any]) -> None:
    site = Site(name="bench", context="hyperscale", jurisdiction="DE")
    async with serve_site(models, site=site) as served:
        http = f"http://127.0.0.1:{served.http_port}"
        pipe.send({"http": http, "grpc": f"127.0.0.1:{served.grpc_port}", **told})
        await asyncio.to_thread(pipe.recv)


def _batch(bench: Bench, folder: Path, progress: Callable[[float], None]) -> None:
    """Label and embed clips in this process, on one core; joules are modelled from CPU time."""
    with tempfile.TemporaryDirectory() as name:
        clips = [_clip(Path(name), seed) for seed in range(1, CLIPS + 1)]
        progress(0.4)
        jobs: tuple[batch.What, ...] = ("labels", "embeddings")
        for i, what in enumerate(jobs):
            began_ns, cpu_s = time.perf_counter_ns(), _cpu_s()
            made = batch.run(what, clips, folder, Path(name) / what)
            seconds, cpu_s = (time.perf_counter_ns() - began_ns) * 1e-9, _cpu_s() - cpu_s
            bench.rows.append(
                {
                    "row": f"batch, {what}",
                    "n": made.frames,
                    "samples_per_s": round(made.frames / seconds, 1),
                    "joules_per_sample": round(
                        PROCESSORS[PROCESSOR].joules(cpu_s) / made.frames, 4
                    ),
                    "joules_source": f"modelled, {PROCESSOR}",
                }
            )
            progress(0.4 + 0.3 * (i + 1))


def _clip(folder: Path, seed: int) -> batch.Wanted:
    """Write a clip of a simulated drive, as the lake would hold it."""
    episode = Episode(town=100, seed=seed, light="day", weather="clear", family="town_drive")
    path = folder / f"{seed}.mcap"
    with RouteWriter(path, episode.rig, rate_hz=episode.rate_hz, metadata={}) as writer:
        for _ in range(CLIP_FRAMES):
            writer.write(episode.observe())
            episode.step(None)
    return batch.Wanted(clip_id=wire.digest_file(path), path=path)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
