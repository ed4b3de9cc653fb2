"""The lake's verbs, mounted: each module that ends in _verbs has its own."""

import typer

from datalake import (
    caption_verbs,
    dataset_verbs,
    lake_verbs,
    mine_verbs,
    privacy_verbs,
    similar_verbs,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Facts about every clip: ingest the landing zone, ask in SQL, buy labels, pin datasets. "
    "The lake lies in $ROADLOOP_HOME/lake (default .roadloop/lake).",
)
for verbs in (lake_verbs, mine_verbs, similar_verbs, caption_verbs, dataset_verbs, privacy_verbs):
    app.add_typer(verbs.app)
