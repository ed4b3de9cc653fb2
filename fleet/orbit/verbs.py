"""The verbs of `roadloop fleet orbit`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.inference.options import JsonOption
from fleet.orbit import question_verbs
from fleet.orbit.options import DoorOption, PlanOption

orbit_app = typer.Typer(
    no_args_is_help=True,
    help="The relay by orbit: contact plans, routes, and nodes that store, carry and forward.",
)

question_verbs.add(orbit_app)

START = "2026-01-01T00:00:00"


@orbit_app.command()
def plan(
    out: Annotated[Path, typer.Option(help="Write the plan here.")] = Path("plan.json"),
    constellation: Annotated[
        str, typer.Option(help="sparse, dense, or a TOML file that declares another.")
    ] = "sparse",
    start: Annotated[str, typer.Option(help="UTC, ISO 8601.")] = START,
    hours: Annotated[float, typer.Option(help="How long the plan is.", min=0.1, max=240.0)] = 24.0,
    as_json: JsonOption = False,
) -> None:
    """Find every contact of a declared constellation, and say how well each site is covered.

    Orbits by SGP4 from declared elements: nobody's real satellites.
    """
    from dataclasses import asdict

    from fleet.orbit.constellation import Declaration
    from fleet.orbit.contacts import coverage, make_plan, passes
    from vehicle.contracts import wire

    declared, start_ns = Declaration.read(constellation), _utc_ns(start)
    made = make_plan(declared, start_ns, hours)
    wire.atomic_write(out.absolute(), wire.to_bytes(made))
    seen = passes(declared.shell, declared.sites, start_ns, hours)
    rows = [coverage(site, seen[site.name], hours) for site in declared.sites]
    if as_json:
        facts = {"plan": str(out), "contacts": len(made.contacts), "nodes": len(made.nodes)}
        print(json.dumps(facts | {"coverage": [asdict(row) for row in rows]}))
        return
    from rich.console import Console
    from rich.table import Table

    headings = ("site", "mask", "covered", "longest gap", "mean pass", "passes", "nearest")
    table = Table(*headings, title=f"{out}: {len(made.contacts):,} contacts in {hours:g} h")
    for row in rows:
        table.add_row(
            row.site,
            f"{row.mask_deg:.0f}°",
            f"{row.covered_ratio:.1%}",
            f"{row.longest_gap_s / 60:.0f} min",
            f"{row.mean_pass_s:.0f} s",
            str(row.passes),
            f"{row.nearest_light_ms:.1f} ms",
        )
    Console().print(table)


@orbit_app.command()
def route(
    source: Annotated[str, typer.Argument(help="Node that has the bundle, e.g. ground-us.")],
    target: Annotated[str, typer.Argument(help="Node that it is for, e.g. car-1.")],
    plan: PlanOption = Path("plan.json"),
    size: Annotated[int, typer.Option(help="Bytes.", min=1)] = 1_000_000,
    at: Annotated[str, typer.Option(help="UTC, ISO 8601; default: the plan's start.")] = "",
    lifetime_h: Annotated[float, typer.Option(help="Hours until it is of no use.")] = 24.0,
    lands_in: Annotated[
        list[str] | None, typer.Option(help="Country it may land in (ISO 3166); repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show by which contacts a bundle arrives first, or that it does not arrive (exit code 1)."""
    from fleet.orbit.plan import ContactPlan
    from fleet.orbit.routing import NoRouteError, Router, Wish

    contacts = ContactPlan.read(plan)
    ready = _utc_ns(at) if at else contacts.start_utc_ns
    wish = Wish(
        source=source,
        target=target,
        ready_utc_ns=ready,
        size_bytes=size,
        expires_utc_ns=ready + int(lifetime_h * 3_600e9),
        lands_in=tuple(lands_in or ()),
    )
    router = Router(contacts)
    found = router.route(wish)
    if found is None:
        piece = router.fitting(wish)
        hint = f"; a piece of {piece[1]:,} bytes would" if piece else ""
        raise NoRouteError(f"{size:,} bytes from {source} do not reach {target} in time{hint}")
    legs = [
        {
            "from": leg.contact.source,
            "to": leg.contact.target,
            "begin": _text(leg.begin_utc_ns),
            "arrive": _text(leg.arrive_utc_ns),
            "rate_bps": leg.contact.rate_bps,
        }
        for leg in found.legs
    ]
    if as_json:
        after_s = (found.arrive_utc_ns - ready) / 1e9
        print(json.dumps({"arrive": _text(found.arrive_utc_ns), "after_s": after_s, "legs": legs}))
        return
    for leg in legs:
        print(f"{leg['begin']}  {leg['from']} -> {leg['to']}  arrives {leg['arrive']}")
    print(f"after {(found.arrive_utc_ns - ready) / 60e9:.1f} min")


