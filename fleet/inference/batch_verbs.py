"""The verbs of the batch tier: `roadloop fleet infer label | embed`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.inference.options import JsonOption

if TYPE_CHECKING:
    from fleet.inference.batch import What

batch_app = typer.Typer()

Listing = Annotated[
    Path,
    typer.Argument(
        help="*.parquet or *.csv with clip_id, object and, for single frames, frame_id: "
        "roadloop datalake sql ... -o FILE."
    ),
]
Bundle = Annotated[Path | None, typer.Option(help="Network that looks; default: what ships.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; a killed run goes on.")]
Lake = Annotated[
    Path | None, typer.Option(help="Folder that objects count from; default: this home's lake.")
]
Workers = Annotated[
    int, typer.Option(min=0, help="Ray workers, one thread each; 0: this process, without Ray.")
]


@batch_app.command()
def label(
    listing: Listing,
    out: Out,
    bundle: Bundle = None,
    lake: Lake = None,
    workers: Workers = 0,
    as_json: JsonOption = False,
) -> None:
    """Have a teacher label clips, or the frames a car was unsure of. Then: roadloop datalake take.

    Example: roadloop datalake sql "SELECT clip_id, object, frame_id FROM ticks JOIN clips USING
    (clip_id) WHERE uncertainty_ratio > 0.5" -o unsure.parquet, then roadloop fleet infer label
    unsure.parquet --bundle run/teacher --out run/judged
    """
    _run("labels", listing, out, bundle, lake, workers, as_json)


@batch_app.command()
def embed(
    listing: Listing,
    out: Out,
    bundle: Bundle = None,
    lake: Lake = None,
    workers: Workers = 0,
    as_json: JsonOption = False,
) -> None:
    """Have a network embed clips anew, under its own name. Then: roadloop datalake take."""
    _run("embeddings", listing, out, bundle, lake, workers, as_json)


def _run(
    what: "What",
    listing: Path,
    out: Path,
    bundle: Path | None,
    lake: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    from rich.progress import Progress

    from fleet.inference.batch import read_listing, run
    from vehicle.bundles import base_folder
    from vehicle.clock import SystemClock
    from vehicle.contracts.home import Home

    clock = SystemClock()
    clips = read_listing(listing, (lake or Home.here().lake).absolute())
    began_ns = clock.mono_ns()
    with Progress(disable=as_json) as bar:
        task = bar.add_task(what, total=len(clips))
        made = run(
            what,
            clips,
            bundle or base_folder(),
            out,
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    seconds = (clock.mono_ns() - began_ns) * 1e-9
    if as_json:
        facts = {"what": what, "model": made.model, "clips": len(made.files)}
        print(json.dumps({**facts, "frames": made.frames, "seconds": round(seconds, 3)}))
        return
    print(f"{made.frames} frames of {len(made.files)} clips: {what} by {made.model} in {out}")
    print(f"take them in: roadloop datalake take {out}")
