"""The verbs of `roadloop fleet infer hyperscale`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fleet.inference.options import (
    JsonOption,
    JurisdictionOption,
    NamesOption,
    PlainOption,
    PolicyOption,
    ReceiptsOption,
    TenantsOption,
    UndeclaredOption,
    UrlFileOption,
)

hyperscale_app = typer.Typer(
    no_args_is_help=True,
    help="A site whose networks run on a cluster: Ray Serve behind the same protocol.",
)


@hyperscale_app.command()
def serve(
    bundle: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Networks that stand in for each other, quickest first; default: what ships."
        ),
    ] = None,
    replicas: Annotated[
        str, typer.Option(help="Fewest:most processes; more come with the load.")
    ] = "1:1",
    busy: Annotated[
        float, typer.Option(help="Requests in each replica from which on more replicas come.")
    ] = 2.0,
    loaded: Annotated[int, typer.Option(help="Networks a replica keeps in memory.")] = 2,
    batch: Annotated[int, typer.Option(help="Requests gathered into one run; 1: none.")] = 1,
    site: Annotated[str, typer.Option(help="Name of the site.")] = "hyperscale-1",
    jurisdiction: JurisdictionOption = "DE",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(help="Port of gRPC; 0 takes a free one.")] = 8811,
    http_port: Annotated[int, typer.Option(help="Port of HTTP; 0 takes a free one.")] = 8812,
    name: NamesOption = None,
    tenants: TenantsOption = None,
    policy: PolicyOption = None,
    receipts: ReceiptsOption = None,
    undeclared: UndeclaredOption = False,
    plain: PlainOption = False,
    url_file: UrlFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open a site before a cluster of this machine: gRPC and HTTP, as at `infer serve`.

    It answers two models: `perceive` (what the networks say of a frame) and `adjudicate` (what a
    car misses in it, as advice). Each request is answered by the best network that is done by its
    deadline. Starting takes a quarter of a minute and a gigabyte of memory. Ctrl-C closes it.
    """
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # handshakes that fail are the others' business
    from fleet.inference.hyperscale import Plan
    from fleet.inference.hyperscale_door import open_hyperscale
    from fleet.inference.opening import Opening
    from fleet.inference.policy import Site
    from fleet.inference.tenants import read_tenants
    from vehicle.bundles import base_folder
    from vehicle.contracts.home import Home

    plan = Plan(
        bundles=tuple(str(b.absolute()) for b in bundle or [base_folder()]),
        tenants=read_tenants(tenants) if tenants else (),
        replicas=_range(replicas),
        busy=busy,
        loaded=loaded,
        batch=batch,
        site=site,
        jurisdiction=jurisdiction,
    )
    opening = Opening(
        site=Site(
            name=site, context="hyperscale", jurisdiction=jurisdiction, undeclared=undeclared
        ),
        policies=policy,
        receipts=receipts,
        tenants=tenants,
        plain=plain,
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        names=name or [],
        url_file=url_file,
        at_once=plan.replicas[1] * plan.batch,
    )
    counts = open_hyperscale(plan, opening, Home.here())
    if as_json:
        print(json.dumps(counts))
        return
    print(f"answered {sum(counts['answered'].values())}, hung up on by {counts['gone']}")
    for what, times in counts["refused"].items():
        print(f"refused {what}: {times}")


def _range(text: str) -> tuple[int, int]:
    low, colon, high = text.partition(":")
    if not low.isdigit() or not (high.isdigit() if colon else True):
        raise typer.BadParameter(f"{text!r}, expected FEWEST:MOST, e.g. 1:4", param_hint="replicas")
    return int(low), int(high or low)
