"""The verbs of `roadloop fleet`."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="The door at home: take clips in, sign releases, hand them out.",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8787,
    url_file: Annotated[
        Path | None, typer.Option(help="Write the address here once the door is open.")
    ] = None,
) -> None:
    """Open the door: cars send clips here and fetch campaigns and releases. Ctrl-C closes it.

    Clips land in ROADLOOP_HOME/fleet/landing, where `roadloop datalake ingest` finds them.
    """
    from fleet import gateway
    from vehicle.contracts.home import Home

    gateway.serve(Home.here(), host, port, url_file)


@app.command()
def enrol(
    car: Annotated[str, typer.Argument(help="Name of the car, e.g. car-1.")],
    rig: Annotated[
        str, typer.Option(help="Its cameras: a rig or bundle JSON file, or a rig digest.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="Write the token here, readable by you alone.")
    ] = None,
    renew: Annotated[bool, typer.Option(help="Replace the token of a known car.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take a car into the fleet and give it its token, shown this once.

    Without --rig the car has the cameras that the shipped base network was made for.
    """
    import os

    from fleet.registry import Registry
    from vehicle.contracts.home import Home

    rig_digest = _rig_digest(rig)
    token = Registry(Home.here()).enrol(car, rig_digest, renew=renew)
    if token_file is not None:
        token_file.parent.mkdir(parents=True, exist_ok=True)
        token_file.unlink(missing_ok=True)
        handle = os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
    if as_json:
        shown = {"token_file": str(token_file)} if token_file else {"token": token}
        print(json.dumps({"car": car, "rig_digest": rig_digest, **shown}))
    elif token_file is not None:
        print(f"{car} is enrolled; its token is in {token_file}")
    else:
        print(f"{car} is enrolled. Its token, shown this once:\n{token}")


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show the cars of the fleet, and the clips each has sent."""
    from fleet.landing import Landing, Uploads
    from fleet.registry import Registry
    from vehicle.contracts.home import Home

    home = Home.here()
    rows = {
        car: {"clips": 0, "events": 0, "bytes": 0, "pending_bytes": 0}
        for car in Registry(home).cars()
    }
    for _, clip in Landing(home).clips():
        row = rows.setdefault(clip.car_id, {"clips": 0, "events": 0, "bytes": 0})
        row["clips"] += 1
        row["events"] += len(clip.events)
        row["bytes"] += sum(entry.size_bytes for entry in clip.files)
    for car, row in rows.items():
        row["pending_bytes"] = Uploads(home, car).pending_bytes()
    if as_json:
        print(json.dumps({"home": str(home.root), "cars": rows}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("car", "clips", "events", "bytes", "still coming in", title=str(home.root))
    for car, row in sorted(rows.items()):
        table.add_row(car, *(f"{row[k]:,}" for k in ("clips", "events", "bytes", "pending_bytes")))
    Console().print(table)


def _rig_digest(rig: str) -> str:
    """Return the digest that `rig` is, or that of the cameras in the file it names."""
    from importlib.resources import files

    from vehicle.contracts import wire
    from vehicle.contracts.bundle import ModelBundle
    from vehicle.contracts.frame import Rig
    from vehicle.contracts.wire import SchemaError

    if len(rig) == 64 and set(rig) <= set("0123456789abcdef"):
        return rig
    source = Path(rig) if rig else files("vehicle") / "base" / "bundle.json"
    if not source.is_file():
        raise typer.BadParameter(f"{source} is no file and no digest", param_hint="--rig")
    raw = source.read_bytes()
    try:
        return wire.from_bytes(ModelBundle, raw).rig.digest
    except SchemaError:
        return wire.from_bytes(Rig, raw).digest
