"""What somebody meant whose SQL names something that is not there."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from datalake.tables import TABLES

_COLUMN: Final = re.compile(r'Referenced column "(\w+)" not found|have a column named "(\w+)"')
_TABLE: Final = re.compile(r"Table with name (\w+) does not exist")


def hint(words: str) -> str:
    """Return which columns or tables of the lake were probably meant; empty: nothing to say.

    DuckDB itself proposes columns of the tables in the query; this adds those of the others, and
    what they mean.

    Args:
        words: DuckDB's, of the error.
    """
    column = _COLUMN.search(words)
    if column:
        return "\n".join(_columns(column[1] or column[2]))
    table = _TABLE.search(words)
    if table:
        near = _near(table[1].lower(), TABLES)
        return "\n".join(f"{name}: a row is {TABLES[name].row}" for name in near)
    return ""


def _columns(name: str) -> list[str]:
    known = {c.name: c for table in TABLES.values() for c in table.columns}
    lines = []
    for found in _near(name.lower(), known):
        places = ", ".join(
            t.name for t in TABLES.values() if any(c.name == found for c in t.columns)
        )
        lines.append(f"{found} is in {places}: {known[found].about}")
    return lines


def _near(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are like `name`, or that begin with it, nearest first."""
    known = list(known)
    if name in known:
        return [name]
    begin = [k for k in known if k.startswith(f"{name}_") or k.endswith(f"_{name}")]
    return list(dict.fromkeys([*begin, *get_close_matches(name, known, n=3, cutoff=0.6)]))[:3]
