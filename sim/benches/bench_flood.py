"""One fleet's answers while another floods the same site, each with its own bucket."""

import asyncio
import multiprocessing
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np

from fleet.identity import enrol
from fleet.inference.asking import make_request
from fleet.inference.client import Client, ClientTls, SiteError
from fleet.inference.policy import Policy, Site
from fleet.inference.server import SiteTls, serve_site
from fleet.inference.tenants import Tenant
from sim.benches.bench_still import Still
from vehicle.clock import SystemClock
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.home import Home

EVERY_S: Final = 0.05
LASTS_MS: Final = 50.0
WORK_S: Final = 0.004
"""How long the model takes: about what the shipped network does."""

THREADS: Final = 4
RATE_PER_S: Final = 60.0
"""Of each fleet's bucket: three times what the quiet one asks for."""

SIZE: Final = 16_384
_SITE: Final = Site(name="bench", context="edge", jurisdiction="DE")


def flood_rows(bench: Bench, asks: int) -> None:
    """Measure `asks` answers of a fleet alone, and as many beside one that floods."""
    with tempfile.TemporaryDirectory() as name:
        homes = {n: Home(Path(name) / n) for n in ("quiet", "flooding")}
        shown = {n: _shown(home, homes["quiet"]) for n, home in homes.items()}
        here, there = multiprocessing.get_context("spawn").Pipe()
        site = multiprocessing.get_context("spawn").Process(
            target=_site_process, args=(there, homes), daemon=True
        )
        site.start()
        port = here.recv()
        alone = _answers(port, shown["quiet"], asks)
        words = (port, shown["flooding"])
        flood = multiprocessing.get_context("spawn").Process(target=_flood, args=words, daemon=True)
        flood.start()
        time.sleep(2.0)  # until it has started and used up its bucket
        beside = _answers(port, shown["quiet"], asks)
        flood.terminate()
        here.send(None)
        refused = here.recv()
        site.join(10)
    for what, (took_ms, missed) in (("alone", alone), ("while another floods", beside)):
        figures = {"answer_ms": percentiles(took_ms), "late_or_refused": missed}
        bench.rows.append({"row": f"a fleet's answers, {what}, 20 a second"} | figures)
    bench.rows.append({"row": "refusals meanwhile, by name and fleet"} | refused)
    bench.must.append(
        Must(
            figure=f"answers of a fleet in time ({LASTS_MS:.0f} ms) while another floods, share",
            value=round(1.0 - beside[1] / asks, 4),
            op=">=",
            limit=0.99,
            unit="share",
            n=asks,
            peer=f"alone {1.0 - alone[1] / asks:.4f}",
        )
    )


def _shown(home: Home, site: Home) -> ClientTls:
    """Enrol a car; it believes the authority of the site's home."""
    for each in (site, home):
        folder = each.car("car-1") / "identity"
        if not folder.is_dir():
            enrol(each, "car-1", "", folder)
    mine = ClientTls.of_identity(home.car("car-1") / "identity")
    theirs = ClientTls.of_identity(site.car("car-1") / "identity")
    return ClientTls(certificate=mine.certificate, key=mine.key, authority=theirs.authority)


def _answers(port: int, shown: ClientTls, asks: int) -> tuple[list[float], int]:
    """Return milliseconds from the schedule of each answer that came, and how many did not."""
    clock, took_ms, missed = SystemClock(), [], 0
    inputs = {"x": np.zeros(SIZE, np.uint8)}
    with Client(f"localhost:{port}", shown) as client:
        client.infer("still", inputs, make_request(clock, tenant="quiet"), 5.0)
        first_ns = clock.mono_ns()
        for i in range(asks):
            at_ns = first_ns + int(i * EVERY_S * 1e9)
            clock.sleep_until(at_ns)
            request = make_request(clock, lasts_ms=LASTS_MS, tenant="quiet")
            try:
                client.infer("still", inputs, request, 1.0)
            except SiteError:
                missed += 1
                continue
            took_ms.append((clock.mono_ns() - at_ns) / 1e6)
    return took_ms, missed + sum(ms > LASTS_MS for ms in took_ms)


def _flood(port: int, shown: ClientTls) -> None:
    """Ask as fast as answers and refusals come, until ended."""
    clock, inputs = SystemClock(), {"x": np.zeros(SIZE, np.uint8)}

    def ask() -> None:
        with Client(f"localhost:{port}", shown) as client:
            while True:
                request = make_request(clock, lasts_ms=LASTS_MS, tenant="flooding")
                try:
                    client.infer("still", inputs, request, 1.0)
                except SiteError:
                    continue

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    threads[0].join()


def _site_process(there: Connection, homes: dict[str, Home]) -> None:
    """Be the site until told to stop; then say what it refused."""
    asyncio.run(_site(there, homes))


async def _site(there: Connection, homes: dict[str, Home]) -> None:
    own = SiteTls.of_home(homes["quiet"])
    files = {n: home.car("car-1") / "identity" / "home.crt" for n, home in homes.items()}
    both = homes["quiet"].root / "both.pem"
    both.write_bytes(b"".join(file.read_bytes() for file in files.values()))
    tenants = [
        Tenant(name=n, authority=str(file), rate_per_s=RATE_PER_S, burst=RATE_PER_S)
        for n, file in files.items()
    ]
    async with serve_site(
        [Still(WORK_S)],
        site=_SITE,
        policy=Policy.default(),
        tenants=tenants,
        tls=SiteTls(certificate=own.certificate, key=own.key, authorities=both),
    ) as served:
        there.send(served.grpc_port)
        await asyncio.to_thread(there.recv)
        there.send(served.stats.plain()["refused"])
