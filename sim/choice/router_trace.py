"""One trace of requests, and what really became of each over every emulated link.

Every request of the trace is sent to every place at once, over real sockets; all ways to choose are
then played over the same outcomes. So they differ in what they choose and in nothing else, and what
was not chosen is known as well. For a part of the trace no mast is in reach: what is on the ground
is cut. Outcomes do not depend on what was chosen before: nobody's requests queue behind another's.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from fleet.inference.arrival import LOST
from fleet.inference.client import AsyncClient, SiteRefusedError, UnreachableSiteError
from sim.choice.router_sites import MODEL, PLACES, running_sites
from sim.net.links import PROFILES, Link
from vehicle.clock import SystemClock
from vehicle.contracts.inference import DataClass, InferenceRequest

Told = Callable[[float], None]

GAP_S: Final = 0.12
"""Mean time between requests of the trace, as they are sent."""

WAIT_S: Final = 1.0
"""An answer that took longer is lost; no deadline but a batch's is later."""

DEADLINES_S: Final = (0.08, 0.15, 0.3, 0.8)
BATCH_S: Final = 7_200.0
BATCH_SHARE: Final = 0.1
CUT: Final = (0.62, 0.74)
"""From which to which share of the trace there is no terrestrial coverage."""

MASTS: Final = frozenset(("5g-sa", "lte", "wifi-depot", "cabinet"))
CLASSES: Final[tuple[tuple[DataClass, float], ...]] = (
    ("pixels", 0.6),
    ("anonymised", 0.3),
    ("personal", 0.1),
)
COUNTRIES: Final = (("DE", 0.6), ("FR", 0.15), ("CH", 0.15), ("CN", 0.1))
"""Under whose law the data of the fleet's cars stands: most of them at home, some on a visit."""

