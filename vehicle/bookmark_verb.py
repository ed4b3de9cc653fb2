"""`roadloop vehicle bookmark`: what a person on board types to have this kept."""

import json
from typing import Annotated

import typer


def bookmark(
    car: Annotated[str, typer.Argument(help="Name of the car that drives now.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Keep what happens now: the next tick of a running drive carries a bookmark.

    A campaign with a `bookmark` trigger (the default one has it) makes a clip of it.
    """
    from vehicle.bookmark import press
    from vehicle.clock import SystemClock
    from vehicle.contracts.home import Home

    pid = press(Home.here().car(car), SystemClock())
    if as_json:
        print(json.dumps({"car": car, "pid": pid}))
    else:
        print(f"bookmarked in the drive of {car} (process {pid})")
