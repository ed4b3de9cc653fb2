"""Training's verbs: `roadloop training train | evaluate | export | explain`."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from training.explain_verb import explain

app = typer.Typer(no_args_is_help=True, add_completion=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


@app.callback()
def _root() -> None:
    """Dataset in, signed-ready bundle out: train, evaluate, export."""


@app.command()
def train(
    dataset: Annotated[
        list[Path],
        typer.Option(help="Dataset folder; repeat it to mix several (mined first, replay second)."),
    ],
    out: Annotated[Path, typer.Option(help="Run folder; started again, the run goes on in it.")],
    recipe: Annotated[
        str,
        typer.Option(
            help="base, polish, teacher: grown from --init. finetune: from --init. tiny: few steps."
        ),
    ] = "base",
    init: Annotated[
        Path | None, typer.Option(help="Bundle folder to start from, e.g. vehicle/base.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Ray workers, one thread each; 0 trains in this process.")
    ] = 0,
    seed: Annotated[int | None, typer.Option(help="Replaces the recipe's seed.")] = None,
    steps: Annotated[int | None, typer.Option(help="Replaces the recipe's step count.")] = None,
    as_json: Json = False,
) -> None:
    """Train a network on pinned datasets.

    Example: roadloop training train --dataset run/day --recipe base --out run/base
    """
    from dataclasses import replace

    from training.recipes import recipe as recipe_of

    config = recipe_of(recipe)
    if seed is not None:
        config = replace(config, seed=seed)
    if steps is not None:
        share = steps / config.steps
        config = replace(config, steps=steps, norm_until=round(config.norm_until * share))
    if workers:
        from training import distributed

        result = distributed.train(config, dataset, out, parent=init, workers=workers)
    else:
        from training.train import train as train_alone

        with _bar("training", not as_json) as advance:
            result = train_alone(config, dataset, out, parent=init, progress=advance)
    facts = {
        "out": str(out),
        "recipe": recipe,
        "steps": result.steps,
        "loss_first": result.loss_first,
        "loss_last": result.loss_last,
        "config_digest": result.run.config.digest,
        "dataset_digests": list(result.run.dataset_digests),
        "parent_digest": result.run.parent_digest,
    }
    _print(facts, as_json)


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")],
    dataset: Annotated[Path, typer.Option(help="Labelled dataset folder, best of unseen towns.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the report here (canonical JSON).")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Run without memory.")] = False,
    as_json: Json = False,
) -> None:
    """Measure a bundle on labelled frames, with the very graph the car runs."""
    from training.evaluate import evaluate as run
    from vehicle.contracts import wire

    with _bar("evaluating", not as_json) as advance:
        report = run(
            bundle,
            dataset,
            forget=forget,
            progress=lambda done, total: advance(done, total, {}),
        )
    if out:
        wire.atomic_write(out, wire.to_bytes(report))
    if as_json:
        print(wire.to_bytes(report).decode())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "value", "95 %", "n", title=f"{report.subject} on {dataset.name}")
    for m in report.metrics:
        span = "" if m.low is None or m.high is None else f"{m.low:.3f} .. {m.high:.3f}"
        table.add_row(m.name, f"{m.value:.3f}", span, str(m.n))
    Console().print(table)


@app.command()
def report(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")],
    dataset: Annotated[
        list[Path],
        typer.Option(help="Labelled dataset folder; repeat it, one per light and weather."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page and pictures.")],
    as_json: Json = False,
) -> None:
    """Write a bundle's page: figures by kind, light and weather, and pictures right and wrong.

    Example: roadloop training report --bundle vehicle/base --dataset run/test-day --out run/page
    """
    from training.report import write_report

    with _bar("judging", not as_json) as advance:
        page = write_report(
            bundle, dataset, out, progress=lambda done, total: advance(done, total, {})
        )
    _print({"page": str(page)}, as_json)


@app.command()
def export(
    run: Annotated[Path, typer.Option(help="Run folder that `training train` finished.")],
    out: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "base",
    version: Annotated[int, typer.Option(min=1, help="Version; only grows.")] = 1,
    odd: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE of where it was trained to work; repeat.")
    ] = None,
    dataset: Annotated[
        list[Path] | None, typer.Option(help="Calibration frames; the run's own by default.")
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="Frames of towns not trained on, to make scores probabilities."),
    ] = None,
    mirrored: Annotated[
        bool,
        typer.Option("--mirrored", help="Look at every frame twice, once in a mirror: a teacher."),
    ] = False,
    mean_with: Annotated[
        Path | None,
        typer.Option(help="Bundle it grew from: ship the mean of both, which forgets less."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a finished run into a bundle: ONNX in uint8, weights, golden vectors, manifest."""
    from training.export import export as run_export
    from vehicle.contracts import wire

    pairs = [text.partition("=") for text in odd or ["light=day"]]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise typer.BadParameter(f"--odd {key!r}: expected KEY=VALUE")
    bundle = run_export(
        run,
        out,
        dataset or (),
        name=name,
        version=version,
        odd={k: v for k, _, v in pairs},
        scores=scores,
        mirrored=mirrored,
        mean_with=mean_with,
    )
    facts = {
        "bundle": bundle.tag,
        "out": str(out),
        "digest": wire.digest(wire.to_bytes(bundle)),
        "bytes": sum(f.size_bytes for f in bundle.files),
        "kinds": list(bundle.kinds),
    }
    _print(facts, as_json)


app.command()(explain)


@contextmanager
def _bar(title: str, shown: bool) -> Any:
    """Show a progress bar; yields advance(done, total, losses)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), disable=not shown) as progress:
        task = progress.add_task(title, total=None, loss="")

        def advance(done: int, total: int, parts: dict[str, float]) -> None:
            loss = f"loss {parts['total']:.3f}" if "total" in parts else ""
            progress.update(task, completed=done, total=total, loss=loss)

        step: Callable[[int, int, dict[str, float]], None] = advance
        yield step


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for key, value in facts.items():
        table.add_row(key, ", ".join(value) if isinstance(value, list) else str(value))
    Console().print(table)
