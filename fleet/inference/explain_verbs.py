"""The verbs of `roadloop fleet infer explain`: why the car decided so, asked and answered."""

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

explain_app = typer.Typer(
    no_args_is_help=True,
    help="Why the car decided so: an explainer behind OpenAI's chat protocol, and asking it.",
)

Folder = Annotated[
    Path | None,
    typer.Option("--explainer", help="Its folder; default: ROADLOOP_HOME/models/explainer."),
]


@explain_app.command()
def serve(
    explainer: Folder = None,
    context: Annotated[
        str, typer.Option(help="What kind of place: edge, on-prem or hyperscale.")
    ] = "edge",
    site: Annotated[str, typer.Option(help="Name of the site.")] = "explain-1",
    jurisdiction: JurisdictionOption = "DE",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8803,
    name: NamesOption = None,
    tenants: TenantsOption = None,
    policy: PolicyOption = None,
    receipts: ReceiptsOption = None,
    undeclared: UndeclaredOption = False,
    plain: PlainOption = False,
    slots: Annotated[int, typer.Option(min=1, help="Answers under way at once.")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="Of the network's runtime.")] = 1,
    url_file: UrlFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open a site that explains decisions, streamed, to any client of OpenAI's chat protocol.

    The one message of the user is a decision record as JSON. Numbers and road users are only
    copied from it; where the explainer sees another decision coming than the one that was
    actuated, the answer is "no explanation". Ctrl-C closes it.

    Example: roadloop fleet infer explain serve --plain --undeclared
    """
    from typing import get_args

    from fleet.inference.explain_opening import open_explain
    from fleet.inference.opening import Opening
    from fleet.inference.policy import Site
    from vehicle.contracts.home import Home
    from vehicle.contracts.inference import Context

    if context not in ("edge", "on-prem", "hyperscale"):
        raise typer.BadParameter(f"{context!r}, expected edge, on-prem or hyperscale")
    home = Home.here()
    opening = Opening(
        site=Site(
            name=site,
            context=next(c for c in get_args(Context) if c == context),
            jurisdiction=jurisdiction,
            undeclared=undeclared,
        ),
        policies=policy,
        receipts=receipts,
        tenants=tenants,
        plain=plain,
        host=host,
        http_port=port,
        names=name or [],
        url_file=url_file,
        threads=threads,
    )
    counts = open_explain(opening, explainer or home.models / "explainer", home, slots)
    if as_json:
        print(json.dumps(counts))
        return
    print(f"answered {sum(counts['answered'].values())}, hung up on by {counts['gone']}")
    for what, times in counts["refused"].items():
        print(f"refused {what}: {times}")


@explain_app.command()
def ask(
    url: Annotated[str, typer.Argument(help="Address of the site, e.g. http://127.0.0.1:8803.")],
    records: Annotated[Path, typer.Argument(help="File of decision records, one a line.")],
    line: Annotated[int, typer.Option(min=1, help="Which of them.")] = 1,
    model: Annotated[str, typer.Option(help="Explainer to ask, by name.")] = "explainer",
    identity: Annotated[
        Path | None, typer.Option(help="A car's identity folder; default: no certificate.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose fleet asks.")] = "fleet",
    car: Annotated[str, typer.Option(help="Which car, where no certificate says.")] = "car-1",
    deadline_ms: Annotated[int, typer.Option(min=1, help="From now, ms.")] = 5_000,
    as_json: JsonOption = False,
) -> None:
    """Ask why the car decided so, and print the answer as it comes. Exit code 1: refused.

    Example: roadloop fleet infer explain ask http://127.0.0.1:8803 run/why.jsonl --line 12
    """
    import asyncio

    from fleet.inference.asking import make_request
    from fleet.inference.client import ClientTls
    from fleet.inference.explain_client import ExplainClient
    from vehicle.clock import SystemClock
    from vehicle.contracts import wire
    from vehicle.contracts.decision import read_records

    found = read_records(records)
    if line > len(found):
        raise typer.BadParameter(f"{records} has {len(found)} records", param_hint="--line")
    tls = ClientTls.of_identity(identity) if identity else None
    clock = SystemClock()

    async def listen() -> dict[str, object]:
        async with ExplainClient(url, model=model, tls=tls) as client:
            request = make_request(
                clock,
                tenant=tenant,
                car_id=tls.common_name if tls else car,
                lasts_ms=deadline_ms,
                workload="explanation",
                tier="conversational",
            )
            began_ns, first_ms, text = clock.mono_ns(), 0.0, ""
            async for piece in client.explain(found[line - 1], request):
                first_ms = first_ms or (clock.mono_ns() - began_ns) / 1e6
                text += piece
                if not as_json:
                    print(piece, end="", flush=True)
            return {
                "text": text,
                "first_word_ms": round(first_ms, 2),
                "all_ms": round((clock.mono_ns() - began_ns) / 1e6, 2),
                "reply": wire.to_plain(client.reply),
            }

    facts = asyncio.run(listen())
    print(json.dumps(facts) if as_json else "")


@explain_app.command()
def write(
    records: Annotated[Path, typer.Argument(help="File that `datalake uncaptioned` wrote.")],
    out: Annotated[Path, typer.Argument(help="File of captions to write, one a line.")],
    explainer: Folder = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a whole file of decisions, here: captions for `roadloop datalake caption`.

    Example: roadloop fleet infer explain write run/uncaptioned.jsonl run/captions.jsonl
    """
    from rich.progress import Progress

    from fleet.inference.explain_opening import write_captions
    from vehicle.contracts.decision import read_records
    from vehicle.contracts.home import Home

    found = read_records(records)
    with Progress(disable=as_json) as bar:
        task = bar.add_task("decisions", total=len(found))
        captions = write_captions(
            explainer or Home.here().models / "explainer",
            found,
            out,
            lambda done: bar.update(task, completed=done),
        )
    explained = sum(caption.explained for caption in captions)
    if as_json:
        print(json.dumps({"file": str(out), "captions": len(captions), "explained": explained}))
    else:
        print(f"{len(captions)} captions in {out}, {explained} of them explain")
