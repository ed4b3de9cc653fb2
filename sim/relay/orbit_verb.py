"""The verb `roadloop sim orbit`: the relay's trial."""

from pathlib import Path
from typing import Annotated

import typer


def orbit(
    kill: Annotated[
        bool, typer.Option("--kill/--no-kill", help="Kill every node (-9) once on the way.")
    ] = True,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the processes' files here; default: they go.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring a car without coverage its update and its advice by orbit, and its clip home.

    Five real node processes; hours of contacts are compressed. Exit code 1: something was lost,
    came twice, or had no effect.
    """
    import json

    from sim.relay.orbit import run

    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.absolute()
    trial = run(folder, kill=kill, tell=(lambda text: None) if as_json else print)
    if as_json:
        print(json.dumps(trial.plain()))
    else:
        print("\nin order:")
        for line in trial.timeline:
            print(f"{line.minute:7.1f} min  {line.node:10} {line.what}")
        print("\n" + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in trial.counts.items()))
        for reason in trial.refused:
            print(f"refused: {reason[:140]}")
        own, careful = trial.accel_mps2.get("own", 0.0), trial.accel_mps2.get("with_advice", 0.0)
        print(f"command before the bridge: {own:+.1f} m/s2 alone, {careful:+.1f} with advice")
        print(f"on board (modelled): {trial.power}")
    if not trial.holds:
        raise typer.Exit(1)
