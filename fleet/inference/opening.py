"""A site as a process of its own: what it serves and to whom, until ctrl-C or SIGTERM."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fleet.inference import collective
from fleet.inference.egress import Guard, seal
from fleet.inference.energy import PROCESSORS
from fleet.inference.forward import Beyond, beyond_of, forwarded
from fleet.inference.oip_model import EngineModel, Model
from fleet.inference.policy import Policy, Site
from fleet.inference.receipts import Receipts
from fleet.inference.server import Served, SiteTls, serve_site
from fleet.inference.tenants import Tenant, read_tenants
from vehicle import bundles
from vehicle.clock import Clock, SystemClock
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError

CORES: Final = {"hyperscale": PROCESSORS["region-core"]}
"""What the processor of a site is taken for, by context; a server's where none is named. A link's
joules are for whoever asks to reckon."""

HOME_TENANT: Final = "fleet"
"""Tenant whose cars this home enrolled, where no file names others."""


class OnPremError(RefusedError):
    """On premises nothing may be left out: certificates, receipts, no way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a site is opened.

    Args:
        site: what it is, as policy sees it.
        folders: bundles whose networks it serves; none: the one that ships.
        collective: serves collective perception too.
        policies: folder of Cedar policies; None: the ones that ship.
        receipts: file of the chain; None: none is kept.
        tenants: TOML file; None: the cars that this home enrolled, as tenant HOME_TENANT.
        plain: without TLS, for this machine alone.
        host, grpc_port, http_port: where to listen; port 0 takes a free one.
        names: by which cars reach it, beside those of this machine.
        url_file: the addresses are written here, as JSON, once the site is open.
        forward: MODEL=NAME@HOST:PORT,JURISDICTION: asked elsewhere with data that may leave; ""
            for none. On premises only.
    """

    site: Site
    folders: Sequence[Path] = ()
    collective: bool = True
    policies: Path | None = None
    receipts: Path | None = None
    tenants: Path | None = None
    plain: bool = False
    host: str = "127.0.0.1"
    grpc_port: int = 0
    http_port: int = 0
    names: Sequence[str] = ()
    url_file: Path | None = None
    threads: int = 1
    at_once: int = 1
    forward: str = ""


Behind = Callable[[], AbstractAsyncContextManager[Sequence[Model]]]
"""Opens what answers behind a site, for as long as the site is open."""


def open_site(opening: Opening, home: Home, behind: Behind | None = None) -> dict[str, Any]:
    """Serve until told to stop; return what was answered and refused.

    Args:
        behind: what answers; None: the networks of `opening.folders`, in this process.
    Raises:
        OnPremError: context on-prem, without certificates or receipts.
        RefusedError: as named by bundles, policies, tenants, receipts, ports.
    """
    guard, beyond = None, beyond_of(opening.forward) if opening.forward else None
    if opening.site.context == "on-prem":
        if opening.plain or opening.receipts is None:
            lacking = "certificates (without --plain)" if opening.plain else "--receipts FILE"
            raise OnPremError(f"a site on premises needs {lacking}")
        guard = seal([beyond.address] if beyond else [])
    elif beyond:
        raise OnPremError("only a site on premises is sealed, and forwards through the seal")
    counts = asyncio.run(_live(opening, home, behind, guard, beyond))
    if guard is None:
        return counts
    return {**counts, "egress_refused": dict(guard.refused), "egress_kernel": guard.kernel}


async def _live(
    opening: Opening,
    home: Home,
    behind: Behind | None,
    guard: Guard | None,
    beyond: Beyond | None,
) -> dict[str, Any]:
    clock, ended = SystemClock(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    core = CORES.get(opening.site.context, PROCESSORS["server-core"])
    policy = Policy.from_folder(opening.policies) if opening.policies else Policy.default()
    tls, tenants = (None, ()) if opening.plain else trust(opening, home)
    async with contextlib.AsyncExitStack() as stack:
        receipts = None
        if opening.receipts is not None:
            made = Receipts(opening.receipts, site=opening.site.name, clock=clock)
            receipts = stack.enter_context(made)
        models = (
            await stack.enter_async_context(behind()) if behind else _models(opening, stack, clock)
        )
        if guard and beyond:
            way = forwarded(beyond, home=opening.site, policy=policy, guard=guard, clock=clock)
            models = [*models, await stack.enter_async_context(way)]
        async with serve_site(
            models,
            site=opening.site,
            policy=policy,
            tenants=tenants,
            receipts=receipts,
            joules=lambda us, _: core.joules(us * 1e-6 * opening.threads),
            tls=tls,
            host=opening.host,
            grpc_port=opening.grpc_port,
            http_port=opening.http_port,
            at_once=opening.at_once,
            clock=clock,
        ) as served:
            _tell(opening, served, models)
            await ended.wait()
            if opening.url_file is not None:
                opening.url_file.unlink(missing_ok=True)
        return served.stats.plain()


def _models(opening: Opening, stack: contextlib.AsyncExitStack, clock: Clock) -> Sequence[Model]:
    models: list[Model] = []
    for folder in opening.folders or (bundles.base_folder(),):
        model = EngineModel(folder, opening.threads)
        stack.callback(model.close)
        models.append(model)
    if opening.collective:
        models.extend(collective.models(opening.site, clock))
    return models


def trust(opening: Opening, home: Home) -> tuple[SiteTls, tuple[Tenant, ...]]:
    """Return what the site shows, and the tenants that it believes."""
    own = SiteTls.of_home(home, (opening.host, *opening.names))
    if opening.tenants is None:
        tenant = Tenant(name=HOME_TENANT, authority=str(own.authorities), home=str(home.root))
        return own, (tenant,)
    tenants = read_tenants(opening.tenants)
    authorities = home.fleet / "inference" / f"{opening.site.name}.authorities.pem"
    pem = b"".join(Path(t.authority).read_bytes() for t in tenants if t.authority)
    wire.atomic_write(authorities, pem)
    tls = SiteTls(certificate=own.certificate, key=own.key, authorities=authorities)
    return tls, tenants


def _tell(opening: Opening, served: Served, models: Sequence[Model]) -> None:
    """Say where the site is, once it can be reached."""
    host = f"[{opening.host}]" if ":" in opening.host else opening.host
    scheme = "http" if opening.plain else "https"
    grpc, http = f"{host}:{served.grpc_port}", f"{scheme}://{host}:{served.http_port}"
    if opening.url_file is not None:
        addresses = {"grpc": grpc, "http": http, "site": opening.site.name}
        wire.atomic_write(opening.url_file, wire.canonical(addresses) + b"\n")
    served_names = ", ".join(f"{m.name}@{m.version}" for m in models)
    print(
        f"site {opening.site.name} ({opening.site.context}) serves {served_names}: gRPC {grpc}, "
        f"HTTP {http} (ctrl-C stops it)",
        flush=True,
    )
