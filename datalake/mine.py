"""Asking the named questions of datalake/queries.py."""

import pyarrow as pa

from datalake.lake import Lake
from datalake.queries import all_queries, named, require_frames


def mine(lake: Lake, name: str, **values: float) -> pa.Table:
    """Return the answer to a named question, worst first."""
    return lake.sql(named(name).sql(**values))


def sql_of(text: str, *, clips: bool = False) -> str:
    """Return the SQL of a named question that chooses frames, or the text itself.

    Args:
        text: a name, or SQL.
        clips: whether whole clips will do.
    Raises:
        NotFramesError: the question of that name counts.
    """
    known = all_queries()
    if text not in known:
        return text
    return require_frames(known[text], *(("clips",) if clips else ())).sql()
