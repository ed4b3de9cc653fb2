"""Verbs of `roadloop fleet orbit` for questions: a desk that answers, and one asked by hand."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fleet.inference.options import JsonOption
from fleet.orbit.options import DoorOption, PlanOption


def add(app: typer.Typer) -> None:
    """Hang these verbs on the command of the relay."""
    app.command()(answer)
    app.command()(ask)


def answer(
    hazards: Annotated[
        Path, typer.Argument(help="TOML of confirmed hazards, [[hazard]] each.", exists=True)
    ],
    node: Annotated[str, typer.Option(help="Name in the plan of the node that answers.")],
    plan: PlanOption = Path("plan.json"),
    door: DoorOption = "127.0.0.1:4243",
    jurisdiction: Annotated[
        str, typer.Option(help="Of the answers; of a satellite, its state of registry.")
    ] = "US",
    constellation: Annotated[
        str, typer.Option(help="Of a satellite: its shell, for power and heat (modelled).")
    ] = "sparse",
    until: Annotated[int, typer.Option(help="End after so many questions; 0: Ctrl-C does.")] = 0,
) -> None:
    """Answer questions of cars at a node: where home has confirmed a hazard. Ctrl-C ends it.

    At a satellite only while battery and heat bear it; a car that is refused is told when to ask
    again. Questions must be signed by the node of a car of the plan.
    """
    import contextlib
    import time

    from fleet.orbit.answering import answering

    with (
        answering(hazards, node, plan, door, jurisdiction, constellation) as clerk,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while not until or len(clerk.taken) < until:
            time.sleep(0.05)
    for reason in clerk.refused:
        print(f"refused: {reason}")
    print(f"{len(clerk.taken)} questions were taken")


def ask(
    target: Annotated[str, typer.Argument(help="Node that is asked, e.g. ipn:12.")],
    car: Annotated[str, typer.Option(help="Who asks: the car's name.")],
    at: Annotated[str, typer.Option(help="East,north of the car in the fleet's frame, m.")],
    door: DoorOption = "127.0.0.1:4243",
    tenant: Annotated[str, typer.Option(help="Whose fleet asks.")] = "home",
    jurisdiction: Annotated[str, typer.Option(help="Whose law it stands under.")] = "US",
    fresh_h: Annotated[float, typer.Option(help="Hours that an answer is of use.")] = 1.0,
    wait_s: Annotated[float, typer.Option(help="Wait so long for the answer; 0: do not.")] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Ask what lies around a car that no network reaches, at its own node; print the advice.

    The question keeps, and so does its answer: without --wait-s both travel on, and the same
    command later is another question. Exit code 1: refused, with the reason, or no answer yet.
    """
    from fleet.orbit.answering import Asking, asked

    asking = Asking(
        target=target,
        car=car,
        at_m=_place(at),
        tenant=tenant,
        jurisdiction=jurisdiction,
        fresh_h=fresh_h,
    )
    advice = asked(asking, door, wait_s)
    if advice is None:
        print(json.dumps({"advice": None}) if as_json else f"{target} will be asked")
        return
    if as_json:
        from vehicle.contracts import wire

        print(json.dumps(wire.to_plain(advice)))
        return
    print(f"{advice.site} ({advice.context}): {advice.reason or 'nothing is known to lie there'}")
    for cap in advice.caps:
        print(f"  {cap.speed_mps:g} m/s within {cap.radius_m:g} m of {cap.x_m:.0f}, {cap.y_m:.0f}")


def _place(text: str) -> tuple[float, float]:
    try:
        east_m, north_m = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no EAST,NORTH in metres") from error
    return east_m, north_m
