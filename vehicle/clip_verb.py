"""`roadloop vehicle clip`: what a person types to look a clip over, and to save what is whole."""

import json
from pathlib import Path
from typing import Annotated

import typer


def clip(
    path: Annotated[Path, typer.Argument(help="A clip or route file, *.mcap.", dir_okay=False)],
    repair: Annotated[
        Path | None,
        typer.Option(help="Write what is whole of a damaged file here as a new one, *.mcap."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what is in a clip and whether it is whole; exit code 1 when it is not.

    Cameras, pictures, messages, events; of a damaged file what is missing, from where to where, by
    name and count. A repaired file opens like any other, is a clip of its own with a sha256 of its
    own, and says in its metadata what it lacks.
    """
    from vehicle import clip_check
    from vehicle.contracts import wire

    report = clip_check.look_over(path)
    saved = None if repair is None else clip_check.repair(report, repair)
    if as_json:
        plain = wire.to_plain(report) | {"whole": report.whole}
        print(json.dumps(plain | {"repaired": saved and str(repair), "repaired_ticks": saved}))
    else:
        print("\n".join(clip_check.lines(report)))
        if saved is not None:
            print(f"{saved} whole ticks are in {repair}")
    if not report.whole and repair is None:
        raise typer.Exit(1)
