"""The verb `roadloop training explain`: from decision records to an explainer that is served."""

from pathlib import Path
from typing import Annotated

import typer


def explain(
    records: Annotated[
        list[Path], typer.Argument(help="Files that `roadloop sim decisions` wrote.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the explainer; default: ROADLOOP_HOME/models/explainer."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of the run, gone on with when started again; default: OUT-run."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="base: what is served. quick: to look at. tiny: for tests.")
    ] = "base",
    steps: Annotated[int | None, typer.Option(min=1, help="Replaces the recipe's steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the recipe's seed.")] = None,
    version: Annotated[int, typer.Option(min=1, help="Version; only grows.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train the decoder that says why the car decided so, and write the graph that is served.

    2.3 million numbers, a quarter of an hour on one core. Serve it with
    `roadloop fleet infer explain serve`; docs/how-to/ask-why.md

    Example: roadloop training explain run/why.jsonl
    """
    import json
    from dataclasses import replace

    from rich.progress import Progress

    from training.explain import RECIPES, train
    from training.explain_export import export
    from vehicle.contracts.home import Home

    if recipe not in RECIPES:
        raise typer.BadParameter(f"{recipe!r}, expected one of {', '.join(RECIPES)}")
    config = RECIPES[recipe]
    config = replace(
        config,
        steps=config.steps if steps is None else steps,
        seed=config.seed if seed is None else seed,
    )
    folder = out or Home.here().models / "explainer"
    run_folder = run or folder.with_name(f"{folder.name}-run")
    with Progress(disable=as_json) as bar:
        task = bar.add_task("steps", total=config.steps)

        def told(done: int, total: int, parts: dict[str, float]) -> None:
            bar.update(task, completed=done, description=f"loss {parts['total']:.3f}")

        train(config, records, run_folder, progress=told)
    made = export(run_folder, folder, version=version)
    if as_json:
        facts = {
            "explainer": made.tag,
            "out": str(folder),
            "parameters": made.parameters,
            "records": made.records,
            "steps": made.steps,
            "graph_sha256": made.graph_sha256,
        }
        print(json.dumps(facts))
    else:
        print(f"{made.tag}: {made.parameters} numbers from {made.records} records, in {folder}")
