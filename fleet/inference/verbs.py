"""The verbs of `roadloop fleet infer`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    import numpy as np

    from fleet.inference.client import Client

infer_app = typer.Typer(
    no_args_is_help=True,
    help="Inference outside the car: sites at the edge and on premises, and asking them.",
)


@infer_app.command()
def serve(
    bundle: Annotated[
        list[Path] | None,
        typer.Argument(help="Bundle folders to serve; default: the network that ships."),
    ] = None,
    context: Annotated[str, typer.Option(help="What kind of place: edge or on-prem.")] = "edge",
    collective: Annotated[
        bool, typer.Option(help="Serve collective perception: what others see of a car's way.")
    ] = True,
    site: Annotated[str, typer.Option(help="Name of the site.")] = "edge-1",
    jurisdiction: JurisdictionOption = "DE",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(help="Port of gRPC; 0 takes a free one.")] = 8801,
    http_port: Annotated[int, typer.Option(help="Port of HTTP; 0 takes a free one.")] = 8802,
    name: NamesOption = None,
    tenants: TenantsOption = None,
    policy: PolicyOption = None,
    receipts: ReceiptsOption = None,
    undeclared: UndeclaredOption = False,
    plain: PlainOption = False,
    threads: Annotated[int, typer.Option(help="Of a network's runtime.")] = 1,
    at_once: Annotated[int, typer.Option(help="Answers worked on side by side.")] = 1,
    forward: Annotated[
        str,
        typer.Option(
            help="MODEL=NAME@HOST:PORT,JURISDICTION: asked there with what may leave on-prem."
        ),
    ] = "",
    url_file: UrlFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open a site: it answers the Open Inference Protocol v2 by gRPC and HTTP. Ctrl-C closes it.

    Both sides show certificates, as at `roadloop fleet serve`. Earliest deadline first; what would
    come too late, too often, forged or replayed is refused by name. A site on premises keeps
    receipts and connects to nobody, but where --forward says, with data of nobody. At the end it
    says what it answered and refused.
    """
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # handshakes that fail are the others' business
    from fleet.inference.opening import Opening, open_site
    from fleet.inference.policy import Site
    from vehicle.contracts.home import Home

    if context not in ("edge", "on-prem"):
        raise typer.BadParameter(f"{context!r}, expected edge or on-prem", param_hint="--context")
    opening = Opening(
        site=Site(
            name=site,
            context="on-prem" if context == "on-prem" else "edge",
            jurisdiction=jurisdiction,
            undeclared=undeclared,
        ),
        folders=bundle or [],
        collective=collective,
        policies=policy,
        receipts=receipts,
        tenants=tenants,
        plain=plain,
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        names=name or [],
        url_file=url_file,
        threads=threads,
        at_once=at_once,
        forward=forward,
    )
    counts = open_site(opening, Home.here())
    if as_json:
        print(json.dumps(counts))
        return
    answered, refused = sum(counts["answered"].values()), counts["refused"]
    print(f"answered {answered}, hung up on by {counts['gone']}")
    for what, times in refused.items():
        print(f"refused {what}: {times}")


@infer_app.command()
def ask(
    address: Annotated[str, typer.Argument(help="HOST:PORT of a site's gRPC door.")],
    model: Annotated[str, typer.Argument(help="Model to ask, as the site calls it.")],
    inputs: Annotated[
        Path | None,
        typer.Option(help="npz file, an array per input; default: zeros of the right shapes."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the answer's arrays here, npz.")] = None,
    identity: Annotated[
        Path | None, typer.Option(help="A car's identity folder; default: no certificate.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose fleet asks.")] = "fleet",
    car: Annotated[str, typer.Option(help="Which car, where no certificate says.")] = "car-1",
    deadline_ms: Annotated[int, typer.Option(help="From now, ms.")] = 1_000,
    data_class: Annotated[
        str, typer.Option(help="What it is: features, anonymised, pixels, personal.")
    ] = "features",
    jurisdiction: Annotated[str, typer.Option(help="Whose law it stands under.")] = "DE",
    as_json: JsonOption = False,
) -> None:
    """Ask a site once, and print what it says of its answer. Exit code 1: refused."""
    import numpy as np

    from fleet.inference.asking import make_request
    from fleet.inference.client import Client, ClientTls
    from vehicle.clock import SystemClock
    from vehicle.contracts import wire

    tls = ClientTls.of_identity(identity) if identity else None
    clock = SystemClock()
    with Client(address, tls) as client:
        arrays = arrays_for(client, model, inputs)
        request = make_request(
            clock,
            tenant=tenant,
            car_id=tls.common_name if tls else car,
            lasts_ms=deadline_ms,
            data_class=data_class,
            jurisdiction=jurisdiction,
        )
        began_ns = clock.mono_ns()
        outputs, reply = client.infer(model, arrays, request, deadline_ms / 1e3 + 1.0)
        took_us = (clock.mono_ns() - began_ns) // 1_000
    if out is not None:
        np.savez(out, **{n: a for n, a in outputs.items() if a.dtype != object})  # type: ignore[arg-type]
    if as_json:
        shapes = {n: list(a.shape) for n, a in outputs.items()}
        facts = {"reply": wire.to_plain(reply), "outputs": shapes, "took_us": took_us}
        print(json.dumps(facts))
        return
    assert reply is not None
    stages = ", ".join(f"{n} {us / 1e3:.2f}" for n, us in reply.timings_us.items())
    print(f"{reply.model_set} at {reply.site} ({reply.context}): {took_us / 1e3:.2f} ms ({stages})")
    for name, array in outputs.items():
        texts = array.ravel()[:1].tolist() if array.dtype == object else []
        said = "".join(f": {text.decode(errors='replace')[:400]}" for text in texts)
        print(f"  {name} {'text' if texts else array.dtype} {list(array.shape)}{said}")


def arrays_for(
    client: "Client", model: str, inputs: Path | None
) -> "dict[str, np.ndarray[Any, Any]]":
    """Return the arrays of a file, or zeros."""
    import numpy as np

    from fleet.inference.oip_tensors import zeros
    from vehicle.contracts.wire import ContractError

    if inputs is None:
        return {s.name: zeros(s) for s in client.inputs_of(model)}
    try:
        with np.load(inputs, allow_pickle=False) as archive:
            return {n: archive[n] for n in archive.files}
    except (OSError, ValueError) as error:
        raise ContractError(f"--inputs {inputs}: {error}") from error
