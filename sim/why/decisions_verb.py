"""The verb `roadloop sim decisions`: drives, and why the car decided as it did in them."""

from pathlib import Path
from typing import Annotated

import typer


def decisions(
    out: Annotated[Path, typer.Argument(help="File to write: a record a line, as JSON.")],
    families: Annotated[
        str, typer.Option(help="trained, held-out (for testing), or names with commas.")
    ] = "trained",
    town_from: Annotated[int, typer.Option(help="First town; held-out families: from 100.")] = 0,
    town_to: Annotated[int, typer.Option(help="Last town, included.")] = 15,
    episodes: Annotated[
        int, typer.Option(min=1, help="Drives of 30 s, the families in turn.")
    ] = 64,
    seed: Annotated[int, typer.Option(help="Of the first drive; the next takes the next.")] = 1_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Write down what the car decided and, by asking again without it, what caused that.

    Each candidate (a road user, what one hides, a light, a line, the limit, a bend, a lane that
    ends) is taken out of the scene and planner and safety envelope are asked again: only what
    changes the decision is a cause. About 40 records and 4 s of one core a drive.
    """
    import json
    from dataclasses import asdict

    from rich.progress import Progress

    from sim.why.decisions import known_families, write_records

    names = known_families(families)
    with Progress(disable=as_json) as bar:
        task = bar.add_task("drives", total=episodes)
        written = write_records(
            out,
            families=names,
            towns=range(town_from, town_to + 1),
            episodes=episodes,
            seed=seed,
            progress=lambda done: bar.update(task, completed=done),
        )
    if as_json:
        print(json.dumps(asdict(written) | {"file": str(out)}))
    else:
        print(f"{written.records} records of {episodes} drives in {out}; asked {written.asked} x")
