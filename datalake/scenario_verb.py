"""The verb that makes a clip a scene: `roadloop datalake scenario`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def scenario(
    clip: Annotated[
        str,
        typer.Argument(
            help="A clip's sha256 or its beginning, a route file, or a scene to change."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Motion JSON file to write.")],
    track: Annotated[
        str | None, typer.Option(help="Road user to change; default: one that moves, by --seed.")
    ] = None,
    shift: Annotated[
        float | None, typer.Option(help="Seconds it comes later; below 0: earlier.")
    ] = None,
    speed: Annotated[float | None, typer.Option(help="Factor on its speed.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Draw what to change and by how much; same seed, same bytes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Make a clip a scene that can be driven again, as it was or with one road user changed.

    Drive it with `roadloop sim logged OUT --drive`; docs/reference/motion-json.md is its format.
    """
    from datalake.scenario import change, read_scene, scene_of, scene_of_clip
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    source = Path(clip)
    if source.is_file():
        scene = (
            read_scene(source) if source.suffix == ".json" else scene_of(source, name=source.stem)
        )
    else:
        scene = scene_of_clip(Home.here(), clip)
    if any(v is not None for v in (track, shift, speed, seed)):
        scene = change(scene, track=track, shift_s=shift, speed_factor=speed, seed=seed)
    data = wire.canonical(scene)
    wire.atomic_write(out, data)
    facts = {
        "file": str(out),
        "name": scene["name"],
        "seconds": round((scene["steps"] - 1) * scene["dt_s"], 3),
        "tracks": len(scene["tracks"]),
        "changes": scene["changes"],
        "digest": wire.digest(data),
    }
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{out}: {facts['seconds']:.1f} s of {facts['name']}, {facts['tracks']} road users")
    for note in scene["changes"]:
        print(
            f"  track {note['track']}: {note['shift_s']:+.2f} s, speed x{note['speed_factor']:.2f}"
        )
