"""Two regions asked as one: hedges, budgets, law, and a region killed while it works."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from site_parts import ask, tensors

from fleet.inference.client import AsyncClient, Client, SiteRefusedError, UnreachableSiteError
from fleet.inference.front import Place, place_of, serve_front
from fleet.inference.policy import Policy, Site
from fleet.inference.refusals import (
    LateAnswerError,
    LateRequestError,
    PolicyRefusedError,
    ReplayedRequestError,
)
from fleet.inference.regions import NoRegionError, Region, RegionDiedError, Regions
from vehicle.clock import SystemClock
from vehicle.contracts.wire import ContractError

BERLIN = Site(name="berlin", context="hyperscale", jurisdiction="DE")
PARIS = Site(name="paris", context="hyperscale", jurisdiction="FR")
OHIO = Site(name="ohio", context="hyperscale", jurisdiction="US")
GONE = UnreachableSiteError("UNAVAILABLE", "", "connection reset")


class Fake:
    """A region that does as told, and what became of its calls."""

    def __init__(self, site: Site, takes_s: float = 0.0, fails: Exception | None = None) -> None:
        self.site, self.takes_s, self.fails = site, takes_s, fails
        self.seen: list[bytes] = []
        self.cancelled = 0

    async def send(self, payload: bytes, left_s: float) -> bytes:
        self.seen.append(payload)
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fails:
            raise self.fails
        return self.site.name.encode()

    async def probe(self) -> bool:
        return self.fails is None


def regions(*fakes: Fake, policy: Policy | None = None) -> Regions[bytes, bytes]:
    made = [Region[bytes, bytes](site=f.site, send=f.send, probe=f.probe) for f in fakes]
    return Regions(made, clock=SystemClock(), policy=policy, size_of=len)


def test_the_first_region_answers_and_the_other_is_left_alone() -> None:
    first, second = Fake(BERLIN), Fake(PARIS)
    assert asyncio.run(regions(first, second).ask(b"x", ask())) == b"berlin"
    assert (len(first.seen), len(second.seen)) == (1, 0)


def test_a_slow_region_is_hedged_and_its_call_taken_back() -> None:
    slow, quick = Fake(BERLIN, takes_s=5.0), Fake(PARIS)
    front = regions(slow, quick)
    began = time.monotonic()
    assert asyncio.run(front.ask(b"x", ask())) == b"paris"
    assert time.monotonic() - began < 1.0
    assert (slow.cancelled, front.counts["answered"]) == (1, 1)


def test_a_region_that_dies_while_it_works_is_replaced_in_time() -> None:
    dies, well = Fake(BERLIN, takes_s=0.02, fails=GONE), Fake(PARIS)
    front = regions(dies, well)
    assert asyncio.run(front.ask(b"x", ask())) == b"paris"
    assert front.regions[0].counts["failed"] == 1


def test_when_both_die_the_refusal_names_both() -> None:
    front = regions(Fake(BERLIN, fails=GONE), Fake(PARIS, fails=GONE))
    with pytest.raises(RegionDiedError, match=r"berlin: .*connection reset; paris: "):
        asyncio.run(front.ask(b"x", ask()))


def test_after_failures_a_region_is_not_asked_for_a_while() -> None:
    dies, well = Fake(BERLIN, fails=GONE), Fake(PARIS)
    front = regions(dies, well)

    async def many() -> None:
        for _ in range(8):
            await front.ask(b"x", ask())

    asyncio.run(many())
    assert len(dies.seen) <= 3
    assert len(well.seen) == 8


def test_with_every_breaker_open_it_is_said_at_once() -> None:
    front = regions(Fake(BERLIN, fails=GONE))

    async def many() -> None:
        for _ in range(3):
            with pytest.raises(RegionDiedError):
                await front.ask(b"x", ask())
        with pytest.raises(NoRegionError, match="berlin failed lately"):
            await front.ask(b"x", ask())

    asyncio.run(many())


def test_a_second_call_that_the_byte_budget_does_not_bear_is_not_made() -> None:
    dies, well = Fake(BERLIN, fails=GONE), Fake(PARIS)
    front = regions(dies, well)
    with pytest.raises(RegionDiedError, match="paris is over the budget of 1,500 bytes"):
        asyncio.run(front.ask(b"x" * 1_000, ask(size_budget_bytes=1_500)))
    assert well.seen == []
    hedged = regions(Fake(BERLIN, takes_s=0.3), well)
    assert asyncio.run(hedged.ask(b"x" * 1_000, ask(size_budget_bytes=1_500))) == b"berlin"
    assert well.seen == []


def test_failover_stays_inside_the_law_of_the_data() -> None:
    dies, abroad = Fake(BERLIN, fails=GONE), Fake(OHIO)
    front = regions(dies, abroad, policy=Policy.default())
    with pytest.raises(RegionDiedError, match="data-stays-in-its-zone"):
        asyncio.run(front.ask(b"x", ask(data_class="pixels", tier="interactive")))
    with pytest.raises(PolicyRefusedError, match="ResidencyError"):
        asyncio.run(front.ask(b"x", ask(data_class="pixels", jurisdiction="JP")))
    assert abroad.seen == []
    assert asyncio.run(front.ask(b"x", ask(data_class="features"))) == b"ohio"


def test_a_request_that_comes_twice_is_answered_once() -> None:
    front, request = regions(Fake(BERLIN), Fake(PARIS)), ask()

    async def twice() -> None:
        await front.ask(b"x", request)
        with pytest.raises(ReplayedRequestError):
            await front.ask(b"x", request)

    asyncio.run(twice())


def test_what_comes_late_is_refused_by_name() -> None:
    slow = Fake(BERLIN, takes_s=5.0)
    with pytest.raises(LateAnswerError, match=r"berlin did not answer in 0\."):
        asyncio.run(regions(slow).ask(b"x", ask(lasts_s=0.3)))
    with pytest.raises(LateRequestError):
        asyncio.run(regions(slow).ask(b"x", ask(lasts_s=1, age_s=2)))
    assert (len(slow.seen), slow.cancelled) == (1, 1)


def test_a_refusal_of_the_request_is_final_and_one_of_the_region_is_not() -> None:
    says_no = Fake(BERLIN, fails=SiteRefusedError("INVALID_ARGUMENT", "MalformedRequestError", "x"))
    other = Fake(PARIS)
    with pytest.raises(SiteRefusedError, match="MalformedRequestError"):
        asyncio.run(regions(says_no, other).ask(b"x", ask()))
    assert other.seen == []
    full = Fake(BERLIN, fails=SiteRefusedError("RESOURCE_EXHAUSTED", "QueueFullError", "x"))
    assert asyncio.run(regions(full, other).ask(b"x", ask())) == b"paris"


SITE = """
import asyncio, sys
from site_parts import Echo
from fleet.inference.policy import Site
from fleet.inference.server import serve_site
async def main():
    site = Site(name=sys.argv[1], context="hyperscale", jurisdiction=sys.argv[2])
    model = Echo(takes_s=float(sys.argv[3]), says_us=1)
    async with serve_site([model], site=site, at_once=64) as served:
        print(served.grpc_port, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
ROOT = Path(__file__).parents[3]


@contextmanager
def process(site: Site, takes_s: float) -> Iterator[tuple[Place, Callable[[int], None]]]:
    """Run a real site in a process of its own; yield where it is, and what signals it."""
    words = [sys.executable, "-c", SITE, site.name, site.jurisdiction, str(takes_s)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        port = int(running.stdout.readline())
        try:
            yield Place(site=site, address=f"127.0.0.1:{port}"), running.send_signal
        finally:
            running.kill()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_region_killed_or_frozen_in_mid_request_costs_no_answer(blow: signal.Signals) -> None:
    with process(BERLIN, 0.15) as (berlin, strike), process(PARIS, 0.15) as (paris, _):

        async def drive() -> tuple[list[str], list[float], dict[str, int]]:
            sites, times = [], []
            async with (
                serve_front([berlin, paris], policy=Policy.default()) as front,
                AsyncClient(f"127.0.0.1:{front.port}") as client,
            ):

                async def one(number: int) -> None:
                    request = ask(lasts_s=5.0, freshness_s=5.0, tier="interactive")
                    began = time.monotonic()
                    outputs, reply = await client.infer("echo", tensors(), request, 5.0)
                    times.append(time.monotonic() - began)
                    assert reply is not None
                    assert reply.request_id == request.request_id
                    assert len(outputs["x"]) == 3
                    sites.append(reply.site)

                await one(0)
                asking = [asyncio.create_task(one(n)) for n in range(10)]
                await asyncio.sleep(0.05)
                strike(blow)
                await asyncio.gather(*asking)
                for number in range(10):
                    await one(number)
                return sites, times, dict(front.regions.counts)

        sites, times, counts = asyncio.run(drive())
    assert len(sites) == counts["answered"] == 21
    assert set(sites[-10:]) == {"paris"}
    assert max(times) < 5.0


def test_a_front_without_a_region_that_lives_refuses_by_name_in_time() -> None:
    nowhere = Place(site=BERLIN, address="127.0.0.1:9")

    async def drive() -> None:
        async with (
            serve_front([nowhere]) as front,
            AsyncClient(f"127.0.0.1:{front.port}") as client,
        ):
            began = time.monotonic()
            with pytest.raises(SiteRefusedError, match="RegionDiedError: berlin"):
                await client.infer("echo", tensors(), ask(), 2.0)
            assert time.monotonic() - began < 2.5

    asyncio.run(drive())


def test_the_command_opens_a_front_and_says_what_became_of_all(tmp_path: Path) -> None:
    url_file = tmp_path / "url"
    with process(BERLIN, 0.0) as (berlin, _):
        words = [sys.executable, "-m", "roadloop", "fleet", "infer", "front"]
        words += [f"berlin={berlin.address},DE", "paris=127.0.0.1:9,FR"]
        words += ["--port", "0", "--url-file", str(url_file), "--json"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
            while not url_file.exists():
                assert running.poll() is None
                time.sleep(0.02)
            with Client(url_file.read_text()) as client:
                _, reply = client.infer("echo", tensors(), ask(), 5.0)
            assert reply is not None
            assert reply.site == "berlin"
            running.send_signal(signal.SIGINT)
            assert running.stdout is not None
            counts = json.loads(running.stdout.read())
    assert running.returncode == 0
    assert counts["requests"] == {"answered": 1}
    assert counts["regions"]["berlin"]["answered"] == 1


def test_a_place_that_is_none_is_refused() -> None:
    for text in ("berlin", "berlin=127.0.0.1", "berlin=127.0.0.1:1,Bavaria"):
        with pytest.raises(ContractError):
            place_of(text)