TENANTS: Final = (("acme", 0.5), ("zeta", 0.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request of the trace and all its outcomes.

    Args:
        at_s: when it was sent, since the trace began.
        frame: of sim/choice/router_quality.py.
        deadline_s: from `at_s`.
        took_s: by place, until the answer was there; LOST: it never was.
    """

    at_s: float
    frame: int
    deadline_s: float
    size_bytes: int
    request: InferenceRequest
    took_s: Mapping[str, float]


def draw(
    count: int, sizes: np.ndarray, frames: np.ndarray, rng: np.random.Generator
) -> Iterator[Asked]:
    """Yield requests without outcomes; `frames` are those that may be asked about."""

    def one(table: tuple[tuple[str, float], ...]) -> str:
        names, shares = zip(*table, strict=True)
        return str(rng.choice(names, p=shares))

    at_s = 0.0
    for _ in range(count):
        batch = bool(rng.random() < BATCH_SHARE)
        frame = int(rng.choice(frames))
        deadline_s = BATCH_S if batch else float(rng.choice(DEADLINES_S))
        request = InferenceRequest(
            request_id=rng.bytes(16).hex(),
            tenant=one(TENANTS),
            car_id="car-1",
            workload="relabel" if batch else "adjudication",
            tier="batch" if batch else "interactive",
            input_utc_ns=1,
            freshness_s=BATCH_S if batch else 1.0,
            deadline_utc_ns=2,
            data_class=one(CLASSES),  # type: ignore[arg-type]
            jurisdiction=one(COUNTRIES),
        )
        yield Asked(
            at_s=at_s,
            frame=frame,
            deadline_s=deadline_s,
            size_bytes=int(sizes[frame]),
            request=request,
            took_s={},
        )
        at_s += float(rng.exponential(GAP_S))


def measure(trace: list[Asked], busy_s: Mapping[str, float], progress: Told) -> list[Asked]:
    """Send every request to every place, and return the trace with what became of it.

    Interactive requests go to all but the sparse relay, batches to it as well. The places answer
    everything here: what policy makes of each request is decided apart.
    """
    with _clients(busy_s) as (links, addresses):
        return asyncio.run(_measure(trace, links, addresses, progress))


def attempt(busy_s: Mapping[str, float], wrong: list[tuple[str, InferenceRequest]]) -> list[str]:
    """Send requests to places that may not have them; return what each was answered, by name."""
    with running_sites(busy_s, policed=True) as ports:
        return asyncio.run(_attempt(ports, wrong))


@contextmanager
def _clients(busy_s: Mapping[str, float]) -> Iterator[tuple[dict[str, Link], dict[str, str]]]:
    with ExitStack() as stack:
        ports = stack.enter_context(running_sites(busy_s, policed=False))
        links = {}
        for number, place in enumerate(PLACES):
            name = place.site.name
            # a pass of the sparse relay: how long it is waited for is in the contact plan
            profile = replace(PROFILES[place.link], outages=())
            link = Link(profile, ("127.0.0.1", ports[name]), seed=100 + number)
            links[name] = stack.enter_context(link)
        yield links, {name: link.address for name, link in links.items()}


async def _measure(
    trace: list[Asked], links: dict[str, Link], addresses: dict[str, str], progress: Told
) -> list[Asked]:
    clock, found = SystemClock(), []
    clients = {name: AsyncClient(address) for name, address in addresses.items()}
    ground = [links[p.site.name] for p in PLACES if p.link in MASTS]
    cut_from, cut_to = (int(share * len(trace)) for share in CUT)
    for name, client in clients.items():  # connections are open before anything counts
        await _one(client, 1_000, clock, name)
    began_s = clock.mono_ns() * 1e-9
    for number, asked in enumerate(trace):
        progress(number / len(trace))
        if number in (cut_from, cut_to):
            for link in ground:
                link.cut() if number == cut_from else link.mend()
        wait_s = began_s + asked.at_s - clock.mono_ns() * 1e-9
        await asyncio.sleep(max(wait_s, 0.0))
        names = [n for n in clients if n != "relay-sparse" or asked.request.tier == "batch"]
        at_s = clock.mono_ns() * 1e-9 - began_s
        took = await asyncio.gather(*(_one(clients[n], asked.size_bytes, clock, n) for n in names))
        found.append(replace(asked, at_s=at_s, took_s=dict(zip(names, took, strict=True))))
    for client in clients.values():
        await client.close()
    return found


async def _one(client: AsyncClient, size_bytes: int, clock: SystemClock, name: str) -> float:
    """Return how long one answer took, s."""
    wait_s = 30.0 if name == "relay-sparse" else WAIT_S
    now_ns = clock.utc_ns()
    request = InferenceRequest(
        request_id=secrets.token_hex(16),
        tenant="acme",
        car_id="car-1",
        workload="adjudication",
        tier="interactive",
        input_utc_ns=now_ns,
        freshness_s=60.0,
        deadline_utc_ns=now_ns + 60 * 10**9,
        data_class="features",
        jurisdiction="DE",
    )
    inputs = {"frame": np.array([secrets.token_bytes(size_bytes)], dtype=object)}
    began_ns = clock.mono_ns()
    try:
        await client.infer(MODEL, inputs, request, wait_s)
    except UnreachableSiteError:
        return LOST
    except SiteRefusedError as error:
        if error.status == "DEADLINE_EXCEEDED":
            return LOST
        raise
    return (clock.mono_ns() - began_ns) * 1e-9


async def _attempt(ports: dict[str, int], wrong: list[tuple[str, InferenceRequest]]) -> list[str]:
    clock, answers = SystemClock(), []
    clients = {name: AsyncClient(f"127.0.0.1:{port}") for name, port in ports.items()}
    inputs = {"frame": np.array([b"pixels"], dtype=object)}
    for name, asked in wrong:
        now_ns = clock.utc_ns()
        request = replace(
            asked,
            request_id=secrets.token_hex(16),
            input_utc_ns=now_ns,
            deadline_utc_ns=now_ns + 5 * 10**9,
        )
        try:
            await clients[name].infer(MODEL, inputs, request, 5.0)
            answers.append("answered")
        except SiteRefusedError as error:
            answers.append(error.name)
    for client in clients.values():
        await client.close()
    return answers