@orbit_app.command()
def node(
    config: Annotated[Path, typer.Argument(help="JSON file of the node (schema orbitnode/1).")],
    ready_file: Annotated[
        Path | None, typer.Option(help="Write a line here once the node is open.")
    ] = None,
) -> None:
    """Run one node: take bundles, keep them, hand them on. Ctrl-C ends it; kill -9 loses nothing.

    Other nodes come over TCPCLv4, applications over the AAP 2.0 door.
    """
    import asyncio
    import contextlib
    import signal

    from fleet.orbit.node import Node
    from fleet.orbit.node_config import NodeConfig
    from vehicle.contracts import wire

    async def serve() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        opened = Node(NodeConfig.read(config))
        with contextlib.suppress(asyncio.CancelledError):
            await opened.run(
                lambda: wire.atomic_write(ready_file.absolute(), b"open\n") if ready_file else None
            )

    asyncio.run(serve())


@orbit_app.command()
def status(
    config: Annotated[Path, typer.Argument(help="JSON file of the node (schema orbitnode/1).")],
    as_json: JsonOption = False,
) -> None:
    """Show what a node holds and what it has counted, whether it runs or not."""
    from fleet.orbit.node_config import NodeConfig
    from fleet.orbit.store import Store

    told = NodeConfig.read(config)
    store = Store.peek(Path(told.store))
    states = ("forward", "gather", "deliver")
    held = {state: len(store.held(state)) for state in states}  # type: ignore[arg-type]
    counts = store.counts()
    if as_json:
        print(json.dumps({"node": told.name, "held": held, "counts": counts}))
        return
    print(f"{told.name}: " + ", ".join(f"{n} to {state}" for state, n in held.items()))
    for name, n in counts.items():
        print(f"{n:8,}  {name}")


@orbit_app.command()
def send(
    target: Annotated[str, typer.Argument(help="Endpoint that it is for, e.g. ipn:3.1.")],
    file: Annotated[Path, typer.Argument(help="What to send.", exists=True, dir_okay=False)],
    door: DoorOption = "127.0.0.1:4243",
    service: Annotated[int, typer.Option(help="Service to send as.", min=1)] = 10,
    lifetime_h: Annotated[float, typer.Option(help="Hours until it is of no use.")] = 24.0,
    priority: Annotated[int, typer.Option(help="0 bulk, 1 normal, 2 urgent.", min=0, max=2)] = 1,
    lands_in: Annotated[
        list[str] | None, typer.Option(help="Country it may land in (ISO 3166); repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hand a file to a node to send; once this returns, the node has it for good."""
    from fleet.orbit.agent import Agent

    with Agent(door, service) as agent:
        name = agent.send(
            target,
            file.read_bytes(),
            lifetime_s=lifetime_h * 3_600.0,
            priority=priority,
            lands_in=tuple(lands_in or ()),
        )
    if as_json:
        print(json.dumps({"bundle": name, "bytes": file.stat().st_size}))
    else:
        print(f"{agent.node_id} keeps {name}, {file.stat().st_size:,} bytes for {target}")


@orbit_app.command()
def parcel(
    out: Annotated[Path, typer.Option(help="Write the tar here.")] = Path("release.tar"),
    rig: Annotated[
        str, typer.Option(help="Rig digest of the cars; default: that of the newest release.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Put the newest signed release, and all that proves it, into one tar for cars out of reach.

    By orbit: `roadloop fleet orbit send ipn:CAR.2 release.tar`. On a stick: `roadloop vehicle
    install CAR --parcel release.tar`. Nothing is signed here; it is good for a week.
    """
    from fleet.orbit.releases import NothingToSendError, release_parcel
    from fleet.sign import Repository
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    repository = Repository(Home.here())
    released = repository.releases()
    if not released:
        raise NothingToSendError("nothing is released yet; see `roadloop fleet publish --help`")
    data = release_parcel(repository, rig or released[-1].rig_digest)
    wire.atomic_write(out.absolute(), data)
    if as_json:
        print(json.dumps({"parcel": str(out), "bytes": len(data), "sha256": wire.digest(data)}))
    else:
        print(f"{out}: {len(data):,} bytes")


@orbit_app.command()
def desk(
    plan: PlanOption = Path("plan.json"),
    door: Annotated[
        str, typer.Option(help="Door of home's node: path of a socket, or HOST:PORT.")
    ] = "127.0.0.1:4243",
    until: Annotated[int, typer.Option(help="End after so many bundles; 0: Ctrl-C does.")] = 0,
) -> None:
    """Land clips that come by orbit in this home, as the gateway lands them. Ctrl-C ends it.

    A clip must be signed by the node of the car that made it, and the car must be enrolled.
    """
    import asyncio
    import contextlib
    import time

    from fleet.orbit.desks import Clerk, ClipDesk
    from fleet.orbit.plan import ContactPlan
    from fleet.orbit.services import CLIPS
    from vehicle.contracts.home import Home

    cars = {n.number: n.name for n in ContactPlan.read(plan).nodes if n.kind == "vehicle"}
    landing = ClipDesk(Home.here(), cars)
    clerk = Clerk(door, CLIPS, landing.take, asyncio.run)
    with contextlib.suppress(KeyboardInterrupt):
        while not until or len(clerk.taken) < until:
            time.sleep(0.05)
    clerk.close()
    for reason in clerk.refused:
        print(f"refused: {reason}")
    print(f"{len(landing.landed)} clips have landed, {landing.again} had before")


def _utc_ns(text: str) -> int:
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time: {error}") from error
    return int(when.replace(tzinfo=when.tzinfo or UTC).timestamp()) * 10**9


def _text(utc_ns: int) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(utc_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
