"""The verb for recorded traffic: `roadloop sim logged`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def logged(
    path: Annotated[
        Path,
        typer.Argument(
            help="A recorded scene or a folder of them: nuScenes scene tables, CommonRoad XML, "
            "Argoverse 2, motion JSON."
        ),
    ],
    list_: Annotated[bool, typer.Option("--list", help="List the scenes; the default.")] = False,
    drive: Annotated[bool, typer.Option("--drive", help="Drive our car in each scene.")] = False,
    reactive: Annotated[
        bool, typer.Option(help="Recorded vehicles give way to the car instead of replaying.")
    ] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="See with this network; default: told every road user.")
    ] = None,
    light: Annotated[str | None, typer.Option(help="day, dusk or night.")] = None,
    weather: Annotated[str | None, typer.Option(help="clear, rain, fog, ...")] = None,
    seed: Annotated[int | None, typer.Option(help="Of colours, light and sensor noise.")] = None,
    seconds: Annotated[float | None, typer.Option(help="At most; default: the recording.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Drive in recorded traffic: the car starts where the recorded one did, and must drive itself.

    Without --bundle it is told every road user; scores are in `roadloop sim evaluate --logged`.
    """
    from sim.recorded.logged import scenes_in
    from sim.recorded.logged_drive import drive_scene, list_scenes

    if list_ and drive:
        raise typer.BadParameter("take --list or --drive")
    if drive:
        rows = [
            drive_scene(
                place, bundle=bundle, reactive=reactive, light=light, weather=weather, seed=seed,
                seconds=seconds,
            )
            for place in scenes_in(path)
        ]  # fmt: skip
    else:
        rows = list_scenes(path)
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print("  ".join(f"{k} {v}" for k, v in row.items() if v is not None))
