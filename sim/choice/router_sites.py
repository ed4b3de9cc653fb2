"""The places that the router's bench may ask: real sites in one process, each behind its own link.

A site's policy, receipts, queue and wire are the real ones. Its network is a stand-in that takes as
long as the measured network takes and says nothing of worth: what the network is worth is measured
apart (sim/choice/router_quality.py), so that eight networks do not fight for two cores.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fleet.inference.oip_tensors import BYTES
from fleet.inference.policy import Policy, Site
from fleet.inference.server import serve_site
from sim.tier.told import telling
from vehicle.contracts.bundle import TensorSpec
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.wire import RefusedError

MODEL: Final = "second-look"
TWICE, TEACHER = "twice", "teacher"
"""Networks that look again: the shipped one, twice; a larger one."""

ANSWER_BYTES: Final = 1_024
"""About what advice with a dozen road users takes."""


class SitesDownError(RefusedError):
    """The process of the sites did not come up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place to ask.

    Args:
        link: profile of the way there (sim/net/link_profiles.py).
        network: of sim/choice/router_quality.py; another one where there is no teacher.
        processor: of fleet/inference/energy.py.
    """

    site: Site
    link: str
    network: str
    processor: str


PLACES: Final = (
    Place(
        site=Site(name="edge-munich", context="edge", jurisdiction="DE"),
        link="5g-sa",
        network=TWICE,
        processor="server-core",
    ),
    Place(
        site=Site(name="plant-acme", context="on-prem", jurisdiction="DE", tenants=("acme",)),
        link="lte",
        network=TWICE,
        processor="server-core",
    ),
    Place(
        site=Site(name="region-frankfurt", context="hyperscale", jurisdiction="DE"),
        link="lte",
        network=TEACHER,
        processor="region-core",
    ),
    Place(
        site=Site(name="region-ohio", context="hyperscale", jurisdiction="US"),
        link="lte",
        network=TEACHER,
        processor="region-core",
    ),
    Place(
        site=Site(name="relay-dense", context="orbital", jurisdiction="FR", landings=("NO", "DE")),
        link="leo-dense",
        network=TWICE,
        processor="orbit-core",
    ),
    Place(
        site=Site(name="relay-sparse", context="orbital", jurisdiction="FR", landings=("NO",)),
        link="leo-sparse",
        network=TEACHER,
        processor="orbit-core",
    ),
)
"""No such site exists; nobody's vehicles use inference in orbit today."""


class StandIn:
    """Takes as long as a network and answers as many bytes."""

    name, version, digest = MODEL, "1", "0" * 64
    inputs = (TensorSpec(name="frame", shape=(1,), dtype=BYTES),)
    outputs = (TensorSpec(name="answer", shape=(1,), dtype=BYTES),)

    def __init__(self, busy_s: float) -> None:
        self._busy_s = busy_s

    async def infer(
        self, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
    ) -> Mapping[str, np.ndarray]:
        """Wait, and answer nothing."""
        await asyncio.sleep(self._busy_s)
        return {"answer": np.array([bytes(ANSWER_BYTES)], dtype=object)}

    def expected_us(self) -> int:
        """Return how long it takes."""
        return int(self._busy_s * 1e6)


@contextmanager
def running_sites(busy_s: Mapping[str, float], *, policed: bool) -> Iterator[dict[str, int]]:
    """Keep all places open in a process of its own; yield the gRPC port of each by name.

    Args:
        busy_s: of each place's network, by name of the place.
        policed: with the policies that ship; without, they answer everything.
    """
    asked = json.dumps({"busy_s": dict(busy_s), "policed": policed})
    words = [sys.executable, "-m", "sim.choice.router_sites", asked]
    environment = {**os.environ, "GRPC_VERBOSITY": "NONE", "OMP_NUM_THREADS": "1"}
    with telling(
        words,
        lambda code: SitesDownError(f"the sites did not come up (exit {code})"),
        environment=environment,
        folder=Path(__file__).parents[2],
    ) as (_, line):
        yield json.loads(line)


async def _serve(busy_s: Mapping[str, float], policed: bool) -> None:
    policy, ports = Policy.default() if policed else None, {}
    async with AsyncExitStack() as stack:
        for place in PLACES:
            model = StandIn(busy_s[place.site.name])
            served = await stack.enter_async_context(
                serve_site([model], site=place.site, policy=policy, at_once=64)
            )
            ports[place.site.name] = served.grpc_port
        print(json.dumps(ports), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(**json.loads(sys.argv[1])))
