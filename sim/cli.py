"""Verbs of the proving ground: generate labelled frames, drive, render."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The proving ground: drive, render, generate frames.")


@app.command()
def generate(
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not hold a dataset yet.")],
    town_from: Annotated[int, typer.Option(help="First town, e.g. 0.")] = 0,
    town_to: Annotated[int, typer.Option(help="Last town, included.")] = 3,
    frames: Annotated[int, typer.Option(help="Labelled frames in total.")] = 400,
    light: Annotated[str, typer.Option(help="day or night.")] = "day",
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print the manifest's facts.")] = False,
) -> None:
    """Write a dataset of labelled simulator frames (8 cameras, boxes, BEV raster).

    Training towns are 0..15, demo towns 16..19, test towns from 100.
    """
    from rich.progress import Progress

    from sim.generate import generate as make

    with Progress(disable=json_) as bar:
        task = bar.add_task(f"{light} frames", total=frames)
        manifest = make(
            out,
            towns=range(town_from, town_to + 1),
            frames=frames,
            light=light,
            seed=seed,
            progress=lambda done: bar.update(task, completed=done),
        )
    facts = {
        "folder": str(out),
        "digest": manifest.digest,
        "frames": manifest.frames,
        "boxes": manifest.boxes,
        "bytes": sum(f.size_bytes for f in manifest.files),
    }
    print(json.dumps(facts) if json_ else f"{facts['frames']} frames, {facts['boxes']} in {out}")
