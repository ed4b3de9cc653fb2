"""Verbs that ask the lake: sql, tables, queries, mine."""

import json
from typing import Annotated

import typer

from datalake.verbs import At, Csv, Json, Limit, Set, hint_if_empty, numbers, open_lake, print_table

app = typer.Typer()


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the tables of the lake.")],
    at: At = None,
    limit: Limit = 40,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Ask the lake in SQL (DuckDB's dialect). Questions only read.

    Example: roadloop datalake sql "SELECT car_id, count(*) AS clips FROM clips GROUP BY ALL"
    """
    with open_lake(at) as lake:
        print_table(lake.sql(query), limit, as_json, as_csv)
        hint_if_empty(lake)


@app.command()
def tables(
    name: Annotated[str | None, typer.Argument(help="One table, column by column.")] = None,
    as_json: Json = False,
) -> None:
    """List the lake's tables with their rows, or one table's columns with their meaning."""
    import pyarrow as pa

    from datalake.lake import QueryError
    from datalake.tables import SQL_TYPES, TABLES

    if name is not None:
        if name not in TABLES:
            raise QueryError(f"no table is called {name!r}; there are: {', '.join(TABLES)}")
        rows = [
            {"column": c.name, "type": SQL_TYPES[c.kind], "meaning": c.about}
            for c in TABLES[name].columns
        ]
        print_table(pa.Table.from_pylist(rows), len(rows), as_json, False)
        return
    with open_lake(None) as lake:
        counts = [lake.sql(f"SELECT count(*) AS n FROM {t}")["n"][0].as_py() for t in TABLES]
        rows = [
            {"table": t.name, "rows": n, "a row is": t.row}
            for t, n in zip(TABLES.values(), counts, strict=True)
        ]
        print_table(pa.Table.from_pylist(rows), len(rows), as_json, False)
        hint_if_empty(lake)


@app.command()
def queries(
    name: Annotated[str | None, typer.Argument(help="One question, with its SQL.")] = None,
    as_json: Json = False,
) -> None:
    """List the named questions with what they find, or one with why, its numbers and its SQL."""
    import pyarrow as pa

    from datalake.queries import all_queries, described, named

    chosen = [named(name)] if name else list(all_queries().values())
    if as_json:
        print(json.dumps([described(query) for query in chosen]))
    elif name:
        for key, value in described(chosen[0]).items():
            print(f"{key:>8}  {value}" if key != "sql" else f"\n{value}")
    else:
        rows = [{"name": q.name, "yields": q.yields, "finds": q.about} for q in chosen]
        print_table(pa.Table.from_pylist(rows), len(rows), False, False)


@app.command()
def mine(
    name: Annotated[str, typer.Argument(help="A named question: roadloop datalake queries.")],
    values: Set = None,
    at: At = None,
    limit: Limit = 40,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Answer a named question: the frames worth labelling, worst first.

    Example: roadloop datalake mine night_uncertain --set luma=60
    """
    from datalake.queries import named

    query = named(name).sql(**numbers(values))
    with open_lake(at) as lake:
        print_table(lake.sql(query), limit, as_json, as_csv)
        hint_if_empty(lake)
