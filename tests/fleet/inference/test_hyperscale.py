"""A site before a Ray Serve cluster: one cluster for all tests here, a real process of its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from interop_parts import interop
from site_parts import ask, site
from tiny_bundle import golden_inputs, make

from fleet.inference.client import AsyncClient, Client, SiteRefusedError
from fleet.inference.front import Place, serve_front
from fleet.inference.hyperscale import Plan
from fleet.inference.policy import Policy, Site
from fleet.inference.tenants import Tenant
from fleet.inference.variants import Variant, Variants, kept
from vehicle.clock import SystemClock
from vehicle.contracts.advice import ANSWER
from vehicle.contracts.wire import ContractError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

SITE = f"hyperscale-{os.getpid()}"
PEER = Path(__file__).parent / "triton_peer.py"
TENANTS = """
[patient]
[frugal]
rate_per_s = 0.001
burst = 2.0
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = [tmp_path_factory.mktemp(name) for name in ("quick", "sure")]
    make(folders[0], name="quick")
    make(folders[1], name="sure", rich=True, latency_budget_us=5_000_000)
    return folders


@pytest.fixture(scope="module")
def cluster(
    bundles: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Run `hyperscale serve`; yield its addresses."""
    home = tmp_path_factory.mktemp("home")
    (home / "tenants.toml").write_text(TENANTS)
    options = ["--plain", "--undeclared", "--loaded", "1", "--tenants", str(home / "tenants.toml")]
    options += ["--replicas", "1:2", "--busy", "1", "--batch", "4", "--site", SITE]
    process = start(home, *map(str, bundles), *options)
    try:
        yield addresses(home, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
        assert replicas() == []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    serve = ["-m", "roadloop", "fleet", "infer", "hyperscale", "serve"]
    ports = ["--grpc-port", "0", "--http-port", "0", "--url-file", str(home / "urls.json")]
    return subprocess.Popen(
        [sys.executable, *serve, *ports, *words],
        env=os.environ | {"ROADLOOP_HOME": str(home)},
        stdout=(home / "out").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def addresses(home: Path, process: subprocess.Popen[str]) -> dict[str, str]:
    for _ in range(1_200):
        if (home / "urls.json").exists():
            found: dict[str, str] = json.loads((home / "urls.json").read_text())
            return found
        assert process.poll() is None, (home / "out").read_text()
        time.sleep(0.1)
    raise AssertionError((home / "out").read_text())


def replicas() -> list[str]:
    """Return the replicas that live on this machine."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if line.startswith(f"ray::ServeReplica:{SITE}:")]


def perceive(address: str, **fields: Any) -> str:
    """Ask once; return which network answered."""
    with Client(address) as client:
        outputs, reply = client.infer("perceive", golden_inputs(), ask(**fields), 30.0)
    assert reply is not None
    assert reply.context == "hyperscale"
    return str(outputs["variant"][0].decode())


def test_deadline_chooses_the_network_and_networks_come_and_go(cluster: dict[str, str]) -> None:
    answered = [perceive(cluster["grpc"], lasts_s=s) for s in (1, 60, 1)]
    assert answered == ["quick@1", "sure@1", "sure@1"]  # by then it is known to be quick


def test_teacher_advises_through_the_cluster(cluster: dict[str, str]) -> None:
    inputs = {**golden_inputs(), "tracks": np.zeros((0, 10), np.float32), "ego": np.zeros(6)}
    with Client(cluster["grpc"]) as client:
        outputs, _ = client.infer("adjudicate", inputs, ask(lasts_s=60, freshness_s=60.0), 30.0)
    advice = json.loads(outputs[ANSWER][0])
    assert advice["site"] == SITE
    assert len(advice["caps"]) == 1
    assert outputs["boxes"].shape == (2, 10)


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_tritonclient_asks_the_cluster_unchanged(
    cluster: dict[str, str], bundles: list[Path], tmp_path: Path, kind: str
) -> None:
    np.savez(tmp_path / "in.npz", **golden_inputs())
    (tmp_path / "in.json").write_text("{}")
    port = cluster[kind].rpartition(":")[2]
    interop(PEER, "ask", kind, port, tmp_path / "in.npz", tmp_path / "out.npz", "", "perceive")
    eyes = Variants("perceive", one := [Variant.at(bundles[1])], kept(one), SystemClock())
    wanted = asyncio.run(eyes.infer(golden_inputs(), None))
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        assert json.loads(str(found["said"]))["ready"] is True
        for name in ("heat", "box", "embedding", "uncertainty"):
            assert found[name].tobytes() == wanted[name].tobytes()


def test_tenant_that_has_used_up_its_share_leaves_the_others_theirs(
    cluster: dict[str, str],
) -> None:
    for _ in range(2):
        perceive(cluster["grpc"], tenant="frugal")
    with pytest.raises(SiteRefusedError, match="'frugal' has asked too often") as refused:
        perceive(cluster["grpc"], tenant="frugal")
    assert refused.value.status == "RESOURCE_EXHAUSTED"
    perceive(cluster["grpc"], tenant="patient")


def test_what_is_no_request_is_refused_by_name(cluster: dict[str, str]) -> None:
    answer = httpx.post(f"{cluster['http']}/v2/models/perceive/infer", content=b"{")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("MalformedRequestError: ")
    with pytest.raises(SiteRefusedError, match="LateRequestError"):
        perceive(cluster["grpc"], age_s=2, lasts_s=1, freshness_s=60.0)


def test_cluster_takes_over_for_a_region_that_dies(
    cluster: dict[str, str], bundles: list[Path]
) -> None:
    near = Site(name="region-a", context="hyperscale", jurisdiction="DE")
    variants = [Variant.at(bundles[0])]
    nearby = site(Variants("perceive", variants, kept(variants), SystemClock()), site=near)
    answered: list[str] = []

    async def drive() -> None:
        with nearby as served:
            places = [
                Place(site=near, address=f"127.0.0.1:{served.grpc_port}"),
                Place(
                    site=Site(name=SITE, context="hyperscale", jurisdiction="DE"),
                    address=cluster["grpc"],
                ),
            ]
            front = serve_front(places, policy=Policy.default())
            opened = await front.__aenter__()
            answered.append(await asked(opened.port))
        try:
            for _ in range(5):
                answered.append(await asked(opened.port))
        finally:
            await front.__aexit__(None, None, None)

    async def asked(port: int) -> str:
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            _, reply = await client.infer("perceive", golden_inputs(), ask(lasts_s=5), 10.0)
        assert reply is not None
        return reply.site

    asyncio.run(drive())
    assert answered == ["region-a", *[SITE] * 5]


def test_replicas_come_with_the_load(cluster: dict[str, str]) -> None:
    assert len(replicas()) == 1
    deadline, stop = time.monotonic() + 40.0, threading.Event()

    def hammer() -> None:
        with Client(cluster["grpc"]) as client:
            while not stop.is_set():
                client.infer("perceive", golden_inputs(), ask(lasts_s=30), 30.0)

    hammers = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in hammers:
        thread.start()
    while len(replicas()) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    stop.set()
    for thread in hammers:
        thread.join()
    assert len(replicas()) == 2


def test_share_of_a_tenant_is_spread_over_replicas() -> None:
    plan = Plan(
        bundles=("x",), replicas=(2, 4), tenants=(Tenant(name="a", rate_per_s=10.0, burst=8.0),)
    )
    assert [(t.rate_per_s, t.burst) for t in plan.of_replica()] == [(5.0, 4.0)]


def test_plan_without_a_bundle_is_refused() -> None:
    with pytest.raises(ContractError, match="answers nothing"):
        Plan(bundles=())
