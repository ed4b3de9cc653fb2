"""The car's verbs: `roadloop replay`, `roadloop import`, `roadloop vehicle ...`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def _root() -> None:
    """What runs in the car: drive, install, send."""


@app.command()
def uplink(
    car: Annotated[str, typer.Argument(help="Name of the car, as enrolled.")],
    gateway: Annotated[
        str, typer.Option(help="Address of `roadloop fleet serve`.")
    ] = "http://127.0.0.1:8787",
    token_file: Annotated[
        Path | None, typer.Option(help="The car's token; default: token in the car's folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send the clips in a car's outbox home, from where the last run was cut off.

    A clip leaves the car only after home confirmed it. What cannot be sent now stays; run it
    again. The car's folder is ROADLOOP_HOME/cars/CAR.
    """
    import json

    from vehicle.clock import SystemClock
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home
    from vehicle.uplink import Uplink, read_token, refused

    folder = Home.here().car(car)
    token = read_token(token_file or folder / "token")
    with Uplink(
        outbox=folder / "outbox", gateway_url=gateway, car_id=car, token=token, clock=SystemClock()
    ) as link:
        report = link.send_under_campaign()
    if as_json:
        print(json.dumps(wire.to_plain(report)))
    else:
        print(f"{len(report.sent)} clips sent, {report.bytes_sent:,} bytes")
        for clip in report.left:
            print(f"left: {clip.clip_id[:12]}: {clip.reason}")
    if refused(report):
        raise typer.Exit(1)
