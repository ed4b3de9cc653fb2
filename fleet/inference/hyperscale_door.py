"""A site before a cluster: certificates, policy, tenants and receipts here, the work behind.

What a car meets is the same site as at the edge; only what answers is another. The cluster listens
on this machine alone.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fleet.inference.hyperscale import MODELS, Plan, cluster
from fleet.inference.oip_model import Model
from fleet.inference.opening import Opening, open_site
from fleet.inference.remote import client, discover
from vehicle import bundles
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.home import Home


def open_hyperscale(plan: Plan, opening: Opening, home: Home) -> dict[str, Any]:
    """Start a cluster, serve until told to stop, stop both; return what was answered and refused.

    Raises:
        RefusedError: as named by bundles, policies, tenants, receipts, ports.
    """
    digest = digest_of(plan)
    with cluster(plan) as url:

        @asynccontextmanager
        async def behind() -> AsyncIterator[Sequence[Model]]:
            async with client(url) as http:
                yield await discover(http, dict.fromkeys(MODELS, digest), SystemClock())

        return open_site(opening, home, behind)


def digest_of(plan: Plan) -> str:
    """Return the sha256 of all networks that may answer."""
    return wire.digest("\n".join(bundles.digest_of(Path(b)) for b in plan.bundles).encode())
