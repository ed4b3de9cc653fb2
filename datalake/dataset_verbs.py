"""Verbs from a clip to a training set: label, scenario, dataset ..."""

import json
from pathlib import Path
from typing import Annotated

import typer

from datalake.scenario_verb import scenario
from datalake.verbs import At, Json, bar, open_lake, pair, sql_of

app = typer.Typer()
NoDuplicates = Annotated[
    float | None,
    typer.Option(
        help="Of frames that look alike at this cosine take one, e.g. 0.999; see duplicates."
    ),
]
dataset_app = typer.Typer(
    no_args_is_help=True, help="Pinned, hashed sets of labelled frames for training."
)


@app.command()
def label(
    query: Annotated[
        str,
        typer.Argument(
            help="SQL yielding clip_id (whole clips) or clip_id and frame_id (those frames), or "
            "the name of a named question."
        ),
    ],
    every: Annotated[int, typer.Option(help="Of whole clips, buy every n-th frame.")] = 1,
    no_duplicates: NoDuplicates = None,
    as_json: Json = False,
) -> None:
    """Buy the labels of the frames that a query chooses; says what they cost in boxes.

    Labels of simulated drives come from the simulator's truth, and only for what is bought.
    """
    from datalake.choice import choose
    from datalake.duplicates import thin
    from datalake.label import label as run
    from datalake.lake import QueryError
    from vehicle.contracts import wire

    with open_lake(None) as lake:
        answer = lake.sql(sql_of(query, clips=True))
        if "clip_id" not in answer.column_names:
            raise QueryError(f"the query yields {answer.column_names}; expected a clip_id")
        clips = answer["clip_id"].to_pylist()
        frames: dict[str, set[int]] | None = None
        if no_duplicates is not None:
            kept = thin(lake, choose(lake, sql_of(query)), no_duplicates).kept
            clips, frames = list(kept), {clip: set(found) for clip, found in kept.items()}
        elif "frame_id" in answer.column_names:
            frames = {clip: set() for clip in clips}
            for clip, frame in zip(clips, answer["frame_id"].to_pylist(), strict=True):
                frames[clip].add(frame)
        report = run(lake.home, lake, clips, frames=frames, every=every)
    if as_json:
        print(json.dumps(wire.to_plain(report)))
        return
    print(
        f"{report.frames} frames of {report.clips} clips labelled, {report.boxes} boxes to pay; "
        f"{report.already} frames had labels before"
    )


@app.command()
def take(
    folder: Annotated[
        Path, typer.Argument(help="Written by `roadloop fleet infer label` or `embed`.")
    ],
    as_json: Json = False,
) -> None:
    """Take in what a network said about clips: a teacher's labels, or a new network's embeddings.

    Labels stand beside those that were bought, as source teacher:NAME@VERSION, and never in their
    place; embeddings under the network's own name. Taking a folder twice changes nothing.
    """
    from datalake.take import take as run
    from vehicle.contracts import wire

    with open_lake(None) as lake:
        report = run(lake.home, lake, folder)
    if as_json:
        print(json.dumps(wire.to_plain(report)))
        return
    print(
        f"{report.frames} frames of {report.clips} clips have {report.what} by {report.model} now, "
        f"{report.boxes} boxes; {report.already} had them before"
    )


app.command()(scenario)
app.add_typer(dataset_app, name="dataset")


@dataset_app.command("create")
def dataset_create(
    name: Annotated[str, typer.Argument(help="Of the folder under $ROADLOOP_HOME/datasets.")],
    query: Annotated[
        str,
        typer.Option("--sql", help="SQL yielding clip_id and frame_id, or a named question."),
    ],
    at: At = None,
    tag: Annotated[list[str] | None, typer.Option(help="key=value. Repeatable.")] = None,
    replace: Annotated[bool, typer.Option(help="Give up a dataset of that name.")] = False,
    jurisdiction: Annotated[
        list[str] | None,
        typer.Option(help="Take only clips recorded there, ISO 3166. Repeatable."),
    ] = None,
    no_duplicates: NoDuplicates = None,
    as_json: Json = False,
) -> None:
    """Pin the frames that a query chooses, with their labels, as a dataset for training."""
    from datalake.dataset import create
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    tags = dict(pair(text) for text in tag or ())
    with bar("decoding frames", as_json) as progress:
        manifest = create(
            *(Home.here(), name, sql_of(query)),
            snapshot=at,
            tags=tags,
            replace=replace,
            jurisdictions=jurisdiction or (),
            no_duplicates=no_duplicates,
            progress=progress,
        )
    if as_json:
        print(json.dumps({**wire.to_plain(manifest), "digest": manifest.digest}))
        return
    boxes = ", ".join(f"{count} {kind}" for kind, count in manifest.boxes.items()) or "no boxes"
    print(
        f"dataset {name}: {manifest.frames} frames of {len(manifest.sources)} clips, {boxes}; "
        f"snapshot {manifest.snapshot}, digest {manifest.digest[:12]}"
    )
    if no_duplicates is not None:
        print(f"  {manifest.tags['duplicates_left_out']} duplicates were left out")


@dataset_app.command("show")
def dataset_show(
    name: Annotated[
        str | None, typer.Argument(help="Of the dataset; none: list all of them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a dataset is and where it came from, after checking every byte of it."""
    from datalake.dataset import names, show
    from vehicle.contracts.home import Home

    home = Home.here()
    if name is None:
        found = names(home)
        print(json.dumps(found) if as_json else "\n".join(found) or "there is no dataset yet")
        return
    facts = show(home, name)
    if as_json:
        print(json.dumps(facts))
        return
    for key, value in facts.items():
        text = value
        if isinstance(value, list):
            text = ", ".join(map(str, value))
        elif isinstance(value, dict):
            text = ", ".join(f"{k} {v}" for k, v in value.items()) or "-"
        print(f"{key:>9}  {text}")


@dataset_app.command("diff")
def dataset_diff(
    before: Annotated[str, typer.Argument(help="Name of a dataset.")],
    after: Annotated[str, typer.Argument(help="Name of the one that takes its place.")],
    as_json: Json = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")
    ] = False,
) -> None:
    """Say what changed from one dataset to another: frames, clips, boxes, conditions, cars, query.

    Exits 0 whether they differ or not.
    """
    from datalake.dataset_diff import diff, markdown, text
    from vehicle.contracts import wire
    from vehicle.contracts.home import Home

    found = diff(Home.here(), before, after)
    if as_json:
        print(json.dumps(wire.to_plain(found) | {"same": found.same}))
    elif as_markdown:
        print(markdown(found), end="")
    else:
        print("\n".join(text(found)))
