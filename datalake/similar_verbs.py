"""Verbs that look at frames, not at their numbers: similar ..."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from datalake.verbs import At, Csv, Json, Limit, bar, hint_if_empty, open_lake, print_table, sql_of

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

    from datalake.choice import frames_of, named
    from datalake.duplicates import frames_table
    from datalake.sheet import sheet as run
    from vehicle.contracts import wire

    with open_lake(at) as lake, bar("drawing tiles", as_json) as progress:
        dataset = named(lake.home, query)
        chosen = frames_table(frames_of(lake.home, dataset)) if dataset else None
        report = run(
            *(lake, sql_of(query, clips=True) if chosen is None else chosen, out),
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


@app.command()
def rare(
    where: Where = None,
    model: Model = None,
    limit: Limit = 40,
    at: At = None,
    as_json: Json = False,
    as_csv: Csv = False,
    as_sql: AsSql = False,
) -> None:
    """Score how rare frames are in the fleet, in bits, rarest first.

    Three surprises added up: how unlike all other drives the frame looks to the network, how
    seldom its light and weather are, and how seldom the rarest road user in it is. 10 bits are one
    frame in a thousand.

    Example: roadloop datalake rare --where "speed_mps > 5" --limit 20
    """
    from datalake.rarity import rarity
    from datalake.similar import the_model
    from datalake.vectors import values_sql

    with open_lake(at) as lake:
        with bar("comparing frames", as_json) as progress:
            found = rarity(lake, the_model(lake, model), where=where, progress=progress)
        if as_sql:
            print(values_sql(found.slice(0, limit).select(["clip_id", "frame_id", "rarity_bits"])))
            return
        if not (as_json or as_csv):
            rows = values_sql(found.slice(0, limit))
            found = lake.sql(
                "SELECT clip_id, frame_id, printf('%.1f', rarity_bits) AS bits, "
                "printf('%.1f', unlike_bits) AS unlike, printf('%.1f %s', condition_bits, "
                f"condition) AS condition, printf('%.1f %s', kind_bits, kind) AS kind FROM ({rows})"
            )
        print_table(found, limit, as_json, as_csv)
        hint_if_empty(lake)


@app.command()
def duplicates(
    query: Annotated[
        str, typer.Argument(help="SQL yielding clip_id and frame_id, or a named question.")
    ] = "SELECT clip_id, frame_id FROM ticks",
    threshold: Annotated[
        float, typer.Option(help="Least cosine of two duplicates; depends on the network.")
    ] = 0.999,
    clips: Annotated[
        bool, typer.Option("--clips", help="Whole clips that earlier ones make superfluous.")
    ] = False,
    at: At = None,
    limit: Limit = 40,
    as_json: Json = False,
    as_sql: AsSql = False,
) -> None:
    """Say how many of the frames that a question chooses show again what others show already.

    Of a tick in two clips one stays; then, in the order of recording, a frame stays unless one
    that stayed looks like it. With --sql the query yields what stays (or, with --clips, the clips).

    Example: roadloop datalake duplicates low_ttc --threshold 0.9995
    """
    import json

    from datalake.choice import choose
    from datalake.duplicates import clip_duplicates, frames_table, thin
    from datalake.vectors import values_sql

    with open_lake(at) as lake:
        chosen = choose(lake, sql_of(query))
        if clips:
            found = clip_duplicates(lake, list(chosen), threshold)
            if as_sql:
                gone = set(found["clip_id"].to_pylist())
                print(values_sql(_clip_table(c for c in chosen if c not in gone)))
            else:
                print_table(found, limit, as_json, False)
            return
        with bar("comparing frames", as_json) as progress:
            thinned = thin(lake, chosen, threshold, progress)
    kept = sum(map(len, thinned.kept.values()))
    wanted = sum(map(len, chosen.values()))
    if as_sql:
        print(values_sql(frames_table(thinned.kept)))
    elif as_json:
        facts = {"frames": wanted, "kept": kept, "same_tick": thinned.same_tick}
        print(json.dumps(facts | {"alike": thinned.alike, "unjudged": thinned.unjudged}))
    else:
        print(
            f"{kept} of {wanted} frames stay at {threshold}: {thinned.same_tick} are ticks that "
            f"two clips hold, {thinned.alike} look like one that stays; {thinned.unjudged} were "
            "seen by no network and stay"
        )


@app.command()
def known(
    query: Annotated[
        str,
        typer.Argument(
            help="Frames that home has enough of: a dataset, SQL yielding clip_id and frame_id, or "
            "a named question."
        ),
    ],
    campaign: Annotated[
        Path,
        typer.Option(
            help="Campaign file, *.toml: its known vectors are replaced; made if absent, with a "
            "novelty trigger."
        ),
    ],
    k: Annotated[int, typer.Option("-k", "--k", help="How many vectors, 1 to 256.")] = 64,
    model: Model = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Tell a campaign what the fleet has enough of, so that cars notice what is new.

    The vectors belong to the network that made them: only cars that drive with that bundle may be
    given the campaign. Says which novelty one frame in a hundred of the known drives reaches.

    Example: roadloop datalake known base_day --campaign novel.toml --k 64
    """
    import json

    from datalake.choice import choose, frames_of, named
    from datalake.known import into_campaign, know
    from datalake.rarity import drives
    from datalake.similar import the_model
    from datalake.vectors import raw_of

    with open_lake(at) as lake:
        dataset = named(lake.home, query)
        chosen = frames_of(lake.home, dataset) if dataset else choose(lake, sql_of(query))
        frames, vectors = raw_of(lake, the_model(lake, model), chosen)
        found = know(vectors, drives(lake, frames), k)
    made = into_campaign(campaign, found)
    facts = {
        "campaign": made.campaign_id,
        "known": len(made.known),
        "model": frames.model,
        "frames": len(frames),
        "median": found.median,
        "threshold": found.threshold,
        "held_out": found.held_out,
    }
    if as_json:
        print(json.dumps(facts))
        return
    print(
        f"{campaign}: {len(made.known)} known vectors of {frames.model} from {len(frames)} "
        "frames; sign it with `roadloop fleet campaign add`"
    )
    measured = "" if found.held_out else " (of the frames themselves: there is one drive only)"
    print(f"  novelty: median {found.median:.3g}, 1 % over {found.threshold:.3g}{measured}")


def _clip_table(clips: Any) -> Any:
    import pyarrow as pa

    return pa.table({"clip_id": pa.array(clips, pa.string())})
