"""Verbs that look at frames, not at their numbers: similar ..."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from datalake.verbs import At, Csv, Json, bar, hint_if_empty, open_lake, print_table, sql_of

app = typer.Typer()

Where = Annotated[
    str | None,
    typer.Option(
        help="SQL condition over columns of ticks and clips, before anything is compared, e.g. "
        "\"light = 'night' AND speed_mps > 5\"."
    ),
]
AsSql = Annotated[
    bool,
    typer.Option(
        "--sql", help="Print a query that yields these frames, for sheet, label, dataset create."
    ),
]
Model = Annotated[
    str | None, typer.Option(help="Whose embeddings, name@version; needed where there are several.")
]


@app.command()
def similar(
    what: Annotated[
        str,
        typer.Argument(
            help="CLIP or CLIP:FRAME (the first letters of an id are enough), a picture, or a "
            "folder of pictures named by camera."
        ),
    ],
    k: Annotated[int, typer.Option("-k", "--k", help="How many frames.", min=1)] = 10,
    where: Where = None,
    mean: Annotated[
        bool, typer.Option("--mean", help="The mean of a clip's frames, not its first event.")
    ] = False,
    per_clip: Annotated[
        int, typer.Option(help="Frames of one clip at most; 0: any number.", min=0)
    ] = 1,
    own: Annotated[bool, typer.Option("--own", help="Let the clip itself answer too.")] = False,
    model: Model = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Network that looks at a picture; default: the base.")
    ] = None,
    hfov_deg: Annotated[
        float | None, typer.Option(help="Horizontal field of view of a picture, degrees.")
    ] = None,
    index: Annotated[
        Literal["exact", "faiss"], typer.Option(help="Compare all, or use an index kept beside.")
    ] = "exact",
    at: At = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_sql: AsSql = False,
) -> None:
    """Find the frames that look most like a clip, a frame or a picture to the network.

    Embeddings of different networks are never compared. The nearest come first; similarity is the
    cosine of two embeddings.

    Example: roadloop datalake similar 4f2a91:120 --where "weather = 'rain'" --k 20
    """
    from datalake.faiss_index import indexed
    from datalake.similar import of_clip
    from datalake.similar import similar as run

    with open_lake(at) as lake:
        if Path(what).suffix or Path(what).is_dir():
            from datalake.picture import of_picture

            query = of_picture(lake, Path(what), bundle, hfov_deg=hfov_deg)
        else:
            query = of_clip(lake, what, model=model, mean=mean)
        among = indexed(lake, query.model, where=where) if index == "faiss" else None
        found = run(lake, query, k=k, where=where, per_clip=per_clip, own=own, among=among)
        if not (as_json or as_csv or as_sql):
            print(f"like {query.about}, to {query.model}:")
        _answer(lake, found, as_json, as_csv, as_sql)


def _answer(lake: Any, found: Any, as_json: bool, as_csv: bool, as_sql: bool) -> None:
    """Print frames, with where they come from, or the query that yields them."""
    from datalake.vectors import values_sql

    if as_sql:
        print(values_sql(found))
        return
    shown = lake.sql(
        f"SELECT f.*, c.car_id, c.light, c.weather, c.triggers FROM "
        f"({values_sql(found)}) f JOIN clips c USING (clip_id) ORDER BY f.{found.column_names[2]} "
        "DESC, f.clip_id, f.frame_id"
    )
    print_table(shown, shown.num_rows, as_json, as_csv)
    hint_if_empty(lake)


@app.command()
def sheet(
    query: Annotated[
        str,
        typer.Argument(
            help="SQL yielding clip_id, and frame_id where frames are meant; a named question; or "
            "the name of a dataset."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Write *.png or *.html.")],
    limit: Annotated[int, typer.Option(help="Tiles.", min=1)] = 24,
    camera: Annotated[
        str | None,
        typer.Option(help="Whose pictures; default: each clip's first; none: seen from above."),
    ] = None,
    boxes: Annotated[
        bool, typer.Option("--boxes/--no-boxes", help="Draw the road users the car believed in.")
    ] = True,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Draw what a question found: a tile a frame, each clip once before any is shown twice.

    Frames without pictures are drawn from above, from their tracks. Pictures come from scrubbed
    clips only.

    Example: roadloop datalake sheet night_uncertain --out night.html
    """
    import json

    from datalake.sheet import sheet as run
    from vehicle.contracts import wire

    with open_lake(at) as lake, bar("drawing tiles", as_json) as progress:
        report = run(
            *(lake, sql_of(query), out),
            title=query,
            limit=limit,
            camera=camera,
            boxes=boxes,
            progress=progress,
        )
    if as_json:
        print(json.dumps(wire.to_plain(report)))
        return
    print(f"{report.out}: {report.tiles} of {report.chosen} frames, {report.pictures} pictures")
    for why, count in report.without.items():
        print(f"  {count} seen from above: {why}")
