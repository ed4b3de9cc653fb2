"""Verbs of `roadloop fleet infer` that ask nobody: chips, why a request goes where, receipts."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.inference.options import JsonOption, PolicyOption

receipts_app = typer.Typer(
    no_args_is_help=True, help="What sites decided and did, in chains that show every change."
)


def add(app: typer.Typer) -> None:
    """Hang these verbs on the command of inference."""
    app.command()(chips)
    app.command()(route)
    app.command()(front)
    app.add_typer(receipts_app, name="receipts")


def chips(as_json: JsonOption = False) -> None:
    """Show silicon that inference runs on: throughput per watt, bandwidth, precisions, context.

    Published figures, each with its source (--json prints them); ? is unknown. Context: tokens of
    an 8 G parameter model that fit beside its weights.
    """
    from fleet.inference.chips import chips as table
    from vehicle.contracts import wire

    found = table()
    if as_json:
        rows = [
            {
                **wire.to_plain(c),
                "tops_per_watt": c.tops_per_watt,
                "context_tokens": c.context_tokens,
            }
            for c in found
        ]
        print(json.dumps({"chips": rows}))
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table(
        "context", "chip", "peak tera-operations/s", "W", "per W", "GB/s", "GB", "context"
    )
    for chip in found:
        best = chip.tops_per_watt
        shown.add_row(
            chip.context,
            chip.name,
            ", ".join(f"{p} {c.value:g}" for p, c in chip.tops.items()) or "?",
            f"{chip.watts.value:g}" if chip.watts else "?",
            f"{best[1]:.2f} {best[0]}" if best else "?",
            f"{chip.bandwidth_gbps.value:,g}" if chip.bandwidth_gbps else "?",
            f"{chip.memory_gb.value:g}" if chip.memory_gb else "?",
            f"{chip.context_tokens:,}" if chip.context_tokens is not None else "?",
        )
    Console().print(shown)


def route(
    data_class: Annotated[
        str, typer.Option(help="What it is: features, anonymised, pixels, personal.")
    ] = "pixels",
    jurisdiction: Annotated[str, typer.Option(help="Whose law it stands under.")] = "DE",
    tenant: Annotated[str, typer.Option(help="Whose fleet asks.")] = "home",
    tier: Annotated[str, typer.Option(help="Latency tier it belongs to.")] = "interactive",
    deadline_ms: Annotated[float, typer.Option(help="From now, ms.")] = 200.0,
    size_bytes: Annotated[int, typer.Option("--bytes", help="To be sent.")] = 52_000,
    most_joules: Annotated[float, typer.Option(help="Most energy, J; 0: no limit.")] = 0.0,
    most_bytes: Annotated[int, typer.Option(help="Most bytes both ways; 0: no limit.")] = 0,
    p_on_time: Annotated[float, typer.Option(help="Least chance of being in time.")] = 0.9,
    per_joule: Annotated[float, typer.Option(help="Worth of a joule, in quality.")] = 1e-4,
    per_gram: Annotated[float, typer.Option(help="Worth of a gram of CO2, in quality.")] = 0.0,
    sites: Annotated[
        Path | None, typer.Option(help="TOML of sites and links; default: an example.")
    ] = None,
    policy: PolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain where a request would go, and why nowhere else. Joules are modelled."""
    from datetime import UTC, datetime

    from fleet.inference.carbon import synthetic
    from fleet.inference.explaining import Question, explain
    from fleet.inference.policy import Policy
    from fleet.inference.router import NS, Weights
    from vehicle.clock import SystemClock

    clock = SystemClock()
    rules = Policy.from_folder(policy) if policy else Policy.default()
    choice, offers = explain(
        Question(
            data_class=data_class,  # type: ignore[arg-type]
            jurisdiction=jurisdiction,
            tenant=tenant,
            tier=tier,  # type: ignore[arg-type]
            deadline_s=deadline_ms / 1e3,
            size_bytes=size_bytes,
            joules=most_joules,
            budget_bytes=most_bytes,
        ),
        sites=sites,
        policy=rules,
        weights=Weights(p_on_time=p_on_time, per_joule=per_joule, per_gram=per_gram),
        carbon=synthetic(datetime.fromtimestamp(clock.utc_ns() / NS, UTC), hours=26),
        clock=clock,
    )
    if as_json:
        facts: dict[str, Any] = {
            "context": choice.context,
            "site": choice.offer.site.name if choice.offer else None,
            "p_on_time": round(choice.p_on_time, 4),
            "worth": round(choice.worth, 5),
            "why": choice.why,
            "others": dict(choice.others),
            "joules": {o.site.name: round(o.joules, 3) for o in offers},
            "joules_source": "modelled",
            "policy": rules.digest,
        }
        print(json.dumps(facts))
        return
    print(f"{choice.context}: {choice.why}")
    for name, why in choice.others.items():
        print(f"  not {name}: {why}")


