"""What a sealed site may send on: a model of another site, asked only with data that may leave.

Policy decides for each request (action egress), the seal opens its one door for that request alone,
and everything else stays refused and counted.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from fleet.inference.egress import Guard
from fleet.inference.oip_model import Model
from fleet.inference.policy import ALLOWED, Decision, Policy, Site
from fleet.inference.remote import client, discover
from vehicle.clock import Clock
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.wire import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """One model elsewhere.

    Args:
        model: its name there and here.
        site: as policy sees it.
        address: numeric host, and port of its HTTP door: a sealed site looks up no names.
    """

    model: str
    site: Site
    address: tuple[str, int]


def beyond_of(text: str) -> Beyond:
    """Return what MODEL=NAME@HOST:PORT,JURISDICTION names.

    Raises:
        ContractError: it names none.
    """
    model, _, rest = text.partition("=")
    name, _, where = rest.partition("@")
    address, _, jurisdiction = where.rpartition(",")
    host, _, port = address.rpartition(":")
    whole = bool(model and name and host) and port.isdecimal()
    require(whole, f"{text!r} is not MODEL=NAME@HOST:PORT,JURISDICTION")
    site = Site(name=name, context="hyperscale", jurisdiction=jurisdiction)
    return Beyond(model=model, site=site, address=(host, int(port)))


class Forwarded:
    """A model that answers elsewhere, for what may leave."""

    def __init__(
        self, model: Model, beyond: Beyond, *, home: Site, policy: Policy, guard: Guard
    ) -> None:
        self.name, self.version, self.digest = model.name, model.version, model.digest
        self.inputs, self.outputs = model.inputs, model.outputs
        self._model, self._beyond = model, beyond
        self._home, self._policy, self._guard = home, policy, guard

    async def infer(
        self, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
    ) -> Mapping[str, np.ndarray]:
        """Return the other site's outputs.

        Raises:
            EgressRefusedError: policy does not let this data leave.
            SiteRefusalError: under the other site's own name of it.
        """
        decision = self._policy.egress(request, self._home, self._beyond.site)
        with self._guard.through(decision):
            return await self._model.infer(inputs, request)

    def expected_us(self) -> int:
        """Return how long the next answer will take, us."""
        return self._model.expected_us()


@asynccontextmanager
async def forwarded(
    beyond: Beyond, *, home: Site, policy: Policy, guard: Guard, clock: Clock
) -> AsyncIterator[Forwarded]:
    """Keep the way to a model elsewhere for the length of a block.

    Raises:
        ClusterDownError: it is not there, or has no such model.
    """
    nothing = Decision(allowed=True, name=ALLOWED, reasons=(), digest=policy.digest)
    async with client("http://{}:{}".format(*beyond.address)) as http:
        with guard.through(nothing):  # what the model looks like: nobody's data
            found = await discover(http, {beyond.model: ""}, clock)
        yield Forwarded(found[0], beyond, home=home, policy=policy, guard=guard)