def front(
    region: Annotated[
        list[str] | None,
        typer.Argument(help="NAME=HOST:PORT,JURISDICTION of a region's door; two or more."),
    ] = None,
    sites: Annotated[
        Path | None,
        typer.Option(help="TOML of sites, with addresses, and links: the router chooses."),
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(help="A car's identity folder; default: no certificate.")
    ] = None,
    policy: PolicyOption = None,
    http: Annotated[
        bool, typer.Option(help="Doors are HTTP, here and there, streams included; else gRPC.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port here; 0 takes a free one.")] = 8810,
    socket: Annotated[
        Path | None,
        typer.Option(help="Be a socket of this path for a car of this user (HTTP); no port."),
    ] = None,
    url_file: Annotated[
        Path | None, typer.Option(help="Write HOST:PORT here once the front is open.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask several regions as one, on this machine. Ctrl-C closes it, and says what became of all.

    A request goes to a region that policy allows; when that one fails or is slow, another is asked
    within deadline and byte budget. Nothing is answered twice. With --sites a request goes where it
    is worth most, or nowhere (StayLocalError). A car asks it with --offboard unix:PATH.
    """
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # regions that are down are expected
    from fleet.inference.client import ClientTls
    from fleet.inference.front import place_of
    from fleet.inference.front_opening import open_front, routed_places
    from fleet.inference.policy import Policy
    from vehicle.contracts.wire import require

    require(bool(region) != bool(sites), "either regions or --sites FILE, expected one of them")
    require(
        not socket or identity is not None,
        "--socket needs --identity: a car believes what "
        "comes by it, so places must show who they are",
    )
    tls = ClientTls.of_identity(identity) if identity else None
    rules = Policy.from_folder(policy) if policy else Policy.default()
    places, router = [place_of(text, tls) for text in region or ()], None
    if sites:
        places, router = routed_places(sites, tls)
    counts = open_front(
        places,
        policy=rules,
        router=router,
        port=port,
        socket=socket,
        url_file=url_file,
        http=http,
    )
    if as_json:
        print(json.dumps(counts))
        return
    for what, times in counts["requests"].items():
        print(f"{what}: {times}")
    for name, found in counts["regions"].items():
        print(f"  {name}: " + ", ".join(f"{what} {times}" for what, times in found.items()))


@receipts_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Chain of receipts of a site.")],
    holds: Annotated[
        list[str] | None,
        typer.Option(help="Digest of a receipt that a car was given; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read a chain whole: exit code 1, and the line, when it was changed.

    A chain that was cut at its end or written anew holds together by itself; what cars were given
    with their answers (--holds) shows that too.
    """
    from fleet.inference.receipts import check as read
    from vehicle.contracts import wire

    chain = read(file, holds or [])
    if as_json:
        print(json.dumps({**wire.to_plain(chain), "witnesses": len(holds or [])}))
        return
    print(f"{chain.count} receipts hold, the last is {chain.head}")
    for decision, count in sorted(chain.decisions.items()):
        print(f"  {decision}: {count}")
    if chain.torn_bytes:
        print(f"  after them {chain.torn_bytes} bytes of one that a crash cut; nobody was given it")
